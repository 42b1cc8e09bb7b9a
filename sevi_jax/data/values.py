"""What the values of a picture mean: counts, a difference, a camera's offset; knows no file."""

import dataclasses
import math

import numpy as np

from sevi_jax.errors import InputError

# Unsigned integers that went below 0 and start again from the top.
_MODULI = (16, 32, 64)
_FEWEST_WRAPPED = 20
_TINY = 1e-9  # of the largest value: what is so little below 0 is rounding

# A pedestal is told from a flat background of electrons by its variance, which is too small.
_BINS = 24
_FEWEST_IN_BIN = 200
_LOW = 0.2  # quantile of the local variances
_QUIET = 0.5  # of the variance that counts at the pedestal would have
_MOSTLY = 0.25  # of the pixels, at least, lie at a pedestal
_HIGH = 5.0  # and it is so many of its standard deviations above 0
_IN_BLOCKS = 0.9  # of the marked pixels, that have two such neighbours or more
_STRIP = 1 << 22  # pixels that are looked at together


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What was found out about the values of a picture.

    Attributes:
        counts: ``[H, W]`` float64.
        noise: "normal" for a difference, else None.
        offset: about what most pixels are above 0, if that looks like a camera's; else None.
        notes: the same in words.
    """

    counts: np.ndarray
    noise: str | None
    offset: float | None
    notes: tuple[str, ...]


def meaning(place: str, values: np.ndarray) -> Meaning:
    """Looks at the values of a picture.

    Args:
        place: what messages begin with.
        values: ``[H, W]`` of any real type.

    Raises:
        InputError: a value is infinite, or the values are unsigned differences that wrapped around.
    """
    if values.ndim != 2 or min(values.shape) < 2 or values.dtype.kind not in "biuf":
        raise InputError(
            f"{place}: expected a picture, a real array [rows, columns] of at least 2 x 2 pixels, "
            f"got {values.dtype} of shape {values.shape}"
        )
    counts = values.astype(np.float64)
    notes = []
    if values.dtype.kind == "b":
        notes.append("values are true and false: counts of 1 and 0")
    masked = _masked(place, counts, values.dtype)
    if masked:
        notes.append(f"{masked} pixels are NaN and left out")
    if marked := _marked(counts):
        masked += marked[0]
        notes.append(f"{marked[0]} pixels hold {marked[1]}, in blocks: a mark, and left out")
    if masked == counts.size:
        raise InputError(f"{place}: found NaN in every pixel, expected counts")
    highest, lowest = float(np.nanmax(counts)), float(np.nanmin(counts))
    _check_wrapped(place, counts, values.dtype, highest)
    noise = None
    if lowest < 0:
        if lowest >= -_TINY * highest:
            np.maximum(counts, 0, out=counts)
        else:
            noise = "normal"
            below = int(np.count_nonzero(counts < 0))
            notes.append(
                f"{below} pixels are below 0 (down to {lowest:g}): a difference of pictures, whose "
                "noise is normal and is estimated"
            )
    offset = pedestal(counts) if lowest > 0 else None
    if offset is not None:
        notes.append(
            f"no pixel is below {lowest:g} and most are near {offset:.6g}, with less scatter than "
            f"counts have: this looks like a camera's offset (offset={offset:.6g} takes it off)"
        )
    return Meaning(counts, noise, offset, tuple(notes))


def pedestal(counts: np.ndarray) -> float | None:
    """The offset of a camera below the counts, or None where there seems to be none.

    Counts have a variance of gain times mean. The gain is told from the brighter pixels: the slope
    of the local variance over the local mean. At an offset the variance is less than that.

    Args:
        counts: ``[H, W]``; NaN is left out.
    """
    mean, variance = _local(counts)
    if mean.size < 2 * _FEWEST_IN_BIN:
        return None
    order = np.argsort(mean, kind="stable")
    bins = np.array_split(order, max(2, min(_BINS, mean.size // _FEWEST_IN_BIN)))
    means = np.array([np.median(mean[b]) for b in bins])
    # a low quantile of a distribution that is exponential, for edges have larger ones
    variances = np.array([np.quantile(variance[b], _LOW) / -math.log1p(-_LOW) for b in bins])
    level, quiet = means[0], variances[0]
    if level <= _HIGH * math.sqrt(quiet):
        return None
    near = np.count_nonzero(np.abs(mean - level) < 4 * math.sqrt(quiet) + 1e-3 * level)
    if near < _MOSTLY * mean.size:
        return None
    bright = means > level + 4 * math.sqrt(quiet)
    gain = 1.0
    if bright.any():
        gain = float(np.quantile((variances - quiet)[bright] / (means - level)[bright], 0.25))
    elif np.nanmax(np.abs(counts - np.round(counts))) > 0:
        return None  # an unknown gain, and nothing bright to tell it from
    if gain <= 0 or quiet > _QUIET * gain * level:
        return None
    values = counts[~np.isnan(counts)]
    near_level = np.unique(values[np.abs(values - level) <= 2.5 * math.sqrt(quiet)][:_STRIP])
    steps = np.diff(near_level)
    step = float(np.min(steps[steps > 1e-6 * level], initial=level))
    if abs(quiet - step * level) < _QUIET * quiet:
        return None  # counts of electrons of that value each: a flat background
    for _ in range(3):  # the middle of the pixels near it, above which there are electrons
        level = float(np.median(values[np.abs(values - level) <= 2.5 * math.sqrt(quiet)]))
    return level


def _local(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of pixels four in a row, of which a straight slope is taken off."""
    width = counts.shape[1] // 4 * 4
    if width == 0:
        return np.zeros(0), np.zeros(0)
    step = max(1, counts.shape[0] * counts.shape[1] // _STRIP)
    four = counts[::step, :width].reshape(-1, 4)
    four = four[~np.isnan(four).any(axis=1)]
    mean = four.mean(axis=1)
    # contrasts of four numbers that a constant and a slope do not change, of norm 1
    curved = (four @ [0.5, -0.5, -0.5, 0.5]) ** 2
    bent = (four @ np.array([1, -3, 3, -1]) / math.sqrt(20)) ** 2
    return mean, (curved + bent) / 2


def _masked(place: str, counts: np.ndarray, dtype: np.dtype) -> int:
    """How many pixels are NaN; infinite ones are refused."""
    if dtype.kind != "f":
        return 0
    highest = max(
        float(np.fmax.reduce(counts, axis=None)), -float(np.fmin.reduce(counts, axis=None))
    )
    if math.isinf(highest):
        row, column = np.argwhere(np.isinf(counts))[0]
        raise InputError(
            f"{place}: found {counts[row, column]} in row {row}, column {column}, expected finite "
            "counts (NaN marks pixels that are not to be used)"
        )
    return int(np.count_nonzero(np.isnan(counts)))


def _marked(counts: np.ndarray) -> tuple[int, str] | None:
    """Makes marks of pixels that were not measured NaN, as cameras write them: -1, or -9999.

    There are one or two such values and no others below 0, and the pixels lie in blocks. Those of a
    difference have many values below 0, or lie apart.

    Returns:
        how many pixels, and their values in words; None where there are none.
    """
    below = counts < 0
    values = np.unique(counts[below][:_STRIP])
    if not 1 <= len(values) <= 2 or (values != np.round(values)).any():
        return None
    padded = np.pad(below, 1)
    beside = sum(
        part.astype(np.int8)
        for part in (padded[2:, 1:-1], padded[:-2, 1:-1], padded[1:-1, 2:], padded[1:-1, :-2])
    )
    number = int(np.count_nonzero(below))
    if np.count_nonzero(below & (np.asarray(beside) >= 2)) < _IN_BLOCKS * number:
        return None
    counts[below] = np.nan
    return number, " and ".join(f"{value:g}" for value in values)


def _check_wrapped(place: str, counts: np.ndarray, dtype: np.dtype, highest: float) -> None:
    """Refuses differences of unsigned integers, in which -1 has become the largest number.

    Such a picture has many pixels just below 2^16 (2^8, 2^32, 2^64) and none in between; a
    saturated one has its pixels at one value only, and brighter ones than most around them.
    """
    moduli = (*_MODULI, 8) if dtype == np.uint8 else _MODULI
    for bits in moduli:
        top = 2.0**bits
        if not top / 2 < highest <= top - (bits < 64):
            continue
        high = counts[counts >= top / 2]
        rest = (
            np.nanmax(np.where(counts < top / 2, counts, np.nan)) if high.size < counts.size else 0
        )
        if rest == 0:  # a mask, not counts
            continue
        below = top - high  # how far below 0 they are meant
        typical = float(np.median(below))
        scattered = len(np.unique(below[:1000])) > 1
        fewest = _FEWEST_WRAPPED if scattered else max(_FEWEST_WRAPPED, counts.size // 500)
        if (
            high.size >= fewest
            and typical <= max(8.0, rest)
            and below.max() + rest < 0.75 * top
            and typical < top / 16
        ):
            raise InputError(
                f"{place}: found {high.size} pixels just below {top:.0f}: a difference of unsigned "
                f"integers in which -1 became {top - 1:.0f}, expected counts: subtract as signed "
                "integers, or give both pictures (off=)"
            )
