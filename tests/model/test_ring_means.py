"""Means of the terms of an efficiency over rings."""

import numpy as np
import pytest

from sevi_jax.model.means import Layout
from sevi_jax.model.picture_model import Data, Model, PictureModel, Values
from sevi_jax.model.ring_means import ring_means

WHOLE = np.ones((128, 128))
PLACE = (np.arange(128) + 0.5) / 64 - 1
Z, X = np.meshgrid(PLACE, PLACE, indexing="ij")


def amounts_of(wanted):
    """Coefficients of the terms whose sum, but for a constant, this polynomial is."""
    terms = np.polynomial.legendre.legvander2d(Z.ravel(), X.ravel(), [4, 4])
    places = [5 * (n - k) + k for n in range(5) for k in range(n + 1)]
    return np.linalg.lstsq(terms[:, places], wanted.ravel(), rcond=None)[0][1:]


def test_a_slope_has_no_mean_over_whole_rings():
    means = ring_means(WHOLE, np.zeros(2))
    assert np.abs(means[:, :2]).max() < 0.01
    # others have, and are not all alike
    assert np.linalg.matrix_rank(means, tol=0.01) >= 2


@pytest.mark.parametrize(
    "wave", [Z**3 - 3 * Z * X**2, Z**4 - 6 * Z**2 * X**2 + X**4, Z**4 - X**4], ids="346"
)
def test_waves_around_the_rings_have_the_same_mean_on_all(wave):
    """r^3 cos 3t, r^4 cos 4t, r^4 cos 2t; they have another in the corners, where no ring is."""
    means = ring_means(WHOLE, np.zeros(2)) @ amounts_of(wave)
    assert np.ptp(means) < 0.03
    radial = ring_means(WHOLE, np.zeros(2)) @ amounts_of(Z**2 + X**2)
    assert np.ptp(radial) > 0.5


def test_an_efficiency_is_1_on_average():
    """That it is one of 4 waves changes no number of electrons."""
    amounts = amounts_of(0.1 * (Z**4 - 6 * Z**2 * X**2 + X**4))
    model = Model((), Layout((0,), background=1, efficiency=True))
    inside = (np.hypot(Z, X) < 0.99).astype(float)
    background = np.append(100.0, np.zeros(14))
    values = Values((), background=background, efficiency=amounts)
    mean = PictureModel(Data(inside, inside), model, values).mean(values)[inside > 0]
    wanted = np.exp(0.1 * (Z**4 - 6 * Z**2 * X**2 + X**4))[inside > 0]
    np.testing.assert_allclose(mean, 100 * wanted, rtol=2e-3)
