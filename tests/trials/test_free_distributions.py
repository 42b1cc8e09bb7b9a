"""The drawings of the trial of free distributions, and its truth."""

import numpy as np
import pytest

from scripts.trials import freeform


def test_truth_is_the_mean_over_pixels():
    box = freeform._boxcar(1.0, 20.3, 24.8, 0.5)
    intensity, harmonic = box.means(np.arange(1.0, 40.0))
    expected = np.zeros(39)
    expected[19:25] = np.array([0.2, 1, 1, 1, 1, 0.3]) / 4.5  # 20 is from 19.5 to 20.5
    np.testing.assert_allclose(intensity, expected, atol=1e-12)
    np.testing.assert_allclose(harmonic, 0.5 * expected, atol=1e-12)
    ring = freeform._ring(1.0, 60.0, 2.0, 1.0)
    assert ring.means(np.arange(30.0, 90.0))[0].sum() == pytest.approx(1.0, abs=1e-6)


def test_moments_of_directions():
    # <P_n> is beta_n / (2 n + 1); false-alarm rate of each of the three lines 1e-4
    number = 100_000
    for order, more in ((4, 0.2), (1, 0.08)):
        c = freeform.directions_with(np.random.default_rng(1), np.full(number, 1.2), order, more)
        for n, beta in ((2, 1.2), (order, more), (3, 0.0)):
            value = np.polynomial.legendre.legval(c, np.eye(n + 1)[n])
            assert abs(value.mean() - beta / (2 * n + 1)) < 3.9 * value.std() / np.sqrt(number)


def test_a_turned_picture_off_its_place():
    variant = freeform.Variant(off=(3.0, -2.0), degrees=90.0)
    picture, _, _ = freeform.draw("b", 2e4, 1, variant)
    number = picture.sum()
    place = np.arange(512) + 0.5
    means = picture.sum(axis=1) @ place / number, picture.sum(axis=0) @ place / number
    # sigma of a coordinate is some 70 pixels, of its mean 0.5; false-alarm rate 1e-4
    np.testing.assert_allclose(means, (259.5, 254.5), atol=2.0)
    plain = freeform.draw("b", 2e4, 1)[0]
    spread = [
        x.sum(axis=1) @ (place - middle) ** 2 / x.sum()
        for x, middle in ((plain, 256.5), (picture.T, 254.5))
    ]
    assert spread[1] == pytest.approx(spread[0], rel=0.06)
