"""Numbers of electrons beside an efficiency that is fitted."""

import dataclasses

import numpy as np
import pytest

from sevi_jax.estimation.even_rings import SPREAD, ring_means
from sevi_jax.model.picture_model import Data
from sevi_jax.results.fit import fit
from sevi_jax.synthesis.spectrometer import simulate


def test_a_slope_has_no_mean_over_whole_rings():
    means = ring_means(Data(np.zeros((128, 128)), np.ones((128, 128))), np.zeros(2))
    slopes = np.abs(means[:6, :2]).max()
    assert slopes < 0.01
    # others have, and are not all alike
    assert np.linalg.matrix_rank(means, tol=0.01) >= 2


def test_yields_are_known_beside_an_efficiency():
    """Thin rings alone tell a fall of the efficiency outwards by nothing but their insides."""
    slope = 1 + 0.2 * ((np.arange(120) + 0.5) / 60 - 1)[:, None] * np.ones(120)
    shells = [{"radius": r, "sigma": 1.5, "electrons": 1e5, "beta": {2: 0.5}} for r in (30.0, 48.0)]
    drawn = simulate(shells, (120, 120), 3, efficiency=slope / slope.max())
    picture = dataclasses.replace(drawn, efficiency=None)
    found = fit(picture, 2, free=("origin", "efficiency"), range=(24.0, 55.0))
    assert found.converged
    assert found.p_value > 1e-4
    for shell, count in zip(found.shells, drawn.truth.counted, strict=True):
        assert shell.electrons.s < 3 * SPREAD * count
        assert abs(shell.electrons.n - count) < 4.5 * shell.electrons.s
    tilt = found.parameters["efficiency_1"]
    assert tilt.n == pytest.approx(0.2, abs=4.5 * tilt.s + 0.01)
