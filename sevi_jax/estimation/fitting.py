"""From one picture to fitted shells: origin, start, fit, goodness; knows no file and no format."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from sevi_jax.arguments import elements, number, shown, truth, whole
from sevi_jax.data.picture import POLARISATIONS, Picture
from sevi_jax.errors import InputError
from sevi_jax.estimation import freeform, noise
from sevi_jax.estimation import goodness as good
from sevi_jax.estimation.even_rings import EvenRings
from sevi_jax.estimation.finding import MOST_SHELLS, Guess, find_shells
from sevi_jax.estimation.needless import without_needless
from sevi_jax.estimation.origin import find_edge_origin, find_origin, find_ring_origin
from sevi_jax.estimation.positivity import Positivity
from sevi_jax.estimation.preparing import Prepared, prepare
from sevi_jax.estimation.scoring import (
    Found,
    Limits,
    Quadratic,
    Reason,
    Term,
    covariance,
    foreseen,
    search,
)
from sevi_jax.model import geometry as geo
from sevi_jax.model.components import Shell
from sevi_jax.model.continuum import Continuum
from sevi_jax.model.means import BACKGROUNDS, Layout
from sevi_jax.model.picture_model import Data, Model, PictureModel, Values, ideal_distance
from sevi_jax.physics.series import modes_for
from sevi_jax.physics.shapes import SHAPES

FREE = (*geo.GROUPS, "efficiency")
_REACHES = 8.0  # pixels: the reach of a continuum is a multiple of it
_FEWEST_PIXELS = 10  # along a side: where a smaller one ends no ring is seen
_COARSE = 320  # pixels along a side are enough to find shells
_WIDEST_START = 0.03  # of half a picture: a shell that is looked for does not cover several
_FIRST_TAIL = 0.7  # of sigma, in either direction: where the search for a tail begins
_FIRST_LOOK = 3  # shells that the origin is found from where their number is free
_IDLE = 0.1  # of all electrons: a shell with fewer may be one that was not found
_FEW, _HOPEFUL = 4, 3  # evaluations of every start, and how many of them are followed
_SEEN = 10.0  # standard errors: or is seen beyond doubt
_MOVED = 0.3  # pixels of the rebinned picture: then shells are looked for again
_UNLIKELY = 1e-3  # p-value, or 1 less it, at which the noise is looked at
_QUICK_SEARCHES = 2
_FIRST_SEARCH, _LAST_SEARCH = 20, 60  # evaluations, at most
_UNKNOWN = (
    0.4  # of 2 n + 1: an error of beta_n that says nothing, 2 for beta_2, which is in -1 .. 2
)
_UNKNOWN_SIGMA = 0.3  # pixels: the pixel's own width
_ORDERS = "a list of whole numbers from 1 to 24, as orders=(2,) or (2, 4)"


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be fitted.

    Attributes:
        orders: of each shell, inner first; of a shell where the number is to be found.
        shape: of the density of every radius.
        free: groups of the geometry, and efficiency, that are free.
        background: one of `means.BACKGROUNDS`.
        range: (low, high), distance from the origin of the pixels that are used, pixels, or None.
        positive: whether densities are kept from falling below 0.
        count_is_free: whether the number of shells is found out.
        continuum: orders of a density of any form beside the shells; None is without one.
    """

    orders: tuple[tuple[int, ...], ...]
    shape: str = "normal"
    free: tuple[str, ...] = ("origin",)
    background: str = "none"
    range: tuple[float, float] | None = None
    positive: bool = False
    count_is_free: bool = False
    continuum: tuple[int, ...] | None = None

    def __post_init__(self):
        if self.shape not in SHAPES:
            raise InputError(f"shape={self.shape!r}: expected one of {', '.join(SHAPES)}")
        if self.background not in BACKGROUNDS:
            names = ", ".join(BACKGROUNDS)
            raise InputError(f"background={self.background!r}: expected one of {names}")
        for name in self.free:
            if name not in FREE:
                raise InputError(f"free={name!r}: expected some of {', '.join(FREE)}")
        for orders in (*self.orders, self.continuum or ()):
            if any(not 1 <= n <= 24 for n in orders) or list(orders) != sorted(set(orders)):
                raise InputError(f"orders={orders}: expected different numbers from 1 to 24")

    @property
    def shells(self) -> tuple[Shell, ...]:
        """The shells of the model."""
        return tuple(Shell(orders, self.shape) for orders in self.orders)

    def beside(self, data: Data, geometry: np.ndarray) -> Continuum | None:
        """The continuum beside the shells, which reaches as far as any pixel that is used."""
        if self.continuum is None:
            return None
        used = data.exposure.ravel() > 0
        row, column = (x[used] for x in data.middles)
        reach = float(ideal_distance(row, column, geometry).max())
        # few different ones: a table and a program belong to each
        reach = _REACHES * np.ceil((reach + 1) / _REACHES)
        return Continuum(float(reach), 1.0, self.continuum)

    @property
    def modes(self) -> tuple[int, ...]:
        """Of the series of all components."""
        every = [n for orders in (*self.orders, self.continuum or ()) for n in orders]
        return modes_for(tuple(sorted(set(every))))

    def layout(self, prepared: Prepared, scale_is_free: bool) -> Layout:
        """All other parameters of the model."""
        index = tuple(
            sorted(i for name in self.free if name in geo.GROUPS for i in geo.GROUPS[name])
        )
        return Layout(
            self.modes, index, BACKGROUNDS[self.background], "efficiency" in self.free,
            prepared.on is not None and scale_is_free, prepared.normal,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A fitted picture, in the parameters of the model.

    Attributes:
        picture: as it was given.
        prepared: its electrons; pixels that are out of range have no exposure.
        request: what was fitted.
        model: data and model.
        found: where the search ended; shells sorted by radius.
        covariance: of the vector ``[P, P]``; NaN where the counts do not determine it.
        goodness: how well it fits.
    """

    picture: Picture
    prepared: Prepared
    request: Request
    model: PictureModel
    found: Found
    covariance: np.ndarray
    goodness: good.Goodness

    @property
    def origin(self) -> tuple[float, float]:
        """(row, column), pixels from the corner."""
        return origin_of(self.found.values.geometry, self.picture.shape)


def origin_of(geometry: np.ndarray, shape: tuple[int, int]) -> tuple[float, float]:
    """Origin from the corner, from one that is measured from the middle."""
    return float(geometry[0] + shape[0] / 2), float(geometry[1] + shape[1] / 2)


def geometry_at(origin: tuple[float, float], shape: tuple[int, int], degrees: float) -> np.ndarray:
    """The geometry of round rings about an origin."""
    found = np.zeros(len(geo.NAMES))
    found[:3] = origin[0] - shape[0] / 2, origin[1] - shape[1] / 2, np.deg2rad(degrees)
    return found


def angle_of(polarisation: float | str) -> float:
    """Angle of a polarisation from axis 0, degrees, of a name or a number.

    Raises:
        InputError: for anything else.
    """
    if isinstance(polarisation, str):
        if polarisation in POLARISATIONS:
            return POLARISATIONS[polarisation]
        with contextlib.suppress(ValueError):
            polarisation = float(polarisation)
    return number("polarisation", polarisation, f"{', '.join(POLARISATIONS)} or degrees")


def request_of(
    shells: int | str,
    orders: Sequence[int] | Sequence[Sequence[int]],
    shape: str,
    free: Sequence[str],
    background: str,
    range: tuple[float, float] | None,
    positive: bool,
    continuum: Sequence[int] | None = None,
) -> Request:
    """Makes a request of arguments as people give them.

    Raises:
        InputError: naming the argument.
    """
    is_free = shells == "auto"
    least = 1 if continuum is None else 0
    count = 1
    if not is_free:
        expected = f'a number from 1 to {MOST_SHELLS}, or "auto"'
        count = whole("shells", shells, expected)
        if not least <= count <= MOST_SHELLS:
            raise InputError(f"shells={shells!r}: expected {expected}")
    per_shell = orders_of(orders)
    if not _is_per_shell(orders):
        per_shell *= count
    elif len(per_shell) != count or is_free:
        raise InputError(f"orders: {len(per_shell)} lists for shells={shells}")
    if continuum is not None and is_free:
        raise InputError('shells="auto": with a continuum the number of shells is to be given')
    wide = None if continuum is None else order_list(continuum)
    names = elements("free", free, f"a list of some of {', '.join(FREE)}, as free=('origin',)")
    if range is not None:
        range = _range_of(range)
    names = dict.fromkeys(names)  # one that is named twice is free once
    return Request(
        per_shell, shape, tuple(names), background, range, truth("positive", positive), is_free,
        wide,
    )  # fmt: skip


def order_list(orders: Any) -> tuple[int, ...]:
    """Orders of beta of an argument.

    Raises:
        InputError: they are no list of whole numbers.
    """
    return tuple(whole("orders", n, _ORDERS) for n in elements("orders", orders, _ORDERS))


def orders_of(orders: Any) -> tuple[tuple[int, ...], ...]:
    """Orders of every shell, or one list of them that is for all shells.

    Raises:
        InputError: they are no lists of whole numbers.
    """
    if _is_per_shell(orders):
        return tuple(order_list(own) for own in orders)
    return (order_list(orders),)


def _is_per_shell(orders: Any) -> bool:
    listed = elements("orders", orders, _ORDERS)
    return any(isinstance(x, Sequence | np.ndarray) and not isinstance(x, str) for x in listed)


def _range_of(limits: Any) -> tuple[float, float]:
    """Limits of the radius, of which the upper one may be infinite."""
    expected = "(low, high) with low < high, pixels"
    low, high = (
        x if _is_infinite(x) else number("range", x, expected)
        for x in _pair("range", limits, expected)
    )
    if not low < high:
        raise InputError(f"range={shown(limits)}: expected {expected}")
    return float(low), float(high)


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and value == np.inf


def _pair(name: str, value: Any, expected: str) -> list[Any]:
    found = elements(name, value, expected)
    if len(found) != 2:
        raise InputError(f"{name}={shown(value)}: expected {expected}")
    return found


def fit_picture(
    picture: Picture,
    request: Request,
    start: Values | None = None,
    prior: Quadratic | None = None,
) -> Fitted:
    """Fits the shells of one picture.

    Args:
        picture: counts with what is known of them.
        request: what is fitted.
        start: values to begin at; None finds them in the picture.
        prior: for maximum a posteriori; of the vector of the model, shells inner first.

    Raises:
        InputError: no pixel is used, or no count is there.
    """
    if prior is not None and not hasattr(prior, "evaluate"):
        raise InputError(f"prior={shown(prior)}: expected a Gaussian prior, or None")
    prepared, request, geometry = _prepared(picture, request, start)
    scale = prepared.data.off_scale
    layout = request.layout(prepared, picture.off_scale is None)
    model = Model(request.shells, layout, request.beside(prepared.data, geometry))
    if start is None and model.continuum is not None:
        values = start_beside(prepared, model, geometry, scale)
    elif start is None:
        model, values = find_start(prepared, model, request, geometry, scale)
        request = dataclasses.replace(request, orders=tuple(s.orders for s in model.shells))
    else:
        values = dataclasses.replace(start, geometry=geometry, off_scale=scale)
    limits = limits_for(prepared.data)
    added: list[Term] = [] if prior is None else [prior]
    if request.positive:
        added.append(Positivity(model))
    if layout.efficiency:
        added.append(EvenRings(prepared.data, model, values.geometry[:2]))
    while True:
        fitted = PictureModel(prepared.data, model, values)
        values = _nearer(fitted, values, limits, added)
        # where shells may still be left out the search need not end
        is_first = request.count_is_free and len(model.shells) > 1
        iterations = _FIRST_SEARCH if is_first else _LAST_SEARCH
        fitted, found, matrix, known = _searched(fitted, values, limits, added, iterations)
        model = fitted.model
        if is_first:
            fitted, found = without_needless(fitted, found, limits, added)
            model = fitted.model
            request = dataclasses.replace(request, orders=tuple(s.orders for s in model.shells))
            found, matrix, known = _finished(in_order(found, model))
        judged = _judged(prepared, fitted, found, matrix, known)
        scale_error = float(np.sqrt(max(matrix[-1, -1], 0.0))) if _has_scale(matrix, model) else 0.0
        likely = min(judged.p_value, 1 - judged.p_value) > _UNLIKELY
        again = noise.revised(prepared, fitted, found.values, scale_error, likely)
        if again is None:
            break
        prepared, values = again
        limits = limits_for(prepared.data)
        layout = dataclasses.replace(layout, normal=prepared.normal)
        model = dataclasses.replace(model, layout=layout)
    reason = found.reason
    if matrix is None or not determined(found, matrix, model, prepared.data):
        reason = Reason.SINGULAR if reason is Reason.CONVERGED else reason
    if matrix is None:
        matrix = np.full((model.size, model.size), np.nan)
    found = dataclasses.replace(found, reason=reason)
    return Fitted(picture, prepared, request, fitted, found, matrix, judged)


def _prepared(
    picture: Picture, request: Request, start: Values | None
) -> tuple[Prepared, Request, np.ndarray]:
    """The pixels that are fitted, what is fitted where the origin is known, and the geometry."""
    if start is not None and not isinstance(start, Values):
        raise InputError(f"start={shown(start)}: expected values of the model, or None")
    prepared = prepare(picture)
    geometry, known = first_geometry(picture, prepared, start)
    if known and "origin" in request.free:
        kept = tuple(name for name in request.free if name != "origin")
        request = dataclasses.replace(request, free=kept)
    prepared = in_range(prepared, request.range, geometry)
    if min(picture.shape) < _FEWEST_PIXELS:
        height, width = picture.shape
        raise InputError(
            f"{picture.name}: found {height} x {width} pixels, expected at least "
            f"{_FEWEST_PIXELS} x {_FEWEST_PIXELS} to fit"
        )
    return prepared, request, geometry


def _nearer(fitted: PictureModel, values: Values, limits: Limits, added: list[Term]) -> Values:
    """Values nearer to the end, by quick searches, where pixels are many and integrated over."""
    if fitted.bands and fitted.sorted.chunks:
        for _ in range(_QUICK_SEARCHES):
            quick = fitted.quick(values)
            values = search(quick, values, limits, added, _LAST_SEARCH, tolerance=0.3).values
            fitted.ensure_sorted(values)
    return values


def _searched(
    fitted: PictureModel, values: Values, limits: Limits, added: list[Term], iterations: int
) -> tuple[PictureModel, Found, np.ndarray | None, float]:
    """The model, where the search ends, and of it what `_finished` says."""
    if fitted.model.continuum is not None:
        free = freeform.search(fitted, values, limits, added)
        fitted, free = freeform.refined(fitted, free, limits, added)
        return fitted, free.found, free.covariance, free.known
    found = in_order(search(fitted, values, limits, added, iterations), fitted.model)
    return fitted, *_finished(found)


def _finished(found: Found) -> tuple[Found, np.ndarray | None, float]:
    """A search, its covariance, and how many parameters the counts do not determine.

    That number is of what prior and positivity determine.
    """
    matrix = covariance(found)
    known = 0.0
    if matrix is not None:
        known = float(np.sum((found.information - found.evaluation.information) * matrix))
    return found, matrix, known


def _has_scale(matrix: np.ndarray | None, model: Model) -> TypeGuard[np.ndarray]:
    """Whether the exposure of the off picture has an error."""
    return matrix is not None and model.layout.off_scale


def _judged(
    prepared: Prepared, fitted: PictureModel, found: Found, matrix: np.ndarray | None, known: float
) -> good.Goodness:
    """Judges a fit by the noise that it has."""
    matrix = np.zeros_like(found.information) if matrix is None else np.nan_to_num(matrix)
    if prepared.noise.estimated or prepared.on is not None:
        return noise.judged(prepared, fitted, found.values, fitted.model.size - known)
    return good.judge(fitted, found.values, matrix, known)


def first_geometry(
    picture: Picture, prepared: Prepared, start: Values | None
) -> tuple[np.ndarray, bool]:
    """Geometry to begin at, and whether the origin is known."""
    if picture.origin is not None:
        return geometry_at(picture.origin, picture.shape, picture.polarisation), True
    if start is not None:
        return start.geometry, False
    data = prepared.data
    factor = max(1, -(-max(picture.shape) // (2 * _COARSE)))
    coarse = rebinned(data, factor)
    inside = find_origin(coarse.counts, coarse.exposure)
    edge = find_edge_origin(coarse.counts, coarse.exposure, inside)
    row, column = inside if edge is None else edge
    more = -(-max(coarse.counts.shape) // _COARSE)
    small = rebinned(coarse, more)
    by_rings = find_ring_origin(small.counts, small.exposure, (row / more, column / more))
    if by_rings is not None:
        row, column = by_rings[0] * more, by_rings[1] * more
    origin = row * factor, column * factor
    return geometry_at(origin, picture.shape, picture.polarisation), False


def in_range(
    prepared: Prepared, limits: tuple[float, float] | None, geometry: np.ndarray
) -> Prepared:
    """Leaves out the pixels whose distance from the origin is out of range.

    Raises:
        InputError: no pixel is left.
    """
    data = prepared.data
    exposure = data.exposure
    if limits is not None:
        row, column = data.middles
        distance = np.hypot(row - geometry[0], column - geometry[1]).reshape(exposure.shape)
        exposure = np.where((distance >= limits[0]) & (distance <= limits[1]), exposure, 0.0)
    if not (exposure > 0).any():
        raise InputError(f"range={limits}: no pixel of the picture is used: see mask and range")
    counts = np.where(exposure > 0, data.counts, 0.0)
    if not counts.any():
        raise InputError("a picture without counts, expected electrons")
    return dataclasses.replace(
        prepared, data=dataclasses.replace(data, counts=counts, exposure=exposure)
    )


def limits_for(data: Data) -> Limits:
    """Ranges that fit a picture's size."""
    total = max(float(np.sum(data.counts)), 1.0)
    reach = float(np.hypot(*data.counts.shape))
    return Limits((0.05, 1.5 * reach), (0.1, 0.5 * reach), (1e-4 * total, 10 * total))


def rebinned(data: Data, factor: int) -> Data:
    """Sums blocks of pixels; pixels at the far edges that fill no block are left out."""
    if factor == 1:
        return data
    height, width = (pixels // factor for pixels in data.counts.shape)

    def summed(values):
        cut = values[: height * factor, : width * factor]
        return cut.reshape(height, factor, width, factor).sum(axis=(1, 3))

    exposure = summed(data.exposure) / factor**2
    variance = 1 / 12 + (data.variance - 1 / 12) / factor**2
    off, spread = (None if x is None else summed(x) for x in (data.off, data.noise))
    return Data(summed(data.counts), exposure, off, variance, spread, data.off_scale)


def scaled(values: Values, model: Model, factor: float, shift: np.ndarray) -> Values:
    """The same values in pixels `factor` times smaller; `shift` is added to the origin."""
    shells = []
    for shell, v in zip(model.shells, values.shells, strict=True):
        new = np.array(v)
        new[: shell.lengths] *= factor
        shells.append(new)
    geometry = np.array(values.geometry)
    geometry[:2] = geometry[:2] * factor + shift
    return dataclasses.replace(
        values, shells=tuple(shells), geometry=geometry, background=values.background / factor**2
    )


def find_start(
    prepared: Prepared, model: Model, request: Request, geometry: np.ndarray, off_scale: float
) -> tuple[Model, Values]:
    """Finds start values, and the shells where their number is free.

    Shells are looked for on rings of the rebinned picture, and fitted to that. Where the origin has
    moved on the way, or the number of shells is free, that was a first look for the origin alone,
    and they are looked for again about the new one.
    """
    data = prepared.data
    factor = max(1, -(-max(data.counts.shape) // _COARSE))
    coarse = rebinned(data, factor)
    # the middle of the rebinned picture, where pixels at the far edge are left out
    lost = [(n - (n // factor) * factor) / 2 for n in data.counts.shape]
    shift = -np.array(lost)
    small = np.array(geometry)
    small[:2] = (geometry[:2] - shift) / factor
    search_in = Start(coarse, model, request, off_scale, factor == 1)
    count = None if request.count_is_free else len(model.shells)
    found = search_in.shells(small, _FIRST_LOOK if count is None else count)
    moved = np.hypot(*(found.values.geometry[:2] - small[:2]))
    if count is None or moved > _MOVED:
        again = search_in.shells(found.values.geometry, count)
        if count is None or again.evaluation.deviance < found.evaluation.deviance:
            found = again
    if count is None:
        shell = model.shells[0]
        model = dataclasses.replace(model, shells=(shell,) * len(found.values.shells))
    return model, scaled(found.values, model, factor, shift)


def start_beside(
    prepared: Prepared, model: Model, geometry: np.ndarray, off_scale: float
) -> Values:
    """Start values of shells on a continuum: the highest rings of a distribution of any form.

    Raises:
        InputError: fewer rings than shells are seen.
    """
    shells, continuum = model.shells, model.continuum
    assert continuum is not None
    alone = Values((), geometry, off_scale=off_scale, continuum=np.zeros(continuum.size))
    if not shells:
        return alone
    whole = dataclasses.replace(model, shells=())
    fitted = PictureModel(prepared.data, whole, alone)
    even = [EvenRings(prepared.data, whole, geometry[:2])] if model.layout.efficiency else []
    free = freeform.search(fitted, alone, limits_for(prepared.data), even)
    rings, left = freeform.rings(free, continuum, len(shells))
    if len(rings) < len(shells):
        raise InputError(
            f"shells={len(shells)}: only {len(rings)} rings stand out from the continuum"
        )
    orders = (0, *continuum.orders)
    values = []
    for shell, ring in zip(shells, rings, strict=True):
        own = dict(zip(orders, ring[2:], strict=True))
        lengths = [ring[0], ring[1], 0.0][: shell.lengths]
        values.append(np.array([*lengths, *(own.get(n, 0.0) for n in (0, *shell.orders))]))
    return dataclasses.replace(free.found.values, shells=tuple(values), continuum=left)


@dataclasses.dataclass(frozen=True)
class Start:
    """Looks for shells in a small picture.

    Attributes:
        data: the picture.
        model: the shells that are wanted.
        request: likewise.
        off_scale: exposure over that of the off picture.
        exact: whether pixels that are wide against a shell are integrated over.
    """

    data: Data
    model: Model
    request: Request
    off_scale: float
    exact: bool = True

    def shells(self, geometry: np.ndarray, count: int | None) -> Found:
        """Finds shells about an origin and fits them to the picture; None finds their number."""
        limits = limits_for(self.data)
        narrow = dataclasses.replace(limits, sigma=(0.3, max(3.0, _WIDEST_START * self.data.half)))
        shells = self.model.shells
        orders = tuple(sorted({n for shell in shells for n in shell.orders})) or (2,)
        with_background = self.request.background != "none"
        guess = find_shells(self.data, Values((), geometry), count, orders, narrow, with_background)
        if self.request.count_is_free:
            shells = (shells[0],) * len(guess.shells)
        model = dataclasses.replace(self.model, shells=shells)
        values = self._values(guess, model, orders[: len(guess.shells[0]) - 3], geometry)
        attempts = [values]
        if self.request.shape == "skewed":
            attempts = [_with_tails(values, sign * _FIRST_TAIL) for sign in (1, -1)]
        picture = PictureModel(self.data, model, attempts[0], self.exact)
        found = [search(picture, v, limits, iterations=15, tolerance=1.0) for v in attempts]
        best = min(found, key=lambda x: x.evaluation.deviance)
        if self.request.count_is_free:
            return best
        # rings are too coarse for shells within a pixel of each other: one is found, and nothing
        fewest = _IDLE * float(self.data.counts.sum())
        again = [
            search(picture, v, limits, iterations=_FEW, tolerance=1.0)
            for v in _with_halves(best, model, fewest)
        ]
        hopeful = sorted(again, key=foreseen)[:_HOPEFUL]
        again = [search(picture, x.values, limits, iterations=15, tolerance=1.0) for x in hopeful]
        return min([best, *again], key=lambda x: self._price(x, model))

    def _price(self, found: Found, model: Model) -> float:
        """The deviance, with what a shell that the counts do not determine took from noise.

        It has nothing else to fit, and lowers the deviance by 1 for every parameter.
        """
        matrix = covariance(found)
        seen = matrix is not None and determined(found, matrix, model, self.data)
        return found.evaluation.deviance + (0 if seen else model.shells[0].size)

    def _values(
        self, guess: Guess, model: Model, orders: tuple[int, ...], geometry: np.ndarray
    ) -> Values:
        """A guess on rings as values of the model."""
        shells = []
        in_order = sorted(guess.shells, key=lambda v: v[0])
        for shell, v in zip(model.shells, in_order, strict=True):
            beta = dict(zip(orders, v[3:], strict=True))
            lengths = [v[0], v[1], 0.0][: shell.lengths]
            shells.append(np.array([*lengths, v[2], *(beta.get(n, 0.0) for n in shell.orders)]))
        background = np.zeros(BACKGROUNDS["smooth"])
        background[0] = guess.background
        return Values(tuple(shells), geometry, background, off_scale=self.off_scale)


def _with_tails(values: Values, tail: float) -> Values:
    """Gives every shell a tail of so many sigma, and keeps its mean and variance."""
    shells = []
    for v in values.shells:
        sigma = v[1] / np.sqrt(1 + tail * tail)
        shells.append(np.array([v[0] - tail * sigma, sigma, tail * sigma, *v[3:]]))
    return dataclasses.replace(values, shells=tuple(shells))


def _with_halves(best: Found, model: Model, fewest: float) -> list[Values]:
    """The same with a shell of too few electrons left out, and another one as two halves."""
    found, values, place = [], best.values, model.shells[0].lengths
    if len({shell.size for shell in model.shells}) > 1:
        return found
    electrons = np.array([v[place] for v in values.shells])
    idle = int(np.argmin(electrons))
    if len(electrons) < 2 or electrons[idle] >= fewest:
        return found
    matrix = covariance(best)
    own = model.starts[idle] + place
    if matrix is not None and electrons[idle] > _SEEN * np.sqrt(matrix[own, own]):
        return found
    for i, v in enumerate(values.shells):
        if i != idle:
            shells = list(values.shells)
            for index, side in ((idle, -1), (i, 1)):
                half = np.array(v)
                half[0] += 0.6 * side * v[1]
                half[1] *= 0.8
                half[place:] *= 0.5
                shells[index] = half
            found.append(dataclasses.replace(values, shells=tuple(shells)))
    return found


def in_order(found: Found, model: Model) -> Found:
    """Sorts shells of the same parameters by radius."""
    shells = found.values.shells
    order = np.argsort([v[0] for v in shells], kind="stable")
    if (np.diff(order) > 0).all() or len({shell.size for shell in model.shells}) > 1:
        return found
    index = [i for place in order for i in range(*model.part(int(place)).indices(model.size))]
    rest = range(model.starts[len(model.shells)], model.size)
    index = np.array(index + list(rest), int)
    evaluation = dataclasses.replace(
        found.evaluation,
        score=found.evaluation.score[index],
        information=found.evaluation.information[np.ix_(index, index)],
    )
    return dataclasses.replace(
        found,
        values=dataclasses.replace(found.values, shells=tuple(shells[i] for i in order)),
        evaluation=evaluation,
        information=found.information[np.ix_(index, index)],
    )


def determined(found: Found, matrix: np.ndarray, model: Model, data: Data) -> bool:
    """Whether the counts tell every parameter: none has an error as large as what it may be.

    Radius, sigma and number of electrons are to be known to a factor, sigma to a third of a pixel
    at least; beta_n to 0.4 (2 n + 1), where -1 to 2 for beta_2 are possible; the origin to half the
    outermost ring, the angle to half a radian, bends to 0.2; backgrounds to the mean count, the
    logarithm of the efficiency to 1, and the exposure of the off picture to itself.

    Args:
        found: where the search ended.
        matrix: covariance of the vector.
        model: what was free.
        data: the picture.
    """
    variance = np.diagonal(matrix)
    if not (np.isfinite(variance).all() and (variance >= 0).all()):
        return False
    return bool((np.sqrt(variance) < _largest_errors(found.values, model, data)).all())


def _largest_errors(values: Values, model: Model, data: Data) -> np.ndarray:
    """Errors from which on a parameter is not known, ``[P]``; a continuum has bands instead."""
    found, outermost = [], 1.0
    for shell, v in zip(model.shells, values.shells, strict=True):
        width = v[1] + (abs(v[2]) if shell.lengths == 3 else 0.0)
        outermost = max(outermost, v[0] + width)
        electrons = abs(v[shell.lengths])
        found += [max(v[0], width), max(width, _UNKNOWN_SIGMA)]
        found += [max(width, _UNKNOWN_SIGMA)] if shell.lengths == 3 else []
        found += [electrons, *(_UNKNOWN * (2 * n + 1) * electrons for n in shell.orders)]
    found += [np.inf] * len(values.continuum)
    used = data.exposure > 0
    level = float(data.counts[used].sum() / data.exposure[used].sum())
    kinds = {"origin": outermost / 2, "angle": 0.5, "background": level, "efficiency": 1.0,
             "off": max(abs(values.off_scale), 1e-9)}  # fmt: skip
    found += [kinds.get(name.partition("_")[0], 0.2) for name in model.layout.columns]
    return np.array(found)
