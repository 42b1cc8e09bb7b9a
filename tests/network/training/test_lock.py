"""One training per folder, whoever holds the lock and however it ended."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import numbers_run
import pytest

from sevi_jax.errors import InputError
from sevi_jax.network.training import lock

HOST = socket.gethostname()
HOLD = """
import pathlib, sys
from sevi_jax.network.training.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    line = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def kill(process):
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -9


def no_flock(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.locks.fcntl, "flock", refuse)


def can_lock(folder):
    with lock.locked(folder):
        assert (folder / lock.FILE_NAME).exists()
    assert list(folder.iterdir()) == []
    return True


def test_second_training_is_refused_with_process_and_host_of_the_first(tmp_path, holder):
    with pytest.raises(InputError) as error:
        numbers_run.train(tmp_path)
    assert str(error.value) == f"{tmp_path}: process {holder.pid} on {HOST} trains here already"
    assert [path.name for path in tmp_path.iterdir()] == [lock.FILE_NAME]


def test_lock_of_a_process_that_ended_or_was_killed_is_taken_over(tmp_path, holder):
    kill(holder)
    assert (tmp_path / lock.FILE_NAME).exists()
    assert can_lock(tmp_path)


def test_without_flock_a_living_process_is_believed_and_a_dead_one_is_not(
    tmp_path, holder, monkeypatch
):
    no_flock(monkeypatch)
    with pytest.raises(InputError, match=f"process {holder.pid} on {HOST} trains here already"):
        can_lock(tmp_path)
    kill(holder)
    assert can_lock(tmp_path)


def test_number_of_a_dead_process_that_came_again_holds_no_lock(tmp_path, monkeypatch):
    no_flock(monkeypatch)
    owner = lock._process(os.getpid()) | {"started": ["1"]}
    (tmp_path / lock.FILE_NAME).write_text(json.dumps(owner))
    assert can_lock(tmp_path)


@pytest.mark.parametrize(
    ("changes", "is_refused"),
    [
        ({"host": "elsewhere", "boot": "another"}, True),
        ({"host": "elsewhere", "boot": ""}, True),
        ({"host": "elsewhere"}, False),  # a container on this machine, where flock holds
        ({"boot": "another"}, False),  # this machine, before it started anew
    ],
)
def test_process_of_another_machine_is_believed(tmp_path, changes, is_refused):
    """It is not known whether it lives, and on some file systems flock ends at the machine."""
    path = tmp_path / lock.FILE_NAME
    path.write_text(json.dumps(lock._process(os.getpid()) | {"pid": 123} | changes))
    if is_refused:
        with pytest.raises(InputError) as error:
            can_lock(tmp_path)
        message = str(error.value)
        assert "process 123 on elsewhere began to train here" in message
        assert message.endswith(f"delete {path}")
        path.unlink()
    assert can_lock(tmp_path)


ELSEWHERE = {"pid": 123, "host": "elsewhere", "boot": "another", "started": ["1"]}


@pytest.mark.parametrize(
    ("earlier", "now", "is_refused"),
    [
        (("7", None), ("7", "1"), False),  # put back into the queue once
        (("7", "1"), ("7", "2"), False),
        (("7", None), ("7", None), True),  # another task of the same attempt
        (("7", "1"), ("7", "1"), True),
        (("7", None), ("8", None), True),  # another job
        (("7", None), ("8", "1"), True),
        (("7", None), (None, None), True),
        ((None, None), ("7", "1"), True),
    ],
)
def test_job_that_was_requeued_on_another_machine_takes_its_own_lock_over(
    tmp_path, monkeypatch, earlier, now, is_refused
):
    def be(job):
        for name, value in zip(("SLURM_JOB_ID", "SLURM_RESTART_COUNT"), job, strict=True):
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    be(earlier)
    with lock.locked(tmp_path):
        owner = json.loads((tmp_path / lock.FILE_NAME).read_text())
    assert owner["pid"] == os.getpid()
    (tmp_path / lock.FILE_NAME).write_text(json.dumps(owner | ELSEWHERE))
    be(now)
    if is_refused:
        name = f" \\(SLURM job {earlier[0]}\\)" if earlier[0] else ""
        with pytest.raises(InputError, match=f"process 123 on elsewhere{name} began"):
            can_lock(tmp_path)
    else:
        assert can_lock(tmp_path)


def test_lock_of_another_job_on_this_machine_holds_without_flock(tmp_path, holder, monkeypatch):
    no_flock(monkeypatch)
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    with pytest.raises(InputError, match=f"process {holder.pid} on {HOST} trains here already"):
        can_lock(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', '{"pid": "x"}', '{"job": 3}', "\0" * 99])
def test_file_that_names_no_process_is_taken_over(tmp_path, text):
    (tmp_path / lock.FILE_NAME).write_text(text)
    assert can_lock(tmp_path)


def test_new_folder_that_stays_empty_is_deleted(tmp_path):
    with pytest.raises(KeyError), lock.locked(tmp_path / "new"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with lock.locked(tmp_path / "new"):
        (tmp_path / "new/file").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_lock_is_never_held_twice(tmp_path):
    """Also while others delete the file: a race, which a wrong program loses often, not always."""
    inside, seen = [], []

    def work():
        for attempt in range(20_000):
            if attempt >= 200 and len(seen) > 100:  # of how many get in, the machine decides
                break
            try:
                with lock.locked(tmp_path):
                    inside.append(1)
                    seen.append(len(inside))
                    inside.pop()
            except InputError:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) > 100
    assert max(seen) == 1
    assert list(tmp_path.iterdir()) == []
