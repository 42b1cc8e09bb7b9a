"""A file appears whole or not at all, and killed processes leave nothing for good."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from sevi_jax.data.replacing import replacing

HOST = socket.gethostname()
KILLED = """
import os, pathlib, signal, sys
from sevi_jax.data.replacing import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
# Writes a HDF5 file until a limit, as a command would.
FILLED = """
import resource, sys
import numpy as np
from sevi_jax import commands
from sevi_jax.data.writers import DistributionsWriter

def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    numbers = np.random.default_rng(0).random(5000)
    with DistributionsWriter("train10.h5", orders=3) as writer:
        writer.add(0, 0.5, 0.005, np.zeros(3))
        for _ in range(400):
            writer.electrons(0, numbers, numbers, numbers, numbers, numbers > 0.5)

commands.run(main, "sevi_jax.synthesize", "")
"""


def program(text, *args, cwd):
    line = [sys.executable, "-c", text, *map(str, args)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=300)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def partial(pid, host=HOST, name="a.h5"):
    return f".{name}.{host}.{pid}.partial"


def test_killed_process_leaves_the_old_file_and_the_next_one_cleans_up(tmp_path):
    path = tmp_path / "a.h5"
    path.write_text("old")
    assert program(KILLED, path, cwd=tmp_path).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 2
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["a.h5"]
    assert path.read_text() == "new"


def test_what_may_still_be_written_is_left_alone(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    living = os.getppid()
    kept = [
        partial(living),
        partial(ended.pid, host="elsewhere"),
        partial(ended.pid, name="b.h5"),
        partial("x"),
    ]
    for name in (*kept, partial(ended.pid)):
        (tmp_path / name).touch()
    with replacing(tmp_path / "a.h5"):
        pass
    assert names(tmp_path) == sorted([*kept, "a.h5"])


def test_any_exception_leaves_what_was_there(tmp_path):
    path = tmp_path / "a[1].h5"
    path.write_text("old")

    def write():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert names(tmp_path) == ["a[1].h5"]
    assert path.read_text() == "old"


def test_full_disk_under_hdf5_is_one_line_and_no_crash(tmp_path):
    """HDF5 crashes the interpreter at its end after a file that could not be closed."""
    result = program(FILLED, cwd=tmp_path)
    assert result.stderr == "sevi_jax.synthesize: train10.h5: File too large\n"
    assert result.returncode == 2
    assert names(tmp_path) == []
