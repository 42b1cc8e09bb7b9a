"""The small records that pass between the stages of the synthesis; knows no stage."""

import dataclasses

import flax.struct
import jax


@flax.struct.dataclass
class ShellParams:
    """Parameters of the shells of one picture, or of a batch with leading axes.

    Lengths are in half-widths of the detector. Beta is in the course's convention (see
    docs/course.md): the density of cos(theta) is ``1/2 + sum_i beta_2i P_2i``; twice that is the
    literature's.

    Attributes:
        radius: mean shell radius, ``[..., S]`` float32, inner shell first.
        sigma: standard deviation of the radius, ``[..., S]`` float32.
        electrons: number of electrons, ``[..., S]`` int32.
        beta: anisotropy parameters of orders 2, 4, ..., 2 L, ``[..., S, L]`` float32.
    """

    radius: jax.Array
    sigma: jax.Array
    electrons: jax.Array
    beta: jax.Array


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """Shape of a picture; hashable, so static under jit.

    Attributes:
        size: pixels along each side of the full detector, even.
        fold: whether the picture is folded onto one quadrant.
    """

    size: int
    fold: bool = False

    @property
    def side(self) -> int:
        """Pixels along each side of the stored picture."""
        return self.size // 2 if self.fold else self.size
