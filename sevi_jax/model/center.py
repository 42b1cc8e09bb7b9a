"""Means of the few pixels about the centre, where a slow shell's density goes as 1 / s.

There the density in the middle of a pixel says little of its mean. Every pixel is cut into four
triangles with one corner in the centre (areas have signs, so that the centre may lie anywhere)
and each is integrated by Gauss's rule, in xi from the centre outwards and in u along the edge of
the pixel, where eta = eta_0 + a sinh u is the place on the edge and a its distance from the centre:
then the element of area over s is a du dxi, and what is left, s A_m(s), is smooth. The series is
known at distances s = s_max q^2 with q even, sharp: a known blur counts, the width of the pixel
does not.

So the means are one matrix (pixels times points of this grid and modes) times the series.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.model import geometry as geo
from sevi_jax.model.components import Shell
from sevi_jax.model.means import (
    Frame,
    Layout,
    cubic_kernel,
    detected,
    lagrange_taps,
    noise,
)
from sevi_jax.model.pixels import Chunk, Pixels
from sevi_jax.physics.series import Kind, cosines, series_at

SIDE = 9  # pixels along each side of the central block
_POINTS = 80  # of the grid
_NODES = (8, 16)  # of Gauss's rule along each coordinate: usually, and for narrow shells
_NARROW = 1.5  # pixels
_REACH = 0.75 * SIDE + 1  # pixels: no point of a pixel in the block lies farther out


@functools.cache
def _rule(nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    node, weight = np.polynomial.legendre.leggauss(nodes)
    node, weight = (node + 1) / 2, weight / 2
    xi, eta = np.meshgrid(node, node, indexing="ij")
    return (
        xi.ravel().astype(np.float32),
        eta.ravel().astype(np.float32),
        np.outer(weight, weight).ravel().astype(np.float32),
    )


def central(row: np.ndarray, column: np.ndarray, geometry: np.ndarray) -> np.ndarray:
    """Which pixels ``[N]`` belong to the block of `SIDE` x `SIDE` about the centre; bool."""
    inside = np.ones(row.shape, bool)
    for place, origin in ((row, geometry[0]), (column, geometry[1])):
        # half open: of pixels about a corner between them, one side has the one that is over
        inside &= (place - origin >= -SIDE / 2) & (place - origin < SIDE / 2)
    return inside


def _nodes(
    row: jax.Array, column: jax.Array, geometry: jax.Array, nodes: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Places on the grid, cosines and weights of the points of pixels, each ``[N, Q]``."""
    xi, eta, weight = _rule(nodes)
    r, c = row - geometry[0], column - geometry[1]
    corners = np.array([(-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5)], np.float32)
    start = jnp.stack([r, c], axis=-1)[:, None] + corners  # [N, 4, 2]
    edge = jnp.roll(start, -1, axis=1) - start
    area = start[..., 1] * edge[..., 0] - start[..., 0] * edge[..., 1]  # [N, 4]
    # the edge has the length 1; its point nearest to the centre is at `foot`, `away` from it
    away = jnp.maximum(jnp.abs(area), 1e-6)
    foot = -jnp.sum(start * edge, axis=-1)
    begin, end = jnp.arcsinh(-foot / away), jnp.arcsinh((1 - foot) / away)
    u = begin[..., None] + (end - begin)[..., None] * eta
    along = foot[..., None] + away[..., None] * jnp.sinh(u)
    point = (start[..., None, :] + along[..., None] * edge[..., None, :]) * xi[:, None]
    z, x, log_area = geo.to_ideal(
        point[..., 0] + geometry[0], point[..., 1] + geometry[1], geometry
    )
    s = jnp.sqrt(jnp.maximum(z * z + x * x, 1e-14))
    # the distance on the detector is xi times that of the point on the edge, away cosh u
    stretch = xi * away[..., None] * jnp.cosh(u) / s
    amount = (area * (end - begin))[..., None] * weight * jnp.exp(log_area) * stretch
    place = jnp.sqrt(s / _REACH) * (_POINTS - 4) + 1
    flat = (len(row), -1)
    return place.reshape(flat), (z / s).reshape(flat), amount.reshape(flat)


def matrix(
    row: jax.Array, column: jax.Array, geometry: jax.Array, modes: tuple[int, ...], nodes: int
) -> jax.Array:
    """Means of pixels per unit of s A_m(s), ``[N, _POINTS, M]``.

    Args:
        row, column: middles of the pixels, from the middle of the picture, ``[N]``.
        geometry: `geometry.NAMES`.
        modes: m.
        nodes: of Gauss's rule.
    """
    place, cosine, amount = _nodes(row, column, geometry, nodes)
    taps = cubic_kernel(place[..., None] - jnp.arange(_POINTS, dtype=jnp.float32))
    waves = jnp.stack(cosines(cosine, modes), axis=-1) * amount[..., None]
    return jnp.einsum("npg,npm->ngm", taps, waves, precision="highest")


def _means_of(
    series: jax.Array,
    row: jax.Array,
    column: jax.Array,
    geometry: jax.Array,
    modes: tuple[int, ...],
    nodes: int,
) -> jax.Array:
    """The matrix times a series, ``[N]``, without the matrix; to be differentiated."""
    place, cosine, amount = _nodes(row, column, geometry, nodes)
    cell = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)), 1, _POINTS - 3).astype(jnp.int32)
    taps, _ = lagrange_taps(place - cell.astype(jnp.float32))
    near = [series[cell + k] for k in (-1, 0, 1, 2)]
    density = sum(
        wave * sum(tap * x[..., m] for tap, x in zip(taps, near, strict=True))
        for m, wave in enumerate(cosines(cosine, modes))
    )
    return jnp.sum(amount * density, axis=-1)


def distances() -> np.ndarray:
    """Distances of the points of the grid, pixels; the first repeats the third."""
    q = (np.arange(_POINTS) - 1.0) / (_POINTS - 4)
    return _REACH * q * q


@functools.partial(jax.jit, static_argnames=("kind", "lengths"))
def _central_columns(parameters, amplitudes, variance, kind, lengths):
    s = jnp.asarray(np.maximum(distances(), 1e-4), jnp.float32)
    units, slopes = series_at(s, parameters, amplitudes, kind, variance)
    series = jnp.einsum("gml,l->gm", units, amplitudes, precision="highest")
    return series, jnp.concatenate([slopes[..., :lengths], units], axis=-1)


def central_series(
    shell: Shell, values: np.ndarray, modes: tuple[int, ...], variance: float
) -> tuple[jax.Array, jax.Array]:
    """s A_m(s) of a shell ``[_POINTS, M]``, and its derivatives ``[_POINTS, M, size]``."""
    lengths, amplitudes = shell.split(values)
    kind = Kind(shell.shape, (0, *shell.orders), modes)
    single = (np.asarray(x, np.float32) for x in (lengths, amplitudes, variance))
    return _central_columns(*single, kind, shell.lengths)


@functools.partial(jax.jit, static_argnames=("layout", "nodes"))
def means(
    series: jax.Array, slopes: jax.Array, frame: Frame, chunk: Chunk, layout: Layout, nodes: int
):
    """Means of the central pixels and their derivatives by all parameters.

    Args:
        series: s A_m(s), ``[_POINTS, M]``.
        slopes: its derivatives by the parameters of all shells, ``[_POINTS, M, S]``.
        frame: the rest of the model.
        chunk: the pixels, ``[1, N]``.
        layout: what is free.
        nodes: of Gauss's rule.

    Returns:
        ``[1, N]`` and ``[N, P]``.
    """
    row, column = chunk.row[0], chunk.column[0]
    to_pixels = matrix(row, column, frame.geometry, layout.modes, nodes)
    signal = jnp.einsum("ngm,gm->n", to_pixels, series, precision="highest")
    changes = []
    if layout.geometry:

        def along(direction):
            def moved(geometry):
                return _means_of(series, row, column, geometry, layout.modes, nodes)

            return jax.jvp(moved, (frame.geometry,), (direction,))[1]

        changes = list(jax.lax.map(along, jnp.asarray(geo.directions(layout.geometry)))[:, None])
    mean, response, columns = detected(signal[None], changes, frame, chunk, layout)
    by_shells = response[0][:, None] * jnp.einsum("ngm,gms->ns", to_pixels, slopes)
    return mean, jnp.concatenate([by_shells, *(x[0][:, None] for x in columns)], axis=-1)


@functools.partial(jax.jit, static_argnames="layout")
def evaluate(mean: jax.Array, jacobian: jax.Array, frame: Frame, chunk: Chunk, layout: Layout):
    """Half the deviance, score ``[P]`` and information ``[P, P]`` of the central pixels."""
    half, residual, weight = noise(mean, frame, chunk, layout)
    weighted = jacobian * weight[0][:, None]
    return (
        jnp.sum(half),
        jnp.matmul(residual[0], jacobian, precision="highest"),
        jnp.matmul(weighted.T, jacobian, precision="highest"),
    )


@dataclasses.dataclass(frozen=True)
class Center:
    """The central pixels of a picture.

    Attributes:
        chunk: on the device, ``[1, N]``; N is `SIDE` squared, pixels that are not there have no
            exposure.
        place: flat indices of the pixels that are there, ``[n]``; they come first.
        nodes: of Gauss's rule.
    """

    chunk: Chunk
    place: np.ndarray
    nodes: int


def gather(inside: np.ndarray, pixels: Pixels, width: float) -> Center:
    """Takes the central pixels out of all, ``[N]``; `width` is of the narrowest shell."""
    place = np.flatnonzero(inside)
    missing = SIDE * SIDE - len(place)

    def padded(values, empty=0.0):
        taken = np.append(values[place], np.full(missing, empty))
        return jnp.asarray(taken[None], jnp.float32)

    far = 100.0 + np.abs(pixels.row).max()
    rest = (None if x is None else padded(x) for x in pixels[2:])
    nothing = jnp.zeros(1, jnp.int32)
    chunk = Chunk(padded(pixels.row, far), padded(pixels.column, far), *rest, nothing)  # pyright: ignore
    return Center(chunk, place, _NODES[int(width < _NARROW)])
