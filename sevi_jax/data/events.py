"""Electron tables to pictures of counts, in bounded memory; knows the course's files."""

import dataclasses
import pathlib
from collections.abc import Iterator

import h5py
import numpy as np
from tqdm import tqdm

from sevi_jax.data import fields
from sevi_jax.data.tables import (
    Table,
    find_dataset,
    listed,
    one_line,
    open_file,
    table_names,
)
from sevi_jax.errors import InputError

MIB = 1 << 20
MAX_ID = 2**31 - 1  # ids are i4
MAX_SIZE = 32768  # a pixel's number in a picture stays below 2^31
PROGRESS_DELAY = 1.0  # seconds of reading without a progress bar

POSITION = (fields.X, fields.Z)


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """What a file says about its shells (D distributions, or the D shells of one pair).

    Attributes:
        ids: DistributionId or SphereId, ``[D]`` int64.
        radius: mean shell radius, ``[D]`` float64, half-widths of the detector.
        sigma: standard deviation of the radius, ``[D]`` float64, half-widths of the detector.
        beta: orders 2, 4, ..., 2 N in the course's convention, ``[D, N]`` float64.
    """

    ids: np.ndarray
    radius: np.ndarray
    sigma: np.ndarray
    beta: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class EventCounts:
    """Pictures of G distributions. Over all groups, inside + outside + unmatched = detected rows.

    Attributes:
        ids: DistributionId of each picture, ``[G]`` int64; ``[0]`` where the file has one picture.
        counts: electrons per pixel, first axis x, second z, ``[G, size, size]`` uint32.
        inside: electrons in each picture, ``[G]`` int64.
        outside: electrons of each distribution that missed the detector, ``[G]`` int64.
        unmatched: detected electrons of the whole file that no distribution claims (the same
            number in every group).
    """

    ids: np.ndarray
    counts: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    unmatched: int

    @property
    def left_out(self) -> str:
        """Says how many electrons are in no picture; empty if there are none."""
        reasons = {
            "outside the detector": int(self.outside.sum()),
            "of no distribution in the file": self.unmatched,
        }
        return ", ".join(f"{number} {reason}" for reason, number in reasons.items() if number)


def file_kind(path: str | pathlib.Path) -> str:
    """Says what an HDF5 file holds.

    Returns:
        ``"distributions"`` (second kind of docs/course.md), ``"pair"`` (first kind),
        ``"electrons"`` (detected electrons without truth), ``"frames"`` (camera frames only) or
        ``"images"`` (an image set).

    Raises:
        InputError: the file cannot be opened or has none of these tables.
    """
    kinds = {
        fields.DISTRIBUTIONS: "distributions",
        fields.TRUTH: "pair",
        fields.DETECTED: "electrons",
        fields.FRAMES: "frames",
        fields.IMAGES: "images",
    }
    with open_file(path) as file:
        tables = table_names(file)
    for table, kind in kinds.items():
        if table in tables:
            return kind
    raise InputError(f"{path}: found tables {listed(tables)}, expected one of {', '.join(kinds)}")


def read_blur(path: str | pathlib.Path) -> float:
    """Reads the attribute `blur` of DetectedElectrons, the standard deviation of the errors of x
    and of z, half-widths; 0 where there is none.

    Raises:
        InputError: it is no finite number from 0 to 1.
    """
    with open_file(path) as file:
        attributes = find_dataset(file, fields.DETECTED).attrs
        found = np.asarray(attributes.get(fields.BLUR, 0.0))
    if found.shape or found.dtype.kind not in "iuf" or not 0 <= found <= 1:
        raise InputError(
            f"{path}, table {fields.DETECTED}, attribute {fields.BLUR}: found "
            f"{one_line(str(found))}, expected a number from 0 to 1 (half-widths)"
        )
    return float(found)


def read_truth(path: str | pathlib.Path) -> Truth:
    """Reads DistributionParameters (in file order) or Truth (inner shell first).

    Raises:
        InputError: the file has neither, a value is not finite, or an id stands there twice.
    """
    pair = file_kind(path) != "distributions"
    name = fields.TRUTH if pair else fields.DISTRIBUTIONS
    id_field = fields.SPHERE_ID if pair else fields.DISTRIBUTION_ID
    with open_file(path) as file:
        table = Table(
            file,
            name,
            (id_field.at(0), fields.RADIUS.at(1), fields.SIGMA.at(2), fields.BETA.at(3)),
        )
        columns = table.read()
    for column, values in columns.items():
        finite = np.isfinite(values).reshape(table.rows, -1).all(axis=1)
        if not finite.all():
            raise table.error(column, f"a value that is not finite in row {finite.argmin()}",
                              "finite numbers")  # fmt: skip
    ids = columns[id_field.name].astype(np.int64)
    _check_unique(table, id_field, ids)
    radius = columns[fields.RADIUS.name].astype(np.float64)
    order = np.argsort(radius, kind="stable") if pair else slice(None)
    return Truth(
        ids=ids[order],
        radius=radius[order],
        sigma=columns[fields.SIGMA.name].astype(np.float64)[order],
        beta=columns[fields.BETA.name].astype(np.float64)[order],
    )


def count_electrons(
    path: str | pathlib.Path,
    size: int,
    *,
    progress: bool = True,
    memory_limit: int = 512 * MIB,
    index_bytes: int = 256 * MIB,
) -> Iterator[EventCounts]:
    """Counts detected electrons per pixel, reading the file in blocks.

    A file with distributions gives one picture each, in the order of DistributionParameters;
    neither electron table need be sorted. Where the pictures do not fit in `memory_limit` they come
    in groups, and the detected electrons are read once per group. Any other file gives one picture.
    An electron at (x, z) falls into pixel ``floor((x + 1) / 2 * size), floor((z + 1) / 2 * size)``.

    Args:
        path: an HDF5 file with DetectedElectrons.
        size: pixels per side, 1..32768.
        progress: show electrons per second and the time left on stderr.
        memory_limit: bytes for pictures. One picture at least is counted whatever the limit.
        index_bytes: bytes for the table from ElectronId to distribution; ids over more than
            that are done in windows, with one more pass each.

    Yields:
        EventCounts, one group after the other.

    Raises:
        InputError: a table or field is missing or of the wrong type, a position is not finite, an
            id is negative, beyond 2^31 - 1, generated twice or detected twice, no detected electron
            belongs to any distribution, or none hit the detector.
        ValueError: size is out of range.
    """
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"size={size} must be in 1..{MAX_SIZE}")
    distributions = file_kind(path) == "distributions"
    with open_file(path) as file:
        if distributions:
            yield from _count_distributions(file, size, progress, memory_limit, index_bytes)
        else:
            yield _count_all(file, size, progress)


def _count_all(file: h5py.File, size: int, progress: bool) -> EventCounts:
    """One picture of every detected electron."""
    detected = Table(file, fields.DETECTED, POSITION)
    counts = np.zeros((1, size, size), np.uint32)
    inside_total = 0
    with _progress_bar(file, detected.rows, progress) as bar:
        for first, block in detected.blocks():
            pixel, inside = _pixels(detected, first, block, size)
            pixel = pixel[inside]
            np.add.at(counts.reshape(-1), pixel.astype(np.intp), np.uint32(1))
            inside_total += len(pixel)
            bar.update(len(inside))
    _check_any(detected, inside_total)
    return EventCounts(
        ids=np.zeros(1, np.int64),
        counts=counts,
        inside=np.array([inside_total]),
        outside=np.array([detected.rows - inside_total]),
        unmatched=0,
    )


def _count_distributions(
    file: h5py.File, size: int, progress: bool, memory_limit: int, index_bytes: int
) -> Iterator[EventCounts]:
    """One picture per distribution, in groups that fit in the memory limit."""
    detected = Table(file, fields.DETECTED, (fields.ELECTRON_ID.at(0), *POSITION))
    generated = Table(
        file, fields.GENERATED, (fields.DISTRIBUTION_ID.at(0), fields.ELECTRON_ID.at(1))
    )
    parameters = Table(file, fields.DISTRIBUTIONS, (fields.DISTRIBUTION_ID.at(0),))
    ids = parameters.read()[fields.DISTRIBUTION_ID.name].astype(np.int64)
    _check_unique(parameters, fields.DISTRIBUTION_ID, ids)

    group = _group_size(len(ids), size, memory_limit)
    groups = range(0, len(ids), group)
    with _progress_bar(file, generated.rows + len(groups) * detected.rows, progress) as bar:
        index = _DistributionIndex(generated, ids, index_bytes, bar)
        passes = len(index.windows) * len(groups)
        # With one window the index is filled once and serves every group.
        fills = 1 if len(index.windows) == 1 else passes
        bar.total = fills * generated.rows + passes * detected.rows

        matched = inside = 0
        for start in groups:
            stop = min(start + group, len(ids))
            counts = np.zeros((stop - start, size, size), np.uint32)
            outside = np.zeros(stop - start, np.int64)
            for window in index.windows:
                index.load(window)
                claimed = _count_window(detected, index, size, start, counts, outside, bar)
                matched += claimed if start == 0 else 0
            if matched == 0:
                raise detected.error(
                    fields.ELECTRON_ID.name,
                    f"no electron of any distribution in {fields.GENERATED}",
                    f"ids that {fields.GENERATED} gives to a distribution",
                )
            inside_each = counts.reshape(len(counts), -1).sum(axis=1, dtype=np.int64)
            inside += int(inside_each.sum())
            if stop == len(ids):
                index.release()
                _check_any(detected, inside)
            yield EventCounts(
                ids=ids[start:stop],
                counts=counts,
                inside=inside_each,
                outside=outside,
                unmatched=detected.rows - matched,
            )
            del counts  # not held while the next group's is made


def _count_window(
    detected: Table,
    index: "_DistributionIndex",
    size: int,
    start: int,
    counts: np.ndarray,
    outside: np.ndarray,
    bar: tqdm,
) -> int:
    """Adds the electrons of the loaded id window; returns how many any distribution claims."""
    pictures, matched = counts.reshape(-1), 0
    for first, block in detected.blocks():
        electron = block[fields.ELECTRON_ID.name]
        _check_ids(detected, fields.ELECTRON_ID, first, electron)
        pixel, inside = _pixels(detected, first, block, size)
        number = index.lookup(electron)
        matched += int(np.count_nonzero(number))
        if start == 0:
            index.mark(electron, number)
        slot = number.astype(np.intp) - (start + 1)
        chosen = (slot >= 0) & (slot < len(counts))
        if not inside.all():
            outside += np.bincount(slot[chosen & ~inside], minlength=len(counts))
            chosen &= inside
        if not chosen.all():
            slot, pixel = slot[chosen], pixel[chosen]
        slot *= size * size
        slot += pixel
        np.add.at(pictures, slot, np.uint32(1))
        bar.update(len(electron))
    if start == 0 and index.unmark() != matched:
        raise detected.error(
            fields.ELECTRON_ID.name, "the same id in several rows", "every id once"
        )
    return matched


class _DistributionIndex:
    """From ElectronId to the distribution's number: 0 for none, else 1 + its row in the truth.

    A flat table over a window of ids, one or two bytes per id: a dictionary or a sorted list of
    1.7e8 electrons would take gigabytes. Made with the first window loaded. An id that is marked
    has the number of distributions added to its number.
    """

    def __init__(self, generated: Table, ids: np.ndarray, index_bytes: int, bar: tqdm):
        self._generated, self._bar = generated, bar
        self._order = np.argsort(ids)
        self._sorted = ids[self._order]
        kind = np.min_scalar_type(2 * len(ids))
        self._span = max(1, index_bytes // kind.itemsize)
        # Not touched, so not in memory, beyond the largest id.
        self._table = np.zeros(min(self._span, MAX_ID + 1), kind)
        self._loaded = 0
        self.windows = self._fill(0)

    def load(self, window: int) -> None:
        """Makes `window` the one that `lookup` answers for."""
        if window != self._loaded:
            self._table.fill(0)
            self._loaded = window
            self._fill(window)

    def lookup(self, electron: np.ndarray) -> np.ndarray:
        """Number of the distribution of each id; 0 where there is none, or outside the window."""
        low = self._loaded * self._span
        if low == 0 and electron.max() < len(self._table):
            return self._table[electron]
        here = (electron >= low) & (electron < low + len(self._table))
        number = np.zeros(len(electron), self._table.dtype)
        number[here] = self._table[electron[here] - low]
        return number

    def mark(self, electron: np.ndarray, number: np.ndarray) -> None:
        """Marks ids as detected, given what `lookup` said of them."""
        known = number > 0
        if not known.all():
            electron, number = electron[known], number[known]
        low = self._loaded * self._span
        self._table[electron - low if low else electron] = number + len(self._sorted)

    def unmark(self) -> int:
        """Takes all marks away; returns how many ids had one."""
        marked = 0
        for start in range(0, len(self._table), MIB):
            part = self._table[start : start + MIB]
            seen = part > len(self._sorted)
            marked += int(np.count_nonzero(seen))
            part[seen] -= len(self._sorted)
        return marked

    def release(self) -> None:
        """Gives the table's memory back."""
        del self._table

    def _fill(self, window: int) -> list[int]:
        """Reads the generated electrons into the table; returns the windows that they lie in."""
        low, high = window * self._span, window * self._span + len(self._table)
        windows, claimed = set(), 0
        for first, block in self._generated.blocks():
            electron = block[fields.ELECTRON_ID.name]
            _check_ids(self._generated, fields.ELECTRON_ID, first, electron)
            distribution = block[fields.DISTRIBUTION_ID.name]
            self._bar.update(len(electron))
            lowest, highest = int(electron.min()), int(electron.max())
            if lowest // self._span == highest // self._span:
                windows.add(lowest // self._span)
            else:
                windows.update(np.unique(electron // self._span).tolist())
            if lowest < low or highest >= high:
                here = (electron >= low) & (electron < high)
                electron, distribution = electron[here], distribution[here]
            number = self._numbers(distribution)
            claimed += np.count_nonzero(number)
            self._table[electron - low if low else electron] = number
        if np.count_nonzero(self._table) != claimed:
            raise self._generated.error(
                fields.ELECTRON_ID.name, "the same id in several rows", "every id once"
            )
        return sorted(windows)

    def _numbers(self, distribution: np.ndarray) -> np.ndarray:
        """Number of each DistributionId, 0 where DistributionParameters has no such id."""
        if len(distribution) > 1 and (distribution == distribution[0]).all():
            # A sorted table: one distribution fills the block, so one search does.
            return np.broadcast_to(self._numbers(distribution[:1]), distribution.shape)
        place = np.minimum(np.searchsorted(self._sorted, distribution), len(self._sorted) - 1)
        known = self._sorted[place] == distribution
        return np.where(known, self._order[place] + 1, 0).astype(self._table.dtype)


def _pixels(
    detected: Table, first: int, block: dict[str, np.ndarray], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each electron's pixel in the flattened picture (int32) and whether it hit the detector."""
    pixel, inside = np.zeros((), np.int32), np.ones((), bool)
    for field in POSITION:
        coordinate = block[field.name].astype(np.float64)
        inside = inside & (coordinate >= -1) & (coordinate < 1)
        if not inside.all():
            finite = np.isfinite(coordinate)
            if not finite.all():
                row = first + int(finite.argmin())
                raise detected.error(
                    field.name, f"{coordinate[finite.argmin()]} in row {row}", "finite positions"
                )
            coordinate = np.where(inside, coordinate, 0.0)
        coordinate += 1
        coordinate *= size / 2
        # The last number below 1 is rounded up to 2 by the addition: keep it on the last pixel.
        pixel = pixel * np.int32(size) + np.minimum(coordinate.astype(np.int32), size - 1)
    return pixel, inside


def _check_any(detected: Table, inside: int) -> None:
    if inside == 0:
        raise detected.error(
            f"{fields.X.name} and {fields.Z.name}",
            "no electron on the detector",
            "positions from -1 to 1, in half-widths of the detector",
        )


def _progress_bar(file: h5py.File, total: int, progress: bool) -> tqdm:
    return tqdm(
        desc=pathlib.Path(file.filename).name,
        total=total,
        unit=" electrons",
        unit_scale=True,
        disable=not progress,
        # What is refused at once is refused in one line, without a bar above it.
        delay=PROGRESS_DELAY,
    )


def _group_size(distributions: int, size: int, memory_limit: int) -> int:
    """Pictures counted at once, at least one."""
    fitting = memory_limit // (size * size * np.dtype(np.uint32).itemsize)
    if distributions <= fitting:
        return distributions
    # The caller still holds the last group while the next one is counted.
    return max(1, fitting // 2)


def _check_unique(table: Table, field: fields.Field, ids: np.ndarray) -> None:
    values, repeats = np.unique(ids, return_counts=True)
    if (repeats > 1).any():
        repeated = values[repeats.argmax()]
        raise table.error(field.name, f"id {repeated} in several rows", "every id once")


def _check_ids(table: Table, field: fields.Field, first: int, ids: np.ndarray) -> None:
    if ids.min() < 0 or ids.max() > MAX_ID:
        row = int(((ids < 0) | (ids > MAX_ID)).argmax())
        raise table.error(field.name, f"{ids[row]} in row {first + row}", f"0..{MAX_ID}")
