"""What is on disk of a run's numbers: damage, a full disk, and what TensorBoard sees."""

import os
import signal
import struct

import numbers_run
import pytest
from tensorboardX.proto import event_pb2

from sevi_jax.network.training import loop
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


class Clock:
    """Stands for the module time: a step takes a second, statistics 10, an evaluation 100."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def spend(self, seconds, value=None):
        self.now += seconds
        return value


class LossAfterASecond:
    """A metric that is there a second after it was asked for, as the device gives it."""

    def __init__(self, clock):
        self._clock = clock

    def __float__(self):
        return self._clock.spend(1.0, 1.5)


@pytest.mark.parametrize(("log_every", "eval_every"), [(3, 4), (4, 4), (5, 2), (50, 3)])
def test_rates_are_those_of_the_steps_alone(tmp_path, monkeypatch, log_every, eval_every):
    """Where intervals differ, at the end, and on a stop (after step 7) that is no interval's."""
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)

    def run(**more):
        config = numbers_run.config(
            train__steps=11, train__log_every=log_every, train__eval_every=eval_every
        )
        trainer = numbers_run.Trainer(config, lambda _, state, metrics: (state, metrics | more))
        statistics, evaluate = trainer.with_statistics, trainer.evaluate
        trainer.with_statistics = lambda state: clock.spend(10.0, statistics(state))
        trainer.evaluate = lambda state: clock.spend(100.0, evaluate(state))
        return trainer

    trainer = run(loss=LossAfterASecond(clock))
    step = trainer.step

    def stopped(state, root):
        if int(state.step) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(state, root)

    trainer.step = stopped
    assert not numbers_run.train(tmp_path, trainer)
    assert numbers_run.train(tmp_path, run(loss=LossAfterASecond(clock)))
    rows = [row for row in read_metrics(tmp_path) if row["kind"] == "train"]
    assert {7, 11} <= {row["step"] for row in rows}
    assert [row["steps_per_second"] for row in rows] == [1.0] * len(rows)
    assert [row["pictures_per_second"] for row in rows] == [4.0] * len(rows)


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
