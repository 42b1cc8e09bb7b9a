"""Linear inversion of a folded picture: counts to the Legendre series of thin shells.

The picture is a sum of shells, linear in (yield, yield * beta) of each. On a fixed ladder of thin
shells this module finds the linear estimate of those coefficients that is best on average over the
prior (Wiener 1949): ``x = (A' N^-1 A + C^-1)^-1 A' N^-1 y``, A the expected counts of each shell
and order, N the counts' Poisson variance and C the coefficients' mean square, both averaged over
the prior. A measured shell then shows as a bump along the ladder, whose height at order l over that
at order 0 is beta_l: what is left for a network is to find and separate the bumps.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.physics.expected import expected_counts
from sevi_jax.physics.types import ImageSpec, ShellParams
from sevi_jax.synthesis.prior import Prior, beta_moments

_MARGIN = 0.04  # the ladder reaches this far beyond the prior's radii, half-widths


def ladder_radii(prior: Prior, shells: int) -> np.ndarray:
    """Returns the radii of the thin shells, a little beyond the prior's range: ``[K]`` float32."""
    low = min(shell.radius[0] for shell in prior) - _MARGIN
    high = max(shell.radius[1] for shell in prior) + _MARGIN
    return np.linspace(low, high, shells, dtype=np.float32)


@functools.lru_cache(maxsize=4)
def radial_matrix(image: ImageSpec, prior: Prior, shells: int, exposure: float = 1.0) -> np.ndarray:
    """Builds the linear map from a picture of sum 1 to scaled coefficients.

    Args:
        image: shape of the picture; must be folded.
        prior: prior of the shells.
        shells: K, number of thin shells of the ladder.
        exposure: the noise is that of the prior's number of electrons times this.

    Returns:
        ``[K * (L + 1), side * side]`` float32. Row ``k * (L + 1) + l`` is the coefficient of order
        2 l of thin shell k, over its root mean square in the prior given that a shell is there.
    """
    ladder = ladder_radii(prior, shells)
    electrons = exposure * float(np.sum([np.mean(shell.electrons) for shell in prior]))
    mean, rms = _moments(prior)
    matrix = _responses(image, prior, shells)
    picture = np.einsum("l,klp->p", mean / rms, matrix) * len(prior) / shells
    weight = electrons / np.maximum(picture, 1e-9)  # 1 / variance of counts over their sum
    chance = (
        len(prior) * 2 * np.pi**0.5 * _mean_sigma(prior) / float(ladder[-1] - ladder[0])
    )  # that a shell covers a thin one
    matrix = matrix.reshape(-1, picture.size)
    normal = (matrix * weight) @ matrix.T + np.eye(len(matrix)) / chance
    return np.linalg.solve(normal, matrix * weight).astype(np.float32)


@functools.lru_cache(maxsize=1)  # for all exposures of a network
def _responses(image: ImageSpec, prior: Prior, shells: int) -> np.ndarray:
    """Mean counts of the thin shells, ``[K, L + 1, pixels]``, of typical coefficients 1."""
    num_orders = len(prior[0].beta)
    sigma = _mean_sigma(prior)
    _, rms = _moments(prior)

    def response(radius, order):
        """Expected counts of one electron per unit of beta; order 0: of the shell with beta 0."""
        unit = jnp.zeros(num_orders + 1, jnp.float32).at[order].set(1.0)[1:]
        params = ShellParams(radius[None], jnp.full(1, sigma), jnp.ones(1), unit[None])
        return expected_counts(params, image).reshape(-1)

    columns = jax.jit(jax.vmap(response, (None, 0)))
    orders = jnp.arange(num_orders + 1)
    parts = [columns(radius, orders) for radius in ladder_radii(prior, shells)]
    matrix = np.stack([np.asarray(part, np.float64) for part in parts])
    matrix[:, 1:] -= matrix[:, :1]
    return matrix * rms[:, None] / len(prior)


def _mean_sigma(prior: Prior) -> float:
    return float(np.mean([shell.sigma for shell in prior]))


def _moments(prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """Mean and root mean square of the coefficients of orders 0 to L, over the shells."""
    mean, rms = (np.concatenate([[1.0], x.mean(0)]) for x in beta_moments(prior))
    return mean, rms
