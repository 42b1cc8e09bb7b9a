"""The term that keeps densities positive."""

import numpy as np
import pytest
from numpy.polynomial import legendre

from sevi_jax.estimation.positivity import Positivity
from sevi_jax.model.components import Shell
from sevi_jax.model.means import Layout
from sevi_jax.model.picture_model import Model
from sevi_jax.results.fit import fit
from sevi_jax.synthesis.spectrometer import simulate


def two_shells():
    shells = (Shell((1, 2, 3)), Shell((2, 4), "skewed"))
    return Model(shells, Layout((0, 1, 2, 3, 4), background=1))


def vector(first, second):
    return np.array(
        [40.0, 1, 500, *(500 * np.array(first)), 60, 1, 0.5, 900, *(900 * np.array(second)), 0.1]
    )


def lowest(beta):
    """The lowest value of 1 + sum beta_n P_n."""
    coefficients = np.zeros(max(beta) + 1)
    coefficients[0] = 1
    for n, value in beta.items():
        coefficients[n] = value
    return legendre.legval(np.linspace(-1, 1, 20001), coefficients).min()


def test_positive_densities_cost_nothing():
    value, score, curvature = Positivity(two_shells()).evaluate(vector([0.3, 1, 0.1], [1, 0.2]))
    assert value == 0
    assert not score.any()
    assert not curvature.any()


def test_slope_and_curvature_are_those_of_the_value():
    term = Positivity(two_shells())
    # negative at one pole by odd orders, and at the equator
    at = vector([-0.9, 0.5, -0.9], [2.3, 0.1])
    value, score, curvature = term.evaluate(at)
    assert value > 0
    for i in range(len(at)):
        step = np.zeros(len(at))
        step[i] = 1e-4
        up, down = term.evaluate(at + step), term.evaluate(at - step)
        assert (down[0] - up[0]) / 4e-4 == pytest.approx(score[i], rel=1e-4, abs=1e-6)
    assert np.linalg.eigvalsh(curvature).min() > -1e-9 * np.abs(curvature).max()
    # where the densities are linear in the vector it is the curvature of the value
    amplitudes = [3, 4, 5, 10, 11]
    inner = curvature[np.ix_(amplitudes, amplitudes)]
    step = np.zeros(len(at))
    step[amplitudes] = [1e-3, 2e-3, -1e-3, 1e-3, 1e-3]
    second = term.evaluate(at + step)[0] + term.evaluate(at - step)[0] - 2 * value
    assert second == pytest.approx(2 * step[amplitudes] @ inner @ step[amplitudes], rel=1e-3)


def test_fitted_densities_stay_positive():
    # densities that touch 0: some fits that may do so fall below it, because electrons of the outer
    # shell leave room for an inner one that is negative
    below = 0
    for seed, beta in enumerate(2 * [{1: 1.5, 2: 0.5}, {1: 0.0, 2: 2.0}]):
        shells = [
            {"radius": 30, "sigma": 1.5, "electrons": 1e3, "beta": beta},
            {"radius": 40, "sigma": 1.5, "electrons": 9e3, "beta": {2: -0.9}},
        ]
        picture = simulate(shells, (100, 100), seed)
        free, kept = (fit(picture, 2, (1, 2), positive=p) for p in (False, True))
        minima = [
            min(lowest({n: b.nominal_value for n, b in s.beta.items()}) for s in one.shells)
            for one in (free, kept)
        ]
        assert kept.converged
        assert minima[1] > -3e-3
        if minima[0] >= 0:
            assert kept.values == pytest.approx(free.values, rel=1e-3)
        below += minima[0] < -3e-3
    assert below >= 1
