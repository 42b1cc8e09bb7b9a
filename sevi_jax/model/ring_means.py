"""Means over rings of the terms of a smooth efficiency; knows no shell.

The mean over rings is taken off each term, so that an efficiency is 1 on average whatever is free.
Rings that the picture cuts are left out: on what is left of them a wave around the rings has a
mean, too.
"""

import numpy as np

from sevi_jax.model.means import EFFICIENCY_TERMS, smooth_terms

_RINGS = 12
_POINTS = 256  # along a side that the means are taken of
_WHOLE = 0.92  # of the pixels of the fullest ring, per area


def ring_means(exposure: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Means of the terms of an efficiency over the used pixels of rings.

    Args:
        exposure: 0 where a pixel is not used, ``[H, W]``.
        origin: (row, column) from the middle of the picture, pixels.

    Returns:
        ``[rings, terms]``.
    """
    half = max(exposure.shape) / 2
    step = max(1, max(exposure.shape) // _POINTS)
    row, column = np.meshgrid(
        *(np.arange(n)[::step] + 0.5 - n / 2 for n in exposure.shape), indexing="ij"
    )
    used = exposure[::step, ::step] > 0
    if not used.any():
        return np.zeros((1, EFFICIENCY_TERMS))
    row, column = (x[used].astype(np.float32) for x in (row, column))
    terms = smooth_terms(row / half, column / half, EFFICIENCY_TERMS + 1)[1:]
    distance = np.hypot(row - origin[0], column - origin[1])
    edges = np.linspace(distance.min(), distance.max() * (1 + 1e-6), _RINGS + 1)
    ring = np.minimum(np.searchsorted(edges, distance, side="right") - 1, _RINGS - 1)
    number = np.bincount(ring, minlength=_RINGS)
    full = number / np.diff(edges**2)
    whole = full > _WHOLE * full.max()
    sums = [np.bincount(ring, np.asarray(term), _RINGS) for term in terms]
    return np.stack(sums, axis=1)[whole] / number[whole, None]
