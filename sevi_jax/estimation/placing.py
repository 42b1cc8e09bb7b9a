"""Plain pictures of any size, scale and origin: where the centre is, and folding about it.

Lengths inside are in units of `Placement.unit` pixels, which makes one of a small picture's
half-widths, and less of a large one's, so that rings that are narrow in pixels are not narrow for
the grid of `synthesis.expected`. Positions in a picture are in pixels from its corner: pixel
(i, k) covers [i, i + 1] x [k, k + 1], and the middle of a picture of 1024 x 1024 is (512, 512).
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.estimation.information import PictureParams, background_terms
from sevi_jax.physics.expected import (
    PixelTable,
    grid_distances,
    grid_points,
    sample_pixels,
    shell_profile,
    tabulate,
)

_SHIFT = 0.1  # pixels, of the differences by the origin
_LARGEST_UNIT = 200.0  # pixels; a sigma of 0.6 of a pixel is then 0.003


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a picture lies.

    Attributes:
        shape: pixels along x and z.
        origin: position of the centre, pixels.
        kept_reach: `reach` of the placement that this one was moved from, or None.
    """

    shape: tuple[int, int]
    origin: tuple[float, float]
    kept_reach: int | None = None

    @property
    def reach(self) -> int:
        """Whole pixels from the origin to the farthest edge; kept where the origin moves."""
        if self.kept_reach is not None:
            return self.kept_reach
        edges = zip(self.origin, self.shape, strict=True)
        return math.ceil(max(max(place, pixels - place) for place, pixels in edges) - 1e-6)

    @property
    def unit(self) -> float:
        """Pixels in the unit of length."""
        return min(float(self.reach), _LARGEST_UNIT)

    @property
    def half_widths(self) -> float:
        """Half-widths of the picture (of its longer side) in the unit of length."""
        return self.unit / (max(self.shape) / 2)

    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Edges of the pixels along x ``[H + 1]`` and z ``[W + 1]``, pixels from the origin."""
        x, z = (
            np.arange(pixels + 1) - place
            for place, pixels in zip(self.origin, self.shape, strict=True)
        )
        return x, z

    def distances(self) -> np.ndarray:
        """Distance of the middle of every pixel from the origin, pixels, ``[H, W]``."""
        x, z = (edges[:-1] + 0.5 for edges in self.edges())
        return np.hypot(x[:, None], z)

    def moved(self, shift: np.ndarray) -> "Placement":
        """The same with the origin moved by ``[2]`` pixels."""
        origin = (float(self.origin[0] + shift[0]), float(self.origin[1] + shift[1]))
        return Placement(self.shape, origin, self.reach)


def find_origin(counts: np.ndarray) -> tuple[float, float]:
    """Finds the point that a picture is most symmetric about, to a fraction of a pixel.

    The peak of the correlation of the picture with itself turned by 180 degrees, of square roots
    (which even out Poisson noise) less their mean, with a parabola through its top.

    Args:
        counts: ``[H, W]``.

    Returns:
        The origin in pixels.
    """
    root = np.sqrt(counts)
    root = root - root.mean()
    shape = [2 * pixels for pixels in counts.shape]
    correlation = np.fft.irfft2(np.fft.rfft2(root, shape) ** 2, shape)
    peak = np.unravel_index(np.argmax(correlation), correlation.shape)
    place = []
    for axis in range(2):
        index = list(peak)
        values = []
        for step in (-1, 0, 1):
            index[axis] = (peak[axis] + step) % shape[axis]
            values.append(correlation[tuple(index)])
        left, top, right = values
        curvature = left - 2 * top + right
        shift = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
        # mirrored pixels i and k with i + k = p: 2 * origin = (i + 1/2) + (k + 1/2)
        place.append(float((peak[axis] + shift + 1) / 2))
    return place[0], place[1]


def rebin_about(counts: np.ndarray, origin: tuple[float, float], factor: int):
    """Sums blocks of pixels; pixels at the far edges that fill no block are left out.

    Args:
        counts: ``[H, W]``.
        origin: pixels.
        factor: pixels along each side of a block.

    Returns:
        counts, and the origin in new pixels.
    """
    height, width = (pixels // factor for pixels in counts.shape)
    blocks = counts[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return blocks.sum(axis=(1, 3)), (origin[0] / factor, origin[1] / factor)


def _mirrored(pixels: int, origin: float) -> np.ndarray:
    """Rows that are folded onto each other, about the half pixel nearest to the origin.

    Returns:
        ``[n, 2]`` int, -1 where there is none.
    """
    away = np.arange(pixels) + 0.5 - np.round(2 * origin) / 2
    fold = np.floor(np.abs(away) + 1e-9).astype(int)
    rows = np.full((fold.max() + 1, 2), -1)
    rows[fold, (away < -1e-9).astype(int)] = np.arange(pixels)
    return rows


def fold_places(
    counts: np.ndarray, mask: np.ndarray, placement: Placement, num_orders: int
) -> tuple[PixelTable, np.ndarray, np.ndarray]:
    """Folds a picture onto one quadrant about any origin; mirrored pixels keep their own place.

    Args:
        counts: ``[H, W]``.
        mask: ``[H, W]`` bool, False where a pixel is not used.
        placement: of the picture.
        num_orders: L.

    Returns:
        the table of the mean of one pixel, counts ``[M]`` and number of pixels ``[M]``, float32.
    """
    unit, (origin_x, origin_z) = placement.unit, placement.origin
    rows, columns = (
        _mirrored(n, place) for n, place in zip(placement.shape, placement.origin, strict=True)
    )
    # [fold along x, fold along z, 2, 2] to [places, 4]
    row = np.broadcast_to(rows[:, None, :, None], (len(rows), len(columns), 2, 2)).reshape(-1, 4)
    column = np.broadcast_to(columns[None, :, None, :], (len(rows), len(columns), 2, 2))
    column = column.reshape(-1, 4)
    valid = (row >= 0) & (column >= 0)
    valid &= mask[np.where(valid, row, 0), np.where(valid, column, 0)]
    keep = valid.any(1)
    row, column, valid = row[keep], column[keep], valid[keep]
    number = valid.sum(1)
    folded = np.where(valid, counts[np.where(valid, row, 0), np.where(valid, column, 0)], 0.0).sum(
        1
    )
    x, z = (row + 0.5 - origin_x) / unit, (column + 0.5 - origin_z) / unit
    weight = valid / number[:, None]
    offset = [2 * place - np.round(2 * place) for place in placement.origin]
    if np.abs(offset).max() < 1e-6:  # mirrored pixels are alike: one stands for all
        first = np.argmax(valid, axis=1)[:, None]
        x, z = np.take_along_axis(x, first, 1), np.take_along_axis(z, first, 1)
        weight = np.ones_like(x)
    table = tabulate(x, z, weight, 1 / unit, num_orders, rounded=True)
    filled, place = np.asarray(table.filled), np.asarray(table.pixel)
    sort = [np.where(filled, values[place], 0).astype(np.float32) for values in (folded, number)]
    return table, sort[0], sort[1]


@functools.partial(jax.jit, static_argnames="points")
def _profiles(shells, points):
    """Series of the density of every shell on the even grid, ``[S, points, L + 1]``."""

    def profile_of(radius, sigma, beta):
        return shell_profile(radius, sigma, beta, points)

    profiles = jax.vmap(profile_of)(shells.radius, shells.sigma, shells.beta)
    return profiles * jnp.asarray(shells.electrons)[:, None, None]


@functools.partial(jax.jit, static_argnames="width")
def _mean(profiles, background, x, z, width):
    mean = sample_pixels(jnp.sum(profiles, axis=0), x, z, width)
    if background.size:
        grid_x, grid_z = jnp.meshgrid(x, z, indexing="ij")
        terms = background_terms(grid_x.ravel(), grid_z.ravel(), background.size)
        mean += jnp.matmul(terms, background, precision="highest").reshape(mean.shape)
    return mean


def _grid(placement: Placement) -> tuple[jax.Array, jax.Array, float, int]:
    """Middles along x and z, width of a pixel, and points of the grid of profiles."""
    x, z = ((edges[:-1] + 0.5) / placement.unit for edges in placement.edges())
    points = -(-grid_points(1.02 * math.sqrt(2) * placement.reach / placement.unit) // 128) * 128
    width = round(1 / placement.unit, 12)
    return jnp.asarray(x, jnp.float32), jnp.asarray(z, jnp.float32), width, points


def mean_picture(params: PictureParams, placement: Placement) -> np.ndarray:
    """Computes the mean of every pixel of a picture that is not folded.

    Args:
        params: of one picture; the background has as many terms as are free.
        placement: of the picture.

    Returns:
        ``[H, W]`` float64.
    """
    x, z, width, points = _grid(placement)
    profiles = _profiles(params.shells, points)
    return np.asarray(_mean(profiles, params.background, x, z, width), np.float64)


def mean_rings(params: PictureParams, placement: Placement, rings: int) -> np.ndarray:
    """Computes the mean of a pixel in rings about the origin, one pixel wide, of each shell.

    The mean of P_2k(cos) over the angle in the picture is (C(2k, k) / 4^k)^2.

    Args:
        params: of one picture.
        placement: of the picture.
        rings: n; ring k covers distances from k to k + 1 pixels.

    Returns:
        ``[S, n]`` float64.
    """
    points = _grid(placement)[-1]
    profiles = np.asarray(_profiles(params.shells, points), np.float64)
    order = range(profiles.shape[-1])
    averages = np.array([(math.comb(2 * k, k) / 4**k) ** 2 for k in order])
    distance = (np.arange(4 * rings) / 4 + 1 / 8) / placement.unit
    density = [np.interp(distance, grid_distances(points), x) for x in profiles @ averages]
    return np.reshape(density, (len(density), rings, 4)).mean(2) / placement.unit**2


def origin_step(
    counts: np.ndarray,
    mask: np.ndarray,
    params: PictureParams,
    placement: Placement,
) -> tuple[np.ndarray, np.ndarray]:
    """Takes one step of Fisher scoring for the origin, everything else held.

    Means are even about the origin, their derivatives by it odd: for a picture that reaches equally
    far to all sides its information and that of all other parameters do not mix, so that the origin
    may be found by itself, and costs the others nothing.

    Args:
        counts: ``[H, W]``.
        mask: ``[H, W]`` bool.
        params: of the picture.
        placement: of the picture.

    Returns:
        step and standard error of the origin, pixels, ``[2]`` each.
    """
    mean = mean_picture(params, placement)
    # differences over a fraction of a pixel: the program of the means itself serves
    slopes = []
    for shift in (np.array([_SHIFT, 0.0]), np.array([0.0, _SHIFT])):
        ahead, behind = (mean_picture(params, placement.moved(sign * shift)) for sign in (1, -1))
        slopes.append((ahead - behind) / (2 * _SHIFT))
    weight = mask / np.maximum(mean, 1e-4 * mean.mean())
    score = np.array([np.sum((counts - mean) * weight * slope) for slope in slopes])
    fisher = np.array([[np.sum(weight * a * b) for a in slopes] for b in slopes])
    covariance = np.linalg.pinv(fisher)
    return covariance @ score, np.sqrt(np.diagonal(covariance))
