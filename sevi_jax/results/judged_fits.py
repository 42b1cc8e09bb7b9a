"""Fits of pictures whose shells are known: distance against its bound, pulls, coverage."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.estimation.fit import FitSpec, fit_places, sort_pictures
from sevi_jax.estimation.information import (
    FreeParameters,
    PictureParams,
    fold_factor,
    information,
    to_row,
)
from sevi_jax.estimation.start import find_shells
from sevi_jax.network import losses
from sevi_jax.network.network import Prediction
from sevi_jax.physics.expected import pixel_table
from sevi_jax.physics.types import ImageSpec, ShellParams
from sevi_jax.results.training_prior import map_prior
from sevi_jax.synthesis.prior import Prior


@dataclasses.dataclass(frozen=True)
class JudgedFit:
    """The fit of one picture with known shells, inner first.

    Attributes:
        beta: ``[S, L]``.
        beta_error: ``[S, L]``.
        radius: ``[S]``, half-widths.
        distance: the metric (spec section 3).
        bound: what it is on average for an estimate at the Cramer-Rao bound; NaN where sigma or the
            yields are not known.
        pulls: (estimate - truth) / error of every free parameter, ``[P]``; NaN where not known.
        names: of the free parameters.
        converged: whether the fit did.
        reason: in words.
        deviance_per_dof: goodness of fit.
        p_value: likewise.
    """

    beta: np.ndarray
    beta_error: np.ndarray
    radius: np.ndarray
    distance: float
    bound: float
    pulls: np.ndarray
    names: tuple[str, ...]
    converged: bool
    reason: str
    deviance_per_dof: float
    p_value: float


def judge_fits(
    counts: np.ndarray,
    image: ImageSpec,
    truth: ShellParams,
    orders: int,
    start: Prediction | None,
    prior: Prior | None = None,
    positive: bool = False,
) -> list[JudgedFit]:
    """Fits pictures and compares with their truth.

    Args:
        counts: ``[B, side, side]``.
        image: their shape.
        truth: ``[B, S]`` and ``[B, S, N]``; sigma and electrons NaN where not known.
        orders: L, how many orders are fitted.
        start: a network's prediction; None, or one without radii, finds the shells in the picture.
        prior: the training prior, for maximum a posteriori; None is maximum likelihood.
        positive: whether densities are kept from falling below 0.
    """
    shells = truth.radius.shape[1]
    free = FreeParameters((tuple(range(2, 2 * orders + 1, 2)),) * shells)
    spec = FitSpec(free, positive=positive)
    table = pixel_table(image, orders)
    believed = None if prior is None else map_prior(prior, free)
    places, used = sort_pictures(jnp.asarray(counts), None, table, image)
    factor = fold_factor(image)
    if start is None or start.radius is None or start.sigma is None:
        first = find_shells(places, used, spec, table, factor)
    else:
        total = np.asarray(counts, np.float64).sum(axis=(1, 2))
        yields = np.repeat(total[:, None] / shells, shells, axis=1)
        values = (start.radius, start.sigma, yields, start.beta)
        values = (jnp.asarray(x, jnp.float32) for x in values)
        first = PictureParams(ShellParams(*values), jnp.zeros((len(counts), 0)))
    found = fit_places(places, used, first, spec, table, factor, believed)
    found = jax.tree.map(np.asarray, found)

    known = PictureParams(
        jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), truth), jnp.zeros((len(counts), 0))
    )
    bound = np.asarray(information(known, free, image, prior=believed).distance, np.float64)
    rows, exact, errors = (
        np.asarray(to_row(x, free), np.float64)[:, free.index]
        for x in (found.params, known, found.errors)
    )
    # A shell's number of electrons is compared with the number, not with its mean: see
    # `inference.fitted.answer`.
    yields = np.array([name.startswith("yield") for name in free.names])
    number = np.maximum(rows, 0.0)
    errors = np.where(yields, np.sqrt(np.maximum(errors**2 - number, 1e-4 * number + 1e-9)), errors)
    pulls = (rows - exact) / errors
    distance = np.asarray(losses.distance(found.params.shells.beta, truth.beta))
    return [
        JudgedFit(
            beta=found.params.shells.beta[i],
            beta_error=found.errors.shells.beta[i],
            radius=found.params.shells.radius[i],
            distance=float(distance[i]),
            bound=float(bound[i]),
            pulls=pulls[i],
            names=free.names,
            converged=bool(found.converged[i]),
            reason=found.reasons()[i],
            deviance_per_dof=float(found.deviance_per_dof[i]),
            p_value=float(found.p_value[i]),
        )
        for i in range(len(counts))
    ]


def kinds(names: Sequence[str]) -> list[str]:
    """R, sigma, yield, beta2, ...: names without the shell's number."""
    return [name.rpartition("_")[0] for name in names]


def summarise_fits(fits: Sequence[JudgedFit]) -> dict[str, Any]:
    """The figures of ``report.json`` under ``fit``; only converged fits count as answers.

    ``efficiency`` is the mean (and median) of distance / bound; ``coverage`` the fraction of
    parameters within 1 and 1.96 errors of the truth (0.683 and 0.95 if the errors are right),
    pooled and per kind, with the mean pull.
    """
    good = [fit for fit in fits if fit.converged]
    summary: dict[str, Any] = {"pictures": len(fits), "converged": len(good) / len(fits)}
    reasons = [fit.reason for fit in fits if not fit.converged]
    summary["not_converged"] = {reason: reasons.count(reason) for reason in set(reasons)}
    if not good:
        return summary
    distance, bound = (np.array([getattr(fit, x) for fit in good]) for x in ("distance", "bound"))
    summary["distance"] = {"mean": float(distance.mean()), "median": float(np.median(distance))}
    known = np.isfinite(bound)
    if known.any():
        ratio = distance[known] / bound[known]
        summary["bound"] = {"mean": float(bound[known].mean())}
        summary["efficiency"] = {"mean": float(ratio.mean()), "median": float(np.median(ratio))}
    pulls = np.stack([fit.pulls for fit in good])
    names = np.array(kinds(good[0].names))

    def covered(values: np.ndarray) -> dict[str, float]:
        values = values[np.isfinite(values)]
        if not values.size:
            return {}
        within = [float((np.abs(values) < limit).mean()) for limit in (1.0, 1.959964)]
        return {"68": within[0], "95": within[1], "mean_pull": float(values.mean())}

    summary["coverage"] = {"pooled": covered(pulls)}
    summary["coverage"] |= {str(k): covered(pulls[:, names == k]) for k in dict.fromkeys(names)}
    summary["p_value_below_0.001"] = float(np.mean([fit.p_value < 1e-3 for fit in good]))
    return summary
