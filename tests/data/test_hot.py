"""Hot pixels are left out and listed; no pixel of a picture of electrons is.

The expected counts of the pictures are formulas of their own. A correct test leaves out a pixel in
fewer than 1e-4 of good pictures, so that the 60 here fail in fewer than 1 of 160 seeds.
"""

import dataclasses

import numpy as np
import pytest
from scipy.special import ndtr

from sevi_jax.data.hot import estimate_gain, find_defects, without_defects
from sevi_jax.data.picture import Picture


def mean_picture(electrons, sharp=0.8, spot=0.5, background=0.0, shape=(120, 130)):
    """A ring of width `sharp`, filled as shells are; a spot of half of the electrons; and more."""
    row, column = np.indices(shape)
    distance = np.hypot(row + 0.5 - 58.3, column + 0.5 - 66.7)
    ring = np.exp(-(((distance - 31) / sharp) ** 2) / 2) * (1 + 0.9 * (row - 58) / (distance + 1))
    ring += 0.1 * (distance < 31)
    edges = [np.arange(n + 1) - centre for n, centre in zip(shape, (58.3, 66.7), strict=True)]
    middle = np.outer(*(np.diff(ndtr(edge / spot)) for edge in edges))
    return electrons * (ring / ring.sum() + middle) / 2 + background


@pytest.mark.parametrize("gain", [1.0, 37.0, 1 / 163])
@pytest.mark.parametrize("electrons", [10, 1000, 100_000, 1_000_000])
@pytest.mark.parametrize("background", [0.0, 1.0])
def test_no_pixel_of_a_good_picture_is_left_out(electrons, gain, background):
    rng = np.random.default_rng([electrons, int(gain), int(background)])
    for spot in (0.5, 1.0):
        mean = mean_picture(electrons, spot=spot, background=background)
        counts = gain * rng.poisson(mean)
        found = find_defects(counts)
        assert not found.hot.any()
        assert not found.dead.any()
        difference = counts - gain * rng.poisson(background, mean.shape)
        assert not find_defects(difference, normal=True).hot.any()


@pytest.mark.parametrize("gain", [1.0, 37.0, 1 / 163])
@pytest.mark.parametrize("electrons", [10, 1000, 100_000, 1_000_000])
def test_hot_pixels_are_found(electrons, gain):
    counts = np.random.default_rng(electrons).poisson(mean_picture(electrons)).astype(float)
    hot = np.zeros(counts.shape, bool)
    # in the dark, in a corner, at an edge, and two beside one another
    for place, value in (((5, 9), 60), ((0, 0), 100), ((50, 129), 65535), ((90, 8), 4000),
                         ((91, 9), 3000)):  # fmt: skip
        counts[place], hot[place] = value, True
    np.testing.assert_array_equal(find_defects(counts * gain).hot, hot)


def test_hot_pixels_of_a_difference_are_found_on_either_side():
    rng = np.random.default_rng(1)
    mean = mean_picture(100_000)
    counts = rng.poisson(mean + 3) - rng.poisson(3, mean.shape).astype(float)
    counts[10, 20], counts[90, 100] = 500, -500
    found = np.argwhere(find_defects(counts, normal=True).hot)
    assert found.tolist() == [[10, 20], [90, 100]]


def test_dead_pixels_are_found_where_their_neighbours_are_bright():
    counts = np.random.default_rng(2).poisson(np.full((60, 60), 200.0)).astype(float)
    counts[20, 30] = counts[40, 41] = 0
    counts[50:, :] = 0  # a beam block is no dead pixel
    found = find_defects(counts)
    assert np.argwhere(found.dead).tolist() == [[20, 30], [40, 41]]
    assert not found.hot.any()


def test_they_are_masked_and_listed():
    counts = np.random.default_rng(3).poisson(mean_picture(50_000)).astype(float)
    counts[7, 8] = counts[70, 9] = 65535
    counts[3, 4] = np.nan
    mask = np.ones(counts.shape, bool)
    mask[100:] = False
    picture = without_defects(Picture(counts, mask=mask, notes=("read",)))
    assert picture.notes == ("read", "2 hot pixels are left out: (7, 8), (70, 9)")
    mask[7, 8] = mask[70, 9] = mask[3, 4] = False
    np.testing.assert_array_equal(picture.used, mask)
    off = np.random.default_rng(4).poisson(np.ones(counts.shape)).astype(float)
    off[50, 60] = 900
    picture = without_defects(dataclasses.replace(picture, off=off))
    assert picture.notes[-1] == "1 hot pixel is left out: (50, 60)"
    good = Picture(np.ones((9, 9)))
    assert without_defects(good) is good


@pytest.mark.parametrize("gain", [1.0, 37.0, 0.31])
@pytest.mark.parametrize("background", [0.02, 1.0, 20.0])
def test_gain_is_that_of_the_noise(gain, background):
    counts = np.random.default_rng(4).poisson(mean_picture(30_000, 2.0, 2.0, background))
    assert estimate_gain(gain * counts, counts >= 0) == pytest.approx(gain, rel=0.3)


def test_empty_and_small_pictures():
    for counts in (np.zeros((9, 9)), np.ones((2, 2)), np.full((3, 3), np.nan)):
        assert not find_defects(counts).hot.any()
