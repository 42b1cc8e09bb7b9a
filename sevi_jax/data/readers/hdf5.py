"""HDF5 files: this program's own, and any dataset or columns of events of other programs."""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Iterator, Sequence

import h5py
import numpy as np

from sevi_jax.data import events, fields
from sevi_jax.data.readers import columns
from sevi_jax.data.readers.source import (
    Found,
    Source,
    check_picture,
    found_array,
    grey,
    is_colour,
    plain_shape,
)
from sevi_jax.data.tables import (
    find_dataset,
    one_line,
    open_file,
    read_blocks,
    read_dataset,
    read_picture,
    readable,
    table_names,
)
from sevi_jax.errors import InputError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MOST_OBJECTS = 4096  # that are looked at in a file
MOST_LISTED = 12
_MATLAB = b"MATLAB 7.3 MAT-file"
_OWN = (fields.DISTRIBUTIONS, fields.TRUTH, fields.DETECTED, fields.FRAMES, fields.IMAGES)


def is_hdf5(path: pathlib.Path) -> bool:
    """Whether a file has HDF5's signature where it may be."""
    with path.open("rb") as file:
        for offset in (0, 512, 1024, 2048, 4096):
            file.seek(offset)
            if file.read(len(SIGNATURE)) == SIGNATURE:
                return True
    return False


def read(source: Source) -> Iterator[Found]:
    """The pictures in an HDF5 file, or in the dataset or group of it that is asked for."""
    with open_file(source.path) as file:
        names = table_names(file)
        own = next((name for name in _OWN if name in names), None)
        with readable(source.place):
            if own == fields.IMAGES and isinstance(file[own], h5py.Group):
                own = None
    if not source.member.strip("/") and own is not None:
        yield from _own(source, own)
        return
    with open_file(source.path) as file:
        if source.member.strip("/"):
            yield from _member(source, file, source.member.strip("/"))
        else:
            yield from _only(source, file)


def _own(source: Source, table: str) -> Iterator[Found]:
    """The pictures of this program's own files."""
    if table == fields.IMAGES:
        with open_file(source.path) as file:
            yield _dataset(source, file, fields.IMAGES, "")
    elif table == fields.FRAMES:
        raise source.error(
            "camera frames without positions of electrons",
            "an event file: `python -m sevi_jax.detect` makes one of them",
        )
    else:
        yield from _events(source, table)


def _events(source: Source, table: str) -> Iterator[Found]:
    """Pictures of the detected electrons: rows along z, columns along x, about the middle."""
    size = source.options.size
    blur = events.read_blur(source.path) * size / 2
    has_truth = table in (fields.DISTRIBUTIONS, fields.TRUTH)
    truth = events.read_truth(source.path) if has_truth else None
    several = table == fields.DISTRIBUTIONS
    number = 0
    for group in events.count_electrons(source.path, size, progress=False):
        left_out = f"; left out: {group.left_out}" if group.left_out else ""
        for identity, counts, inside in zip(group.ids, group.counts, group.inside, strict=True):
            own = truth
            if truth is not None and several:
                own = events.Truth(*(getattr(truth, f.name)[number : number + 1]
                                     for f in dataclasses.fields(truth)))  # fmt: skip
            number += 1
            note = f"{inside} electrons of {fields.DETECTED}, counted about the middle{left_out}"
            yield found_array(
                f"[{identity}]" if several else "",
                counts.T,
                note,
                origin=(size / 2, size / 2),
                blur=blur,
                truth=own,
            )


def _member(source: Source, file: h5py.File, name: str) -> Iterator[Found]:
    """The dataset or the columns of a group that were asked for."""
    with readable(source.place):
        if name in file and isinstance(file.get(name, getlink=True), h5py.HardLink):
            group = file[name]
            if isinstance(group, h5py.Group):
                yield _columns(source, file, name, list(_lists(group)))
                return
    yield _dataset(source, file, name, f":/{name}")


def _only(source: Source, file: h5py.File) -> Iterator[Found]:
    """The one thing in a file that is a picture, a stack or columns of events."""
    pictures, tables, groups = _contents(source, file)
    choices = [*pictures, *tables, *groups]
    if len(choices) == 1:
        (name,) = choices
        if name in groups:
            yield _columns(source, file, name, groups[name])
        else:
            yield _dataset(source, file, name, f":/{name}")
        return
    said = [
        *(f"/{one_line(name)} {' x '.join(map(str, shape))}" for name, shape in pictures.items()),
        *(f"/{one_line(name)} (columns of events)" for name in (*tables, *groups)),
    ]
    if not said:
        raise InputError(
            f"{source.place}: found tables {', '.join(map(one_line, table_names(file)[:10]))}, "
            "expected a picture, or columns x and y of events"
        )
    more = ", ..." if len(said) > MOST_LISTED else ""
    raise source.error(
        f"several things that may be meant: {', '.join(said[:MOST_LISTED])}{more}",
        f"the name of one, as {source.path.name}:{said[0].split()[0]}",
    )


def _contents(
    source: Source, file: h5py.File
) -> tuple[dict[str, tuple[int, ...]], list[str], dict[str, list[str]]]:
    """Pictures and their shapes, tables of events, and groups of columns of events, by name."""
    pictures, tables, groups = {}, [], {}
    seen = 0

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> bool | None:
        nonlocal seen
        seen += 1
        if name.startswith("#"):  # MATLAB's own
            return None
        if isinstance(item, h5py.Group):
            lists = _lists_of_events(item)
            if lists:
                groups[name] = lists
        elif isinstance(item, h5py.Dataset) and item.shape:
            if item.dtype.names and columns.positions(item.dtype.names):
                tables.append(name)
            elif item.dtype.kind in "biuf" and not item.dtype.names:
                shape = plain_shape(item.shape)
                if len(shape) in (2, 3) and min(shape[-2:]) >= 2:
                    pictures[name] = shape
        return True if seen >= MOST_OBJECTS else None

    with readable(source.place):
        lists = _lists_of_events(file)
        if lists:
            groups[""] = lists
        file.visititems(visit)
    return pictures, tables, groups


def _lists_of_events(group: h5py.Group) -> list[str]:
    """Names of the columns in a group, where these are events, not the axes of its pictures."""
    lists = list(_lists(group))
    used = columns.positions(lists)
    if used is None:
        return []
    across, down = (int(np.prod(getattr(group[name], "shape", ()))) for name in used)
    members = itertools.islice(group, MOST_LISTED * 4)
    kept = (group[n] for n in members if isinstance(group.get(n, getlink=True), h5py.HardLink))
    shapes = [item.shape or () for item in kept if isinstance(item, h5py.Dataset)]
    axes = any(len(shape) > 1 and {across, down} <= set(shape) for shape in shapes)
    return [] if axes or across != down else lists


def _lists(group: h5py.Group) -> Iterator[str]:
    """Names of the columns of numbers in a group, among its first members."""
    for number, name in enumerate(group):
        if number >= MOST_LISTED * 4:
            return
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        item = group[name]
        if not isinstance(item, h5py.Dataset) or len(plain_shape(item.shape or ())) != 1:
            continue
        if item.dtype.kind in "iuf" and not item.dtype.names:
            yield name


def _dataset(source: Source, file: h5py.File, name: str, suffix: str) -> Found:
    """A dataset of pictures, or a table of events."""
    data = find_dataset(file, name)
    place = f"{source.place}, table {one_line(name)}"
    if data.dtype.names:
        return _table(source, data, place, suffix)
    stored = data.shape or ()
    turned = file.userblock_size >= 512 and source.head(len(_MATLAB)) == _MATLAB
    shape = plain_shape(stored)
    if columns.is_list(shape, data.dtype):
        source.budget.take(place, shape)
        table = columns.of_array(read_dataset(data).reshape(shape))
        return columns.counted(place, suffix, table, source.options, source.budget)
    colours = is_colour(shape)
    pictures = shape[:2] if colours else shape
    check_picture(place, data.dtype, pictures)
    if turned:  # MATLAB counts the first axis first
        pictures = (*pictures[:-2], pictures[-1], pictures[-2])
    at_once = functools.cache(lambda: read_dataset(data).reshape(shape))
    axis = _stack_axis(data, stored, pictures)

    def read(number: int | None) -> np.ndarray:
        if number is not None and axis is not None:
            array = read_picture(data, axis, number).reshape(shape[1:])
        else:
            array = at_once() if number is None else at_once()[number]
        if colours:
            array = grey(place, array)
        return array.T if turned else array

    note = f"{data.dtype.name} dataset /{one_line(name)}"
    return Found(suffix, pictures, read, note)


def _stack_axis(
    data: h5py.Dataset, stored: tuple[int, ...], pictures: tuple[int, ...]
) -> int | None:
    """The axis along which pictures are read one by one; None reads all at once."""
    if len(pictures) != 3:
        return None
    axis = next(i for i, n in enumerate(stored) if n == pictures[0] and n != 1)
    return axis if data.chunks is None or data.chunks[axis] == 1 else None


def _columns(source: Source, file: h5py.File, group: str, names: Sequence[str]) -> Found:
    """A picture of the events whose columns are the datasets of a group."""
    place = f"{source.place}, group /{one_line(group)}"
    data = {name: find_dataset(file, f"{group}/{name}".lstrip("/")) for name in names}
    used = columns.positions(names) or source.options.columns
    if used is None or used[0] not in data:
        raise InputError(
            f"{place}: found columns {', '.join(map(one_line, names)) or 'none'}, expected x and y "
            "of events (columns=('ACROSS', 'DOWN') names others), or the name of a dataset in it"
        )
    length = data[used[0]].shape[0]
    data = {name: column for name, column in data.items() if column.shape == (length,)}

    def blocks(wanted: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        parts = [read_blocks(data[name], columns.BLOCK_ROWS) for name in wanted]
        yield from _aligned(wanted, parts)

    units = {name: _unit(column) for name, column in data.items()}
    table = columns.Columns(tuple(data), blocks, units)
    suffix = f":/{group}" if source.member or group else ""
    return columns.counted(place, suffix, table, source.options, source.budget)


def _table(source: Source, data: h5py.Dataset, place: str, suffix: str) -> Found:
    """A picture of the events in a compound table."""
    names = [n for n in data.dtype.names if data.dtype[n].kind in "iuf" and not data.dtype[n].shape]

    def blocks(wanted: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        for block in read_blocks(data, columns.BLOCK_ROWS // 4):
            yield {name: block[name] for name in wanted}

    table = columns.Columns(tuple(names), blocks)
    if len(data.shape or ()) != 1:
        raise InputError(f"{place}: found a table of shape {data.shape}, expected one dimension")
    return columns.counted(place, suffix, table, source.options, source.budget)


def _aligned(
    names: Sequence[str], parts: Sequence[Iterator[np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
    """Blocks of equal length from columns whose own blocks end elsewhere."""
    held = [np.zeros(0)] * len(parts)
    while True:
        for i, part in enumerate(parts):
            if not len(held[i]):
                held[i] = next(part, held[i])
        length = min(map(len, held))
        if not length:
            return
        yield {name: block[:length] for name, block in zip(names, held, strict=True)}
        held = [block[length:] for block in held]


def _unit(data: h5py.Dataset) -> str:
    """The unit that a dataset says it has, as other programs write it."""
    with readable(data.file.filename):
        for name in ("unit", "units"):
            if name in data.attrs:
                found = data.attrs[name]
                found = found.decode("utf-8", "replace") if isinstance(found, bytes) else found
                return one_line(str(found))[:12] if isinstance(found, str) else ""
    return ""
