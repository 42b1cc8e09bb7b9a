"""An efficiency whose mean over every ring is 1; what numbers of electrons mean beside it.

How bright a ring is tells the number of its electrons times the mean efficiency on it, and only
what lies inside the ring tells the two apart. That is weak, and it is what a model misses first:
electrons between the rings, a background of another form, a tail. So where a smooth efficiency is
fitted it is said what numbers of electrons are: those of a detector the logarithm of whose
efficiency, averaged over a ring about the origin, is 0 to `SPREAD`. What is left of the efficiency
is how it varies around the rings. That is a term on the deviance, as of a Gaussian prior.
"""

import numpy as np

from sevi_jax.model.means import EFFICIENCY_TERMS
from sevi_jax.model.picture_model import Data, Model
from sevi_jax.model.ring_means import ring_means

SPREAD = 0.0003


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
        means = ring_means(data.exposure, origin)
        means = means - means.mean(axis=0)  # the mean of all rings is 0 already
        self._precision = means.T @ means / SPREAD**2

    def evaluate(self, vector: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Its value, half its negative slope and half its curvature."""
        places = len(vector) + self._places
        pull = self._precision @ vector[places]
        slope, curvature = np.zeros(len(vector)), np.zeros((len(vector), len(vector)))
        slope[places] = -pull
        curvature[np.ix_(places, places)] = self._precision
        return float(vector[places] @ pull), slope, curvature
