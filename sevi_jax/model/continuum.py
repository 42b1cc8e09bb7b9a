"""A density of the radius of any form: cubic splines of the radius, and their series on the grid.

I(r), the electrons per pixel of r, and I(r) beta_n(r) are sums of cubic splines on nodes one
pixel apart, which grow wider beyond the picture. The series of each spline is an integral over the
line of sight (`physics.series`), done here by Gauss's rule between the knots. It depends on the
knots, the orders and the blur alone, so that one matrix serves all evaluations.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.model import center
from sevi_jax.model.components import Grid
from sevi_jax.physics.series import cosine_transform, legendre_values

_LINE_NODES = 6  # of Gauss's rule between two knots
_CLOSEST = 0.28  # pixels: mean of 1 / s over a pixel that is centred on s = 0 is 1 / 0.2837
_CLOSE = 3.0  # of the blur: as in `shapes.blurred`
_OUTER = 12  # splines beyond the picture
_GROWTH = 1.3  # ratio of the distances of their knots


@dataclasses.dataclass(frozen=True)
class Continuum:
    """A density of any form in a model.

    Inside a model its parameters are the coefficients of the splines of I, and then those of
    I beta_n for every order, in which the means are linear; electrons per pixel.

    Attributes:
        reach: largest distance of a pixel from the origin, pixels.
        spacing: of the knots within it, pixels.
        orders: n of the free beta_n, ascending, each from 1 to 24.
        halved: numbers of the intervals between knots within the picture, the first one from
            -`spacing` to 0, that have a knot in their middle too, ascending.
    """

    reach: float
    spacing: float = 1.0
    orders: tuple[int, ...] = (2,)
    halved: tuple[int, ...] = ()

    @functools.cached_property
    def inner(self) -> int:
        """How many knots above 0 lie within the picture."""
        return int(np.ceil(self.reach / self.spacing))

    @functools.cached_property
    def nodes(self) -> np.ndarray:
        """Nodes, ascending from one below 0 to beyond the picture, ``[K]`` pixels."""
        inside = np.arange(-1.0, self.inner + 1)
        beyond = self.inner + np.cumsum(_GROWTH ** np.arange(1.0, _OUTER + 1))
        between = np.array(self.halved) - 0.5
        return self.spacing * np.sort(np.concatenate([inside, between, beyond]))

    @property
    def count(self) -> int:
        """K, nodes."""
        return len(self.nodes)

    @property
    def size(self) -> int:
        """How many parameters it has."""
        return self.count * (1 + len(self.orders))

    def names(self) -> list[str]:
        """Names of the parameters, as results call them."""
        parts = ("intensity", *(f"harmonic{n}" for n in self.orders))
        return [f"{part}_{k}" for part in parts for k in range(self.count)]

    def values_at(self, r: np.ndarray) -> np.ndarray:
        """Values of all splines at some radii, ``[len(r), K]``; 0 beyond the nodes."""
        nodes = self.nodes
        place = np.clip(np.searchsorted(nodes, r, side="right") - 1, 1, len(nodes) - 3)
        found = np.zeros((len(r), self.count))
        unit = (r - nodes[place]) / (nodes[place + 1] - nodes[place])
        powers = unit[:, None] ** np.arange(4)
        local = _local_splines(nodes)[place - 1]
        for i in range(4):
            found[np.arange(len(r)), place - 1 + i] = np.sum(powers * local[:, i], axis=1)
        found[(r < 0) | (r > nodes[-2])] = 0.0
        return found

    def means_at(self, r: np.ndarray) -> np.ndarray:
        """Means of all splines from r - 1/2 to r + 1/2, for whole r, ``[len(r), K]``.

        Knots are at multiples of half a pixel: Gauss's rule of two points in each half is exact.
        """
        offset = np.array([-0.25, 0.25])[:, None] + np.array([-0.25, 0.25]) / math.sqrt(3)
        return np.mean([self.values_at(r + x) for x in offset.ravel()], axis=0)

    def integrals(self) -> np.ndarray:
        """Integral of every spline over r > 0, ``[K]`` pixels."""
        local, width = _local_splines(self.nodes), np.diff(self.nodes)[1:-1]
        pieces = (local / np.arange(1.0, 5.0)).sum(axis=-1) * width[:, None]  # [J, 4]
        found = np.zeros(self.count)
        for i in range(4):
            found[i : i + len(pieces)] += pieces[:, i]
        return found

    def columns(self, grid: Grid) -> np.ndarray:
        """The series of one electron per pixel of every parameter, ``[G, M, size]``, float32.

        0 farther out than `reach`.
        """
        return _on_grid(self, grid.modes, grid.step, grid.points, grid.variance)

    def central_columns(self, modes: tuple[int, ...], variance: float) -> np.ndarray:
        """The same times s, at the distances of `center.distances`, ``[_POINTS, M, size]``."""
        return _central(self, modes, variance)


def _local_splines(nodes: np.ndarray) -> np.ndarray:
    """Cubics of the four nodes about every interval by powers of its own unit, ``[J, 4, 4]``.

    Axes: interval (from the second node on), node (the one before it first), power.
    """
    found = []
    for j in range(1, len(nodes) - 2):
        unit = (nodes[j - 1 : j + 3] - nodes[j]) / (nodes[j + 1] - nodes[j])
        found.append(np.linalg.inv(unit[:, None] ** np.arange(4)).T)
    return np.array(found)


@functools.lru_cache(maxsize=4)
def _on_grid(
    continuum: Continuum, modes: tuple[int, ...], step: float, points: int, variance: float
) -> np.ndarray:
    distances = (np.arange(points) - 1.0) * step
    inside = int(np.sum(distances <= continuum.reach + 4 * step))
    found = np.zeros((points, len(modes), continuum.size), np.float32)
    found[:inside] = _columns(
        continuum, np.maximum(np.abs(distances[:inside]), _CLOSEST), modes, variance
    )
    found.setflags(write=False)
    return found


@functools.lru_cache(maxsize=4)
def _central(continuum: Continuum, modes: tuple[int, ...], variance: float) -> np.ndarray:
    s = np.maximum(center.distances(), 1e-4)
    return _columns(continuum, s, modes, variance) * s[:, None, None].astype(np.float32)


def _columns(
    continuum: Continuum, distances: np.ndarray, modes: tuple[int, ...], variance: float
) -> np.ndarray:
    """Series of all nodes and orders at some distances, ``[G, M, size]``."""
    nodes = continuum.nodes
    begin, width = nodes[1:-2], np.diff(nodes)[1:-1]
    # few different numbers of distances: programs are compiled for it
    padded = np.full(-(-len(distances) // 256) * 256, distances[-1])
    padded[: len(distances)] = distances
    numbers = (padded, begin, width, _local_splines(nodes), variance)
    single = (jnp.asarray(x, jnp.float32) for x in numbers)
    every = np.asarray(_series_of_pieces(*single, (0, *continuum.orders), modes))[: len(distances)]
    found = np.zeros((*every.shape[:3], continuum.count), np.float32)
    for i in range(4):
        found[..., i : i + len(begin)] += every[..., i]
    return found.reshape(len(distances), len(modes), -1)


@functools.partial(jax.jit, static_argnames=("orders", "modes"))
def _series_of_pieces(s, begin, width, local, variance, orders, modes):
    """Series of the pieces of splines in every interval, ``[G, M, L, J, 4]``."""
    node, weight = np.polynomial.legendre.leggauss(_LINE_NODES)
    node, weight = node.astype(np.float32), weight.astype(np.float32)
    cosine, to_series = cosine_transform(modes)
    end = begin + width

    def of_distance(s):
        def angle_of(r):
            return jnp.arcsinh(jnp.sqrt(jnp.maximum((r - s) * (r + s), 0.0)) / s)

        low, high = angle_of(jnp.maximum(begin, s)), angle_of(end)
        half = 0.5 * (high - low)
        u = (low + half)[:, None] + half[:, None] * node  # [J, Q]
        ratio = 1 / jnp.cosh(u)
        r = s / ratio
        measure = half[:, None] * weight * ratio / (2 * math.pi * s)
        splines = _blurred_splines(r, begin, width, local, variance)
        share = variance / jnp.maximum(r, _CLOSE * jnp.sqrt(variance) + 1e-6) ** 2
        at_angles = [legendre_values(ratio * c, orders) for c in cosine]  # [A][L], [J, Q]
        found = []
        for m in range(len(modes)):
            of_mode = []
            for i, n in enumerate(orders):
                wave = sum(float(to_series[k, m]) * x[i] for k, x in enumerate(at_angles))
                wave = wave * measure * jnp.exp(-0.5 * n * (n + 1) * share)
                of_mode.append(jnp.stack([jnp.sum(wave * x, axis=1) for x in splines], axis=-1))
            found.append(jnp.stack(of_mode))
        return jnp.stack(found)

    return jax.lax.map(of_distance, s, batch_size=8)


def _blurred_splines(r, begin, width, local, variance):
    """The four splines of every interval at ``[J, Q]``, blurred by the width of a pixel.

    A blur b^2 makes f + b^2 / 2 (f'' - 2 f' / r + 2 f / r^2) of f, to first order in b^2: that is
    `shapes.blurred` with f * N_b = f + b^2 / 2 f''.
    """
    inverse = 1 / jnp.maximum(r, _CLOSE * jnp.sqrt(variance) + 1e-6)
    unit, per = (r - begin[:, None]) / width[:, None], 1 / width[:, None]
    found = []
    for i in range(4):
        c = [local[:, i, p, None] for p in range(4)]
        value = c[0] + unit * (c[1] + unit * (c[2] + unit * c[3]))
        first = (c[1] + unit * (2 * c[2] + unit * 3 * c[3])) * per
        second = (2 * c[2] + 6 * unit * c[3]) * per * per
        change = second - 2 * inverse * first + 2 * inverse * inverse * value
        found.append(value + 0.5 * variance * change)
    return found
