"""Finds shells in a picture from the picture alone; needs no network and no start values.

The picture is summed up on rings: with weights that do not change (the inverse of a ring's
mean count), all that it says of series A_m(s) of low order is, for every cell of distance, a small
linear system (`Rings`). In this space, whose size does not depend on the number of pixels, shells
are looked for one after the other:

1. The model so far leaves a residual. Thin shells of a ladder of radii and widths are tried in it:
   U' G^-1 U says by how much each would lower the sum of squares if its yield and betas were free,
   U its score and G its information, after everything that the present shells could explain is
   projected out. So a ring that is merely a little wide or misplaced does not call for a second
   one.
2. The best one joins the model, and it and its neighbours are fitted again. Where it lies beside a
   shell, that shell may be two that overlap: it is also tried to split it, and what fits better
   stays. Of a few shells each is tried.
"""

import dataclasses
import functools

import numpy as np
import scipy.special

from sevi_jax.estimation.scoring import Limits, search
from sevi_jax.model.components import Grid, Shell, modes_of, shell_series
from sevi_jax.model.means import BACKGROUNDS, Layout, evaluate_chunk
from sevi_jax.model.picture_model import (
    Data,
    Evaluation,
    Model,
    PictureModel,
    Values,
    on_device,
)
from sevi_jax.physics.series import cosine_transform

_WIDTHS = (1.0, 2.5, 6.0, 15.0)  # sigmas of the ladder, pixels of the searched picture
_NARROWEST = 1.25  # pixels: the rings' grid is made for shells of this width
_SPACING = 0.75  # of its radii, in sigma
_MISFIT = 0.05  # of the counts of a ring that its shape may differ by
_BESIDE = 3.0  # a thin shell is beside another within so many times the sum of their sigmas
_FEW = 3  # shells: each of them is tried as two
_WEAK = 0.05  # of all electrons: a stronger shell by itself is not dropped
_NEIGHBOURS = 8.0  # shells within so many times the sum of sigmas are fitted with a new one
_ITERATIONS = 8
_FALSE_ALARMS = 1000  # pictures in one of which a shell that is not there is found
MOST_SHELLS = 40
_TRIED_ORDERS = 2  # of the orders asked for, the lowest are what is looked for
_LIKE_CELLS = 64  # a ladder is made for a multiple of so many cells


@dataclasses.dataclass(frozen=True)
class Rings:
    """What a picture says of series, cell by cell: the sum over cells of (a - b)' H (a - b).

    Attributes:
        information: H, ``[C, M, M]``.
        right: H b, ``[C, M]``.
        constant: the sum of b' H b.
        cells: of distances: cell c is between the points c + 1 and c + 2 of the grid, ``[C]``.
        counts: electrons in each, ``[C]``.
        pixels: exposure in each, ``[C]``.
        grid: of the series.
    """

    information: np.ndarray
    right: np.ndarray
    constant: float
    cells: np.ndarray
    counts: np.ndarray
    pixels: np.ndarray
    grid: Grid

    @property
    def distances(self) -> np.ndarray:
        """Middles of the cells, pixels, ``[C]``."""
        return (self.cells + 0.5) * self.grid.step

    def middle(self, on_grid: np.ndarray) -> np.ndarray:
        """Values on the grid ``[G, ...]`` to the middles of the cells ``[C, ...]``."""
        a, b, c, d = (on_grid[self.cells + j] for j in range(4))
        return (9 * (b + c) - (a + d)) / 16

    def lenient(self) -> "Rings":
        """The same with every ring free to differ by a few per cent."""
        share = 1 / (1 + _MISFIT**2 * self.counts)
        return dataclasses.replace(
            self,
            information=self.information * share[:, None, None],
            right=self.right * share[:, None],
        )


def sum_rings(data: Data, values: Values, modes: tuple[int, ...], sigma: float) -> Rings:
    """Sums a picture up on rings about the geometry of `values`.

    Args:
        data: the picture.
        values: the geometry counts.
        modes: m of the series.
        sigma: narrowest ring that matters, pixels: the grid follows it.
    """
    model = Model((Shell(tuple(m for m in modes if m) or (2,)),), Layout(modes))
    thin = Values(
        (np.array([100.0 * sigma, sigma, 1.0] + [0.0] * (len(modes) - 1)),), values.geometry
    )
    picture = PictureModel(data, model, thin, exact=False)
    grid = dataclasses.replace(picture.grid, modes=modes)
    blocks, cell = picture.sorted.blocks, picture.sorted.cell
    starts = np.flatnonzero(np.diff(cell[:blocks], prepend=-1))
    cells = cell[starts]

    def per_cell(values_of_blocks):
        return np.add.reduceat(np.concatenate(values_of_blocks)[:blocks], starts, axis=0)

    chunks = picture.sorted.chunks
    counts = per_cell([np.asarray(c.counts, np.float64).sum(1) for c in chunks])
    pixels = per_cell([np.asarray(c.exposure, np.float64).sum(1) for c in chunks])
    width = max(1, round(1.0 / grid.step))
    window = np.ones(2 * width + 1)

    def along(per_cell_values):
        every = np.zeros(grid.points)
        every[cells] = per_cell_values
        return np.convolve(every, window, mode="same")

    counts = np.maximum(counts, 0.0)  # differences of pictures may be negative
    level = counts.sum() / pixels.sum()
    density = along(counts) / np.maximum(along(pixels), 1e-9)
    # a cell's middle lies half way to the next point; the reference need not be exact
    reference = np.zeros((grid.points, len(modes)), np.float32)
    reference[1:, 0] = density[:-1]
    reference[:, 0] += 0.03 * level
    frame = picture.frame(thin)
    layout = Layout(modes, normal=data.noise is not None)
    on_grid = on_device(reference)
    parts = [evaluate_chunk(on_grid, frame, c, layout) for c in chunks]
    score = per_cell([np.asarray(p[1], np.float64).sum(1) for p in parts])
    information = per_cell([np.asarray(p[3]) for p in parts]).astype(np.float64)
    rings = Rings(information, score, 0.0, cells, counts, pixels, grid)
    held = rings.middle(reference).astype(np.float64)
    right = score + np.einsum("cij,cj->ci", information, held)
    # where a cell has few pixels H may not be of full rank; b is what the pseudo-inverse gives
    best = np.einsum("cij,cj->ci", np.linalg.pinv(information, rcond=1e-6, hermitian=True), right)
    return dataclasses.replace(rings, right=right, constant=float(np.sum(best * right)))


class RingModel:
    """Shells on rings; has what `scoring.search` needs of a picture.

    Args:
        rings: the data.
        shells: which are free.
        fixed: series of all that is held, ``[C, M]``.
        background: whether a constant background is free.
    """

    def __init__(self, rings: Rings, shells, fixed: np.ndarray | None, background: bool):
        self.rings = rings
        self.model = Model(tuple(shells), Layout(rings.grid.modes, (), int(background)))
        self.fixed = fixed
        self.size = len(rings.cells)

    def ensure_sorted(self, values: Values) -> None:
        """Does nothing: rings stay where they are."""

    def columns(self, values: Values) -> tuple[np.ndarray, np.ndarray]:
        """Series of the model ``[C, M]`` and its derivatives ``[C, M, P]``."""
        rings = self.rings
        count = len(rings.cells), len(rings.grid.modes)
        total = np.zeros(count) if self.fixed is None else self.fixed.copy()
        slopes = []
        for shell, v in zip(self.model.shells, values.shells, strict=True):
            series, columns = shell_series(shell, v, rings.grid)
            total += rings.middle(series)
            slopes.append(rings.middle(columns))
        if self.model.layout.background:
            total[:, 0] += values.background[0]
            constant = np.zeros((*count, 1))
            constant[:, 0] = 1.0
            slopes.append(constant)
        return total, np.concatenate(slopes, axis=-1) if slopes else np.zeros((*count, 0))

    def evaluate(self, values: Values) -> Evaluation:
        """Sum of squares, score and information."""
        total, slopes = self.columns(values)
        rings = self.rings
        pulled = np.einsum("cij,cj->ci", rings.information, total)
        residual = rings.right - pulled
        square = rings.constant - float(np.sum(total * (rings.right + residual)))
        flat = slopes.reshape(-1, slopes.shape[-1])
        weighted = np.matmul(rings.information, slopes).reshape(flat.shape)
        return Evaluation(square, flat.T @ residual.ravel(), flat.T @ weighted)


@functools.lru_cache(maxsize=8)
def _thin_kernel(grid: Grid, cells: int, orders: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Series of thin shells at the middles of all cells, ``[cells, M, L, K]``, and their radii.

    The projection of a shell between a and b, with s the distance and c the cosine, is
    P_n(s c / r) (sqrt(b^2 - s^2)_+ - sqrt(a^2 - s^2)_+) / (2 pi r^2 (b - a)).
    """
    spacing = 2 * grid.step
    edges = np.arange(int(cells / 2) + 1) * spacing
    radius = edges[:-1] + spacing / 2
    s = (np.arange(cells) + 0.5) * grid.step
    chord = np.diff(np.sqrt(np.maximum(edges**2 - s[:, None] ** 2, 0.0)), axis=1)
    amount = chord / (2 * np.pi * radius**2 * spacing)
    cosine, to_series = cosine_transform(grid.modes)
    ratio = np.minimum(s[:, None] / radius, 1.0)[..., None] * cosine
    found = [
        np.einsum("sk,ska,am->smk", amount, scipy.special.eval_legendre(n, ratio), to_series)
        for n in orders
    ]
    return np.stack(found, axis=2).astype(np.float32), radius


@functools.lru_cache(maxsize=8)
def _ladder(
    grid: Grid,
    cells: int,
    orders: tuple[int, ...],
    low: float,
    high: float,
    widths: tuple[float, float],
):
    """Thin shells that are tried: radius and sigma ``[K]``, series ``[cells, M, L, K]``."""
    kernel, thin = _thin_kernel(grid, cells, orders)
    radii, sigmas = [], []
    for sigma in _WIDTHS:
        # one that is far too wide may cover several rings, and no allowed one is near it
        if not widths[0] <= sigma <= 2.5 * widths[1]:
            continue
        found = np.arange(max(low, 0.5 * sigma), high, _SPACING * sigma)
        radii.append(found)
        sigmas.append(np.full(len(found), sigma))
    radius, sigma = np.concatenate(radii), np.concatenate(sigmas)
    weight = np.exp(-0.5 * ((thin[:, None] - radius) / sigma) ** 2).astype(np.float32)
    total = weight.sum(0)
    keep = total > 0
    return radius[keep], sigma[keep], kernel @ (weight[:, keep] / total[keep])


def _gains(rings: Rings, ladder: np.ndarray, total: np.ndarray, slopes: np.ndarray):
    """What every thin shell would lower the sum of squares by, ``[K]``, and its amounts ``[K, L]``.

    Args:
        rings: the data.
        ladder: ``[C, M, L, K]``.
        total: series of the present model, ``[C, M]``.
        slopes: its derivatives, ``[C, M, P]``.
    """
    cells, modes, orders, count = ladder.shape
    information = rings.information.astype(np.float32)
    flat = ladder.reshape(cells, modes, -1)
    weighted = np.matmul(information, flat).reshape(cells * modes, orders, count)
    residual = rings.right - np.einsum("cij,cj->ci", rings.information, total)
    score = np.tensordot(residual.ravel().astype(np.float32), ladder.reshape(-1, orders, count), 1)
    own = np.einsum("xak,xbk->kab", weighted, ladder.reshape(-1, orders, count), optimize=True)
    own = own.astype(np.float64)
    score = score.T.astype(np.float64)  # [K, L]
    if slopes.shape[-1]:
        columns = slopes.reshape(cells * modes, -1)
        scale = np.linalg.norm(columns, axis=0)
        columns = columns / np.where(scale > 0, scale, 1.0)
        held = np.matmul(rings.information, columns.reshape(cells, modes, -1)).reshape(
            columns.shape
        )
        fisher = columns.T @ held
        diagonal = np.sqrt(np.maximum(np.diagonal(fisher), 1e-300))
        fisher = fisher / np.outer(diagonal, diagonal) + 1e-5 * np.eye(len(diagonal))
        cross = np.einsum("xp,xak->kap", columns.astype(np.float32), weighted, optimize=True)
        cross = cross.astype(np.float64) / diagonal
        solved = np.linalg.solve(fisher, cross.reshape(-1, len(diagonal)).T).T.reshape(cross.shape)
        score -= solved @ (columns.T @ residual.ravel() / diagonal)
        own -= np.einsum("kap,kbp->kab", solved, cross)
    own += 1e-3 * np.einsum("kaa->ka", own)[:, None] * np.eye(orders) + 1e-30 * np.eye(orders)
    amounts = np.linalg.solve(own, score[..., None])[..., 0]
    gain = np.sum(amounts * score, axis=-1)
    return np.where(amounts[:, 0] > 0, gain, -np.inf), amounts


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The shell that looks most like two: of their electrons, mean and variance."""
    weights = np.maximum([first[2], second[2]], 1e-9)
    radii, sigmas = np.array([first[0], second[0]]), np.array([first[1], second[1]])
    radius = np.average(radii, weights=weights)
    variance = np.average(sigmas**2 + (radii - radius) ** 2, weights=weights)
    return np.array([radius, np.sqrt(variance), *(first[2:] + second[2:])])


@dataclasses.dataclass(frozen=True)
class Guess:
    """Shells on rings.

    Attributes:
        shells: parameters of each, as `components.Shell` has them.
        background: electrons per pixel.
        square: the sum of squares that is left.
        gains: by how much each shell lowered it when it came.
    """

    shells: tuple[np.ndarray, ...]
    background: float
    square: float
    gains: tuple[float, ...]


class Finder:
    """Looks for shells one by one.

    Args:
        rings: the data.
        orders: that shells may have.
        limits: ranges of radius, sigma and yield.
        background: whether a constant background is free.
    """

    def __init__(self, rings: Rings, orders: tuple[int, ...], limits: Limits, background: bool):
        self.rings, self.gentle = rings, rings.lenient()
        self.shell = Shell(tuple(sorted(orders)[:_TRIED_ORDERS]))
        self.limits, self.background = limits, background
        # the same ladder for many pictures: it takes longer than all the rest of the search
        cells = -(-(int(rings.cells.max()) + 1) // _LIKE_CELLS) * _LIKE_CELLS
        with_zero, reach = (0, *self.shell.orders), cells * rings.grid.step
        radius, sigma, series = _ladder(
            rings.grid, cells, with_zero, limits.radius[0], reach, limits.sigma
        )
        keep = radius < min(limits.radius[1], rings.distances.max())
        self.radius, self.sigma = radius[keep], sigma[keep]
        self.series = series[rings.cells][..., keep]
        level = 0.0
        if background:
            outer = rings.distances > 0.9 * rings.distances.max()
            level = float(rings.counts[outer].sum() / max(rings.pixels[outer].sum(), 1e-9))
        self.guess = Guess((), level, rings.constant, ())

    def add(self) -> Guess:
        """Adds the shell that pays most; returns the new guess."""
        old = self.guess
        everything = RingModel(self.gentle, [self.shell] * len(old.shells), None, self.background)
        total, slopes = everything.columns(self._values(old))
        gain, amounts = _gains(self.gentle, self.series, total, slopes)
        best = int(np.argmax(gain))
        counts = self.rings.counts.sum()
        electrons = float(np.clip(amounts[best, 0], 1e-4 * counts, counts))
        beta = np.clip(amounts[best, 1:] / electrons, -0.9, 1.9)
        new = np.array([self.radius[best], self.sigma[best], electrons, *(electrons * beta)])
        attempts = [self._refined((*old.shells, new), len(old.shells))]
        beside = [i for i, v in enumerate(old.shells) if self._apart(v, new) < _BESIDE]
        # any of a few shells may be two, however little a third one beside it would tell
        if len(old.shells) <= _FEW:
            beside = list(range(len(old.shells)))
        attempts += [self._split(i) for i in beside]
        found = min(attempts, key=lambda guess: guess.square)
        self.guess = dataclasses.replace(found, gains=(*old.gains, old.square - found.square))
        return self.guess

    def _split(self, place: int) -> Guess:
        """Replaces a shell by two that look like it together."""
        old = list(self.guess.shells)
        radius, sigma, *amounts = old[place]
        half = [0.8 * sigma, *(0.5 * np.array(amounts))]
        old[place] = np.array([max(radius - 0.6 * sigma, self.limits.radius[0]), *half])
        return self._refined((*old, np.array([radius + 0.6 * sigma, *half])), place, len(old))

    def drop(self, needed: float) -> bool:
        """Drops the shell that pays least, or joins it with a neighbour.

        Args:
            needed: what a shell must pay.

        Returns:
            Whether there was one that pays less.
        """
        old = self.guess
        order = np.argsort([v[0] for v in old.shells])
        attempts = []
        for place, i in enumerate(order):
            rest = [j for j in range(len(old.shells)) if j != i]
            beside = [int(order[k]) for k in (place - 1, place + 1) if 0 <= k < len(order)]
            near = min(beside, key=lambda j: abs(old.shells[j][0] - old.shells[i][0]))
            shells = [old.shells[j] for j in rest]
            if self._apart(old.shells[i], old.shells[near]) < _BESIDE:
                shells[rest.index(near)] = _joined(old.shells[i], old.shells[near])
            elif old.shells[i][2] > _WEAK * self.rings.counts.sum():
                continue  # it is by itself, and strong
            attempts.append(self._refined(tuple(shells), rest.index(near)))
        if not attempts:
            return False
        found = min(attempts, key=lambda guess: guess.square)
        if found.square - old.square >= needed:
            return False
        self.guess = dataclasses.replace(found, gains=old.gains)
        return True

    @staticmethod
    def _apart(first: np.ndarray, second: np.ndarray) -> float:
        """Distance of two shells over the sum of their widths."""
        return abs(first[0] - second[0]) / (first[1] + second[1])

    def _values(self, guess: Guess) -> Values:
        background = np.zeros(BACKGROUNDS["smooth"])
        background[0] = guess.background
        return Values(guess.shells, background=background)

    def _refined(self, shells: tuple[np.ndarray, ...], *changed: int) -> Guess:
        """Fits some shells and their neighbours again, the others held."""
        near = {
            i
            for i, v in enumerate(shells)
            for j in changed
            if abs(v[0] - shells[j][0]) < _NEIGHBOURS * (v[1] + shells[j][1])
        } | set(changed)
        free = sorted(near)
        held = [i for i in range(len(shells)) if i not in near]
        fixed = None
        if held:
            others = RingModel(self.rings, [self.shell] * len(held), None, False)
            fixed, _ = others.columns(Values(tuple(shells[i] for i in held)))
        model = RingModel(self.rings, [self.shell] * len(free), fixed, self.background)
        start = self._values(Guess(tuple(shells[i] for i in free), self.guess.background, 0.0, ()))
        found = search(model, start, self.limits, iterations=_ITERATIONS, tolerance=1.0)
        every = list(shells)
        for i, v in zip(free, found.values.shells, strict=True):
            every[i] = v
        level = float(found.values.background[0])
        return Guess(tuple(every), level, found.evaluation.deviance, ())


def find_shells(
    data: Data,
    values: Values,
    count: int | None,
    orders: tuple[int, ...],
    limits: Limits,
    background: bool,
) -> Guess:
    """Finds shells about a given origin.

    Where their number is not given, shells are added while the likelihood pays for them: while the
    sum of squares falls by more than chance lets it fall in one of `_FALSE_ALARMS` pictures, taking
    into account at how many radii a shell is looked for. Then those are dropped, or joined with
    their neighbour, that no longer pay; a ring that was split for want of its neighbours is whole
    again.

    Args:
        data: the picture, at most some 300 pixels a side.
        values: the geometry counts.
        count: S, or None to find it out.
        orders: that shells may have.
        limits: ranges, pixels of this picture.
        background: whether a constant background is free.
    """
    tried = tuple(sorted(orders)[:_TRIED_ORDERS])
    rings = sum_rings(data, values, modes_of((Shell(tried),)), max(limits.sigma[0], _NARROWEST))
    finder = Finder(rings, orders, limits, background)
    if count is not None:
        for _ in range(count):
            finder.add()
        return finder.guess
    places = (rings.distances.max() - limits.radius[0]) / max(limits.sigma[0], 1.0)
    needed = float(scipy.special.chdtri(3 + len(tried), 1 / (_FALSE_ALARMS * places)))
    best = finder.guess
    while len(best.shells) < MOST_SHELLS:
        guess = finder.add()
        if guess.gains[-1] < needed and best.shells:
            break
        best = guess
    finder.guess = best
    while len(finder.guess.shells) > 1 and finder.drop(needed):
        pass
    return finder.guess
