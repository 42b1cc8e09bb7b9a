"""What speaks against a network's answer: a network answers for any picture, known or not.

A picture like those that it learned from has as many electrons, lies centred, and is explained by
the shells that the network finds; shells like those that it learned from have radii in the prior's
range and densities that are nowhere negative.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.special

from sevi_jax.network.network import Prediction
from sevi_jax.network.run import Run
from sevi_jax.physics.expected import expected_counts
from sevi_jax.physics.legendre import density
from sevi_jax.physics.types import ImageSpec, ShellParams
from sevi_jax.synthesis.raster import fold_counts

NEGATIVE = -1e-3  # a density below this is called negative; a flat one is 1/2
# Share of the electrons that the shells may leave unexplained. A half-trained network leaves up to
# 0.07 of its own pictures and 0.15 of those with a five-hundredth of the electrons; 17 rings, 0.3.
UNEXPLAINED = 0.15
OFF_CENTRE = 0.01  # half-widths by which the electrons' mean may be off the middle
SURE = 5.0  # standard errors of counting beyond these limits


def doubts(run: Run, counts: np.ndarray, prediction: Prediction) -> list[str]:
    """Says what speaks against the answer for one picture.

    Args:
        run: the network.
        counts: the picture, ``[size, size]``.
        prediction: of it, arrays without the axis of pictures, inner shell first.

    Returns:
        Whole sentences, none where nothing does.
    """
    found = [*_electrons(run, counts), *_centre(counts)]
    if prediction.radius is not None and prediction.sigma is not None:
        found += _radii(run, np.asarray(prediction.radius))
        share, error = unexplained(run.network.image, counts, prediction)
        if share - SURE * error > UNEXPLAINED:
            found.append(
                f"{100 * share:.0f} % of the electrons are not explained by these shells: the "
                "picture is not like those that the network was trained on"
            )
    return found + _negative(np.asarray(prediction.beta))


def _electrons(run: Run, counts: np.ndarray) -> list[str]:
    """Fewer or more electrons than in training, by more than counting explains."""
    total = float(counts.sum(dtype=np.float64))
    low, high = (
        factor * sum(shell.electrons[end] for shell in run.synthesis.prior)
        for end, factor in enumerate(run.synthesis.exposure)
    )
    # a part of the electrons misses the detector, or is not recorded
    if 0.5 * low - SURE * low**0.5 <= total <= high + SURE * high**0.5:
        return []
    return [
        f"{total:.0f} counts, but the network was trained on pictures of {low:.0f} to {high:.0f} "
        "electrons"
    ]


def _centre(counts: np.ndarray) -> list[str]:
    """An origin that is not in the middle."""
    size = len(counts)
    places = (np.arange(size) + 0.5) * 2 / size - 1
    total = float(counts.sum(dtype=np.float64))
    found = []
    for axis in (0, 1):
        weights = counts.sum(axis=1 - axis, dtype=np.float64) / total
        mean = float(weights @ places)
        error = float(weights @ places**2 / max(total, 1.0)) ** 0.5
        if abs(mean) - SURE * error > OFF_CENTRE:
            found.append(f"{mean:+.3f} along {'xz'[axis]}")
    if not found:
        return []
    return [
        f"the electrons' mean is off the middle, by {', '.join(found)} half-widths: a network "
        "takes centred pictures"
    ]


def _radii(run: Run, radius: np.ndarray) -> list[str]:
    low = min(shell.radius[0] for shell in run.synthesis.prior)
    high = max(shell.radius[1] for shell in run.synthesis.prior)
    return [
        f"shell {place + 1}: R = {value:.4f} lies outside {low:g} to {high:g}, for which the "
        "network was trained"
        for place, value in enumerate(radius.tolist())
        if not low <= value <= high
    ]


def _negative(beta: np.ndarray) -> list[str]:
    """Densities below `NEGATIVE`; beta ``[S, L]``."""
    cosine = np.linspace(0, 1, 1001)
    found = []
    for place, values in enumerate(density(beta, cosine)):
        if values.min() < NEGATIVE:
            found.append(
                f"shell {place + 1}: the density of cos(theta) is negative, {values.min():.4f} at "
                f"cos(theta) = {cosine[values.argmin()]:.2f}"
            )
    return found


def unexplained(
    image: ImageSpec, counts: np.ndarray, prediction: Prediction
) -> tuple[float, float]:
    """Share of the electrons that the predicted shells leave unexplained, beyond counting noise.

    The shells' yields are fitted; the sum of |counts - means| is compared with what it is on
    average for Poisson numbers of these means.

    Args:
        image: in which the shells are compared.
        counts: the picture, ``[size, size]``.
        prediction: arrays ``[S]`` and ``[S, L]``.

    Returns:
        The share, 0 on average if the shells are right, and its standard error by counting.
    """
    folded = np.asarray(fold_counts(jnp.asarray(counts, jnp.float32)), np.float64)
    quarter = dataclasses.replace(image, fold=True)
    shells = (prediction.radius, prediction.sigma, prediction.beta)
    columns = np.asarray(_unit_pictures(quarter, *(jnp.asarray(x) for x in shells)), np.float64)
    columns = np.maximum(columns.reshape(len(columns), -1), 0.0)
    number = folded.reshape(-1)
    weight = 1 / np.sqrt(np.maximum(number, 1.0))
    yields, _ = scipy.optimize.nnls((columns * weight).T, number * weight)
    mean = yields @ columns
    total = number.sum()
    excess = np.abs(number - mean).sum() - _mean_deviation(mean).sum()
    return float(excess / (2 * total)), float(np.sqrt(mean.sum()) / (2 * total))


@functools.partial(jax.jit, static_argnums=0)
def _unit_pictures(
    image: ImageSpec, radius: jax.Array, sigma: jax.Array, beta: jax.Array
) -> jax.Array:
    """Expected counts of one electron of each shell, ``[S, side, side]``."""

    def picture(radius, sigma, beta):
        one = jnp.ones((1,), jnp.float32)
        return expected_counts(ShellParams(radius[None], sigma[None], one, beta[None]), image)

    return jax.vmap(picture)(radius, jnp.maximum(sigma, 1e-3), beta)


def _mean_deviation(mean: np.ndarray) -> np.ndarray:
    """Mean of |n - m| for Poisson numbers n of mean m: 2 exp(-m) m^(k + 1) / k!, k = floor(m)."""
    whole = np.floor(mean)
    logarithm = scipy.special.xlogy(whole + 1, mean) - mean - scipy.special.gammaln(whole + 1)
    return 2 * np.exp(logarithm)
