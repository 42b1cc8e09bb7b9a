"""Scatter of counts about their means, at any number of counts."""

import numpy as np
import pytest

from sevi_jax.estimation.dispersion import Residual, overdispersion, scatter


def rings(electrons):
    """Means of two rings on 200 x 200 pixels that sum up to so many electrons."""
    r = np.hypot(*(np.mgrid[:200, :200] - 99.5))
    shape = np.exp(-0.5 * ((r - 45) / 2) ** 2) / 45 + np.exp(-0.5 * ((r - 80) / 2) ** 2) / 80
    shape += 1e-6
    return electrons * shape / shape.sum()


def drawn(kind, mean, rng):
    """Counts of a mean: of electrons, of electrons that count as 3, or that light up two pixels."""
    if kind == "electrons":
        return rng.poisson(mean), mean
    if kind == "gain":
        return 3 * rng.poisson(mean / 3), mean
    half = rng.poisson(mean / 2)
    return half + np.roll(half, 1, axis=1), (mean + np.roll(mean, 1, axis=1)) / 2


@pytest.mark.parametrize("electrons", [1e3, 1e4, 1e5, 1e6, 1e7])
@pytest.mark.parametrize(
    ("kind", "low", "high"),
    # pairs cut by the edge of a block scatter by less than 2: 1.5 in blocks of 2, 1.75 of 4
    [("electrons", 1.0, 1.15), ("gain", 2.7, 3.4), ("pair", 1.35, 2.2)],
)
def test_overdispersion_is_known_at_any_number_of_counts(electrons, kind, low, high):
    # errors are below 10 % by construction; 10 seeds, and 9 of them must be in the range
    rng = np.random.default_rng([int(electrons), len(kind)])
    found = []
    for _ in range(10):
        counts, mean = drawn(kind, rings(electrons), rng)
        found.append(overdispersion(Residual.of(counts, mean)))
    assert sum(low <= value <= high for value in found) >= 9, found


@pytest.mark.parametrize("electrons", [1e3, 1e5, 1e7])
def test_the_error_of_the_scatter_is_right(electrons):
    # the mean square of 300 pulls is within 5 of its errors, sqrt(2 / 300)
    rng = np.random.default_rng(int(electrons))
    mean = rings(electrons)
    found = [scatter(Residual.of(rng.poisson(mean), mean)) for _ in range(300)]
    pulls = np.array([(one.value - 1) / one.error for one in found])
    assert abs(pulls.mean()) < 5 / np.sqrt(300)
    assert abs((pulls**2).mean() - 1) < 5 * np.sqrt(2 / 300)


def test_fitted_parameters_take_scatter_away():
    # 20 free levels of 20 stripes of 10 pixels: 200 numbers scatter about 20 means fitted to them
    rng = np.random.default_rng(3)
    counts = rng.poisson(40.0, (400, 20, 10))
    found = []
    for one in counts:
        mean = np.repeat(one.mean(axis=1, keepdims=True), 10, axis=1)
        found.append(scatter(Residual.of(one, mean), 20).value)
    # 400 values of standard deviation 0.1
    assert abs(np.mean(found) - 1) < 5 * 0.1 / 20


def test_pixels_that_are_not_used_do_not_count():
    rng = np.random.default_rng(4)
    mean = rings(1e6)
    counts = rng.poisson(mean).astype(float)
    counts[:50], mean[:50] = 1e6, np.nan
    assert overdispersion(Residual.of(counts, mean)) < 1.15


def test_nothing_is_known_without_counts():
    nothing = Residual.of(np.zeros((8, 8)), np.full((8, 8), 1e-9))
    assert scatter(nothing).error > 1 or np.isinf(scatter(nothing).error)
    assert overdispersion(nothing) == 1.0


def test_a_few_pixels_that_are_far_off_count():
    mean = rings(1e5)
    counts = np.random.default_rng(5).poisson(mean).astype(float)
    counts[100:102, 100:102] += 3000.0
    assert overdispersion(Residual.of(counts, mean)) > 10
