"""Hot and dead pixels among rings, spots and noise."""

import numpy as np
import pytest

from sevi_jax.estimation.outliers import find_outliers, pair_scatter
from sevi_jax.synthesis.spectrometer import simulate


def narrow_rings(seed, **conditions):
    shells = [
        {"radius": 45, "sigma": 0.4, "electrons": 2e5, "beta": {2: 1.2}},
        {"radius": 80, "sigma": 2, "electrons": 2e5, "beta": {2: -0.6}},
    ]
    return simulate(shells, (200, 200), seed, **conditions)


@pytest.mark.parametrize("background", [0.0, 0.05, 3.0])
def test_rings_and_background_are_no_outliers(background):
    # a pixel of a good picture is called hot or dead in less than 1 picture in 1000
    nothing = np.zeros((200, 200))
    for seed in range(5):
        counts = narrow_rings(seed, background=background).counts
        found = find_outliers(counts, np.ones(counts.shape, bool), nothing)
        assert not len(found.hot)
        assert not len(found.dead)


def test_a_bright_spot_is_no_hot_pixel():
    spot = [{"radius": 0.5, "sigma": 2, "electrons": 4e5, "beta": {2: 0}}]
    counts = simulate(spot, (100, 100), 1).counts
    found = find_outliers(counts, np.ones(counts.shape, bool), np.zeros(counts.shape))
    assert not len(found.hot)
    assert not len(found.dead)


def test_hot_and_dead_pixels_are_found():
    hot = ((10, 20, 65535.0), (11, 20, 40000.0), (145, 100, 5000.0), (0, 199, 60.0))
    picture = narrow_rings(1, hot=hot, background=60.0)
    counts = picture.counts.copy()
    counts[0, 199] = 400.0
    counts[100, 30] = 0.0
    used = np.ones(counts.shape, bool)
    used[150:160] = False
    counts[155, 5] = 1e9  # masked
    found = find_outliers(counts, used, np.zeros(counts.shape))
    assert {tuple(x) for x in found.hot} == {(10, 20), (11, 20), (145, 100), (0, 199)}
    assert {tuple(x) for x in found.dead} == {(100, 30)}
    assert found.largest == 65535.0


@pytest.mark.parametrize("gain", [1.0, 7.0])
@pytest.mark.parametrize("mean", [0.01, 0.5, 50.0])
def test_the_scatter_of_pairs_is_the_gain(gain, mean):
    # 40000 pixels; with 0.01 electrons in each there are 400 pairs whose values are 1 or 0
    counts = gain * np.random.default_rng(5).poisson(mean, (200, 200))
    counts[7, 7] = 1e6
    found = pair_scatter(counts, np.ones(counts.shape, bool))
    assert found == pytest.approx(gain, rel=0.15)
