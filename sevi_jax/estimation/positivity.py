"""A term of the likelihood that keeps densities of directions from falling below 0."""

import dataclasses
import functools

import numpy as np
from numpy.polynomial import legendre

from sevi_jax.model.picture_model import Model

_SCALE = 6e-4  # of a density below 0, in units of its mean over all directions
_STEPS = 8  # angles per order, from 0 to pi


@functools.cache
def _nodes(orders: tuple[int, ...]) -> np.ndarray:
    """P_n at equal steps of theta from 0 to pi, both ends included, ``[A, L]``."""
    steps = _STEPS * max(orders)
    cosine = np.cos(np.linspace(0.0, np.pi, steps + 1))
    return np.stack([legendre.legval(cosine, np.eye(n + 1)[n]) for n in orders], axis=1)


@dataclasses.dataclass(frozen=True)
class Positivity:
    """The sum over shells and angles of (D / scale)^2 where D = 1 + sum beta_n P_n is negative.

    Attributes:
        model: says where the shells' N and N beta_n lie in the vector.
    """

    model: Model

    def evaluate(self, vector: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Its value, half its negative slope ``[P]`` and half its curvature ``[P, P]``."""
        value = 0.0
        score, curvature = np.zeros(len(vector)), np.zeros((len(vector), len(vector)))
        for i, shell in enumerate(self.model.shells):
            if not shell.orders:
                continue
            part = slice(self.model.starts[i] + shell.lengths, self.model.starts[i + 1])
            electrons, amplitudes = vector[part][0], vector[part][1:]
            nodes = _nodes(shell.orders)
            anisotropy = nodes @ amplitudes / electrons
            low = anisotropy < -1
            if not low.any():
                continue
            below = (1 + anisotropy[low]) / _SCALE
            slopes = np.column_stack([-anisotropy[low], nodes[low]]) / (electrons * _SCALE)
            value += float(below @ below)
            score[part] -= below @ slopes
            curvature[part, part] += slopes.T @ slopes
        return value, score, curvature
