"""Losses and the metric on beta, from the L2 distance of angular densities (docs/course.md).

Two densities that differ by ``d_2i`` in beta_2i differ, squared and integrated over cos(theta), by
``sum_i 2 / (4 i + 1) d_2i^2``, because ``int P_n^2 = 2 / (2 n + 1)``.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sevi_jax.config import LOSSES
from sevi_jax.physics.legendre import order_weights

# averaged relative error = rms error per parameter / this typical size of a beta (docs/course.md)
TYPICAL_BETA = 0.7


def squared_distances(beta_pred: ArrayLike, beta_true: ArrayLike) -> jax.Array:
    """Integrates the squared difference of predicted and true densities.

    Args:
        beta_pred: ``[..., L]``.
        beta_true: ``[..., M]``; M may differ from L, an order missing on one side counts as 0.

    Returns:
        ``[...]``.
    """
    beta_pred, beta_true = jnp.asarray(beta_pred), jnp.asarray(beta_true)
    longest = max(beta_pred.shape[-1], beta_true.shape[-1])

    def pad(beta):
        return jnp.pad(beta, [(0, 0)] * (beta.ndim - 1) + [(0, longest - beta.shape[-1])])

    difference = pad(beta_pred) - pad(beta_true)
    return jnp.sum(order_weights(longest) * difference**2, axis=-1)


def distance(beta_pred: ArrayLike, beta_true: ArrayLike) -> jax.Array:
    """The metric: L2 distances of the angular densities, summed over shells (docs/course.md).

    Args:
        beta_pred: ``[..., S, L]``.
        beta_true: ``[..., S, M]``.

    Returns:
        ``[...]``.
    """
    return jnp.sum(jnp.sqrt(squared_distances(beta_pred, beta_true)), axis=-1)


def beta_loss(beta_pred: ArrayLike, beta_true: ArrayLike, kind: str) -> jax.Array:
    """Averages the loss over a batch.

    Args:
        beta_pred: ``[B, S, L]``.
        beta_true: ``[B, S, L]``.
        kind: one of `config.LOSSES`: ``"squared"``, the original's squared distance summed over
            shells, or ``"distance"``, the metric itself.

    Returns:
        Scalar.

    Raises:
        ValueError: there is no such loss.
    """
    squared = squared_distances(beta_pred, beta_true)
    if kind == "squared":
        return jnp.mean(jnp.sum(squared, axis=-1))
    if kind == "distance":
        # the square root has no gradient at 0; the floor is far below any distance that is reached
        return jnp.mean(jnp.sum(jnp.sqrt(squared + 1e-10), axis=-1))
    raise ValueError(f"kind={kind} must be one of {LOSSES}")


def averaged_relative_error(squared_loss: float, num_orders: int) -> float:
    """Turns a mean squared loss into the original's "averaged relative error" (docs/course.md).

    The rms error per parameter that would give this loss if it were the same for every parameter,
    ``sqrt(loss per shell / sum_i 2 / (4 i + 1))``, divided by 0.7.

    Args:
        squared_loss: mean over pictures and shells of the squared distance.
        num_orders: L.
    """
    return math.sqrt(squared_loss / float(order_weights(num_orders).sum())) / TYPICAL_BETA
