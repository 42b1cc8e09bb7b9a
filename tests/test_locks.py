"""One process per folder, whoever holds the lock and however it ended."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from sevi_jax.errors import InputError
from sevi_jax.locks import FILE_NAME, locked

HOST = socket.gethostname()
HOLD = """
import pathlib, sys
from sevi_jax.locks import locked
{prepare}
with locked(pathlib.Path(sys.argv[1]), "", ""):
    print("held", flush=True)
    sys.stdin.read()
"""
NO_FLOCK = """
import errno, fcntl, os
def refuse(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = refuse
"""


def start_holder(folder, prepare=""):
    line = [sys.executable, "-c", HOLD.format(prepare=prepare), str(folder)]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = start_holder(tmp_path)
    yield process
    process.kill()
    process.communicate()


def kill(process):
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -9
    process.communicate()


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def no_flock(request, monkeypatch):
    def refuse(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


def can_lock(folder):
    with locked(folder, folder, "trains here already"):
        assert len(list(folder.iterdir())) == 1
    assert list(folder.iterdir()) == []
    return True


def test_lock_of_a_process_that_was_killed_is_taken_over(tmp_path, holder):
    message = f"{tmp_path}: process {holder.pid} on {HOST} trains here already"
    with pytest.raises(InputError) as error:
        can_lock(tmp_path)
    assert str(error.value) == message
    with pytest.raises(InputError) as error:  # nobody's attempt hides who it is
        can_lock(tmp_path)
    assert str(error.value) == message
    kill(holder)
    assert (tmp_path / FILE_NAME).exists()
    assert can_lock(tmp_path)


def test_without_flock_a_living_process_is_believed_and_a_dead_one_is_not(tmp_path, no_flock):
    process = start_holder(tmp_path, NO_FLOCK)
    with pytest.raises(InputError, match=f"process {process.pid} on {HOST} trains here already"):
        can_lock(tmp_path)
    kill(process)
    assert can_lock(tmp_path)


def test_without_flock_the_number_of_a_dead_process_that_came_again_holds_no_lock(
    tmp_path, no_flock
):
    path = tmp_path / f"{FILE_NAME}.soft"
    path.write_text(f"{os.getpid()}\n{HOST}\n1\n")  # began one tick after the machine
    assert can_lock(tmp_path)


def test_without_flock_a_process_of_another_machine_is_believed(tmp_path, no_flock):
    path = tmp_path / f"{FILE_NAME}.soft"
    path.write_text("123\nelsewhere\n")
    with pytest.raises(InputError) as error:
        can_lock(tmp_path)
    message = str(error.value)
    assert "process 123 on elsewhere trains here already" in message
    assert message.endswith(f"delete {path}")
    path.unlink()
    assert can_lock(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "123\nelsewhere\n", "x\ny\nz\n", "\0" * 99])
def test_file_that_nobody_holds_is_taken_over_whatever_it_says(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(text)
    assert can_lock(tmp_path)


def test_new_folder_that_stays_empty_is_deleted(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "new", "", ""):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "new", "", ""):
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
                with locked(tmp_path, "", ""):
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
