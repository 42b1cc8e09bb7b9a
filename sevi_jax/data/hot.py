"""Single pixels that no picture of electrons has: hot ones, and dead ones; knows no file.

The test rests on one fact about pictures of electrons: what they show is blurred and summed over
pixels, so that the expected counts m of a pixel are at most a few times the mean a of its
neighbours. Two hypotheses are tested, and a hot pixel contradicts both:

- any place of a picture: m <= 3.3 a. The largest ratio of lines of any direction and 0.5 pixels
  (standard deviation) is 2.5, of spots of 0.8 pixels 2.6. All pixels are such places.
- the spot in the centre, of which few pixels are: m - b <= 7.5 (a - b) above the lowest background
  b around it, or m - c <= 18 (a - c) above the mean c around it. The largest ratio of spots of 0.5
  pixels is 7.1, of slow shells of 0.8 pixels without any blur, whose density ends in a peak, 17.

Given the sum of both, the counts of the pixel are binomial, which gives a p-value for each. A hot
pixel beside another hides it: both tests are also made without the brightest neighbour, with larger
ratios (4.5 for 2.9, 10 for 8.4 and 26 for 25).
"""

import dataclasses
import math

import numpy as np
from scipy.ndimage import uniform_filter
from scipy.special import betainc

from sevi_jax.data.picture import Picture

FALSE_ALARMS = 5e-5  # pictures of electrons in which a pixel is wrongly called hot, or dead
_SPOT_PIXELS = 10.0  # of a picture, at most, that lie on a spot so sharp
# (largest m / a anywhere, of a spot, of a peak, whether the brightest neighbour is left out)
_RATIOS = ((3.3, 7.5, 18.0, False), (4.5, 10.0, 26.0, True))
_HOLE = 0.5  # a pixel has no less than this share of the dimmest of its neighbours: 0.6
_DEVIATIONS = 7.0  # of normal noise
_LEAST = 10.0  # electrons of a hot pixel
_FEWEST_ALONE = 5  # isolated pixels that tell the value of one electron
_MANY_ALONE = 30  # of which hot pixels are only a few
_SHARE = 0.05  # of the pixels with counts, that have one electron at least
# Contrasts of four numbers, of norm 1, that a constant and a slope do not change.
_CURVED = np.array([0.5, -0.5, -0.5, 0.5])
_BENT = np.array([1, -3, 3, -1]) / math.sqrt(20)
_SLACK = 3.0  # standard errors by which means of few pixels may be off
_BLOCK = 8  # pixels a side in which the gain is estimated
_LOW = 0.25  # quantile of the blocks that is taken, for structure makes others too large
_ENOUGH = 200  # pixels that the noise of bright ones is told from
_STRIP = 1 << 21  # pixels that are looked at together
_PASSES = 3  # a hot pixel hides its neighbours until it is left out
_LISTED = 12

_NEIGHBOURS = [(i, k) for i in (-1, 0, 1) for k in (-1, 0, 1) if (i, k) != (0, 0)]
_MARGIN = 4


def _sides(near: int, far: int, half: int) -> list[list[tuple[int, int]]]:
    """Offsets of the four rectangles at a distance, above, below, left and right."""
    above = [(-i, k) for i in range(near, far + 1) for k in range(-half, half + 1)]
    return [above, [(-i, k) for i, k in above], [(k, i) for i, k in above],
            [(k, -i) for i, k in above]]  # fmt: skip


# Rectangles that tell the background, the lowest of which is taken, and standard errors off it.
_SIDES = ((_sides(2, 2, 2), 0.0), (_sides(2, 4, 4), 2.0))


@dataclasses.dataclass(frozen=True, eq=False)
class Defects:
    """Pixels that are no electrons.

    Attributes:
        hot: ``[H, W]`` bool.
        dead: ``[H, W]`` bool.
    """

    hot: np.ndarray
    dead: np.ndarray


def without_defects(picture: Picture) -> Picture:
    """The picture with its hot and dead pixels masked, also of its off picture; notes list them."""
    found = find_defects(picture.counts, picture.used, picture.gain, picture.noise == "normal")
    if picture.off is not None:
        of_off = find_defects(picture.off, picture.used, picture.gain)
        found = Defects(found.hot | of_off.hot, found.dead | of_off.dead)
    notes = list(picture.notes)
    for name, pixels in (("hot", found.hot), ("dead", found.dead)):
        places = np.argwhere(pixels)
        if len(places):
            said = ", ".join(f"({row}, {column})" for row, column in places[:_LISTED])
            more = ", ..." if len(places) > _LISTED else ""
            plural = "s are" if len(places) > 1 else " is"
            notes.append(f"{len(places)} {name} pixel{plural} left out: {said}{more}")
    if len(notes) == len(picture.notes):
        return picture
    mask = ~(found.hot | found.dead)
    mask = mask if picture.mask is None else mask & picture.mask
    return dataclasses.replace(picture, mask=mask, notes=tuple(notes))


def find_defects(
    counts: np.ndarray,
    used: np.ndarray | None = None,
    gain: float | None = None,
    normal: bool = False,
) -> Defects:
    """Finds single pixels that no picture of electrons has.

    In fewer than `FALSE_ALARMS` of good pictures a pixel is found. A hot pixel of h electrons is
    found in the dark from about h = 25 on, else where it passes 5 to 15 times its neighbours, the
    less the brighter these are.

    Args:
        counts: ``[H, W]``, values of a picture.
        used: ``[H, W]`` bool, pixels that are looked at; None are all that are not NaN.
        gain: value of one electron; None estimates it.
        normal: whether the values are a difference, whose noise is normal.
    """
    used = ~np.isnan(counts) if used is None else used & ~np.isnan(counts)
    hot, dead = np.zeros(counts.shape, bool), np.zeros(counts.shape, bool)
    scale = gain or estimate_gain(np.abs(counts) if normal else counts, used)
    if not scale > 0:
        return Defects(hot, dead)
    level = math.log(max(used.sum(), 1) / FALSE_ALARMS)  # a pixel's share, as -log of p
    for number in range(_PASSES):
        new = np.zeros(counts.shape, bool)
        for strip in _strips(counts, used & ~hot, scale):
            if normal:
                new[strip.rows] = _outliers(strip)
            else:
                new[strip.rows] = _hot(strip, level)
                dead[strip.rows] |= _dead(strip, level) if number == 0 else False
        hot |= new
        if not new.any():
            break
    return Defects(hot, dead)


def estimate_gain(counts: np.ndarray, used: np.ndarray) -> float:
    """About the value of one electron.

    The value of most pixels that are alone among dark ones, if it is one value; the lowest value
    where few are alone, and many pixels have it; else the variance over the mean in quiet small
    blocks, which is 1 or more for whole numbers. 0 without counts.
    """
    counts, used = _sample(counts), _sample(used)
    alone = _isolated(np.where(used, counts, 0.0))
    if len(alone) >= _FEWEST_ALONE:  # most of them, for hot pixels are alone, too
        one = float(np.quantile(alone, 0.25, method="lower"))
        if np.count_nonzero((alone > 0.7 * one) & (alone < 1.4 * one)) > len(alone) / 2:
            return one
    if len(alone) < _MANY_ALONE:
        some = counts[used & (counts > 0)]
        lowest = float(np.min(some, initial=np.inf))
        low = some[some < 2.5 * lowest] / lowest
        ones, twos = (np.count_nonzero(np.abs(low - n) < 1e-3) for n in (1, 2))
        if ones + twos == low.size and ones > max(twos, _SHARE * some.size):
            return lowest
    height, width = (n // _BLOCK * _BLOCK for n in counts.shape)
    if not height or not width:
        height, width, blocks = *counts.shape, (1, counts.size)
    else:
        blocks = (height // _BLOCK * (width // _BLOCK), _BLOCK**2)

    def cut(array: np.ndarray) -> np.ndarray:
        array = array[:height, :width]
        if blocks[0] > 1:
            array = array.reshape(height // _BLOCK, _BLOCK, -1, _BLOCK).swapaxes(1, 2)
        return array.reshape(blocks)

    values, weight = cut(np.where(used, counts, 0.0)), cut(used)
    number = weight.sum(axis=1)
    mean = values.sum(axis=1) / np.maximum(number, 1)
    variance = ((values - mean[:, None]) ** 2 * weight).sum(axis=1) / np.maximum(number - 1, 1)
    if blocks[0] > 1:  # straight slopes within a block are no scatter
        four = values.reshape(-1, _BLOCK**2 // 4, 4)
        curved = (((four @ _CURVED) ** 2 + (four @ _BENT) ** 2) / 2).mean(axis=1)
        dense = ((values > 0).sum(axis=1) > number / 2) & (number == blocks[1])
        variance = np.where(dense, np.minimum(variance, curved), variance)
    some = (mean > 0) & (number > blocks[1] // 2) & (variance > 0)
    if not some.any():
        return 0.0
    found = float(np.quantile(variance[some] / mean[some], _LOW))
    whole = bool((values == np.round(values)).all())
    return 1.0 if whole and found < 1.5 else found


def _sample(array: np.ndarray) -> np.ndarray:
    """Bands of rows across a picture that is too large to be looked at whole."""
    every = math.ceil(array.size / _STRIP)
    if every == 1 or len(array) < 2 * _BLOCK:
        return array
    bands = np.arange(0, len(array) - _BLOCK + 1, every * _BLOCK)
    return np.concatenate([array[band : band + _BLOCK] for band in bands])


def _isolated(counts: np.ndarray) -> np.ndarray:
    """Values of the pixels above 0 whose eight neighbours are 0."""
    padded = np.pad(counts != 0, 1)
    height, width = counts.shape
    alone = counts > 0
    for i, k in _NEIGHBOURS:
        alone &= ~padded[1 + i : 1 + i + height, 1 + k : 1 + k + width]
    return counts[alone]


@dataclasses.dataclass(frozen=True)
class _Strip:
    """Rows of a picture, in electrons, with what lies around every pixel."""

    rows: slice
    values: np.ndarray
    used: np.ndarray
    padded: np.ndarray  # values, 0 where unused, with a margin
    there: np.ndarray  # used pixels, 1.0 or 0.0, likewise

    def shifted(self, offset: tuple[int, int], array: np.ndarray) -> np.ndarray:
        """What lies at an offset from every pixel."""
        height, width = self.values.shape
        row, column = _MARGIN + offset[0], _MARGIN + offset[1]
        return array[row : row + height, column : column + width]

    def total(self, offsets: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """Sum over pixels at these offsets, and how many of them are used."""
        values = sum(self.shifted(offset, self.padded) for offset in offsets)
        number = sum(self.shifted(offset, self.there) for offset in offsets)
        return np.asarray(values), np.asarray(number)

    def background(
        self, chosen: np.ndarray, variance: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The lowest mean of the rectangles around chosen pixels, less what chance can do; and
        their mean two pixels away.

        Args:
            chosen: ``[rows, W]`` bool, with N pixels.
            variance: of the noise of the chosen pixels, ``[N]``; None is that of counts.
        """
        row, column = (place + _MARGIN for place in np.nonzero(chosen))
        lowest = np.full(len(row), np.inf)
        near, near_number = np.zeros(len(row)), np.zeros(len(row))
        for rectangles, slack in _SIDES:
            for offsets in rectangles:
                total, number = np.zeros(len(row)), np.zeros(len(row))
                for i, k in offsets:
                    total += self.padded[row + i, column + k]
                    number += self.there[row + i, column + k]
                if rectangles is _SIDES[0][0]:
                    near, near_number = near + total, near_number + number
                several = np.maximum(number, 1)
                mean = total / several
                spread = np.maximum(mean, 0) + 1 if variance is None else variance
                mean = mean - slack * np.sqrt(spread / several)
                lowest = np.where(number > 0, np.minimum(lowest, mean), lowest)
        lowest = np.where(np.isfinite(lowest), np.maximum(lowest, 0), 0.0)
        return lowest, np.maximum(near / np.maximum(near_number, 1), 0)


def _strips(counts: np.ndarray, used: np.ndarray, scale: float):
    """The picture in strips of rows, in units of `scale`."""
    height, width = counts.shape
    step = max(1, _STRIP // width)
    for first in range(0, height, step):
        last = min(first + step, height)
        low, high = max(0, first - _MARGIN), min(height, last + _MARGIN)
        margin = ((low - first + _MARGIN, last + _MARGIN - high), (_MARGIN, _MARGIN))
        there = np.pad(used[low:high].astype(np.float64), margin)
        padded = np.pad(np.where(used[low:high], counts[low:high] / scale, 0.0), margin)
        rows = slice(first, last)
        inner = slice(_MARGIN, -_MARGIN)
        yield _Strip(rows, padded[inner, inner], used[rows], padded, there)


def _hot(strip: _Strip, level: float) -> np.ndarray:
    """Pixels with more counts than their neighbours allow."""
    hot = np.zeros(strip.values.shape, bool)
    candidates = strip.used & (strip.values > _LEAST)
    if not candidates.any():
        return hot
    total, number = strip.total(_NEIGHBOURS)
    brightest = np.max([strip.shifted(o, strip.padded) for o in _NEIGHBOURS], axis=0)
    candidates &= (number > 2) & (strip.values * (number - 1) > (total - brightest) * _RATIOS[0][0])
    if not candidates.any():
        return hot
    lowest, mean = strip.background(candidates, None)
    values, total, number, brightest = (
        array[candidates] for array in (strip.values, total, number, brightest)
    )
    found = np.zeros(len(values), bool)
    for anywhere, of_spot, of_peak, without in _RATIOS:
        rest, others = (total - brightest, number - 1) if without else (total, number)
        rest = np.maximum(rest, 0)  # of numbers that are not whole
        choices = math.log(len(_NEIGHBOURS)) if without else 0.0
        around = np.maximum(rest / others, 1e-300)
        spot = np.maximum(
            of_spot - (of_spot - 1) * np.minimum(lowest / around, 1),
            of_peak - (of_peak - 1) * np.minimum(mean / around, 1),
        )
        for_spot = -math.log(FALSE_ALARMS / _SPOT_PIXELS)
        hot_here = _chance(values, rest, others, anywhere) < math.exp(-level - choices)
        hot_here &= _chance(values, rest, others, np.maximum(spot, anywhere)) < math.exp(
            -for_spot - choices
        )
        found |= hot_here
    hot[candidates] = found
    return hot


def _chance(
    values: np.ndarray, rest: np.ndarray, others: np.ndarray, ratio: np.ndarray | float
) -> np.ndarray:
    """Probability of so many counts in a pixel, or more, given those of its neighbours.

    Args:
        values: counts of the pixels.
        rest: sum over their neighbours.
        others: how many neighbours.
        ratio: expected counts of the pixel over the mean of the neighbours, at most.
    """
    return betainc(values, rest + 1, ratio / (ratio + others))


def _dead(strip: _Strip, level: float) -> np.ndarray:
    """Pixels of 0 whose neighbours are all bright."""
    dim = np.min([strip.shifted(o, strip.padded) for o in _NEIGHBOURS], axis=0)
    return strip.used & (strip.values == 0) & (_HOLE * dim > level)


def _outliers(strip: _Strip) -> np.ndarray:
    """Pixels far from their neighbours on either side, where the noise is normal.

    The noise is told from the differences of pixels and their neighbours: of the pixels around, and
    of bright pixels, for it grows with the counts.
    """
    total, number = strip.total(_NEIGHBOURS)
    known = strip.used & (number > 2)
    apart = np.where(known, strip.values - total / np.maximum(number, 1), 0.0) ** 2
    window, middle = 2 * _MARGIN + 1, 3
    around_here = uniform_filter(apart, window) * window**2 - uniform_filter(apart, middle) * 9
    share = uniform_filter(known.astype(float), window) * window**2 - 9
    noise = np.maximum(around_here, 0) / np.maximum(share, 1)
    level = np.abs(total) / np.maximum(number, 1)
    typical = math.sqrt(float(np.median(noise[known]))) if known.any() else 0.0
    bright = known & (level > _SLACK * typical)
    gain = 1.0
    if np.count_nonzero(bright) > _ENOUGH:
        gain = max(gain, float(np.median(apart[bright] / level[bright])) / 0.45)
    noise += gain / np.maximum(share, 1)  # one electron that was not seen
    found = np.zeros(strip.values.shape, bool)
    others = np.maximum(number - 1, 1)
    for sign in (1.0, -1.0):
        turned = dataclasses.replace(strip, values=sign * strip.values, padded=sign * strip.padded)
        extreme = np.max([turned.shifted(o, turned.padded) for o in _NEIGHBOURS], axis=0)
        around = (sign * total - extreme) / others + _SLACK * np.sqrt(noise / others)
        anywhere, _, peak, _ = _RATIOS[1]
        bound = anywhere * np.maximum(around, 0)
        chosen = known & (turned.values > bound + _DEVIATIONS * np.sqrt(noise))
        around, bound, here = around[chosen], bound[chosen], noise[chosen]
        low, _ = turned.background(chosen, here)
        bound = np.maximum(bound, peak * np.maximum(around, 0) - (peak - 1) * low)
        far = bound + _DEVIATIONS * np.sqrt(here + gain * bound) + 2 * _LEAST
        found[chosen] |= turned.values[chosen] > far
    return found
