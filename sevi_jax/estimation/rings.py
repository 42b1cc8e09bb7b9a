"""Starting values for many shells: peaks of the radial distribution, by an inversion.

The picture, summed over bins of radius and angle, is a sum of thin shells one pixel thick whose
densities are sums of Bernstein polynomials of cos(theta)^2. All amounts are at least 0, which makes
the inversion stable and densities positive. The amounts of largest likelihood are found by
expectation maximisation (Richardson 1972, Lucy 1974; Shepp and Vardi 1982), accelerated (Varadhan
and Roland 2008, SQUAREM).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.estimation.information import FreeParameters, PictureParams
from sevi_jax.estimation.placing import Placement
from sevi_jax.physics.legendre import legendre_values
from sevi_jax.physics.types import ShellParams

_ANGLES = 12  # bins of |cos| of the polar angle in the picture, from 0 to 1
_POINTS = 3  # of the quadrature along each side of a bin
_CYCLES = 200  # of three steps each; more change the likelihood by less than the model's errors
_NARROWEST = 0.5  # pixels: smallest sigma that is given
_BESIDE = 3  # pixels on each side of a peak that its shape is read from


def _bernstein(square: np.ndarray, degree: int) -> np.ndarray:
    """Densities of c that integrate to 1 over [-1, 1], ``[..., degree + 1]``."""
    terms = [
        math.comb(degree, k) * square**k * (1 - square) ** (degree - k) for k in range(degree + 1)
    ]
    # integral of C(d, k) c^2k (1 - c^2)^(d - k) over [-1, 1]: a beta function
    areas = [
        math.comb(degree, k) * math.gamma(k + 0.5) * math.gamma(degree - k + 1.0)
        / math.gamma(degree + 1.5)
        for k in range(degree + 1)
    ]  # fmt: skip
    return np.stack(terms, axis=-1) / np.array(areas)


def _bernstein_beta(degree: int) -> np.ndarray:
    """Betas 2, 4, ..., 2 degree of those densities, ``[degree + 1, degree]``."""
    node, weight = np.polynomial.legendre.leggauss(2 * degree + 2)
    orders = 2 * np.arange(1, degree + 1)
    values = _bernstein(node**2, degree)
    moments = np.einsum("n,nk,nl->kl", weight, values, legendre_values(node, degree)[:, 1:])
    return moments * (2 * orders + 1) / 2


@functools.lru_cache(maxsize=2)
def _columns(bins: int, degree: int) -> np.ndarray:
    """Mean density of counts of one electron of every thin shell in every bin.

    The projection of a shell between a and b, with rho the density on the picture, s the distance
    and c the cosine:

        rho = I(s c / r) (sqrt(b^2 - s^2)_+ - sqrt(a^2 - s^2)_+) / (pi r^2 (b - a))

    Returns:
        ``[bins * _ANGLES, bins * (degree + 1)]`` float32, per pixel.
    """
    edge = np.arange(bins + 1.0)
    radius = edge[:-1] + 0.5
    found = np.zeros((bins, _ANGLES, bins, degree + 1), np.float32)
    for along in range(_POINTS):
        s = (np.arange(bins) + (along + 0.5) / _POINTS)[:, None]
        chord = np.diff(np.sqrt(np.maximum(edge**2 - s**2, 0.0)), axis=1)
        amount = chord / (np.pi * radius**2 * _POINTS**2)
        for across in range(_POINTS):
            c = (np.arange(_ANGLES) + (across + 0.5) / _POINTS) / _ANGLES
            square = np.minimum((s[:, None] * c[:, None] / radius) ** 2, 1.0)
            found += (amount[:, None, :, None] * _bernstein(square, degree)).astype(np.float32)
    return found.reshape(bins * _ANGLES, -1)


@functools.partial(jax.jit, static_argnames="cycles")
def _largest_likelihood(counts: jax.Array, columns: jax.Array, cycles: int) -> jax.Array:
    """Amounts ``[C]`` of columns ``[M, C]``, each of sum 1, that make counts ``[M]`` likeliest."""

    def step(amounts):
        mean = jnp.maximum(columns @ amounts, 1e-9 * jnp.sum(counts))
        return amounts * (columns.T @ (counts / mean))

    def cycle(_, amounts):
        first = step(amounts)
        second = step(first)
        change = first - amounts
        bend = (second - first) - change
        length = jnp.linalg.norm(change) / jnp.maximum(jnp.linalg.norm(bend), 1e-20)
        length = jnp.maximum(length, 1.0)
        far = amounts + 2 * length * change + length**2 * bend
        return step(jnp.maximum(far, 1e-3 * second))  # an amount of 0 would stay there

    even = jnp.full(columns.shape[1], jnp.sum(counts) / columns.shape[1])
    return jax.lax.fori_loop(0, cycles, cycle, even)


def radial_distribution(
    counts: np.ndarray, mask: np.ndarray, placement: Placement, degree: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inverts a picture to amounts of thin shells, one pixel thick.

    Args:
        counts: ``[H, W]``.
        mask: ``[H, W]`` bool, False where a pixel is not used.
        placement: of the picture.
        degree: of the densities in cos(theta)^2.

    Returns:
        electrons of the shell between n and n + 1 pixels, ``[R]``; its betas 2, 4, ..., 2 degree,
        ``[R, degree]``; and the background of a pixel in the middle and at the edge, ``[2]``.
    """
    z = placement.edges()[1][:-1] + 0.5
    distance = placement.distances()
    bins = placement.reach
    cosine = np.abs(z) / np.maximum(distance, 1e-9)
    used = mask & (distance < bins)
    place = distance[used].astype(int) * _ANGLES + np.minimum(
        (cosine[used] * _ANGLES).astype(int), _ANGLES - 1
    )
    total = np.bincount(place, counts[used], bins * _ANGLES)
    pixels = np.bincount(place, minlength=bins * _ANGLES)
    shells = _columns(bins, degree)
    outward = (np.repeat(np.arange(bins), _ANGLES) + 0.5)[:, None] ** 2 / bins**2
    columns = np.concatenate([shells, 1 - outward, outward], axis=1, dtype=np.float32)
    columns *= pixels[:, None]
    seen = columns.sum(0)  # part of a shell's electrons that falls on pixels that are used
    scale = np.where(seen > 0, seen, 1.0)
    amounts = _largest_likelihood(
        jnp.asarray(total, jnp.float32), jnp.asarray(columns / scale), _CYCLES
    )
    amounts = np.where(seen > 1e-3, np.asarray(amounts, np.float64) / scale, 0.0)
    parts = amounts[:-2].reshape(bins, degree + 1)
    electrons = parts.sum(1)
    beta = parts @ _bernstein_beta(degree) / np.maximum(electrons, 1e-30)[:, None]
    return electrons, beta, amounts[-2:]


def prominences(values: np.ndarray) -> np.ndarray:
    """Height of every peak above the higher of the two valleys that part it from higher ones.

    Args:
        values: ``[R]``.

    Returns:
        ``[R]``, 0 where there is no peak.
    """
    found = np.zeros(len(values))
    for peak in range(len(values)):
        above = np.flatnonzero(values > values[peak])
        left, right = above[above < peak], above[above > peak]
        low = [
            values[left[-1] + 1 : peak].min(initial=values[peak]) if left.size else None,
            values[peak + 1 : right[0]].min(initial=values[peak]) if right.size else None,
        ]
        valleys = [x for x in low if x is not None]
        found[peak] = values[peak] - max(valleys, default=0.0)
    return found


def find_rings(
    counts: np.ndarray, mask: np.ndarray, placement: Placement, free: FreeParameters
) -> PictureParams:
    """Finds starting values for many shells: the most prominent peaks of the radial distribution.

    Args:
        counts: ``[H, W]``.
        mask: ``[H, W]`` bool, False where a pixel is not used.
        placement: of the picture.
        free: what will be fitted.

    Returns:
        Parameters of one picture, ``[S]``, inner shell first, lengths in `placement.unit` pixels.
    """
    degree = min(free.num_orders, 2)
    electrons, beta, background = radial_distribution(counts, mask, placement, degree)
    smooth = np.convolve(electrons, [0.25, 0.5, 0.25], "same")
    peaks = np.sort(np.argsort(-prominences(smooth), kind="stable")[: free.shells])
    # between two peaks a thin shell belongs to the nearer one
    bounds = np.concatenate([[0], (peaks[1:] + peaks[:-1] + 1) // 2, [len(smooth)]])
    radius, sigma, amount = (np.zeros(free.shells) for _ in range(3))
    betas = np.zeros((free.shells, free.num_orders))
    for shell, peak in enumerate(peaks):
        part = slice(max(bounds[shell], peak - _BESIDE), min(bounds[shell + 1], peak + _BESIDE + 1))
        weight = electrons[part] + 1e-9 * electrons.sum() + 1e-30
        middle = np.arange(len(electrons))[part] + 0.5
        radius[shell] = np.average(middle, weights=weight)
        spread = np.average((middle - radius[shell]) ** 2, weights=weight)
        sigma[shell] = max(math.sqrt(spread), _NARROWEST)
        amount[shell] = weight.sum()
        betas[shell, :degree] = np.average(beta[part], axis=0, weights=weight)
        chosen = 2 * np.arange(1, free.num_orders + 1)
        betas[shell, ~np.isin(chosen, free.orders[shell])] = 0.0
    shells = ShellParams(
        radius=jnp.asarray(radius / placement.unit, jnp.float32),
        sigma=jnp.asarray(sigma / placement.unit, jnp.float32),
        electrons=jnp.asarray(amount, jnp.float32),
        beta=jnp.asarray(betas, jnp.float32),
    )
    level = np.zeros(free.background)
    level[:1] = background.mean()
    return PictureParams(shells, jnp.asarray(level, jnp.float32))
