"""Values with errors that are correlated; knows nothing of what they are values of."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import uncertainties
from uncertainties import UFloat


def constant(value: float) -> UFloat:
    """A value without error, for instance one that was not free."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library asks whether that is meant
        return uncertainties.ufloat(value, 0.0)


def correlated(values: np.ndarray, covariance: np.ndarray) -> list[UFloat]:
    """Values with a covariance ``[P, P]``; those whose variance is 0 are without error.

    Where the covariance is not finite, every error is NaN.
    """
    values, covariance = np.asarray(values, np.float64), np.asarray(covariance, np.float64)
    if not np.isfinite(covariance).all():
        return [uncertainties.ufloat(v, np.nan) for v in values]
    free = np.flatnonzero(np.diagonal(covariance) > 0)
    found = [constant(float(v)) for v in values]
    if len(free):
        some = uncertainties.correlated_values(values[free], covariance[np.ix_(free, free)])
        for index, value in zip(free, some, strict=True):
            found[index] = value
    return found


def covariance_of(values: Sequence[UFloat]) -> np.ndarray:
    """Covariance ``[P, P]`` of values."""
    found: Any = uncertainties.covariance_matrix(values)
    return np.array(found, np.float64).reshape(len(values), len(values))
