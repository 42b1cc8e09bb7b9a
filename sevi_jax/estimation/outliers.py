"""Single pixels that hold what no electron brought: hot and dead ones; knows no model."""

import dataclasses

import numpy as np
import scipy.ndimage
import scipy.special

_CHANCE = 1e-3  # that any pixel of a good picture is called hot or dead
_APART = 2.0  # a hot pixel holds so many times what the second brightest neighbour does
_WINDOW = 7  # pixels a side, of the surroundings
_SPARE = 3.0  # electrons that the surroundings could have had more by chance
_TILES = 64
_PAIRS = 16  # in a tile, at least


@dataclasses.dataclass(frozen=True)
class Outliers:
    """Pixels that differ from their neighbours beyond doubt.

    Attributes:
        hot: ``[N, 2]`` row and column.
        dead: ``[N, 2]``.
        largest: value of the brightest hot one, electrons; 0 where there is none.
    """

    hot: np.ndarray
    dead: np.ndarray
    largest: float


def find_outliers(counts: np.ndarray, used: np.ndarray, mean: np.ndarray) -> Outliers:
    """Finds hot and dead pixels.

    A ring runs through a pixel and two of its eight neighbours at least, so a pixel that is far
    above the second brightest of them is no part of a ring, however narrow.

    Args:
        counts: electrons, ``[H, W]``.
        used: pixels that are looked at, ``[H, W]``.
        mean: by a model that may be wrong, ``[H, W]``.
    """
    values = np.where(used, counts, 0.0)
    unit = max(pair_scatter(values, used), 1.0)
    around = np.ones((3, 3), bool)
    around[1, 1] = False
    second = scipy.ndimage.rank_filter(values, -2, footprint=around, mode="constant")
    window = np.ones((_WINDOW, _WINDOW))
    window[_WINDOW // 2, _WINDOW // 2] = 0.0
    total = scipy.ndimage.convolve(values, window, mode="constant")
    number = scipy.ndimage.convolve(used.astype(float), window, mode="constant")
    level = (total + _SPARE * unit) / np.maximum(number, 1.0)
    expected = np.maximum(np.maximum(second, level), np.where(used, mean, 0.0))
    limit = _CHANCE / max(int(used.sum()), 1)
    above = used & (values > _APART * second) & (values > expected)
    least = np.ceil(values / unit)
    chance = np.where(
        least > 0, scipy.special.pdtrc(np.maximum(least, 1) - 1, expected / unit), 1.0
    )
    hot = above & (chance < limit)
    # dead: far below the second darkest neighbour; those that are not used count as bright
    filled = np.where(used, counts, np.inf)
    darkest = scipy.ndimage.rank_filter(filled, 1, footprint=around, mode="nearest")
    known = used & np.isfinite(darkest)
    darkest = np.where(known, darkest, 0.0)
    below = known & (values < darkest / _APART)
    chance = scipy.special.pdtr(np.floor(values / unit), darkest / unit)
    dead = below & (chance < limit)
    largest = float(values[hot].max()) if hot.any() else 0.0
    return Outliers(np.argwhere(hot), np.argwhere(dead), largest)


def pair_scatter(counts: np.ndarray, used: np.ndarray) -> float:
    """Variance over mean of single pixels, from pairs of neighbours; robust against bad pixels.

    Given its sum, a pair (a, b) of Poisson counts of one mean has E (a - b)^2 / (a + b) = 1,
    however small the sum; where every electron counts as g it is g.
    """
    width = counts.shape[1] // 2 * 2
    a, b = counts[:, 0:width:2], counts[:, 1:width:2]
    total = a + b
    good = used[:, 0:width:2] & used[:, 1:width:2] & (total > 0)
    values = (a - b)[good] ** 2 / total[good]
    if not len(values):
        return 1.0
    tiles = np.array_split(values, int(np.clip(len(values) // _PAIRS, 1, _TILES)))
    return float(np.median([tile.mean() for tile in tiles]))
