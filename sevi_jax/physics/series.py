"""The picture of a shell as a Fourier series of the angle: A_m(s) cos(m t); knows no pixel.

A shell of one electron whose density of directions is P_n(cos theta) / 4 pi has on the detector, at
the distance s from the centre and the angle t from the polarisation, the density

    rho_n(s, t) = 1/2pi int_0^inf f(r) / r^2 P_n(s cos t / r) dy,   r^2 = s^2 + y^2.

With y = s sinh u, so that r = s cosh u, the integral is smooth down to s = 0:

    rho_n(s, t) = 1 / (2 pi s) int f(s cosh u) P_n(cos t / cosh u) / cosh u du.

It is a trigonometric polynomial of degree n in t: rho_n = sum_m A_nm(s) cos(m t), m <= n of the
same parity. With 1 / cosh u = cos v, P_n(cos t cos v) is a sum of cos(m t) cos(j v) with known
coefficients, and Gauss's rule over the part of the line of sight that meets the shell integrates
cos(j v) f, to rounding.

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
import scipy.sparse
import scipy.special

from sevi_jax.physics import shapes

_LINE_NODES = {"normal": 36, "skewed": 56}
_EDGE_NODES = {"normal": 56, "skewed": 128}
_INNER_NODES = 64  # intervals of the nodes inside the edge
_NEAR = 1.0  # widths from the centre: a shell whose density begins nearer reaches it
_TAPS = range(-2, 4)  # of quintic interpolation


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
def _double_series(orders: tuple[int, ...], modes: tuple[int, ...]) -> np.ndarray:
    """P_n(cos t cos v) as sums of cos(m t) cos(j v), of every order n, ``[L, J, M]``."""
    cosine, to_series = cosine_transform(modes)
    both = np.outer(cosine, cosine).astype(np.float64)
    values = [to_series.T @ scipy.special.eval_legendre(n, both) @ to_series for n in orders]
    return np.array(values, np.float32)


def cosines(cosine: jax.Array, modes: tuple[int, ...]) -> list[jax.Array]:
    """cos(m t) of every mode, which is the Chebyshev polynomial T_m of the cosine."""
    step = modes[1] if len(modes) > 1 else 1
    first = cosine if step == 1 else 2 * cosine * cosine - 1
    values = [jnp.ones_like(cosine), first]
    for _ in modes[2:]:
        values.append(2 * first * values[-1] - values[-2])
    return values[: len(modes)]


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
    along = jnp.concatenate([value[..., None], slopes], axis=-1) * measure[..., None]
    # Barriers keep the compiler from computing an element anew for every product that it is in.
    along, inverse, r = jax.lax.optimization_barrier((along, inverse, r))
    # along the line of sight P_n(cos t / cosh u) is a sum of T_j(1 / cosh u): [K, J, Y]
    waves = jnp.stack(cosines(inverse, kind.modes), axis=1)
    damping = [jnp.exp(-0.5 * n * (n + 1) * variance / (r * r)) for n in kind.orders]
    damped = jnp.concatenate([along * x[..., None] for x in damping], axis=-1)
    waves, damped = jax.lax.optimization_barrier((waves, damped))
    sums = jnp.einsum("kjy,kyp->kjp", waves, damped, precision="highest")
    sums = sums.reshape(len(s), len(kind.modes), len(kind.orders), 4)
    to_angles = _double_series(kind.orders, kind.modes)
    found = jnp.einsum("kjlp,ljm->kmlp", sums, to_angles, precision="highest")
    by_shape = jnp.einsum("kmlp,l->kmp", found[..., 1:], amplitudes, precision="highest")
    return found[..., 0], by_shape


def _lagrange(fraction: np.ndarray) -> np.ndarray:
    """Lagrange weights of the points of `_TAPS` at `fraction` in [0, 1], a last axis of them."""
    points = np.array(_TAPS)
    found = np.ones((*fraction.shape, len(points)))
    for k, point in enumerate(points):
        for other in points[points != point]:
            found[..., k] *= (fraction - other) / (point - other)
    return found


@dataclasses.dataclass(frozen=True)
class RingSeries:
    """The series of one shell at some 130 nodes, or 200 of a skewed one; what lies between them.

    Nodes lie evenly over the edge, where the density varies with sigma. Inside they crowd where the
    edge begins, s = a (1 - q^2) with q even; of a shell that reaches the centre they crowd there,
    s = a q^2, and s A(s) is interpolated, because A goes as 1 / s.

    Attributes:
        table: derivatives by R, sigma (and tau of a skewed shell), and behind them the series of
            each order, of one electron, ``[N, M, S]``; being computed on the device.
        begin: where the nodes of the edge begin, pixels.
        end: up to where the inner nodes reach.
        spacing: of the nodes of the edge.
        high: beyond it there is nothing.
        slow: whether the shell reaches the centre.
    """

    table: jax.Array
    begin: float
    end: float
    spacing: float
    high: float
    slow: bool

    def on_grid(self, distances: np.ndarray) -> np.ndarray:
        """The table on an even grid of distances, ``[G, M, S]`` float32.

        Args:
            distances: points of the grid, pixels, ascending, ``[G]``; where a shell reaches the
                centre, values nearer to it than half a step are those there.
        """
        found = np.zeros((len(distances), *self.table.shape[1:]), np.float32)
        s = distances[distances < self.high]
        if not len(s):
            return found
        if self.slow:
            s = np.maximum(s, 0.5 * (distances[1] - distances[0]))
        at_edge = s >= self.begin + 3 * self.spacing
        ratio = s / self.end if self.slow else 1 - s / self.end
        inner = np.sqrt(np.maximum(ratio, 0.0)) * _INNER_NODES + 2
        place = np.where(at_edge, (s - self.begin) / self.spacing + 2, inner)
        edges = self.table.shape[0] - _INNER_NODES - 11
        index = np.clip(np.floor(place), 2, np.where(at_edge, edges + 1, _INNER_NODES + 2))
        weights = _lagrange(place - index)
        if self.slow:
            weights /= s[:, None]
        first = (index + np.where(at_edge, 0, edges + 5)).astype(np.int32)
        columns = first[:, None] + np.array(_TAPS, np.int32)
        rows = np.arange(0, columns.size + 1, len(_TAPS), dtype=np.int32)
        matrix = scipy.sparse.csr_array(
            (weights.astype(np.float32).ravel(), columns.ravel(), rows),
            shape=(len(s), len(self.table)),
        )
        table = np.asarray(self.table)
        found[: len(s)] = (matrix @ table.reshape(len(table), -1)).reshape(-1, *table.shape[1:])
        return found


def ring_series(
    parameters: np.ndarray, amplitudes: np.ndarray, kind: Kind, variance: float
) -> RingSeries:
    """Begins to compute the series of one shell and its derivatives.

    Args:
        parameters, amplitudes, kind, variance: as in `series_at`.
    """
    extent = shapes.support(kind.shape, np.asarray(parameters, np.float64), variance)
    low, high, wide = (float(x) for x in extent)
    slow = low < _NEAR * wide
    edges = _EDGE_NODES[kind.shape]
    begin = 0.25 * high if slow else low
    spacing = (high - begin) / (edges - 1)
    end = begin + 5 * spacing  # of the inner nodes, which reach into the edge
    nodes = begin + spacing * (np.arange(edges + 5) - 2.0)
    q = (np.arange(_INNER_NODES + 6) - 2.0) / _INNER_NODES
    nodes = np.concatenate([nodes, end * (q * q if slow else 1 - q * q)])
    at = np.maximum(np.abs(nodes), 1e-3 * spacing)
    # s A(s) for a slow shell; A(s), continued to s < 0 by its parity, for others
    factor = np.ones((len(nodes), len(kind.modes)))
    if not slow:
        odd = np.array(kind.modes) % 2 == 1
        factor = np.where((nodes[:, None] < 0) & odd, -1.0, 1.0) / at[:, None]
    single = (np.asarray(x, np.float32) for x in (at, factor, parameters, amplitudes, variance))
    return RingSeries(_at_nodes(*single, kind), begin, end, spacing, high, slow)


@functools.partial(jax.jit, static_argnames="kind")
def _at_nodes(at, factor, parameters, amplitudes, variance, kind):
    """The table of `RingSeries`."""
    units, slopes = series_at(at, parameters, amplitudes, kind, variance)
    number = 3 if kind.shape == "skewed" else 2
    return jnp.concatenate([slopes[..., :number], units], axis=-1) * factor[..., None]
