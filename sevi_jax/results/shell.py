"""Fitted shells with their errors, from the vector of a model; knows not how they were fitted."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from uncertainties import UFloat

from sevi_jax.model.picture_model import Model


@dataclasses.dataclass(frozen=True)
class FittedShell:
    """A shell with standard errors; what was not free has the error 0.

    Attributes:
        radius: pixels.
        sigma: pixels.
        tail: tau of a skewed shell, pixels; None of others.
        electrons: number of electrons in this picture.
        beta: order to anisotropy parameter, in the literature's convention.
    """

    radius: UFloat
    sigma: UFloat
    tail: UFloat | None
    electrons: UFloat
    beta: dict[int, UFloat]

    @property
    def counting_error(self) -> float:
        """How much the number of electrons differs between measurements of equal exposure."""
        return math.sqrt(max(self.electrons.nominal_value, 0.0))


def physical(vector: np.ndarray, model: Model) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From amounts N beta_n, which the vector of a model holds, to beta_n.

    Args:
        vector: of the model, ``[P]``.
        model: that it belongs to.

    Returns:
        The values, ``[P]``, their slopes by the vector, ``[P, P]``, and the variance of counting
        where a number of electrons stands, else 0, ``[P]``.
    """
    values, slopes, counting = np.array(vector), np.eye(len(vector)), np.zeros(len(vector))
    for shell, first in zip(model.shells, model.starts, strict=False):
        place = first + shell.lengths
        counting[place] = max(vector[place], 0.0)
        for k in range(place + 1, first + shell.size):
            values[k] = vector[k] / vector[place]
            slopes[k, k] = 1 / vector[place]
            slopes[k, place] = -vector[k] / vector[place] ** 2
    return values, slopes, counting


def of_this_picture(variance: np.ndarray, counting: np.ndarray) -> np.ndarray:
    """Variances of the numbers of electrons in this picture, not of their means; others as is."""
    number = np.maximum(variance - counting, 1e-4 * counting)
    return np.where(counting > 0, number, variance)


def shell_of(own: Sequence[UFloat], orders: Sequence[int], has_tail: bool) -> FittedShell:
    """Makes a shell of its part of the vector: radius, sigma, (tail,) electrons and betas."""
    place = 3 if has_tail else 2
    beta = dict(zip(orders, own[place + 1 :], strict=True))
    return FittedShell(own[0], own[1], own[2] if has_tail else None, own[place], beta)
