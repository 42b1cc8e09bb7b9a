"""What a residual says of directions: waves cos(m t) and sin(m t) on rings, which name a cause.

A distribution of any form takes up every even dependence on the radius. What it cannot take up are
waves around a ring: of orders that are not free, of rings that are bent or turned, of a detector
whose sides differ.
"""

import dataclasses

import numpy as np
import scipy.special

from sevi_jax.estimation.dispersion import Residual

_HIGHEST = 16  # m
_WIDTH = 6.0  # of a ring, pixels
_UNLIKELY = 1e-6  # chance of a wave's sum of squares on all rings, above which it says nothing
_LARGE = 0.2  # of the largest excess: smaller ones are not said


@dataclasses.dataclass(frozen=True)
class Wave:
    """A wave around the rings.

    Attributes:
        m: waves in a turn.
        is_sine: whether it is sin(m t), not cos(m t).
        excess: sum over rings of the squared amplitude over its variance, less its mean.
    """

    m: int
    is_sine: bool
    excess: float


def find_waves(residual: Residual, distance: np.ndarray, angle: np.ndarray) -> list[Wave]:
    """Waves that chance does not explain, the largest first.

    Args:
        residual: of all pixels.
        distance: of every pixel from the origin, ``[H, W]`` pixels.
        angle: from the polarisation, ``[H, W]`` radians.
    """
    used = residual.variance > 0
    ring = (distance[used] / _WIDTH).astype(np.int64)
    off, variance, t = residual.off[used], residual.variance[used], angle[used]
    # the level of the noise, should it not be the one that is expected
    level = max(float(np.median(off**2 / variance)) / 0.455, 1.0)
    found = []
    for m in range(1, _HIGHEST + 1):
        for is_sine in (False, True):
            wave = np.sin(m * t) if is_sine else np.cos(m * t)
            amplitude = np.bincount(ring, off * wave)
            spread = np.bincount(ring, variance * wave**2)
            known = spread > 0
            count = int(known.sum())
            total = float(np.sum(amplitude[known] ** 2 / spread[known])) / level
            if scipy.special.chdtrc(count, total) < _UNLIKELY:
                found.append(Wave(m, is_sine, total - count))
    return sorted(found, key=lambda wave: -wave.excess)


def in_words(waves: list[Wave], orders: tuple[int, ...]) -> list[str]:
    """What the waves say, and the argument that helps."""
    if not waves:
        return []
    large = [wave for wave in waves if wave.excess > _LARGE * waves[0].excess]
    top, step = max(orders, default=0), 1 if any(n % 2 for n in orders) else 2
    found = []
    missing = [w.m for w in large if not w.is_sine and w.m > top and w.m % step == 0]
    if missing:
        listed = ",".join(str(n) for n in range(step, max(missing) + 1, step))
        found.append(f"directions need more orders: orders={listed}")
    if any(w.m == 2 and w.is_sine for w in large):
        found.append("the polarisation is turned: free=angle, or polarisation=DEGREES")
    if any(not w.is_sine and w.m <= top and w.m % step == 0 for w in large):
        found.append("rings are bent, or the efficiency varies: free=ellipse,harmonics,efficiency")
    odd = [w for w in large if w.m % 2]
    if odd and step == 2:
        sides = "up and down" if not odd[0].is_sine else "left and right"
        found.append(
            f"{sides} differ: orders=1,2,... if the physics allows it, else free=efficiency"
        )
    return found
