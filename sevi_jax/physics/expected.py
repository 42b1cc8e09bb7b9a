"""Expected counts of a picture, differentiable in all shell parameters; draws no electrons.

Independent of `electrons` and `raster`, and the test of both: the mean of many rasters must match.

A shell's density on the detector is an integral along the line of sight y,

    rho(s, c) = 1/pi int_0^inf f(r) / r^2 I(s c / r) dy,   r^2 = s^2 + y^2,

with s the distance from the centre, c = z / s, f the normal density of the radius and I the
density of cos(theta). In y the integrand is smooth (in r it is not: dr = y / r dy), so Gauss's rule
over the part of the line that meets the shell is exact to rounding. As a function of c, rho is an
even polynomial of the same degree as I, hence a Legendre series, rho = sum_l B_l(s) P_l(c); the
`profile` B has all that depends on the parameters. Three steps:

1. B_l at some 130 nodes in s that crowd at the shell's edge;
2. cubic interpolation onto an even grid in s, the same for all shells, so their sum is taken here;
3. even grid to pixels. Coarse pixels, wider than the edge, need an area integral: a constant table
   holds the integral of (interpolation kernel) * P_l(c) over every pixel. Fine pixels take the
   average over a few points.

Only one quadrant is computed; the density is even in x and in z.
"""

import concurrent.futures
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.physics.legendre import legendre_series, legendre_values, with_constant
from sevi_jax.physics.types import ImageSpec, ShellParams

_REACH = 5.5  # the radius is cut this many sigma from its mean: 4e-8 of the electrons
_LINE_NODES = 28  # Gauss nodes along the line of sight
_EDGE_STEP = 0.25  # spacing of the nodes at the edge, in sigma
_INNER_NODES = 64  # intervals of the nodes inside the edge
_GRID_STEP = 0.00125  # spacing of the even grid in s, half-widths
_POINTS = math.ceil(math.sqrt(2) / _GRID_STEP) + 4  # of that grid: to the corner, and a margin
_COARSE_PIXEL = 0.006  # half-widths; from here on pixels are integrated with the constant table
_BLOCK = 32  # at most so many pixels share a window of the even grid in the table


def _safe_sqrt(square: jax.Array) -> jax.Array:
    """Square root, 0 (1e-10) with gradient 0 where there is none.

    Not by a choice between two values: the compiler may compute a `square` of rounding size twice,
    with different signs, and then take the root of the stand-in. The lower end of the line of
    sight is such a square at the node R - 5.5 sigma of every shell.
    """
    return jnp.sqrt(jnp.maximum(square, 1e-20))


def _cubic_weights(fraction):
    """Lagrange weights of the points -1, 0, 1, 2 at `fraction` in [0, 1]; NumPy or JAX."""
    f = fraction
    return (
        -f * (f - 1) * (f - 2) / 6,
        (f + 1) * (f - 1) * (f - 2) / 2,
        -(f + 1) * f * (f - 2) / 2,
        (f + 1) * f * (f - 1) / 6,
    )


@functools.cache
def _angle_rule(num_orders: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes c_i^2 ``[L + 1]`` and the matrix ``[L + 1, L + 1]`` from values there to B_l."""
    nodes, weights = np.polynomial.legendre.leggauss(2 * (num_orders + 1))
    nodes, weights = nodes[num_orders + 1 :], weights[num_orders + 1 :]
    orders = 2 * np.arange(num_orders + 1)
    matrix = (2 * orders + 1) * weights[:, None] * legendre_values(nodes, num_orders)
    return (nodes**2).astype(np.float32), matrix.astype(np.float32)


def _line_of_sight(
    s: jax.Array, radius: jax.Array, sigma: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gauss's rule along the line of sight at s ``[K]``: weight times f / (pi r^2), and s^2 / r^2.

    Both ``[K, _LINE_NODES]``.
    """
    node, weight = (x.astype(np.float32) for x in np.polynomial.legendre.leggauss(_LINE_NODES))
    square = s * s
    near, far = jnp.maximum(radius - _REACH * sigma, 0.0), radius + _REACH * sigma
    start, stop = _safe_sqrt(near * near - square), _safe_sqrt(far * far - square)
    half = (stop - start) / 2
    y = (start + half)[:, None] + half[:, None] * node
    r_square = jnp.maximum(square[:, None] + y * y, 1e-12)
    r = jnp.sqrt(r_square)
    deviation = (r - radius) / sigma
    norm = 1 / (np.pi * math.sqrt(2 * np.pi)) / sigma
    along = norm * half[:, None] * weight * jnp.exp(-0.5 * deviation * deviation) / r_square
    return along, square[:, None] / r_square


def _profile_at(s: jax.Array, radius: jax.Array, sigma: jax.Array, beta: jax.Array) -> jax.Array:
    """B_l(s) of one shell of one electron: s ``[K]`` to ``[K, L + 1]``, per squared half-width."""
    along, ratio = _line_of_sight(s, radius, sigma)
    c_square, to_series = _angle_rule(beta.shape[-1])
    cosine_square = ratio[:, :, None] * c_square
    coefficients = with_constant(beta)[:, None, None, None]
    values = jnp.sum(along[:, :, None] * legendre_series(coefficients, cosine_square), axis=1)
    return jnp.matmul(values, to_series, precision="highest")


def shell_profile(radius: jax.Array, sigma: jax.Array, beta: jax.Array) -> jax.Array:
    """Computes the Legendre series of one shell's density on the even grid in s.

    Args:
        radius: scalar, half-widths.
        sigma: scalar, half-widths.
        beta: ``[L]``.

    Returns:
        B_l(s) per electron and squared half-width at s = -1, 0, 1, ... steps of the grid,
        ``[G, L + 1]``.
    """
    # edge: s = R + sigma v with v even; inside: s = a (1 - q^2) with q even, so that the nodes
    # crowd where the edge begins. a lies a sigma within the edge: at q = 0 the derivative of q by
    # R or sigma has no bound. q > 1 mirrors s < 0 onto s > 0: ghost nodes for the cubic that cost
    # no special case.
    low, high = -7.0, 6.0
    edge_v = np.arange(low - _EDGE_STEP, high + 2 * _EDGE_STEP, _EDGE_STEP).astype(np.float32)
    inner_q = ((np.arange(_INNER_NODES + 4) - 1) / _INNER_NODES).astype(np.float32)
    edge_begin = radius + (low + 1) * sigma
    inner_end = jnp.maximum(edge_begin + sigma, sigma)
    nodes = jnp.concatenate([radius + sigma * edge_v, inner_end * (1 - inner_q * inner_q)])
    table = _profile_at(nodes, radius, sigma, beta)

    s = jnp.asarray((np.arange(_POINTS) - 1.0) * _GRID_STEP, jnp.float32)
    v = (s - radius) / sigma
    in_edge = s >= edge_begin
    q = _safe_sqrt(1 - s / inner_end)
    edge_place, inner_place = (v - low) / _EDGE_STEP + 1, q * _INNER_NODES + 1
    index = jnp.where(
        in_edge,
        jnp.clip(jnp.floor(edge_place), 1, len(edge_v) - 3),
        jnp.clip(jnp.floor(inner_place), 1, _INNER_NODES + 1) + len(edge_v),
    ).astype(jnp.int32)
    # The compiler may compute a cheap value twice, rounded differently: once for the rows and once
    # for their weights, which then belong to other rows where s is close to a node or to the place
    # where the nodes change. A reduction it computes once (a barrier does not keep it from this).
    count = np.arange(len(nodes), dtype=np.int32)
    index = jnp.max(jnp.where(count <= index[:, None], count, 0), axis=1)
    in_edge = index < len(edge_v)
    place = jnp.where(in_edge, edge_place, inner_place + len(edge_v))
    weights = _cubic_weights(place - index.astype(jnp.float32))
    rows = sum(weights[k][:, None] * table[index + (k - 1)] for k in range(4))
    return jnp.where((v < high)[:, None], rows, 0.0)


class PixelTable(NamedTuple):
    """Integrals of the profile over the pixels of one quadrant.

    Pixels are sorted by their distance from the centre into K blocks of `_BLOCK` places, which
    share a window of the even grid; a place may be empty.

    Attributes:
        start: first row of the profile in each block's window, ``[K]``.
        table: from the window's values to the places, ``[K, _BLOCK, window * (L + 1)]`` float32.
        place: of every pixel of the flattened quadrant, ``[N]``.
    """

    start: np.ndarray
    table: np.ndarray
    place: np.ndarray


def _pixel_blocks(nearest: np.ndarray, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Sorts pixels by distance into blocks of at most `_BLOCK` that differ by less than `spread`.

    Args:
        nearest: distance of every pixel, ``[N]``.
        spread: half-widths.

    Returns:
        pixel of every place ``[K, _BLOCK]``, and whether the place is not empty, bool.
    """
    order = np.argsort(nearest, kind="stable")
    distance = nearest[order]
    begins, begin = [], 0
    while begin < order.size:
        begins.append(begin)
        begin = min(begin + _BLOCK, int(np.searchsorted(distance, distance[begin] + spread)))
    begin, end = np.array(begins), np.array([*begins[1:], order.size])
    index = begin[:, None] + np.arange(_BLOCK)
    return order[np.minimum(index, end[:, None] - 1)], index < end[:, None]


@functools.lru_cache(maxsize=4)
def pixel_table(spec: ImageSpec, num_orders: int) -> PixelTable:
    """Tabulates the integrals over the pixels of one quadrant of a centred picture.

    Args:
        spec: shape of the picture; its pixels are coarse.
        num_orders: L.

    Returns:
        The table, about 10 MB at 128 pixels and 24 orders.
    """
    side, width = spec.size // 2, 2 / spec.size
    node, node_weight = np.polynomial.legendre.leggauss(min(math.ceil(width / _GRID_STEP), 12))
    node, node_weight = width * node / 2, width * node_weight / 2
    x, z = ((i + 0.5) * width for i in np.divmod(np.arange(side * side), side))
    nearest = np.hypot(x - width / 2, z - width / 2)
    far = np.hypot(x + width / 2, z + width / 2)
    pixel, filled = _pixel_blocks(nearest, 2 * _GRID_STEP + width / 2)
    start = np.floor(nearest[pixel].min(1) / _GRID_STEP).astype(int)
    window = int(np.max(np.floor(far[pixel].max(1) / _GRID_STEP).astype(int) - start)) + 4
    start = np.clip(start, 0, _POINTS - window)
    table = np.zeros((*pixel.shape, window * (num_orders + 1)), np.float32)

    def fill(first: int) -> None:
        part = slice(first, first + 128)
        entry = pixel[part].ravel()
        every, base = np.arange(entry.size), np.repeat(start[part], _BLOCK)
        sums = np.zeros((entry.size, window, num_orders + 1))
        for i, j in np.ndindex(len(node), len(node)):
            x_point, z_point = x[entry] + node[i], z[entry] + node[j]
            s = np.hypot(x_point, z_point)
            row = s / _GRID_STEP + 1
            index = np.floor(row).astype(int)
            series = legendre_values(z_point / s, num_orders) * (node_weight[i] * node_weight[j])
            for k, kernel in enumerate(_cubic_weights(row - index)):
                sums[every, index + (k - 1) - base] += kernel[:, None] * series
        table[part] = sums.reshape(-1, _BLOCK, table.shape[-1])

    # some blocks at a time: float64 needs the room; NumPy lets other threads run meanwhile
    with concurrent.futures.ThreadPoolExecutor() as threads:
        list(threads.map(fill, range(0, len(pixel), 128)))
    place = np.empty(len(x), np.int32)
    place[pixel[filled]] = np.flatnonzero(filled)
    return PixelTable(start.astype(np.int32), table, place)


def _integrate_pixels(profile: jax.Array, spec: ImageSpec) -> jax.Array:
    """Counts of one quadrant's coarse pixels from the profile, by the constant table."""
    start, table, place = pixel_table(spec, profile.shape[-1] - 1)
    window = table.shape[-1] // profile.shape[-1]
    windows = profile[start[:, None] + np.arange(window, dtype=np.int32)]
    windows = windows.reshape(len(start), -1)
    counts = jnp.einsum("kpw,kw->kp", table, windows, precision="highest")
    return counts.ravel()[place].reshape(spec.size // 2, spec.size // 2)


def _pixel_rule(width: float) -> np.ndarray:
    """Points for the integral over a square pixel: offsets along x and z, weight, ``[Q, 3]``.

    The finest pixels take Gauss's 2 x 2 points, exact for polynomials of degree 3; wider ones
    Radon's 7, of degree 5 as the 9 of Gauss (Stroud 1971, C2: 5-1).
    """
    if width < 0.003:
        end = 3**-0.5
        rule = np.array([(x, z, 1) for x in (end, -end) for z in (end, -end)])
    else:
        far, side, near = (14 / 15) ** 0.5, 0.6**0.5, 3**-0.5
        corners = [(x, z, 5 / 9) for x in (side, -side) for z in (near, -near)]
        rule = np.array([(0, 0, 8 / 7), (0, far, 20 / 63), (0, -far, 20 / 63), *corners])
    return rule * [width / 2, width / 2, width**2 / 4]


def _sample_pixels(profile: jax.Array, spec: ImageSpec) -> jax.Array:
    """Counts of one quadrant's fine pixels from the profile, by a few points in each."""
    width = 2 / spec.size
    middle = (np.arange(spec.size // 2, dtype=np.float32) + np.float32(0.5)) * np.float32(width)
    rule = jnp.asarray(_pixel_rule(width), jnp.float32)

    def row(_, x_middle):
        """One row of pixels, fixed x: keeps the work in the cache."""

        def point(total, offset):
            x_point, z_point = x_middle + offset[0], middle + offset[1]
            square = jnp.maximum(x_point * x_point + z_point * z_point, 1e-12)
            place = jnp.sqrt(square) / _GRID_STEP + 1
            index = jnp.floor(place)
            kernel = _cubic_weights(place - index)
            index = index.astype(jnp.int32)
            rows = (kernel[k][:, None] * profile[index + (k - 1)] for k in range(4))
            terms = functools.reduce(jnp.add, rows)
            cosine_square = jnp.minimum(z_point * z_point / square, 1.0)
            return total + offset[2] * legendre_series(terms.T, cosine_square), None

        zeros = jnp.zeros(middle.shape, jnp.float32)
        return None, jax.lax.scan(point, zeros, rule, unroll=len(rule))[0]

    return jax.lax.scan(row, None, jnp.asarray(middle))[1]


def expected_counts(params: ShellParams, spec: ImageSpec) -> jax.Array:
    """Computes the mean number of electrons in every pixel of one picture.

    Accurate to about 1e-4 of the picture's peak for sigma >= 0.004 half-widths.

    Args:
        params: shells of one picture, arrays ``[S]`` and ``[S, L]``; `electrons` may be float.
        spec: shape of the picture.

    Returns:
        ``[side, side]`` float32.
    """
    profiles = jax.vmap(shell_profile)(params.radius, params.sigma, params.beta)
    profile = jnp.einsum("s,skl->kl", params.electrons.astype(jnp.float32), profiles)
    is_coarse = 2 / spec.size > _COARSE_PIXEL
    quadrant = (_integrate_pixels if is_coarse else _sample_pixels)(profile, spec)
    if spec.fold:
        return 4 * quadrant
    half = jnp.concatenate([quadrant[::-1], quadrant])
    return jnp.concatenate([half[:, ::-1], half], axis=1)
