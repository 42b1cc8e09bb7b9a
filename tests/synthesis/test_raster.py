import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sevi_jax.physics.types import ImageSpec
from sevi_jax.synthesis import raster

BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


def picture(x, z, spec, mask=None, start=0):
    x, z = (np.asarray(v, np.float32) for v in (x, z))
    mask = np.ones(len(x), bool) if mask is None else mask
    counts = jnp.full(spec.side**2, start, jnp.int32)
    counts = jax.jit(raster.add_positions, static_argnums=4)(counts, x, z, mask, spec)
    assert counts.dtype == jnp.int32
    return np.asarray(counts).reshape(spec.side, spec.side)


def histogram(x, z, size):
    """The picture by NumPy: edges at multiples of the pixel, x along the first axis."""
    edges = np.linspace(-1, 1, size + 1)
    return np.histogram2d(np.asarray(x, float), np.asarray(z, float), [edges, edges])[0]


def some_positions(n=50_000):
    rng = np.random.default_rng(0)
    # centre and widths differ, so that a mixed-up axis or sign shows
    return rng.normal([0.2, -0.3], [0.4, 0.6], (n, 2)).astype(np.float32).T


@pytest.mark.parametrize("size", [2, 16, 64])
def test_counts_are_the_histogram(size):
    x, z = some_positions()
    np.testing.assert_array_equal(picture(x, z, ImageSpec(size)), histogram(x, z, size))


def test_axes_and_edges_of_pixels():
    spec = ImageSpec(4)
    # x first: 0.3 lies in the third quarter, -0.9 in the first. An edge belongs to the pixel above.
    expected = np.zeros((4, 4), int)
    expected[2, 0] = 1
    np.testing.assert_array_equal(picture([0.3], [-0.9], spec), expected)
    expected = np.zeros((4, 4), int)
    expected[0, 2] = expected[1, 3] = 1
    np.testing.assert_array_equal(picture([-1, -0.5], [0, 0.5], spec), expected)


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("outside", [1.0, 1.0000001, -1.0000001, 7.0, -1e9, np.inf, np.nan])
def test_electron_outside_is_left_out(fold, outside):
    spec = ImageSpec(8, fold)
    for x, z in ((outside, 0.1), (0.1, outside), (outside, outside)):
        assert picture([x], [z], spec).sum() == 0


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("edge", [-1.0, float(BELOW_ONE)])
def test_electron_on_the_edge_is_in_the_edge_pixel(fold, edge):
    spec = ImageSpec(8, fold)
    last = spec.side - 1 if fold or edge > 0 else 0
    inner = 0 if fold else 4
    for x, z, place in ((edge, 0.1, (last, inner)), (0.1, edge, (inner, last))):
        counts = picture([x], [z], spec)
        assert counts.sum() == 1
        assert counts[place] == 1


def test_masked_electrons_are_left_out_and_counts_are_added():
    x, z = some_positions()
    mask = np.random.default_rng(1).random(len(x)) < 0.4
    counts = picture(x, z, ImageSpec(16), mask, start=3)
    np.testing.assert_array_equal(counts, histogram(x[mask], z[mask], 16) + 3)


def test_folded_picture_is_the_fold_of_the_full_one():
    x, z = some_positions()
    full, folded = (picture(x, z, ImageSpec(32, fold)) for fold in (False, True))
    np.testing.assert_array_equal(folded, histogram(np.abs(x), np.abs(z), 32)[16:, 16:])
    np.testing.assert_array_equal(raster.fold_counts(jnp.asarray(full)), folded)
    inside = (np.abs(x) < 1) & (np.abs(z) < 1)
    assert folded.sum() == full.sum() == inside.sum()


def test_fold_keeps_leading_axes_and_oblong_pictures():
    counts = np.arange(2 * 4 * 6).reshape(2, 4, 6)
    expected = np.zeros((2, 2, 3), int)
    for i in range(4):
        for j in range(6):
            expected[:, max(i - 2, 1 - i), max(j - 3, 2 - j)] += counts[:, i, j]
    np.testing.assert_array_equal(raster.fold_counts(jnp.asarray(counts)), expected)


def test_normalised_picture_sums_to_255():
    x, z = some_positions()
    counts = picture(x, z, ImageSpec(64))
    scaled = raster.normalise(jnp.asarray(counts))
    assert scaled.dtype == jnp.float32
    np.testing.assert_allclose(scaled, counts * 255 / counts.sum(), rtol=1e-6)
    assert float(scaled.sum()) == pytest.approx(255, rel=1e-5)


def test_picture_without_counts_stays_zero():
    np.testing.assert_array_equal(raster.normalise(jnp.zeros((4, 4), jnp.int32)), np.zeros((4, 4)))
