"""Numbers of electrons beside an efficiency that is fitted."""

import dataclasses
import itertools

import numpy as np
import pytest

from sevi_jax.estimation.even_rings import EvenRings
from sevi_jax.model.components import Shell
from sevi_jax.model.means import Layout
from sevi_jax.model.picture_model import Data, Model
from sevi_jax.results.fit import fit
from sevi_jax.synthesis.spectrometer import simulate

SHELLS = [{"radius": r, "sigma": 1.5, "electrons": 1e5, "beta": {2: 0.5}} for r in (30.0, 48.0)]
PLACES = (np.arange(120) + 0.5) / 60 - 1  # pixels' middles, half-widths


def drawn_by(efficiency, shells=SHELLS, seed=3):
    """A picture whose efficiency the fit is not told."""
    drawn = simulate(shells, (120, 120), seed, efficiency=efficiency / efficiency.max())
    return dataclasses.replace(drawn, efficiency=None)


def legendre_sum(found):
    """Logarithm of the fitted efficiency of every pixel, but for a constant."""
    amounts, k = np.zeros((5, 5)), 0
    for degree in range(1, 5):
        for across in range(degree + 1):
            k += 1
            amounts[degree - across, across] = found.parameters[f"efficiency_{k}"].n
    return np.polynomial.legendre.leggrid2d(PLACES, PLACES, amounts)


def test_slope_and_curvature_of_the_term():
    model = Model((Shell(),), Layout((0, 2), efficiency=True))
    term = EvenRings(Data(np.zeros((64, 64)), np.ones((64, 64))), model, np.zeros(2))
    vector = np.random.default_rng(2).normal(0.0, 0.1, model.size)
    _, slope, curvature = term.evaluate(vector)
    step = 1e-3 * np.eye(model.size)
    ends = [(term.evaluate(vector + e), term.evaluate(vector - e)) for e in step]
    expected = -0.5 * np.array([(up[0] - down[0]) / 2e-3 for up, down in ends])
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    expected = -np.array([(up[1] - down[1]) / 2e-3 for up, down in ends])
    np.testing.assert_allclose(curvature, expected, atol=1e-6 * np.abs(expected).max())


def test_yields_are_known_beside_an_efficiency():
    """Thin rings alone tell a fall of the efficiency outwards by nothing but their insides."""
    picture = drawn_by(1 + 0.2 * PLACES[:, None] * np.ones(120))
    found = fit(picture, 2, free=("origin", "efficiency"), range=(24.0, 55.0))
    assert found.converged
    assert found.p_value > 1e-4
    for shell, count in zip(found.shells, picture.truth.counted, strict=True):
        assert shell.electrons.s < 0.005 * count  # it is 0.003 where all of it is counting
        assert abs(shell.electrons.n - count) < 4.5 * shell.electrons.s
    tilt = found.parameters["efficiency_1"]
    assert tilt.n == pytest.approx(0.2, abs=4.5 * tilt.s + 0.01)


def test_what_no_shell_holds_is_not_made_a_fall_of_the_efficiency():
    """The inside of the rings looks as the model has it not, and no efficiency is made of that."""
    wide = {"radius": 40.0, "sigma": 15.0, "electrons": 6e5, "beta": {2: -0.5}}
    bright = {"sigma": 0.8, "electrons": 4e6, "beta": {2: -0.9}}
    shells = [{**shell, **bright} for shell in SHELLS]
    picture = drawn_by(1 + 0.05 * PLACES[:, None] * np.ones(120), [*shells, wide])
    free = ("origin", "efficiency")
    found = fit(picture, 2, free=free, background="constant", range=(24.0, 55.0))
    assert found.converged
    efficiency = np.exp(legendre_sum(found))
    distance = np.hypot(*np.broadcast_arrays(PLACES[:, None], PLACES[None])) * 60
    edges = (24, 32, 40, 48, 55)
    rings = [(distance >= a) & (distance < b) for a, b in itertools.pairwise(edges)]
    assert np.ptp([efficiency[ring].mean() for ring in rings]) < 0.01
    # the wide shell has 2 to 3 per cent of the electrons of either about its ring
    for shell, count in zip(found.shells, picture.truth.counted, strict=False):
        assert 0.99 < shell.electrons.n / count < 1.08


def test_an_efficiency_of_three_lobes():
    """r^3 cos 3t, of which no polynomial of even degree has anything."""
    z, x = PLACES[:, None], PLACES[None]
    shells = [{**shell, "electrons": 1e6} for shell in SHELLS]
    lobes = 0.15
    picture = drawn_by(np.exp(lobes * (z**3 - 3 * z * x**2)), shells)
    found = fit(picture, 2, free=("origin", "efficiency"))
    assert found.p_value > 1e-4
    for shell in found.shells:
        assert abs(shell.beta[2].n - 0.5) < 4.5 * shell.beta[2].s
    # what of it lies about the rings, apart from what the rings' means take
    wanted = lobes * (z**3 - 3 * z * x**2)
    near = np.abs(np.hypot(z, x) * 60 - 40) < 9
    off = legendre_sum(found)[near] - wanted[near]
    assert np.std(off) < 0.2 * np.std(wanted[near])
