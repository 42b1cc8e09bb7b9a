"""Causes in words: what is the matter with a picture, how much, and what helps; computes no fit."""

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import scipy.special

from sevi_jax.data.hot import Defects
from sevi_jax.estimation.spot import Spot
from sevi_jax.model.means import smooth_terms
from sevi_jax.model.picture_model import Model, Values


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why a model does not describe a picture.

    Attributes:
        kind: "origin", "tilt", "axis" (the other one), "ellipse", "harmonics 3", "harmonics 4",
            "order 1" and so on, "tail", "shell", "background", "smooth background",
            "left and right", "top and bottom", "efficiency", "hot pixels", "dead pixels", "gain",
            "central spot".
        shell: number of the shell it is about, from 1, as the fit numbers them; None of others.
        size: in the unit of `unit`.
        error: standard error of the size.
        unit: of size and error.
        significance: standard deviations of a normal number that are as improbable.
        sentence: what is the matter, how much, and what helps.
    """

    kind: str
    shell: int | None
    size: float
    error: float
    unit: str
    significance: float
    sentence: str


@dataclasses.dataclass(frozen=True)
class Demand:
    """Parameters that were held and that the counts demand.

    Attributes:
        kind: as in `Cause`.
        names: of the parameters.
        change: from the values at which they were held.
        covariance: of the change.
        values: of everything, with these free.
        model: what has these values.
        factor: pixels of the picture in one of the values', along a side.
        counts: of the picture, in the values' pixels, ``[H, W]``; 0 where they are not used.
        orders: that the fit had.
        number: of the shell, from 1, or None.
        chance: logarithm of the probability that chance is as large.
    """

    kind: str
    names: tuple[str, ...]
    change: np.ndarray
    covariance: np.ndarray
    values: Values
    model: Model
    factor: int
    counts: np.ndarray
    orders: tuple[int, ...]
    number: int | None
    chance: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the picture."""
        return self.counts.shape

    @property
    def errors(self) -> np.ndarray:
        """Standard errors of the changes."""
        return np.sqrt(np.maximum(np.diagonal(self.covariance), 0.0))

    @property
    def length(self) -> tuple[float, float]:
        """Length of the change and its error."""
        size = float(np.hypot.reduce(self.change))
        along = self.change / max(size, 1e-300)
        return size, float(np.sqrt(along @ self.covariance @ along))


def in_words(demand: Demand) -> Cause:
    """Says what is demanded."""
    number, size, error, unit, sentence = _WORDS[demand.kind.split()[0]](demand)
    deviations = _deviations(demand.chance)
    return Cause(demand.kind, number, float(size), float(error), unit, deviations, sentence)


def defects_in_words(defects: Defects) -> list[Cause]:
    """Says which pixels are hot or dead."""
    found = []
    for kind, pixels in (("hot", defects.hot), ("dead", defects.dead)):
        where = np.argwhere(pixels)
        if not len(where):
            continue
        listed = ", ".join(f"({i}, {k})" for i, k in where[:6])
        listed += f" and {len(where) - 6} more" if len(where) > 6 else ""
        count = f"{len(where)} {kind} pixel" + ("s" if len(where) > 1 else "")
        text = f"{count} at (row, column) {listed}: mask them (mask= or --mask=FILE)"
        found.append(Cause(f"{kind} pixels", None, float(len(where)), 0.0, "pixels", np.inf, text))
    return found


def spot_in_words(spot: Spot, high: float) -> Cause:
    """Says that a bright spot in the centre is not described.

    Args:
        spot: what was found.
        high: largest distance of a pixel that was used.
    """
    limits = f"{spot.radius:.3g},{math.ceil(high)}"
    text = (
        f"a bright spot in the centre, {with_error(spot.electrons, spot.error)} electrons within "
        f"{spot.radius:.3g} pixels, is not described: range=({limits}) (--range={limits}) leaves "
        "it out"
    )
    deviations = spot.electrons / max(spot.error, 1e-9)
    return Cause("central spot", None, spot.electrons, spot.error, "electrons", deviations, text)


def gain_in_words(size: float, error: float, deviations: float) -> Cause:
    """Says that electrons do not count as 1."""
    text = (
        f"an electron counts as {with_error(size, error)}, the variance of single pixels over "
        f"their mean, and not as the gain that was given: gain={size:.3g} (--gain={size:.3g})"
    )
    return Cause("gain", None, size, error, "", deviations, text)


def with_error(value: float, error: float) -> str:
    """A number with its error, which is given two digits."""
    if not (np.isfinite(error) and error > 0):
        return f"{value:.3g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} +- {error:.{digits}f}"


def _deviations(chance: float) -> float:
    """Standard deviations of a normal number with this logarithm of its two-sided probability."""
    if chance > -600:
        return float(-scipy.special.ndtri(math.exp(chance) / 2))
    return math.sqrt(-2 * chance)


# One function per kind, from a demand to the shell's number, size, error, unit and sentence.

_Words = tuple[int | None, float, float, str, str]


def _origin(demand: Demand) -> _Words:
    size, error = (demand.factor * x for x in demand.length)
    text = (
        f"the origin lies {with_error(size, error)} pixels from the one that was given: give none "
        "and fit it, free=('origin',) (--free=origin)"
    )
    return None, size, error, "pixels", text


def _tilt(demand: Demand) -> _Words:
    size, error = (float(np.rad2deg(x)) for x in (demand.change[0], demand.errors[0]))
    angle = float(np.rad2deg(demand.values.geometry[2]))
    text = (
        f"the polarisation is turned by about {with_error(size, error)} degrees: "
        f"free=('angle',) (--free=angle) or polarisation={angle:.3g}"
    )
    return None, size, error, "degrees", text


def _axis(demand: Demand) -> _Words:
    size, error = (float(np.rad2deg(x)) for x in (demand.change[0], demand.errors[0]))
    text = (
        "with the polarisation turned by 90 degrees the picture fits better beyond doubt: see "
        "polarisation (--polarisation)"
    )
    return None, size, error, "degrees", text


def _bent(demand: Demand) -> _Words:
    size, error = (100 * x for x in demand.length)
    fold = 2 if demand.kind == "ellipse" else int(demand.kind[-1])
    longest = float(np.rad2deg(math.atan2(demand.change[1], demand.change[0]))) / fold
    flag = "ellipse" if fold == 2 else "harmonics"
    what = "ellipses" if fold == 2 else f"bent {fold}-fold"
    parts = ", ".join(
        f"{name} = {with_error(100 * v, 100 * e)}"
        for name, v, e in zip(demand.names, demand.change, demand.errors, strict=True)
    )
    text = (
        f"the rings are {what}, by about {with_error(size, error)} per cent, longest at "
        f"{longest:.0f} degrees from axis 0 ({parts} per cent): free=('{flag}',) (--free={flag})"
    )
    return None, size, error, "per cent", text


def _order(demand: Demand) -> _Words:
    n = int(demand.kind.split()[1])
    betas = []
    for name, change, error in zip(demand.names, demand.change, demand.errors, strict=True):
        shell = int(name.rsplit("_", 1)[1]) - 1
        electrons = demand.values.shells[shell][demand.model.shells[shell].lengths]
        betas.append((shell + 1, change / electrons, error / electrons))
    number, size, error = max(betas, key=lambda x: abs(x[1]) / x[2])
    each = ", ".join(f"{with_error(b, e)} in shell {i}" for i, b, e in betas)
    orders = ",".join(map(str, sorted({*demand.orders, n})))
    text = f"beta_{n} is missing ({each}): orders=({orders}) (--orders={orders})"
    return number, size, error, "beta", text


def _tail(demand: Demand) -> _Words:
    assert demand.number is not None
    sigma = demand.values.shells[demand.number - 1][1]
    size, error = demand.change[0] / sigma, demand.errors[0] / sigma
    side = "outwards" if size > 0 else "inwards"
    text = (
        f"shell {demand.number} has a tail {side} of {with_error(abs(size), error)} sigma: "
        "shape='skewed' (--shape=skewed)"
    )
    return demand.number, size, error, "sigma", text


def _shell(demand: Demand) -> _Words:
    assert demand.number is not None
    radius, sigma = demand.factor * demand.values.shells[demand.number - 1][:2]
    size, error = demand.change[0], demand.errors[0]
    count = len(demand.model.shells)
    text = (
        f"a shell is missing at R = {radius:.4g} pixels (sigma {sigma:.2g}, "
        f"{with_error(size, error)} electrons): shells={count} (--shells={count}), or a range "
        "without it"
    )
    return demand.number, size, error, "electrons", text


def _background(demand: Demand) -> _Words:
    size, error = (x / demand.factor**2 for x in (demand.change[0], demand.errors[0]))
    text = (
        f"there is a background of {with_error(size, error)} electrons per pixel: "
        "background='constant' (--background=constant)"
    )
    return None, size, error, "electrons per pixel", text


def _smooth_background(demand: Demand) -> _Words:
    own = smooth_on(demand.values.background, demand.shape)
    # where electrons are seen: elsewhere nothing tells it
    size = float(np.ptp(own[demand.counts > 0])) / demand.factor**2
    error = size / _errors_of(demand)
    text = (
        f"there is a background that varies by {with_error(size, error)} electrons per pixel: "
        "background='smooth' (--background=smooth)"
    )
    return None, size, error, "electrons per pixel", text


def _efficiency(demand: Demand) -> _Words:
    size, error = (100 * x for x in _around_rings(demand))
    text = (
        f"the detector's efficiency varies by {with_error(size, error)} per cent (rms) around the "
        f"rings: {_EFFICIENCY_HELPS}"
    )
    return None, size, error, "per cent", text


def _around_rings(demand: Demand) -> tuple[float, float]:
    """Root mean square of the efficiency's logarithm off the mean of its ring, and its error.

    It is taken where electrons are, without what the errors of the terms add to it. How the means
    of rings differ is hardly told from numbers of electrons, and between rings nothing tells it.
    """
    row, column = (np.arange(n) + 0.5 - n / 2 for n in demand.shape)
    origin = demand.values.geometry[:2]
    ring = np.hypot(row[:, None] - origin[0], column - origin[1]).astype(int).ravel()
    weight = np.maximum(demand.counts, 0.0).ravel()
    total = np.maximum(np.bincount(ring, weight), 1e-30)
    terms = []
    for term in _terms_on(len(demand.values.efficiency) + 1, demand.shape)[1:]:
        term = term.ravel()
        terms.append(term - (np.bincount(ring, weight * term) / total)[ring])
    gram = (np.array(terms) * weight) @ np.array(terms).T / weight.sum()
    index = np.array([int(name.rpartition("_")[2]) - 1 for name in demand.names])
    along = gram @ demand.values.efficiency
    square = float(demand.values.efficiency @ along)
    noise = float(np.sum(gram[np.ix_(index, index)] * demand.covariance))
    size = math.sqrt(max(square - noise, 0.25 * square))
    return size, math.sqrt(float(along[index] @ demand.covariance @ along[index])) / size


def _sides(demand: Demand) -> _Words:
    across = demand.kind == "left and right"
    edge = demand.shape[1 if across else 0] / max(demand.shape)
    size, error = (200 * edge * x for x in (demand.change[0], demand.errors[0]))
    low, high = ("left", "right") if across else ("top", "bottom")
    more, less = (high, low) if size > 0 else (low, high)
    text = (
        f"{low} and {high} differ: the efficiency rises by {with_error(abs(size), error)} per cent "
        f"from the {less} edge to the {more} edge: {_EFFICIENCY_HELPS}"
    )
    return None, size, error, "per cent", text


_EFFICIENCY_HELPS = "free=('efficiency',) (--free=efficiency), or a picture of the efficiency"


def _errors_of(demand: Demand) -> float:
    """How many of its errors the whole change is."""
    inner = np.linalg.pinv(demand.covariance, hermitian=True)
    return max(math.sqrt(float(demand.change @ inner @ demand.change)), 1e-9)


def smooth_on(coefficients: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The smooth function of these coefficients at every pixel, ``[H, W]``."""
    return np.tensordot(coefficients, _terms_on(len(coefficients), shape), 1)


def _terms_on(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """The first terms of a smooth function at every pixel, ``[number, H, W]``."""
    half = max(shape) / 2
    row, column = ((np.arange(n, dtype=np.float32) + 0.5 - n / 2) / half for n in shape)
    along, across = np.meshgrid(row, column, indexing="ij")
    terms = smooth_terms(jnp.asarray(along), jnp.asarray(across), number)
    return np.stack([np.asarray(t) for t in terms])


_WORDS: dict[str, Callable[[Demand], _Words]] = {
    "origin": _origin, "tilt": _tilt, "axis": _axis, "ellipse": _bent, "harmonics": _bent,
    "order": _order, "tail": _tail, "shell": _shell, "background": _background,
    "smooth": _smooth_background, "efficiency": _efficiency, "left": _sides, "top": _sides,
}  # fmt: skip
