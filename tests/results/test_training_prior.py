"""The training prior of fits: moments of its numbers, and slopes by the vector of a model."""

import numpy as np
import pytest
import scipy.stats

from sevi_jax.model.components import Shell
from sevi_jax.results.training_prior import shells_prior
from sevi_jax.synthesis.prior import ShellPrior

# Betas so small that the density is always positive: truncated normals, whose moments SciPy knows.
ROWS = ((0.0, 0.1, 0.08, 0.05), (-0.05, 0.05, 0.0, 0.2))
PRIOR = (ShellPrior((0.3, 0.9), (0.005, 0.009), (1000, 3000), ROWS),)
HALF = 50.0


def test_it_has_the_moments_of_the_numbers_in_pixels_and_the_literatures_beta():
    found = shells_prior(PRIOR, (Shell((2, 3, 4, 6)),), HALF)
    expected = [(0.6 * HALF, (0.6 * HALF) ** 2 / 12), (0.007 * HALF, (0.004 * HALF) ** 2 / 12)]
    for low, high, mean, sd in ROWS:
        law = scipy.stats.truncnorm((low - mean) / sd, (high - mean) / sd, mean, sd)
        expected.append((2 * law.mean(), 4 * law.var()))
    mean, variance = np.array(expected).T
    known, unknown = [0, 1, 2, 4], [3, 5]  # an odd order and one that it lacks are left free
    # 65 536 draws: a mean is off by 5 standard errors once in a million
    limit = np.where(np.arange(4) < 2, 1e-9 * mean, 5 * np.sqrt(variance / 65_536))
    assert (np.abs(found.mean[known] - mean) <= limit).all()
    np.testing.assert_allclose(np.diagonal(found.precision)[known] * variance, 1, rtol=0.04)
    assert not found.precision[unknown].any()
    assert not found.precision[:, unknown].any()


def test_slopes_are_those_of_its_value():
    prior = shells_prior(PRIOR * 2, (Shell((2, 4)), Shell((2,), "skewed")), HALF)
    vector = np.array([31.0, 0.4, 900.0, 100.0, -30.0, 33.0, 0.3, 0.1, 1500.0, 200.0])
    value, score, curvature = prior.evaluate(vector)
    for place, step in enumerate(1e-5 * np.abs(vector)):
        ends = [vector.copy(), vector.copy()]
        ends[0][place] += step
        ends[1][place] -= step
        change = prior.evaluate(ends[0])[0] - prior.evaluate(ends[1])[0]
        assert score[place] == pytest.approx(-change / (4 * step), rel=1e-4, abs=1e-9)
    # yields have no prior: along one, with its betas kept, nothing changes
    grown = vector.copy()
    grown[2:5] *= 1.7
    assert prior.evaluate(grown)[0] == pytest.approx(value, rel=1e-12)
    assert (np.linalg.eigvalsh(curvature) > -1e-9 * np.abs(curvature).max()).all()
