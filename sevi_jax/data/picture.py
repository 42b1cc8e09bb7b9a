"""A picture of counts with all that is known of it beforehand; knows no file and no model."""

import dataclasses
from typing import Any

import numpy as np

from sevi_jax.arguments import number, numbers
from sevi_jax.errors import InputError

# Angle of the polarisation from axis 0, in the plane of the detector, degrees.
POLARISATIONS = {"vertical": 0.0, "horizontal": 90.0}


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture of counts.

    Axis 0 is rows, downwards; axis 1 is columns. Points are (row, column) in pixels from the
    picture's corner: pixel (i, k) covers [i, i + 1] x [k, k + 1], and the middle of 1024 x 1024 is
    (512, 512).

    Attributes:
        counts: ``[H, W]`` float64; what a masked pixel holds is never looked at.
        mask: ``[H, W]`` bool, False where a pixel is not used; None uses all.
        name: what messages and answers call it.
        polarisation: angle of the polarisation axis from axis 0 towards axis 1, degrees.
        origin: (row, column) of the centre, where it is known; None is found by the fit.
        gain: value of one electron in `counts`; None is not known: 1 where the values are counts,
            else estimated.
        noise: "poisson"; "normal", where `counts` is a difference of pictures whose noise is to be
            estimated; None is decided by the values.
        off: ``[H, W]``, counts of a picture taken without the light (or the ions); None is none.
        off_scale: exposure of this picture over that of `off`; None is fitted.
        efficiency: ``[H, W]``, relative efficiency of every pixel; None is 1 everywhere.
        blur: known standard deviation of errors of positions, along each axis, pixels; a fit takes
            it as round before rings are bent, which 1e8 electrons tell where bends are 2 %.
        notes: what was understood when it was read, in words.
        truth: what a simulated picture was drawn from; None for measured ones.
    """

    counts: np.ndarray
    mask: np.ndarray | None = None
    name: str = "picture"
    polarisation: float = 0.0
    origin: tuple[float, float] | None = None
    gain: float | None = None
    noise: str | None = None
    off: np.ndarray | None = None
    off_scale: float | None = None
    efficiency: np.ndarray | None = None
    blur: float = 0.0
    notes: tuple[str, ...] = ()
    truth: Any = None

    def __post_init__(self):
        counts = np.asarray(self.counts)
        if counts.ndim != 2 or min(counts.shape) < 2 or counts.dtype.kind not in "biuf":
            raise InputError(
                f"{self.name}: expected a picture, a real array [rows, columns] of at least 2 x 2 "
                f"pixels, got {counts.dtype} of shape {counts.shape}"
            )
        object.__setattr__(self, "counts", counts.astype(np.float64, copy=False))
        for field, kind in (("mask", bool), ("off", np.float64), ("efficiency", np.float64)):
            value = getattr(self, field)
            if value is None:
                continue
            value = np.asarray(value)
            if value.dtype.kind not in "biuf":
                raise InputError(f"{self.name}: {field} holds {value.dtype}, expected numbers")
            if value.shape != counts.shape:
                raise InputError(
                    f"{self.name}: {field} has shape {value.shape}, expected that of the picture, "
                    f"{counts.shape}"
                )
            if kind is bool and np.isnan(value).any():
                value = np.nan_to_num(value, nan=0.0)  # NaN is no pixel to be used
            object.__setattr__(self, field, value.astype(kind))
        self._check_numbers()
        used = self.used
        if not used.any():
            raise InputError(f"{self.name}: no pixel is used: see its mask")
        if (np.isinf(self.counts) & used).any():
            raise InputError(f"{self.name}: a pixel is infinite: mask it or correct the file")

    def _check_numbers(self) -> None:
        """Refuses what is no number in the fields that hold one."""
        angle = self.polarisation
        if isinstance(angle, str):
            angle = POLARISATIONS.get(angle, angle)
        expected = f"{', '.join(POLARISATIONS)} or degrees"
        object.__setattr__(self, "polarisation", number("polarisation", angle, expected))
        if self.origin is not None:
            origin = numbers("origin", self.origin, 2, "(row, column) in pixels from the corner")
            object.__setattr__(self, "origin", origin)
        for name in ("gain", "off_scale"):
            value = getattr(self, name)
            if value is not None and number(name, value, "a number above 0") <= 0:
                raise InputError(f"{name}={value}: expected a number above 0")
        if number("blur", self.blur, "a number from 0 on") < 0:
            raise InputError(f"blur={self.blur}: expected a number from 0 on")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = self.counts.shape
        return height, width

    @property
    def used(self) -> np.ndarray:
        """Pixels that are used, ``[H, W]`` bool: not masked, not NaN, of an efficiency above 0."""
        used = ~np.isnan(self.counts)
        if self.mask is not None:
            used &= self.mask
        if self.efficiency is not None:
            used &= self.efficiency > 0
        return used


def rebin(counts: np.ndarray, size: int, name: str = "picture") -> np.ndarray:
    """Sums whole blocks of pixels; the total is kept.

    Args:
        counts: ``[H, W]``, square.
        size: pixels per side of the result; H must be a multiple of it.
        name: what messages call the picture.

    Returns:
        ``[size, size]``, of the type that `counts` has.

    Raises:
        InputError: the picture is not square, or `size` does not divide H.
    """
    height, width = counts.shape
    if height != width:
        raise InputError(
            f"{name}: found {height} x {width} pixels, expected a square picture (only a fit that "
            "starts from the picture itself takes others)"
        )
    if size < 1 or height % size:
        raise InputError(
            f"{name}: found {height} x {width} pixels, expected a multiple of {size} x {size}"
        )
    blocks = counts.reshape(size, height // size, size, -1)
    return blocks.sum(axis=(1, 3), dtype=counts.dtype)
