"""New files that appear whole or not at all; knows nothing of their contents."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from sevi_jax.errors import InputError


@contextlib.contextmanager
def replacing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary name beside `path`; renamed on success, deleted on any exception.

    A missing parent folder is created. What stood under `path` stays until the rename.

    Raises:
        InputError: the folder cannot be made or written to, or `path` is a folder.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    if path.is_dir():
        raise InputError(f"{path}: found a folder, expected the name of a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise InputError(
            f"{path}: found {error.strerror} for {error.filename}, expected a writable folder"
        ) from None
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
