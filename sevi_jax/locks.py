"""One process at a time in a folder; knows nothing of what is in it.

The lock is flock's on a file that names its holder. The system lets go of it when the process ends,
however it ends, and on a network file system it holds as far as flock does there. Where there is no
flock, the holder is the process that the file names, as long as it lives; a process of another
machine is taken to live.
"""

import contextlib
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sevi_jax.errors import InputError

if TYPE_CHECKING:
    from filelock import BaseFileLock

# filelock is imported where something is locked: scripts/gpu_report.sh trains without locks, on
# machines that may lack it.

FILE_NAME = "process.lock"


@contextlib.contextmanager
def locked(folder: pathlib.Path, subject: object, does: str) -> Iterator[None]:
    """Holds the folder's lock; makes the folder, and deletes it if it is new and stays empty.

    Args:
        folder: of the lock.
        subject: what the message is about, as the user named it.
        does: what the holder does to it, for the message.

    Raises:
        InputError: another process holds the lock; the message names process and host.
        OSError: the folder cannot be made or written to.
    """
    from filelock import Timeout

    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    try:
        try:
            lock = _acquire(path)
        except Timeout as error:
            file = error.lock_file
            doubt = "" if file == str(path) else f"; if it runs no more, delete {file}"
            raise InputError(f"{subject}: {_holder(file)} {does}{doubt}") from None
        try:
            yield
        finally:
            with contextlib.suppress(PermissionError):  # Windows keeps files that are open
                path.unlink(missing_ok=True)  # while it is held: no other process's can stand there
            lock.release()
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _acquire(path: pathlib.Path) -> "BaseFileLock":
    from filelock import FileLock, SoftFileLock, Timeout

    lock = FileLock(path, timeout=0, fallback_to_soft=False, on_acquired=_name_this_process)
    try:
        lock.acquire()
    except Timeout:
        raise
    except OSError:  # no flock here, or no file can be written, which the next lines say again
        path.unlink(missing_ok=True)
        lock = SoftFileLock(f"{path}.soft", timeout=0)
        lock.acquire()
    return lock


def _name_this_process(file: int) -> None:
    """Writes what a `SoftFileLock` begins with."""
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()}\n{socket.gethostname()}\n".encode())


def _holder(path: str) -> str:
    try:
        pid, host = pathlib.Path(path).read_text().splitlines()[:2]
    except (OSError, ValueError):
        return "another process"
    return f"process {pid} on {host}"
