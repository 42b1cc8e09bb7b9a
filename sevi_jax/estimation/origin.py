"""A first guess of the origin: the point that a picture is most symmetric about."""

import numpy as np
from scipy.fft import next_fast_len

_BRIGHTEST = 99.9  # per cent of the pixels; brighter ones count as these do


def find_origin(counts: np.ndarray, exposure: np.ndarray) -> tuple[float, float]:
    """Finds the point that a picture is most symmetric about, to a fraction of a pixel.

    The correlation of the picture with itself turned by 180 degrees, of square roots (which even
    out Poisson noise) less their median, over the energy of the pixels that have a partner; half of
    the whole energy is added to that, because a few pixels may be symmetric by chance.

    Args:
        counts: ``[H, W]``, 0 or more.
        exposure: ``[H, W]``, 0 where a pixel is not used.

    Returns:
        (row, column) in pixels from the corner.
    """
    used = exposure > 0
    root = np.sqrt(np.maximum(np.where(used, counts / np.where(used, exposure, 1.0), 0.0), 0.0))
    root = np.minimum(root, np.percentile(root[used], _BRIGHTEST))
    root = np.where(used, root - np.median(root[used]), 0.0)
    shape = [int(next_fast_len(2 * pixels) or 0) for pixels in counts.shape]
    of_root = np.fft.rfft2(root, shape)
    correlation = np.fft.irfft2(of_root**2, shape)
    total = float(np.sum(root * root))
    if not total > 0:
        return counts.shape[0] / 2, counts.shape[1] / 2
    if not used.all():
        of_square = np.fft.rfft2(root * root, shape) * np.fft.rfft2(used * 1.0, shape)
        energy = np.fft.irfft2(of_square, shape)
        correlation = correlation / (np.maximum(energy, 0.0) + 0.5 * total)
    peak = np.unravel_index(np.argmax(correlation), correlation.shape)
    place = []
    for axis in range(2):
        index = list(peak)
        values = []
        for step in (-1, 0, 1):
            index[axis] = (peak[axis] + step) % shape[axis]
            values.append(correlation[tuple(index)])
        left, top, right = values
        curvature = left - 2 * top + right
        shift = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
        # mirrored pixels i and k with i + k = p: 2 * origin = (i + 1/2) + (k + 1/2)
        place.append(float((peak[axis] + shift + 1) / 2))
    return place[0], place[1]
