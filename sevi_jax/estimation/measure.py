"""From one picture of counts, of any size, to its fitted shells: origin, start, fit, goodness.

The likelihood is fitted to the picture folded about its origin, which loses nothing; how well it
fits is judged pixel by pixel, unfolded, so that a tilt or an odd order shows.
"""

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.errors import InputError
from sevi_jax.estimation.fit import Fit, FitSpec, fit_places, upper_tail
from sevi_jax.estimation.information import (
    FreeParameters,
    GaussianPrior,
    PictureParams,
    to_row,
)
from sevi_jax.estimation.placing import (
    Placement,
    find_origin,
    fold_places,
    mean_picture,
    origin_step,
    rebin_about,
)
from sevi_jax.estimation.rings import find_rings
from sevi_jax.estimation.start import find_shells
from sevi_jax.physics.types import ShellParams

_LARGEST = 1100  # pixels along a side; larger pictures are rebinned
_FEW = 4  # so many shells are looked for one by one, however close; more, as peaks
_COARSE = 160  # pixels along a side are enough to find a few shells
_ORIGIN_STEPS = 6
_ORIGIN_SHARE = 0.02  # of sigma: so far off the origin widens a ring by 2e-4 of its sigma


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be fitted.

    Attributes:
        orders: per shell, inner first, the even orders whose beta is free.
        background: number of background terms, 0, 1 or 6.
        origin: pixels, or None to find it.
        positive: whether densities are kept from falling below 0.
        reach: (low, high), distance from the origin of the pixels that are used, pixels; None uses
            all.
        blur: known standard deviation of the errors of electron positions, along x and along z
            each, half-widths.
    """

    orders: tuple[tuple[int, ...], ...]
    background: int = 0
    origin: tuple[float, float] | None = None
    positive: bool = False
    reach: tuple[float, float] | None = None
    blur: float = 0.0

    @property
    def free(self) -> FreeParameters:
        """The free parameters."""
        return FreeParameters(self.orders, self.background)


@dataclasses.dataclass(frozen=True)
class Measured:
    """A fitted picture.

    Attributes:
        counts: the counts fitted (rebinned if the picture was very large), ``[H, W]`` float64.
        mask: pixels used.
        mean: the fitted means.
        placement: where the origin is, pixels of `counts`.
        origin_error: standard error of the origin, pixels; NaN where it was given.
        rebinned: pixels of the picture along each side of one of `counts`.
        fit: the fit, B = 1, lengths in `placement.unit` pixels.
        free: its free parameters.
        deviance: of all pixels, not folded.
        degrees_of_freedom: pixels less what the counts determine.
        expected_deviance: what the deviance is on average if the model is right.
        p_value: probability of a larger deviance then.
        dispersion: variance of the counts over that of Poisson numbers, at least 1: what errors
            must be scaled by the square root of. See `overdispersion`.
        blur: as in `Request`; `fit` and `mean` describe the picture as it is, `sharp` takes it off.
    """

    counts: np.ndarray
    mask: np.ndarray
    mean: np.ndarray
    placement: Placement
    origin_error: np.ndarray
    rebinned: int
    fit: Fit
    free: FreeParameters
    deviance: float
    degrees_of_freedom: float
    expected_deviance: float
    p_value: float
    dispersion: float
    blur: float

    @functools.cached_property
    def sharp(self) -> Fit:
        """The fit of the electrons before their positions were blurred."""
        return without_blur(self.fit, self.free, self.blur / self.placement.half_widths)


def measure(
    counts: np.ndarray,
    request: Request,
    mask: np.ndarray | None = None,
    start: PictureParams | None = None,
    prior: GaussianPrior | None = None,
) -> Measured:
    """Fits the shells of one picture.

    Args:
        counts: ``[H, W]``, first axis x, second z.
        request: what is fitted.
        mask: ``[H, W]`` bool, False where a pixel is not used; None uses all.
        start: start values of one picture, in half-widths; None finds them in the picture.
        prior: for maximum a posteriori, in half-widths.

    Raises:
        InputError: the origin lies outside the picture, or no pixel is used.
    """
    counts = np.asarray(counts, np.float64)
    used = np.ones(counts.shape, bool) if mask is None else np.array(mask, bool)
    origin = find_origin(np.where(used, counts, 0.0)) if request.origin is None else request.origin
    if not all(0 < place < pixels for place, pixels in zip(origin, counts.shape, strict=True)):
        raise InputError(
            f"origin {origin[0]:g},{origin[1]:g} lies outside the picture of "
            f"{counts.shape[0]} x {counts.shape[1]} pixels"
        )
    if request.reach is not None:
        distance = Placement(counts.shape, origin).distances()
        used &= (distance >= request.reach[0]) & (distance <= request.reach[1])
    if not used.any():
        raise InputError("no pixel of the picture is used: see mask and range")
    rebinned = -(-max(counts.shape) // _LARGEST)
    if rebinned > 1:
        spoiled, _ = rebin_about(np.where(used, 0.0, 1.0), origin, rebinned)
        counts, origin = rebin_about(np.where(used, counts, 0.0), origin, rebinned)
        used = spoiled == 0
    placement = Placement(counts.shape, origin)
    free = request.free
    spec = _spec(free, placement, positive=request.positive)
    with ThreadPoolExecutor(1) as worker:  # beside the search, which compiles on one core
        places = worker.submit(fold_places, counts, used, placement, free.num_orders)
        if start is None:
            params = _find(counts, used, placement, request)
        else:
            params = _scaled(start, 1 / placement.half_widths)
        table, folded, number = places.result()
    if prior is not None:
        prior = _scaled_prior(prior, free, 1 / placement.half_widths)
    params = jax.tree.map(lambda x: jnp.asarray(x)[None], params)
    error = np.full(2, np.nan)
    # shells and origin in turns: they hardly depend on each other
    for _ in range(_ORIGIN_STEPS):
        places = (jnp.asarray(x)[None, None] for x in (folded, number))
        found = fit_places(*places, params, spec, table, prior=prior)
        params = found.params
        if request.origin is not None:
            break
        single = jax.tree.map(lambda x: x[0], params)
        step, error = origin_step(counts, used, single, placement)
        placement = placement.moved(np.clip(step, -1.0, 1.0))
        # folded about a point that is off by d, a ring looks wider by d^2 / 2 sigma only
        harmless = _ORIGIN_SHARE * float(jnp.min(single.shells.sigma)) * placement.unit
        if (np.abs(step) < np.maximum(0.3 * error, harmless)).all():
            break
        table, folded, number = fold_places(counts, used, placement, free.num_orders)
    found = jax.tree.map(np.asarray, found)
    mean = mean_picture(jax.tree.map(lambda x: jnp.asarray(x[0]), found.params), placement)
    floor = 1e-7 * counts[used].mean()
    deviance = _deviance(counts[used], np.maximum(mean[used], floor))
    variance = float(found.deviance_variance[0])
    p_value = float(
        upper_tail(
            jnp.float32(deviance), jnp.asarray(found.expected_deviance[0]), jnp.float32(variance)
        )
    )
    return Measured(
        counts,
        used,
        mean,
        placement,
        error,
        rebinned,
        found,
        free,
        deviance,
        float(found.degrees_of_freedom[0]),
        float(found.expected_deviance[0]),
        p_value,
        overdispersion(counts, mean, used, p_value),
        request.blur,
    )


def without_blur(fit: Fit, free: FreeParameters, blur: float) -> Fit:
    """Takes a known blur of the positions off fitted shells.

    A normal blur b in the picture is one in space (what happens along y is not seen), and spreads
    densities as heat does: after the "time" b^2 / 2 a thin shell at R has its mean radius at
    R + b^2 / R, its variance grown by b^2, and its term of order l shrunk by
    exp(-l (l + 1) b^2 / 2 R^2), to first order in (b / R)^2.

    Args:
        fit: of one or more pictures.
        free: its parameters.
        blur: b, in the fit's unit of length.

    Returns:
        The fit with params, errors and covariance of the shells before the blur. A sigma that is
        not larger than the blur by half a per cent counts as a tenth of itself.
    """
    if not blur:
        return fit
    shells = jax.tree.map(lambda x: np.asarray(x, np.float64), fit.params.shells)
    spread = blur**2 / shells.radius**2
    sigma = np.sqrt(np.maximum(shells.sigma**2 - blur**2, (0.1 * shells.sigma) ** 2))
    order = 2.0 * np.arange(1, free.num_orders + 1)
    growth = np.exp(order * (order + 1) * spread[..., None] / 2)
    slopes = ShellParams(1 + spread, shells.sigma / sigma, np.ones_like(sigma), growth)
    sharp = dataclasses.replace(
        shells, radius=shells.radius * (1 - spread), sigma=sigma, beta=shells.beta * growth
    )
    ones = jnp.ones_like(fit.params.background)
    slope = np.asarray(to_row(PictureParams(slopes, ones), free), np.float64)
    errors = jax.tree.map(
        lambda error, factor: np.asarray(error) * factor, fit.errors.shells, slopes
    )
    return dataclasses.replace(
        fit,
        params=PictureParams(sharp, fit.params.background),
        errors=PictureParams(errors, fit.errors.background),
        covariance=np.asarray(fit.covariance) * slope[:, :, None] * slope[:, None, :],
    )


def _spec(free: FreeParameters, placement: Placement, **choices) -> FitSpec:
    """Ranges that fit the picture's size."""
    zoom = placement.reach / placement.unit
    return FitSpec(free, radius=(0.02 * zoom, 1.4 * zoom), sigma=(0.002, 0.1 * zoom), **choices)


def _scaled(params: PictureParams, factor: float) -> PictureParams:
    """The same parameters where a length of 1 is called `factor`."""
    shells = params.shells
    shells = dataclasses.replace(shells, radius=shells.radius * factor, sigma=shells.sigma * factor)
    return PictureParams(shells, params.background)


def _scaled_prior(prior: GaussianPrior, free: FreeParameters, factor: float) -> GaussianPrior:
    """The same prior where a length of 1 is called `factor`."""
    is_length = [name.partition("_")[0] in ("R", "sigma") for name in free.names]
    scale = np.where(is_length, factor, 1.0).astype(np.float32)
    return GaussianPrior(prior.mean * scale, prior.precision / (scale[:, None] * scale))


def _find(
    counts: np.ndarray, mask: np.ndarray, placement: Placement, request: Request
) -> PictureParams:
    """Finds starting values: of a few shells on a rebinned picture."""
    if len(request.orders) > _FEW:
        return find_rings(counts, mask, placement, request.free)
    factor = max(1, round(max(counts.shape) / _COARSE))
    coarse, origin = rebin_about(np.where(mask, counts, 0.0), placement.origin, factor)
    spoiled, _ = rebin_about(np.where(mask, 0.0, 1.0), placement.origin, factor)
    small = Placement(coarse.shape, origin)
    # any shell may be any of those asked for until they are sorted
    orders = tuple(sorted({n for orders in request.orders for n in orders}))
    free = FreeParameters((orders,) * len(request.orders), request.background)
    table, *places = fold_places(coarse, spoiled == 0, small, free.num_orders)
    folded, used = (jnp.asarray(x)[None, None] for x in places)
    guess = find_rings(coarse, spoiled == 0, small, free)
    guess = jax.tree.map(lambda x: x[None], guess)
    params = find_shells(folded, used, _spec(free, small), table, guess=guess)
    params = jax.tree.map(lambda x: np.array(x[0]), params)
    order = np.argsort(params.shells.radius)
    shells = jax.tree.map(lambda x: x[order], params.shells)
    beta = shells.beta.copy()
    for shell, chosen in enumerate(request.orders):
        others = [i for i in range(beta.shape[1]) if 2 * i + 2 not in chosen]
        beta[shell, others] = 0.0
    params = PictureParams(dataclasses.replace(shells, beta=beta), params.background / factor**2)
    return _scaled(params, factor * small.unit / placement.unit)


def _deviance(counts: np.ndarray, mean: np.ndarray) -> float:
    """Poisson deviance, float64."""
    ratio = np.where(counts > 0, counts / mean, 1.0)
    return float(2 * np.sum(counts * np.log(ratio) - counts + mean))


def overdispersion(counts: np.ndarray, mean: np.ndarray, mask: np.ndarray, p_value: float) -> float:
    """Estimates how much more than Poisson numbers the counts scatter about the means.

    Pearson's chi-square per block of pixels, for blocks of 1, 2, 4 and 8 pixels a side: an electron
    that lights up several pixels, or a model that misses the shape of a ring, correlates
    neighbours, which shows only in blocks. The largest counts. 1 where the picture is compatible
    with Poisson numbers (p >= 0.001).
    """
    if p_value >= 1e-3:
        return 1.0
    found = [1.0]
    for size in (1, 2, 4, 8):
        blocks = [rebin_about(np.where(mask, x, 0.0), (0, 0), size)[0] for x in (counts, mean)]
        used = blocks[1] > 5
        if used.sum() < 50:
            continue
        found.append(float(np.mean((blocks[0][used] - blocks[1][used]) ** 2 / blocks[1][used])))
    return max(found)
