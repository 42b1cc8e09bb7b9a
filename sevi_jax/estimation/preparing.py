"""From a picture as it was read to counts of electrons with the noise that they have."""

import dataclasses

import numpy as np

from sevi_jax.data.picture import Picture
from sevi_jax.model.picture_model import Data


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A picture ready for a fit.

    Attributes:
        data: counts of electrons and what is known of every pixel.
        gain: value of one electron in the picture.
        normal: whether the noise is normal.
        notes: what was decided, in words.
        warnings: what is to be feared, in words.
    """

    data: Data
    gain: float = 1.0
    normal: bool = False
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def prepare(picture: Picture) -> Prepared:
    """Turns the values of a picture into electrons."""
    used = picture.used
    exposure = np.where(used, 1.0 if picture.efficiency is None else picture.efficiency, 0.0)
    gain = 1.0 if picture.gain is None else picture.gain
    counts = np.where(used, picture.counts, 0.0) / gain
    off = None if picture.off is None else np.where(used, picture.off, 0.0) / gain
    return Prepared(Data(counts, exposure, off, 1 / 12 + picture.blur**2), gain)
