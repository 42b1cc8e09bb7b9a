"""From a picture as it was read to electrons, with a first idea of their noise; fits nothing.

Values are told apart by what they are:

- counts, or counts times the value of one electron (the gain): Poisson's likelihood of
  values / gain. The gain is given, or it is the step of the values, or it is estimated from their
  scatter;
- values below 0, a difference of pictures: noise of a variance that is estimated;
- counts n with an off picture of counts k: n - a k, whose mean is the signal m whatever the off
  picture's mean b, with the variance m + a b + a^2 b. The likelihood of n and k, maximised by b in
  every pixel, says the same of m where counts are many. Where they are few it is wrong by far: with
  k = 0 it explains a single electron by b = 1 / (1 + a) and calls it no signal. The difference is
  free of that, because its mean needs no b, and its variance takes b from the pixels around.
"""

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter

from sevi_jax.data.picture import Picture
from sevi_jax.errors import InputError
from sevi_jax.model.picture_model import Data

_ROUNDING = 1e-3  # of a step: how far values may be off its multiples
_MOST_STEPS = 2e4  # a value of more steps than so many tells nothing of them
_LEAST = 1e-3  # of the mean variance: what a pixel's variance is at least
_NEAR, _WIDE = 3.0, 12.0  # pixels: widths of the averages of an off picture
_SAID = 3.0  # standard errors of f^2 at which it is said
_PRIOR = 5.0  # counts that the wide one is worth


@dataclasses.dataclass(frozen=True)
class Noise:
    """What is known of the noise of a picture.

    Attributes:
        estimated: whether its size was estimated from the picture itself.
        gain: value of one electron in the picture.
        gain_error: relative standard error of it.
        source: of the gain: "counts", "given", "step", "scatter", or "unknown".
        step: of the values, 0 where they have none.
        negative: whether values are a difference of pictures.
        by_values: whether that was decided by the values here.
        spread: f, the relative standard deviation of the pixels' gains; 0 where none is seen.
        spread_error: standard error of it.
        off_scale: exposure over that of the off picture; None without one.
        off_scale_error: standard error, 0 where it was given.
        rounds: how often the noise was revised.
    """

    estimated: bool = False
    gain: float = 1.0
    gain_error: float = 0.0
    source: str = "counts"
    step: float = 1.0
    negative: bool = False
    by_values: bool = False
    spread: float = 0.0
    spread_error: float = 0.0
    off_scale: float | None = None
    off_scale_error: float = 0.0
    rounds: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """The same in words."""
        found = []
        gain = f"{self.gain:.6g}"
        if self.source == "step":
            found.append(f"values are multiples of {gain}: taken as the value of one electron")
        elif self.source == "scatter":
            error = 100 * self.gain_error
            found.append(
                f"the value of one electron is {gain} +- {error:.2g} %, estimated from the scatter"
            )
        elif self.source == "given":
            found.append(f"the value of one electron is {gain}, as given")
        if self.by_values:
            found.append("values are below 0: the noise is normal, its variance is estimated")
        # the error of f^2 is 2 f times that of f
        if self.spread > 2 * _SAID * self.spread_error:
            found.append(
                f"pixels differ by {100 * self.spread:.2g} +- {100 * self.spread_error:.1g} %: the "
                "variance is gain * mean + (f mean)^2, and the weights follow it"
            )
        if self.off_scale is not None:
            error = f" +- {self.off_scale_error:.2g}" if self.off_scale_error else ", as given"
            found.append(f"exposure over that of the off picture: {self.off_scale:.5g}{error}")
        return tuple(found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be feared."""
        if self.source == "unknown":
            return (
                "the value of one electron cannot be told from the picture: numbers of electrons "
                "are in units of its values (gain=VALUE gives it)",
            )
        return ()


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A picture ready for a fit.

    Attributes:
        data: electrons and what is known of every pixel.
        noise: what is known of the noise.
        on: electrons of the picture with the light ``[H, W]``, where there is an off picture.
        off: counts of that ``[H, W]``, in electrons.
    """

    data: Data
    noise: Noise = Noise()
    on: np.ndarray | None = None
    off: np.ndarray | None = None

    @property
    def gain(self) -> float:
        """Value of one electron in the picture."""
        return self.noise.gain

    @property
    def normal(self) -> bool:
        """Whether the noise is normal, of a variance per pixel."""
        return self.data.noise is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided, in words."""
        return self.noise.notes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be feared, in words."""
        return self.noise.warnings

    def scaled(self, gain: float) -> "Prepared":
        """The same with electrons of another value; the noise's record is left as it is."""
        ratio = self.noise.gain / gain
        data = dataclasses.replace(
            self.data, counts=self.data.counts * ratio, off=_times(self.data.off, ratio),
            noise=_times(self.data.noise, ratio * ratio),
        )  # fmt: skip
        noise = dataclasses.replace(self.noise, gain=gain)
        return Prepared(data, noise, _times(self.on, ratio), _times(self.off, ratio))


def _times(values: np.ndarray | None, factor: float) -> np.ndarray | None:
    return None if values is None else values * factor


def prepare(picture: Picture) -> Prepared:
    """Turns the values of a picture into electrons.

    Raises:
        InputError: the gain is no positive number, or the off picture holds nothing.
    """
    used = picture.used if picture.off is None else picture.used & np.isfinite(picture.off)
    exposure = np.where(used, 1.0 if picture.efficiency is None else picture.efficiency, 0.0)
    values = np.where(used, picture.counts, 0.0)
    noise = _first_noise(picture, values, used)
    data = Data(values / noise.gain, exposure, variance=1 / 12 + picture.blur**2)
    if picture.off is not None:
        off = np.where(used, picture.off, 0.0) / noise.gain
        return less_off(Prepared(data, noise, data.counts, off), picture.off_scale)
    if not noise.negative:
        return Prepared(data, noise)
    variance = np.maximum(_rough_variance(data.counts, used), 0.0)
    data = dataclasses.replace(data, noise=raised(variance, used))
    return Prepared(data, noise)


def raised(variance: np.ndarray, used: np.ndarray) -> np.ndarray:
    """A variance that is nowhere less than a little of its mean."""
    return np.maximum(variance, max(_LEAST * float(variance[used].mean()), 1e-30))


def _first_noise(picture: Picture, values: np.ndarray, used: np.ndarray) -> Noise:
    """The kind of the noise and a first gain."""
    if picture.noise not in (None, "poisson", "normal"):
        raise InputError(f"noise={picture.noise!r}: expected poisson or normal")
    below = picture.off is None and bool((values < 0).any())
    if below and picture.noise == "poisson":
        raise InputError(f"{picture.name}: noise=poisson, but values are below 0")
    negative, chosen = below or picture.noise == "normal", below and picture.noise is None
    every = values[used] if picture.off is None else np.append(values[used], picture.off[used])
    step = step_of(every)
    if picture.gain is not None:
        if not 0 < picture.gain < np.inf:
            raise InputError(f"gain={picture.gain}: expected a number above 0")
        gain, source = picture.gain, "given"
    elif step:
        gain, source = step, "counts" if step == 1 else "step"
    else:
        gain, source = _rough_gain(values, used, negative), "scatter"
    estimated = negative or source == "scatter"
    return Noise(estimated, gain, source=source, step=step, negative=negative, by_values=chosen)


def step_of(values: np.ndarray) -> float:
    """The number that all values are multiples of; 0 where there is none.

    Values that are divided by their largest, or stored in single precision, are multiples of a step
    but for rounding.

    Args:
        values: any shape.
    """
    values = np.abs(values.ravel())
    whole = np.rint(values)
    if (whole == values).all():
        largest = whole.max(initial=0.0)
        if largest >= 2**62:
            return 0.0
        return float(np.gcd.reduce(np.unique(whole).astype(np.int64))) or 1.0
    different = np.unique(values)
    largest = different[-1]
    rounding = 4 * np.finfo(np.float32).eps * largest
    gaps = np.diff(different, prepend=0.0)
    step = float(gaps[gaps > 2 * rounding].min(initial=np.inf))
    if not step < np.inf or largest > _MOST_STEPS * step:
        return 0.0
    # larger multiples say more of the step, once it is known well enough to count them
    reach = step
    while reach < largest:
        reach *= 10
        near = different[different <= reach]
        number = np.rint(near / step)
        if (np.abs(near - number * step) > 0.25 * step).any():
            return 0.0
        step = float((number @ near) / (number @ number))
    tolerance = max(_ROUNDING * step, rounding)
    return step if (np.abs(different - np.rint(different / step) * step) < tolerance).all() else 0.0


def _rough_gain(values: np.ndarray, used: np.ndarray, negative: bool) -> float:
    """Variance over mean of differences of neighbours, about."""
    if negative:
        variance = _rough_variance(values, used)
        level = gaussian_filter(values, 4.0)
        off = level[used] - level[used].mean()
        slope = float((off * variance[used]).sum() / max((off * off).sum(), 1e-300))
        return slope if slope > 0 else float(np.sqrt(np.median(variance[used]))) or 1.0
    square = (values[1:, 1:] - values[1:, :-1] - values[:-1, 1:] + values[:-1, :-1]) ** 2 / 4
    inside = used[1:, 1:] & used[1:, :-1] & used[:-1, 1:] & used[:-1, :-1]
    mean = float(values[1:, 1:][inside].sum())
    gain = float(square[inside].sum()) / mean if mean > 0 else 1.0
    return gain or 1.0


def _rough_variance(values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Squares of differences of neighbours, averaged over some pixels; ``[H, W]``."""
    square = np.zeros(values.shape)
    there = np.zeros(values.shape)
    inside = used[:, 2:] & used[:, 1:-1] & used[:, :-2]
    difference = values[:, 2:] - 2 * values[:, 1:-1] + values[:, :-2]
    square[:, 1:-1] += np.where(inside, difference**2 / 6, 0.0)
    there[:, 1:-1] += inside
    inside = used[2:] & used[1:-1] & used[:-2]
    difference = values[2:] - 2 * values[1:-1] + values[:-2]
    square[1:-1] += np.where(inside, difference**2 / 6, 0.0)
    there[1:-1] += inside
    typical = square.sum() / max(there.sum(), 1.0)
    near, number = gaussian_filter(square, 4.0), gaussian_filter(there, 4.0)
    return (near + 0.02 * typical) / (number + 0.02)


def less_off(prepared: Prepared, off_scale: float | None, mean: np.ndarray | None = None):
    """Takes the off picture off.

    Args:
        prepared: with the picture and its off picture.
        off_scale: exposure over that of the off picture; None is estimated roughly.
        mean: of the signal, electrons ``[H, W]``, where it is known already.

    Returns:
        The prepared picture, whose `data` holds the difference, its variance, and the mean of the
        off picture.
    """
    on, off = prepared.on, prepared.off
    assert on is not None
    assert off is not None
    used = prepared.data.exposure > 0
    if (off[used] < 0).any() or not off[used].sum() > 0:
        raise InputError("off: expected counts that are not negative, and some of them")
    scale = _rough_off_scale(on, off, used) if off_scale is None else off_scale
    if not 0 < scale < np.inf:
        raise InputError(f"off_scale={scale}: expected a number above 0")
    level = expected_off(off, used)
    if mean is None:
        near, number = (
            gaussian_filter(np.where(used, on, 0.0), 1.5),
            gaussian_filter(1.0 * used, 1.5),
        )
        variance = near / np.maximum(number, 1e-3) + scale**2 * level
    else:
        variance = np.maximum(np.nan_to_num(mean), 0.0) + scale * (1 + scale) * level
    data = dataclasses.replace(
        prepared.data, counts=np.where(used, on - scale * off, 0.0), off=level,
        noise=raised(variance, used), off_scale=scale,
    )  # fmt: skip
    noise = dataclasses.replace(prepared.noise, off_scale=scale)
    return dataclasses.replace(prepared, data=data, noise=noise)


def _rough_off_scale(on: np.ndarray, off: np.ndarray, used: np.ndarray) -> float:
    """Ratio of the pictures where it is lowest, which is where there is no signal."""
    size = max(4, min(on.shape) // 16)
    height, width = (n // size for n in on.shape)

    def summed(values):
        cut = np.where(used, values, 0.0)[: height * size, : width * size]
        return cut.reshape(height, size, width, size).sum(axis=(1, 3)).ravel()

    on, off = summed(on), summed(off)
    many = off >= min(20.0, 0.5 * off.max())
    return float(max(np.quantile(on[many] / off[many], 0.15), 1e-3))


def expected_off(off: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Mean of every pixel of an off picture, from the pixels around it, without itself.

    A pixel's own count must not be in the weight that it gets: weighted means would be biased.

    Args:
        off: counts ``[H, W]``.
        used: ``[H, W]`` bool.
    """
    counts = np.where(used, off, 0.0)
    there = used.astype(np.float64)

    def around(values, width):
        impulse = np.zeros(int(8 * width) | 1)
        impulse[len(impulse) // 2] = 1.0
        own = gaussian_filter(impulse, width).max() ** 2
        return (gaussian_filter(values, width, mode="constant") - own * values) / own

    typical = counts.sum() / max(there.sum(), 1.0)
    number = around(there, _WIDE)
    wide = (around(counts, _WIDE) + typical) / (np.maximum(number, 0.0) + 1.0)
    own_number = np.maximum(around(there, _NEAR), 0.0)
    # around() divides by the weight of the pixel itself: sums over about 4 pi width^2 pixels
    near = np.maximum(around(counts, _NEAR), 0.0)
    return (near + _PRIOR) / (own_number + _PRIOR / np.maximum(wide, 1e-6))
