"""Shells of a free number that the likelihood of the picture does not pay for.

Shells are found on rings of a small picture, where a ring narrower than its cells may look like
two, and where what the model misses, an order for instance, is made up of wide shells with next to
no electrons. Here the fit of all pixels decides:

1. A shell whose number of electrons is not known is no shell of its own: it is joined with the one
   that it overlaps, or left out.
2. A pair that overlaps is tried as one, and that stays unless the deviance rises by more than
   chance lets it.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import scipy.special

from sevi_jax.estimation.dispersion import overdispersion
from sevi_jax.estimation.residuals import residual_of
from sevi_jax.estimation.scoring import Found, Limits, Term, covariance, foreseen, search
from sevi_jax.model.picture_model import PictureModel

_FALSE_ALARMS = 1000  # pictures in one of which a shell that is not there stays
_BESIDE = 2.5  # shells overlap within so many times the sum of their sigmas
_ONE = 1.0  # and may be one within so many
_KNOWN = 4.0  # standard errors of a shell's electrons
_FEW = 5  # evaluations after which what remains to be gained is foreseen
_SOME = 20
_HOPELESS = 3.0  # times what a shell has to lower the deviance by


def without_needless(
    picture: PictureModel, found: Found, limits: Limits, added: Sequence[Term]
) -> tuple[PictureModel, Found]:
    """Leaves out and joins shells, all of one kind, as long as that costs next to nothing.

    Args:
        picture: data and model.
        found: the fit of it.
        limits: ranges of the parameters.
        added: terms on the deviance.

    Returns:
        The model that is left and its fit.
    """
    while len(found.values.shells) > 1:
        unknown = _unknown(picture, found)
        if unknown is not None:
            picture, found = _searched(picture, found, unknown, limits, added, _SOME)
            continue
        most = _worth(picture, found)
        for shells in _pairs(picture, found):
            fewer, tried = _searched(picture, found, shells, limits, added, _FEW)
            if foreseen(tried) - found.evaluation.deviance > _HOPELESS * most:
                continue
            tried = search(fewer, tried.values, limits, added)
            if tried.evaluation.deviance - found.evaluation.deviance < most:
                picture, found = fewer, tried
                break
        else:
            break
    return picture, search(picture, found.values, limits, added)


Shells = tuple[np.ndarray, ...]


def _searched(
    picture: PictureModel,
    found: Found,
    shells: Shells,
    limits: Limits,
    added: Sequence[Term],
    iterations: int,
) -> tuple[PictureModel, Found]:
    """The fit with other shells."""
    values = dataclasses.replace(found.values, shells=shells)
    model = dataclasses.replace(picture.model, shells=picture.model.shells[: len(shells)])
    fewer = PictureModel(picture.data, model, values)
    return fewer, search(fewer, values, limits, added, iterations)


def _worth(picture: PictureModel, found: Found) -> float:
    """By how much a shell has to lower the deviance: chance does so in a picture in a thousand.

    A shell may be anywhere, at about as many places as the picture has sigmas.
    """
    reach = 0.5 * float(np.hypot(*picture.data.counts.shape))
    places = max(reach / max(min(v[1] for v in found.values.shells), 1.0), 1.0)
    needed = float(scipy.special.chdtri(picture.model.shells[0].size, 1 / (_FALSE_ALARMS * places)))
    return needed * overdispersion(residual_of(picture, found.values), picture.model.size)


def _unknown(picture: PictureModel, found: Found) -> Shells | None:
    """The shells without the one whose electrons are known least; None where all are known."""
    shells, lengths = found.values.shells, picture.model.shells[0].lengths
    matrix = covariance(found)
    if matrix is None:
        pairs = _pairs(picture, found)
        return pairs[0] if pairs else None
    places = [start + lengths for start in picture.model.starts[:-1]]
    errors = np.sqrt(np.maximum(np.diagonal(matrix)[places], 0.0))
    known = np.array([v[lengths] for v in shells]) / np.maximum(errors, 1e-300)
    least = int(np.argmin(known))
    if known[least] > _KNOWN:
        return None
    rest = [k for k in range(len(shells)) if k != least]
    near = min(rest, key=lambda k: _apart(shells[k], shells[least], lengths))
    if _apart(shells[near], shells[least], lengths) < _ONE:
        return _with_joined(shells, least, near, lengths)
    return tuple(shells[k] for k in rest)


def _pairs(picture: PictureModel, found: Found) -> list[Shells]:
    """The shells with two that overlap joined, for every pair, the closest first."""
    shells, lengths = found.values.shells, picture.model.shells[0].lengths
    pairs = []
    for i, k in itertools.pairwise(np.argsort([v[0] for v in shells])):
        apart = _apart(shells[i], shells[k], lengths)
        if apart < _BESIDE:
            pairs.append((apart, _with_joined(shells, int(i), int(k), lengths)))
    return [joined for _, joined in sorted(pairs, key=lambda x: x[0])]


def _with_joined(shells: Shells, first: int, second: int, lengths: int) -> Shells:
    """The shells with two of them joined, inner first."""
    rest = [v for k, v in enumerate(shells) if k not in (first, second)]
    return tuple(
        sorted([*rest, _joined(shells[first], shells[second], lengths)], key=lambda v: v[0])
    )


def _apart(first: np.ndarray, second: np.ndarray, lengths: int) -> float:
    """Distance of two shells over the sum of their widths."""
    means, variances = np.transpose([_moments(v, lengths) for v in (first, second)])
    return float(abs(means[0] - means[1]) / np.sqrt(variances).sum())


def _moments(shell: np.ndarray, lengths: int) -> tuple[float, float]:
    """Mean and variance of a radius, far from 0."""
    tail = shell[2] if lengths == 3 else 0.0
    return shell[0] + tail, shell[1] ** 2 + tail**2


def _joined(first: np.ndarray, second: np.ndarray, lengths: int) -> np.ndarray:
    """The shell that looks most like two: of their electrons, mean and variance."""
    weights = np.maximum([first[lengths], second[lengths]], 1e-9)
    means, variances = (
        np.array(x) for x in zip(*(_moments(v, lengths) for v in (first, second)), strict=True)
    )
    mean = float(np.average(means, weights=weights))
    variance = float(np.average(variances + (means - mean) ** 2, weights=weights))
    if lengths == 2:
        return np.array([mean, np.sqrt(variance), *(first[2:] + second[2:])])
    tail = float(np.average([first[2], second[2]], weights=weights))
    tail = float(np.clip(tail, *(np.array([-1, 1]) * np.sqrt(0.7 * variance))))
    sigma = float(np.sqrt(variance - tail**2))
    return np.array([mean - tail, sigma, tail, *(first[3:] + second[3:])])
