import functools

import numpy as np
import pytest
from camera_model import draw_shapes, frame_of, match

from sevi_jax.detection.detector import Detector, estimate_model
from sevi_jax.synthesis.frames import SpotModel

SIZE, SCALE = 192, 512  # a piece of a camera of 1024 pixels
# Lengths are in half-widths of the frame, and this frame is a piece of the camera.
MODEL = SpotModel(width_mean=0.015 * SCALE * 2 / SIZE, width_sd=0.001 * SCALE * 2 / SIZE)
FRAMES = 4


@functools.cache
def detector():
    """One for all tests: it compiles once."""
    return Detector(SIZE, MODEL, FRAMES)


def detect(frames):
    """Places in pixels of each frame, and the detections."""
    found = detector().detect(np.stack(frames))
    places = (found.positions + 1) * SIZE / 2
    return [places[found.frame == i] for i in range(len(frames))], found


def on_a_grid(rng, step=48):
    """Places that are far from each other."""
    grid = np.stack(np.meshgrid(*[np.arange(step / 2, SIZE, step)] * 2), axis=-1).reshape(-1, 2)
    return grid + rng.uniform(-1, 1, grid.shape)


def test_lone_spots_are_found_without_bias():
    rng = np.random.default_rng(0)
    places = [on_a_grid(rng) for _ in range(FRAMES)]
    shapes = [draw_shapes(rng, len(where)) for where in places]
    frames = [frame_of(*pair, SIZE, SCALE) for pair in zip(places, shapes, strict=True)]
    found, detections = detect(frames)
    errors = []
    for where, true in zip(found, places, strict=True):
        pairs = match(where, true, 2.0)
        assert len(pairs) == len(true) == len(where)
        errors.append(where[pairs[:, 0]] - true[pairs[:, 1]])
    errors = np.concatenate(errors)
    assert np.abs(errors).max() < 0.05
    # that a spot looks 0.1 pixel further towards + must not show
    assert np.abs(errors.mean(axis=0)).max() < 0.005
    assert detections.amplitude.mean() == pytest.approx(
        np.concatenate([s[0] for s in shapes]).mean(), abs=1.0
    )
    assert np.quantile(detections.residual, 0.9) < 1.2


def test_crowds_are_told_apart():
    """As at the poles of two shells: a quarter of the spots have another within 10 pixels."""
    rng = np.random.default_rng(1)
    counts = np.zeros(3, int)
    errors = []
    for _ in range(2):
        places = [rng.uniform([20, 50], [172, 142], (16, 2)) for _ in range(FRAMES)]
        shapes = [draw_shapes(rng, len(where)) for where in places]
        frames = [frame_of(*pair, SIZE, SCALE) for pair in zip(places, shapes, strict=True)]
        for where, true in zip(detect(frames)[0], places, strict=True):
            pairs = match(where, true, 2.0)
            counts += [len(pairs), len(true), len(where)]
            errors.append(np.hypot(*(where[pairs[:, 0]] - true[pairs[:, 1]]).T))
    assert counts[0] >= 0.95 * counts[1]
    assert counts[0] >= 0.95 * counts[2]
    assert np.median(np.concatenate(errors)) < 0.2


@pytest.mark.parametrize("distance", [10.0, 6.0, 3.0])
def test_close_pairs_are_two(distance):
    rng = np.random.default_rng(int(distance))
    places = []
    for _ in range(FRAMES):
        middle = on_a_grid(rng, 64)
        angle = rng.uniform(0, np.pi, len(middle))
        half = distance / 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        places.append(np.concatenate([middle + half, middle - half]))
    shapes = [draw_shapes(rng, len(where)) for where in places]
    frames = [frame_of(*pair, SIZE, SCALE) for pair in zip(places, shapes, strict=True)]
    errors = []
    for where, true in zip(detect(frames)[0], places, strict=True):
        assert len(where) == len(true)
        pairs = match(where, true, 4.0)
        errors.append(np.hypot(*(where[pairs[:, 0]] - true[pairs[:, 1]]).T))
    errors = np.concatenate(errors)
    assert len(errors) >= 0.97 * sum(map(len, places))
    assert np.median(errors) < 0.3


def test_dark_frames_have_no_electrons():
    dark = np.zeros((SIZE, SIZE), np.uint8)
    found, detections = detect([dark] * FRAMES)
    assert [len(where) for where in found] == [0] * FRAMES
    assert detections.positions.shape == (0, 2)
    spot = frame_of(np.array([[50.0, 60.0]]), draw_shapes(np.random.default_rng(0), 1), SIZE, SCALE)
    assert [len(where) for where in detect([dark, spot, dark])[0]] == [0, 1, 0]


def test_hot_pixels_are_no_electrons():
    rng = np.random.default_rng(2)
    places = on_a_grid(rng)
    frame = frame_of(places, draw_shapes(rng, len(places)), SIZE, SCALE)
    hot = frame.copy()
    hot[tuple(rng.integers(0, SIZE, (2, 40)))] = 255
    where = detect([hot])[0][0]
    pairs = match(where, places, 2.0)
    assert len(pairs) == len(places) == len(where)
    assert np.hypot(*(where[pairs[:, 0]] - places[pairs[:, 1]]).T).max() < 1.0


def test_white_area_is_left_out_and_the_rest_of_the_frame_alone():
    rng = np.random.default_rng(3)
    places = on_a_grid(rng)
    plain = frame_of(places, draw_shapes(rng, len(places)), SIZE, SCALE)
    frame = plain.copy()
    frame[60:110, 60:110] = 255
    (where, everywhere), found = detect([frame, plain])
    assert found.glaring == 1
    far = np.abs(places - 85).max(axis=1) > 80
    pairs = match(where, places[far], 1.0)
    assert len(pairs) == len(where) == far.sum()
    assert len(match(everywhere, places, 1.0)) == len(places)


def test_white_knot_of_electrons_is_no_white_area():
    rng = np.random.default_rng(4)
    # all within one s of each other: white for 3 s along each axis
    places = [rng.normal(96, 3, (count, 2)) for count in (6, 12)]
    frames = [frame_of(where, draw_shapes(rng, len(where)), SIZE, SCALE) for where in places]
    assert min((frame == 255).sum() for frame in frames) > (2 * 0.015 * SCALE) ** 2
    found, detections = detect(frames)
    assert detections.glaring == 0
    assert min(map(len, found)) >= 4


def test_spots_on_the_edge_are_found():
    places = np.array([[0.5, 40], [191, 100], [60, 3], [130, 188.5], [1, 190]])
    frame = frame_of(places, draw_shapes(np.random.default_rng(4), 5), SIZE, SCALE)
    where = detect([frame])[0][0]
    pairs = match(where, places, 0.5)
    assert len(pairs) == len(places) == len(where)


def test_small_spots_need_no_bins():
    """A camera of 256 pixels: s is two pixels."""
    rng = np.random.default_rng(5)
    places = [rng.uniform(10, 182, (20, 2)) for _ in range(2)]
    shapes = [draw_shapes(rng, 20) for _ in places]
    frames = [frame_of(*pair, SIZE, 128) for pair in zip(places, shapes, strict=True)]
    scale = 128 * 2 / SIZE
    small = Detector(SIZE, SpotModel(width_mean=0.015 * scale, width_sd=0.001 * scale))
    assert small.bin_pixels == 1
    found = small.detect(np.stack(frames))
    for i, true in enumerate(places):
        where = (found.positions[found.frame == i] + 1) * SIZE / 2
        pairs = match(where, true, 0.5)
        assert len(pairs) >= 19
        assert np.median(np.hypot(*(where[pairs[:, 0]] - true[pairs[:, 1]]).T)) < 0.05


def test_model_is_estimated_from_spots_that_stand_alone():
    rng = np.random.default_rng(6)
    factor = 1.2  # wider and brighter than where the estimate starts
    places = [on_a_grid(rng, 64) for _ in range(20)]
    places[0] = np.concatenate([places[0], places[0] + 5])  # these do not count
    shapes = []
    for where in places:
        amplitude, width, rho = draw_shapes(rng, len(where), 0.015 * factor)
        shapes.append((1.3 * amplitude, width, rho))
    frames = [frame_of(*pair, SIZE, SCALE) for pair in zip(places, shapes, strict=True)]
    model = estimate_model(np.stack(frames), MODEL)
    assert model.amplitude_mean == pytest.approx(130, rel=0.03)  # 5 sd of 170 spots
    assert model.width_mean == pytest.approx(factor * MODEL.width_mean, rel=0.03)
    assert model.amplitude_sd == pytest.approx(13, rel=0.35)
    assert model.width_sd == pytest.approx(factor * MODEL.width_sd, rel=0.35)
    assert model.correlation_sd == pytest.approx(0.1, rel=0.35)


def test_too_few_spots_leave_the_model_as_it_is():
    frame = frame_of(np.array([[90.0, 90]]), draw_shapes(np.random.default_rng(7), 1), SIZE, SCALE)
    assert estimate_model(frame[None], MODEL) == MODEL
    assert estimate_model(np.zeros_like(frame)[None], MODEL) == MODEL
