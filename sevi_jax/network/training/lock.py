"""One training at a time in a folder. Knows nothing of what is in the folder.

The lock is one on a file (`locks.take`), which the system lets go of when the process ends, however
it ends; the file names the process. That is not enough in two places: some network file systems
know no locks, and on some they end at the machine. So a file that names a process of another
machine is believed, and without locks one that names a living process of this machine is.

A cluster's job that is put back into the queue may begin again on another machine, and its first
attempt has ended by then: a lock that the same job took in an earlier attempt is taken over.
"""

import contextlib
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

from sevi_jax import locks
from sevi_jax.errors import InputError

FILE_NAME = "train.lock"


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds the folder's lock; makes the folder, and deletes it if it is new and stays empty.

    Raises:
        InputError: if another process holds the lock, naming the process and its host.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    try:
        file = _acquire(path)
        try:
            yield
        finally:
            with contextlib.suppress(PermissionError):  # Windows keeps files that are open
                path.unlink(missing_ok=True)  # while it is held: no other process's can stand there
            os.close(file)
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _acquire(path: pathlib.Path) -> int:
    """Returns the locked file, which names this process, or raises InputError."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _refuse_if_held(file, path)
            # the holder before may have deleted its file after this one opened it
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), path.stat()):
                    os.ftruncate(file, 0)
                    os.lseek(file, 0, os.SEEK_SET)
                    os.write(file, json.dumps(_process(os.getpid()) | {"job": _job()}).encode())
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _refuse_if_held(file: int, path: pathlib.Path) -> None:
    """Locks the open file; raises InputError where another process has it or may have it."""
    is_held = {True: False, False: True, None: None}[locks.take(file)]
    try:
        os.lseek(file, 0, os.SEEK_SET)
        owner = json.loads(os.read(file, 4096) or "{}")
        pid, host, job = owner.get("pid"), owner.get("host"), owner.pop("job", None)
    except (ValueError, AttributeError):
        owner, pid, host, job = {}, None, None, None
    here = _process(pid) if isinstance(pid, int) else {}
    if is_held or (is_held is None and pid is not None and owner == here):
        who = "another process" if pid is None else f"process {pid} on {host}"
        raise InputError(f"{path.parent}: {who} trains here already")
    if _is_earlier_attempt(job):
        return
    is_near = host == here.get("host") or (here.get("boot") and owner.get("boot") == here["boot"])
    if pid is not None and not is_near:
        of_job = f" (SLURM job {job['id']})" if isinstance(job, dict) and "id" in job else ""
        raise InputError(
            f"{path.parent}: process {pid} on {host}{of_job} began to train here and has not said "
            f"that it ended; if it runs no more, delete {path}"
        )


def _job() -> dict[str, Any] | None:
    """The job of SLURM's that this process belongs to, and which of its attempts; else None."""
    identity = os.environ.get("SLURM_JOB_ID")
    if not identity:
        return None
    return {
        "id": identity,
        "cluster": os.environ.get("SLURM_CLUSTER_NAME", ""),
        "attempt": os.environ.get("SLURM_RESTART_COUNT", "0"),  # unset in the first one
    }


def _is_earlier_attempt(job: Any) -> bool:
    """Whether a lock was taken by this job, before it was put back into the queue."""
    here = _job()
    if here is None or not isinstance(job, dict):
        return False
    return job | {"attempt": ""} == here | {"attempt": ""} and job.get("attempt") != here["attempt"]


def _process(pid: int) -> dict[str, Any]:
    """What tells a process from all others: its number comes again, and so may a host's name."""
    return {
        "pid": pid,
        "host": socket.gethostname(),
        "boot": _text("/proc/sys/kernel/random/boot_id"),
        # the 22nd field, in ticks since boot; the 2nd, a name in brackets, may hold spaces
        "started": _text(f"/proc/{pid}/stat").rpartition(")")[2].split()[19:20],
    }


def _text(path: str) -> str:
    """The text of a file of Linux; empty where there is none."""
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return ""
