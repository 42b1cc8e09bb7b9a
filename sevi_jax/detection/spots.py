"""The spots of electrons on a binned frame and their least-squares fit; knows nothing of frames.

A spot ``A exp(-(dx^2 + dz^2 + 2 rho dx dz) / (2 s^2))`` (docs/course.md) averaged over the points
of a bin of b x b pixels is, to 1e-4 of its height, a spot again: the points lie evenly at
0, 1/5 .. b - 1/5 of a pixel, so their mean is (b - 1/5) / 2 and their variance (b^2 - 1/25) / 12;
the spot's covariance grows by that variance and it is sampled at that mean. Equal diagonal elements
stay equal, so the same five parameters describe the broadened spot. They are what is fitted here.
Lengths are in bins, from the corner of the frame.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.synthesis.frames import SUBPIXELS

X, Z, AMPLITUDE, WIDTH, CORRELATION = range(5)  # parameters of a spot, in this order
PARAMS = 5

_DAMPING = 1e-3  # of the first step
_LARGEST_STEP = 1.0  # bins, of a position
_WIDTHS = (0.5, 2.0)  # bounds of s, of the prior's mean
_LARGEST_CORRELATION = 0.8
_BLOCK = 8  # unknowns that are eliminated together
_BORDER = 3  # bins of a patch in which no further spot is looked for


class SpotPrior(NamedTuple):
    """Normal priors of the shape of a spot, in the order amplitude, width, correlation.

    Attributes:
        mean: ``[3]`` float32: grey levels, bins, no unit.
        sd: ``[3]`` float32.
    """

    mean: jax.Array | np.ndarray
    sd: jax.Array | np.ndarray


class Patches(NamedTuple):
    """What is fitted: squares of P x P bins of binned frames, B of them.

    Attributes:
        corner: first bin of each in its frame, ``[B, 2]`` int32.
        grey: grey levels less all spots that are not fitted, ``[B, P^2]`` float32.
        weight: 1 / variance of `grey`, 0 outside the frame, ``[B, P^2]`` float32.
        saturated: where `grey` is only a lower bound, ``[B, P^2]`` bool.
    """

    corner: jax.Array
    grey: jax.Array
    weight: jax.Array
    saturated: jax.Array


def bin_points(bin_pixels: int) -> tuple[float, float]:
    """Mean and variance of the places of a bin's points, in bins and bins^2 (module docstring)."""
    step = 1 / (SUBPIXELS * bin_pixels)
    return (1 - step) / 2, (1 - step**2) / 12


def spot_values(spots: jax.Array, corner: jax.Array, size: int, bin_pixels: int) -> jax.Array:
    """Grey levels of spots on squares of bins.

    Args:
        spots: ``[..., 5]`` float32.
        corner: first bin of each square, ``[..., 2]``.
        size: bins along each side P, static.
        bin_pixels: pixels along each side of a bin, static.

    Returns:
        ``[..., P^2]`` float32; the second axis of the frame runs fastest.
    """
    return _spots_and_slopes(spots, corner, size, bin_pixels)[0]


@functools.partial(jax.jit, static_argnames="bin_pixels")
def fit_spots(
    patches: Patches,
    spots: jax.Array,
    mask: jax.Array,
    prior: SpotPrior,
    iterations: int,
    bin_pixels: int,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Fits all spots of each patch together: least squares with the prior (Levenberg-Marquardt).

    Args:
        patches: B patches.
        spots: where to start, ``[B, K, 5]`` float32.
        mask: which entries are spots, ``[B, K]`` bool.
        prior: of the shapes.
        iterations: steps, scalar int32.
        bin_pixels: pixels along each side of a bin, static.

    Returns:
        The spots, ``[B, K, 5]``; chi-square, ``[B]``: squared residuals over their variance, of
        saturated bins only where the model is too dark; penalty, ``[B]``: squared deviations from
        the prior over its variance; and where light is left, ``[B, 3]``: the bin along each axis,
        counted from the corner, and the grey level there. Chi-square + penalty is minimised.
    """
    size = math.isqrt(patches.grey.shape[-1])
    scale = jnp.concatenate([jnp.ones(2, jnp.float32), prior.sd])
    # Unknowns: the first parameter of all spots, then the second of all spots, ...
    count = PARAMS * mask.shape[1]
    used = jnp.tile(mask, (1, PARAMS))
    has_prior = jnp.repeat(jnp.array([0, 0, 1, 1, 1], jnp.float32), mask.shape[1])
    root = jnp.sqrt(patches.weight)
    corner = patches.corner[:, None]

    def deviations(spots):
        return jnp.where(mask[..., None], (spots[..., 2:] - prior.mean) / prior.sd, 0.0)

    def residuals(values):
        left = patches.grey - jnp.where(mask[..., None], values, 0.0).sum(axis=1)
        return root * jnp.where(patches.saturated, jnp.maximum(left, 0.0), left)

    def objective(left, spots):
        return (left**2).sum(axis=1) + (deviations(spots) ** 2).sum(axis=(1, 2))

    def model(spots):
        return _spots_and_slopes(spots, corner, size, bin_pixels)

    def step(_, state):
        spots, left, cost, damping = state
        _, slopes = model(spots)
        free = jnp.where(patches.saturated & (left <= 0), 0.0, root)
        slopes = _design([slope * scale[i] for i, slope in enumerate(slopes)], mask, free)
        normal = slopes @ slopes.swapaxes(1, 2)
        pull = (
            jnp.pad(deviations(spots), ((0, 0), (0, 0), (2, 0))).swapaxes(1, 2).reshape(-1, count)
        )
        gradient = (slopes @ left[..., None])[..., 0] - pull
        diagonal = jnp.diagonal(normal, axis1=1, axis2=2) * damping[:, None]
        diagonal = jnp.where(used, diagonal + has_prior + 1e-3, 1.0)
        change = _solve(normal + diagonal[..., None] * jnp.eye(count, dtype=jnp.float32), gradient)
        change = change.reshape(-1, PARAMS, mask.shape[1]).swapaxes(1, 2)
        tried = _bounded(spots, change * scale, prior)
        tried_left = residuals(model(tried)[0])
        tried_cost = objective(tried_left, tried)
        better = tried_cost < cost
        spots = jnp.where(better[:, None, None], tried, spots)
        left = jnp.where(better[:, None], tried_left, left)
        damping *= jnp.where(better, 0.2, 8.0)
        return spots, left, jnp.where(better, tried_cost, cost), damping

    damping = jnp.full(len(spots), _DAMPING, jnp.float32)
    left = residuals(model(spots)[0])
    state = spots, left, objective(left, spots), damping
    spots, left, _, _ = jax.lax.fori_loop(0, iterations, step, state)
    penalty = (deviations(spots) ** 2).sum(axis=(1, 2))
    return spots, (left**2).sum(axis=1), penalty, _brightest(left, root)


def _design(slopes, mask, free):
    """Derivatives of the residuals by the unknowns, ``[B, PARAMS * K, P^2]``.

    Written one after the other: XLA would compute the spots anew for each part that it joins.

    Args:
        slopes: of the spots by each parameter, ``[PARAMS][B, K, P^2]``.
        mask: which entries are spots, ``[B, K]``.
        free: root of the weight where the residual may change, else 0, ``[B, P^2]``.
    """
    out = jnp.zeros((len(free), PARAMS * mask.shape[1], free.shape[1]), jnp.float32)
    for i, slope in enumerate(slopes):
        slope = jnp.where(mask[..., None], slope * free[:, None], 0.0)
        out = jax.lax.dynamic_update_slice(out, slope, (0, i * mask.shape[1], 0))
    return out


def _brightest(left, root):
    """Where the fit leaves most light: bin along both axes and mean grey of 3 x 3, ``[B, 3]``."""
    size = math.isqrt(left.shape[1])
    grey = jnp.where(root > 0, left / jnp.where(root > 0, root, 1.0), 0.0)
    grey = grey.reshape(-1, size, size)
    inner = size - 2 * _BORDER
    first = _BORDER - 1
    corner = (0, first, first)
    window = jax.lax.slice(grey, corner, (len(grey), first + inner + 2, first + inner + 2))
    mean = jax.lax.reduce_window(window, 0.0, jax.lax.add, (1, 3, 3), (1, 1, 1), "valid") / 9
    flat = mean.reshape(len(mean), -1)
    place = flat.argmax(axis=1).astype(jnp.int32)
    bins = jnp.stack([place // inner, place % inner], axis=1) + _BORDER
    return jnp.concatenate([bins.astype(jnp.float32), flat.max(axis=1, keepdims=True)], axis=1)


def _grid(size, corner):
    """Numbers of the bins of squares along both axes, ``[..., P^2]`` each.

    Squares are flat for the processor's vectors.
    """
    grid = np.indices((size, size), np.float32).reshape(2, -1)
    return [grid[axis] + corner[..., axis, None].astype(jnp.float32) for axis in range(2)]


def _spots_and_slopes(spots, corner, size, bin_pixels):
    """Grey levels ``[..., P^2]`` and their derivatives by the five parameters, of the same shape.

    The camera's spot ends with the whole pixels that touch ``s sqrt(2 ln A)``: half a pixel further
    on average. A bin on the end counts with the part that lies inside, and the part changes with
    the spot.
    """
    middle, variance = bin_points(bin_pixels)
    amplitude, width, rho = (spots[..., i, None] for i in (AMPLITUDE, WIDTH, CORRELATION))
    # of the spot before it was averaged over the bin
    squared = jnp.maximum(width**2 - variance, variance)
    root = jnp.sqrt(2 * jnp.log(jnp.maximum(amplitude * width**2 / squared, 1.1)))
    half = jnp.sqrt(squared) * root + 0.5 / bin_pixels
    offsets, parts, shifts, growths = [], [], [], []
    for axis, bins in enumerate(_grid(size, corner)):
        start = bins - spots[..., axis, None]
        low, high = start < -half, start + 1 > half  # the bin sticks out
        part = jnp.minimum(start + 1, half) - jnp.maximum(start, -half)
        inside = part > 0
        offsets.append(start + middle)
        parts.append(jnp.where(inside, part, 0.0))
        low, high = (low & inside).astype(jnp.float32), (high & inside).astype(jnp.float32)
        shifts.append(high - low)
        growths.append(high + low)
    dx, dz = offsets
    inside = parts[0] * parts[1]
    squares = (dx**2 + dz**2 + 2 * rho * dx * dz) / width**2
    bell = jnp.exp(-squares / 2)
    height = amplitude * bell
    values = height * inside
    narrow = values / width**2
    growth = height * (growths[0] * parts[1] + parts[0] * growths[1])
    return values, (
        narrow * (dx + rho * dz) + height * shifts[0] * parts[1],
        narrow * (dz + rho * dx) + height * parts[0] * shifts[1],
        bell * inside + growth * (jnp.sqrt(squared) / (root * amplitude)),
        values * squares / width + growth * (half / width),
        -narrow * (dx * dz),
    )


def _bounded(spots, change, prior):
    """The spots after a step that is not too long and leaves no parameter without meaning."""
    moved = spots[..., :2] + jnp.clip(change[..., :2], -_LARGEST_STEP, _LARGEST_STEP)
    low = jnp.stack([jnp.float32(1.0), _WIDTHS[0] * prior.mean[1], -_LARGEST_CORRELATION])
    high = jnp.stack([jnp.float32(1e6), _WIDTHS[1] * prior.mean[1], _LARGEST_CORRELATION])
    return jnp.concatenate([moved, jnp.clip(spots[..., 2:] + change[..., 2:], low, high)], axis=-1)


def _solve(matrix, vector):
    """Solves small positive definite systems, ``[B, n, n]`` and ``[B, n]``: Gauss-Jordan in blocks.

    Without LAPACK: called by two threads at a time it waits for ever on XLA's pool of two.
    """
    n = vector.shape[1]
    system = jnp.concatenate([matrix, vector[..., None]], axis=2)  # columns not yet eliminated
    for first in range(0, n, _BLOCK):
        size = min(_BLOCK, n - first)

        def eliminate(k, rows, size=size):
            row = jax.lax.dynamic_slice_in_dim(rows, k, 1, axis=1)
            row = row / jax.lax.dynamic_slice_in_dim(row, k, 1, axis=2)
            column = jax.lax.dynamic_slice_in_dim(rows, k, 1, axis=2)
            return jnp.where((jnp.arange(size) == k)[:, None], row, rows - column * row)

        rows = jax.lax.fori_loop(0, size, eliminate, system[:, first : first + size])[:, :, size:]
        others = system[:, :, size:] - system[:, :, :size] @ rows
        system = jax.lax.dynamic_update_slice(others, rows, (0, first, 0))
    return system[..., 0]
