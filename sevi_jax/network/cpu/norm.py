"""Batch normalisation with reductions that suit XLA's CPU backend; the variables are flax's.

Knows nothing of networks. XLA of jax 0.10.1 sums [B, H, W, C] over all but the channels slowly on a
CPU, and differentiates the variance in several such sums: batch normalisation and its backward pass
took a quarter of a training step. Here both sums of a pass are one reduction, first over 32
neighbouring pixels (80 ms became 9 ms for 32 maps of 128 x 128 pixels and 64 channels) or, where
that does not divide a map, some more, and the backward pass is the formula with two sums. The means
are those of the whole batch, wherever it lies.
"""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from sevi_jax.network import cpu


def batch_norm(*, train: bool, momentum: float, epsilon: float, name: str) -> nn.Module:
    """The layer that suits the backend, as for `BatchNorm`; float32."""
    if cpu.uses("norm"):
        return BatchNorm(train, momentum, epsilon, name=name)
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=momentum,
        epsilon=epsilon,
        dtype=jnp.float32,
        name=name,
    )


class BatchNorm(nn.Module):
    """`nn.BatchNorm` over [B, H, W, C] in float32, with its parameters and statistics.

    Attributes:
        train: Whether to use the batch's own statistics (and update the running ones).
        momentum: Of the running statistics.
        epsilon: Added to the variance.
    """

    train: bool
    momentum: float
    epsilon: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Normalise x, [B, H, W, C], float32."""
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        if not self.train:
            return (x - mean.value) * (scale * lax.rsqrt(var.value + self.epsilon)) + bias
        normalised: Any = _normalise(x, scale, bias, self.epsilon)
        y, batch_mean, batch_var = normalised
        if not self.is_initializing():
            for running, value in ((mean, batch_mean), (var, batch_var)):
                running.value = self.momentum * running.value + (1 - self.momentum) * value
        return y


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalise(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """The normalised x, and the batch's mean and variance; no gradient flows through these."""
    return _forward(x, scale, bias, epsilon)[0]


def _forward(x, scale, bias, epsilon):
    count = x.size // x.shape[-1]
    total, squares = _sums(x, x * x)
    mean = total / count
    var = jnp.maximum(squares / count - mean**2, 0.0)
    inverse = lax.rsqrt(var + epsilon)
    y = (x - mean) * (scale * inverse) + bias
    return (y, mean, var), (x, scale, mean, inverse)


def _backward(epsilon, saved, cotangents):
    x, scale, mean, inverse = saved
    dy = cotangents[0]
    count = x.size // x.shape[-1]
    dbias, moment = _sums(dy, dy * (x - mean))
    dscale = moment * inverse
    along = (x - mean) * (inverse * dscale / count)
    return (scale * inverse) * (dy - dbias / count - along), dscale, dbias


_normalise.defvjp(_forward, _backward)


def _sums(a: Array, b: Array) -> tuple[Array, Array]:
    """Sums of two [B, H, W, C] over all but the channels, in one pass."""
    pixels, channels = math.prod(a.shape[1:-1]), a.shape[-1]
    together = next((n for n in range(32, pixels) if pixels % n == 0), pixels)
    shape = (a.shape[0], -1, together, channels)
    zero = jnp.zeros((), a.dtype)
    parts = lax.reduce(
        (a.reshape(shape), b.reshape(shape)),
        (zero, zero),
        lambda x, y: (x[0] + y[0], x[1] + y[1]),
        (2,),
    )
    # kept apart: XLA would make one reduction of the two again
    a, b = lax.optimization_barrier(parts)
    return a.sum((0, 1)), b.sum((0, 1))
