"""Densities of the radius of a shell: normal and skewed, cut at r = 0; no angle, no detector.

Each is a density on r > 0 with the parameters R, sigma and tau (the tail; unused by ``normal``):

- ``normal``: a normal density of mean R and standard deviation sigma, cut at 0 and normalised
  there;
- ``skewed``: the density of R + sigma n + tau e, n normal and e exponential of mean 1, cut
  likewise: an exponentially modified normal density (Grushka 1972, Anal. Chem. 44, 1733), tau of
  either sign.

A blur of the picture is one in space, because what happens along the line of sight is not seen. It
turns the density f(r) of a component of order n into the density of `blurred`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

SHAPES = ("normal", "skewed")
_CUT = 6.0  # a normal density is cut so many sigma from its mean: 2e-9 of the electrons
_TAIL_CUT = 14.0  # an exponential tail so many tau: 8e-7
_CLOSE = 3.0  # of the blur: from here on its effect is expanded in b / r
_SMALLEST_TAIL = 1e-3  # of sigma: below it the skewed density is the normal one to rounding
# Coefficients of erfc(x) = t exp(-x^2 + sum c_k t^k), t = 1 / (1 + x / 2), x >= 0, with a relative
# error below 1.2e-7 (Press et al., Numerical Recipes, section 6.2).
_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806,
    0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip


def scaled_erfc(x: jax.Array) -> jax.Array:
    """exp(x^2) erfc(x) for x >= 0, to float32's rounding."""
    t = 1 / (1 + x / 2)
    series = jnp.zeros_like(t)
    for coefficient in reversed(_ERFC):
        series = series * t + coefficient
    return t * jnp.exp(series)


def _upper_normal(x: jax.Array) -> jax.Array:
    """P(n > x) of a standard normal number."""
    return 0.5 * jax.scipy.special.erfc(x * math.sqrt(0.5))


def _skewed(r, radius, sigma, tail):
    """Density and P(r > 0) of the exponentially modified normal density that is not cut."""
    sign = jnp.where(tail < 0, -1.0, 1.0)
    length = jnp.maximum(jnp.abs(tail), _SMALLEST_TAIL * sigma)

    def parts(value):
        z = sign * (value - radius) / sigma
        a = sigma / length - z
        low = jnp.maximum(a, 0.0) * math.sqrt(0.5)
        # exp(a^2 / 2) P(n > a) on its two sides, each in the form that does not overflow
        near = 0.5 * scaled_erfc(low) * jnp.exp(-0.5 * z * z)
        exponent = jnp.where(a < 0, 0.5 * (a * a - z * z), -1.0)
        far = _upper_normal(jnp.minimum(a, 0.0)) * jnp.exp(exponent)
        return z, jnp.where(a < 0, far, near)

    value = parts(r)[1] / length
    z, tail_part = parts(jnp.zeros_like(radius))
    # P(z' > z) of sign * z' = n + (length / sigma) e
    above = _upper_normal(z) + tail_part
    return value, jnp.where(sign > 0, above, 1 - above)


def density(shape: str, r: jax.Array, parameters: jax.Array, variance: float | jax.Array = 0.0):
    """Density of the radius on r > 0.

    Args:
        shape: one of `SHAPES`.
        r: radii above 0, any shape.
        parameters: R, sigma, tau, ``[3]``, in the unit of `r`.
        variance: added to sigma^2 (a blur); the cut at 0 stays that of the sharp density.

    Returns:
        f(r) per unit of `r`.
    """
    radius, sigma, tail = parameters
    wide = jnp.sqrt(sigma * sigma + variance)
    if shape == "normal":
        z = (r - radius) / wide
        norm = math.sqrt(2 * math.pi) * wide * _upper_normal(-radius / sigma)
        return jnp.exp(-0.5 * z * z) / norm
    if shape == "skewed":
        return _skewed(r, radius, wide, tail)[0] / _skewed(r, radius, sigma, tail)[1]
    raise ValueError(f"shape={shape!r}: expected one of {', '.join(SHAPES)}")


def support(shape: str, parameters: Any, variance: Any = 0.0):
    """Lowest and highest radius that matters, and the scale on which the density varies."""
    xp = parameters.__array_namespace__()  # NumPy's on the host
    radius, sigma, tail = parameters
    wide = xp.sqrt(sigma * sigma + variance)
    low = high = _CUT * wide
    if shape == "skewed":
        low = low + _TAIL_CUT * xp.maximum(-tail, 0.0)
        high = high + _TAIL_CUT * xp.maximum(tail, 0.0)
    return xp.maximum(radius - low, 0.0), radius + high, wide


def blurred(shape: str, r: jax.Array, parameters: jax.Array, variance: jax.Array) -> jax.Array:
    """Density of the radius after a normal blur of the picture, without its effect on the angle.

    A blur b in space convolves f(r) / r^2 with the heat kernel. For r >> b the kernel of the order
    n is r r' N(r - r'; b) exp(-n (n + 1) b^2 / 2 r r'), so the new density is
    r int f(r') / r' N(r - r'; b) dr' times that exponential. With g = f * N_b and to second order
    in b / r it is g (1 + b^2 / r^2) - g' b^2 / r.

    Args:
        shape: one of `SHAPES`.
        r: radii, well above the blur.
        parameters: as in `density`.
        variance: b^2.
    """

    def smooth(radius):
        return density(shape, radius, parameters, variance)

    value, slope = jax.jvp(smooth, (r,), (jnp.ones_like(r),))
    # closer to the centre than some b the expansion does not hold
    share = variance / jnp.maximum(r, _CLOSE * jnp.sqrt(variance) + 1e-6)
    return value * (1 + share * share / jnp.maximum(variance, 1e-12)) - share * slope
