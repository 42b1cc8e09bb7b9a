"""The training prior as a Gaussian prior of fits."""

import dataclasses

import numpy as np

from sevi_jax.model.components import Shell
from sevi_jax.physics.convention import to_literature
from sevi_jax.synthesis.prior import Prior, beta_draws


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
