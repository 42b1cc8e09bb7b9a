"""Locks of files on systems with flock, with Windows' locks, and with none."""

import fcntl
import os
import types

import pytest

from sevi_jax import locks


@pytest.fixture
def descriptors(tmp_path):
    path = tmp_path / "file"
    opened = [os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2)]
    yield opened
    for file in opened:
        os.close(file)


def test_second_descriptor_is_refused(descriptors):
    assert locks.take(descriptors[0]) is True
    assert locks.take(descriptors[1]) is False


def test_locks_of_windows_are_taken_far_from_what_is_read(descriptors, monkeypatch):
    calls = []

    def locking(file, mode, count):
        calls.append((os.lseek(file, 0, os.SEEK_CUR), mode, count))
        try:  # of open files, as Windows' are of handles
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None

    monkeypatch.setattr(locks, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setattr(locks, "fcntl", None)
    os.write(descriptors[0], b"abc")
    assert locks.take(descriptors[0]) is True
    assert locks.take(descriptors[1]) is False
    assert calls == [(1 << 30, 2, 1)] * 2
    assert os.lseek(descriptors[0], 0, os.SEEK_CUR) == 3
    assert os.fstat(descriptors[0]).st_size == 3


def test_system_without_locks_is_told(descriptors, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    assert locks.msvcrt is None
    assert locks.take(descriptors[0]) is None
