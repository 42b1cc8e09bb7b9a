"""Which files a command may write: never one that it reads, and no foreign one unless told so.

A file is foreign if it does not say that this program made it. All files that the program writes
say so (`MADE_BY`): HDF5 in an attribute of the file, JSON in the versions that it names, PNG in its
text, HTML and other text at their beginning. The rules hold while a command has entered `guarding`;
a caller from Python is not asked.
"""

import contextlib
import json
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator

import h5py

import sevi_jax
from sevi_jax.errors import InputError

MADE_BY = f"sevi_jax {sevi_jax.__version__}"
ATTRIBUTE = "made_by"  # of HDF5 files
GENERATOR = f'<meta name="generator" content="{MADE_BY}">'  # of HTML pages
PNG_TEXT = {"Software": MADE_BY}

_NAME = MADE_BY.partition(" ")[0]
_BEGINNING = 4096  # bytes in which PNG, HTML and text name their maker, in one of these forms
_FORMS = (f"Software\0{_NAME} ", f'name="generator" content="{_NAME} ', f"made by {_NAME} ")
_JSON_BYTES = 1 << 28
_HDF5_SUFFIXES = (".h5", ".hdf5")


class _Guard:
    """What a command must not write over.

    Args:
        inputs: files, and folders with all that lies in them.
        overwrite: whether foreign files may be replaced.
    """

    def __init__(self, inputs: Iterable[pathlib.Path], overwrite: bool):
        self._inputs = list(inputs)
        self._overwrite = overwrite

    def check(self, path: pathlib.Path) -> None:
        target = pathlib.Path(os.path.realpath(path))
        for given in self._inputs:
            folder = pathlib.Path(os.path.realpath(given))
            inside = given.is_dir() and folder in target.parents
            if inside or (path.exists() and given.exists() and os.path.samefile(path, given)):
                place = f"in {given}" if inside else f"the same file as {given}"
                raise InputError(f"{path}: this is {place}, which the command reads; another name")
        if self._overwrite or not path.exists() or is_result(path):
            return
        raise InputError(
            f"{path}: exists and is no earlier result of this program; another name, or "
            "--overwrite to replace it"
        )


_guards: list[_Guard] = []


@contextlib.contextmanager
def guarding(inputs: Iterable[pathlib.Path], overwrite: bool = False) -> Iterator[None]:
    """Keeps files from being written over by this process.

    Args:
        inputs: files that the command reads, and folders of which it reads every file.
        overwrite: whether a file that is no earlier result may be replaced, too.
    """
    guard = _Guard(inputs, overwrite)
    _guards.append(guard)
    try:
        yield
    finally:
        _guards.remove(guard)


def check_output(path: str | pathlib.Path) -> None:
    """Raises InputError if `path` must not be written; to be called before long work too.

    That is an input of the command, by whatever name, a file that is no earlier result, one that
    is write-protected, a folder, or a device.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise InputError(f"{path}: found a folder, expected the name of a file to write")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: found no ordinary file, expected the name of a file to write")
    above = next((x for x in path.absolute().parents if x.exists()), None)
    if above is not None and not above.is_dir():
        raise InputError(f"{path}: {above} is a file, expected a folder")
    if above is not None and not os.access(above, os.W_OK):
        raise InputError(f"{path}: {above} cannot be written to")
    for guard in _guards:
        guard.check(path)
    if path.exists() and not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(f"{path}: is write-protected; another name, or chmod u+w")


def is_result(path: pathlib.Path) -> bool:
    """Whether a file says that this program made it; False where it cannot be read."""
    try:
        suffix = path.suffix.lower()
        if suffix in _HDF5_SUFFIXES:
            with h5py.File(path, "r") as file:
                return ATTRIBUTE in file.attrs or _is_old_result(file)
        if suffix == ".json":
            return path.stat().st_size <= _JSON_BYTES and _is_result(json.loads(path.read_bytes()))
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
        return any(form.encode() in beginning for form in _FORMS)
    except Exception:  # a file of another kind may make a decoder raise anything
        return False


def _is_result(value: object) -> bool:
    """Whether JSON is an answer or a report."""
    if not isinstance(value, dict):
        return False
    versions = value.get("versions")
    if isinstance(versions, dict) and _NAME in versions:
        return True
    # answers before they named the program
    return "convention" in value and isinstance(value.get("pictures"), list)


def _is_old_result(file: h5py.File) -> bool:
    """Whether HDF5 is an answer, or electrons found on frames, from before files said so."""
    if "Answer" in file:
        return True
    found = file.get("DetectedElectrons")
    names = found.dtype.names if isinstance(found, h5py.Dataset) else None
    return {"amplitude", "residual"} <= set(names or ())
