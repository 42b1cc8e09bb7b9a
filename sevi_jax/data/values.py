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
_QUIET = 0.5  # of the variance that counts at the pedestal would have
_MOSTLY = 0.25  # of the pixels, at least, lie at a pedestal
_HIGH = 5.0  # and it is so many of its standard deviations above 0
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
    counts = values.astype(np.float64)
    notes = []
    if values.dtype.kind == "b":
        notes.append("values are true and false: counts of 1 and 0")
    masked = _masked(place, counts, values.dtype)
    if masked:
        notes.append(f"{masked} pixels are NaN and left out")
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
    variances = np.array([variance[b].mean() for b in bins])
    level, quiet = means[0], variances[0]
    if level <= _HIGH * math.sqrt(quiet):
        return None
    near = np.count_nonzero(np.abs(mean - level) < 4 * math.sqrt(quiet) + 1e-3 * level)
    if near < _MOSTLY * mean.size:
        return None
    bright = means > level + 4 * math.sqrt(quiet)
    gain = 1.0
    if bright.any():
        weight = np.where(bright, 1 / np.maximum(variances, 1e-300) ** 2, 0.0)
        rise = means - level
        gain = float((weight * rise * (variances - quiet)).sum() / (weight * rise**2).sum())
    elif np.nanmax(np.abs(counts - np.round(counts))) > 0:
        return None  # an unknown gain, and nothing bright to tell it from
    if gain <= 0 or quiet > _QUIET * gain * level:
        return None
    return float(level)


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


def _check_wrapped(place: str, counts: np.ndarray, dtype: np.dtype, highest: float) -> None:
    """Refuses differences of unsigned integers, in which -1 has become the largest number.

    Such a picture has many pixels just below 2^16 (2^8, 2^32, 2^64) and none in between; a
    saturated one has its pixels at one value only, and brighter ones than most around them.
    """
    moduli = (*_MODULI, 8) if dtype == np.uint8 else _MODULI
    for bits in moduli:
        top = 2.0**bits
        if not top / 2 < highest < top + (bits == 64):
            continue
        high = counts[counts >= top / 2]
        rest = (
            np.nanmax(np.where(counts < top / 2, counts, np.nan)) if high.size < counts.size else 0
        )
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
