"""Columns of event positions, of any camera, to a picture of counts; knows no file.

Rows of the picture run along y (or z, where there is no y), its columns along x.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from sevi_jax.data.readers.source import Budget, Found, Options, found_array
from sevi_jax.data.tables import listed
from sevi_jax.errors import InputError

FEWEST_EVENTS = 10  # rows of two numbers that are a list of positions, not a picture
DIVISIONS = 512  # pixels across positions that have units of length
SENSOR = (16, 16384)  # highest position that may be one in pixels of a sensor
BLOCK_ROWS = 1 << 22
MOST_PIXELS_WIDE = 1 << 14

_ACROSS, _DOWN, _OTHER_DOWN = "x", "y", "z"
_SHAPES = ("{0}", "{0}pos", "pos{0}", "{0}position", "position{0}", "{0}px", "{0}pix", "{0}pixel",
           "{0}pixels", "{0}mm", "{0}um", "{0}coord", "{0}coordinate", "centroid{0}", "{0}centroid",
           "c{0}", "{0}c", "{0}cm", "com{0}", "{0}com", "{0}1", "{0}0")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of equal length, by name, read in blocks.

    Attributes:
        names: of the columns of one real number a row.
        blocks: gives the columns of these names, block after block; each call begins anew.
        units: of columns, by name, where they are known.
    """

    names: tuple[str, ...]
    blocks: Callable[[Sequence[str]], Iterator[dict[str, np.ndarray]]]
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)


def of_array(table: np.ndarray, names: Sequence[str] = ("x", "y")) -> Columns:
    """The fields of a structured array ``[n]``, or the columns of ``[n, columns]``."""
    if table.dtype.names:
        values = {name: table[name] for name in table.dtype.names}
        values = {n: v for n, v in values.items() if v.ndim == 1 and v.dtype.kind in "iuf"}
    else:
        values = dict(zip(names, table.T, strict=False))

    def blocks(wanted: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        for first in range(0, len(table), BLOCK_ROWS):
            yield {name: values[name][first : first + BLOCK_ROWS] for name in wanted}

    return Columns(tuple(values), blocks)


def is_list(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether an array is a list of positions: a table of named columns, or two of real numbers."""
    if dtype.names:
        return len(shape) == 1
    return len(shape) == 2 and shape[1] == 2 and shape[0] >= FEWEST_EVENTS and dtype.kind in "iuf"


def positions(names: Sequence[str]) -> tuple[str, str] | None:
    """Names of the columns of the position across (x) and down (y, else z); None: not there."""
    bare = {_bare(name): name for name in reversed(names)}

    def named(axis: str) -> str | None:
        return next((bare[s.format(axis)] for s in _SHAPES if s.format(axis) in bare), None)

    across, down = named(_ACROSS), named(_DOWN) or named(_OTHER_DOWN)
    if across is None and "column" in bare and "row" in bare:
        across, down = bare["column"], bare["row"]
    return None if across is None or down is None else (across, down)


def counted(place: str, suffix: str, table: Columns, options: Options, budget: Budget) -> Found:
    """Counts the events of a table in pixels.

    Args:
        place: what messages begin with.
        suffix: of the picture's name.
        table: the events.
        options: pixel, gate and names of the columns.
        budget: what the file may still hold.

    Raises:
        InputError: there are no positions, a gate names no column, or no event is left.
    """
    across, down = _wanted(place, table, options)
    gates = {_column(place, table, name): bounds for name, bounds in options.gate.items()}

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        for block in table.blocks(list(dict.fromkeys((across, down, *gates)))):
            chosen = np.isfinite(block[across]) & np.isfinite(block[down])
            for name, (low, high) in gates.items():
                chosen &= (block[name] >= low) & (block[name] <= high)
            yield block[down][chosen], block[across][chosen], len(chosen)

    rows, columns = _Axis(), _Axis()
    total = kept = 0
    for y, x, number in blocks():
        total, kept = total + number, kept + len(x)
        rows.add(y)
        columns.add(x)
    if not kept:
        raise InputError(f"{place}: found no event of {total} to count, expected some (see gate)")
    pixel, low, shape, why = _pixels(place, rows, columns, options, _unit(table, across))
    if max(shape) > MOST_PIXELS_WIDE:
        raise InputError(
            f"{place}: found positions over {shape[0]} x {shape[1]} pixels of {pixel:g}, expected "
            f"at most {MOST_PIXELS_WIDE} a side: give a larger pixel"
        )
    budget.take(place, shape)
    counts = np.zeros(shape[0] * shape[1])
    for y, x, _ in blocks():
        i, k = (
            np.clip(((v - start) / pixel).astype(np.int64), 0, n - 1)
            for v, start, n in zip((y, x), low, shape, strict=True)
        )
        np.add.at(counts, i * shape[1] + k, 1.0)
    note = f"{kept} events of columns {down} (downwards) and {across}, {why}"
    if kept < total:
        note += f"; {total - kept} others are outside {_gates(gates) or 'all numbers'}"
    found = found_array(suffix, counts.reshape(shape), note)
    return dataclasses.replace(found, of_columns=True)


def _wanted(place: str, table: Columns, options: Options) -> tuple[str, str]:
    """Names of the columns across and down."""
    if options.columns is not None:
        across, down = options.columns
        return _column(place, table, across), _column(place, table, down)
    found = positions(table.names)
    if found is None:
        raise InputError(
            f"{place}: found columns {listed(table.names)}, expected positions x and y: name them, "
            "columns=('ACROSS', 'DOWN')"
        )
    return found


def _column(place: str, table: Columns, name: str) -> str:
    """The table's column of this name."""
    for column in table.names:
        if name == column:
            return column
    for column in table.names:
        if _bare(name) == _bare(column):
            return column
    raise InputError(f"{place}: found columns {listed(table.names)}, expected one called {name}")


class _Axis:
    """What is known of positions along one axis."""

    def __init__(self):
        self.low, self.high, self.whole = math.inf, -math.inf, True

    def add(self, values: np.ndarray) -> None:
        if len(values):
            self.low = min(self.low, float(values.min()))
            self.high = max(self.high, float(values.max()))
            self.whole &= values.dtype.kind in "iu" or bool((values == np.round(values)).all())


def _pixels(
    place: str, rows: _Axis, columns: _Axis, options: Options, unit: str
) -> tuple[float, tuple[float, float], tuple[int, int], str]:
    """Width of a pixel, lowest edges, shape, and the reason in words."""
    low, high = min(rows.low, columns.low), max(rows.high, columns.high)
    if options.pixel is not None and not (0 < options.pixel < math.inf):
        raise InputError(f"pixel={options.pixel}: expected a width above 0")
    length = unit.strip().lower() in ("m", "mm", "um", "µm", "cm", "nm")
    sensor = low >= 0 and SENSOR[0] <= high < SENSOR[1] and not length
    if rows.whole and columns.whole and not length:
        pixel, why = options.pixel or 1.0, "whole numbers are pixels"
        start = [axis.low if axis.low < 0 or high > SENSOR[1] else 0.0 for axis in (rows, columns)]
        ends = [rows.high + 1, columns.high + 1]
    elif -1 <= low < -0.3 and 0.3 < high <= 1:
        pixel, why = options.pixel or 2 / DIVISIONS, "positions from -1 to 1 are half-widths"
        start, ends = [-1.0, -1.0], [1.0, 1.0]
    elif sensor:
        pixel, why = options.pixel or 1.0, "positions are in pixels of the sensor"
        start, ends = [0.0, 0.0], [rows.high, columns.high]
    else:
        width = max(rows.high - rows.low, columns.high - columns.low) or 1.0
        pixel = options.pixel or _round(width / DIVISIONS)
        why = f"positions from {low:g} to {high:g} {unit}".strip()
        start = [math.floor(axis.low / pixel) * pixel for axis in (rows, columns)]
        ends = [rows.high, columns.high]
    if not all(map(math.isfinite, (pixel, *start, *ends))):
        raise InputError(f"{place}: found positions from {low:g} to {high:g}, expected a detector")
    shape = [
        max(2, math.ceil((end - at) / pixel - 1e-9)) for at, end in zip(start, ends, strict=True)
    ]
    said = f"pixels of {pixel:g}" + (f" {unit}" if unit else "")
    why += f", {said}" + ("" if options.pixel else " (pixel= takes another)")
    return pixel, (start[0], start[1]), (shape[0], shape[1]), why


def _round(width: float) -> float:
    """The largest of 1, 2, 5, 10, ... that is not above `width`."""
    power = 10.0 ** math.floor(math.log10(width))
    return max(step * power for step in (1, 2, 5) if step * power <= width * (1 + 1e-9))


def _gates(gates: Mapping[str, tuple[float, float]]) -> str:
    return ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in gates.items())


def _unit(table: Columns, name: str) -> str:
    """The unit of a column, as the file says it or in brackets behind its name."""
    bracket = re.search(r"[\[(]\s*(\w{1,8})\s*[\])]", name)
    return table.units.get(name, "") or (bracket[1] if bracket else "")


def _bare(name: str) -> str:
    """A name without units in brackets, case and signs."""
    return re.sub(r"[\W_]", "", re.sub(r"[\[(].*?[\])]", "", name).casefold())
