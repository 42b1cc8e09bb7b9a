import jax
import jax.numpy as jnp
import numpy as np
import pytest
from camera_model import FIFTHS, draw_shapes, frame_of

from sevi_jax.detection import spots as module
from sevi_jax.detection.spots import Patches, SpotPrior, bin_points, fit_spots, spot_values

PRIOR = SpotPrior(np.array([98, 1.94, 0], np.float32), np.array([9.8, 0.13, 0.1], np.float32))


def broadened(place, amplitude, s, rho, bin_pixels):
    """The five parameters on bins: the covariance matrix of the spot plus that of the points."""
    precision = np.array([[1, rho], [rho, 1]]) / s**2
    points = np.add.outer(np.arange(bin_pixels), FIFTHS).ravel() / bin_pixels
    covariance = np.linalg.inv(precision) / bin_pixels**2
    wide = np.linalg.inv(covariance + np.var(points) * np.eye(2))
    lowered = amplitude * np.sqrt(np.linalg.det(covariance) * np.linalg.det(wide))
    width = 1 / np.sqrt(wide[0, 0])
    return np.array([*place, lowered, width, wide[0, 1] * width**2], np.float32)


def binned(frame, bin_pixels):
    size = len(frame) // bin_pixels
    return frame.reshape(size, bin_pixels, size, bin_pixels)


def patches_of(frames):
    """One patch per frame of 4 x 4 pixels a bin; noise of rounding as of 16 pixels."""
    blocks = np.stack([binned(frame, 4) for frame in frames])
    grey = blocks.mean(axis=(2, 4), dtype=np.float32).reshape(len(frames), -1)
    white = (blocks.max(axis=(2, 4)) == 255).reshape(len(frames), -1)
    weight = np.where(grey < 1.5, 1 / 0.3**2, 1 / 0.09**2).astype(np.float32)
    corner = np.zeros((len(frames), 2), np.int32)
    return Patches(*map(jnp.asarray, (corner, grey, weight, white)))


@pytest.mark.parametrize("bin_pixels", [1, 2, 4])
def test_values_are_means_over_the_points_of_a_bin(bin_pixels):
    size, place, s, rho = 16, np.array([7.3, 8.1]), 1.9 * bin_pixels, 0.17
    points = np.add.outer(np.arange(size * bin_pixels), FIFTHS).ravel()
    dx, dz = ((points - c * bin_pixels) / s for c in place)
    exponent = dx[:, None] ** 2 + dz**2 + 2 * rho * dx[:, None] * dz
    n = 5 * bin_pixels
    expected = 100 * np.exp(-exponent / 2).reshape(size, n, size, n).mean(axis=(1, 3))
    spot = broadened(place, 100, s, rho, bin_pixels)
    corner = jnp.zeros(2, jnp.int32)
    values = spot_values(jnp.asarray(spot), corner, size, bin_pixels).reshape(size, size)
    # within 2.5 s along both axes, where no bin is cut
    inside = np.abs(np.arange(size) + 0.5 - place[:, None]) < 2.5 * 1.9
    inside = inside[0][:, None] & inside[1]
    np.testing.assert_allclose(np.asarray(values)[inside], expected[inside], atol=0.02)
    outside = np.abs(np.arange(size) + 0.5 - place[:, None]) > 4 * 1.9
    assert np.asarray(values)[outside[0]].max() == 0


def test_mean_and_variance_of_the_points():
    for bin_pixels in (1, 3, 4):
        points = np.add.outer(np.arange(bin_pixels), FIFTHS).ravel() / bin_pixels
        assert bin_points(bin_pixels) == pytest.approx((points.mean(), points.var()))


def test_slopes_are_derivatives():
    corner = jnp.zeros(2, jnp.int32)
    for spot in ([8.13, 7.77, 97, 1.9, 0.1], [3.4, 10.2, 55, 2.3, -0.3]):
        spot = jnp.asarray(spot, jnp.float32)
        expected = jax.jacfwd(lambda spot: spot_values(spot, corner, 16, 4))(spot)
        _, slopes = module._spots_and_slopes(spot, corner, 16, 4)
        scale = np.abs(expected).max(axis=0)
        # the change of the end with s is rounded
        np.testing.assert_allclose(np.stack(slopes, axis=1) / scale, expected / scale, atol=5e-3)


def fit_drawn(places, shapes, start, iterations=15):
    """Fits spots drawn on frames of 64 pixels; places of all, ``[F, K, 2]``, in pixels."""
    frames = [frame_of(where, shape, 64, 512) for where, shape in zip(places, shapes, strict=True)]
    first = np.concatenate(
        [start / 4, np.broadcast_to(PRIOR.mean, (*start.shape[:2], 3))], axis=2
    ).astype(np.float32)
    mask = jnp.ones(start.shape[:2], bool)
    patches = patches_of(frames)
    return patches, fit_spots(patches, jnp.asarray(first), mask, PRIOR, jnp.int32(iterations), 4)


def test_single_spots_are_found_to_a_hundredth_of_a_pixel():
    rng = np.random.default_rng(0)
    places = 32 + rng.uniform(-2, 2, (32, 1, 2))
    shapes = [draw_shapes(rng, 1) for _ in range(32)]
    _, (spots, *_) = fit_drawn(places, shapes, places + rng.normal(0, 1, places.shape))
    error = 4 * np.asarray(spots)[..., :2] - places
    assert np.abs(error).max() < 0.02
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.003
    np.testing.assert_allclose(
        np.asarray(spots)[:, 0, 4], np.concatenate([s[2] for s in shapes]), atol=0.02
    )


@pytest.mark.parametrize(("distance", "largest"), [(10, 0.1), (4, 0.5)])
def test_pairs_are_told_apart(distance, largest):
    rng = np.random.default_rng(distance)
    angle = rng.uniform(0, np.pi, 24)
    half = distance / 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    places = 32 + np.stack([half, -half], axis=1)
    shapes = [draw_shapes(rng, 2) for _ in angle]
    start = places + rng.normal(0, 0.7, places.shape)
    patches, (spots, chi_square, penalty, _) = fit_drawn(places, shapes, start)
    error = np.hypot(*(4 * np.asarray(spots)[..., :2] - places).transpose(2, 0, 1))
    assert np.median(error) < largest / 2
    assert np.quantile(error, 0.9) < 2 * largest
    truth = np.array([
        [
            broadened(place / 4, a, s * 512, rho, 4)
            for place, a, s, rho in zip(where, *shape, strict=True)
        ]
        for where, shape in zip(places, shapes, strict=True)
    ])  # fmt: skip
    mask = jnp.ones(truth.shape[:2], bool)
    _, least, prior, _ = fit_spots(patches, jnp.asarray(truth), mask, PRIOR, jnp.int32(0), 4)
    assert np.mean(np.asarray(chi_square + penalty) <= np.asarray(least + prior) + 1) > 0.9


def test_white_pixels_are_a_lower_bound():
    rng = np.random.default_rng(1)
    places = np.array([[30, 30], [33.5, 31], [31, 34.5], [34.5, 35]]) + np.zeros((8, 1, 1))
    shapes = [draw_shapes(rng, 4) for _ in range(8)]
    start = places + rng.normal(0, 0.5, places.shape)
    patches, (spots, *_) = fit_drawn(places, shapes, start, 40)
    assert np.asarray(patches.saturated).sum() > 8 * 5
    error = np.hypot(*(4 * np.asarray(spots)[..., :2] - places).transpose(2, 0, 1))
    assert np.median(error) < 0.7
    # the heights are those of the spots, not those of the clipped picture
    np.testing.assert_allclose(
        np.asarray(spots)[..., 2].sum(axis=1), 0.978 * np.array([s[0].sum() for s in shapes]),
        rtol=0.05,
    )  # fmt: skip


def test_unused_entries_change_nothing():
    rng = np.random.default_rng(2)
    places = np.array([[[30.0, 33.0]]])
    shapes = [draw_shapes(rng, 1)]
    patches, (alone, *_) = fit_drawn(places, shapes, places + 1)
    start = np.concatenate([places + 1, [[[20.0, 20.0]]]], axis=1) / 4
    shape = np.broadcast_to(PRIOR.mean, (1, 2, 3))
    start = np.concatenate([start, shape], axis=2).astype(np.float32)
    mask = jnp.array([[True, False]])
    both, *_ = fit_spots(patches, jnp.asarray(start), mask, PRIOR, jnp.int32(15), 4)
    np.testing.assert_allclose(both[:, 0], alone[:, 0], rtol=1e-4)
    np.testing.assert_array_equal(both[:, 1], start[:, 1])
