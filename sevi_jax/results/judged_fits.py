"""Fits of pictures whose shells are known: distance against its bound, pulls, coverage."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from sevi_jax.estimation import fitting, goodness
from sevi_jax.estimation.positivity import Positivity
from sevi_jax.estimation.scoring import Reason, Scaled, covariance, search
from sevi_jax.model.components import Shell, modes_of
from sevi_jax.model.means import Layout
from sevi_jax.model.picture_model import Data, Model, PictureModel, Values
from sevi_jax.network import losses
from sevi_jax.network.network import Prediction
from sevi_jax.physics.convention import to_course, to_literature
from sevi_jax.physics.legendre import order_weights
from sevi_jax.physics.types import ImageSpec, ShellParams
from sevi_jax.results.shell import of_this_picture, physical
from sevi_jax.results.training_prior import shells_prior
from sevi_jax.synthesis.prior import Prior


@dataclasses.dataclass(frozen=True)
class JudgedFit:
    """The fit of one picture with known shells, inner first.

    Attributes:
        beta: ``[S, L]``.
        beta_error: ``[S, L]``.
        radius: ``[S]``, half-widths.
        distance: the metric (docs/course.md).
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
    shells = (Shell(tuple(range(2, 2 * orders + 1, 2))),) * truth.radius.shape[1]
    model = Model(shells, Layout(modes_of(shells)))
    half = image.size / 2
    added: list[Any] = [] if prior is None else [shells_prior(prior, shells, half)]
    if positive:
        added.append(Positivity(model))

    def one(number: int) -> JudgedFit:
        known = [np.asarray(x[number], np.float64) for x in _fields(truth)]
        picture = Data(
            np.asarray(counts[number], np.float64),
            np.full(counts.shape[1:], 4.0 if image.fold else 1.0),
        )
        guess = None
        if start is not None and start.radius is not None and start.sigma is not None:
            total = np.full(len(shells), picture.counts.sum() / len(shells))
            fields = (start.radius[number], start.sigma[number], total, start.beta[number])
            guess = _values([np.asarray(x, np.float64) for x in fields], model, image)
        return _judge(picture, model, image, known, guess, added)

    # the device's part of two pictures side by side keeps two cores busy
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(len(counts))))


def _fields(shells: ShellParams) -> tuple[Any, Any, Any, Any]:
    return shells.radius, shells.sigma, shells.electrons, shells.beta


def _values(fields: Sequence[np.ndarray], model: Model, image: ImageSpec) -> Values:
    """Shells in half-widths and the course's beta as values of a model of the picture."""
    half = image.size / 2
    shells = []
    for radius, sigma, electrons, beta in zip(*fields, strict=True):
        number = len(model.shells[0].orders)
        padded = np.pad(beta[:number], (0, max(0, number - len(beta))))
        amounts = electrons * np.array([1.0, *to_literature(padded)])
        shells.append(np.array([half * radius, half * sigma, *amounts]))
    return Values(tuple(shells), _geometry(image))


def _geometry(image: ImageSpec) -> np.ndarray:
    """The centre is the middle of a picture, or the corner of a quadrant; z is the second axis."""
    middle = 0.0 if image.fold else image.size / 2
    return fitting.geometry_at((middle, middle), (image.side, image.side), 90.0)


def _judge(
    data: Data,
    model: Model,
    image: ImageSpec,
    known: list[np.ndarray],
    guess: Values | None,
    added: list[Any],
) -> JudgedFit:
    """Fits one picture."""
    half = image.size / 2
    limits = fitting.limits_for(data)
    if guess is None:
        request = fitting.Request(tuple(shell.orders for shell in model.shells), free=())
        finder = fitting.Start(data, model, request, 1.0)
        guess = finder.shells(_geometry(image), len(model.shells)).values
    picture = PictureModel(data, model, guess)
    found = fitting.in_order(search(picture, guess, limits, added), model)
    matrix = covariance(found)
    is_known = matrix is not None and fitting.determined(found, matrix, model, data)
    if matrix is None:
        matrix = np.full((model.size, model.size), np.nan)
    vector = found.values.vector(model)
    # parameters that prior and positivity, and not the counts, determine
    curvature = sum((term.evaluate(vector)[2] for term in added), np.zeros(matrix.shape))
    elsewhere = float(np.sum(curvature * np.nan_to_num(matrix)))
    judged = goodness.judge(picture, found.values, np.nan_to_num(matrix), elsewhere)

    vector, slopes, counting = physical(vector, model)
    error = np.sqrt(of_this_picture(np.diagonal(slopes @ matrix @ slopes.T), counting))
    bound = _bound(data, model, known, image, added)
    truth = physical(_values(known, model, image).vector(model), model)[0]
    pulls = (vector - truth) / error
    size = model.shells[0].size
    number = len(known[0])
    beta = to_course(vector.reshape(number, size)[:, 3:])
    distance = float(np.asarray(losses.distance(beta, known[3])))
    reason = found.reason
    if reason is Reason.CONVERGED and not is_known:
        reason = Reason.SINGULAR
    return JudgedFit(
        beta=beta,
        beta_error=to_course(error.reshape(number, size)[:, 3:]),
        radius=vector.reshape(number, size)[:, 0] / half,
        distance=distance,
        bound=bound,
        pulls=pulls,
        names=model.names,
        converged=reason is Reason.CONVERGED,
        reason=reason.value,
        deviance_per_dof=judged.deviance / judged.degrees_of_freedom,
        p_value=judged.p_value,
    )


def _bound(
    data: Data, model: Model, known: list[np.ndarray], image: ImageSpec, added: list[Any]
) -> float:
    """Mean distance of an estimate at the Cramer-Rao bound; NaN where the truth is not known."""
    if not all(np.isfinite(x).all() for x in known):
        return float("nan")
    values = _values(known, model, image)
    information = PictureModel(data, model, values).evaluate(values).information
    vector = values.vector(model)
    for term in added:
        information = information + term.evaluate(vector)[2]
    slopes = physical(vector, model)[1]
    inverse = Scaled(information).inverse()
    if inverse is None:
        return float("nan")
    matrix = slopes @ inverse @ slopes.T
    total = 0.0
    for shell, first in zip(model.shells, model.starts, strict=False):
        part = slice(first + shell.lengths + 1, first + shell.size)
        total += expected_distance(to_course(to_course(matrix[part, part])), shell.orders)
    return total


def expected_distance(matrix: np.ndarray, orders: Sequence[int]) -> float:
    """Computes E sqrt(sum_n 2 / (2 n + 1) d_n^2) of normal errors d with mean 0.

    The sum under the root is Q = sum_k v_k g_k^2 with independent standard normal g and v the
    eigenvalues of the weighted covariance. From ``sqrt(Q) = 1 / (2 sqrt(pi)) int_0^inf
    (1 - exp(-Q t)) t^(-3/2) dt`` and E exp(-t v g^2) = (1 + 2 t v)^(-1/2),

        E sqrt(Q) = 1 / (2 sqrt(pi)) int_0^inf (1 - prod_k (1 + 2 t v_k)^(-1/2)) t^(-3/2) dt.

    With t = e^u the trapezoidal rule of step 1 is exact to seven digits (the integrand is analytic
    for |Im u| < pi), so no random numbers are needed.

    Args:
        matrix: covariance of the course's beta of these orders, ``[L, L]``.
        orders: n, even.
    """
    weights = order_weights(max(orders) // 2)[np.array(orders) // 2 - 1]
    root = np.sqrt(weights.astype(np.float64))
    values = np.maximum(np.linalg.eigvalsh(matrix * root[:, None] * root), 0.0)
    size = values.sum()
    if not size > 0:
        return 0.0
    u = np.arange(-40, 41.0)
    logarithm = np.sum(np.log1p(2 * np.exp(u)[:, None] * (values / size)), axis=1)
    integral = np.sum(-np.expm1(-0.5 * logarithm) * np.exp(-0.5 * u))
    return float(np.sqrt(size) * integral / (2 * np.sqrt(np.pi)))


def kinds(names: Sequence[str]) -> list[str]:
    """Radius, sigma, electrons, beta2, ...: names without the shell's number."""
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
