"""An efficiency whose mean over every ring is near 1; what numbers of electrons mean beside it.

How bright a ring is tells the number of its electrons times the mean efficiency on it, and only
what lies inside the ring tells the two apart, weakly. So where a smooth efficiency is fitted it is
said what numbers of electrons are: those of a detector whose efficiency, averaged over a ring
about the origin, is 1 to `SPREAD`. That is a term on the deviance, as of a Gaussian prior.
"""

import jax.numpy as jnp
import numpy as np

from sevi_jax.model.means import EFFICIENCY_TERMS, smooth_terms
from sevi_jax.model.picture_model import Data, Model

SPREAD = 0.01
_RINGS = 12
_POINTS = 128  # along a side that the means are taken of


class EvenRings:
    """The term on the deviance; a `scoring.Term`.

    Args:
        data: which pixels are used.
        model: with an efficiency; shells may be left out of it later.
        origin: (row, column) from the middle of the picture, pixels.
    """

    def __init__(self, data: Data, model: Model, origin: np.ndarray):
        columns = model.layout.columns
        first = columns.index("efficiency_1") - len(columns)
        self._places = np.arange(first, first + EFFICIENCY_TERMS)  # from the end of the vector
        means = ring_means(data, origin)
        self._precision = means.T @ means / SPREAD**2

    def evaluate(self, vector: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Its value, half its negative slope and half its curvature."""
        places = len(vector) + self._places
        pull = self._precision @ vector[places]
        slope, curvature = np.zeros(len(vector)), np.zeros((len(vector), len(vector)))
        slope[places] = -pull
        curvature[np.ix_(places, places)] = self._precision
        return float(vector[places] @ pull), slope, curvature


def ring_means(data: Data, origin: np.ndarray) -> np.ndarray:
    """Means of the terms of an efficiency over the used pixels of rings, ``[rings, terms]``."""
    step = max(1, max(data.counts.shape) // _POINTS)
    shape = data.counts.shape
    row, column = (np.asarray(x).reshape(shape)[::step, ::step] for x in data.middles)
    used = data.exposure[::step, ::step] > 0
    terms = smooth_terms(
        jnp.asarray(row / data.half), jnp.asarray(column / data.half), EFFICIENCY_TERMS + 1
    )
    distance = np.hypot(row - origin[0], column - origin[1])[used]
    ring = np.minimum(distance / distance.max() * _RINGS, _RINGS - 1).astype(int)
    number = np.bincount(ring, minlength=_RINGS)
    sums = [np.bincount(ring, np.asarray(t)[used], _RINGS) for t in terms[1:]]
    return np.stack(sums, axis=1)[number > 0] / number[number > 0, None]
