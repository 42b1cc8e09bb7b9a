"""HDF5 files and their compound tables, found and read robustly; knows not what they mean.

Whatever is wrong with a file becomes one ``InputError`` line: file, table and field, what was
found, what was expected. Nothing outside the file is read, and no file makes this program use much
more memory or time than its own size explains.
"""

import contextlib
import importlib
import itertools
import math
import pathlib
import re
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
from h5py.h5l import TYPE_HARD, TYPE_SOFT
from h5py.h5o import TYPE_GROUP, get_info

from sevi_jax.data.fields import KNOWN, Field
from sevi_jax.errors import InputError

# Enough rows to hide the cost of a call, few enough for a block's arrays to stay in the cache.
BLOCK_BYTES = 2 << 20

# What a table may claim; real ones stay far below.
ROW_BYTES = 16 << 20  # a row is read whole
CHUNK_BYTES = 32 << 20  # so is a compressed chunk
SMALL_BYTES = 64 << 20  # and a table that `Table.read` reads
# A table is at most this large, or this many times as large as its file.
FREE_BYTES = 256 << 20
EXPANSION = 64

# Filters whose result is checked here: HDF5 takes a chunk of any size for a whole one.
INFLATED = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
MESSAGE = 300  # characters of another library's words that are kept


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
    except Exception as error:  # OSError as a rule
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


def table_names(file: h5py.File) -> list[str]:
    """The names of what lies at the top of `file`."""
    with readable(file.filename):
        # h5py leaves a name that is not UTF-8 as bytes.
        return [name if isinstance(name, str) else repr(name) for name in file]


def has_dataset(file: h5py.File, name: str) -> bool:
    """Whether something of that name, or path from the top, lies in `file`."""
    parts = name.split("/")
    with readable(f"{file.filename}, table {one_line(name)}"):
        return all(
            file.id.links.exists("/".join(parts[: number + 1]).encode())
            and (number + 1 == len(parts) or _is_group(file, "/".join(parts[: number + 1])))
            for number in range(len(parts))
        )


def find_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset `name` of `file`, which has all its values in this file.

    Raises:
        InputError: there is none (the line says which there are), it is a group, it lies in another
            file (by an external link, external storage or as a virtual dataset), or parts of it
            were never written.
    """
    place = f"{file.filename}, table {one_line(name)}"
    if not has_dataset(file, name):
        raise InputError(
            f"{place}: found no such table (the file has: {listed(table_names(file))}), expected "
            f"table {one_line(name)}"
        )
    with readable(place):
        found = file[_inside(file, name, place)]
        if not isinstance(found, h5py.Dataset):
            kind = "a group" if isinstance(found, h5py.Group) else "a named type"
            raise InputError(f"{place}: found {kind}, expected a table")
        if found.is_virtual or found.external:
            kind = "a virtual table" if found.is_virtual else "values in another file"
            raise InputError(f"{place}: found {kind}, expected the values in this file")
        found.dtype  # noqa: B018  # raises where NumPy has no such type
        for number in _filters(found):
            if not h5py.h5z.filter_avail(number):
                with contextlib.suppress(ImportError):
                    importlib.import_module("hdf5plugin")
            if not h5py.h5z.filter_avail(number):
                raise InputError(
                    f"{place}: found compression by filter {number}, which is not installed here, "
                    "expected gzip, lzf or none (`pip install hdf5plugin` adds others)"
                )
        _check_written(place, found)
    return found


def read_dataset(data: h5py.Dataset) -> np.ndarray:
    """A whole dataset as an array; InputError where its bytes cannot be read."""
    return _read_part(data, tuple(slice(0, n) for n in data.shape or ()))


def read_picture(data: h5py.Dataset, axis: int, number: int) -> np.ndarray:
    """What lies at `number` along an axis of a dataset; the axis is kept, of length 1."""
    part = [slice(0, n) for n in data.shape]
    part[axis] = slice(number, number + 1)
    return _read_part(data, tuple(part))


def read_blocks(data: h5py.Dataset, rows: int) -> Iterator[np.ndarray]:
    """A dataset block after block of about so many rows, whole chunks, none read twice."""
    chunk = data.chunks[0] if data.chunks else 1
    step = max(chunk, rows // chunk * chunk)
    rest = tuple(slice(0, n) for n in data.shape[1:])
    for first in range(0, data.shape[0], step):
        yield _read_part(data, (slice(first, min(first + step, data.shape[0])), *rest))


def _read_part(data: h5py.Dataset, part: tuple[slice, ...]) -> np.ndarray:
    """The values in a part of a dataset, whose chunks are checked before."""
    with readable(_place(data)):
        if not _same_type(data.dtype, data.id.get_type()):
            raise InputError(
                f"{_place(data)}: found an unusual form of {data.dtype}, expected a usual one"
            )
        if data.chunks:
            size = math.prod(data.chunks) * data.dtype.itemsize
            if size > FREE_BYTES and _filters(data):
                raise InputError(
                    f"{_place(data)}: found compressed chunks of {size} bytes, expected at most "
                    f"{FREE_BYTES}"
                )
            steps = (
                range(p.start - p.start % step, p.stop, step)
                for p, step in zip(part, data.chunks, strict=True)
            )
            for offset in itertools.product(*steps):
                _inflated(data, offset)
        return np.asarray(data[part] if part else data[()])


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
        dtype = self._data.dtype
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
        self._check_size(file, dtype)
        # The file's own rows as they are, so that HDF5 converts nothing; where NumPy has no such
        # row (text of any length, odd numbers), only the fields that are needed.
        self._dtype = dtype
        whole = _same_type(dtype, self._data.id.get_type())
        # A chunk without its gzip is the rows themselves.
        self._plain = whole and _filters(self._data) == [h5py.h5z.FILTER_DEFLATE]
        if not whole:
            columns = sorted({*self._columns.values()})
            self._dtype = np.dtype([(name, dtype[name]) for name in columns])

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Yields (first row, columns by name) block after block, in file order.

        The next block is read in a thread while the caller works on this one; memory is two blocks
        of `block_bytes` or of one chunk, whichever is larger. The columns are views that are valid
        until the next step.
        """
        rows = self.block_rows(block_bytes)
        buffers = [self.buffer(min(rows, self.rows)) for _ in range(2)]
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(self.read_into, buffers[0], 0)
            for number, first in enumerate(range(0, self.rows, rows)):
                block = coming.result()
                if first + rows < self.rows:
                    other = buffers[(number + 1) % 2]
                    coming = reader.submit(self.read_into, other, first + rows)
                yield first, block

    def buffer(self, rows: int) -> np.ndarray:
        """Memory for `read_into`: whole rows of the file's own type.

        Picking fields inside HDF5 is 3 x slower.
        """
        return np.empty(rows, self._dtype)

    def read_into(self, buffer: np.ndarray, first: int) -> dict[str, np.ndarray]:
        """Columns by name, views of `buffer`, of as many rows from `first` on as it holds."""
        last = min(first + len(buffer), self.rows)
        block = buffer[: last - first]
        deflated = h5py.h5z.FILTER_DEFLATE in _filters(self._data)
        chunk = self._data.chunks[0] if self._data.chunks else 1
        with readable(self._place):
            for row in range(first, last, chunk) if deflated else ():
                inflated = _inflated(self._data, (row,))
                if self._plain:
                    part = block[row - first :][:chunk]
                    part[:] = np.frombuffer(inflated, self._dtype, len(part))
            if not self._plain:  # else HDF5 would inflate every chunk once more
                self._data.read_direct(buffer, np.s_[first:last], np.s_[: last - first])
        return {name: block[column] for name, column in self._columns.items()}

    def read(self) -> dict[str, np.ndarray]:
        """All rows, columns by name; for small tables."""
        size = self.rows * self._dtype.itemsize
        if size > SMALL_BYTES:
            raise InputError(
                f"{self._place}: found {self.rows} rows of {self._dtype.itemsize} bytes, expected "
                f"at most {SMALL_BYTES} bytes"
            )
        blocks = [
            {name: values.copy() for name, values in block.items()}
            for _, block in self.blocks(SMALL_BYTES)
        ]
        return {name: np.concatenate([block[name] for block in blocks]) for name in self._columns}

    def dtype_of(self, field: Field) -> np.dtype:
        """Type and shape of one value of a field."""
        return self._dtype[self._columns[field.name]]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory."""
        return self._dtype.itemsize

    def error(self, field: str, found: str, expected: str) -> InputError:
        """The error that says what is wrong with a field's values."""
        return InputError(f"{self._place}, field {field}: found {found}, expected {expected}")

    def _check_size(self, file: h5py.File, dtype: np.dtype) -> None:
        """Raises InputError for a table that would take much memory or time for a small file."""
        if dtype.itemsize > ROW_BYTES:
            raise InputError(
                f"{self._place}: found rows of {dtype.itemsize} bytes, expected at most {ROW_BYTES}"
            )
        chunk = self._data.chunks[0] * dtype.itemsize if self._data.chunks else 0
        if chunk > CHUNK_BYTES and _filters(self._data):
            raise InputError(
                f"{self._place}: found compressed chunks of {chunk} bytes, expected at most "
                f"{CHUNK_BYTES}"
            )
        stored = file.id.get_filesize()
        if self.rows * dtype.itemsize > max(FREE_BYTES, EXPANSION * stored):
            raise InputError(
                f"{self._place}: found {self.rows} rows of {dtype.itemsize} bytes in a file of "
                f"{stored} bytes, expected at most {EXPANSION} times as much as the file"
            )

    def block_rows(self, block_bytes: int) -> int:
        """Rows of a block of about so many bytes."""
        rows = max(1, block_bytes // self._dtype.itemsize)
        # A multiple of the chunk, so that no chunk is decompressed twice.
        chunk = self._data.chunks[0] if self._data.chunks else 1
        if chunk > rows and not _filters(self._data):
            return rows
        return max(1, rows // chunk) * chunk

    def _column(self, dtype: np.dtype, field: Field) -> str:
        """The table's name of `field`: by name, else by position unless a known name is there."""
        names = dtype.names or ()
        column = _named(names, field)
        if column is None and field.position is not None and field.position < len(names):
            column = names[field.position]
            if any(_named((column,), other) for other in KNOWN):
                column = None
        if not column:
            raise self.error(field.name, f"only {listed(names)}", f"a field {field.name}")
        base, shape = dtype[column].base, dtype[column].shape
        kinds, wanted = ("iu", "integer") if field.integer else ("iuf", "real number")
        if base.kind not in kinds or len(shape) != field.rank:
            expected = f"{('one', 'a vector of', 'a picture of')[field.rank]} {wanted}"
            expected += "s a row" if field.rank else " a row"
            raise self.error(field.name, f"{base}{list(shape) if shape else ''}", expected)
        kind = self._data.id.get_type()
        if not _same_type(dtype[column], kind.get_member_type(names.index(column))):
            raise self.error(field.name, f"an unusual form of {base}", f"a usual {wanted}")
        return column


def _named(names: tuple[str, ...], field: Field) -> str | None:
    """The first of `names` that is the field's own or an alias; an exact match goes first."""
    if field.name in names:
        return field.name
    known = {_bare(alias) for alias in (field.name, *field.aliases)}
    return next((name for name in names if _bare(name) in known), None)


def _bare(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _place(data: h5py.Dataset) -> str:
    return f"{data.file.filename}, table {one_line(data.name or '?').lstrip('/')}"


@contextlib.contextmanager
def readable(place: str) -> Iterator[None]:
    """Turns whatever h5py raises into an InputError; h5py raises nearly anything."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{place}: found unreadable data ({_reason(error)}), expected a complete table"
        ) from None


def listed(names: Sequence[str]) -> str:
    """The names, or the first ten of them, for a message."""
    return ", ".join(map(one_line, names[:10])) + (", ..." if len(names) > 10 else "") or "none"


def one_line(text: str) -> str:
    """Foreign text for a message: one line, nothing that steers a terminal, and not too long."""
    text = " ".join(text.split())
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= MESSAGE else text[: MESSAGE - 3] + "..."


def _inside(file: h5py.File, name: str, place: str) -> str:
    """The path of `name` without links: a soft link is followed, once, and not out of the file."""
    links = file.id.links
    head = name.rpartition("/")[0]
    if head and not _is_group(file, head):
        raise InputError(f"{place}: found a link on the way, expected the table in this file")
    kind = links.get_info(name.encode()).type
    if kind == TYPE_HARD:
        return name
    if kind != TYPE_SOFT:
        raise InputError(f"{place}: found a link to another file, expected the table in this file")
    target = links.get_val(name.encode()).decode()
    parts = target.strip("/").split("/")
    for number in range(1, len(parts) + 1):
        step = "/".join(parts[:number]).encode()
        if not links.exists(step) or links.get_info(step).type != TYPE_HARD:
            raise InputError(
                f"{place}: found a link to {one_line(target)}, which is no table of this file, "
                "expected the table itself"
            )
    return "/".join(parts)


def _is_group(file: h5py.File, name: str) -> bool:
    """Whether a path from the top leads through groups of this file, without links."""
    parts = name.split("/")
    for number in range(len(parts)):
        step = "/".join(parts[: number + 1]).encode()
        if not file.id.links.exists(step) or file.id.links.get_info(step).type != TYPE_HARD:
            return False
        if get_info(file.id, step).type != TYPE_GROUP:
            return False
    return True


def _same_type(dtype: np.dtype, kind: h5py.h5t.TypeID) -> bool:
    """Whether values of the file's type are NumPy's, bit for bit.

    h5py finds a NumPy type for numbers of any form, which may be larger than the number and so
    reach over the end of the row; HDF5 would then write there.
    """
    if dtype.hasobject:
        return False
    try:
        return h5py.h5t.py_create(dtype, logical=True) == kind
    except (TypeError, ValueError):  # a field without name, an array without values
        return False


def _filters(data: h5py.Dataset) -> list[int]:
    """Numbers of the dataset's filters, in the order in which they were applied."""
    properties = data.id.get_create_plist()
    return [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]


def _check_written(place: str, data: h5py.Dataset) -> None:
    """Raises InputError where values are missing: HDF5 reads zeros there, or worse."""
    if not data.shape or 0 in data.shape:
        return
    chunks = data.chunks
    if chunks is None:
        size = math.prod(data.shape) * data.id.get_type().get_size()
        stored = data.id.get_storage_size()
        if stored < size:
            raise InputError(f"{place}: found {stored} of {size} bytes, expected all written")
        return
    counts = [-(-n // step) for n, step in zip(data.shape, chunks, strict=True)]
    number, expected = data.id.get_num_chunks(), math.prod(counts)
    if number != expected:
        raise InputError(f"{place}: found {number} of {expected} chunks, expected all written")
    whole = math.prod(chunks) * data.id.get_type().get_size()
    plain = not set(_filters(data)) - {h5py.h5z.FILTER_SHUFFLE}
    seen, stored = bytearray(expected), data.file.id.get_filesize()

    def check(chunk) -> None:
        at = 0
        for offset, step, count in zip(chunk.chunk_offset, chunks, counts, strict=True):
            if offset % step or offset // step >= count:
                raise InputError(f"{place}: found a chunk at {chunk.chunk_offset}, outside it")
            at = at * count + offset // step
        seen[at] = 1
        if chunk.byte_offset + chunk.size > stored:
            raise InputError(
                f"{place}: found a chunk of {chunk.size} bytes at {chunk.byte_offset} in a file of "
                f"{stored} bytes, expected a complete table"
            )
        if plain and chunk.size != whole:
            raise InputError(
                f"{place}: found a chunk of {chunk.size} bytes, expected {whole} bytes each"
            )

    data.id.chunk_iter(check)
    if not all(seen):
        raise InputError(f"{place}: found a chunk twice, expected every chunk once")


def _inflated(data: h5py.Dataset, offset: tuple[int, ...]) -> bytes:
    """The chunk at `offset` without its gzip; empty where gzip is not among the filters.

    Raises InputError unless it inflates to what a chunk holds.

    HDF5 inflates whatever stands there, 3 GB out of 3 MB, and takes it for a chunk; where it is
    less than one, the rest is what happened to lie in memory.
    """
    filters = _filters(data)
    if h5py.h5z.FILTER_DEFLATE not in filters:
        return b""
    place = filters.index(h5py.h5z.FILTER_DEFLATE)
    after = filters[place + 1 :]
    if set(after) - {h5py.h5z.FILTER_FLETCHER32}:
        raise InputError(f"{_place(data)}: found filters {filters}, expected gzip as the last")
    mask, stored = data.id.read_direct_chunk(offset)
    sums = 4 * filters.count(h5py.h5z.FILTER_FLETCHER32)  # bytes of the checksums
    whole = math.prod(data.chunks or ()) * data.id.get_type().get_size() + sums - 4 * len(after)
    # HDF5 leaves a chunk as it is, and says so in the mask, if gzip would not make it smaller.
    inflated = stored[: len(stored) - 4 * len(after)]
    if not mask >> place & 1:
        inflated = zlib.decompressobj().decompress(stored, whole + 1)
    # Another filter before gzip may have made the data smaller, and has its own checks.
    size = len(inflated)
    if size > whole or (size < whole and set(filters) <= INFLATED):
        raise InputError(
            f"{_place(data)}: found unreadable data (a chunk that does not inflate to its {whole} "
            "bytes), expected a complete table"
        )
    return inflated


def _reason(error: Exception) -> str:
    """HDF5's own words, on one line: the part in brackets says why."""
    text = one_line(str(error)) or type(error).__name__
    inner = re.search(r"\((.*)\)", text)
    return inner.group(1) if inner else text
