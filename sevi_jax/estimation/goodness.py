"""How well a fitted model describes the counts: the distribution of its deviance.

Given the estimates, the counts obey the score equations R' (n - mu) = 0 with R = J / mu.
Conditioning on them (McCullagh 1986, J. Am. Stat. Assoc. 81, 104) leaves, with C the inverse
information, k.. the cumulants of a pixel's deviance and count, b = C R' k11 and q = diag(R C R'),

    E = sum k1 - 1/2 sum (k12 - mu R b) q,   Var = sum k2 - (R' k11)' b.

With many counts these are n - P and 2 n; with few, where the deviance is nearly a function of the
number of counts and that number is fitted, far less than the sums of k1 and k2.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from sevi_jax.model.means import Layout, half_deviance, parts_of_means
from sevi_jax.model.picture_model import FLOOR, PictureModel, Values, on_device
from sevi_jax.model.pixels import Chunk

_SUMMED_MEAN = 16.0  # up to here the moments are sums over counts, beyond asymptotic
_TERMS = 80  # P(count > 80) < 1e-16 at a mean of 16
_LOWEST = -18.0  # logarithm of the smallest mean of the table
_PER_UNIT = 32.0
_MOST_USUAL = 2.0  # times its usual size: more of a scatter is a misfit
_FLOOR = 1e-7  # of the mean count: smaller means are taken as this


@dataclasses.dataclass(frozen=True)
class Goodness:
    """How well a model fits.

    Attributes:
        deviance: of all pixels.
        degrees_of_freedom: pixels less what the counts determine.
        expected: mean of the deviance if the model is right.
        variance: its variance then.
        p_value: probability of a larger deviance then.
    """

    deviance: float
    degrees_of_freedom: float
    expected: float
    variance: float
    p_value: float


@functools.cache
def _table() -> np.ndarray:
    """E D, Var D, Cov(D, n) and k(D, n, n) of a pixel, by the logarithm of its mean, ``[K, 4]``."""
    count = int((np.log(_SUMMED_MEAN) - _LOWEST) * _PER_UNIT) + 3
    mean = np.exp(_LOWEST + np.arange(count) / _PER_UNIT)[:, None]
    n = np.arange(_TERMS + 1.0)
    chance = np.exp(scipy.special.xlogy(n, mean) - mean - scipy.special.gammaln(n + 1))
    deviance = 2 * (scipy.special.xlogy(n, n / mean) - n + mean)
    first = np.sum(chance * deviance, axis=1)
    off = n - mean
    second = np.sum(chance * deviance**2, axis=1) - first**2
    cross = np.sum(chance * deviance * off, axis=1)
    third = np.sum(chance * deviance * off**2, axis=1) - first * mean[:, 0]
    return np.stack([first, second, cross, third], axis=1).astype(np.float32)


def _moments(mean: jax.Array) -> list[jax.Array]:
    """The four cumulants of every pixel."""
    table = jnp.asarray(_table())
    place = (jnp.log(jnp.maximum(mean, 1e-12)) - _LOWEST) * _PER_UNIT
    place = jnp.clip(place, 0.0, table.shape[0] - 2.0)
    index = jnp.floor(place).astype(jnp.int32)
    share = (place - index.astype(jnp.float32))[..., None]
    summed = (1 - share) * table[index] + share * table[index + 1]
    inverse = 1 / mean
    beyond = (1 + inverse / 6 + inverse**2 / 6, 2 + inverse * 2 / 3, jnp.zeros_like(mean), 2 * mean)
    small = mean <= _SUMMED_MEAN
    return [jnp.where(small, summed[..., i], x) for i, x in enumerate(beyond)]


@functools.partial(jax.jit, static_argnames="layout")
def _first_pass(series, frame, chunk, layout: Layout):
    """Sums over blocks of half deviances and two moments; R' k11 by points of the grid and columns.

    Behind them mean and third cumulant of every pixel, for `_second_pass`.
    """
    mean, basis, taps, columns = parts_of_means(series, frame, chunk, layout)
    held, half, one, two, cross, third = _of_pixels(chunk, mean, frame.floor)
    # Barriers keep the compiler from computing a pixel anew for every sum that it is in.
    pull, taps = jax.lax.optimization_barrier((cross / held, taps))
    every = jax.lax.optimization_barrier(jnp.stack([*basis, *columns], axis=1))
    modes = len(layout.modes)
    to_grid = jnp.stack([tap * pull for tap in taps], axis=1)
    gradient = jnp.einsum("kjp,kmp->kjm", to_grid, every[:, :modes])
    of_columns = jnp.einsum("kp,kcp->c", pull, every[:, modes:])
    sums = [jnp.sum(x, axis=1) for x in (half, one, two)]
    return *sums, gradient, of_columns, held, third


@functools.partial(jax.jit, static_argnames="layout")
def _second_pass(series, frame, chunk, directional, of_columns, held, third, layout: Layout):
    """Sums of w E E' with w = (k12 - mu R b) / mu^2."""
    _, basis, taps, columns = parts_of_means(series, frame, chunk, layout)
    every = jnp.stack([*basis, *columns], axis=1)
    window = directional[chunk.cell[:, None] + jnp.arange(4)]
    linear = sum(
        sum(tap * window[:, j, m, None] for j, tap in enumerate(taps)) * wave
        for m, wave in enumerate(basis)
    )
    linear += sum(of_columns[k] * x for k, x in enumerate(columns))
    weight = jnp.where(chunk.exposure > 0, (third - linear) / (held * held), 0.0)
    every, weight = jax.lax.optimization_barrier((every, weight))
    return jnp.einsum("kfp,kgp->kfg", every * weight[:, None], every)


def judge(
    picture: PictureModel,
    values: Values,
    covariance: np.ndarray,
    known: float = 0.0,
) -> Goodness:
    """Judges a fit of Poisson counts.

    Args:
        picture: data and model.
        values: the estimates.
        covariance: of the vector, ``[P, P]``.
        known: how many parameters a prior, and not the counts, determines.
    """
    # the likelihood is continued below a floor that is too high for a p-value
    frame = picture.frame(values)
    frame = dataclasses.replace(frame, floor=frame.floor * (_FLOOR / FLOOR))
    explicit = list(picture.explicit(values))
    pixels = [_first_of_pixels(*part, frame.floor) for part in explicit]
    size = len(covariance)
    projected = sum((np.asarray(p[3], np.float64) for p in pixels), np.zeros(size))
    first, layout = [], picture.model.layout
    total, slopes = picture.series(values)
    series = on_device(total)
    if picture.sorted.chunks:
        first = [_first_pass(series, frame, chunk, layout) for chunk in picture.sorted.chunks]
        projected += picture.contract_score([p[3] for p in first], [p[4] for p in first], slopes)
    half, one, two = (
        sum(float(np.asarray(p[i], np.float64).sum()) for p in (*first, *pixels)) for i in range(3)
    )
    b = covariance @ projected
    of_pixels = [_second_of_pixels(*part, frame.floor, np.float32(b)) for part in explicit]
    weighted = sum((np.asarray(x, np.float64) for x in of_pixels), np.zeros((size, size)))
    if picture.sorted.chunks:
        by_b = np.zeros_like(total)
        for x, start in zip(slopes, picture.model.starts, strict=False):
            by_b += x @ b[start : start + x.shape[-1]].astype(np.float32)
        own, along = b[picture.model.starts[-1] :].astype(np.float32), on_device(by_b)
        second = [
            _second_pass(series, frame, chunk, along, own, *p[5:], layout)
            for chunk, p in zip(picture.sorted.chunks, first, strict=True)
        ]
        weighted += picture.contract_information(second, slopes)
    expected = one - 0.5 * float(np.einsum("ij,ji->", weighted, covariance))
    variance = max(two - float(projected @ b), 1e-3 * two)
    freedom = int(picture.used.sum()) - (len(b) - known)
    deviance = 2 * half
    return Goodness(deviance, freedom, expected, variance, upper_tail(deviance, expected, variance))


def _of_pixels(chunk: Chunk, mean: jax.Array, floor: jax.Array) -> list[jax.Array]:
    """Mean as it is held, half the deviance and the four moments; 0 where a pixel is not used."""
    used = chunk.exposure > 0
    held = jnp.where(used, jnp.maximum(mean, floor * chunk.exposure), 1.0)
    found = [half_deviance(held, chunk.counts), *_moments(held)]
    return [held, *(jnp.where(used, x, 0.0) for x in found)]


@jax.jit
def _first_of_pixels(chunk: Chunk, mean: jax.Array, jacobian: jax.Array, floor: jax.Array):
    """As `_first_pass`, of pixels with derivatives of their own; R' k11 by the vector."""
    held, half, one, two, cross, _ = _of_pixels(chunk, mean, floor)
    pull = (cross / held).ravel()
    return half, one, two, jnp.matmul(pull, jacobian, precision="highest")


@jax.jit
def _second_of_pixels(
    chunk: Chunk, mean: jax.Array, jacobian: jax.Array, floor: jax.Array, b: jax.Array
):
    """As `_second_pass`: the sum of w J J', ``[P, P]``."""
    held, *_, third = _of_pixels(chunk, mean, floor)
    along = jnp.matmul(jacobian, b, precision="highest").reshape(mean.shape)
    weight = jnp.where(chunk.exposure > 0, (third - along) / (held * held), 0.0)
    weighted = jacobian * weight.ravel()[:, None]
    return jnp.matmul(weighted.T, jacobian, precision="highest")


def judge_by_parts(
    parts: np.ndarray, usual: float, parameters: float, deviance: float, pixels: int
) -> Goodness:
    """Judges a fit by its squared residuals less another estimate of their means.

    Args:
        parts: sums of (square of the residual - other estimate) / variance over parts of the
            picture that are independent, ``[B]``. If the model is right their sum is - P on
            average, and their own squares say how much it scatters.
        usual: standard deviation of the sum if the model is right, about. Squares of parts that
            the model misses by far say nothing of how the sum scatters.
        parameters: P, as far as the counts in the parts determine them.
        deviance: chi-square of all pixels.
        pixels: how many there are.
    """
    size = min(float(np.sqrt(np.sum(parts**2))), _MOST_USUAL * usual)
    p_value = float(scipy.special.ndtr(-(parts.sum() + parameters) / max(size, 1e-300)))
    freedom = pixels - parameters
    return Goodness(deviance, freedom, freedom, 2.0 * freedom, p_value)


def upper_tail(value: float, mean: float, variance: float) -> float:
    """P(X > value) for a gamma distribution of this mean and variance."""
    return float(scipy.special.gammaincc(mean**2 / variance, max(value, 0.0) * mean / variance))
