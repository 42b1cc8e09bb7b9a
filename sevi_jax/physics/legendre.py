"""Even Legendre series of cos(theta): the angular density of a shell; NumPy tables, JAX values.

A density is ``I(c) = 1/2 + sum_{i=1..L} beta_2i P_2i(c)`` on [-1, 1] (docs/course.md). Coefficient
vectors here run over the orders 0, 2, ..., 2 L and start with the constant 1/2.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def even_orders(num_orders: int) -> np.ndarray:
    """Returns the orders 2, 4, ..., 2 L as ``[L]`` int."""
    return 2 * np.arange(1, num_orders + 1)


def order_weights(num_orders: int) -> np.ndarray:
    """Returns the integrals of P_2^2 ... P_2L^2 over [-1, 1], ``2 / (4 i + 1)``, ``[L]``."""
    return (2 / (2 * even_orders(num_orders) + 1)).astype(np.float32)


@functools.cache
def _recurrence(num_orders: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients of P_{n+2} = (a t + b) P_n - d P_{n-2} with t = c^2, for n = 0, 2, ...

    Two steps of Bonnet's recurrence (n+1) P_{n+1} = (2n+1) c P_n - n P_{n-1} with the odd order
    eliminated by the recurrence below it.
    """
    n = 2.0 * np.arange(num_orders)
    a = (2 * n + 1) * (2 * n + 3) / ((n + 1) * (n + 2))
    d = np.where(n > 0, (2 * n + 3) * n * (n - 1) / ((2 * n - 1) * (n + 1) * (n + 2)), 0.0)
    b = 1 - a + d  # because every P is 1 at c = 1
    return a, b, d


def legendre_values(cosine: np.ndarray, num_orders: int) -> np.ndarray:
    """Tabulates P_0, P_2, ..., P_2L in float64.

    Args:
        cosine: points, ``[...]``.
        num_orders: L.

    Returns:
        ``[..., L + 1]`` float64.
    """
    square = np.asarray(cosine, np.float64) ** 2
    a, b, d = _recurrence(num_orders)
    values = [np.ones_like(square)]
    for i in range(num_orders):
        below = values[i - 1] if i else 0.0
        values.append((a[i] * square + b[i]) * values[i] - d[i] * below)
    return np.stack(values, axis=-1)


def legendre_series(coefficients: jax.Array, square: jax.Array) -> jax.Array:
    """Sums an even Legendre series by Clenshaw's rule.

    Args:
        coefficients: of P_0, P_2, ..., P_2L, ``[L + 1, ...]``, order first; the rest broadcasts
            against `square`.
        square: cos(theta)^2, ``[...]``.

    Returns:
        The sum, in the shape of the broadcast, float32.
    """
    num_orders = coefficients.shape[0] - 1
    a, b, d = (x.astype(np.float32) for x in _recurrence(num_orders))
    above = jnp.zeros_like(square)
    value = coefficients[num_orders] + above
    for i in range(num_orders - 1, -1, -1):
        drop = d[i + 1] * above if i + 1 < num_orders else 0.0
        value, above = coefficients[i] + (a[i] * square + b[i]) * value - drop, value
    return value


def legendre_integrals(edges: np.ndarray, num_orders: int) -> np.ndarray:
    """Integrates P_0, P_2, ..., P_2L over the cells between `edges`, in float64.

    Uses ``int P_n = (P_{n+1} - P_{n-1}) / (2 n + 1)``.

    Args:
        edges: increasing points in [-1, 1], ``[K + 1]``.
        num_orders: L.

    Returns:
        ``[K, L + 1]`` float64.
    """
    odd = np.polynomial.legendre.legvander(np.asarray(edges, np.float64), 2 * num_orders + 1)
    columns = [odd[:, 1]]
    for n in even_orders(num_orders):
        columns.append((odd[:, n + 1] - odd[:, n - 1]) / (2 * n + 1))
    return np.diff(np.stack(columns, axis=-1), axis=0)


def with_constant(beta: jax.Array) -> jax.Array:
    """Puts the constant 1/2 of the density in front of beta: ``[..., L]`` to ``[..., L + 1]``."""
    return jnp.concatenate([jnp.full_like(beta[..., :1], 0.5), beta], axis=-1)


def density(beta: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    """Evaluates densities, float64: beta ``[..., L]``, points ``[K]``; returns ``[..., K]``."""
    return 0.5 + beta @ legendre_values(cosine, np.shape(beta)[-1])[:, 1:].T


@functools.cache
def _minimum_nodes(num_orders: int) -> np.ndarray:
    """P_0 ... P_2L at equal steps of theta from 0 to pi/2, one step beyond each end included.

    The density is a trigonometric polynomial of degree 2 L in theta; about 40 points per shortest
    half-wave leave the parabola through three points an error below 1e-6 of its amplitude.
    """
    steps = 40 * num_orders
    theta = np.arange(-1, steps + 2) * (np.pi / 2 / steps)
    return legendre_values(np.cos(theta), num_orders).astype(np.float32)


def density_minimum(beta: jax.Array) -> jax.Array:
    """Finds the smallest value of the density ``1/2 + sum beta_2i P_2i`` on [-1, 1].

    Grid in theta, then the vertex of the parabola through each local minimum.

    Args:
        beta: ``[..., L]``.

    Returns:
        ``[...]``.
    """
    nodes = _minimum_nodes(beta.shape[-1])
    value = jnp.matmul(with_constant(beta), nodes.T, precision="highest")
    left, middle, right = value[..., :-2], value[..., 1:-1], value[..., 2:]
    curvature = left + right - 2 * middle
    is_minimum = (middle <= left) & (middle <= right) & (curvature > 0)
    drop = (right - left) ** 2 / (8 * jnp.where(is_minimum, curvature, 1.0))
    return jnp.min(middle - jnp.where(is_minimum, drop, 0.0), axis=-1)
