"""Camera frames to electron positions: candidates, search; knows no files and no shells."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from sevi_jax.detection.camera import MARGIN, BinnedFrames, bin_frames, sharpen, sharpening
from sevi_jax.detection.grouping import near_pairs
from sevi_jax.detection.search import REACH, Round, Search
from sevi_jax.detection.spots import AMPLITUDE, SpotPrior, bin_points
from sevi_jax.synthesis.frames import SpotModel

BIN_WIDTHS = 1.92  # bins in a spot's s, about
SHARPENED = 0.55  # of the spot's s
CANDIDATE = 0.3  # of a mean spot's sharpened peak
ORIGINAL = SpotModel()  # where nothing else is known
FEWEST = 40  # spots from which the model is estimated
LONE_RESIDUAL = 2.0  # chi-square per bin of a spot from which the model is estimated
LOOSE = Round(noise=1.0, tightness=3.0, iterations=12, trials=None)
ELECTRON = 0.5  # mean amplitudes of the faintest electron
# Squares that are white throughout: twenty electrons on top of each other fill less.
WHITE_SQUARE, GLARE = 5.0, 6.0  # s: its side, and how far around it light is not from electrons


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Electrons found on a batch of frames, in the order of the frames.

    Attributes:
        frame: number of each one's frame in the batch, ``[N]`` int32.
        positions: x and z, ``[N, 2]`` float64, half-widths of the detector.
        amplitude: peak height of its spot, ``[N]`` float64, grey levels.
        residual: chi-square per bin of the fit around it, ``[N]`` float64: 1 where the model holds.
        glaring: frames with a white area larger than electrons make; it was left out.
    """

    frame: np.ndarray
    positions: np.ndarray
    amplitude: np.ndarray
    residual: np.ndarray
    glaring: int = 0


class Detector:
    """Finds the electrons on frames of one size.

    Args:
        size: pixels along each side of the frames.
        model: distribution of the spots' shapes.
        batch: fewer frames are filled up to this number, so that one size is compiled.
    """

    def __init__(self, size: int, model: SpotModel = ORIGINAL, batch: int = 1):
        width = model.width_mean * size / 2
        self.size, self.model, self._batch = size, model, batch
        self.bin_pixels = max(1, round(width / BIN_WIDTHS))
        self._prior = _broadened(model, size, self.bin_pixels)
        mean = np.asarray(self._prior.mean)
        self._kernel = jnp.asarray(sharpening(mean[1], SHARPENED * mean[1]))
        self._threshold = CANDIDATE * mean[0] / SHARPENED**2

    def detect(self, frames: np.ndarray) -> Detections:
        """Finds the electrons of a batch of frames; what hit beside the detector is left out.

        Args:
            frames: ``[F, size, size]`` uint8, first axis x, second z.
        """
        binned, glare = self._binned(frames)
        glaring = int(glare.any(axis=(1, 2)).sum())
        frame, places = self._candidates(binned, glare)
        if not len(frame):
            none = np.zeros(0)
            return Detections(none.astype(np.int32), none.reshape(0, 2), none, none, glaring)
        spots = Search(binned, frame, places, self._prior, self.bin_pixels).run()
        mean = np.asarray(self._prior.mean)
        positions = (spots.params[:, :2].astype(float) - MARGIN) * self.bin_pixels * 2 / self.size
        is_electron = spots.params[:, AMPLITUDE] > ELECTRON * mean[0]
        is_electron &= ((positions >= 0) & (positions < 2)).all(axis=1)
        bins = np.clip(spots.params[:, :2].astype(int), 0, glare.shape[1] - 1)
        is_electron &= ~glare[spots.frame, bins[:, 0], bins[:, 1]]
        spots = spots.take(is_electron)
        return Detections(
            spots.frame,
            positions[is_electron] - 1,
            spots.params[:, AMPLITUDE] * self.model.amplitude_mean / mean[0],
            spots.noise,
            glaring,
        )

    def lone_shapes(self, frames: np.ndarray) -> np.ndarray:
        """Amplitude (grey levels), s (half-widths) and rho of the spots that stand alone.

        The priors are held loosely. A spot that fits badly, or is no electron, is left out.

        Returns:
            ``[n, 3]`` float64.
        """
        binned, glare = self._binned(frames)
        frame, places = self._candidates(binned, glare)
        search = Search(binned, frame, places, self._prior, self.bin_pixels)
        search.refine(LOOSE)
        pairs = near_pairs(frame, places, REACH)
        alone = np.ones(len(frame), bool)
        alone[pairs.first] = alone[pairs.second] = False
        spots = search.spots.take(alone & (search.spots.noise < LONE_RESIDUAL))
        _, variance = bin_points(self.bin_pixels)
        amplitude, width, correlation = spots.params[:, AMPLITUDE:].astype(float).T
        squared = np.maximum(width**2 - variance, 0.1 * width**2)
        scale = 2 * self.bin_pixels / self.size
        return np.stack(
            [amplitude * width**2 / squared, np.sqrt(squared) * scale, correlation], axis=1
        )

    def _binned(self, frames: np.ndarray) -> tuple[BinnedFrames, np.ndarray]:
        """The binned frames, without weight where a white area glares, and where, ``[F, h, h]``."""
        missing = max(0, self._batch - len(frames))
        frames = np.pad(frames, ((0, missing), (0, 0), (0, 0))) if missing else frames
        binned = bin_frames(frames, self.bin_pixels)
        white = np.asarray(binned.saturated)
        side = math.ceil(WHITE_SQUARE * self._prior.mean[1])
        reach = side + 2 * math.ceil(GLARE * self._prior.mean[1])
        glare = np.zeros_like(white)
        for i in np.flatnonzero(white.sum(axis=(1, 2)) >= side**2):
            filled = ndimage.minimum_filter(white[i], side, mode="constant")
            glare[i] = ndimage.maximum_filter(filled, reach, mode="constant")
        if glare.any():
            binned = binned._replace(weight=jnp.where(glare, 0.0, binned.weight))
        return binned, glare

    def _candidates(self, binned: BinnedFrames, glare: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maxima of the sharpened frames: frame, and place in bins to a fraction of one."""
        grey = np.asarray(sharpen(binned.grey, self._kernel))
        frame, i, j = np.nonzero(grey[:, 1:-1, 1:-1] > self._threshold)
        i, j = i + 1, j + 1
        seen = ~glare[frame, i, j]
        frame, i, j = frame[seen], i[seen], j[seen]
        value = grey[frame, i, j]
        is_peak = np.ones(len(value), bool)
        for step in ((-1, -1), (-1, 0), (-1, 1), (0, -1)):  # ties: the last of them
            is_peak &= value >= grey[frame, i + step[0], j + step[1]]
            is_peak &= value > grey[frame, i - step[0], j - step[1]]
        frame, i, j, value = frame[is_peak], i[is_peak], j[is_peak], value[is_peak]

        def vertex(before, after):
            return np.clip((after - before) / 2 / (2 * value - before - after), -0.5, 0.5)

        middle, _ = bin_points(self.bin_pixels)
        x = i + middle + vertex(grey[frame, i - 1, j], grey[frame, i + 1, j])
        z = j + middle + vertex(grey[frame, i, j - 1], grey[frame, i, j + 1])
        return frame, np.stack([x, z], axis=1)


def estimate_model(frames: np.ndarray, model: SpotModel = ORIGINAL) -> SpotModel:
    """Estimates the distribution of the spots' shapes from those that stand alone.

    Args:
        frames: ``[F, size, size]`` uint8.
        model: where to start; s may be wrong by a third.

    Returns:
        Means and standard deviations, as medians and scaled median deviations; `model` itself where
        fewer than `FEWEST` spots stand alone.
    """
    for _ in range(2):  # bins and filter follow the first estimate
        shapes = Detector(frames.shape[1], model).lone_shapes(frames)
        if len(shapes) < FEWEST:
            break
        middle = np.median(shapes, axis=0)
        spread = 1.4826 * np.median(np.abs(shapes - middle), axis=0)
        model = SpotModel(*map(float, (middle[0], spread[0], middle[1], spread[1], spread[2])))
    return model


def _broadened(model: SpotModel, size: int, bin_pixels: int) -> SpotPrior:
    """The model for bins: amplitude and s as they look after averaging over a bin."""
    _, variance = bin_points(bin_pixels)
    scale = size / 2 / bin_pixels
    width = model.width_mean * scale
    wide = math.sqrt(width**2 + variance)
    lowered = (width / wide) ** 2
    mean = [model.amplitude_mean * lowered, wide, 0.0]
    sd = [model.amplitude_sd * lowered, model.width_sd * scale * width / wide, model.correlation_sd]
    return SpotPrior(np.array(mean, np.float32), np.array(sd, np.float32))
