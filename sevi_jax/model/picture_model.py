"""A picture with a model of it: from one flat vector to deviance, gradient and information.

The vector holds the parameters of all shells, one after the other, and then those that have columns
of their own in `means`. Nothing else in the program knows how many parameters a shell has.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.model import center, wide
from sevi_jax.model import geometry as geo
from sevi_jax.model.components import Grid, Shell, begin_series
from sevi_jax.model.continuum import Continuum
from sevi_jax.model.means import (
    BACKGROUNDS,
    EFFICIENCY_TERMS,
    Frame,
    Layout,
    chunk_means,
    evaluate_chunk,
)
from sevi_jax.model.pixels import LANES, Chunk, Pixels, Sorted, sort_pixels
from sevi_jax.model.ring_means import ring_means

_PIXEL_VARIANCE = 1 / 12  # pixels^2, of a uniform density over a pixel
FLOOR = 1e-4  # of the mean count: the likelihood is continued below
_CELLS_PER_SIGMA = 5.0  # at least; the step of the grid is a power of `_STEPS_LIKE`
_STEPS_LIKE = 1.25
_LARGEST_STEP = 1.0  # pixels
_SMALLEST_STEP = 0.125
_FINER = 0.7  # of its step: where a finer grid is needed, pixels are sorted again
# Pixels of shells narrower than this are integrated over, with so many nodes along each side.
_NODES = ((1.25, 3), (0.5, 4), (0.25, 8))
_WIDE_STEPS = {3: 0.1, 4: 0.06, 8: 0.04}  # of the grid, pixels, by the number of nodes
# Of the pixels that are integrated over, all in pixels: widths of a block's cell, how far around it
# the block sees, and how far the geometry may move before pixels are sorted again.
_WIDE_CELLS = (0.25, 0.5, 1.0)
_WIDE_REACH = 0.85
_WIDE_SHIFT = 0.1
# They lie about the edge of a narrow shell: so many sigma and pixels to either side of R; inside
# the edge the density falls as the root of the distance, and 5 pixels from it a blur of a pixel's
# width stands for the pixel to 1e-5.
_BAND_SIGMAS, _BAND_INSIDE, _BAND_OUTSIDE = 6.0, 5.0, 1.0
_BAND_TAILS, _LONGEST_BAND = 8.0, 12.0  # of a skewed shell, and pixels, on the side of its tail
_FEW_PIXELS = 8192  # of a smaller picture all are
_BAND_MARGIN = 1.5  # pixels that a radius may move before pixels are sorted again
_BAND_POINTS, _BAND_SIZES = 128, 2048  # the grid of a band has multiples of them, on the device
_KEPT = 2**27  # bytes of matrices that are kept as long as the geometry does not move
_MANY = 3  # sets of matrices are kept
_matrices: dict[tuple, list[jax.Array]] = {}
_SLOW_STEP = 0.4  # where a shell reaches the centre
_GRID_SIZES = 4096  # programs are compiled for multiples of it
_CELLS_PER_KNOT = 2.0  # of a continuum
_MANY_COLUMNS, _PARTS = 200, 12  # from so many derivatives on, cells are taken in so many parts
_SLOW = 7.0  # a shell reaches the centre where R is less than so many widths


@dataclasses.dataclass(frozen=True)
class Data:
    """Counts of electrons with what is known of every pixel.

    Attributes:
        counts: electrons, ``[H, W]`` float64; may be no whole numbers.
        exposure: efficiency of every pixel, 0 where it is not used, ``[H, W]``.
        off: mean counts without the light, ``[H, W]`` or None.
        variance: of the blur by pixel and detector, pixels^2.
        noise: variance of `counts` where it is not their mean, ``[H, W]`` or None.
        off_scale: the exposure over that of the off picture for which it is taken off `counts`.
    """

    counts: np.ndarray
    exposure: np.ndarray
    off: np.ndarray | None = None
    variance: float = _PIXEL_VARIANCE
    noise: np.ndarray | None = None
    off_scale: float = 0.0

    @property
    def half(self) -> float:
        """Half of the longer side, pixels."""
        return max(self.counts.shape) / 2

    @functools.cached_property
    def middles(self) -> tuple[np.ndarray, np.ndarray]:
        """Middles of all pixels along rows and columns, from the middle of the picture."""
        row, column = (np.arange(n) + 0.5 - n / 2 for n in self.counts.shape)
        shape = self.counts.shape
        return (
            np.broadcast_to(row[:, None].astype(np.float32), shape).ravel(),
            np.broadcast_to(column[None].astype(np.float32), shape).ravel(),
        )


@dataclasses.dataclass(frozen=True)
class Model:
    """What is fitted.

    Attributes:
        shells: in no order.
        layout: the other free parameters.
        continuum: a density of any form beside the shells.
    """

    shells: tuple[Shell, ...]
    layout: Layout
    continuum: Continuum | None = None

    @property
    def components(self) -> tuple[Shell | Continuum, ...]:
        """The shells and, behind them, the continuum."""
        return self.shells if self.continuum is None else (*self.shells, self.continuum)

    @functools.cached_property
    def starts(self) -> tuple[int, ...]:
        """Where in the vector each component begins, and where all of them end."""
        return tuple(int(x) for x in np.cumsum([0, *(part.size for part in self.components)]))

    @functools.cached_property
    def size(self) -> int:
        """P, entries of the vector."""
        return self.starts[-1] + len(self.layout.columns)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all entries, as results call them."""
        found = [name for i, shell in enumerate(self.shells) for name in shell.names(i + 1)]
        found += [] if self.continuum is None else self.continuum.names()
        return (*found, *self.layout.columns)

    @property
    def beside(self) -> slice:
        """Entries of the continuum."""
        return slice(self.starts[len(self.shells)], self.starts[-1])

    def part(self, shell: int) -> slice:
        """Entries of a shell."""
        return slice(self.starts[shell], self.starts[shell + 1])


@dataclasses.dataclass(frozen=True)
class Values:
    """Values of everything, free or not.

    Attributes:
        shells: of each shell its parameters, as `components.Shell` names them.
        geometry: ``[9]``, `geometry.NAMES`, the origin from the middle of the picture.
        background: ``[15]``, electrons per pixel.
        efficiency: ``[14]``.
        off_scale: exposure over that of the off picture.
        continuum: I and I beta_n at the nodes, ``[size]``; empty without a continuum.
    """

    shells: tuple[np.ndarray, ...]
    geometry: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(len(geo.NAMES)))
    background: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(BACKGROUNDS["smooth"])
    )
    efficiency: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(EFFICIENCY_TERMS))
    off_scale: float = 1.0
    continuum: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))

    @property
    def components(self) -> tuple[np.ndarray, ...]:
        """Parameters of `Model.components`."""
        return (*self.shells, self.continuum) if len(self.continuum) else self.shells

    def vector(self, model: Model) -> np.ndarray:
        """The free ones, ``[P]``."""
        layout = model.layout
        return np.concatenate(
            [
                *self.components,
                self.geometry[list(layout.geometry)],
                self.background[: layout.background],
                self.efficiency if layout.efficiency else [],
                [self.off_scale] if layout.off_scale else [],
            ]
        )

    def with_vector(self, vector: np.ndarray, model: Model) -> "Values":
        """The same with other values of the free ones."""
        layout = model.layout
        shells = tuple(vector[model.part(i)] for i in range(len(model.shells)))
        rest = vector[model.starts[-1] :]
        geometry, background, efficiency = (
            np.array(x) for x in (self.geometry, self.background, self.efficiency)
        )
        count = len(layout.geometry)
        geometry[list(layout.geometry)] = rest[:count]
        background[: layout.background] = rest[count : count + layout.background]
        count += layout.background
        if layout.efficiency:
            efficiency = rest[count : count + EFFICIENCY_TERMS]
        scale = float(rest[-1]) if layout.off_scale else self.off_scale
        continuum = np.array(vector[model.beside])
        return Values(shells, geometry, background, efficiency, scale, continuum)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the counts say of a vector.

    Attributes:
        deviance: of the counts.
        score: half the negative gradient of the deviance, ``[P]``.
        information: Fisher's, ``[P, P]``.
    """

    deviance: float
    score: np.ndarray
    information: np.ndarray


@dataclasses.dataclass
class Band:
    """Pixels about the edges of narrow shells, which are integrated over.

    Attributes:
        low, high: distances that they lie in, pixels.
        index: which of the pixels used, ``[n]``.
        layout: of the model, for `wide`.
        grid: of the sharp series.
        sorted: the pixels.
        matrices: kept ones, of `wide.matrix`.
    """

    low: float
    high: float
    index: np.ndarray
    layout: Layout
    grid: Grid
    sorted: Sorted
    matrices: list[jax.Array] | None = None


class PictureModel:
    """Data and model together; holds the pixels sorted for a geometry.

    Pixels are of three kinds. To most of them a normal blur stands for their width. Those about the
    edges of narrow shells are integrated over (`bands`), and so are those about the centre where a
    shell reaches it (`center`).

    Args:
        data: the picture.
        model: what is fitted.
        values: for these pixels are sorted and the step of the grid is chosen.
        exact: whether pixels that are wide against a shell are integrated over; else a normal blur
            stands for their width, which is quick, and good enough for a start.
    """

    def __init__(self, data: Data, model: Model, values: Values, exact: bool = True):
        self.data, self.model, self.size = data, model, data.counts.size
        self.exact = exact
        self.efficiency_means = np.zeros(EFFICIENCY_TERMS)
        if model.layout.efficiency:
            means = ring_means(data.exposure, np.asarray(values.geometry[:2]))
            self.efficiency_means = means.mean(axis=0)
        self._sort(values)

    def _sort(self, values: Values) -> None:
        data = self.data
        self.slow = self._is_slow(values)
        step = self._step_for(values)
        row, column = data.middles
        distance = ideal_distance(row, column, values.geometry)
        used = data.exposure.ravel() > 0
        if not used.all():
            row, column, distance = row[used], column[used], distance[used]
        self.used = used
        off, noise = (None if x is None else x.ravel()[used] for x in (data.off, data.noise))
        counts, exposure = data.counts.ravel()[used], data.exposure.ravel()[used]
        pixels = Pixels(row, column, counts, exposure, off, noise)
        self.floor = FLOOR * max(float(pixels.counts.mean()), 1e-30)
        self.center = None
        outside = np.ones(len(row), bool)
        if self.slow:
            inside = center.central(row, column, values.geometry)
            if inside.any():
                width = min((v[1] for v in values.shells), default=np.inf)
                self.center = center.gather(inside, pixels, width)
                outside = ~inside

        def sort(index, *options):
            return sort_pixels(distance[index], pixels.at(index), *options)

        self.nodes = self._nodes_for(values)
        self.bands = []
        # the same for all origins inside the picture: programs are compiled for it
        reach = max(float(distance.max()), float(np.hypot(*data.counts.shape)))
        joined = _joined_bands(self._bands_for(values), _BAND_MARGIN)
        if joined and len(row) < _FEW_PIXELS:  # one program is quicker than two then
            joined = [(0.0, reach + 1)]
        for low, high in joined:
            index = np.flatnonzero(outside & (distance >= low) & (distance < high))
            if len(index):
                self.bands.append(self._band(low, high, index, sort))
                outside[index] = False
        points = int(np.ceil((reach / step + 16) / 512)) * 512
        self.rest = np.flatnonzero(outside)
        self.sorted: Sorted = sort(self.rest, step, points)
        self.sorted_geometry = np.array(values.geometry)
        self.grid = Grid(self.model.layout.modes, step, points, data.variance)

    def _band(self, low: float, high: float, index: np.ndarray, sort) -> Band:
        step, modes = _WIDE_STEPS[self.nodes], self.model.layout.modes
        reach = int(np.ceil(_WIDE_REACH / step))
        # cells of so many pixels that a block of them is filled
        shape = self.data.counts.shape
        width = LANES * np.hypot(*shape) / (shape[0] * shape[1])
        cells = max(1, round(min(w for w in _WIDE_CELLS if w >= min(width, 1.0)) / step))
        layout = dataclasses.replace(self.model.layout, nodes=self.nodes, reach=reach, cells=cells)
        start = max(low - (reach + 2) * step, 0.0)
        points = (high - start) / step + 16 + wide.window_points(layout)
        points = int(np.ceil(points / _BAND_POINTS)) * _BAND_POINTS
        return Band(
            low, high, index, layout, Grid(modes, step, points, self._sharp_variance, start),
            sort(index, step, points, start, cells, wide.CHUNK_BLOCKS),
        )  # fmt: skip

    def ensure_sorted(self, values: Values, shift: float = 0.25) -> None:
        """Sorts again where the geometry has moved a pixel by over `shift` steps of the grid."""
        away = values.geometry - self.sorted_geometry
        reach = self.data.half
        moved = np.hypot(away[0], away[1]) + reach * np.abs(away[3:]).sum()
        limit = min(shift * self.grid.step, _WIDE_SHIFT if self.bands else np.inf)
        if (
            moved > limit
            or self._step_for(values) < _FINER * self.grid.step
            or self._nodes_for(values) > self.nodes
            or self._is_slow(values) > self.slow
            or not self._are_in_bands(values)
        ):
            self._sort(values)

    def _step_for(self, values: Values) -> float:
        """Step of the grid that some shells need."""
        narrowest = min((v[1] for v in values.shells), default=10.0)
        width, least = np.hypot(narrowest, np.sqrt(self.data.variance)), _SMALLEST_STEP
        largest = _SLOW_STEP if self._is_slow(values) else _LARGEST_STEP
        if self.model.continuum is not None:
            largest = self.model.continuum.spacing / _CELLS_PER_KNOT
        step = max(width / _CELLS_PER_SIGMA, least)
        # few different steps: what is kept for one serves many pictures
        step = _STEPS_LIKE ** np.floor(np.log(step) / np.log(_STEPS_LIKE))
        return float(min(max(step, least), largest))

    def _nodes_for(self, values: Values) -> int:
        """Nodes along each side of the pixels of bands; 1 where there are none."""
        # beside a continuum, whose nodes are a pixel apart, the blur stands for a pixel's width
        if not self.exact or self.model.continuum is not None:
            return 1
        narrowest = min((v[1] for v in values.shells), default=10.0)
        return max([1, *(number for width, number in _NODES if narrowest < width)])

    def _bands_for(self, values: Values) -> list[tuple[float, float]]:
        """Distances from the centre, low and high, about every narrow shell's edge."""
        found = []
        if self._nodes_for(values) == 1:
            return found
        for shell, v in zip(self.model.shells, values.shells, strict=True):
            if v[1] < _NODES[0][0]:
                tail = v[2] if shell.lengths == 3 else 0.0
                long = min(_BAND_TAILS * abs(tail), _LONGEST_BAND)
                inside, outside = (long, 0.0) if tail < 0 else (0.0, long)
                own = _BAND_SIGMAS * v[1]
                inside, outside = own + _BAND_INSIDE + inside, own + _BAND_OUTSIDE + outside
                found.append((max(v[0] - inside, 0.0), v[0] + outside))
        return found

    def _are_in_bands(self, values: Values) -> bool:
        """Whether the pixels that these values need to be integrated over are."""
        reach = self.sorted.step * self.sorted.points
        return all(
            any(band.low <= low and high <= band.high for band in self.bands)
            for low, high in self._bands_for(values)
            if low < reach
        )

    def _is_slow(self, values: Values) -> bool:
        """Whether a shell reaches the pixels about the centre."""
        width = np.sqrt(self.data.variance)
        return self.model.continuum is not None or any(
            v[0] - _SLOW * np.hypot(v[1], width) - (5.0 if v[1] < 5 else 0.0) < 0
            for v in values.shells
        )

    def central(self, values: Values, frame: Frame | None = None) -> tuple[jax.Array, jax.Array]:
        """Means of the central pixels ``[1, N]`` and their derivatives ``[N, P]``."""
        assert self.center is not None
        found = [_central(*x, self.grid.modes, self._sharp_variance) for x in self._parts(values)]
        series = functools.reduce(jnp.add, [x[0] for x in found])
        slopes = jnp.concatenate([x[1] for x in found], axis=-1)
        frame = self.frame(values) if frame is None else frame
        layout = self.model.layout
        return center.means(series, slopes, frame, self.center.chunk, layout, self.center.nodes)

    def frame(self, values: Values, grid: Grid | None = None) -> Frame:
        """All that is not a shell, for the device; on the grid of most pixels, or of a band."""
        grid = grid or self.grid
        every = (
            values.geometry, values.background, values.efficiency,
            values.off_scale - self.data.off_scale, self.floor, self.data.half, grid.step,
            grid.start, self.efficiency_means,
        )  # fmt: skip
        return Frame(*(jnp.asarray(x, jnp.float32) for x in every))

    @property
    def _sharp_variance(self) -> float:
        """Of the known blur alone, pixels^2."""
        return max(self.data.variance - _PIXEL_VARIANCE, 0.0)

    def _parts(self, values: Values):
        return zip(self.model.components, values.components, strict=True)

    def series(
        self, values: Values, grid: Grid | None = None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Sum of the series of all components ``[G, M]``, and the derivatives of each."""
        grid = grid or self.grid
        begun = [_begin_series(*x, grid) for x in self._parts(values)]
        total, slopes = np.zeros((grid.points, len(grid.modes)), np.float32), []
        for end in begun:
            series, columns = end()
            total += series
            slopes.append(columns)
        return total, slopes

    def evaluate(self, values: Values, more: Sequence[np.ndarray] = ()) -> Evaluation:
        """Computes deviance, score and information at some values.

        Args:
            values: of everything.
            more: series that could be added, at an amount of 0 each, ``[G, M, k]``, any number;
                their amounts are the end of the vector. Central pixels do not have them, and to
                those of bands a pixel's width counts twice.
        """
        frame, layout = self.frame(values), self.model.layout
        number, own = sum(x.shape[-1] for x in more), self.model.starts[-1]
        found = [
            wide.evaluate(*part, band.layout)
            for band in self.bands
            for part in self._wide_parts(band, values, more)
        ]
        half, score = 0.0, np.zeros(self.model.size + number)
        information = np.zeros((len(score), len(score)))
        if self.sorted.chunks:
            total, slopes = self.series(values)
            every, on_grid = [*slopes, *more], on_device(total)
            parts = [evaluate_chunk(on_grid, frame, chunk, layout) for chunk in self.sorted.chunks]
            halves, gradients, of_columns, sums = zip(*parts, strict=True)
            half = float(np.sum([np.asarray(x, np.float64) for x in halves]))
            score = self.contract_score(gradients, of_columns, every)
            information = self.contract_information(sums, every)
        for own_half, own_score, own_information in found:
            half += float(own_half)
            score += np.asarray(own_score, np.float64)
            information = information + np.asarray(own_information, np.float64)
        if number:
            order = np.r_[0:own, own + number : len(score), own : own + number]
            score, information = score[order], information[np.ix_(order, order)]
        if self.center is not None:
            found = center.evaluate(*self.central(values, frame), frame, self.center.chunk, layout)
            half += float(found[0])
            size = self.model.size
            score[:size] += np.asarray(found[1], np.float64)
            information[:size, :size] += np.asarray(found[2], np.float64)
        return Evaluation(2 * half, score, information)

    def _wide_parts(
        self, band: Band, values: Values, more: Sequence[np.ndarray] = (), still: bool = False
    ):
        """Arguments of `wide.means`, but for the layout, for each chunk of a band.

        Where the means alone are wanted (`still`) there are no derivatives.
        """
        total, slopes = self.series(values, band.grid)
        slopes = [] if still else slopes
        slopes += [_moved_to(band.grid, x, self.grid) for x in more]
        empty = np.zeros((band.grid.points, len(band.grid.modes), 0), np.float32)
        columns = on_device(np.concatenate([empty, *slopes], axis=-1), _BAND_SIZES)
        on_grid, frame = on_device(total, _BAND_SIZES), self.frame(values, band.grid)
        nothing = jnp.zeros((0,), jnp.float32)
        for matrix, chunk in self._with_matrices(band, frame):
            moved = nothing
            if band.layout.geometry and not still:
                moved = wide.by_geometry(on_grid, frame, chunk, band.layout)
            yield matrix, moved, on_grid, columns, frame, chunk

    def _with_matrices(self, band: Band, frame: Frame) -> Iterator[tuple[jax.Array, Chunk]]:
        """Chunks of a band, each with its matrix.

        Matrices are kept where the geometry is not free and they are not too large.
        """
        chunks, layout = band.sorted.chunks, band.layout
        size = 4 * band.sorted.place.size * len(layout.modes) * wide.window_points(layout)
        if layout.geometry or size > _KEPT:
            for chunk in chunks:
                yield wide.matrix(chunk, frame, layout), chunk
            return
        if band.matrices is None:
            # those of another picture whose pixels lie in the same blocks will do
            arrays = (self.used, band.index, band.sorted.place, np.asarray(frame.geometry))
            key = (str(chunks[0].row.device), layout, band.grid, self.data.counts.shape,
                   *(x.tobytes() for x in arrays))  # fmt: skip
            found = _matrices.get(key)  # other threads may take it out
            if found is None:
                found = [wide.matrix(chunk, frame, layout) for chunk in chunks]
                while len(_matrices) >= _MANY:
                    _matrices.pop(next(iter(tuple(_matrices)), key), None)
                _matrices[key] = found
            band.matrices = found
        yield from zip(band.matrices, chunks, strict=True)

    def explicit(self, values: Values) -> Iterator[tuple[Chunk, jax.Array, jax.Array]]:
        """Pixels whose derivatives are computed one by one: those of bands and the central ones.

        Yields:
            a chunk, its means ``[K, LANES]`` and their derivatives ``[K * LANES, P]``.
        """
        for band in self.bands:
            for part in self._wide_parts(band, values):
                mean, jacobian = wide.means(*part, band.layout)
                flat = jnp.moveaxis(jacobian, 1, 2)
                yield part[-1], mean, flat.reshape(-1, flat.shape[-1])
        if self.center is not None:
            mean, jacobian = self.central(values)
            yield self.center.chunk, mean, jacobian

    def quick(self, values: Values) -> "PictureModel":
        """The same where a blur stands for the width of all pixels.

        Its counts differ from its means by as much as those here do at these values, near which
        score and information are nearly the same.
        """
        if not self.bands:
            return self
        blurred = PictureModel(self.data, self.model, values, exact=False)
        off = np.nan_to_num(blurred.mean(values) - self.mean(values))
        data = dataclasses.replace(self.data, counts=self.data.counts + off)
        return PictureModel(data, self.model, values, exact=False)

    def contract_score(self, gradients, of_columns, slopes: Sequence[np.ndarray]) -> np.ndarray:
        """Turns sums of slope times derivative over pixels into sums by parameters.

        Args:
            gradients: of every chunk by points of the grid, ``[K, 4, M]``.
            of_columns: of every chunk by columns, ``[C]``.
            slopes: derivatives of the series of every shell, from `series`.

        Returns:
            ``[P]``.
        """
        on_grid = np.zeros((self.grid.points, len(self.grid.modes)))
        by_points = self._per_cell(gradients)
        for j in range(4):
            on_grid[self._cells + j] += by_points[:, j]
        own = np.sum([np.asarray(x, np.float64) for x in of_columns], axis=0)
        by_shells = [on_grid.ravel() @ x.reshape(on_grid.size, -1) for x in slopes]
        return np.concatenate([*by_shells, own])

    def contract_information(self, sums, slopes: Sequence[np.ndarray]) -> np.ndarray:
        """Turns sums of w E E' over blocks ``[K, F, F]`` into the sum of w J J', ``[P, P]``."""
        modes, cells = len(self.grid.modes), self._cells
        per_cell = self._per_cell(sums)
        columns = np.concatenate(
            [np.zeros((self.grid.points, modes, 0), np.float32), *slopes], axis=-1
        )
        a, b, c, d = (columns[cells + j] for j in range(4))
        ring, cross = _products((9 * (b + c) - (a + d)) / 16, per_cell, modes)
        corner = per_cell[:, modes:, modes:].sum(axis=0, dtype=np.float64)
        information = np.block([[ring, cross], [cross.T, corner]])
        return 0.5 * (information + information.T)

    @property
    def _cells(self) -> np.ndarray:
        """Cells that hold a block, ascending."""
        return self.sorted.cell[self._starts]

    @property
    def _starts(self) -> np.ndarray:
        """First block of every cell."""
        return np.flatnonzero(np.diff(self.sorted.cell[: self.sorted.blocks], prepend=-1))

    def _per_cell(self, parts) -> np.ndarray:
        """Sums over the blocks of every cell of what chunks have of every block."""
        every = np.concatenate([np.asarray(p) for p in parts])[: self.sorted.blocks]
        return np.add.reduceat(every, self._starts, axis=0)

    def mean(self, values: Values) -> np.ndarray:
        """Mean of every pixel, electrons, ``[H, W]``; NaN where a pixel is not used."""
        frame, layout = self.frame(values), self.model.layout
        flat = np.full(self.used.sum(), np.nan)

        def put(index, own: Sorted, means):
            lanes = np.concatenate([np.asarray(x) for x in means])
            filled = own.place >= 0
            flat[index[own.place[filled]]] = lanes[filled]

        if chunks := self.sorted.chunks:
            on_grid = on_device(self.series(values)[0])
            put(self.rest, self.sorted, [chunk_means(on_grid, frame, c, layout) for c in chunks])
        for band in self.bands:
            held = dataclasses.replace(band.layout, geometry=())
            parts = self._wide_parts(band, values, still=True)
            put(band.index, band.sorted, [wide.means(*part, held)[0] for part in parts])
        if self.center is not None:
            place = self.center.place
            flat[place] = np.asarray(self.central(values, frame)[0])[0, : len(place)]
        found = np.full(self.used.shape, np.nan)
        found[self.used] = flat
        return found.reshape(self.data.counts.shape)


def _joined_bands(bands: list[tuple[float, float]], margin: float) -> list[tuple[float, float]]:
    """Bands widened by a margin; those that overlap are one."""
    found: list[tuple[float, float]] = []
    for low, high in sorted(bands):
        low, high = max(low - margin, 0.0), high + margin
        if found and low <= found[-1][1]:
            low, high = found[-1][0], max(high, found[-1][1])
            found.pop()
        found.append((low, high))
    return found


def _moved_to(grid: Grid, series: np.ndarray, old: Grid) -> np.ndarray:
    """Series ``[G, M, k]`` on another grid, by straight lines."""
    place = np.clip((grid.distances - old.start) / old.step + 1, 0, old.points - 2)
    index = place.astype(int)
    share = (place - index).astype(np.float32)[:, None, None]
    return (1 - share) * series[index] + share * series[index + 1]


def _products(middle: np.ndarray, sums: np.ndarray, modes: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums over cells of w D' E E' D, by the derivatives D of the series, and of w D' E C'.

    A part of a density at r adds nothing to cells farther out than r, so rows of cells are taken
    together and the columns that are 0 in all of them left out: of a continuum, two thirds of all.

    Args:
        middle: D in the middle of every cell, ``[cells, M, S]`` float32.
        sums: of w E E', the columns C behind the modes, ``[cells, F, F]`` float32.
        modes: M.

    Returns:
        ``[S, S]`` and ``[S, C]``, float64.
    """
    cells, size = len(middle), middle.shape[-1]
    ring, cross = np.zeros((size, size)), np.zeros((size, sums.shape[-1] - modes))
    rows = cells if size < _MANY_COLUMNS else -(-cells // _PARTS)
    for first in range(0, cells, max(rows, 1)):
        here, own = middle[first : first + rows], sums[first : first + rows]
        used = np.flatnonzero(here.any(axis=(0, 1)))
        here = here if len(used) == size else here[..., used]
        flat = here.reshape(-1, len(used)).astype(np.float64)
        # blockwise products in single precision, their sum in double
        weighted = np.matmul(own[:, :modes, :modes], here).reshape(flat.shape)
        ring[np.ix_(used, used)] += flat.T @ weighted
        cross[used] += flat.T @ own[:, :modes, modes:].reshape(len(flat), -1)
    return ring, cross


def _begin_series(component: Shell | Continuum, values: np.ndarray, grid: Grid):
    """As `components.begin_series`, of any component of a model."""
    if isinstance(component, Shell):
        return begin_series(component, values, grid)

    def end():
        columns = component.columns(grid)
        return columns @ values.astype(np.float32), columns

    return end


def component_series(component: Shell | Continuum, values: np.ndarray, grid: Grid):
    """The series of a component of a model ``[G, M]``, and its derivatives ``[G, M, size]``."""
    return _begin_series(component, values, grid)()


def on_device(on_grid: np.ndarray, sizes: int = _GRID_SIZES) -> jax.Array:
    """Values on a grid ``[G, ...]`` with zeros behind them, for programs of few different sizes."""
    more = -len(on_grid) % sizes
    return jnp.asarray(np.pad(on_grid, [(0, more)] + [(0, 0)] * (on_grid.ndim - 1)))


def _central(component: Shell | Continuum, values: np.ndarray, modes, variance: float):
    """The same, times s, at the distances of `center.distances`."""
    if isinstance(component, Shell):
        return center.central_series(component, values, modes, variance)
    columns = component.central_columns(modes, variance)
    return jnp.asarray(columns @ values.astype(np.float32)), columns


def ideal_points(
    row: np.ndarray, column: np.ndarray, geometry: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points in the ideal picture, along the polarisation and across it, pixels; NumPy."""
    z, x, _ = (np.asarray(v) for v in _ideal(row, column, geometry.astype(np.float32)))
    return z, x


def ideal_distance(row: np.ndarray, column: np.ndarray, geometry: np.ndarray) -> np.ndarray:
    """Distance of points from the centre of the ideal picture, pixels; NumPy."""
    if not geometry[3:].any():
        return np.hypot(row - np.float32(geometry[0]), column - np.float32(geometry[1]))
    return np.hypot(*ideal_points(row, column, geometry))


_ideal = jax.jit(geo.to_ideal)
