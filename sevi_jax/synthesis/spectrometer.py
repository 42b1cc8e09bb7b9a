"""Draws a picture electron by electron, as a real spectrometer takes it; knows no model of a mean.

NumPy in float64 only, by other algorithms than the model's and than the pictures that a network
learns from: no integral, no table that is inverted. So its pictures can test both. Where an
electron meets the detector is decided in this order:

1. r, cos(theta) and the azimuth of the shell (`draw_shell`),
2. the polarisation axis is turned by `angle` in the plane of the detector,
3. the ellipse, then the harmonics 3 and 4, about the origin (`bend`),
4. the blur of positions, the pixel, and the pixel's efficiency.

Angles t run from axis 0 (rows, downwards) towards axis 1 (columns); lengths are pixels; beta is the
literature's, ``I(c) = (1 + sum beta_n P_n(c)) / 4 pi``, n = 1 to 24.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.polynomial import legendre

from sevi_jax.arguments import elements, number, numbers, shown, whole
from sevi_jax.data.picture import Picture
from sevi_jax.errors import InputError

MAX_ORDER = 24
# Electrons drawn at once: some 20 MB of arrays.
_CHUNK = 2**17
# Cells of cos(theta), each with its own bounds of the density.
_CELLS = 256
# A density may be negative by this much, relative to an isotropic one, by rounding.
_ROUNDING = 1e-9
_MOST_ELECTRONS = 1e11  # are drawn one by one, in about three hours

Sampler = Callable[[np.random.Generator, int], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class TrueShell:
    """What the electrons of one shell are drawn from.

    The radius is ``radius + sigma n + tail e``, n standard normal and e standard exponential, drawn
    again where it is not positive.

    Attributes:
        radius: R, pixels; not used where there is a `sampler`.
        sigma: standard deviation of the normal part, pixels; not used where there is a `sampler`.
        electrons: mean of the number drawn, or the number itself where `exact`.
        beta: {order: value} in the literature's convention, orders 1 to 24.
        tail: tau of the exponential part, pixels, of either sign; 0 is the normal shape.
        exact: whether `electrons` is the number drawn; else it is drawn from Poisson's.
        sampler: any other distribution of r, a continuum for instance: gets a generator and N,
            returns ``[N]`` radii in pixels, of which those not positive are drawn again.
    """

    radius: float = math.nan
    sigma: float = math.nan
    electrons: float = 0.0
    beta: Mapping[int, float] = dataclasses.field(default_factory=dict)
    tail: float = 0.0
    exact: bool = False
    sampler: Sampler | None = None

    def __post_init__(self):
        if self.sampler is None:
            for name in ("radius", "sigma", "tail"):
                number(f"shell: {name}", getattr(self, name))
            if self.sigma < 0:
                raise InputError(f"sigma={self.sigma} of a shell must not be negative")
        expected = f"a number from 0 to {_MOST_ELECTRONS:g}"
        if not 0 <= number("shell: electrons", self.electrons, expected) <= _MOST_ELECTRONS:
            raise InputError(f"shell: electrons={self.electrons}: expected {expected}")
        if self.exact and self.electrons != int(self.electrons):
            raise InputError(f"electrons={self.electrons} of a shell must be whole where exact")
        if not isinstance(self.beta, Mapping):
            raise InputError(
                f"shell: beta={shown(self.beta)}: expected values by their order, as {{2: 1.2}}"
            )
        beta = {
            whole("shell: order of beta", n): number(f"shell: beta_{n}", value)
            for n, value in self.beta.items()
        }
        for order, value in beta.items():
            if not 1 <= order <= MAX_ORDER:
                raise InputError(
                    f"beta={{{order}: {value}}} of a shell: expected orders 1 to {MAX_ORDER} and "
                    "finite values"
                )
        object.__setattr__(self, "beta", beta)


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """What a picture is drawn from, and, once it is drawn, how many electrons went where.

    Attributes:
        shells: `TrueShell`, or dictionaries of its fields.
        shape: rows and columns.
        seed: of all random numbers; each shell has its own stream of them.
        origin: (row, column) from the picture's corner, anywhere; None is the middle.
        angle: of the polarisation axis from axis 0 towards axis 1, degrees.
        ellipse: (a, b): offsets (row, column) from the origin become
            ``[[1 + a, b], [b, 1 - a]]`` times themselves.
        third: (a, b): distances s become ``s (1 + a cos 3t + b sin 3t)``, t on the detector.
        fourth: the same with 4t.
        background: mean counts per pixel at full efficiency: a number, ``[H, W]``, or a function of
            (row, column) in pixels from the corner, taken at the middle of every pixel.
        off_scale: exposure of the picture over that of its off picture, which holds background
            only; None draws no off picture.
        efficiency: ``[H, W]`` in [0, 1], the probability that an electron is counted; None is 1.
        mask: ``[H, W]`` bool, False where a pixel is not to be used; handed on to the picture.
        gain: value of one electron.
        scatter: f, the relative standard deviation of the gain from pixel to pixel; the variance of
            a value of mean m is ``gain m + (f m)^2 (1 + gain / m)``.
        offset: added to every value by the camera.
        hot: ((row, column, value), ...) of pixels that hold a value of their own.
        blur: standard deviation of errors of positions, along each axis, pixels.
        drawn: electrons drawn of each shell.
        inside: those of them that met the picture's rectangle.
        counted: those of them that a pixel counted.
    """

    shells: tuple[TrueShell, ...]
    shape: tuple[int, int] = (512, 512)
    seed: int = 0
    origin: tuple[float, float] | None = None
    angle: float = 0.0
    ellipse: tuple[float, float] = (0.0, 0.0)
    third: tuple[float, float] = (0.0, 0.0)
    fourth: tuple[float, float] = (0.0, 0.0)
    background: Any = 0.0
    off_scale: float | None = None
    efficiency: np.ndarray | None = None
    mask: np.ndarray | None = None
    gain: float = 1.0
    scatter: float = 0.0
    offset: float = 0.0
    hot: tuple[tuple[int, int, float], ...] = ()
    blur: float = 0.0
    drawn: tuple[int, ...] = ()
    inside: tuple[int, ...] = ()
    counted: tuple[int, ...] = ()

    def __post_init__(self):
        shells = tuple(_shell_of(s) for s in self.shells)
        object.__setattr__(self, "shells", shells)
        expected = "(rows, columns), whole numbers, at least 2 x 2"
        sides = elements("shape", self.shape, expected)
        if len(sides) != 2 or min(whole("shape", n, expected) for n in sides) < 2:
            raise InputError(f"shape={shown(self.shape)}: expected {expected}")
        height, width = (int(n) for n in sides)
        whole("seed", self.seed)
        if self.seed < 0:
            raise InputError(f"seed={self.seed}: expected a whole number from 0 on")
        self._check_conditions()
        object.__setattr__(self, "shape", (height, width))
        if self.origin is None:
            object.__setattr__(self, "origin", (height / 2, width / 2))
        if np.hypot(*self.ellipse) >= 1 or np.hypot(*self.third) + np.hypot(*self.fourth) >= 1:
            raise InputError(
                f"ellipse={self.ellipse}, third={self.third}, fourth={self.fourth}: amplitudes "
                "must stay below 1"
            )
        for name in ("gain", "off_scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name}={value} must be a positive number")
        for name in ("scatter", "blur"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InputError(f"{name}={value} must be a number that is not negative")
        for row, column, value in self.hot:
            if not (0 <= row < height and 0 <= column < width):
                raise InputError(f"hot=({row}, {column}, {value}) lies outside the picture")
        for name in ("efficiency", "mask"):
            value = getattr(self, name)
            if value is not None and np.shape(value) != self.shape:
                raise InputError(
                    f"{name} has shape {np.shape(value)}, expected that of the picture, "
                    f"{self.shape}"
                )
        efficiency = self.efficiency
        if efficiency is not None and not np.all((efficiency >= 0) & (efficiency <= 1)):
            raise InputError("efficiency is a probability: expected numbers from 0 to 1")

    def _check_conditions(self) -> None:
        """Refuses what is no number in the fields that hold some."""
        for name in ("angle", "scatter", "offset", "blur"):
            number(name, getattr(self, name))
        for name in ("gain", "off_scale"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), "a positive number")
        for name in ("origin", "ellipse", "third", "fourth"):
            if getattr(self, name) is not None:
                numbers(name, getattr(self, name), 2, "two finite numbers")


def _shell_of(given: Any) -> TrueShell:
    """A shell of an element of `Truth.shells`."""
    if isinstance(given, TrueShell):
        return given
    if not isinstance(given, Mapping):
        raise InputError(
            f"shells: found {shown(given)}, expected a list of shells, as "
            '[{"radius": 45, "sigma": 1.5, "electrons": 2e5, "beta": {2: 1.2}}]'
        )
    return TrueShell(**_known(given, TrueShell, "shell"))


def _known(given: Mapping[str, Any], kind: type, place: str) -> dict[str, Any]:
    """The same fields, all of which a dataclass has.

    Raises:
        InputError: naming one that it has not.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    for name in given:
        if name not in names:
            raise InputError(f"{place}: unknown {name!r}, expected some of {', '.join(names)}")
    return dict(given)


def simulate(
    shells: Iterable[TrueShell | Mapping[str, Any]],
    shape: tuple[int, int] = (512, 512),
    seed: int = 0,
    **conditions: Any,
) -> Picture:
    """Draws a picture of shells, every electron by itself.

    The picture is told what a user would know (mask, efficiency, blur, off picture). Origin, angle,
    gain and the scale of the off picture are in its `truth` alone; `dataclasses.replace` hands them
    on where a fit is to know them.

    Args:
        shells: `TrueShell` each, or a dictionary of its fields: ``{"radius": 45, "sigma": 1.5,
            "electrons": 2e5, "beta": {2: 1.2}}``.
        shape: rows and columns.
        seed: of all random numbers.
        **conditions: any other field of `Truth`: ``origin=(100, 80), angle=7, background=0.05``.

    Returns:
        A `Picture` of values (counts times gain) whose `truth` is a `Truth`.

    Raises:
        InputError: a density is negative somewhere, or a field is not what it must be.
    """
    listed = elements("shells", shells, "a list of shells")
    known = _known(conditions, Truth, "simulate")
    truth = Truth(shells=tuple(listed), shape=shape, seed=seed, **known)
    # checked before the first electron is drawn
    angles = [CosineSampler(shell.beta, f"shell {k + 1}") for k, shell in enumerate(truth.shells)]
    streams = np.random.SeedSequence(seed).spawn(len(angles) + 2)
    counts = np.zeros(truth.shape, np.int64)
    tallies = []
    for shell, cosines, stream in zip(truth.shells, angles, streams[2:], strict=True):
        one, tally = _count_shell(np.random.default_rng(stream), shell, cosines, truth)
        counts += one
        tallies.append(tally)
    drawn, inside, counted = zip(*tallies, strict=True) if tallies else ((), (), ())
    counts, off = _add_background(np.random.default_rng(streams[0]), counts, truth)
    values, off = _read_out(np.random.default_rng(streams[1]), counts, off, truth)
    return Picture(
        values,
        mask=truth.mask,
        name=f"simulated, seed {seed}",
        off=off,
        efficiency=truth.efficiency,
        blur=truth.blur,
        truth=dataclasses.replace(truth, drawn=drawn, inside=inside, counted=counted),
    )


def draw_shell(
    rng: np.random.Generator, shell: TrueShell, cosines: "CosineSampler", number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draws electrons of one shell and projects them onto the detector.

    Args:
        rng: generator.
        shell: what they are drawn from.
        cosines: of the shell's beta.
        number: N.

    Returns:
        r, cos(theta), and the offsets from the origin along the polarisation axis and across it,
        each ``[N]``; lengths in pixels. The order of the electrons is not random.
    """
    r = _draw_radii(rng, shell, number)
    cosine = cosines.draw(rng, number)
    along = r * cosine
    across = r * np.sqrt((1 - cosine) * (1 + cosine))
    # half of the azimuths are enough, since the third coordinate is lost
    across *= np.cos(np.pi * rng.random(number))
    return r, cosine, along, across


def bend(rows: np.ndarray, columns: np.ndarray, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Bends offsets from the origin, ``[N]`` each: the ellipse, then the harmonics 3 and 4.

    The harmonics change distances only; their angle t is that on the detector.
    """
    a, b = truth.ellipse
    if a or b:
        rows, columns = (1 + a) * rows + b * columns, b * rows + (1 - a) * columns
    if any(truth.third) or any(truth.fourth):
        t = np.arctan2(columns, rows)
        stretch = np.ones_like(t)
        for order, (a, b) in ((3, truth.third), (4, truth.fourth)):
            stretch += a * np.cos(order * t) + b * np.sin(order * t)
        rows, columns = stretch * rows, stretch * columns
    return rows, columns


class CosineSampler:
    """Draws cos(theta) by rejection, from ``(1 + sum beta_n P_n(c)) / 2`` on [-1, 1].

    The interval is cut into cells. In each, the density's largest and smallest value are known
    exactly: they lie at the cell's edges or where the derivative is zero. A point is drawn under
    the cells' largest values; it is kept where it lies below the smallest one, and where it lies
    between the two the density decides.

    Attributes:
        edges: ``[K + 1]``, of the cells.
        lower, upper: ``[K]``, bounds of the density, times 2.
    """

    def __init__(self, beta: Mapping[int, float], name: str = "shell"):
        """Prepares the cells.

        Args:
            beta: {order: value}, the literature's.
            name: what a message calls the shell.

        Raises:
            InputError: the density is negative somewhere.
        """
        self._coefficients = np.zeros(max(beta, default=0) + 1)
        self._coefficients[0] = 1
        for order, value in beta.items():
            self._coefficients[order] = value
        self.edges = np.linspace(-1, 1, _CELLS + 1)
        at_edge = self._density(self.edges)
        self.lower = np.minimum(at_edge[:-1], at_edge[1:])
        self.upper = np.maximum(at_edge[:-1], at_edge[1:])
        # Nearly equal zeros may come out as a complex pair; its real part does as well.
        turns = np.real(legendre.legroots(legendre.legder(self._coefficients)))
        turns = turns[np.abs(turns) <= 1]
        cells = np.clip(((turns + 1) / 2 * _CELLS).astype(int), 0, _CELLS - 1)
        at_turn = self._density(turns)
        np.minimum.at(self.lower, cells, at_turn)
        np.maximum.at(self.upper, cells, at_turn)
        lowest = self.lower.min()
        if lowest < -_ROUNDING * max(1.0, self.upper.max()):
            points = np.concatenate([self.edges, turns])
            where = points[np.argmin(np.concatenate([at_edge, at_turn]))]
            raise InputError(
                f"{name}: 1 + sum beta_n P_n(cos theta) is negative, {lowest:.3g} at cos theta = "
                f"{where:.3f}; a density must not be negative"
            )
        slack = 1e-12 * self.upper.max()
        self.lower, self.upper = np.maximum(self.lower - slack, 0), self.upper + slack
        self._share = self.upper / self.upper.sum()

    def _density(self, cosine: np.ndarray) -> np.ndarray:
        return legendre.legval(cosine, self._coefficients)

    def draw(self, rng: np.random.Generator, number: int) -> np.ndarray:
        """Draws cos(theta), ``[N]``; independent of one another, but not in random order."""
        kept = []
        while number:
            # as many candidates as are missing, so that none that was accepted is thrown away
            per_cell = rng.multinomial(number, self._share)
            cosine = rng.random(number)
            cosine *= 2 / _CELLS
            cosine += np.repeat(self.edges[:-1], per_cell)
            height = rng.random(number)
            height *= np.repeat(self.upper, per_cell)
            accepted = height < np.repeat(self.lower, per_cell)
            doubtful = np.flatnonzero(~accepted)
            accepted[doubtful] = height[doubtful] < self._density(cosine[doubtful])
            kept.append(cosine[accepted])
            number -= len(kept[-1])
        return np.concatenate(kept) if kept else np.empty(0)


def _draw_radii(rng: np.random.Generator, shell: TrueShell, number: int) -> np.ndarray:
    """Draws radii, ``[N]`` pixels; those that are not positive are drawn again."""
    kept = []
    tried = 0
    missing = number
    while missing:
        if shell.sampler is None:
            r = shell.radius + shell.sigma * rng.standard_normal(missing)
            if shell.tail:
                r += shell.tail * rng.standard_exponential(missing)
        else:
            r = np.asarray(shell.sampler(rng, missing), np.float64)
            if r.shape != (missing,) or not np.isfinite(r).all():
                raise InputError(
                    f"a shell's sampler returned shape {r.shape}, expected {missing} finite radii"
                )
        positive = r > 0
        kept.append(r if positive.all() else r[positive])
        tried += missing
        missing -= len(kept[-1])
        if tried > 10_000 and number - missing < tried / 1000:
            raise InputError(
                f"radius={shell.radius}, sigma={shell.sigma}, tail={shell.tail}: fewer than one "
                "radius in 1000 is positive"
            )
    return np.concatenate(kept) if kept else np.empty(0)


def _count_shell(
    rng: np.random.Generator, shell: TrueShell, cosines: CosineSampler, truth: Truth
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Counts one shell's electrons, ``[H, W]``; and how many were drawn, met it, were counted."""
    height, width = truth.shape
    number = int(shell.electrons) if shell.exact else int(rng.poisson(shell.electrons))
    counts = np.zeros(height * width, np.int64)
    for first in range(0, number, _CHUNK):
        _, _, along, across = draw_shell(rng, shell, cosines, min(_CHUNK, number - first))
        rows, columns = _place(rng, along, across, truth)
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        if not inside.all():
            rows, columns = rows[inside], columns[inside]
        pixel = rows.astype(np.int64)
        pixel *= width
        pixel += columns.astype(np.int64)
        counts += np.bincount(pixel, minlength=counts.size)
    counts = counts.reshape(truth.shape)
    counted = counts if truth.efficiency is None else rng.binomial(counts, truth.efficiency)
    return counted, (number, int(counts.sum()), int(counted.sum()))


def _place(
    rng: np.random.Generator, along: np.ndarray, across: np.ndarray, truth: Truth
) -> tuple[np.ndarray, np.ndarray]:
    """Turns, bends and blurs offsets, ``[N]`` each; returns rows and columns from the corner."""
    cosine, sine = np.cos(np.radians(truth.angle)), np.sin(np.radians(truth.angle))
    if truth.angle:
        along, across = cosine * along - sine * across, sine * along + cosine * across
    rows, columns = bend(along, across, truth)
    if truth.blur:
        rows = rows + truth.blur * rng.standard_normal(len(rows))
        columns = columns + truth.blur * rng.standard_normal(len(columns))
    assert truth.origin is not None
    return rows + truth.origin[0], columns + truth.origin[1]


def _add_background(
    rng: np.random.Generator, counts: np.ndarray, truth: Truth
) -> tuple[np.ndarray, np.ndarray | None]:
    """Adds the background's counts, and draws the off picture, both ``[H, W]``."""
    mean = truth.background
    if callable(mean):
        mean = mean(*np.mgrid[: truth.shape[0], : truth.shape[1]] + 0.5)
    mean = np.broadcast_to(np.asarray(mean, np.float64), truth.shape)
    if not np.all((mean >= 0) & (mean < np.inf)):
        raise InputError("background: expected numbers that are not negative in every pixel")
    if truth.efficiency is not None:
        mean = mean * truth.efficiency
    counts = counts + rng.poisson(mean)
    return counts, None if truth.off_scale is None else rng.poisson(mean / truth.off_scale)


def _read_out(
    rng: np.random.Generator, counts: np.ndarray, off: np.ndarray | None, truth: Truth
) -> tuple[np.ndarray, np.ndarray | None]:
    """Turns counts into the camera's values: gain of every pixel, offset, hot pixels."""
    gain = truth.gain
    if truth.scatter:
        gain = gain * np.maximum(1 + truth.scatter * rng.standard_normal(truth.shape), 0)
    values = gain * counts + truth.offset
    off = None if off is None else gain * off + truth.offset
    for row, column, value in truth.hot:
        values[row, column] = value
        if off is not None:
            off[row, column] = value
    return values, off
