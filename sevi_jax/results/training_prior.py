"""The training prior as a Gaussian prior of fits."""

import jax.numpy as jnp
import numpy as np

from sevi_jax.estimation.information import FreeParameters, GaussianPrior
from sevi_jax.synthesis.prior import Prior, beta_draws


def map_prior(prior: Prior, free: FreeParameters) -> GaussianPrior:
    """The training prior for fits: yields are left free, since every measurement has its own."""
    found = gaussian_prior(prior, free)
    yields = np.array([name.startswith("yield") for name in free.names])
    keep = ~yields[:, None] & ~yields
    return GaussianPrior(found.mean, jnp.where(keep, found.precision, 0.0))


def gaussian_prior(prior: Prior, free: FreeParameters, exposure: float = 1.0) -> GaussianPrior:
    """Approximates the training prior (spec section 2) by a normal distribution.

    Betas have the mean and covariance of `beta_draws`; R, sigma and the yield those of their
    uniform ranges, (high - low)^2 / 12; the background is left free.

    Args:
        prior: one entry per shell, inner shell first; a free order beyond its own is left free.
        free: which parameters are free.
        exposure: factor on the prior's electron numbers.
    """
    mean, precision, first = np.zeros(len(free.index)), np.zeros((len(free.index),) * 2), 0
    for entry, orders in zip(prior, free.orders, strict=True):
        beta = beta_draws(entry.beta)
        ranges = [entry.radius, entry.sigma, np.multiply(entry.electrons, exposure)]
        known = [n // 2 - 1 for n in orders if n // 2 <= beta.shape[-1]]
        stop = first + 3 + len(known)
        draws = beta[:, known]
        mean[first:stop] = [*(np.mean(x) for x in ranges), *draws.mean(0)]
        for place, (low, high) in enumerate(ranges):
            # a range of no width is a parameter that is known: to a millionth
            variance = max((high - low) ** 2 / 12, (1e-6 * high) ** 2)
            precision[first + place, first + place] = 1 / variance
        if known:
            covariance = np.cov(draws, rowvar=False).reshape(len(known), -1)
            precision[first + 3 : stop, first + 3 : stop] = np.linalg.inv(covariance)
        first += 3 + len(orders)
    return GaussianPrior(jnp.asarray(mean, jnp.float32), jnp.asarray(precision, jnp.float32))
