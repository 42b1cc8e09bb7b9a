"""Draws shell parameters from the course's prior; knows nothing of pictures."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.physics.legendre import density_minimum
from sevi_jax.physics.types import ShellParams
from sevi_jax.prng import root_key, stream_key


@dataclasses.dataclass(frozen=True)
class ShellPrior:
    """Prior of one shell; hashable, so static under jit.

    Attributes:
        radius: (low, high) of the uniform radius, half-widths.
        sigma: (low, high) of the uniform radial standard deviation, half-widths.
        electrons: (low, high) of the uniform integer number of electrons, both included.
        beta: per order 2, 4, ..., 2 L a row (low, high, mean, sd): a normal distribution
            conditioned on low <= beta <= high.
    """

    radius: tuple[float, float]
    sigma: tuple[float, float]
    electrons: tuple[int, int]
    beta: tuple[tuple[float, float, float, float], ...]


Prior = tuple[ShellPrior, ...]  # one entry per shell, inner shell first


def truncated_normal(key: jax.Array, low, high, mean, sd) -> jax.Array:
    """Draws normal numbers conditioned on [low, high], elementwise.

    Float32 holds this within about five sd of the mean; `config.validate` refuses bounds that lie
    wholly beyond.

    Args:
        key: scalar typed key.
        low: lower bounds, ``[...]``.
        high: upper bounds, same shape.
        mean: means before the conditioning, same shape.
        sd: standard deviations before the conditioning, same shape.

    Returns:
        The draws, same shape, float32.
    """
    low, high, mean, sd = (jnp.asarray(x, jnp.float32) for x in (low, high, mean, sd))
    unit = jax.random.truncated_normal(key, (low - mean) / sd, (high - mean) / sd)
    # mean + sd * unit can round over a bound by one bit
    return jnp.clip(mean + sd * unit, low, high)


def sample_beta(key: jax.Array, prior: ShellPrior) -> tuple[jax.Array, jax.Array]:
    """Draws the beta vector of one shell, again and again until its density is nowhere negative.

    Args:
        key: scalar typed key.
        prior: prior of the shell.

    Returns:
        beta ``[L]`` float32, and the number of vectors drawn, int32.
    """
    rows = np.asarray(prior.beta, np.float32)

    def draw(state):
        attempts, _ = state
        # Kept from XLA, which else computes some of what depends on them alone when it compiles,
        # with another rounding, and how much of it depends on what is around.
        bounds = jax.lax.optimization_barrier(tuple(jnp.asarray(x) for x in rows.T))
        return attempts + 1, truncated_normal(jax.random.fold_in(key, attempts), *bounds)

    def is_negative(state):
        attempts, beta = state
        return (attempts == 0) | (density_minimum(beta) < 0)

    attempts, beta = jax.lax.while_loop(
        is_negative, draw, (jnp.int32(0), jnp.zeros(len(rows), jnp.float32))
    )
    return beta, attempts


def sample_shells(key: jax.Array, prior: Prior) -> tuple[ShellParams, jax.Array]:
    """Draws the shells of one picture.

    Radii are drawn from each shell's own range and then sorted, so the inner shell is first; sigma,
    electrons and beta of place j follow prior j.

    Args:
        key: scalar typed key.
        prior: one `ShellPrior` per shell.

    Returns:
        The parameters (arrays ``[S]``, ``[S, L]``) and the number of beta vectors drawn per shell
        ``[S]`` int32: shells / sum of it is the acceptance rate of the positivity condition.
    """
    radii, sigmas, electrons, betas, attempts = [], [], [], [], []
    for place, shell in enumerate(prior):
        keys = jax.random.split(jax.random.fold_in(key, place), 4)
        radii.append(jax.random.uniform(keys[0], (), jnp.float32, *shell.radius))
        sigmas.append(jax.random.uniform(keys[1], (), jnp.float32, *shell.sigma))
        low, high = shell.electrons
        electrons.append(jax.random.randint(keys[2], (), low, high + 1, jnp.int32))
        beta, attempt = sample_beta(keys[3], shell)
        betas.append(beta)
        attempts.append(attempt)
    params = ShellParams(
        radius=jnp.sort(jnp.stack(radii)),
        sigma=jnp.stack(sigmas),
        electrons=jnp.stack(electrons),
        beta=jnp.stack(betas),
    )
    return params, jnp.stack(attempts)


@functools.lru_cache(maxsize=8)
def beta_draws(rows: tuple[tuple[float, float, float, float], ...]) -> np.ndarray:
    """Draws beta vectors of a fixed seed, for their moments: positivity leaves no closed form.

    Args:
        rows: as `ShellPrior.beta`.

    Returns:
        ``[N, L]`` float64, distributed as those of `sample_beta`; N is 65 536 or more.
    """
    key = stream_key(root_key(0), "moments")
    kept: list[np.ndarray] = []
    while sum(map(len, kept)) < 65_536:
        beta, is_density = jax.device_get(_draw_beta(key, len(kept), np.asarray(rows, np.float32)))
        kept.append(beta[is_density].astype(np.float64))
    return np.concatenate(kept)


@jax.jit
def _draw_beta(key, number, rows):
    """Many beta vectors, ``[..., L]``, and whether their density is nowhere negative."""
    bounds = (jnp.broadcast_to(x, (20_000, len(x))) for x in rows.T)
    beta = truncated_normal(jax.random.fold_in(key, number), *bounds)
    return beta, density_minimum(beta) >= 0


def beta_moments(prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """Estimates mean and root mean square of every beta from `beta_draws`.

    Args:
        prior: one `ShellPrior` per shell.

    Returns:
        Two arrays ``[S, L]`` float32.
    """
    draws = [beta_draws(shell.beta) for shell in prior]
    mean = np.stack([x.mean(0) for x in draws])
    rms = np.sqrt(np.stack([(x**2).mean(0) for x in draws]))
    return mean.astype(np.float32), rms.astype(np.float32)
