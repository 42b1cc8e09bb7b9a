"""Pixels that are wide against a shell: integrated over by Gauss's rule, with exact derivatives.

Blocks lie as in `pixels`, but a block's cell spans several steps of the grid, and the series is the
sharp one, on a grid that begins where the band of pixels does. The mean of a pixel is linear in the
part of the series that the block sees, its window:
one matrix per block turns series into means, and derivatives of series into those of the means.
This matrix depends on the geometry alone.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.model import geometry as geo
from sevi_jax.model.means import (
    Frame,
    Layout,
    cubic_kernel,
    detected,
    lagrange_taps,
    noise,
    sines,
)
from sevi_jax.model.pixels import LANES, Chunk
from sevi_jax.physics.series import cosines

CHUNK_BLOCKS = 64


def window_points(layout: Layout) -> int:
    """W, points of the grid that a block sees."""
    return 4 + 2 * layout.reach + layout.cells


def _first(chunk: Chunk, layout: Layout) -> jax.Array:
    """First point of the window of every block, ``[K]``."""
    return jnp.maximum(chunk.cell - layout.reach, 0)


@functools.cache
def _rule(nodes: int) -> np.ndarray:
    """Gauss's rule over a pixel: shifts along rows and columns and weight, ``[Q, 3]``."""
    node, weight = np.polynomial.legendre.leggauss(nodes)
    rows, columns = np.meshgrid(node / 2, node / 2, indexing="ij")
    weights = np.outer(weight, weight) / 4
    return np.column_stack([x.ravel() for x in (rows, columns, weights)]).astype(np.float32)


def _places(chunk: Chunk, geometry: jax.Array, layout: Layout):
    """Ideal points of all nodes: z, x and the logarithm of the area, ``[K, Q * LANES]``."""
    rule = _rule(layout.nodes)[:, :, None]
    found = geo.to_ideal(
        chunk.row[:, None] + rule[:, 0], chunk.column[:, None] + rule[:, 1], geometry
    )
    return [x.reshape(len(chunk.cell), -1) for x in found]


def _shares(layout: Layout) -> np.ndarray:
    """Weights of all nodes, ``[Q * LANES]``."""
    return np.repeat(_rule(layout.nodes)[:, 2], LANES)


def _place(z: jax.Array, x: jax.Array, frame: Frame, chunk: Chunk, layout: Layout):
    """Distances of points from the centre, in pixels and as places in the window."""
    s = jnp.sqrt(jnp.maximum(z * z + x * x, 1e-12))
    first = _first(chunk, layout).astype(jnp.float32)[:, None]
    return s, (s - frame.start) / frame.step - first + 1


@functools.partial(jax.jit, static_argnames="layout")
def matrix(chunk: Chunk, frame: Frame, layout: Layout) -> jax.Array:
    """Means of pixels per unit of the series in the window, ``[K, W, M, LANES]``."""
    z, x, log_area = _places(chunk, frame.geometry, layout)
    s, place = _place(z, x, frame, chunk, layout)
    points = jnp.arange(window_points(layout), dtype=jnp.float32)[:, None]
    taps = cubic_kernel(place[:, None] - points) * (_shares(layout) * jnp.exp(log_area))[:, None]
    waves = jnp.stack(cosines(z / s, layout.modes), axis=1)
    # The barrier keeps the compiler from computing taps and waves anew for every element.
    taps, waves = jax.lax.optimization_barrier((taps, waves))
    total = jnp.zeros((), jnp.float32)
    for first in range(0, taps.shape[-1], LANES):
        part = slice(first, first + LANES)
        total = total + taps[:, :, None, part] * waves[:, None, :, part]
    return total


@functools.partial(jax.jit, static_argnames="layout")
def by_geometry(series: jax.Array, frame: Frame, chunk: Chunk, layout: Layout) -> jax.Array:
    """Derivatives of the integrated density by what of the geometry is free, ``[K, C, LANES]``."""
    window = series[_first(chunk, layout)[:, None] + jnp.arange(window_points(layout))]
    z, x, log_area = _places(chunk, frame.geometry, layout)
    modes = range(len(layout.modes))
    s, place = _place(z, x, frame, chunk, layout)
    cell = jnp.clip(jnp.floor(place), 1, window.shape[1] - 3).astype(jnp.int32)
    found = lagrange_taps(place - cell.astype(jnp.float32))
    near = [jnp.take_along_axis(window, cell[..., None] + k, axis=1) for k in (-1, 0, 1, 2)]
    # Barriers keep the compiler from computing what is used often anew for every use.
    found, near = jax.lax.optimization_barrier((found, near))
    amplitude, by_s = (
        [sum(w * x[..., m] for w, x in zip(weights, near, strict=True)) for m in modes]
        for weights in found
    )
    cosine, sine = z / s, x / s
    waves, turned = cosines(cosine, layout.modes), sines(cosine, sine, layout.modes)
    density = sum(a * c for a, c in zip(amplitude, waves, strict=True))
    outwards = sum(b * c for b, c in zip(by_s, waves, strict=True)) / frame.step
    around = -sum(m * a * n for m, a, n in zip(layout.modes, amplitude, turned, strict=True)) / s
    by_z, by_x = outwards * cosine - around * sine, outwards * sine + around * cosine
    weight = _shares(layout) * jnp.exp(log_area)
    parts = jax.lax.optimization_barrier((weight * by_z, weight * by_x, weight * density))

    def mapped(values):
        return _places(chunk, values, layout)

    def along(direction):
        changes = jax.jvp(mapped, (frame.geometry,), (direction,))[1]
        every = sum(part * change for part, change in zip(parts, changes, strict=True))
        return jnp.sum(every.reshape(len(chunk.cell), -1, LANES), axis=1)  # pyright: ignore

    return jax.vmap(along, out_axes=1)(geo.directions(layout.geometry))


@functools.partial(jax.jit, static_argnames="layout")
def means(
    to_pixels: jax.Array,
    moved: jax.Array,
    series: jax.Array,
    slopes: jax.Array,
    frame: Frame,
    chunk: Chunk,
    layout: Layout,
) -> tuple[jax.Array, jax.Array]:
    """Means of pixels and their derivatives by all parameters.

    Args:
        to_pixels: `matrix`.
        moved: `by_geometry`.
        series: the sharp A_m on the grid, ``[G, M]``.
        slopes: its derivatives by the parameters of all shells, ``[G, M, S]``.
        frame: the rest of the model.
        chunk: the pixels.
        layout: what is free.

    Returns:
        ``[K, LANES]`` and ``[K, P, LANES]``.
    """
    blocks, lanes = chunk.row.shape
    index = _first(chunk, layout)[:, None] + jnp.arange(window_points(layout))
    window = series[index]
    every = jnp.concatenate([window[..., None], slopes[index]], axis=-1)
    every = every.reshape(blocks, -1, every.shape[-1])
    flat = to_pixels.reshape(blocks, -1, lanes)
    found = jnp.einsum("kxs,kxp->ksp", every, flat, precision="highest")
    every_moved = [moved[:, k] for k in range(len(layout.geometry))]
    mean, response, columns = detected(found[:, 0], every_moved, frame, chunk, layout)
    jacobian = response[:, None] * found[:, 1:]
    if columns:
        jacobian = jnp.concatenate([jacobian, jnp.stack(columns, axis=1)], axis=1)
    return mean, jacobian


@functools.partial(jax.jit, static_argnames="layout")
def evaluate(
    to_pixels: jax.Array,
    moved: jax.Array,
    series: jax.Array,
    slopes: jax.Array,
    frame: Frame,
    chunk: Chunk,
    layout: Layout,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Half the deviance, score ``[P]`` and information ``[P, P]`` of a chunk; see `means`."""
    mean, jacobian = means(to_pixels, moved, series, slopes, frame, chunk, layout)
    half, residual, weight = noise(mean, frame, chunk, layout)
    weighted = jacobian * weight[:, None]
    return (
        jnp.sum(half),
        jnp.einsum("kp,kap->a", residual, jacobian, precision="highest"),
        jnp.einsum("kap,kbp->ab", weighted, jacobian, precision="highest"),
    )
