"""Figures of training and of its reports: NumPy arrays in, PNG files out.

Beta is in the course's convention throughout: the density of cos(theta) is
``1/2 + sum_i beta_2i P_2i``.
"""

import pathlib

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sevi_jax.physics.legendre import density
from sevi_jax.results.figures.style import (
    COLOURS,
    COURSE,
    TRUTH_COLOUR,
    as_array,
    limits_of,
    log_scale,
    nonempty,
    save_figure,
    shell_name,
)


def loss_curve(
    path: str | pathlib.Path,
    steps: np.ndarray,
    loss: np.ndarray,
    eval_steps: np.ndarray,
    eval_distance: np.ndarray,
) -> None:
    """Draws the training loss and the held-out distance against the step.

    Args:
        path: PNG file to write.
        steps: step numbers of the losses, ``[n]``.
        loss: training loss at these steps, ``[n]``.
        eval_steps: step numbers of the evaluations, ``[m]``.
        eval_distance: mean distance on held-out pictures, ``[m]``.

    Raises:
        ValueError: an array has another shape.
    """
    steps = as_array("steps", steps, (None,))
    loss = as_array("loss", loss, steps.shape)
    eval_steps = as_array("eval_steps", eval_steps, (None,))
    eval_distance = as_array("eval_distance", eval_distance, eval_steps.shape)
    figure = Figure(figsize=(7, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(steps, loss, color=COLOURS[0], linewidth=0.8)
    upper.set_ylabel("training loss")
    lower.plot(eval_steps, eval_distance, "o-", color=COLOURS[1], markersize=3, linewidth=1)
    lower.set_ylabel("held-out distance (mean)")
    lower.set_xlabel("step")
    if eval_distance.size and np.isfinite(eval_distance).any():
        best = int(np.nanargmin(eval_distance))
        lower.set_title(
            f"best {eval_distance[best]:.4g} at step {eval_steps[best]:g}", fontsize="medium"
        )
    for axes, values in ((upper, loss), (lower, eval_distance)):
        log_scale(axes, "y", values)
        axes.grid(alpha=0.3, which="both")
    save_figure(figure, path)


def beta_scatter(path: str | pathlib.Path, beta_true: np.ndarray, beta_pred: np.ndarray) -> None:
    """Draws predicted against true beta, one panel per order, with the rms error.

    Args:
        path: PNG file to write.
        beta_true: true beta, ``[n, S, L]``.
        beta_pred: predicted beta, ``[n, S, L]``.

    Raises:
        ValueError: an array has another shape.
    """
    beta_true = as_array("beta_true", beta_true, (None, None, None))
    beta_pred = as_array("beta_pred", beta_pred, beta_true.shape)
    n, shells, orders = nonempty("beta_true", beta_true)
    columns = min(4, orders)
    rows = -(-orders // columns)
    figure = Figure(figsize=(2.6 * columns + 0.4, 2.6 * rows + 0.9), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    size = float(np.clip(1500 / n, 3, 15))
    for order, axes in enumerate(panels):
        if order >= orders:
            axes.set_axis_off()
            continue
        true, pred = beta_true[..., order], beta_pred[..., order]
        low, high = limits_of(np.concatenate([true, pred]))
        axes.plot([low, high], [low, high], color="black", linewidth=0.8, zorder=3)
        for shell in range(shells):
            axes.scatter(
                true[:, shell],
                pred[:, shell],
                s=size,
                color=COLOURS[shell % len(COLOURS)],
                alpha=0.6,
                linewidths=0,
                label=shell_name(shell, shells),
            )
        axes.set_aspect("equal")
        ticks = MaxNLocator(4).tick_values(low, high)
        axes.set(xticks=ticks, yticks=ticks, xlim=(low, high), ylim=(low, high))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.tick_params(labelsize="small")
        rms = np.sqrt(np.mean((pred - true) ** 2))
        axes.set_title(rf"$\beta_{{{2 * order + 2}}}$: rms {rms:.2g}", fontsize="medium")
    figure.supxlabel(r"true $\beta$" + f"\n{COURSE}", fontsize="medium")
    figure.supylabel(r"predicted $\beta$", fontsize="medium")
    if shells > 1:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=shells, markerscale=3, frameon=False
        )
    save_figure(figure, path)


def distance_histogram(
    path: str | pathlib.Path, distance: np.ndarray, prior_mean_distance: float
) -> None:
    """Draws the histogram of the distances, on a logarithmic axis.

    Args:
        path: PNG file to write.
        distance: distance between predicted and true angular distributions, ``[n]``.
        prior_mean_distance: distance reached by predicting the prior's mean, drawn as a line.

    Raises:
        ValueError: `distance` has another shape or is negative somewhere, or
            `prior_mean_distance` is not positive.
    """
    distance = as_array("distance", distance, (None,))
    nonempty("distance", distance)
    if not (np.isfinite(distance) & (distance >= 0)).all():
        raise ValueError("distance must be finite and not negative")
    if not prior_mean_distance > 0:
        raise ValueError(f"prior_mean_distance={prior_mean_distance} must be positive")
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    positive = distance[distance > 0]
    smallest = positive.min() if positive.size else prior_mean_distance / 10
    low = min(smallest, prior_mean_distance) / 1.2
    high = max(distance.max(), prior_mean_distance) * 1.2
    bins = np.geomspace(low, high, int(np.clip(2 * np.sqrt(distance.size), 10, 80)))
    # A distance of exactly 0 has no place on the axis; it goes to the first bin.
    axes.hist(np.maximum(distance, smallest), bins, color=COLOURS[0], alpha=0.7)
    for value, style, colour, name in (
        (float(np.median(distance)), "-", "black", "median"),
        (float(np.mean(distance)), "--", "black", "mean"),
        (prior_mean_distance, ":", COLOURS[1], "prior's mean predicted"),
    ):
        axes.axvline(
            value, linestyle=style, color=colour, linewidth=1.5, label=f"{name}: {value:.3g}"
        )
    axes.set(
        xlim=(low, high),
        xlabel="distance between predicted and true angular distributions, summed over shells",
        ylabel=f"pictures (of {distance.size})",
    )
    log_scale(axes, "x", bins)
    axes.legend(loc="best", framealpha=1)
    save_figure(figure, path)


def beta_errors(path: str | pathlib.Path, beta_true: np.ndarray, beta_pred: np.ndarray) -> None:
    """Draws the rms error of each order beside the spread of the truth, per shell.

    An error as large as the spread means that nothing was learnt of that order.

    Args:
        path: PNG file to write.
        beta_true: true beta, ``[n, S, L]``.
        beta_pred: predicted beta, ``[n, S, L]``.

    Raises:
        ValueError: an array has another shape.
    """
    beta_true = as_array("beta_true", beta_true, (None, None, None))
    beta_pred = as_array("beta_pred", beta_pred, beta_true.shape)
    _, shells, orders = nonempty("beta_true", beta_true)
    order = 2 * np.arange(1, orders + 1)
    error = np.sqrt(np.mean((beta_pred - beta_true) ** 2, axis=0))
    spread = np.std(beta_true, axis=0)
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    for shell in range(shells):
        colour = COLOURS[shell % len(COLOURS)]
        name = shell_name(shell, shells)
        axes.plot(order, spread[shell], "s:", color=colour, mfc="white", label=f"{name}: spread")
        axes.plot(order, error[shell], "o-", color=colour, label=f"{name}: rms error")
    log_scale(axes, "y", np.concatenate([error, spread]))
    axes.set_xticks(order)
    axes.set_xlabel(f"order of the Legendre polynomial\n{COURSE}")
    axes.set_ylabel(r"rms error, standard deviation of the true $\beta$")
    axes.grid(alpha=0.3)
    axes.legend(ncols=shells)
    save_figure(figure, path)


def angular_distributions(
    path: str | pathlib.Path, beta_true: np.ndarray | None, beta_pred: np.ndarray
) -> None:
    """Draws I(cos theta) of each shell: predicted, and true where known.

    Args:
        path: PNG file to write.
        beta_true: true beta, ``[S, K]``, or None; K may differ from L.
        beta_pred: predicted beta, ``[S, L]``.

    Raises:
        ValueError: an array has another shape.
    """
    beta_pred = as_array("beta_pred", beta_pred, (None, None))
    shells, _ = nonempty("beta_pred", beta_pred)
    if beta_true is not None:
        beta_true = as_array("beta_true", beta_true, (shells, None))
    figure = Figure(figsize=(4 * shells + 1, 4.2), layout="constrained")
    panels = figure.subplots(1, shells, squeeze=False, sharey=True)[0]
    cos_theta = np.linspace(0, 1, 801)
    for shell, axes in enumerate(panels):
        if beta_true is not None:
            true = density(beta_true[shell], cos_theta)
            axes.plot(cos_theta, true, color=TRUTH_COLOUR, linewidth=3, alpha=0.7, label="true")
        predicted = density(beta_pred[shell], cos_theta)
        axes.plot(
            cos_theta,
            predicted,
            color=COLOURS[shell % len(COLOURS)],
            linewidth=1.2,
            label="predicted",
        )
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set(xlim=(0, 1), title=shell_name(shell, shells))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")
    panels[0].set_ylabel(r"$I(\cos\theta) = 1/2 + \sum_i \beta_{2i} P_{2i}(\cos\theta)$")
    figure.supxlabel(
        r"$\cos\theta$ ($\theta$ from the laser polarisation z; $I$ is even in $\cos\theta$)"
        + f"\n{COURSE}",
        fontsize="medium",
    )
    save_figure(figure, path)
