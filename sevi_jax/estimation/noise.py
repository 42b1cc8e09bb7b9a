"""Size of the noise, told from the residual of a fit: gain, pixels that differ, variances.

The variance of a pixel is a sum of amounts times terms,

    Var = g m + f^2 m^2 + sum_k c_k h_k,

m the fitted mean of the signal, h_k tents over the picture (only for differences of pictures, for
what was subtracted). Amounts are fitted to squares of second differences of the residual, along
that of four directions which is nearest to the tangent of the rings: there a model that misses the
shape of a ring is smooth, so that what is seen is the noise of single pixels. Weights follow the
variance of such squares, 2 Var^2 + Var / 2 for few counts, amounts are not negative, and their
errors are those of an estimating equation whose sums over small squares of the picture scatter as
they do.
"""

import dataclasses

import numpy as np

from sevi_jax.estimation.goodness import Goodness, judge_by_parts
from sevi_jax.estimation.preparing import Noise, Prepared, less_off, raised
from sevi_jax.model.picture_model import Model, PictureModel, Values

_DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))  # rows and columns, by angle from the columns
_INNER = 3.0  # pixels: closer to the centre rings have no tangent
_BLOCK = 8  # pixels a side of the squares that are taken as independent
_MOST = 400_000  # second differences are enough
_KURTOSIS = 0.5  # sum of the fourth powers of the weights of a second difference
# Variance of a square less that of the second difference, over the pixel's variance^2: in the sum
# squares cancel, products of pixels 1 and 2 apart are left, which gives (8/6)^2 + (2/6)^2.
_CROSS = 17 / 9
_PASSES = 12
_FEWEST_SINGLE = 60  # pixels of one electron
_SINGLE = 3  # electrons, up to which values stand apart or nearly so
_COMB_PASSES = 60
_SAME = 0.15  # by which the variance of bright pixels may be off
_WIDEST_COMB = 0.15  # f beyond which one electron and two do not stand apart
_PIECE = 192
_NODES = 3  # along a side of the picture
_RINGS = 20  # between the origin and the farthest corner
_CLOSEST = 5.0  # pixels between them: no closer than a ring is wide

_SURE = 4.0  # standard errors
_VISIBLE = 0.05  # of a bright pixel's variance: a smaller part of f is left out
_NEAR_STEP = 1.33  # a gain is taken for the step where it is that near
_ROUNDS = 2  # of estimated noise
_OFF_ROUNDS = 5
_SETTLED = 0.05  # standard errors that the ratio of exposures still moves
_SAME_NOISE = 0.25  # standard errors of gain and spread that are not worth another fit


@dataclasses.dataclass(frozen=True)
class Contrasts:
    """Second differences of a picture along tangents; N of them.

    Attributes:
        center, before, after: flat indices of the three pixels, ``[N]``.
        block: number of the square that the middle one lies in, ``[N]``.
    """

    center: np.ndarray
    before: np.ndarray
    after: np.ndarray
    block: np.ndarray

    def squares(self, residual: np.ndarray) -> np.ndarray:
        """Squared second differences, of norm 1, ``[N]``."""
        flat = residual.ravel()
        return (flat[self.before] - 2 * flat[self.center] + flat[self.after]) ** 2 / 6

    def expected(self, variance: np.ndarray) -> np.ndarray:
        """Their mean where pixels have this variance, ``[N]``."""
        flat = variance.ravel()
        return (flat[self.before] + 4 * flat[self.center] + flat[self.after]) / 6

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over squares of the picture, of ``[..., N]``."""
        order = np.argsort(self.block, kind="stable")
        starts = np.flatnonzero(np.diff(self.block[order], prepend=-1))
        return np.add.reduceat(values[..., order], starts, axis=-1)


def contrasts(used: np.ndarray, origin: tuple[float, float]) -> Contrasts:
    """Chooses the second differences of a picture.

    Args:
        used: pixels that are used, ``[H, W]`` bool.
        origin: (row, column), pixels from the corner.
    """
    height, width = used.shape
    row = np.arange(height)[:, None] + 0.5 - origin[0]
    column = np.arange(width)[None] + 0.5 - origin[1]
    # angle of the tangent (-column, row) from the columns, in units of 45 degrees
    choice = np.rint(np.arctan2(-column, row) / (np.pi / 4)).astype(int) % 4
    far = row**2 + column**2 > _INNER**2
    flat = np.arange(height * width).reshape(height, width)
    block = (
        np.arange(height)[:, None] // _BLOCK * (-(-width // _BLOCK)) + np.arange(width) // _BLOCK
    )
    every = max(1, height * width // _MOST)
    inside = (slice(1, -1), slice(1, -1))
    chosen = far[inside] & used[inside] & (block[inside] % every == 0)
    parts = []
    for number, (i, k) in enumerate(_DIRECTIONS):
        step = i * width + k
        here = np.flatnonzero(chosen & (choice[inside] == number))
        center = flat[inside].ravel()[here]
        both = used.ravel()[center - step] & used.ravel()[center + step]
        center = center[both]
        parts.append((center, center - step, center + step, block.ravel()[center]))
    return Contrasts(*(np.concatenate(x) for x in zip(*parts, strict=True)))


@dataclasses.dataclass(frozen=True)
class Amounts:
    """Fitted amounts of the terms.

    Attributes:
        values: ``[K]``, not negative.
        covariance: ``[K, K]``; 0 where an amount is 0.
    """

    values: np.ndarray
    covariance: np.ndarray

    def error(self, number: int) -> float:
        """Standard error of an amount."""
        return float(np.sqrt(max(self.covariance[number, number], 0.0)))


def fit_amounts(squares: np.ndarray, terms: np.ndarray, chosen: Contrasts) -> Amounts:
    """Fits amounts to squares whose means are sums of terms.

    Args:
        squares: ``[N]``.
        terms: ``[K, N]``; the first is the mean number of electrons.
        chosen: where they lie.
    """
    count = len(terms)
    values = np.zeros(count)
    values[0] = squares.sum() / max(terms[0].sum(), 1e-300)
    variance = np.full(len(squares), squares.mean())
    if count > 2:
        values[2:] = np.median(squares)
    scale = np.maximum(terms.mean(axis=1), 1e-300)
    scaled = terms / scale[:, None]
    amounts = values * scale
    for _ in range(_PASSES):
        gain = amounts[0] / scale[0]
        variance = np.maximum(amounts @ scaled, 1e-4 * squares.mean() + 1e-300)
        weight = 1 / (2 * variance**2 + _KURTOSIS * gain**2 * variance)
        matrix, right = _moments(scaled, weight, squares)
        size = np.sqrt(np.diagonal(matrix))
        size = np.where(size > 0, size, 1.0)
        lower = np.linalg.cholesky(matrix / np.outer(size, size) + 1e-10 * np.eye(count))
        from scipy.optimize import nnls  # takes a fifth of a second to load, and is rarely needed

        found, _ = nnls(lower.T, np.linalg.solve(lower, right / size))
        new = found / size
        if np.allclose(new, amounts, rtol=1e-3, atol=1e-3 * np.abs(new).max()):
            amounts = new
            break
        amounts = new
    free = amounts > 0
    score = chosen.sums((scaled[free] * weight) * (squares - amounts @ scaled))
    inverse = np.linalg.pinv(matrix[np.ix_(free, free)], hermitian=True)
    covariance = np.zeros((count, count))
    covariance[np.ix_(free, free)] = inverse @ (score @ score.T) @ inverse
    return Amounts(amounts / scale, covariance / np.outer(scale, scale))


def _moments(terms: np.ndarray, weight: np.ndarray, squares: np.ndarray):
    """Weighted products of terms with terms and squares, summed piece by piece.

    Pieces are so small that no thread is started for them: on a busy machine that takes longer.
    """
    weighted = terms * weight
    matrix = np.zeros((len(terms), len(terms)))
    for first in range(0, terms.shape[1], _PIECE):
        piece = slice(first, first + _PIECE)
        matrix += weighted[:, piece] @ terms[:, piece].T
    return matrix, np.sum(weighted * squares, axis=1)


def tents(shape: tuple[int, ...], origin: tuple[float, float]) -> list[np.ndarray]:
    """Functions that are not negative, of the place and of the distance from the origin.

    Args:
        shape: H, W.
        origin: (row, column), pixels from the corner.

    Returns:
        ``[H, W]`` each: bilinear between the nodes of a coarse net, and linear between distances.
    """

    def along(place, nodes):
        return np.maximum(1 - np.abs(place - np.arange(nodes)[:, None]), 0.0)

    rows, columns = (along(np.linspace(0, _NODES - 1, n), _NODES) for n in shape)
    found = [np.outer(row, column) for row in rows for column in columns]
    row = np.arange(shape[0])[:, None] + 0.5 - origin[0]
    column = np.arange(shape[1])[None] + 0.5 - origin[1]
    distance = np.hypot(row, column)
    spacing = max(distance.max() / _RINGS, _CLOSEST)
    place = (distance / spacing).ravel()
    count = int(place.max()) + 2
    return found + [ring.reshape(shape) for ring in along(place, count)]


@dataclasses.dataclass(frozen=True)
class Scatter:
    """How a residual scatters, in the electrons that the fit had.

    Attributes:
        gain: g, the variance over the mean.
        gain_error: standard error of it.
        spread: f, 0 where it is not seen.
        spread_error: standard error of it.
        variance: of every pixel, ``[H, W]``.
        excess: mean square of the residual over that variance.
    """

    gain: float
    gain_error: float
    spread: float
    spread_error: float
    variance: np.ndarray
    excess: float


def scatter_of(prepared: Prepared, mean: np.ndarray, origin: tuple[float, float]) -> Scatter:
    """Estimates how the residual of a fit scatters.

    Args:
        prepared: what was fitted.
        mean: of the signal, electrons ``[H, W]``; NaN where a pixel is not used.
        origin: (row, column), pixels from the corner.
    """
    data = prepared.data
    used = data.exposure > 0
    held = np.where(used, np.maximum(np.nan_to_num(mean), 0.0), 0.0)
    residual = np.where(used, data.counts - np.nan_to_num(mean), 0.0)
    chosen = contrasts(used, origin)
    linear = held
    if data.off is not None:
        linear = held + data.off_scale * (1 + data.off_scale) * data.off
    terms = [linear, held**2]
    if prepared.noise.negative:
        terms += tents(held.shape, origin)
    seen = np.stack([chosen.expected(term) for term in terms])
    some = seen.any(axis=1)
    some[:2] = True
    terms, seen = [term for term, there in zip(terms, some, strict=True) if there], seen[some]
    squares = chosen.squares(residual)
    amounts = fit_amounts(squares, seen, chosen)
    values, gain_error = amounts.values, amounts.error(0)
    bright = float(np.quantile(held[used], 0.99))
    visible = values[1] * bright > _VISIBLE * values[0]
    sure = values[1] > _SURE * amounts.error(1)
    # where the gain is not known, the share that f may have in the scatter is part of its error
    if not visible or (prepared.noise.step and not sure):
        kept = np.delete(np.arange(len(terms)), 1)
        fewer = fit_amounts(squares, seen[kept], chosen)
        values = np.insert(fewer.values, 1, 0.0)
        if prepared.noise.step:
            gain_error = fewer.error(0)
    spread = float(np.sqrt(values[1]))
    spread_error = amounts.error(1) / (2 * spread) if spread else 0.0
    if prepared.noise.source == "scatter" and not prepared.noise.negative and data.off is None:
        single = fit_comb(data.counts[used], float(values[0]))
        if single is not None:
            fine = np.array([single[0], single[2] ** 2])
            # that bright pixels scatter so, too, shows that it is pixels that differ
            powers = np.array([1.0, bright])
            if abs((fine @ powers) / (values @ powers) - 1) < _SAME:
                values = fine
                gain_error, spread, spread_error = single[1], single[2], single[3]
    variance = sum(v * term for v, term in zip(values, terms, strict=True) if v > 0)
    variance = raised(np.broadcast_to(variance, held.shape), used)
    excess = float((residual**2).sum() / variance[used].sum())
    return Scatter(float(values[0]), gain_error, spread, spread_error, variance, excess)


def fit_comb(values: np.ndarray, gain: float) -> tuple[float, float, float, float] | None:
    """Value of one electron and f, from pixels of few electrons, whose values stand apart.

    Values of n electrons are taken as normal numbers about n g of the width n f g.

    Args:
        values: of pixels, ``[N]``.
        gain: about g, to 20 %.

    Returns:
        g and its error, f and its error; None where the values of one electron and of two do not
        stand apart, or are few.
    """
    near = values[(values > 0.3 * gain) & (values < 5.5 * gain)]

    def number(low, high):
        return np.count_nonzero((near > low * gain) & (near < high * gain))

    if number(0.8, 1.2) < _FEWEST_SINGLE or number(1.35, 1.65) > 0.4 * number(0.85, 1.15):
        return None
    electrons = np.arange(1, 9)[:, None]
    weight, width, center = np.full((8, 1), 1 / 8), 0.1, gain
    part = np.zeros((8, len(near)))
    for _ in range(_COMB_PASSES):
        spread = electrons * width * center
        part = weight / spread * np.exp(-0.5 * ((near - electrons * center) / spread) ** 2)
        part /= np.maximum(part.sum(axis=0), 1e-300)
        # those of many electrons are cut off by the range, and say nothing of centre and width
        weight = part.mean(axis=1, keepdims=True)
        ratio, share = near / electrons, part[:_SINGLE]
        center = float((share * ratio[:_SINGLE]).sum() / share.sum())
        square = float((share * (ratio[:_SINGLE] - center) ** 2).sum() / share.sum())
        width = max(np.sqrt(square) / center, 1e-4)
    count = float(part[:_SINGLE].sum())
    if not 0.8 < center / gain < 1.25 or width > _WIDEST_COMB:
        return None
    return center, center * width / np.sqrt(count), width, width / np.sqrt(2 * count)


def revised(
    prepared: Prepared, fitted: PictureModel, values: Values, off_scale_error: float, likely: bool
) -> tuple[Prepared, Values] | None:
    """Revises the noise after a fit.

    Args:
        prepared: what was fitted.
        fitted: data and model.
        values: the fit.
        off_scale_error: standard error of the ratio of exposures, 0 where it was given.
        likely: whether the counts scatter as the noise says.

    Returns:
        What is to be fitted, and values to start at; None where the noise stays as it is.
    """
    noise = prepared.noise
    is_off = prepared.on is not None
    moved = abs(values.off_scale - prepared.data.off_scale) if is_off else 0.0
    first = is_off and noise.rounds < _ROUNDS  # its variance is still rough
    unsettled = first or moved > _SETTLED * off_scale_error
    unknown = (noise.estimated or not likely) and noise.rounds < _ROUNDS * (2 if is_off else 1)
    if not (unknown or unsettled) or noise.rounds >= _OFF_ROUNDS:
        return None
    mean = np.nan_to_num(fitted.mean(values))
    new = dataclasses.replace(noise, rounds=noise.rounds + 1, off_scale_error=off_scale_error)
    if is_off:
        assert prepared.data.off is not None
        mean = mean - (values.off_scale - prepared.data.off_scale) * prepared.data.off
        prepared = less_off(prepared, values.off_scale, mean)
        new = dataclasses.replace(new, off_scale=values.off_scale)
    if first and not noise.estimated:
        return dataclasses.replace(prepared, noise=new), values
    scatter = scatter_of(prepared, mean, origin_of(values, mean.shape))
    gain, source, error = _judged_gain(noise, scatter)
    if noise.rounds and not (is_off or noise.negative) and source == noise.source:
        away = abs(gain / noise.gain - 1), abs(scatter.spread - noise.spread)
        errors = error, scatter.spread_error
        if all(x <= _SAME_NOISE * own for x, own in zip(away, errors, strict=True)):
            return None
    if not noise.estimated and source == noise.source and not scatter.spread:
        return (dataclasses.replace(prepared, noise=new), values) if unsettled else None
    needed = noise.negative or is_off or scatter.spread > 0
    new = dataclasses.replace(
        new, estimated=needed or source in ("scatter", "unknown"), source=source,
        gain_error=error, spread=scatter.spread, spread_error=scatter.spread_error,
    )  # fmt: skip
    data = dataclasses.replace(prepared.data, noise=scatter.variance if needed else None)
    prepared = dataclasses.replace(prepared, data=data, noise=new)
    return prepared.scaled(gain), scaled_values(values, fitted.model, noise.gain / gain)


def judged(prepared: Prepared, fitted: PictureModel, values: Values, parameters: float) -> Goodness:
    """Judges a fit whose noise was estimated, or that has an off picture.

    The squares of the residual are compared with n + a^2 k, whose mean they have if n and k are
    Poisson numbers, whatever their means. Where the size of the noise was estimated they are
    compared with squares of second differences, from which it was.

    Args:
        prepared: what was fitted.
        fitted: data and model.
        values: the fit.
        parameters: how many were free.
    """
    data = prepared.data
    used = data.exposure > 0
    mean = fitted.mean(values)
    residual = np.where(used, data.counts - np.nan_to_num(mean), 0.0)
    variance = data.noise if data.noise is not None else np.where(used, mean, 1.0)
    variance = raised(variance, used)
    pixels = int(used.sum())
    deviance = float(np.sum(residual**2 / np.where(used, variance, 1.0)))
    # squares of few counts scatter more than those of normal numbers
    weight = np.sqrt(2.0) / np.sqrt(2 * variance**2 + variance)
    if not prepared.noise.estimated:
        assert prepared.on is not None
        assert prepared.off is not None
        known = prepared.on + data.off_scale**2 * prepared.off
        parts = ((residual**2 - known) * weight)[used]
        # (n - m)^2 - n has the variance 2 m^2
        usual = np.sqrt(np.sum(2 * (variance * weight)[used] ** 2))
        return judge_by_parts(parts, usual, parameters, deviance, pixels)
    chosen = contrasts(used, origin_of(values, used.shape))
    here = chosen.center
    ratio = variance.ravel()[here] / chosen.expected(variance)
    instead = chosen.squares(residual) * ratio
    parts = chosen.sums((residual.ravel()[here] ** 2 - instead) * weight.ravel()[here])
    share = len(here) / max(pixels, 1)
    usual = np.sqrt(np.sum(_CROSS * (variance * weight).ravel()[here] ** 2))
    return judge_by_parts(parts, usual, share * parameters, deviance, pixels)


def origin_of(values: Values, shape: tuple[int, ...]) -> tuple[float, float]:
    """(row, column) of the centre, pixels from the corner."""
    return values.geometry[0] + shape[0] / 2, values.geometry[1] + shape[1] / 2


def _judged_gain(noise: Noise, scatter: Scatter) -> tuple[float, str, float]:
    """Value of one electron, where it comes from, and its relative error."""
    if noise.source == "given":
        return noise.gain, "given", 0.0
    found, error = scatter.gain, scatter.gain_error
    if noise.step:
        # of one electron in steps; the fit may have had another gain than the step
        in_steps = found * noise.gain / noise.step
        near = 1 / _NEAR_STEP < in_steps < _NEAR_STEP
        near |= abs(found - noise.step / noise.gain) < _SURE * error
        # numbers that were smoothed scatter little from pixel to pixel, and yet are counts
        smoothed = in_steps < 1 and scatter.excess > _NEAR_STEP
        if near or smoothed:
            return noise.step, "counts" if noise.step == 1 else "step", 0.0
    if found < _SURE * error or not found > 0:
        return noise.gain, "unknown", 0.0
    return noise.gain * found, "scatter", error / found


def scaled_values(values: Values, model: Model, ratio: float) -> Values:
    """Values of a fit in electrons that are worth 1 / ratio of those before."""
    shells = []
    for shell, v in zip(model.shells, values.shells, strict=True):
        shells.append(np.array([*v[: shell.lengths], *(v[shell.lengths :] * ratio)]))
    return dataclasses.replace(
        values, shells=tuple(shells), background=values.background * ratio,
        continuum=values.continuum * ratio,
    )  # fmt: skip
