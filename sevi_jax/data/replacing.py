"""New files that appear whole or not at all; knows nothing of their contents."""

import contextlib
import errno
import glob
import os
import pathlib
import re
import socket
from collections.abc import Iterator

from sevi_jax.data.outputs import check_output
from sevi_jax.errors import InputError

_SUFFIX = ".partial"


@contextlib.contextmanager
def replacing(path: str | pathlib.Path, is_checked: bool = True) -> Iterator[pathlib.Path]:
    """Gives a temporary name beside `path`; renamed on success, deleted on any exception.

    A missing parent folder is created. What stood under `path` stays until the rename. What
    processes that were killed left of the same file is deleted. A symbolic link stays one: the file
    that it points to is replaced.

    Args:
        path: of the file.
        is_checked: False for a file that is the program's own wherever it lies; others must pass
            `outputs.check_output`, and say that this program made them (`outputs.MADE_BY`), or the
            same command will not replace them.

    Raises:
        InputError: the folder cannot be made or written to, or `path` must not be written.
        OSError: the disk is full or fails, also where HDF5 says so in another kind of error.
    """
    if is_checked:
        check_output(path)
    path, target = pathlib.Path(path), pathlib.Path(os.path.realpath(path))
    # a process is known by its number on its own machine only
    beginning = f".{target.name}.{socket.gethostname()}."
    temporary = target.with_name(f"{beginning}{os.getpid()}{_SUFFIX}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        for other in target.parent.glob(f"{glob.escape(beginning)}*{_SUFFIX}"):
            if not _lives(other.name.removeprefix(beginning).removesuffix(_SUFFIX)):
                other.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: found {error.strerror} for {error.filename}, expected a writable folder"
        ) from None
    try:
        yield temporary
        temporary.replace(target)
    except (OSError, RuntimeError) as error:
        # HDF5 writes the number into a message of several lines
        code = getattr(error, "errno", None)
        if code is None and (found := re.search(r"errno = (\d+)", str(error))):
            code = int(found[1])
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise OSError(code, os.strerror(code), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _lives(pid: str) -> bool:
    """Whether a process of this machine has the number; True where that is not known."""
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):
        return True
    return True
