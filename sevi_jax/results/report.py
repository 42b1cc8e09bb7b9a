"""How good a network is: numbers, a table for the terminal, figures."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from sevi_jax.data.fields import CONVENTION
from sevi_jax.data.outputs import check_output
from sevi_jax.data.replacing import replacing
from sevi_jax.network import losses
from sevi_jax.network.network import Prediction
from sevi_jax.network.run import Run
from sevi_jax.network.training.metrics import read_metrics
from sevi_jax.physics.legendre import even_orders
from sevi_jax.results.cases import Cases
from sevi_jax.results.figures import studies, training
from sevi_jax.results.judged_fits import JudgedFit, summarise_fits
from sevi_jax.synthesis.pipeline import Pictures
from sevi_jax.synthesis.prior import beta_moments

_WORST = 3  # pictures that the table shows
_FIGURES = ("betas", "errors", "distance", "median_picture", "efficiency", "coverage")


@dataclasses.dataclass(frozen=True)
class Judged:
    """One picture, its true shells and the predicted ones, inner first.

    Attributes:
        file: the file, or None for a picture drawn for the purpose.
        ids: distribution ids, or sphere ids for a file of the first kind.
        electrons: counts in the picture.
        radius_true: ``[S]``, half-widths.
        radius_pred: ``[S]``, or None where the network does not predict it.
        beta_true: ``[S, N]``, all orders known.
        beta_pred: ``[S, L]``.
        distance: the metric (docs/course.md).
        prior_mean_distance: the same where the prior's mean is predicted.
        squared: squared distances of the densities, summed over shells.
    """

    file: str | None
    ids: list[int]
    electrons: int
    radius_true: np.ndarray
    radius_pred: np.ndarray | None
    beta_true: np.ndarray
    beta_pred: np.ndarray
    distance: float
    prior_mean_distance: float
    squared: float


def _judge(
    run: Run,
    file: str | None,
    ids: ArrayLike,
    electrons: np.ndarray,
    radius: ArrayLike,
    beta: ArrayLike,
    prediction: Prediction,
) -> list[Judged]:
    ids, radius, beta = np.asarray(ids), np.asarray(radius), np.asarray(beta, np.float32)
    beta_pred = np.asarray(prediction.beta)
    radius_pred = None if prediction.radius is None else np.asarray(prediction.radius)
    mean = np.broadcast_to(beta_moments(run.network.prior)[0], beta_pred.shape)
    distance = np.asarray(losses.distance(beta_pred, beta))
    prior_mean_distance = np.asarray(losses.distance(mean, beta))
    squared = np.asarray(losses.squared_distances(beta_pred, beta)).sum(-1)
    return [
        Judged(
            file=file,
            ids=[int(x) for x in ids[i]],
            electrons=int(electrons[i]),
            radius_true=radius[i],
            radius_pred=None if radius_pred is None else radius_pred[i],
            beta_true=beta[i],
            beta_pred=beta_pred[i],
            distance=float(distance[i]),
            prior_mean_distance=float(prior_mean_distance[i]),
            squared=float(squared[i]),
        )
        for i in range(len(distance))
    ]


def check_outputs(folder: pathlib.Path, name: str = "report", *others: str) -> None:
    """Raises InputError if `write_report` must not write one of its files; before long work.

    Args:
        folder: of the report.
        name: as `write_report` takes it.
        others: names of more files that will be written there.
    """
    for file in (f"{name}.json", *(f"{name}_{figure}.png" for figure in _FIGURES), *others):
        check_output(folder / file)


def judge_cases(run: Run, cases: Cases) -> list[Judged]:
    """Predicts pictures from a file and compares with their truth."""
    electrons = cases.counts.sum(axis=(1, 2), dtype=np.int64)
    prediction = run.predict(cases.counts)
    return _judge(run, str(cases.file), cases.ids, electrons, cases.radius, cases.beta, prediction)


def judge_held_out(run: Run, drawn: Pictures, prediction: Prediction) -> list[Judged]:
    """Compares the prediction of `Run.held_out` with what was drawn."""
    params = drawn.params
    ids = np.zeros((len(params.radius), run.network.shells), int)
    electrons = np.asarray(params.electrons).sum(axis=1)
    return _judge(run, None, ids, electrons, params.radius, params.beta, prediction)


def summarise(judged: Sequence[Judged]) -> dict[str, Any]:
    """Returns the figures of `report.json` over some pictures (see `write_report`)."""
    distance = np.array([x.distance for x in judged])
    num_orders = judged[0].beta_pred.shape[-1]
    error = np.stack([x.beta_pred - _cut(x.beta_true, num_orders) for x in judged])
    loss_per_shell = np.mean([x.squared for x in judged]) / error.shape[1]
    values = {
        "distance": {
            "count": len(distance),
            "mean": float(distance.mean()),
            "median": float(np.median(distance)),
            "p95": float(np.quantile(distance, 0.95)),
        },
        "prior_mean_distance": float(np.mean([x.prior_mean_distance for x in judged])),
        "averaged_relative_error": losses.averaged_relative_error(
            float(loss_per_shell), num_orders
        ),
        "beta_rmse": {
            str(order): float(value)
            for order, value in zip(
                even_orders(num_orders), np.sqrt((error**2).mean(axis=(0, 1))), strict=True
            )
        },
    }
    if judged[0].radius_pred is not None:
        deviation = [np.abs(x.radius_pred - x.radius_true) for x in judged]
        values["radius_mae"] = float(np.mean(deviation))
    return values


def _cut(beta: np.ndarray, orders: int) -> np.ndarray:
    """The first orders of beta ``[S, N]``, padded with zeros where there are fewer."""
    missing = max(0, orders - beta.shape[-1])
    return np.pad(beta, ((0, 0), (0, missing)))[:, :orders]


def write_report(
    folder: pathlib.Path,
    run: Run,
    judged: Sequence[Judged],
    name: str = "report",
    fits: Sequence[JudgedFit] = (),
) -> dict[str, Any]:
    """Writes ``<name>.json`` and figures.

    The file holds the figures over all pictures: ``distance`` {count, mean, median, p95},
    ``prior_mean_distance``, ``averaged_relative_error``, ``beta_rmse`` per order, ``radius_mae``
    (half-widths) where R is predicted; the same per file under ``files``; ``images``, a list with
    ``file``, ``distribution_ids``, ``electrons``, ``distance``, ``beta_true``, ``beta_pred``; and
    where it comes from: ``run`` {workdir, step, seed, devices}, ``versions``, and ``revision``, the
    git revision of the program (null where it is not run from a checkout). ``orders`` has the
    highest one of the truth and of the network, and the mean distance that is due to orders that
    the network has not; ``worst`` the pictures of the largest distances with what makes them hard.

    Args:
        folder: made if missing.
        run: the network judged.
        judged: the pictures, at least one.
        name: of the file, and first part of the figures' names.
        fits: of the same pictures; adds ``fit`` (see `judged_fits.summarise_fits`) and, per
            picture, ``fit`` with ``beta``, ``beta_error``, ``radius``, ``distance``, ``bound``,
            ``efficiency``, ``converged``, ``reason``, ``deviance_per_dof``, ``p_value``.

    Returns:
        What the file holds.
    """
    files = dict.fromkeys(x.file for x in judged if x.file is not None)
    report = {
        **summarise(judged),
        "convention": CONVENTION,
        "files": {file: summarise([x for x in judged if x.file == file]) for file in files},
        **run.source,
        "orders": _orders(judged),
        "worst": [_worst(run, x) for x in sorted(judged, key=lambda x: -x.distance)[:_WORST]],
        "images": [
            {
                "file": x.file,
                "distribution_ids": x.ids,
                "electrons": x.electrons,
                "distance": x.distance,
                "radius_true": x.radius_true.tolist(),
                "radius_pred": None if x.radius_pred is None else x.radius_pred.tolist(),
                "beta_true": x.beta_true.tolist(),
                "beta_pred": x.beta_pred.tolist(),
            }
            for x in judged
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    if fits:
        report["fit"] = summarise_fits(fits)
        for image, found in zip(report["images"], fits, strict=True):
            image["fit"] = _fit_entry(found)
        _fit_figures(folder, name, fits)
    beta_pred = np.stack([x.beta_pred for x in judged])
    beta_true = np.stack([_cut(x.beta_true, beta_pred.shape[-1]) for x in judged])
    training.beta_scatter(folder / f"{name}_betas.png", beta_true, beta_pred)
    training.beta_errors(folder / f"{name}_errors.png", beta_true, beta_pred)
    training.distance_histogram(
        folder / f"{name}_distance.png",
        np.array([x.distance for x in judged]),
        report["prior_mean_distance"],
    )
    middle = sorted(judged, key=lambda x: x.distance)[len(judged) // 2]
    training.angular_distributions(
        folder / f"{name}_median_picture.png", middle.beta_true, middle.beta_pred
    )
    with replacing(folder / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    return report


def _orders(judged: Sequence[Judged]) -> dict[str, Any]:
    """Highest orders of truth and network, and what the missing ones contribute to the distance."""
    known, predicted = judged[0].beta_pred.shape[-1], [x.beta_true for x in judged]
    highest = max(
        (2 * int(np.flatnonzero(beta.any(axis=0))[-1]) + 2 for beta in predicted if beta.any()),
        default=0,
    )
    return {
        "truth": highest,
        "network": 2 * known,
        "distance_of_missing": float(np.mean([_missing(x) for x in judged])),
    }


def _missing(judged: Judged) -> float:
    """The distance of a prediction that is right in every order that the network has."""
    beta = judged.beta_true
    kept = _cut(beta, judged.beta_pred.shape[-1])
    return float(losses.distance(kept.astype(np.float32), beta.astype(np.float32)))


def _worst(run: Run, judged: Judged) -> dict[str, Any]:
    """One picture with what makes it hard for the network."""
    prior, radius = run.network.prior, np.sort(judged.radius_true)
    causes = []
    apart = float(np.diff(radius).min()) if len(radius) > 1 else None
    if apart is not None and apart < 2 * np.mean([shell.sigma for shell in prior]):
        causes.append(f"radii {apart:.3f} apart")
    few = sum(shell.electrons[0] for shell in prior)
    if judged.electrons < 0.5 * few:
        causes.append(f"{judged.electrons} electrons, where the prior has {few} and more")
    low = min(shell.radius[0] for shell in prior)
    high = max(shell.radius[1] for shell in prior)
    causes += [f"R {x:.3f} outside {low:g} to {high:g}" for x in radius if not low <= x <= high]
    if judged.distance > 0 and (missing := _missing(judged)) > 0.3 * judged.distance:
        causes.append(f"{missing:.4f} of it by orders that the network has not")
    for place, (shell, beta) in enumerate(zip(prior, judged.beta_true, strict=True)):
        for (least, most, _, _), value, order in zip(
            shell.beta, beta, even_orders(len(beta)), strict=False
        ):
            if not least <= value <= most:
                causes.append(f"shell {place + 1}: beta_{order} = {value:.3f} outside the prior")
                break
    return {
        "file": judged.file,
        "distribution_ids": judged.ids,
        "distance": judged.distance,
        "radius": radius.tolist(),
        "electrons": judged.electrons,
        "causes": causes,
    }


def _fit_entry(found: JudgedFit) -> dict[str, Any]:
    """One picture's fit in JSON's own types; what is not known is null."""
    entry = {
        "beta": found.beta.tolist(),
        "beta_error": found.beta_error.tolist(),
        "radius": found.radius.tolist(),
        "distance": found.distance,
        "bound": found.bound,
        "efficiency": found.distance / found.bound,
        "converged": found.converged,
        "reason": found.reason,
        "deviance_per_dof": found.deviance_per_dof,
        "p_value": found.p_value,
    }
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in entry.items()}


def _fit_figures(folder: pathlib.Path, name: str, fits: Sequence[JudgedFit]) -> None:
    """Draws distance against bound, and coverage, of the fits that converged."""
    good = [x for x in fits if x.converged]
    known = [x for x in good if np.isfinite(x.bound)]
    if known:
        values = (np.array([getattr(x, key) for x in known]) for key in ("distance", "bound"))
        studies.efficiency(folder / f"{name}_efficiency.png", *values)
    if good:
        pulls = np.stack([x.pulls for x in good])
        studies.coverage(folder / f"{name}_coverage.png", pulls, good[0].names)


def write_loss_curve(workdir: pathlib.Path) -> None:
    """Draws ``loss.png`` in a run's folder from its metrics."""
    rows = {
        kind: [row for row in read_metrics(workdir) if row["kind"] == kind]
        for kind in ("train", "eval")
    }
    training.loss_curve(
        workdir / "loss.png",
        np.array([row["step"] for row in rows["train"]]),
        np.array([row["loss"] for row in rows["train"]]),
        np.array([row["step"] for row in rows["eval"]]),
        np.array([row["distance"] for row in rows["eval"]]),
    )


def table(report: dict[str, Any]) -> str:
    """Formats the figures of a report for the terminal."""
    lines = [
        f"{'pictures':<40} {'count':>6} {'mean':>8} {'median':>8} {'p95':>8} {'prior mean':>11}"
    ]
    rows = {"all": report} if report["files"] else {"held out, drawn by electrons": report}
    for name, row in {**report["files"], **rows}.items():
        values = [row["distance"][key] for key in ("mean", "median", "p95")]
        columns = " ".join(f"{value:>8.4f}" for value in values)
        count, guess = row["distance"]["count"], row["prior_mean_distance"]
        lines.append(f"{name[-40:]:<40} {count:>6} {columns} {guess:>11.4f}")
    lines.insert(0, "distance of the angular densities, summed over shells (0: perfect)")
    lines.append(f"averaged relative error {100 * report['averaged_relative_error']:.2f} %")
    rmse = ", ".join(f"beta_{order} {value:.4f}" for order, value in report["beta_rmse"].items())
    lines.append(f"rms error of {rmse}")
    lines.append(f"  ({CONVENTION})")
    lines += _order_lines(report["orders"])
    lines += _worst_lines(report["worst"])
    if "fit" in report:
        lines += _fit_lines(report["fit"])
    if "radius_mae" in report:
        lines.append(f"mean absolute error of R {report['radius_mae']:.5f} half-widths")
    return "\n".join(lines)


def _order_lines(orders: dict[str, Any]) -> list[str]:
    """Says where the truth has orders that the network has not."""
    if orders["truth"] <= orders["network"]:
        return []
    return [
        f"the truth has orders up to {orders['truth']}, the network up to {orders['network']}: "
        f"those missing count as 0 predicted, {orders['distance_of_missing']:.4f} of distance on "
        "average if all else were right"
    ]


def _worst_lines(worst: Sequence[dict[str, Any]]) -> list[str]:
    """The pictures of the largest distances."""
    lines = ["worst pictures:"]
    for found in worst:
        name = (
            "held out" if found["file"] is None else f"{found['file']} {found['distribution_ids']}"
        )
        radii = ", ".join(f"{x:.3f}" for x in found["radius"])
        cause = "; ".join(found["causes"]) or "nothing unusual"
        lines.append(
            f"  {found['distance']:.4f}  {name}: R {radii}, {found['electrons']} electrons: {cause}"
        )
    return lines


def _fit_lines(fit: dict[str, Any]) -> list[str]:
    """The fits' part of the table."""
    lines = [
        f"likelihood fit of {fit['pictures']} pictures: {100 * fit['converged']:.1f} % converged"
    ]
    lines += [f"  {number} not: {reason}" for reason, number in fit["not_converged"].items()]
    if "distance" in fit:
        lines.append(
            f"  distance: mean {fit['distance']['mean']:.4f}, "
            f"median {fit['distance']['median']:.4f}"
        )
    if "efficiency" in fit:
        lines.append(
            f"  distance / Cramer-Rao bound: mean {fit['efficiency']['mean']:.3f}, "
            f"median {fit['efficiency']['median']:.3f} (bound: mean {fit['bound']['mean']:.4f})"
        )
    for kind, values in fit.get("coverage", {}).items():
        if values:
            lines.append(
                f"  {kind:<7} within 1 error {100 * values['68']:.1f} % (68.3), within 1.96 "
                f"{100 * values['95']:.1f} % (95), mean pull {values['mean_pull']:+.3f}"
            )
    return lines
