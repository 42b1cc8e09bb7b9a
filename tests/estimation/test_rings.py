"""Many shells from one picture, drawn by NumPy, electron by electron."""

import numpy as np
import pytest

from sevi_jax.estimation import rings
from sevi_jax.estimation.information import FreeParameters
from sevi_jax.estimation.measure import Request, measure
from sevi_jax.estimation.placing import Placement

SHAPE, ORIGIN = (300, 290), (150.3, 144.6)
# a progression of close rings, two of them a doublet; pixels
RADIUS = np.array([31.0, 52.0, 70.0, 85.5, 91.0, 103.0, 117.0, 130.0])
SIGMA = np.array([1.5, 1.2, 1.0, 1.0, 1.1, 0.9, 1.2, 1.0])
NUMBER = np.array([40_000, 20_000, 90_000, 60_000, 150_000, 300_000, 200_000, 50_000])
BETA = np.array([0.1, -0.1, 0.5, -0.3, -0.2, -0.45, 0.8, -0.4])


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(3)
    total = rng.poisson(0.2, SHAPE).astype(float)
    for radius, sigma, number, beta in zip(RADIUS, SIGMA, NUMBER, BETA, strict=True):
        c = rng.uniform(-1, 1, 4 * number)
        density = 0.5 + beta * (1.5 * c**2 - 0.5)
        c = c[rng.uniform(0, 0.5 + max(beta, -beta / 2), c.size) < density][:number]
        r = rng.normal(radius, sigma, number)
        x = r * np.sqrt(1 - c**2) * np.cos(rng.uniform(0, 2 * np.pi, number)) + ORIGIN[0]
        total += np.histogram2d(x, r * c + ORIGIN[1], [np.arange(n + 1) for n in SHAPE])[0]
    return total


def test_inversion_gives_every_electron_its_shell(counts):
    placement = Placement(SHAPE, ORIGIN)
    electrons, beta, background = rings.radial_distribution(
        counts, np.ones(SHAPE, bool), placement, 1
    )
    assert electrons.min() >= 0
    assert electrons.sum() == pytest.approx(NUMBER.sum(), rel=0.02)
    assert 0 <= background.mean() < 0.4  # 0.2; what it lacks the shells have
    inner = electrons[26:36]  # of the shell at 31, by itself
    assert inner.sum() == pytest.approx(NUMBER[0], rel=0.1)
    assert np.average(np.arange(26, 36) + 0.5, weights=inner) == pytest.approx(31, abs=0.3)
    assert ((beta >= -0.5 - 1e-6) & (beta <= 1 + 1e-6)).all()  # densities are not negative


def test_inversion_of_a_part_of_the_picture(counts):
    # half of it masked: the same electrons, for what is not seen is inferred
    mask = np.ones(SHAPE, bool)
    mask[:100, :] = False
    mask[:, 200:] = False
    spoiled = np.where(mask, counts, 1e6)
    electrons, _, _ = rings.radial_distribution(spoiled, mask, Placement(SHAPE, ORIGIN), 1)
    assert electrons.sum() == pytest.approx(NUMBER.sum(), rel=0.05)


def test_prominence_is_the_height_over_the_higher_valley():
    values = np.array([0.0, 3, 1, 2, 0.5, 5, 4, 4.5, 0])
    expected = np.array([0.0, 2.5, 0, 1, 0, 5, 0, 0.5, 0])
    np.testing.assert_allclose(rings.prominences(values), expected)


def test_start_is_near_every_shell(counts):
    free = FreeParameters(((2,),) * 8, 1)
    placement = Placement(SHAPE, ORIGIN)
    shells = rings.find_rings(counts, np.ones(SHAPE, bool), placement, free).shells
    np.testing.assert_allclose(np.asarray(shells.radius) * placement.unit, RADIUS, atol=1.0)
    np.testing.assert_allclose(shells.electrons, NUMBER, rtol=0.35)
    np.testing.assert_allclose(np.asarray(shells.beta)[:, 0], BETA, atol=0.25)


def test_fit_of_eight_shells_is_right_within_its_errors(counts):
    # 32 numbers within 4 standard errors: 1 in 500 fails if they are right
    found = measure(counts, Request(((2,),) * 8, background=1))
    assert bool(found.fit.converged[0])
    assert found.p_value > 1e-3
    unit = found.placement.unit
    shells, errors = found.fit.params.shells, found.fit.errors.shells
    for got, error, true in (
        (shells.radius * unit, errors.radius * unit, RADIUS),
        (shells.sigma * unit, errors.sigma * unit, SIGMA),
        (shells.electrons, errors.electrons, NUMBER),
        (shells.beta[..., 0], errors.beta[..., 0], BETA),
    ):
        pulls = (np.asarray(got[0]) - true) / np.asarray(error[0])
        assert (np.abs(pulls) < 4).all(), pulls
