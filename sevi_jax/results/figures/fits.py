"""Figures of a `Fit`: what is drawn is taken from it and from nothing else."""

import dataclasses
import functools
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from sevi_jax.errors import InputError
from sevi_jax.model.means import smooth_terms
from sevi_jax.model.picture_model import component_series, ideal_distance
from sevi_jax.results.figures.pictures import fit_picture
from sevi_jax.results.figures.rings import radial_profile
from sevi_jax.results.figures.shells import beta_values, densities
from sevi_jax.results.figures.style import Drawing, png

if TYPE_CHECKING:
    from sevi_jax.results.fit import Fit

KINDS = ("fit", "rings", "densities", "betas")


@dataclasses.dataclass(frozen=True)
class Pixels:
    """What a fit says of the pixels, electrons; all ``[H, W]``.

    Attributes:
        counts: less the off picture.
        mean: of that.
        variance: of that.
        used: whether a pixel is.
    """

    counts: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    used: np.ndarray


def draw(fit: "Fit", kind: str) -> Drawing:
    """Draws a figure of a fit.

    Args:
        fit: what is drawn.
        kind: one of `KINDS`.

    Raises:
        InputError: another kind, or betas where no order was fitted.
    """
    if kind not in KINDS:
        raise InputError(f"plot({kind!r}): expected one of {', '.join(KINDS)}")
    if kind == "betas" and not has_betas(fit):
        raise InputError("plot('betas'): no order was fitted")
    return {"fit": _picture, "rings": _rings, "densities": _densities, "betas": _betas}[kind](fit)


def drawings(fit: "Fit") -> dict[str, bytes]:
    """All figures of a fit by their kind, as PNG files."""
    kinds = [kind for kind in KINDS if kind != "betas" or has_betas(fit)]
    return {kind: png(draw(fit, kind)) for kind in kinds}


def has_betas(fit: "Fit") -> bool:
    """Whether any order was fitted."""
    return any(shell.beta for shell in fit.shells)


def pixels_of(fit: "Fit") -> Pixels:
    """Counts, means and variances of all pixels."""
    data = fit.fitted.prepared.data
    used = data.exposure > 0
    counts, mean = (np.where(used, x, 0.0) for x in (data.counts, fit.mean_electrons))
    variance = mean if data.noise is None else np.where(used, data.noise, 0.0)
    return Pixels(counts, mean, variance, used)


def to_detector(points: np.ndarray, geometry: np.ndarray) -> np.ndarray:
    """Where points of the ideal picture lie on the detector; the reverse of `model.geometry`.

    Args:
        points: z and x, pixels, ``[n, 2]``.
        geometry: `model.geometry.NAMES`.

    Returns:
        Row and column from the middle of the picture, ``[n, 2]``.
    """
    g = geometry
    cosine, sine = np.cos(g[2]), np.sin(g[2])
    turned = points @ np.array([[cosine, sine], [-sine, cosine]])
    found = turned @ np.array([[1 + g[3], g[4]], [g[4], 1 - g[3]]])
    t = np.arctan2(found[:, 1], found[:, 0])
    growth = np.ones(len(t))
    for m in (3, 4):
        growth += g[2 * m - 1] * np.cos(m * t) + g[2 * m] * np.sin(m * t)
    return found * growth[:, None] + g[:2]


def _picture(fit: "Fit") -> Drawing:
    pixels, geometry = pixels_of(fit), fit.fitted.found.values.geometry
    middle = np.array(fit.shape) / 2
    t = np.linspace(0, 2 * np.pi, 361)
    circle = np.stack([np.cos(t), np.sin(t)], axis=1)
    rings = [
        to_detector(circle * shell.radius.nominal_value, geometry) + middle for shell in fit.shells
    ]
    largest = max((shell.radius.nominal_value for shell in fit.shells), default=0.0)
    farthest = 1.1 * largest or 0.45 * min(fit.shape)
    axis = to_detector(np.array([[-farthest, 0.0], [farthest, 0.0]]), geometry) + middle
    return fit_picture(pixels.counts, pixels.mean, pixels.variance, pixels.used, rings, axis)


def _rings(fit: "Fit") -> Drawing:
    """Rings one pixel wide, as far as any pixel is used."""
    pixels, fitted = pixels_of(fit), fit.fitted
    values, model = fitted.found.values, fitted.model
    used = pixels.used.ravel()
    row, column = (x[used] for x in model.data.middles)
    ring = ideal_distance(row, column, values.geometry).astype(np.int64)
    first, last = int(ring.min()), int(ring.max()) + 1
    total = functools.partial(np.bincount, ring - first, minlength=last - first)
    counts, mean, variance = (
        total(x.ravel()[used]) for x in (pixels.counts, pixels.mean, pixels.variance)
    )
    exposure = model.data.exposure.ravel()[used]
    middle, grid = np.arange(first, last) + 0.5, model.grid
    parts = [
        np.interp(middle, grid.distances, component_series(part, v, grid)[0][:, 0])
        for part, v in zip(model.model.shells, values.shells, strict=True)
    ]
    shells = np.array(parts).reshape(-1, len(middle)) * total(exposure)
    background = np.zeros(len(middle))
    if terms := model.model.layout.background:
        place = [jnp.asarray(x / model.data.half) for x in (row, column)]
        level = np.zeros(len(row))
        for k, term in enumerate(smooth_terms(place[0], place[1], terms)):
            level += values.background[k] * np.asarray(term, np.float64)
        background = total(exposure * level)
    # averages over angles are those of whole rings: of rings that are cut, or where the efficiency
    # varies, the parts add up to the mean
    sum_of_parts = shells.sum(0)
    share = (mean - background) / np.where(sum_of_parts > 0, sum_of_parts, 1.0)
    if fit.distribution is None:
        shells = shells * np.where(sum_of_parts > 1e-6 * mean.max(), np.maximum(share, 0.0), 1.0)
    elif len(shells):
        background = np.maximum(mean - sum_of_parts, 0.0)  # all that is beneath the shells
    radius = np.array([shell.radius.nominal_value for shell in fit.shells])
    edges = np.arange(first, last + 1).astype(np.float64)
    return radial_profile(edges, counts, mean, variance, shells, background, radius)


def _betas_of(fit: "Fit") -> tuple[list[dict[int, float]], list[dict[int, float]]]:
    value = [{n: x.nominal_value for n, x in shell.beta.items()} for shell in fit.shells]
    error = [{n: x.std_dev for n, x in shell.beta.items()} for shell in fit.shells]
    return value, error


def _densities(fit: "Fit") -> Drawing:
    model, covariance = fit.fitted.model.model, []
    for number, shell in enumerate(model.shells):
        part = model.part(number)
        betas = slice(part.stop - len(shell.orders), part.stop)
        covariance.append(fit.covariance[betas, betas])
    return densities(_betas_of(fit)[0], covariance)


def _betas(fit: "Fit") -> Drawing:
    value, error = _betas_of(fit)
    error = [{n: np.nan_to_num(e) for n, e in own.items()} for own in error]
    return beta_values(value, error, np.array([s.radius.nominal_value for s in fit.shells]))
