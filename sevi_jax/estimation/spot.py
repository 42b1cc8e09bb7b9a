"""A bright spot in the centre of a picture, of whatever made it; knows no model."""

import dataclasses

import numpy as np

_FLAT = 1.5  # the spot ends where brightness is that near to the least of what follows
_BRIGHT = 5.0  # times what surrounds it
_FEWEST = 100.0  # electrons
_LARGEST = 0.3  # of the distance to the farthest pixel


@dataclasses.dataclass(frozen=True)
class Spot:
    """A bright spot.

    Attributes:
        radius: pixels; all of it is closer to the centre.
        electrons: above what surrounds it.
        error: standard error of them.
    """

    radius: float
    electrons: float
    error: float


def find_spot(counts: np.ndarray, exposure: np.ndarray, origin: tuple[float, float]) -> Spot | None:
    """Finds a spot about the origin, far brighter than what surrounds it; None if there is none.

    Args:
        counts: electrons, ``[H, W]``.
        exposure: ``[H, W]``, 0 where a pixel is not used.
        origin: (row, column), pixels from the corner.
    """
    row = np.arange(counts.shape[0])[:, None] + 0.5 - origin[0]
    column = np.arange(counts.shape[1])[None] + 0.5 - origin[1]
    used = exposure > 0
    ring = np.hypot(row, column)[used].astype(int)
    number, pixels = (np.bincount(ring, values[used]) for values in (counts, exposure))
    far = len(number)
    density = np.where(pixels > 0, number / np.maximum(pixels, 1e-9), np.nan)
    if far < 10 or not np.isfinite(density[:3]).any():
        return None
    top = float(np.nanmax(density[:3]))
    for radius in range(2, int(_LARGEST * far)):
        following = density[radius : 2 * radius + 10]
        if not np.isfinite(following).any() or not np.isfinite(density[radius]):
            return None
        level = max(float(np.nanmin(following)), 0.0)
        if density[radius] <= _FLAT * level + 1 / max(pixels[radius], 1.0):
            break
    else:
        return None
    area = float(pixels[:radius].sum())
    electrons = float(number[:radius].sum()) - level * area
    if electrons < _FEWEST or top < _BRIGHT * level:
        return None
    return Spot(float(radius), electrons, float(np.sqrt(number[:radius].sum() + level * area)))
