import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sevi_jax.synthesis import frames

MODEL = frames.SpotModel()


def reference_sum(positions, mask, amplitude, width, correlation, size, limit=math.inf):
    """The spot model written again from its definition: float64, one pixel at a time."""
    picture = np.zeros((size, size))
    fifths = np.arange(5) / 5
    for (x, z), use, a, s, rho in zip(
        *(np.asarray(v, v.dtype if v.dtype == bool else np.float64) for v in (positions, mask)),
        *(np.asarray(v, np.float64) for v in (amplitude, width, correlation)),
        strict=True,
    ):
        if not use or a <= 1:
            continue
        half = min(s * math.sqrt(2 * math.log(a)), limit)
        # Pixel i covers i..i+1 where the detector's left edge -1 is 0 and its right edge is `size`.
        low_x, high_x = ((x - half + 1) * size / 2, (x + half + 1) * size / 2)
        low_z, high_z = ((z - half + 1) * size / 2, (z + half + 1) * size / 2)
        for i in range(size):
            if i + 1 <= low_x or i >= high_x:
                continue
            for j in range(size):
                if j + 1 <= low_z or j >= high_z:
                    continue
                dx = ((i + fifths) * 2 / size - 1 - x)[:, None]
                dz = ((j + fifths) * 2 / size - 1 - z)[None, :]
                spot = a * np.exp(-(dx**2 + dz**2 + 2 * rho * dx * dz) / (2 * s**2))
                picture[i, j] += spot.mean()
    return picture


def finish(picture):
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def assert_same_frame(computed, expected):
    """Equal but for rounding ties: one count on fewer than 0.5 % of the pixels."""
    assert computed.dtype == np.uint8
    difference = np.abs(np.asarray(computed, int) - np.asarray(expected, int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.005


def some_spots(n, seed=0, low=-1.1, high=1.1):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(low, high, (n, 2)).astype(np.float32)
    amplitude = rng.normal(100, 10, n).astype(np.float32)
    width = rng.normal(0.015, 0.001, n).astype(np.float32)
    # Wider than the model's, so that the sign of rho and the two axes count.
    correlation = rng.uniform(-0.8, 0.8, n).astype(np.float32)
    return positions, np.ones(n, bool), amplitude, width, correlation


def one_spot(x, z, amplitude=100.0, width=0.015, correlation=0.0):
    """Arrays of a single spot."""
    return (
        np.array([[x, z]], np.float32),
        np.array([True]),
        np.array([amplitude], np.float32),
        np.array([width], np.float32),
        np.array([correlation], np.float32),
    )


@pytest.mark.parametrize("size", [64, 257])
def test_frame_is_the_spot_model(size):
    positions, mask, *shape = some_spots(60)
    positions[:3] = [[0.999, 0.2], [-1, -1], [-0.3, 1.001]]
    positions[3:6] = positions[6:9] + 0.01  # overlapping
    mask[10:15] = False
    frame = frames.render_frame(positions, mask, *shape, size=size)
    chex.assert_shape(frame, (size, size))
    assert_same_frame(frame, finish(reference_sum(positions, mask, *shape, size)))


@pytest.mark.parametrize("place", [-1.0, 1.0])
@pytest.mark.parametrize("axis", [0, 1])
def test_spot_at_the_edge_is_cut_and_not_wrapped(place, axis):
    size = 200
    at = [0.1, 0.1]
    at[axis] = place
    spot = one_spot(*at)
    frame = np.asarray(frames.render_frame(*spot, size=size))
    assert_same_frame(frame, finish(reference_sum(*spot, size)))
    along = np.moveaxis(frame, axis, 0)
    far, near = (along[size // 2 :], along[:5]) if place < 0 else (along[: size // 2], along[-5:])
    assert far.max() == 0
    assert near.max() > 80


@pytest.mark.parametrize("place", [-1.2, 1.2, 1e9, -1e9, np.inf, np.nan])
def test_spot_outside_gives_nothing(place):
    for at in ((place, 0.0), (0.0, place)):
        assert np.asarray(frames.render_frame(*one_spot(*at), size=64)).max() == 0


def test_empty_frame_is_dark_whatever_the_masked_entries_hold():
    positions = np.full((4, 2), np.nan, np.float32)
    _, _, *shape = some_spots(4)
    frame = frames.render_frame(positions, np.zeros(4, bool), *shape, size=64)
    np.testing.assert_array_equal(frame, np.zeros((64, 64), np.uint8))


@pytest.mark.parametrize("amplitude", [0.0, 0.5, 1.0])
def test_spot_not_brighter_than_one_gives_nothing(amplitude):
    # A hundred of them would add up to more than half a grey level.
    spots = [np.repeat(v, 100, axis=0) for v in one_spot(0.1, 0.1, amplitude)]
    assert np.asarray(frames.render_frame(*spots, size=64)).max() == 0


def test_bright_frame_is_clipped_at_255():
    spots = [np.repeat(v, 4, axis=0) for v in one_spot(0.1, -0.2)]
    expected = reference_sum(*spots, 200)
    assert expected.max() > 300
    frame = frames.render_frame(*spots, size=200)
    assert_same_frame(frame, finish(expected))
    assert np.asarray(frame).max() == 255


def test_spots_add_up_before_rounding():
    arrays = some_spots(12, low=-0.05, high=0.05)
    size = 128
    together = np.asarray(frames._sum_of_spots(*arrays, size, MODEL))
    single = [
        np.asarray(frames._sum_of_spots(*(v[i : i + 1] for v in arrays), size, MODEL))
        for i in range(12)
    ]
    assert max(s.max() for s in single) < together.max()
    np.testing.assert_allclose(together, np.sum(single, axis=0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(together, reference_sum(*arrays, size), rtol=1e-3, atol=0.01)


def test_spot_beyond_the_patch_is_cut_at_the_largest_half_width():
    spot = one_spot(0.13, -0.21, amplitude=200.0, width=0.05)
    limit = MODEL.largest_half_width
    assert limit < 0.05 * math.sqrt(2 * math.log(200))
    frame = frames.render_frame(*spot, size=200)
    assert_same_frame(frame, finish(reference_sum(*spot, 200, limit)))


def test_model_sets_the_patch():
    spot = one_spot(0.13, -0.21, amplitude=200.0, width=0.05)
    model = dataclasses.replace(MODEL, amplitude_mean=200.0, width_mean=0.05)
    frame = frames.render_frame(*spot, size=200, model=model)
    assert_same_frame(frame, finish(reference_sum(*spot, 200)))


def test_vmap_draws_the_same_frames():
    batch = [some_spots(9, seed) for seed in range(3)]
    stacked = [jnp.asarray(np.stack(v)) for v in zip(*batch, strict=True)]
    together = jax.vmap(lambda *v: frames.render_frame(*v, size=64))(*stacked)
    for i, arrays in enumerate(batch):
        assert_same_frame(together[i], frames.render_frame(*arrays, size=64))


def test_drawn_spots_follow_the_model():
    n = 20_000
    drawn = frames.draw_spots(jax.random.key(3), n)
    for values, mean, sd in zip(drawn, (100.0, 0.015, 0.0), (10.0, 0.001, 0.1), strict=True):
        chex.assert_shape(values, (n,))
        assert values.dtype == jnp.float32
        # Three such tests: false-alarm rate 3e-4 over all seeds; the seed is fixed.
        law = scipy.stats.norm(mean, sd)
        assert scipy.stats.kstest(np.asarray(values, float), law.cdf).pvalue > 1e-4
    # Parameters of one spot are independent: 5 sd of a correlation coefficient of n pairs.
    coefficients = np.corrcoef(np.stack([np.asarray(values) for values in drawn]))[
        np.triu_indices(3, 1)
    ]
    assert np.abs(coefficients).max() < 5 / math.sqrt(n)


def test_drawn_spots_keep_their_bounds():
    model = frames.SpotModel(1.0, 5.0, 0.001, 0.01, 3.0)
    amplitude, width, correlation = frames.draw_spots(jax.random.key(0), 1000, model)
    assert amplitude.min() == 0
    assert width.min() == 0
    assert correlation.min() == -1
    assert correlation.max() == 1
    positions = np.zeros((1000, 2), np.float32)
    mask = np.ones(1000, bool)
    frame = frames._sum_of_spots(positions, mask, amplitude, width, correlation, 32, model)
    assert np.isfinite(np.asarray(frame)).all()
