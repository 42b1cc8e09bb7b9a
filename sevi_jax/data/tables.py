"""HDF5 files and their compound tables, found and read robustly; knows not what they mean.

Whatever is wrong with a file becomes one ``InputError`` line: file, table and field, what was
found, what was expected.
"""

import contextlib
import pathlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np

from sevi_jax.data.fields import KNOWN, Field
from sevi_jax.errors import InputError

# Enough rows to hide the cost of a call, few enough for a block's arrays to stay in the cache.
BLOCK_BYTES = 2 << 20


@contextlib.contextmanager
def open_file(path: str | pathlib.Path) -> Iterator[h5py.File]:
    """Opens an HDF5 file for reading.

    Raises:
        InputError: the file is missing, a folder, empty, truncated, or not HDF5.
    """
    path = pathlib.Path(path)
    check_file(path)
    try:
        # No chunk cache: blocks are whole chunks, each read once (a third faster than through it).
        file = h5py.File(path, "r", rdcc_nbytes=0)
    except OSError as error:
        if "truncated" in str(error):
            found = "a truncated HDF5 file"
        elif "signature not found" in str(error):
            found = "not an HDF5 file"
        else:
            found = _reason(error)
        raise InputError(f"{path}: found {found}, expected a complete HDF5 file") from None
    with file:
        yield file


def check_file(path: pathlib.Path) -> None:
    """Raises InputError unless `path` is a file with something in it."""
    if path.is_dir():
        raise InputError(f"{path}: found a folder, expected a file")
    if not path.is_file():
        raise InputError(f"{path}: found no such file, expected an existing file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: found an empty file (0 bytes), expected data")


def find_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset `name` of `file`.

    Raises:
        InputError: there is none (the line says which there are), or it is a group.
    """
    try:
        found = file.get(name)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{file.filename}, table {name}: found {_reason(error)}") from None
    if found is None:
        raise InputError(
            f"{file.filename}, table {name}: found no such table (the file has: {_listed(file)}), "
            f"expected table {name}"
        )
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{file.filename}, table {name}: found a group, expected a table")
    return found


def read_dataset(data: h5py.Dataset, selection: object = ()) -> np.ndarray:
    """The selected part of a dataset as an array; InputError where its bytes cannot be read."""
    try:
        return np.asarray(data[selection])
    except (OSError, RuntimeError, TypeError) as error:
        raise InputError(_unreadable(data, error)) from None


class Table:
    """Some fields of one compound table, checked when opened and read in blocks of rows.

    Args:
        file: an open file.
        name: the table's name.
        fields: the fields to read.

    Raises:
        InputError: the table is missing, not compound, without rows, or a field is missing or has
            the wrong type.
    """

    def __init__(self, file: h5py.File, name: str, fields: tuple[Field, ...]):
        self._data = find_dataset(file, name)
        self._place = f"{file.filename}, table {name}"
        try:
            dtype = self._data.dtype
        except TypeError as error:
            raise InputError(_unreadable(self._data, error)) from None
        if dtype.names is None:
            raise InputError(f"{self._place}: found plain {dtype}, expected a compound table")
        if self._data.shape is None or len(self._data.shape) != 1:
            raise InputError(
                f"{self._place}: found shape {self._data.shape}, expected a table of one dimension"
            )
        self.rows = self._data.shape[0]
        if self.rows == 0:
            raise InputError(f"{self._place}: found 0 rows, expected at least one")
        self._columns = {field.name: self._column(dtype, field) for field in fields}

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Yields (first row, columns by name) block after block, in file order.

        The next block is read in a thread while the caller works on this one; memory is two blocks
        of `block_bytes` or of one chunk, whichever is larger. The columns are views that are valid
        until the next step.
        """
        rows = self._block_rows(block_bytes)
        # Whole rows into a buffer of the file's own type: picking fields inside HDF5 is 3 x slower.
        buffers = [np.empty(min(rows, self.rows), self._data.dtype) for _ in range(2)]

        def read(first: int, buffer: np.ndarray) -> np.ndarray:
            last = min(first + rows, self.rows)
            self._data.read_direct(buffer, np.s_[first:last], np.s_[: last - first])
            return buffer[: last - first]

        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(read, 0, buffers[0])
            for number, first in enumerate(range(0, self.rows, rows)):
                try:
                    block = coming.result()
                except (OSError, RuntimeError) as error:
                    raise InputError(_unreadable(self._data, error)) from None
                if first + rows < self.rows:
                    coming = reader.submit(read, first + rows, buffers[(number + 1) % 2])
                yield first, {name: block[column] for name, column in self._columns.items()}

    def read(self) -> dict[str, np.ndarray]:
        """All rows, columns by name; for small tables."""
        block = read_dataset(self._data)
        return {name: block[column] for name, column in self._columns.items()}

    def error(self, field: str, found: str, expected: str) -> InputError:
        """The error that says what is wrong with a field's values."""
        return InputError(f"{self._place}, field {field}: found {found}, expected {expected}")

    def _block_rows(self, block_bytes: int) -> int:
        rows = max(1, block_bytes // self._data.dtype.itemsize)
        # A multiple of the chunk, so that no chunk is decompressed twice.
        chunk = self._data.chunks[0] if self._data.chunks else 1
        return max(1, rows // chunk) * chunk

    def _column(self, dtype: np.dtype, field: Field) -> str:
        """The table's name of `field`: by name, else by position unless a known name is there."""
        names = dtype.names or ()
        column = _named(names, field)
        if column is None and field.position is not None and field.position < len(names):
            column = names[field.position]
            if any(_named((column,), other) for other in KNOWN):
                column = None
        if column is None:
            raise self.error(field.name, f"only {', '.join(names)}", f"a field {field.name}")
        base, shape = dtype[column].base, dtype[column].shape
        kinds, wanted = ("iu", "integer") if field.integer else ("iuf", "real number")
        if base.kind not in kinds or len(shape) != field.rank:
            expected = f"one {wanted} a row" if field.rank == 0 else f"a vector of {wanted}s a row"
            raise self.error(field.name, f"{base}{list(shape) if shape else ''}", expected)
        return column


def _named(names: tuple[str, ...], field: Field) -> str | None:
    """The first of `names` that is the field's own or an alias; an exact match goes first."""
    if field.name in names:
        return field.name
    known = {_bare(alias) for alias in (field.name, *field.aliases)}
    return next((name for name in names if _bare(name) in known), None)


def _bare(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _listed(file: h5py.File) -> str:
    return ", ".join(file) or "none"


def _unreadable(data: h5py.Dataset, error: Exception) -> str:
    place = f"{data.file.filename}, table {(data.name or '?').lstrip('/')}"
    return f"{place}: found unreadable data ({_reason(error)}), expected a complete table"


def _reason(error: Exception) -> str:
    """HDF5's own words, on one line: the part in brackets says why."""
    text = " ".join(str(error).split())
    inner = re.search(r"\((.*)\)", text)
    return inner.group(1) if inner else text
