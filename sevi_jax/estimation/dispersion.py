"""How much more (or less) than the model says counts scatter about their means; knows no model.

The scatter of n counts of variance V about their means m is phi = E (n - m)^2 / V. With few counts
a pixel's term varies much, by Var = 2 + 1 / V where phi is 1, so terms are weighted by the inverse
of that: the estimate holds at any number of counts, and its error is 1 / sqrt(sum of weights).
"""

import dataclasses

import numpy as np

_FEWEST_BLOCKS = 200.0  # the scatter is known to sqrt(2 / 200) = 10 %
_BEYOND = 2.0  # errors by which larger blocks must scatter more than smaller ones
_LARGEST_BLOCK = 16  # pixels a side


@dataclasses.dataclass(frozen=True)
class Residual:
    """Counts less their means, with the variance that they should have.

    Attributes:
        off: counts less means, ``[H, W]``; 0 where a pixel is not used.
        variance: of the counts by the model, ``[H, W]``; 0 where a pixel is not used.
    """

    off: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray, mean: np.ndarray, variance: np.ndarray | None = None):
        """Makes it of counts, means (NaN where a pixel is not used) and variances (the means)."""
        variance = mean if variance is None else variance
        used = np.isfinite(mean) & (variance > 0)
        return cls(np.where(used, counts - mean, 0.0), np.where(used, variance, 0.0))

    def in_blocks(self, size: int) -> "Residual":
        """Sums over blocks of size x size pixels; those at the far edges that fill none are cut."""
        height, width = (n // size for n in self.off.shape)

        def summed(values):
            cut = values[: height * size, : width * size]
            return cut.reshape(height, size, width, size).sum(axis=(1, 3))

        return Residual(summed(self.off), summed(self.variance))


@dataclasses.dataclass(frozen=True)
class Scatter:
    """An estimate of phi.

    Attributes:
        value: of phi.
        error: its standard error.
        blocks: how many blocks of many counts would tell as much.
    """

    value: float
    error: float
    blocks: float


def scatter(residual: Residual, parameters: int = 0) -> Scatter:
    """Estimates phi; the error is infinite where next to nothing is known.

    Args:
        residual: of pixels or of blocks.
        parameters: how many were fitted to the counts.
    """
    used = residual.variance > 0
    variance = residual.variance[used]
    weight = 1 / (2 + 1 / variance)
    total = float(weight.sum())
    # what the fit takes away: a parameter's share lies where the counts are
    taken = parameters * float((weight * variance).sum()) / max(float(variance.sum()), 1e-300)
    if total <= 2 * taken or total == 0:
        return Scatter(1.0, np.inf, 0.0)
    square = residual.off[used] ** 2 / variance
    value = float((weight * square).sum()) / (total - taken)
    seen = float(np.sqrt((weight**2 * (square - value) ** 2).sum())) / total
    return Scatter(value, max(seen, max(value, 1.0) / np.sqrt(total)), 2 * total)


def overdispersion(residual: Residual, parameters: int = 0) -> float:
    """Estimates how much more than the model's numbers counts scatter, at least 1.

    An electron that lights up several pixels, or a model that misses the shape of a ring,
    correlates neighbours, which shows only in blocks of pixels: blocks of 1, 2, 4 ... 16 pixels a
    side are looked at as far as the scatter is known to 10 % there. Larger blocks count where they
    scatter beyond doubt more than smaller ones.
    """
    found, size = 1.0, 1
    while size <= min(_LARGEST_BLOCK, min(residual.off.shape) // 4):
        one = scatter(residual if size == 1 else residual.in_blocks(size), parameters)
        if one.blocks < _FEWEST_BLOCKS:
            break
        # where a few pixels are far off, the squares themselves tell nothing of the error
        if size == 1 or one.value * (1 - _BEYOND * np.sqrt(2 / one.blocks)) > found:
            found = max(found, one.value)
        size *= 2
    return found
