"""Maximum likelihood and maximum a posteriori fits of shells to the counts of centred pictures.

Counts are Poisson numbers around the means of `information.place_means`. Minimised is the deviance,
twice the log likelihood below that of a perfect fit (plus, for a Gaussian prior, its quadratic
form), by damped Fisher scoring: Newton's method with the Fisher information in place of the second
derivative (Levenberg-Marquardt in its metric). A step is taken in N beta, in which the means are
linear, and kept only if the objective falls. A whole batch runs in one jitted loop; a picture that
is done is frozen and waits.

Where betas make a mean negative, or nearly 0, the Poisson deviance is continued below a tiny floor
by its parabola (the deviance of a normal number whose variance is the floor): value, slope, and the
curvature that Fisher scoring uses stay continuous, and a negative mean is never rewarded.
"""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.estimation.information import (
    Factor,
    FreeParameters,
    GaussianPrior,
    PictureParams,
    factorise,
    fold_factor,
    from_row,
    place_means,
    to_places,
    to_row,
)
from sevi_jax.physics.expected import PixelTable, pixel_table
from sevi_jax.physics.legendre import density_nodes, with_constant
from sevi_jax.physics.types import ImageSpec, ShellParams

_CONVERGED, _ITERATIONS, _STUCK, _BOUND, _SINGULAR, _NOT_FINITE, _EMPTY = range(7)
REASONS = (
    "converged",
    "still improving after the last iteration allowed",
    "no step lowers the deviance",
    "a radius, width or yield lies at the end of its range",
    "the counts do not determine all free parameters",
    "a start value or a count is not finite, or a count is negative",
    "no counts in the pixels used",
)
_RUNNING = -1
_DAMPING = 1e-3  # of the first step; relative to the diagonal of the information
_LARGEST_DAMPING = 1e7
_ROUNDING = 1e-5  # of a change of the deviance, times sqrt(counts)
_UNKNOWN = 1.0  # error of beta_2 that says nothing: beta_2 of a density is in -1.25..2.5
_NEGATIVE_SCALE = 3e-4  # of a density below 0 where that is not allowed
_SUMMED_MEAN = 16.0  # up to here the deviance's moments are sums over counts, beyond asymptotic
_TERMS = 60  # P(count > 60) = 1e-16 at a mean of 16


@dataclasses.dataclass(frozen=True)
class FitSpec:
    """How pictures are fitted; hashable, so static under jit.

    Attributes:
        free: which parameters are free.
        iterations: most evaluations of the means and their derivatives.
        tolerance: converged when the next undamped step would lower the deviance by less: it is
            the step's squared length in standard errors. 1e-3 is 0.03 standard errors. With very
            many counts float32 does not resolve that (1e-5 sqrt(counts)): then, when a step no
            longer gains what it should and what is left to gain is within the rounding.
        floor: the floor of the means, as a fraction of the mean count per pixel. Above the
            rounding of the means (1e-6 of the peak).
        radius: (low, high) of every radius, half-widths.
        sigma: (low, high) of every sigma, half-widths; below 0.004 the means lose accuracy.
        yields: (low, high) of every yield, as a fraction of all counts.
        positive: whether densities of cos(theta) are kept from falling below 0.
    """

    free: FreeParameters
    iterations: int = 200
    tolerance: float = 1e-3
    floor: float = 1e-4
    radius: tuple[float, float] = (0.02, 1.4)
    sigma: tuple[float, float] = (0.002, 0.1)
    yields: tuple[float, float] = (1e-4, 10.0)
    positive: bool = False


@flax.struct.dataclass
class Fit:
    """Fits of B pictures, shells sorted by radius, inner first.

    The *row* of all parameters is that of `FreeParameters`, shells sorted; in errors and covariance
    what is not free has zeros.

    Attributes:
        params: the estimates, arrays ``[B, S]``, ``[B, S, L]`` and ``[B]``.
        errors: their standard errors, same shapes.
        covariance: of the row, ``[B, D, D]``: the inverse of the information at the estimates.
        deviance: ``[B]``, without the prior.
        degrees_of_freedom: pixels less free parameters (with a prior: those the counts determine).
        expected_deviance: mean of the deviance if the model is right, ``[B]``; close to the degrees
            of freedom where pixels have many counts.
        deviance_variance: its variance then, ``[B]``.
        p_value: probability of a larger deviance if the model is right, ``[B]``.
        converged: ``[B]`` bool. Also False where the counts do not tell a shell's beta_2 to 1: then
            two shells are one to the counts, and what the second one became is chance.
        reason: index into `REASONS`, ``[B]`` int32.
        iterations: evaluations used, ``[B]`` int32.
    """

    params: PictureParams
    errors: PictureParams
    covariance: jax.Array
    deviance: jax.Array
    degrees_of_freedom: jax.Array
    expected_deviance: jax.Array
    deviance_variance: jax.Array
    p_value: jax.Array
    converged: jax.Array
    reason: jax.Array
    iterations: jax.Array

    @property
    def deviance_per_dof(self) -> jax.Array:
        """Deviance over degrees of freedom, ``[B]``."""
        return self.deviance / self.degrees_of_freedom

    def reasons(self) -> list[str]:
        """Why each picture's fit ended, in words."""
        return [REASONS[code] for code in np.asarray(self.reason).tolist()]


def fit(
    counts: jax.Array,
    start: PictureParams,
    spec: FitSpec,
    image: ImageSpec,
    mask: jax.Array | None = None,
    prior: GaussianPrior | None = None,
    fixed: jax.Array | None = None,
) -> Fit:
    """Fits a batch of centred pictures.

    Args:
        counts: ``[B, side, side]``, any real type.
        start: start values ``[B, S]``, ``[B, S, L]``, ``[B, K]``; what is not free stays there.
        spec: what is free, and when to stop.
        image: shape of the pictures.
        mask: ``[side, side]`` for all pictures or ``[B, side, side]``: pixels where it is 0 are
            ignored, whatever they hold. None uses all.
        prior: for maximum a posteriori; None is maximum likelihood.
        fixed: free parameters that stay at the start after all, ``[B, P]`` bool.
    """
    table = pixel_table(image, spec.free.num_orders)
    places, used = sort_pictures(jnp.asarray(counts), mask, table, image)
    return fit_places(places, used, start, spec, table, fold_factor(image), prior, fixed)


@functools.partial(jax.jit, static_argnames="image")
def sort_pictures(
    counts: jax.Array, mask: jax.Array | None, table: PixelTable, image: ImageSpec
) -> tuple[jax.Array, jax.Array]:
    """Sorts a batch of pictures and their masks, as in `fit`, into what `fit_places` takes."""
    mask = jnp.ones((image.side, image.side), bool) if mask is None else jnp.asarray(mask)
    mask = jnp.broadcast_to(mask.astype(bool), counts.shape)
    counts = jnp.where(mask, counts, jnp.zeros_like(counts))
    sort = jax.vmap(lambda picture: to_places(picture, table, image))
    return sort(counts), sort(mask)


def fit_places(
    counts: jax.Array,
    used: jax.Array,
    start: PictureParams,
    spec: FitSpec,
    table: PixelTable,
    factor: float = 1.0,
    prior: GaussianPrior | None = None,
    fixed: jax.Array | None = None,
) -> Fit:
    """Fits counts that are sorted into the places of a table already.

    Args:
        counts: ``[B, Q, M]`` float32, 0 where not used.
        used: how many pixels of this mean each count is the sum of, 0 where none, ``[B, Q, M]``.
        start: as in `fit`.
        spec: as in `fit`.
        table: integrals over one pixel at every place.
        factor: on those integrals.
        prior: as in `fit`.
        fixed: as in `fit`.
    """
    rows = to_row(start, spec.free)
    if fixed is None:
        fixed = jnp.zeros((len(rows), len(spec.free.index)), bool)
    return _fit(counts, used, rows, fixed, prior, spec, factor, table)


@functools.partial(jax.jit, static_argnames=("spec", "factor"))
def _fit(counts, used, rows, fixed, prior, spec, factor, table):
    one = functools.partial(_fit_one, prior=prior, spec=spec, factor=factor, table=table)
    # On a CPU one after the other: no picture waits for the slowest of its batch.
    together = 1 if jax.default_backend() == "cpu" else 32
    return jax.lax.map(
        lambda x: one(*x),
        (counts, used, rows, fixed),
        batch_size=together if together > 1 else None,
    )


@flax.struct.dataclass
class _Point:
    """The model at one row of parameters."""

    row: jax.Array
    mean: jax.Array  # [M] of one stored pixel
    score: jax.Array  # [P]; 0 where a parameter is held
    information: Factor  # of the parameters that are not held
    at_bound: jax.Array  # whether one is held at the end of its range
    belief: jax.Array  # what prior and positivity add to the deviance


@flax.struct.dataclass
class _State:
    best: _Point
    trial: jax.Array
    foretold: jax.Array  # fall of the objective in the trial step, by the quadratic model
    damping: jax.Array
    iterations: jax.Array
    reason: jax.Array


def search(
    folded: jax.Array,
    exposure: jax.Array,
    start: jax.Array,
    fixed: jax.Array,
    prior: GaussianPrior | None,
    spec: FitSpec,
    factor: float,
    table: PixelTable,
    weight: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Finds the optimum for one picture; to be called under jit.

    Args:
        folded: counts at every place, ``[M]``.
        exposure: pixels that each is the sum of, ``[M]``.
        start: row, ``[D]``.
        fixed: ``[P]`` bool.
        prior: as in `fit`.
        spec: as in `fit`.
        factor: as in `fit_places`.
        table: as in `fit_places`.
        weight: for weighted least squares, sum weight * (count - mean)^2, in place of the Poisson
            deviance: it bears counts where the model has none.

    Returns:
        row ``[D]``, code of the reason, evaluations used.
    """
    free = spec.free
    total, pixels = jnp.sum(folded), jnp.sum(exposure)
    per_pixel = total / jnp.maximum(pixels, 1.0)
    floor = jnp.maximum(spec.floor * per_pixel, 1e-30)
    # the means are rounded to 1e-6 or so, every pixel's deviance therefore to 1e-6 sqrt(mean)
    rounding = _ROUNDING * jnp.sqrt(total)
    low, high = _bounds(spec, total)
    start = jnp.clip(start, low, high)

    def evaluate(row):
        mean, jacobian = place_means(row, free, table, factor)
        weights = 1 / jnp.maximum(mean, floor) if weight is None else weight * exposure
        residual = (folded - exposure * mean) * weights
        belief, slope, curvature = _beliefs(row, prior, spec)
        score = jnp.matmul(residual, jacobian, precision="highest") - slope
        value, low_end, high_end = row[free.index], low[free.index], high[free.index]
        outward = ((value <= low_end) & (score < 0)) | ((value >= high_end) & (score > 0))
        loose = ~(outward | fixed)
        information = _loose_factor(jacobian, exposure * weights, curvature, loose)
        score = jnp.where(loose, score, 0.0)
        return _Point(row, mean, score, information, jnp.any(outward & ~fixed), belief)

    def misfit(point):
        """What is minimised, at every place."""
        if weight is None:
            return 2 * _half_deviance(point.mean, folded, exposure, floor)
        return weight * (folded - exposure * point.mean) ** 2

    def rise(point, other):
        """Objective of `other` less that of `point`."""
        return jnp.sum(misfit(other) - misfit(point)) + other.belief - point.belief

    def advance(state):
        point = evaluate(state.trial)
        first = state.iterations == 0
        change = rise(state.best, point)
        better = first | (change <= spec.tolerance + rounding)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), point, state.best)
        # the classic rule: less damping as long as the quadratic model foretells the change
        ratio = -change / jnp.maximum(state.foretold, spec.tolerance)
        change_by = jnp.where(ratio > 0.75, 0.1, jnp.where(ratio > 0.25, 1.0, 4.0))
        change_by = jnp.where(first, 1.0, jnp.where(better, jnp.minimum(change_by, 2.0), 6.0))
        damping = jnp.maximum(state.damping * change_by, 1e-6)
        trial, gain, foretold = _step(best, damping, fixed, spec, low, high)
        # shells in one place, perhaps only at the start: more damping makes the step exist
        exists = jnp.all(jnp.isfinite(trial))
        damping = jnp.where(exists, damping, jnp.maximum(8 * damping, _DAMPING))
        # what is left to gain drowns in rounding
        settled = ~first & (ratio < 0.25) & (gain < spec.tolerance + rounding)
        trial = jnp.where(exists & ~settled, trial, best.row)
        reason = jnp.where(
            exists & ((gain < spec.tolerance) | settled),
            jnp.where(best.at_bound, _BOUND, _CONVERGED),
            jnp.where(damping > _LARGEST_DAMPING, jnp.where(exists, _STUCK, _SINGULAR), _RUNNING),
        )
        count = state.iterations + 1
        return _State(best, trial, foretold, damping, count, reason.astype(jnp.int32))

    def running(state):
        return (state.reason == _RUNNING) & (state.iterations < spec.iterations)

    valid = jnp.all(jnp.isfinite(start)) & jnp.all(jnp.isfinite(folded) & (folded >= 0))
    reason = jnp.where(~valid, _NOT_FINITE, jnp.where(total > 0, _RUNNING, _EMPTY))
    size = len(free.index)
    square, zeros = jnp.zeros((size, size), jnp.float32), jnp.zeros(size, jnp.float32)
    nothing = Factor(zeros, square, square)
    nowhere = _Point(
        start, jnp.ones_like(folded), zeros, nothing, jnp.bool_(False), jnp.float32(0.0)
    )
    reason = reason.astype(jnp.int32)
    state = _State(nowhere, start, jnp.float32(0.0), jnp.float32(_DAMPING), jnp.int32(0), reason)
    state = jax.lax.while_loop(running, advance, state)
    # the last step is known already, and too small to go wrong
    row = jnp.where(state.reason == _CONVERGED, state.trial, state.best.row)
    reason = jnp.where(state.reason == _RUNNING, _ITERATIONS, state.reason)
    return row, reason, state.iterations


def _beliefs(
    row: jax.Array, prior: GaussianPrior | None, spec: FitSpec
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Quadratic form, and half its slope and curvature, of all that is not the counts."""
    free = spec.free
    value, slope = jnp.float32(0.0), jnp.zeros(len(free.index), jnp.float32)
    curvature = jnp.zeros((len(free.index),) * 2, jnp.float32)
    if prior is not None:
        off = row[free.index] - prior.mean
        pull = jnp.matmul(prior.precision, off, precision="highest")
        value, slope, curvature = value + off @ pull, slope + pull, curvature + prior.precision
    if spec.positive:
        added = _negativity(row, free)
        value, slope, curvature = value + added[0], slope + added[1], curvature + added[2]
    return value, slope, curvature


def _fit_one(
    counts: jax.Array,
    used: jax.Array,
    start: jax.Array,
    fixed: jax.Array,
    prior: GaussianPrior | None,
    spec: FitSpec,
    factor: float,
    table: PixelTable,
) -> Fit:
    """Fits one picture ``[Q, M]`` from the row `start`."""
    free = spec.free
    folded, exposure = jnp.sum(counts, axis=0), jnp.sum(used, axis=0)
    row, reason, iterations = search(folded, exposure, start, fixed, prior, spec, factor, table)
    pixels = jnp.sum(exposure)
    per_pixel = jnp.sum(folded) / jnp.maximum(pixels, 1.0)
    mean, jacobian = place_means(row, free, table, factor)
    floored = jnp.maximum(mean, jnp.maximum(spec.floor * per_pixel, 1e-30))
    added = _beliefs(row, prior, spec)[2]
    loose = ~fixed
    covariance = _loose_factor(jacobian, exposure / floored, added, loose).inverse()
    covariance = jnp.where(loose[:, None] & loose, covariance, 0.0)
    # what the counts determine: all of it, but for what prior and positivity do
    believed = jnp.einsum("ij,ji->", added, covariance, precision="highest")
    parameters = jnp.sum(loose, dtype=jnp.float32) - believed
    smallest = 1e-7 * per_pixel
    mean = jnp.maximum(mean, smallest)
    deviance = 2 * jnp.sum(_half_deviance(mean, counts, used, smallest))
    relative = jacobian / floored[:, None]
    expected, variance = _deviance_moments(mean, relative, covariance, exposure)
    row, spread = _sorted_rows(row, covariance, free)
    errors = from_row(jnp.sqrt(jnp.diagonal(spread)), free)
    determined = jnp.all(jnp.isfinite(covariance)) & jnp.all(errors.shells.beta[:, 0] < _UNKNOWN)
    reason = jnp.where(determined | (reason >= _NOT_FINITE), reason, _SINGULAR)
    return Fit(
        params=from_row(row, free),
        errors=errors,
        covariance=spread,
        deviance=deviance,
        degrees_of_freedom=pixels - parameters,
        expected_deviance=expected,
        deviance_variance=variance,
        p_value=upper_tail(deviance, expected, variance),
        converged=reason == _CONVERGED,
        reason=reason,
        iterations=iterations,
    )


def _negativity(row: jax.Array, free: FreeParameters) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Cost of densities below 0: sum over angles of (I / `_NEGATIVE_SCALE`)^2 where I < 0.

    Returns:
        the cost, and half its slope ``[P]`` and curvature ``[P, P]`` by the free parameters.
    """
    nodes = jnp.asarray(density_nodes(free.num_orders))
    beta = from_row(row, free).shells.beta
    density = jnp.matmul(with_constant(beta), nodes.T, precision="highest")
    below = jnp.minimum(density, 0.0) / _NEGATIVE_SCALE
    slope = jnp.zeros_like(row)
    curvature = jnp.zeros((row.size, row.size), jnp.float32)
    for shell in range(free.shells):
        part = slice(shell * free.per_shell + 3, (shell + 1) * free.per_shell)
        columns = jnp.where(below[shell, :, None] < 0, nodes[:, 1:], 0.0) / _NEGATIVE_SCALE
        slope = slope.at[part].set(jnp.matmul(below[shell], columns, precision="highest"))
        square = jnp.matmul(columns.T, columns, precision="highest")
        curvature = curvature.at[part, part].set(square)
    index = free.index
    return jnp.sum(below * below), slope[index], curvature[index[:, None], index]


def _bounds(spec: FitSpec, total: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lowest and highest allowed row, ``[D]`` each."""
    free = spec.free

    def row(side, end):
        def every(value):
            return jnp.full(free.shells, value, jnp.float32)

        shells = ShellParams(
            radius=every(spec.radius[side]),
            sigma=every(spec.sigma[side]),
            electrons=every(spec.yields[side]) * total,
            beta=jnp.full((free.shells, free.num_orders), end, jnp.float32),
        )
        background = jnp.full(free.background, end, jnp.float32)
        return to_row(PictureParams(shells, background), free)

    return row(0, -np.inf), row(1, np.inf)


def _loose_factor(
    jacobian: jax.Array, weight: jax.Array, added: jax.Array, loose: jax.Array
) -> Factor:
    """Factorises the information of the parameters that are not held; 1 for those that are."""
    eye = jnp.eye(len(loose), dtype=jnp.float32)
    added = jnp.where(loose[:, None] & loose, added, jnp.where(loose, 0.0, eye))
    return factorise(jnp.where(loose, jacobian, 0.0), weight, added)


def _step(
    point: _Point, damping: jax.Array, fixed: jax.Array, spec: FitSpec, low, high
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Takes one damped Fisher step from `point`.

    Returns:
        the new row, the gain of the undamped step in deviance (not finite where the information is
        singular), and that of the step taken, by the quadratic model.
    """
    free, index = spec.free, spec.free.index
    information, score = point.information, point.score
    gain = jnp.dot(score, information.solve(score), precision="highest")
    direction = information.solve(score, damping)
    step = jnp.zeros_like(point.row).at[index].set(direction)

    # the means are linear in yield * beta: there the step is straight. R and sigma move by at most
    # a sigma and by a factor of 2: further the linear approximation does not reach.
    old, moved = from_row(point.row, free).shells, from_row(step, free)
    shells = moved.shells
    reach = jnp.maximum(jnp.abs(shells.radius), 2 * jnp.abs(shells.sigma)) / old.sigma
    length = 1 / jnp.maximum(jnp.max(reach), 1.0)
    electrons = old.electrons + length * shells.electrons
    electrons = jnp.clip(electrons, 0.2 * old.electrons, 5 * old.electrons)
    new = ShellParams(
        radius=old.radius + length * shells.radius,
        sigma=old.sigma + length * shells.sigma,
        electrons=electrons,
        beta=old.beta + length * shells.beta * (old.electrons / electrons)[:, None],
    )
    background = from_row(point.row, free).background + length * moved.background
    row = to_row(PictureParams(new, background), free)
    row = jnp.where(_at(fixed, free), point.row, jnp.clip(row, low, high))
    # direction' (information + damping / scale^2) direction is score' direction
    along = jnp.dot(score, direction, precision="highest")
    curved = along - damping * jnp.sum((direction / information.scale) ** 2)
    return row, gain, length * (2 * along - length * curved)


def _at(free_ones: jax.Array, free: FreeParameters) -> jax.Array:
    """Spreads flags of the free parameters ``[P]`` over the row ``[D]``; False elsewhere."""
    return jnp.zeros(free.row_size, bool).at[free.index].set(free_ones)


def _half_deviance(mean: jax.Array, counts: jax.Array, weight: jax.Array, floor) -> jax.Array:
    """Half the Poisson deviance of counts with mean ``weight * mean``; its parabola below `floor`.

    ``n log(n / m) - n + m = m g(n / m - 1)`` with ``g(u) = (1 + u) log(1 + u) - u``, by its series
    near 0, where the difference would lose all digits.
    """
    used = weight > 0
    m = jnp.where(used, weight * jnp.maximum(mean, floor), 1.0)
    u = (counts - m) / m
    series = u * u * (1 / 2 - u * (1 / 6 - u * (1 / 12 - u * (1 / 20 - u * (1 / 30 - u / 42)))))
    ratio = jnp.maximum(1 + u, 0.0)
    direct = ratio * jnp.log(jnp.where(ratio > 0, ratio, 1.0)) - u
    value = m * jnp.where(jnp.abs(u) < 0.05, series, direct)
    below = jnp.minimum(mean - floor, 0.0) * weight
    value += below * (1 - counts / m) + below * below / (2 * m)
    return jnp.where(used, value, 0.0)


def _pixel_moments(mean: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Cumulants of one pixel's deviance D and count n: E D, Var D, Cov(D, n), and k(D, n, n).

    Sums over all counts up to `_SUMMED_MEAN`; beyond, the first terms in 1 / mean (McCullagh 1986,
    J. Am. Stat. Assoc. 81, 104).
    """
    small = jnp.minimum(mean, _SUMMED_MEAN)
    logarithm = jnp.log(small)

    def add(n, carry):
        chance, sums = carry
        count = n.astype(jnp.float32)
        logged = jnp.log(jnp.maximum(count, 1.0)) - logarithm
        deviance = 2 * (count * logged - count + small)
        off = count - small
        terms = (deviance, deviance**2, deviance * off, deviance * off**2)
        sums = tuple(total + chance * term for total, term in zip(sums, terms, strict=True))
        return chance * small / (count + 1), sums

    zeros = jnp.zeros_like(mean)
    start = (jnp.exp(-small), (zeros,) * 4)
    one, two, cross, third = jax.lax.fori_loop(0, _TERMS + 1, add, start)[1]
    inverse = 1 / mean
    exact = (one, two - one**2, cross, third - one * small)
    beyond = (1 + inverse / 6 + inverse**2 / 6, 2 + inverse * 2 / 3, zeros, 2 * mean)
    is_small = mean <= _SUMMED_MEAN
    first, second, third, fourth = (
        jnp.where(is_small, x, y) for x, y in zip(exact, beyond, strict=True)
    )
    return first, second, third, fourth


def _deviance_moments(
    mean: jax.Array, relative: jax.Array, covariance: jax.Array, exposure: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of the deviance of a fitted model that is right.

    Given the estimates, the counts obey the score equations R' (n - mu) = 0, with R = J / mu.
    Conditioning on them (McCullagh 1986) leaves, with C the inverse information, k.. the pixel's
    cumulants, b = C R' k11 and q = diag(R C R'),

        E = sum k1 - 1/2 sum (k12 - mu R b) q,   Var = sum k2 - (R' k11)' b.

    With many counts these are n - P and 2 n; with few, where the deviance is nearly a function of
    the number of counts and that number is fitted, far less than the sums of k1 and k2.

    Args:
        mean: of one stored pixel, ``[M]``.
        relative: R, the derivatives of one stored pixel's mean over that mean (where the fit holds
            it to be larger, over that), ``[M, P]``.
        covariance: ``[P, P]``.
        exposure: stored pixels with this mean that are used, ``[M]``.
    """
    one, two, cross, third = _pixel_moments(mean)
    projected = jnp.matmul(exposure * cross, relative, precision="highest")
    b = jnp.matmul(covariance, projected, precision="highest")
    spread = jnp.matmul(relative, covariance, precision="highest")
    q = jnp.sum(spread * relative, axis=-1)
    linear = mean * jnp.matmul(relative, b, precision="highest")
    expected = jnp.sum(exposure * (one - 0.5 * (third - linear) * q))
    variance = jnp.sum(exposure * two) - jnp.dot(projected, b, precision="highest")
    return expected, variance


def upper_tail(value: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
    """P(X > value) for a gamma distribution of this mean and variance, by Wilson and Hilferty."""
    relative = variance / (9 * mean * mean)
    z = (jnp.cbrt(jnp.maximum(value / mean, 0.0)) - (1 - relative)) * jax.lax.rsqrt(relative)
    return 0.5 * jax.scipy.special.erfc(z / np.sqrt(2).astype(np.float32))


def _sorted_rows(
    row: jax.Array, covariance: jax.Array, free: FreeParameters
) -> tuple[jax.Array, jax.Array]:
    """Sorts the shells of a row by radius; spreads the covariance over the row, sorted as well."""
    spread = jnp.zeros((free.row_size,) * 2, jnp.float32)
    spread = spread.at[free.index[:, None], free.index].set(covariance)
    order = jnp.argsort(from_row(row, free).shells.radius)
    place = order[:, None] * free.per_shell + jnp.arange(free.per_shell, dtype=order.dtype)
    place = jnp.append(place.reshape(-1), jnp.arange(free.shells * free.per_shell, free.row_size))
    return row[place], spread[place[:, None], place]
