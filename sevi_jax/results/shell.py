"""A fitted shell with its errors; knows neither a model nor how it was fitted."""

import dataclasses
import math
from collections.abc import Sequence

from uncertainties import UFloat


@dataclasses.dataclass(frozen=True)
class FittedShell:
    """A shell with standard errors; what was not free has the error 0.

    Attributes:
        radius: pixels.
        sigma: pixels.
        tail: tau of a skewed shell, pixels; None of others.
        electrons: number of electrons in this picture.
        beta: order to anisotropy parameter, in the literature's convention.
    """

    radius: UFloat
    sigma: UFloat
    tail: UFloat | None
    electrons: UFloat
    beta: dict[int, UFloat]

    @property
    def counting_error(self) -> float:
        """How much the number of electrons differs between measurements of equal exposure."""
        return math.sqrt(max(self.electrons.nominal_value, 0.0))


def shell_of(own: Sequence[UFloat], orders: Sequence[int], has_tail: bool) -> FittedShell:
    """Makes a shell of its part of the vector: radius, sigma, (tail,) electrons and betas."""
    place = 3 if has_tail else 2
    beta = dict(zip(orders, own[place + 1 :], strict=True))
    return FittedShell(own[0], own[1], own[2] if has_tail else None, own[place], beta)
