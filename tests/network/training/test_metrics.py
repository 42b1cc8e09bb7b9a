"""What is on disk of a run's numbers: damage, a full disk, and what TensorBoard sees."""

import struct

import numbers_run
import pytest
from tensorboardX.proto import event_pb2

from sevi_jax.network.training.metrics import BOARD, MetricsWriter, read_metrics


def write(workdir, start, steps):
    with MetricsWriter(workdir, start) as writer:
        for step in steps:
            writer.write("train", step, {"loss": step / 8})


def steps(workdir):
    return [row["step"] for row in read_metrics(workdir)]


def events(path):
    """The events of a TensorBoard file: length, its checksum, bytes, their checksum."""
    content, place, found = path.read_bytes(), 0, []
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        found.append(event_pb2.Event.FromString(content[place + 12 : place + 12 + length]))
        place += 16 + length
    return found


@pytest.mark.parametrize("harm", [b"\xff\xfe", b"{", b"[]\n", b'{"kind": "train"}', b""])
def test_damaged_line_is_left_out_and_said(tmp_path, capsys, harm):
    write(tmp_path, 0, range(1, 6))
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    lines[2] = harm.strip()
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert steps(tmp_path) == [1, 2, 4, 5]
    assert capsys.readouterr().err == f"{path}: line 3 is damaged and left out\n"


def test_line_cut_off_by_a_kill_is_left_out_in_silence(tmp_path, capsys):
    write(tmp_path, 0, range(1, 4))
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    assert steps(tmp_path) == [1, 2]
    assert capsys.readouterr().err == ""
    write(tmp_path, 1, [2, 3])
    assert steps(tmp_path) == [1, 2, 3]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file not closed
def test_full_disk_is_an_error_at_once(tmp_path):
    """Not a thread that dies and a queue that blocks when its ten places are taken."""
    with numbers_run.full_disk(2000), pytest.raises(OSError, match="File too large"):
        write(tmp_path, 0, range(1, 200))
    written = steps(tmp_path)
    assert written == list(range(1, len(written) + 1))
    assert len(written) > 10


def test_tensorboard_has_every_number_and_hides_steps_that_come_again(tmp_path):
    write(tmp_path, 0, range(1, 4))
    (first,) = (tmp_path / BOARD).iterdir()
    version, start, *rest = events(first)
    assert version.file_version == "brain.Event:2"
    assert start.session_log.status == event_pb2.SessionLog.START
    assert start.step == 1
    values = [(event.step, *event.summary.value) for event in rest]
    assert [(step, x.tag, x.simple_value) for step, x in values] == [
        (step, "train/loss", step / 8) for step in range(1, 4)
    ]
    first.rename(first.with_name("first"))
    write(tmp_path, 2, [3])
    (second,) = (tmp_path / BOARD).glob("events*")
    assert [event.step for event in events(second)[1:]] == [3, 3]
