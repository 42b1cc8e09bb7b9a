"""What a picture is made of: shells, and their parameters; gives their series on the grid."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from sevi_jax.physics.series import Kind, RingSeries, modes_for, ring_series


@dataclasses.dataclass(frozen=True)
class Shell:
    """A shell whose radius has a density of a given shape.

    Inside a model its parameters are R, sigma, (tau of a skewed one,) N, and N beta_n of every
    order, in which the means are linear; pixels and electrons, beta in the literature's convention.

    Attributes:
        orders: n of the free beta_n, ascending, each from 1 to 24.
        shape: one of `shapes.SHAPES`.
    """

    orders: tuple[int, ...] = (2,)
    shape: str = "normal"

    @property
    def lengths(self) -> int:
        """How many of the parameters are lengths."""
        return 3 if self.shape == "skewed" else 2

    @property
    def size(self) -> int:
        """How many parameters it has."""
        return self.lengths + 1 + len(self.orders)

    def names(self, number: int) -> list[str]:
        """Names of the parameters of the shell `number`, as results call them."""
        found = [*("radius", "sigma", "tail")[: self.lengths], "electrons"]
        return [f"{name}_{number}" for name in found + [f"beta{n}" for n in self.orders]]

    def split(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """R, sigma, tau ``[3]`` and N, N beta_n ``[1 + L]`` of its parameters."""
        lengths = np.zeros(3)
        lengths[: self.lengths] = values[: self.lengths]
        return lengths, np.asarray(values[self.lengths :], np.float64)


@dataclasses.dataclass(frozen=True)
class Grid:
    """The grid that series are computed on.

    Attributes:
        modes: m of the series.
        step: h, pixels.
        points: G.
        variance: of the blur that stands for the pixel's width (and of a known one), pixels^2.
        start: where it begins, but for a point before, pixels.
    """

    modes: tuple[int, ...]
    step: float
    points: int
    variance: float
    start: float = 0.0

    @functools.cached_property
    def distances(self) -> np.ndarray:
        """``[G]`` pixels."""
        return self.start + (np.arange(self.points) - 1.0) * self.step


def begin_series(
    shell: Shell, values: np.ndarray, grid: Grid
) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """As `shell_series`, but returns a function that waits for the device and then returns that."""
    values = np.asarray(values, np.float64)
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    begun = _begun(shell, values.tobytes(), grid.modes, grid.variance, device)
    amplitudes = shell.split(values)[1]

    def end():
        columns = begun.on_grid(grid.distances)
        series = columns[..., shell.lengths :] @ amplitudes.astype(np.float32)
        return series, columns

    return end


@functools.lru_cache(maxsize=96)
def _begun(
    shell: Shell, values: bytes, modes: tuple[int, ...], variance: float, device: object
) -> RingSeries:
    """The series of a shell at its nodes; the last ones of a device are kept for other grids."""
    lengths, amplitudes = shell.split(np.frombuffer(values))
    return ring_series(lengths, amplitudes, Kind(shell.shape, (0, *shell.orders), modes), variance)


def shell_series(shell: Shell, values: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Computes the series of a shell and its derivatives by all its parameters.

    Args:
        shell: which parameters it has.
        values: of them, ``[size]``.
        grid: where.

    Returns:
        ``[G, M]`` and ``[G, M, size]``, float32.
    """
    return begin_series(shell, values, grid)()


def modes_of(shells: tuple[Shell, ...]) -> tuple[int, ...]:
    """The modes that a list of shells needs."""
    return modes_for(tuple(sorted({n for shell in shells for n in shell.orders})))
