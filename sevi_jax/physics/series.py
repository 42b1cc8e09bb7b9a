"""The picture of a shell as a Fourier series of the angle: A_m(s) cos(m t); knows no pixel.

A shell of one electron whose density of directions is P_n(cos theta) / 4 pi has on the detector, at
the distance s from the centre and the angle t from the polarisation, the density

    rho_n(s, t) = 1/2pi int_0^inf f(r) / r^2 P_n(s cos t / r) dy,   r^2 = s^2 + y^2.

With y = s sinh u, so that r = s cosh u, the integral is smooth down to s = 0:

    rho_n(s, t) = 1 / (2 pi s) int f(s cosh u) P_n(cos t / cosh u) / cosh u du.

It is a trigonometric polynomial of degree n in t: rho_n = sum_m A_nm(s) cos(m t), m <= n of the
same parity. Gauss's rule over the part of the line of sight that meets the shell does the integral,
and a sum over equidistant angles makes the series, both exact to rounding.

In these terms a blur of the picture is a blur of the shell (`shapes.blurred`, and the factor
exp(-n (n + 1) b^2 / 2 r^2) here), so that the mean over a pixel of width w is the density in its
middle of a shell blurred by b^2 = w^2 / 12, as far as w is small against sigma.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.physics import shapes

_LINE_NODES = {"normal": 36, "skewed": 56}
_EDGE_NODES = {"normal": 56, "skewed": 128}
_INNER_NODES = 64  # intervals of the nodes inside the edge
_SLOW = 7.0  # a shell with R < 7 sigma reaches the centre


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is computed; hashable, so static under jit.

    Attributes:
        shape: of the density of the radius, one of `shapes.SHAPES`.
        orders: the orders n of the density of directions, ascending, from 0.
        modes: the m of the series; all of one parity, or all up to the largest order.
    """

    shape: str
    orders: tuple[int, ...]
    modes: tuple[int, ...]


def modes_for(orders: tuple[int, ...]) -> tuple[int, ...]:
    """The modes that these orders (and 0) need: even ones where all orders are even."""
    top = max((0, *orders))
    step = 1 if any(n % 2 for n in orders) else 2
    return tuple(range(0, top + 1, step))


@functools.cache
def cosine_transform(modes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Cosines ``[A]`` of angles, and the matrix ``[A, M]`` from values there to the series."""
    top, even = modes[-1], len(modes) < 2 or modes[1] == 2
    count = top // 2 + 1 if even else top + 1
    # with even modes alone the function is even about pi / 2 too
    angle = (np.arange(count) + 0.5) * np.pi / (2 * count if even else count)
    matrix = 2.0 / count * np.cos(np.outer(angle, modes))
    matrix[:, 0] /= 2
    return np.cos(angle).astype(np.float32), matrix.astype(np.float32)


def legendre_values(x: jax.Array, orders: tuple[int, ...]) -> list[jax.Array]:
    """P_n(x) of every order, by Bonnet's recurrence."""
    values = [jnp.ones_like(x), x]
    for n in range(1, max(orders)):
        values.append(((2 * n + 1) * x * values[n] - n * values[n - 1]) / (n + 1))
    return [values[n] for n in orders]


@functools.cache
def _gauss(shape: str) -> tuple[np.ndarray, np.ndarray]:
    node, weight = np.polynomial.legendre.leggauss(_LINE_NODES[shape])
    return node.astype(np.float32), weight.astype(np.float32)


def series_at(
    s: jax.Array, parameters: jax.Array, amplitudes: jax.Array, kind: Kind, variance: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Computes the series of one shell, times s, and its derivatives at given distances.

    Args:
        s: distances above 0, pixels, ``[K]``.
        parameters: R, sigma, tau in pixels, ``[3]``.
        amplitudes: electrons times beta_n of every order, beta_0 = 1, ``[L]``.
        kind: what is computed.
        variance: of the blur, pixels^2; 0 for the sharp picture.

    Returns:
        s times the series of each order by itself, of one electron, ``[K, M, L]``, and s times the
        derivatives of the shell's series by R, sigma, tau, ``[K, M, 3]``. Density per pixel^2.
    """
    node, weight = _gauss(kind.shape)
    cosine, to_series = cosine_transform(kind.modes)
    low, high, _ = jax.lax.stop_gradient(shapes.support(kind.shape, parameters, variance))
    begin = jnp.arccosh(jnp.maximum(low / s, 1.0))
    half = 0.5 * (jnp.arccosh(jnp.maximum(high / s, 1.0)) - begin)
    u = (begin + half)[:, None] + half[:, None] * node
    inverse = 1 / jnp.cosh(u)
    r = s[:, None] / inverse

    def radial(values):
        return shapes.blurred(kind.shape, r, values, variance)

    value, slopes = radial(parameters), jax.jacfwd(radial)(parameters)
    measure = half[:, None] * weight * inverse / (2 * math.pi)
    # [K, A, Y]
    angles = legendre_values(jnp.asarray(cosine)[:, None] * inverse[:, None], kind.orders)
    damping = [jnp.exp(-0.5 * n * (n + 1) * variance / (r * r))[:, None] for n in kind.orders]
    angles = jnp.stack([d * term for d, term in zip(damping, angles, strict=True)], axis=1)
    along = jnp.concatenate([value[..., None], slopes], axis=-1) * measure[..., None]
    # Barriers keep the compiler from computing the recurrence anew for every order.
    angles, along = jax.lax.optimization_barrier((angles, along))
    flat = angles.reshape(len(s), -1, node.size)
    found = jnp.einsum("kxy,kyp->kxp", flat, along, precision="highest")
    found = found.reshape(len(s), len(kind.orders), len(cosine), 4)
    units = jnp.swapaxes(found[..., 0], 1, 2)
    by_shape = jnp.einsum("klap,l->kap", found[..., 1:], amplitudes, precision="highest")
    both = jnp.concatenate([units, by_shape], axis=-1)
    both = jnp.einsum("kap,am->kmp", both, to_series, precision="highest")
    return both[..., : len(kind.orders)], both[..., len(kind.orders) :]


def _lagrange(fraction: jax.Array, first: int, last: int) -> list[jax.Array]:
    """Lagrange weights of the points first ... last at `fraction` in [0, 1]."""
    points = range(first, last + 1)
    return [
        math.prod(
            ((fraction - other) / (point - other) for other in points if other != point),
            start=jnp.ones_like(fraction),
        )
        for point in points
    ]


def ring_series(
    parameters: jax.Array,
    amplitudes: jax.Array,
    kind: Kind,
    variance: jax.Array,
    step: jax.Array,
    points: int,
) -> tuple[jax.Array, jax.Array]:
    """Computes the series of one shell on an even grid of distances.

    The series is computed at some 120 nodes and interpolated by quintics. Nodes lie evenly over the
    edge, where the density varies with sigma. Inside they crowd where the edge begins,
    s = a (1 - q^2) with q even; of a shell that reaches the centre they crowd there, s = a q^2,
    and s A(s) is interpolated, because A goes as 1 / s.

    Args:
        parameters, amplitudes, kind, variance: as in `series_at`.
        step: h of the grid, pixels.
        points: G; the grid is (g - 1) h, g = 0 ... G - 1. Values at s < h / 2 of a shell that
            reaches the centre are those at h / 2.

    Returns:
        The series of each order ``[G, M, L]`` and its derivatives by R, sigma, tau ``[G, M, 3]``.
    """
    edges = _EDGE_NODES[kind.shape]
    low, high, wide = jax.lax.stop_gradient(shapes.support(kind.shape, parameters, variance))
    slow = low < (_SLOW - 6.0) * wide
    begin = jnp.where(slow, 0.25 * high, low)
    spacing = (high - begin) / (edges - 1)
    end = begin + 5 * spacing  # of the inner nodes, which reach into the edge
    edge_nodes = begin + spacing * (np.arange(edges + 5) - 2.0)
    q = jnp.asarray((np.arange(_INNER_NODES + 6) - 2.0) / _INNER_NODES, jnp.float32)
    nodes = jnp.concatenate([edge_nodes, end * jnp.where(slow, q * q, 1 - q * q)])
    at = jnp.maximum(jnp.abs(nodes), 1e-3 * spacing)
    units, slopes = series_at(at, parameters, amplitudes, kind, variance)
    table = jnp.concatenate([units, slopes], axis=-1)
    # s A(s) for a slow shell; A(s), continued to s < 0 by its parity, for others
    parity = np.array([1.0 if m % 2 == 0 else -1.0 for m in kind.modes], np.float32)
    factor = jnp.where(slow, 1.0, jnp.where(nodes[:, None] < 0, parity, 1.0) / at[:, None])
    table = table * factor[..., None]

    s = (jnp.arange(points, dtype=jnp.float32) - 1.0) * step
    s = jnp.where(slow, jnp.maximum(s, 0.5 * step), s)
    edge_place = (s - begin) / spacing + 2
    ratio = jnp.where(slow, s / end, 1 - s / end)
    inner_place = jnp.sqrt(jnp.maximum(ratio, 0.0)) * _INNER_NODES + 2
    index = jnp.where(
        s >= begin + 3 * spacing,
        jnp.clip(jnp.floor(edge_place), 2, edges + 1),
        jnp.clip(jnp.floor(inner_place), 2, _INNER_NODES + 2) + len(edge_nodes),
    ).astype(jnp.int32)
    # once: the compiler may else compute it twice, rounded differently, for rows and for weights
    index = jax.lax.optimization_barrier(index)
    place = jnp.where(index < len(edge_nodes), edge_place, inner_place + len(edge_nodes))
    share = jnp.where(s < high, jnp.where(slow, 1 / s, 1.0), 0.0)
    weights = [w * share for w in _lagrange(place - index.astype(jnp.float32), -2, 3)]
    # one product with a matrix, which is quicker than gathering six rows of the table per point
    number = jnp.arange(len(nodes))
    matrix = sum(
        jnp.where((index + (k - 2))[:, None] == number, w[:, None], 0.0)
        for k, w in enumerate(weights)
    )
    flat = table.reshape(len(nodes), -1)
    rows = jnp.matmul(matrix, flat, precision="highest").reshape(points, *table.shape[1:])
    return rows[..., : len(kind.orders)], rows[..., len(kind.orders) :]
