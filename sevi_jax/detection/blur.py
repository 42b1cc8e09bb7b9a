"""How far found electrons are off, measured on frames drawn with the same density and spots."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.detection.detector import Detections, Detector
from sevi_jax.detection.grouping import one_to_one
from sevi_jax.prng import root_key, stream_key
from sevi_jax.synthesis.frames import SpotModel, draw_spots, render_frame


def position_blur(detector: Detector, found: Detections, frames: int) -> float:
    """Measures the standard deviation of the errors of found positions, along each axis.

    Frames are drawn anew with electrons where some were found, so as close to each other as in the
    measurement, with spots of the detector's model; the electrons found on these are compared with
    where they were drawn. Pairs are one to one, nearest first, up to the width s of a spot: beyond,
    an electron is not found at the wrong place but not found.

    Args:
        detector: that found them.
        found: electrons of a batch of frames.
        frames: in that batch.

    Returns:
        Half-widths of the detector; 0 where there are no electrons.
    """
    places = [found.positions[found.frame == frame] for frame in range(frames)]
    most = max((len(x) for x in places), default=0)
    if not most:
        return 0.0
    room = -(-most // 64) * 64
    positions = np.zeros((frames, room, 2), np.float32)
    for row, part in zip(positions, places, strict=True):
        row[: len(part)] = part
    mask = np.arange(room) < np.array([len(x) for x in places])[:, None]
    drawn = [
        _draw(stream_key(root_key(0), "position blur", i), p, m, detector.size, detector.model)
        for i, (p, m) in enumerate(zip(positions, mask, strict=True))
    ]
    again = detector.detect(np.stack(drawn))
    off = [
        _paired(part, again.positions[again.frame == frame], detector.model.width_mean)
        for frame, part in enumerate(places)
    ]
    off = np.concatenate(off)
    return float(np.sqrt(np.mean(off**2))) if len(off) else 0.0


@functools.partial(jax.jit, static_argnames=("size", "model"))
def _draw(key, positions, mask, size: int, model: SpotModel):
    shapes = draw_spots(key, len(positions), model)
    return render_frame(positions, jnp.asarray(mask), *shapes, size=size, model=model)


def _paired(true: np.ndarray, found: np.ndarray, reach: float) -> np.ndarray:
    """Differences ``[n, 2]`` of pairs, one to one, nearest first, up to `reach` apart."""
    difference = found[None] - true[:, None]
    pairs = one_to_one(np.hypot(difference[..., 0], difference[..., 1]), reach)
    return difference[pairs[:, 0], pairs[:, 1]]
