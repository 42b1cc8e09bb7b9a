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
   average over a few Gauss points.

Only one quadrant is computed; the density is even in x and in z.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.synthesis.legendre import legendre_series, legendre_values, with_constant
from sevi_jax.synthesis.raster import ImageSpec
from sevi_jax.synthesis.types import ShellParams

_REACH = 5.5  # the radius is cut this many sigma from its mean: 4e-8 of the electrons
_LINE_NODES = 28  # Gauss nodes along the line of sight
_EDGE_STEP = 0.25  # spacing of the nodes at the edge, in sigma
_INNER_NODES = 64  # intervals of the nodes inside the edge
_GRID_STEP = 0.00125  # spacing of the even grid in s, half-widths
_GRID_POINTS = math.ceil(math.sqrt(2) / _GRID_STEP) + 4  # to the detector's corner, and a margin
_COARSE_PIXEL = 0.006  # half-widths; from here on pixels are integrated with the constant table
_BLOCK = 64  # pixels that share a window of the even grid in the table


def _safe_sqrt(square: jax.Array) -> jax.Array:
    """Square root of the positive part, with gradient 0 where there is none."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


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


def _profile_at(s: jax.Array, radius: jax.Array, sigma: jax.Array, beta: jax.Array) -> jax.Array:
    """B_l(s) of one shell of one electron: s ``[K]`` to ``[K, L + 1]``, per squared half-width."""
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
    c_square, to_series = _angle_rule(beta.shape[-1])
    cosine_square = (square[:, None] / r_square)[:, :, None] * c_square
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
        B_l(s) per electron and squared half-width, ``[_GRID_POINTS, L + 1]``; row k stands for
        ``s = (k - 1) * _GRID_STEP``.
    """
    # edge: s = R + sigma v with v even; inside: s = a (1 - q^2) with q even, so that the nodes
    # crowd where the edge begins. q < 0 mirrors onto q > 0 and s < 0 onto s > 0: ghost nodes for
    # the cubic that cost no special case.
    low, high = -7.0, 6.0
    edge_v = np.arange(low - _EDGE_STEP, high + 2 * _EDGE_STEP, _EDGE_STEP).astype(np.float32)
    inner_q = ((np.arange(_INNER_NODES + 4) - 1) / _INNER_NODES).astype(np.float32)
    inner_end = radius + (low + 1) * sigma
    nodes = jnp.concatenate([radius + sigma * edge_v, inner_end * (1 - inner_q * inner_q)])
    table = _profile_at(nodes, radius, sigma, beta)

    s = (jnp.arange(_GRID_POINTS, dtype=jnp.float32) - 1) * _GRID_STEP
    v = (s - radius) / sigma
    in_edge = s >= inner_end
    q = _safe_sqrt(1 - s / inner_end)
    place = jnp.where(in_edge, (v - low) / _EDGE_STEP + 1, q * _INNER_NODES + 1)
    last = jnp.where(in_edge, len(edge_v) - 3, _INNER_NODES + 1)
    index = jnp.clip(jnp.floor(place), 1, last)
    weights = _cubic_weights(place - index)
    index = index.astype(jnp.int32) + jnp.where(in_edge, 0, len(edge_v))
    rows = sum(weights[k][:, None] * table[index + (k - 1)] for k in range(4))
    return jnp.where((v < high)[:, None], rows, 0.0)


def _pixel_points(spec: ImageSpec, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss points of a quadrant's pixels along an axis ``[size / 2, m]``, weights ``[m]``."""
    node, weight = np.polynomial.legendre.leggauss(points)
    width = 2 / spec.size
    return width * (np.arange(spec.size // 2)[:, None] + 0.5 + node / 2), weight / 2


@functools.lru_cache(maxsize=4)
def _pixel_table(spec: ImageSpec, num_orders: int):
    """Integrals over coarse pixels, from the even grid in s; float64 inside.

    Pixels are sorted by distance into blocks whose members share a window of the grid, so that the
    table is applied as a batched matrix product.

    Returns:
        window starts ``[K]`` int32, table ``[K, _BLOCK, window * (L + 1)]`` float32, and for every
        pixel of the quadrant its place among the sorted, ``[size / 2 * size / 2]`` int32.
    """
    half, width = spec.size // 2, 2 / spec.size
    count = max(4, math.ceil(width / _GRID_STEP))
    points, weights = _pixel_points(spec, min(count, 12))
    corner = np.arange(half) * width
    nearest = np.hypot(corner[:, None], corner).ravel()
    order = np.argsort(nearest, kind="stable")
    blocks = -(-order.size // _BLOCK)
    padded = np.resize(order, blocks * _BLOCK)
    padded[order.size :] = order[-1]
    x_index, z_index = padded // half, padded % half
    start = np.floor(nearest[padded].reshape(blocks, _BLOCK).min(1) / _GRID_STEP).astype(int)
    farthest = np.hypot((x_index + 1) * width, (z_index + 1) * width).reshape(blocks, _BLOCK).max(1)
    window = int(np.max(np.floor(farthest / _GRID_STEP).astype(int) - start)) + 4
    start = np.minimum(start, _GRID_POINTS - window)
    base = np.repeat(start, _BLOCK)
    table = np.zeros((padded.size, window, num_orders + 1))
    rows = np.arange(padded.size)
    for i, weight_x in enumerate(weights):
        for j, weight_z in enumerate(weights):
            x, z = points[x_index, i], points[z_index, j]
            s = np.hypot(x, z)
            place = s / _GRID_STEP + 1
            index = np.floor(place).astype(int)
            series = weight_x * weight_z * width**2 * legendre_values(z / s, num_orders)
            for k, kernel in enumerate(_cubic_weights(place - index)):
                table[rows, index + (k - 1) - base] += kernel[:, None] * series
    position = np.empty(order.size, np.int32)
    position[order] = np.arange(order.size)
    table = table.reshape(blocks, _BLOCK, -1).astype(np.float32)
    return start.astype(np.int32), table, position


def _integrate_pixels(profile: jax.Array, spec: ImageSpec) -> jax.Array:
    """Counts of one quadrant's coarse pixels from the profile, by the constant table."""
    num_terms = profile.shape[-1]
    start, table, position = _pixel_table(spec, num_terms - 1)
    window = table.shape[-1] // num_terms
    windows = profile[start[:, None] + np.arange(window, dtype=np.int32)]
    windows = windows.reshape(len(start), -1)
    blocks = jnp.einsum("kpw,kw->kp", table, windows, precision="highest")
    return blocks.reshape(-1)[position].reshape(spec.size // 2, spec.size // 2)


def _sample_pixels(profile: jax.Array, spec: ImageSpec) -> jax.Array:
    """Counts of one quadrant's fine pixels from the profile, by a few Gauss points in each."""
    width = 2 / spec.size
    points, weights = _pixel_points(spec, 2 if width < 0.003 else 3)

    def column(carry, x):
        """One row of pixels, fixed x: keeps the work in the cache."""
        total = jnp.zeros(spec.size // 2, jnp.float32)
        for i, weight_x in enumerate(weights):
            for j, weight_z in enumerate(weights):
                z = points[:, j].astype(np.float32)
                square = x[i] * x[i] + z * z
                place = jnp.sqrt(square) / _GRID_STEP + 1
                index = jnp.floor(place)
                kernel = _cubic_weights(place - index)
                index = index.astype(jnp.int32)
                rows = (kernel[k][:, None] * profile[index + (k - 1)] for k in range(4))
                terms = functools.reduce(jnp.add, rows)
                weight = np.float32(weight_x * weight_z * width**2)
                total += weight * legendre_series(terms.T, z * z / square)
        return carry, total

    return jax.lax.scan(column, None, jnp.asarray(points, jnp.float32))[1]


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
