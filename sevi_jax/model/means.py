"""Mean of every pixel, and what a fit needs of a chunk of pixels: deviance, gradient, information.

The mean of a pixel is

    exposure * efficiency * (area * sum_m A_m(s) cos(m t) + background).

A_m is the sum over all shells, on the grid of `physics.series`. All that a shell has to do with
pixels goes through A_m: the gradient of the deviance by A_m on the grid, and per cell the sums of
w E E' with E the cosines, are all that a fit needs, whatever the number of shells and parameters.
The matrix of pixels times parameters never exists. Parameters that do not act through A_m
(geometry, background, efficiency, exposure of the picture without light) have columns of their own.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sevi_jax.model import geometry as geo
from sevi_jax.model.pixels import Chunk
from sevi_jax.physics.series import cosines

BACKGROUNDS = {"none": 0, "constant": 1, "smooth": 15}
EFFICIENCY_TERMS = 14
# Degrees of the Legendre polynomials along rows and columns: every polynomial to the fourth degree.
# Those of the third have what turns three times around the rings, r^3 cos 3t.
_DEGREES = tuple((n - k, k) for n in range(5) for k in range(n + 1))


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a program is compiled for; hashable.

    Attributes:
        modes: m of the series.
        geometry: indices into `geometry.NAMES` of what is free.
        background: terms of the background.
        efficiency: whether a smooth efficiency is free.
        off_scale: whether the exposure of a picture without light is free.
        normal: whether the noise is normal with a variance given per pixel.
        nodes: of Gauss's rule along each side of a pixel, 1 where its middle stands for it; for
            more than 1 see `wide`, here pixels have one node.
        reach: steps of the grid on each side of a block's cell that corners of pixels may lie in.
        cells: steps of the grid in the cell of a block.
    """

    modes: tuple[int, ...]
    geometry: tuple[int, ...] = ()
    background: int = 0
    efficiency: bool = False
    off_scale: bool = False
    normal: bool = False
    nodes: int = 1
    reach: int = 0
    cells: int = 1

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the parameters that have columns of their own."""
        found = [geo.NAMES[i] for i in self.geometry]
        found += [f"background_{k}" for k in range(self.background)]
        found += [f"efficiency_{k + 1}" for k in range(EFFICIENCY_TERMS if self.efficiency else 0)]
        return (*found, *(("off_scale",) if self.off_scale else ()))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Frame:
    """Values of all that is not a shell.

    Attributes:
        geometry: ``[9]``; the origin from the middle of the picture.
        background: counts per pixel of each term, ``[15]``.
        efficiency: coefficients of its logarithm, ``[14]``.
        off_scale: exposure over that of the off picture, less the exposure that counts are less.
        floor: the likelihood is continued below this mean.
        half: half of the longer side of the picture, pixels: the unit of background terms.
        step: h of the grid.
        start: where the grid begins, pixels; 0 but for bands of pixels that are integrated over.
        efficiency_means: what is taken off each term of the efficiency, ``[14]``: its mean over the
            rings of the picture, see `ring_means`.
    """

    geometry: jax.Array
    background: jax.Array
    efficiency: jax.Array
    off_scale: jax.Array
    floor: jax.Array
    half: jax.Array
    step: jax.Array
    start: jax.Array
    efficiency_means: jax.Array


def smooth_terms(row: jax.Array, column: jax.Array, number: int) -> list[jax.Array]:
    """Legendre polynomials that are orthogonal on [-1, 1] x [-1, 1], the constant first."""

    def legendre(x):
        square = x * x
        third = 2.5 * square * x - 1.5 * x
        fourth = (35 * square * square - 30 * square + 3) / 8
        return jnp.ones_like(x), x, 1.5 * square - 0.5, third, fourth

    along, across = legendre(row), legendre(column)
    return [along[i] * across[k] for i, k in _DEGREES[:number]]


def sines(cosine: jax.Array, sine: jax.Array, modes: tuple[int, ...]) -> list[jax.Array]:
    """sin(m t) of every mode."""
    step = modes[1] if len(modes) > 1 else 1
    double, first = (2 * cosine, sine) if step == 1 else (
        2 * (2 * cosine * cosine - 1), 2 * sine * cosine)  # fmt: skip
    values = [jnp.zeros_like(sine), first]
    for _ in modes[2:]:
        values.append(double * values[-1] - values[-2])
    return values[: len(modes)]


def lagrange_taps(place: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
    """Cubic Lagrange weights of the points -1, 0, 1, 2, and their derivatives."""
    f = place
    square, cube = f * f, f * f * f
    weights = [
        (-cube + 3 * square - 2 * f) / 6,
        (cube - 2 * square - f + 2) / 2,
        (-cube + square + 2 * f) / 2,
        (cube - f) / 6,
    ]
    slopes = [
        (-3 * square + 6 * f - 2) / 6,
        (3 * square - 4 * f - 1) / 2,
        (-3 * square + 2 * f + 2) / 2,
        (3 * square - 1) / 6,
    ]
    return weights, slopes


def half_deviance(mean: jax.Array, counts: jax.Array) -> jax.Array:
    """Half the deviance of Poisson counts; mean above 0.

    ``n log(n / m) - n + m = m g(n / m - 1)`` with ``g(u) = (1 + u) log(1 + u) - u``, by its series
    near 0, where the difference would lose all digits.
    """
    u = (counts - mean) / mean
    series = u * u * (1 / 2 - u * (1 / 6 - u * (1 / 12 - u * (1 / 20 - u * (1 / 30 - u / 42)))))
    ratio = jnp.maximum(1 + u, 0.0)
    logarithm = jnp.log(jnp.where(ratio > 0, ratio, 1.0))
    return mean * jnp.where(jnp.abs(u) < 0.05, series, ratio * logarithm - u)


@functools.partial(jax.jit, static_argnames="layout")
def evaluate_chunk(series: jax.Array, frame: Frame, chunk: Chunk, layout: Layout):
    """Computes what a chunk of pixels says of the means.

    Args:
        series: A_m on the grid, per pixel^2, ``[G, M]``.
        frame: the rest of the model.
        chunk: K blocks.
        layout: what is free.

    Returns:
        half the deviance of every block ``[K]``; its negative gradient by the four points of the
        grid of every block ``[K, 4, M]`` and by the columns ``[C]``; sums of w E E' of every block
        ``[K, F, F]``, E being the M cosines and then the C columns.
    """
    mean, basis, taps, columns = parts_of_means(series, frame, chunk, layout)
    half, residual, weight = noise(mean, frame, chunk, layout)
    # Barriers keep the compiler from computing a pixel anew for every sum that it is in.
    residual, weight, taps = jax.lax.optimization_barrier((residual, weight, taps))
    every = jax.lax.optimization_barrier(jnp.stack([*basis, *columns], axis=1))
    to_grid = jnp.stack([tap * residual for tap in taps], axis=1)
    count = len(layout.modes)
    gradient = jnp.einsum("kjp,kmp->kjm", to_grid, every[:, :count])
    of_columns = jnp.einsum("kp,kcp->c", residual, every[:, count:])
    information = jnp.einsum("kfp,kgp->kfg", every * weight[:, None], every)
    return jnp.sum(half, axis=1), gradient, of_columns, information


def parts_of_means(series: jax.Array, frame: Frame, chunk: Chunk, layout: Layout):
    """Computes the mean of every pixel and what its derivatives are made of.

    Args:
        series, frame, chunk, layout: as in `evaluate_chunk`.

    Returns:
        the mean ``[K, LANES]``; the cosines times exposure and area, the weights of the four points
        of the grid, and the columns, lists of ``[K, LANES]``.
    """
    z, x, log_area = geo.to_ideal(chunk.row, chunk.column, frame.geometry)
    s = jnp.sqrt(jnp.maximum(z * z + x * x, 1e-12))
    cosine, sine = z / s, x / s
    place = s / frame.step - chunk.cell.astype(jnp.float32)[:, None]
    taps, slopes = lagrange_taps(place)
    window = series[chunk.cell[:, None] + jnp.arange(4)]  # [K, 4, M]
    area = jnp.exp(log_area)
    waves = cosines(cosine, layout.modes)

    def across(weights):
        """Series of every pixel, one mode after the other."""
        return [
            sum(weights[j] * window[:, j, m, None] for j in range(4))
            for m in range(len(layout.modes))
        ]

    amplitude = across(taps)
    density = sum(a * c for a, c in zip(amplitude, waves, strict=True))
    moved = []
    if layout.geometry:
        turned = sines(cosine, sine, layout.modes)
        by_s = sum(a * c for a, c in zip(across(slopes), waves, strict=True)) / frame.step
        by_t = -sum(m * a * n for m, a, n in zip(layout.modes, amplitude, turned, strict=True)) / s
        by_z, by_x = by_s * cosine - by_t * sine, by_s * sine + by_t * cosine

        def mapped(values):
            return geo.to_ideal(chunk.row, chunk.column, values)

        for direction in geo.directions(layout.geometry):
            dz, dx, da = jax.jvp(mapped, (frame.geometry,), (jnp.asarray(direction),))[1]
            moved.append(area * (by_z * dz + by_x * dx + density * da))
    mean, response, columns = detected(area * density, moved, frame, chunk, layout)
    factor = response * area
    basis = [factor * c for c in waves]
    return mean, basis, taps, columns


def detected(
    signal: jax.Array, moved: Sequence[jax.Array], frame: Frame, chunk: Chunk, layout: Layout
) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """What the detector makes of shells: efficiency, background, and the picture without light.

    Args:
        signal: electrons per pixel of all shells, ``[K, N]``.
        moved: its derivatives by what of the geometry is free, each ``[K, N]``.
        frame: the rest of the model.
        chunk: the pixels, ``[K, N]``.
        layout: what is free.

    Returns:
        the means, the efficiency of every pixel, and the derivatives of the means by the parameters
        that have columns of their own; each ``[K, N]``.
    """
    # empty lanes lie far out, where the exponential of a polynomial is infinite, and 0 times that
    row, column = (jnp.clip(x / frame.half, -1.0, 1.0) for x in (chunk.row, chunk.column))
    response = chunk.exposure
    terms = smooth_terms(row, column, EFFICIENCY_TERMS + 1)[1:] if layout.efficiency else []
    terms = [t - frame.efficiency_means[k] for k, t in enumerate(terms)]
    if terms:
        response = response * jnp.exp(sum(frame.efficiency[k] * t for k, t in enumerate(terms)))
    background = smooth_terms(row, column, layout.background)
    level = sum(frame.background[k] * t for k, t in enumerate(background))
    mean = response * (signal + level)
    columns = [response * x for x in (*moved, *background)]
    columns += [mean * term for term in terms]
    if layout.off_scale:
        assert chunk.off is not None
        mean = mean + frame.off_scale * chunk.off
        columns.append(chunk.off)
    return mean, response, columns


def cubic_kernel(x: jax.Array) -> jax.Array:
    """Weight of a point at the distance x (in steps) in cubic Lagrange interpolation."""
    a = jnp.abs(x)
    inner = 1 - a * (0.5 + a * (1 - 0.5 * a))
    outer = 1 - a * (11 / 6 - a * (1 - a / 6))
    return jnp.where(a <= 1, inner, jnp.where(a < 2, outer, 0.0))


def noise(mean: jax.Array, frame: Frame, chunk: Chunk, layout: Layout):
    """Half the deviance, residual over variance, and 1 / variance."""
    used = chunk.exposure > 0
    if layout.normal:
        assert chunk.noise is not None
        weight = jnp.where(used, 1 / jnp.where(used, chunk.noise, 1.0), 0.0)
        residual = (chunk.counts - mean) * weight
        return 0.5 * (chunk.counts - mean) * residual, residual, weight
    floor = frame.floor * chunk.exposure
    safe_floor = jnp.where(used, floor, 1.0)
    held = jnp.where(used, jnp.maximum(mean, floor), 1.0)
    counts = jnp.where(used, chunk.counts, 1.0)
    half = half_deviance(held, counts)
    weight = 1 / held
    residual = (counts - held) * weight
    # below the floor: the parabola of a normal number whose variance is the floor's
    below = jnp.minimum(mean - safe_floor, 0.0)
    half = half - below * residual + 0.5 * below * below * weight
    residual = residual - below * weight
    keep = used.astype(jnp.float32)
    return jnp.where(used, half, 0.0), residual * keep, weight * keep


@functools.partial(jax.jit, static_argnames="layout")
def chunk_means(series: jax.Array, frame: Frame, chunk: Chunk, layout: Layout) -> jax.Array:
    """Mean of every pixel of a chunk, ``[K, LANES]``."""
    return parts_of_means(series, frame, chunk, layout)[0]
