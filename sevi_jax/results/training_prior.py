"""The training prior as a Gaussian prior of fits."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from sevi_jax.estimation.information import FreeParameters, GaussianPrior
from sevi_jax.model.components import Shell
from sevi_jax.physics.convention import to_literature
from sevi_jax.synthesis.prior import Prior, beta_draws


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


@dataclasses.dataclass(frozen=True)
class ShellsPrior:
    """What is known beforehand of radius, sigma and betas; yields are left free.

    The vector of a model holds N beta_n, the prior is one of beta_n: `evaluate` has the slopes of
    one by the other.

    Attributes:
        shells: of the model, inner first.
        mean: per shell radius, sigma, betas of its orders; pixels, the literature's; ``[Q]``.
        precision: ``[Q, Q]``; zeros for what is not known.
    """

    shells: tuple[Shell, ...]
    mean: np.ndarray
    precision: np.ndarray

    def evaluate(self, vector: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """The deviance that it adds, half its negative slope and half its curvature."""
        known = np.zeros(len(self.mean))
        slopes = np.zeros((len(self.mean), len(vector)))
        row = place = 0
        for shell in self.shells:
            for i in range(2):
                known[row + i], slopes[row + i, place + i] = vector[place + i], 1.0
            row, at = row + 2, place + shell.lengths
            electrons = vector[at]
            for k in range(len(shell.orders)):
                amount = vector[at + 1 + k]
                known[row + k] = amount / electrons
                slopes[row + k, at + 1 + k] = 1 / electrons
                slopes[row + k, at] = -amount / electrons**2
            row, place = row + len(shell.orders), place + shell.size
        off = known - self.mean
        pull = self.precision @ off
        return float(off @ pull), -slopes.T @ pull, slopes.T @ self.precision @ slopes


def shells_prior(prior: Prior, shells: tuple[Shell, ...], half_width: float) -> ShellsPrior:
    """The training prior for a fit by the model.

    Args:
        prior: one entry per shell, inner shell first; an order that it lacks is left free.
        shells: that are fitted, as many.
        half_width: of the picture, pixels.
    """
    size = sum(2 + len(shell.orders) for shell in shells)
    mean, precision, row = np.zeros(size), np.zeros((size, size)), 0
    for entry, shell in zip(prior, shells, strict=True):
        for name, limits in enumerate((entry.radius, entry.sigma)):
            low, high = (half_width * x for x in limits)
            mean[row + name] = (low + high) / 2
            # a range of no width is a parameter that is known: to a millionth
            precision[row + name, row + name] = 1 / max((high - low) ** 2 / 12, (1e-6 * high) ** 2)
        draws = to_literature(np.asarray(beta_draws(entry.beta), np.float64))
        orders = [n for n in shell.orders if n % 2 == 0 and n // 2 <= draws.shape[-1]]
        places = [row + 2 + shell.orders.index(n) for n in orders]
        if orders:
            known = draws[:, [n // 2 - 1 for n in orders]]
            mean[places] = known.mean(0)
            covariance = np.cov(known, rowvar=False).reshape(len(orders), -1)
            precision[np.ix_(places, places)] = np.linalg.inv(covariance)
        row += 2 + len(shell.orders)
    return ShellsPrior(shells, mean, precision)
