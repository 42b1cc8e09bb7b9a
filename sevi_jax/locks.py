"""Locks of open files that the system lets go of when the process ends, on every system.

Where a system does not have what the other one has, the module still can be imported.
"""

import errno
import os
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl: Any = None
try:
    import msvcrt
except ImportError:  # all others
    msvcrt: Any = None

_FAR = 1 << 30  # a byte beyond the end: what Windows has locked nobody else can read
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK, 36)  # 36: EDEADLOCK of Windows


def take(file: int) -> bool | None:
    """Locks an open file for this process.

    Args:
        file: its descriptor.

    Returns:
        True: it is locked. False: another process has locked it. None: this file system, or this
        system, has no locks.
    """
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            _lock_far_byte(file)
        else:
            return None
    except BlockingIOError:
        return False
    except OSError as error:
        return False if fcntl is None and error.errno in _HELD else None
    return True


def _lock_far_byte(file: int) -> None:
    place = os.lseek(file, 0, os.SEEK_CUR)
    os.lseek(file, _FAR, os.SEEK_SET)
    try:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    finally:
        os.lseek(file, place, os.SEEK_SET)
