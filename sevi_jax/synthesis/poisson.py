"""Poisson numbers by inversion: one uniform or normal number per pixel, and no rejection loop."""

import jax
import jax.numpy as jnp

_SMALL = 10.0  # below this mean the distribution is summed up term by term
_TERMS = 36  # P(count >= 36) = 4e-10 for a mean of 10


def sample_poisson(key: jax.Array, mean: jax.Array) -> jax.Array:
    """Draws Poisson numbers.

    Small means: inversion of the summed probabilities. Others: inversion by the expansion of the
    quantile in the normal quantile w (Giles 2016, ACM TOMS 42, 7, eq. Q_N3),

        floor(m + w sqrt(m) + (1/3 + w^2/6) - (w/36 + w^3/72) / sqrt(m)
              + (-8/405 + 7 w^2/810 + w^4/270) / m),

    whose next term is about 1e-3 of a count at m = 10 and falls as m^-1.5.

    Args:
        key: scalar typed key.
        mean: ``[...]`` float32, not negative.

    Returns:
        ``[...]`` int32.
    """
    normal_key, uniform_key = jax.random.split(key)
    large = jnp.maximum(mean, _SMALL)
    root = jnp.sqrt(large)
    w = jax.random.normal(normal_key, mean.shape, jnp.float32)
    square = w * w
    quantile = large + root * w + (1 / 3 + square / 6) - w * (1 / 36 + square / 72) / root
    quantile += (-8 / 405 + square * (7 / 810 + square / 270)) / large

    # the sum of the terms, in float32, may end 4e-7 below 1: stay below that, or count all terms
    uniform = jax.random.uniform(uniform_key, mean.shape, jnp.float32, maxval=1 - 1e-6)
    small = jnp.minimum(mean, _SMALL)
    term = jnp.exp(-small)
    total = term
    count = jnp.zeros(mean.shape, jnp.int32)
    for k in range(1, _TERMS + 1):
        count += (uniform >= total).astype(jnp.int32)
        term *= small / k
        total += term
    # the expansion falls below 0 at m = 10 once in a million
    quantile = jnp.maximum(jnp.floor(quantile), 0.0)
    return jnp.where(mean < _SMALL, count, quantile.astype(jnp.int32))
