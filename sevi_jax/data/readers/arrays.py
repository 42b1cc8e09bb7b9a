"""NumPy's own files, .npy and .npz; never unpickles anything."""

import functools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO

import numpy as np

from sevi_jax.data.readers import columns
from sevi_jax.data.readers.source import (
    Found,
    Source,
    check_picture,
    decoding,
    grey,
    is_colour,
    plain_shape,
)
from sevi_jax.data.tables import listed, one_line
from sevi_jax.errors import InputError

SIGNATURE = b"\x93NUMPY"
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read(source: Source) -> Iterator[Found]:
    """The array of an .npy."""
    found = _found(source, source.place, "", source.open)
    if isinstance(found, InputError):
        raise found
    yield found


def read_archive(source: Source) -> Iterator[Found]:
    """The pictures in an .npz; other arrays beside them (axes, settings) are passed over."""
    with source.open() as file, zipfile.ZipFile(file) as archive:
        members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
        if source.member and source.member not in members:
            raise source.error(f"arrays {listed(list(members))}", f"an array {source.member}")
        found, refusal = 0, source.error("no arrays", "at least one picture")
        for name, member in members.items():
            if source.member not in ("", name):
                continue
            place = source.place if source.member else f"{source.place}:{one_line(name)}"
            if member.compress_type not in _ZIP_METHODS:
                raise InputError(
                    f"{place}: found compression {member.compress_type}, expected deflate"
                )
            with decoding(place):
                array = _found(source, place, f":{name}", functools.partial(archive.open, member))
            if isinstance(array, InputError):
                refusal = array
                continue
            found += 1
            yield array
        if not found:
            if source.member or columns.positions(list(members)) is None:
                raise refusal
            yield _columns(source, archive, members)


def _columns(
    source: Source, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]
) -> Found:
    """A picture of the events whose columns are the arrays of one axis."""
    values = {}
    for name, member in members.items():
        reopen = functools.partial(archive.open, member)
        with reopen() as file:
            shape, dtype = _header(source.place, file)
        if len(shape) == 1 and dtype.kind in "iuf":
            source.budget.take(source.place, (shape[0], 1))
            values[name] = _read(reopen, source.place)
    longest = max((len(column) for column in values.values()), default=0)
    kept = {name: column for name, column in values.items() if len(column) == longest}
    kinds = [(name, column.dtype) for name, column in kept.items()]
    table = np.empty(longest, kinds)
    for name, column in kept.items():
        table[name] = column
    events = columns.of_array(table)
    return columns.counted(source.place, "", events, source.options, source.budget)


def _found(
    source: Source, place: str, suffix: str, reopen: Callable[[], IO[bytes]]
) -> Found | InputError:
    """One array in NumPy's format; an error, which is not raised, where it is no picture."""
    with reopen() as file:
        shape, dtype = _header(place, file)
    read = functools.cache(functools.partial(_read, reopen, place))
    if dtype.hasobject:
        read()  # NumPy says why it takes no objects
    if columns.is_list(shape, dtype):
        source.budget.take(place, (shape[0], max(2, dtype.itemsize // 8)))
        table = columns.of_array(read())
        return columns.counted(place, suffix, table, source.options, source.budget)
    pictures = shape[:2] if is_colour(shape) else plain_shape(shape)
    try:
        check_picture(place, dtype, pictures)
    except InputError as error:
        return error

    def picture(number: int | None) -> np.ndarray:
        if is_colour(shape):
            return grey(place, read())
        array = read().reshape(pictures)
        return array if number is None else array[number]

    note = f"{dtype.name} array" + (", grey saved in colours" if is_colour(shape) else "")
    return Found(suffix, pictures, picture, note)


def _header(place: str, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that the array claims."""
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read_header:  # 3.0 is for tables with Greek names
        raise InputError(f"{place}: found format {version}, expected an array of numbers")
    shape, _, dtype = read_header[version](file)
    return shape, dtype


def _read(reopen: Callable[[], IO[bytes]], place: str) -> np.ndarray:
    with decoding(place), reopen() as file:
        # Pickles run code when loaded; without them NumPy refuses object arrays.
        array = np.lib.format.read_array(file, allow_pickle=False)
        # In an archive, this compares the checksum as well.
        if file.read(1):
            raise InputError(f"{place}: found bytes behind the array, expected one array")
    return array
