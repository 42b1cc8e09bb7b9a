"""Figures: NumPy arrays in, PNG files out. Only importer of matplotlib.

The module knows nothing of runs, models or data files. It uses `Figure` objects and no pyplot, so
it needs no display and leaves no global state. Beta is in this program's convention throughout
(spec section 1): the density of cos(theta) is ``1/2 + sum_i beta_2i P_2i``.
"""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.projections.polar import PolarAxes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sevi_jax.data.outputs import PNG_TEXT
from sevi_jax.data.replacing import replacing

DPI = 120
CONVENTION = r"$\beta$ in the sevi_jax convention; literature $\beta$ = 2 × this"
TRUTH_COLOUR = "0.45"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_NEGATIVE = "#cc0000"
_MASKED = "0.6"
_ENOUGH = 5.0  # expected counts from which on a residual is nearly normal
_DRAWN_PIXELS = 512  # along a side of a panel of `fit_picture`, which has some 540 on the screen
_PROFILE_WIDTH = 10.0  # inches
_LABEL_WIDTH = 0.29  # inches, of R_24 with a space


def loss_curve(
    path: str | os.PathLike,
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
    steps = _array("steps", steps, (None,))
    loss = _array("loss", loss, steps.shape)
    eval_steps = _array("eval_steps", eval_steps, (None,))
    eval_distance = _array("eval_distance", eval_distance, eval_steps.shape)
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
        _log_scale(axes, "y", values)
        axes.grid(alpha=0.3, which="both")
    _save(figure, path)


def beta_scatter(path: str | os.PathLike, beta_true: np.ndarray, beta_pred: np.ndarray) -> None:
    """Draws predicted against true beta, one panel per order, with the rms error.

    Args:
        path: PNG file to write.
        beta_true: true beta, ``[n, S, L]``.
        beta_pred: predicted beta, ``[n, S, L]``.

    Raises:
        ValueError: an array has another shape.
    """
    beta_true = _array("beta_true", beta_true, (None, None, None))
    beta_pred = _array("beta_pred", beta_pred, beta_true.shape)
    n, shells, orders = _nonempty("beta_true", beta_true)
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
        low, high = _limits(np.concatenate([true, pred]))
        axes.plot([low, high], [low, high], color="black", linewidth=0.8, zorder=3)
        for shell in range(shells):
            axes.scatter(
                true[:, shell],
                pred[:, shell],
                s=size,
                color=COLOURS[shell % len(COLOURS)],
                alpha=0.6,
                linewidths=0,
                label=_shell_name(shell, shells),
            )
        axes.set_aspect("equal")
        ticks = MaxNLocator(4).tick_values(low, high)
        axes.set(xticks=ticks, yticks=ticks, xlim=(low, high), ylim=(low, high))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.tick_params(labelsize="small")
        rms = np.sqrt(np.mean((pred - true) ** 2))
        axes.set_title(rf"$\beta_{{{2 * order + 2}}}$: rms {rms:.2g}", fontsize="medium")
    figure.supxlabel(r"true $\beta$" + f"\n{CONVENTION}", fontsize="medium")
    figure.supylabel(r"predicted $\beta$", fontsize="medium")
    if shells > 1:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=shells, markerscale=3, frameon=False
        )
    _save(figure, path)


def distance_histogram(
    path: str | os.PathLike, distance: np.ndarray, prior_mean_distance: float
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
    distance = _array("distance", distance, (None,))
    _nonempty("distance", distance)
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
    _log_scale(axes, "x", bins)
    axes.legend(loc="best", framealpha=1)
    _save(figure, path)


def beta_errors(path: str | os.PathLike, beta_true: np.ndarray, beta_pred: np.ndarray) -> None:
    """Draws the rms error of each order beside the spread of the truth, per shell.

    An error as large as the spread means that nothing was learnt of that order.

    Args:
        path: PNG file to write.
        beta_true: true beta, ``[n, S, L]``.
        beta_pred: predicted beta, ``[n, S, L]``.

    Raises:
        ValueError: an array has another shape.
    """
    beta_true = _array("beta_true", beta_true, (None, None, None))
    beta_pred = _array("beta_pred", beta_pred, beta_true.shape)
    _, shells, orders = _nonempty("beta_true", beta_true)
    order = 2 * np.arange(1, orders + 1)
    error = np.sqrt(np.mean((beta_pred - beta_true) ** 2, axis=0))
    spread = np.std(beta_true, axis=0)
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    for shell in range(shells):
        colour = COLOURS[shell % len(COLOURS)]
        name = _shell_name(shell, shells)
        axes.plot(order, spread[shell], "s:", color=colour, mfc="white", label=f"{name}: spread")
        axes.plot(order, error[shell], "o-", color=colour, label=f"{name}: rms error")
    _log_scale(axes, "y", np.concatenate([error, spread]))
    axes.set_xticks(order)
    axes.set_xlabel(f"order of the Legendre polynomial\n{CONVENTION}")
    axes.set_ylabel(r"rms error, standard deviation of the true $\beta$")
    axes.grid(alpha=0.3)
    axes.legend(ncols=shells)
    _save(figure, path)


def picture(path: str | os.PathLike, counts: np.ndarray, radius: np.ndarray | None = None) -> None:
    """Draws a picture with the polarisation axis z vertical, on a square-root colour scale.

    Args:
        path: PNG file to write.
        counts: electrons or grey levels per pixel, ``[H, W]``; first axis x, second z.
        radius: shell radii to mark by circles, ``[S]``, half-widths.

    Raises:
        ValueError: an array has another shape.
    """
    counts = _array("counts", counts, (None, None))
    _nonempty("counts", counts)
    radius = _array("radius", () if radius is None else radius, (None,))
    figure = Figure(figsize=(6.4, 5.4), layout="compressed")
    axes = figure.subplots()
    high = max(float(np.nanmax(counts)), 0.0) or 1.0
    image = axes.imshow(
        counts.T,
        origin="lower",
        extent=(-1, 1, -1, 1),
        cmap="inferno",
        norm=PowerNorm(0.5, vmin=0, vmax=high, clip=True),
        interpolation="antialiased",
    )
    for r in radius:
        axes.add_patch(Circle((0, 0), r, fill=False, color="white", linestyle=":", linewidth=0.8))
    axes.set(
        xlim=(-1, 1),
        ylim=(-1, 1),
        xlabel="x (half-widths)",
        ylabel="z (half-widths), laser polarisation ↑",
    )
    if radius.size:
        axes.set_title("dotted: R = " + ", ".join(f"{r:.4g}" for r in radius), fontsize="medium")
    figure.colorbar(
        image,
        ax=axes,
        label="counts per pixel (square-root scale)",
        ticks=MaxNLocator(4),
    )
    _save(figure, path)


def angular_distributions(
    path: str | os.PathLike, beta_true: np.ndarray | None, beta_pred: np.ndarray
) -> None:
    """Draws I(cos theta) of each shell: predicted, and true where known.

    Args:
        path: PNG file to write.
        beta_true: true beta, ``[S, K]``, or None; K may differ from L.
        beta_pred: predicted beta, ``[S, L]``.

    Raises:
        ValueError: an array has another shape.
    """
    beta_pred = _array("beta_pred", beta_pred, (None, None))
    shells, _ = _nonempty("beta_pred", beta_pred)
    if beta_true is not None:
        beta_true = _array("beta_true", beta_true, (shells, None))
    figure = Figure(figsize=(4 * shells + 1, 4.2), layout="constrained")
    panels = figure.subplots(1, shells, squeeze=False, sharey=True)[0]
    cos_theta = np.linspace(0, 1, 801)
    for shell, axes in enumerate(panels):
        if beta_true is not None:
            true = _angular_density(beta_true[shell], cos_theta)
            axes.plot(cos_theta, true, color=TRUTH_COLOUR, linewidth=3, alpha=0.7, label="true")
        predicted = _angular_density(beta_pred[shell], cos_theta)
        axes.plot(
            cos_theta,
            predicted,
            color=COLOURS[shell % len(COLOURS)],
            linewidth=1.2,
            label="predicted",
        )
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set(xlim=(0, 1), title=_shell_name(shell, shells))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")
    panels[0].set_ylabel(r"$I(\cos\theta) = 1/2 + \sum_i \beta_{2i} P_{2i}(\cos\theta)$")
    figure.supxlabel(
        r"$\cos\theta$ ($\theta$ from the laser polarisation z; $I$ is even in $\cos\theta$)"
        + f"\n{CONVENTION}",
        fontsize="medium",
    )
    _save(figure, path)


def fit_picture(
    path: str | os.PathLike,
    counts: np.ndarray,
    mean: np.ndarray,
    x_edges: np.ndarray,
    z_edges: np.ndarray,
    radius: np.ndarray,
    mask: np.ndarray | None = None,
    unit: str = "half-widths",
) -> None:
    """Draws counts, fit and residual side by side, the polarisation axis z vertical.

    The residual is ``(counts - mean) / sqrt(mean)``, summed over blocks of 2^k x 2^k pixels. Every
    pixel lies in one block: the smallest in which the pixels that no smaller block took expect 5
    counts. A large picture begins with larger blocks, so that the drawing does not average the
    residual; counts and fit are then drawn as the average of such a block. Where even the largest
    block expects less than 1 count, the residual is in units of 1 count.

    Args:
        path: PNG file to write.
        counts: electrons per pixel, ``[H, W]``; first axis x, second z.
        mean: expected counts per pixel of the fit, ``[H, W]``.
        x_edges: evenly spaced edges of the pixels in x, from the shells' centre, ``[H + 1]``.
        z_edges: the same in z, ``[W + 1]``.
        radius: shell radii to mark by circles, ``[S]``, in the unit of the edges.
        mask: pixels where it is 0 are grey, whatever they hold, ``[H, W]``; None uses all.
        unit: unit of the edges and radii, in words.

    Raises:
        ValueError: an array has another shape, edges are not even and ascending, no pixel is used,
            or a used pixel is not finite.
    """
    counts = _array("counts", counts, (None, None))
    _nonempty("counts", counts)
    mean = _array("mean", mean, counts.shape)
    x_edges = _edges("x_edges", x_edges, counts.shape[0])
    z_edges = _edges("z_edges", z_edges, counts.shape[1])
    radius = _array("radius", radius, (None,))
    counts, mean, pixels, block = _drawn_blocks(counts, mean, mask)
    residual, smallest, largest = _block_residual(counts, mean, pixels > 0)
    shown = [np.where(pixels > 0, sums / np.maximum(pixels, 1), np.nan) for sums in (counts, mean)]
    # A single hot pixel must not make the rings dark.
    high = max(float(np.nanquantile(shown[0], 0.999)), float(np.nanmax(shown[1]))) or 1.0
    scale = PowerNorm(0.5, vmin=0, vmax=high, clip=True)
    averages = f", averages of {block}×{block} pixels" if block > 1 else ""
    sizes = " to ".join(f"{n}×{n}" for n in sorted({block * smallest, block * largest}))
    blocks = f"residual in blocks of {sizes} pixels:\nthe smallest that expect {_ENOUGH:g} counts"
    # Blocks may reach beyond the last pixel.
    extent = [
        edges[0] + end * block * (edges[1] - edges[0])
        for edges, length in zip((x_edges, z_edges), pixels.shape, strict=True)
        for end in (0, length)
    ]

    figure = Figure(figsize=(15, 6.1), layout="compressed")
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    for axes, values, title in zip(
        panels,
        (*shown, residual),
        (
            f"counts{averages}",
            f"fit{averages}",
            blocks if sizes != "1×1" else "residual of every pixel",
        ),
        strict=True,
    ):
        is_residual = values is residual
        axes.imshow(
            values.T,
            origin="lower",
            extent=extent,
            cmap=colormaps["RdBu_r" if is_residual else "inferno"].with_extremes(bad=_MASKED),
            norm=Normalize(-5, 5, clip=True) if is_residual else scale,
            # An average of neighbours would not have the spread of a residual.
            interpolation="nearest" if is_residual else "antialiased",
            interpolation_stage="data",
        )
        colour = "black" if is_residual else "white"
        for r in radius:
            # Short dots far apart: a full circle would hide a thin shell.
            axes.add_patch(
                Circle((0, 0), r, fill=False, color=colour, linestyle=(0, (1, 5)), linewidth=0.8)
            )
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel(f"x ({unit})")
    panels[0].set(xlim=x_edges[[0, -1]], ylim=z_edges[[0, -1]])
    panels[0].set_ylabel(f"z ({unit}), laser polarisation ↑")
    for axis in (panels[0].xaxis, panels[0].yaxis):
        axis.set_major_locator(MaxNLocator(4))
    cut = "max" if np.nanmax(shown[0]) > high else "neither"
    for axes, extend, label in (
        (list(panels[:2]), cut, "counts per pixel (square-root scale); dotted: R"),
        ([panels[2]], "both", "(counts − fit) / √fit, standard deviations; dotted: R"),
    ):
        figure.colorbar(
            axes[0].get_images()[0],
            ax=axes,
            label=label,
            location="bottom",
            aspect=20 * len(axes) + 10,
            pad=0.02,
            extend=extend,
            extendfrac=0.02,
            ticks=MaxNLocator(5),
        )
    _save(figure, path)


def radial_profile(
    path: str | os.PathLike,
    s: np.ndarray,
    counts: np.ndarray,
    mean: np.ndarray,
    shells: np.ndarray,
    background: np.ndarray,
    radius: np.ndarray,
    unit: str = "half-widths",
) -> None:
    """Draws the counts in rings around the centre, the fit and its parts, and the residual below.

    Where a ring expects less than 1 count, its residual is in units of 1 count.

    Args:
        path: PNG file to write.
        s: edges of the rings, ascending distances from the centre in the picture, ``[n + 1]``.
        counts: electrons per ring, ``[n]``.
        mean: expected counts per ring of the fit, ``[n]``.
        shells: expected counts per ring of each shell, ``[S, n]``.
        background: expected counts per ring of the background, ``[n]``.
        radius: shell radii, marked R_1 .. R_S, ``[S]``, in the unit of `s`.
        unit: unit of `s` and `radius`, in words.

    Raises:
        ValueError: an array has another shape, or `s` does not ascend.
    """
    counts = _array("counts", counts, (None,))
    (rings,) = _nonempty("counts", counts)
    s = _array("s", s, (rings + 1,))
    if not (np.diff(s) > 0).all():
        raise ValueError("s must ascend")
    mean = _array("mean", mean, (rings,))
    shells = _array("shells", shells, (None, rings))
    background = _array("background", background, (rings,))
    radius = _array("radius", radius, (len(shells),))
    middle = (s[1:] + s[:-1]) / 2
    figure = Figure(figsize=(_PROFILE_WIDTH, 6.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))

    for shell, part in enumerate(shells):
        colour = COLOURS[shell % len(COLOURS)]
        name = "shells" if len(shells) > 1 else "shell"
        label = name if shell == 0 else None
        upper.stairs(part, s, fill=True, color=colour, alpha=0.25, linewidth=0)
        upper.stairs(part, s, color=colour, linewidth=0.9, label=label)
    if background.any():
        upper.stairs(background, s, color="0.4", linestyle="--", linewidth=1.2, label="background")
    upper.stairs(mean, s, color="black", linewidth=1, label="fit")
    points = {"fmt": ".", "color": "0.45", "markersize": 3, "elinewidth": 0.7}
    error = np.sqrt(np.maximum(counts, 0))
    upper.errorbar(middle, counts, error, label="counts ± √counts", zorder=3, **points)
    upper.set_ylabel("counts per ring")
    upper.legend(fontsize="small")

    residual = _deviation(counts, mean)
    reach = max(4.0, 1.1 * float(np.max(np.abs(residual[np.isfinite(residual)]), initial=0)))
    lower.axhspan(-1, 1, color="0.9", linewidth=0)
    lower.axhline(0, color="black", linewidth=0.8)
    lower.plot(middle, residual, ".", color="0.35", markersize=3)
    lower.set(
        xlim=s[[0, -1]],
        ylim=(-reach, reach),
        xlabel=f"distance s from the centre in the picture ({unit})",
        ylabel="(counts − fit) / √fit",
    )
    for axes in (upper, lower):
        for r in radius:
            axes.axvline(r, color="0.6", linestyle=":", linewidth=0.8, zorder=0.5)
    _radius_labels(upper, radius, _PROFILE_WIDTH)
    _save(figure, path)


def densities(
    path: str | os.PathLike,
    beta: np.ndarray,
    covariance: np.ndarray,
    beta_true: np.ndarray | None = None,
) -> None:
    """Draws I(cos theta) of each shell as a polar plot with its band of one standard error.

    The band is ``I ± sqrt(P' C P)`` with P the Legendre polynomials at cos(theta) and C the
    covariance of beta. Where I is negative, |I| is drawn, dashed red.

    Args:
        path: PNG file to write.
        beta: fitted beta, ``[S, L]``.
        covariance: of each shell's beta, ``[S, L, L]``; zeros for orders that were not fitted.
        beta_true: true beta, ``[S, K]``, or None; K may differ from L.

    Raises:
        ValueError: an array has another shape.
    """
    beta = _array("beta", beta, (None, None))
    shells, orders = _nonempty("beta", beta)
    covariance = _array("covariance", covariance, (shells, orders, orders))
    if beta_true is not None:
        beta_true = _array("beta_true", beta_true, (shells, None))
    rows = -(-shells // 6)
    columns = -(-shells // rows)
    size = 4.4 if shells <= 2 else 3.2 if shells <= 4 else 2.2
    figure = Figure(figsize=(max(size * columns, 6.0), size * rows + 1.1), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, subplot_kw={"projection": "polar"})
    theta = np.linspace(0, 2 * np.pi, 721)
    polynomials = _legendre(np.cos(theta), orders)
    handles = {}
    for shell, axes in enumerate(panels.ravel()):
        if shell >= shells:
            axes.set_axis_off()
            continue
        if beta_true is not None:
            true = _angular_density(beta_true[shell], np.cos(theta))
            (handles["true"],) = axes.plot(theta, np.abs(true), color="0.6", linewidth=3)
        fitted = _angular_density(beta[shell], np.cos(theta))
        variance = np.einsum("tl,lk,tk->t", polynomials, covariance[shell], polynomials)
        error = np.sqrt(np.maximum(variance, 0))
        handles["± 1 standard error"] = axes.fill_between(
            theta,
            np.maximum(fitted - error, 0),
            np.maximum(fitted + error, 0),
            color=COLOURS[0],
            alpha=0.3,
            linewidth=0,
        )
        positive = np.where(fitted >= 0, fitted, np.nan)
        (handles["fit"],) = axes.plot(theta, positive, color=COLOURS[0], linewidth=1.2)
        if (fitted < 0).any():
            negative = np.where(fitted < 0, -fitted, np.nan)
            (handles["negative, |I| drawn"],) = axes.plot(
                theta, negative, color=_NEGATIVE, linestyle="--", linewidth=1.2
            )
        _polar_axes(axes, labelled=shells <= 2)
        # Radii are written where the curve is near the centre.
        axes.set_rlabel_position(67.5 if fitted[0] > fitted[180] else 22.5)
        least = fitted.min()
        axes.set_title(
            _shell_name(shell, shells) + (f", least −{-least:.2g}" if least < 0 else ""),
            fontsize="medium",
            color=_NEGATIVE if least < 0 else "black",
        )
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=4, frameon=False
    )
    figure.supxlabel(
        r"$I(\cos\theta) = 1/2 + \sum_i \beta_{2i} P_{2i}(\cos\theta)$,"
        r" $\theta = 0$ (laser polarisation) ↑" + f"\n{CONVENTION}",
        fontsize="medium",
        linespacing=1.6,
    )
    _save(figure, path)


def beta_values(
    path: str | os.PathLike,
    beta: np.ndarray,
    error: np.ndarray,
    orders: tuple[tuple[int, ...], ...],
    beta_true: np.ndarray | None = None,
    radius: np.ndarray | None = None,
    unit: str = "half-widths",
) -> None:
    """Draws fitted beta with error bars, and true beta where known.

    Up to four shells of several orders: beta against the order, and the errors below. Else one
    panel for each order: beta against the shell's radius, or its number where no radius is given.

    Args:
        path: PNG file to write.
        beta: fitted beta of orders 2 .. 2 L, ``[S, L]``.
        error: their standard errors, ``[S, L]``.
        orders: per shell the orders that were fitted; others are not drawn.
        beta_true: true beta, ``[S, K]``, or None; K may differ from L.
        radius: shell radii, ``[S]``, or None.
        unit: unit of the radii, in words.

    Raises:
        ValueError: an array has another shape, an error is negative, or `orders` does not fit.
    """
    beta = _array("beta", beta, (None, None))
    shells, number = _nonempty("beta", beta)
    error = _array("error", error, beta.shape)
    if (error < 0).any():
        raise ValueError("error must not be negative")
    if beta_true is not None:
        beta_true = _array("beta_true", beta_true, (shells, None))
    if radius is not None:
        radius = _array("radius", radius, (shells,))
    if len(orders) != shells:
        raise ValueError(f"orders has {len(orders)} entries, expected {shells}")
    together = sorted({order for own in orders for order in own})
    if not together or not set(together) <= set(range(2, 2 * number + 2, 2)):
        raise ValueError(f"orders={orders} must hold even orders from 2 to {2 * number}")
    if shells <= 4 and len(together) > 1:
        figure = _beta_by_order(beta, error, orders, beta_true)
    else:
        figure = _beta_by_shell(beta, error, orders, together, beta_true, radius, unit)
    _save(figure, path)


def efficiency(path: str | os.PathLike, distance: np.ndarray, bound: np.ndarray) -> None:
    """Draws the distances reached against those that the counts allow, over many pictures.

    Args:
        path: PNG file to write.
        distance: distance of each fit from the truth, ``[n]``.
        bound: the mean distance of an efficient estimate (Cramér-Rao), ``[n]``.

    Raises:
        ValueError: an array has another shape, or a value is not positive and finite.
    """
    distance = _array("distance", distance, (None,))
    _nonempty("distance", distance)
    bound = _array("bound", bound, distance.shape)
    for name, values in (("distance", distance), ("bound", bound)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"{name} must be positive and finite")
    ratio = distance / bound
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    low, high = min(ratio.min(), 1) / 1.1, max(ratio.max(), 1) * 1.1
    bins = np.geomspace(low, high, int(np.clip(2 * np.sqrt(ratio.size), 10, 60)))
    left.hist(ratio, bins, color=COLOURS[0], alpha=0.7)
    left.axvline(1, color=COLOURS[1], linewidth=1.5, label="the bound")
    for name, style, value in (("median", "-", np.median(ratio)), ("mean", "--", ratio.mean())):
        left.axvline(
            float(value),
            linestyle=style,
            color="black",
            linewidth=1.5,
            label=f"{name}: {value:.3g}",
        )
    left.set(
        xlim=(low, high),
        xlabel="distance / bound (its mean is 1 for an efficient estimate)",
        ylabel=f"pictures (of {ratio.size})",
    )
    _log_scale(left, "x", bins)
    left.legend()
    every = np.concatenate([distance, bound])
    low, high = every.min() / 1.2, every.max() * 1.2
    right.plot([low, high], [low, high], color="black", linewidth=0.8, label="distance = bound")
    size = float(np.clip(4000 / ratio.size, 4, 25))
    right.scatter(bound, distance, s=size, color=COLOURS[0], alpha=0.6, linewidths=0)
    right.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    right.set(xlabel="bound of the distance (Cramér-Rao)", ylabel="distance from the truth")
    for which in ("x", "y"):
        _log_scale(right, which, every)
    right.grid(alpha=0.3)
    right.legend(loc="upper left")
    _save(figure, path)


def coverage(path: str | os.PathLike, pulls: np.ndarray, names: Sequence[str]) -> None:
    """Draws whether the stated errors are honest: the pulls, and how many lie within 1 and 1.96.

    Args:
        path: PNG file to write.
        pulls: (estimate - truth) / error of every picture and parameter, ``[n, P]``; NaN where
            there is none.
        names: of the parameters, ``[P]``, such as ``R_1``, ``beta2_1``: what stands before the
            last underscore is the kind, and parameters of a kind are drawn together.

    Raises:
        ValueError: `pulls` has another shape or no number, or `names` another length.
    """
    pulls = _array("pulls", pulls, (None, None))
    if len(names) != pulls.shape[1]:
        raise ValueError(f"names has {len(names)} entries, expected {pulls.shape[1]}")
    kinds = [name.rpartition("_")[0] or name for name in names]
    of_kind = {}
    for kind in dict.fromkeys(kinds):
        values = pulls[:, [other == kind for other in kinds]]
        if (~np.isnan(values)).any():
            of_kind[kind] = values[~np.isnan(values)]
    if not of_kind:
        raise ValueError("pulls holds no number")
    pooled = np.concatenate(list(of_kind.values()))

    figure = Figure(figsize=(max(10.0, 6.0 + 0.5 * len(of_kind)), 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(5, max(5.0, 1 + 0.5 * len(of_kind))))
    edges = np.linspace(-5, 5, 41)
    left.hist(
        np.clip(pooled, -5, 5),
        edges,
        weights=np.full(pooled.size, 1 / (pooled.size * (edges[1] - edges[0]))),
        color=COLOURS[0],
        alpha=0.6,
        label=f"{pooled.size} pulls: mean {pooled.mean():.2g}, s.d. {pooled.std():.3g},\n"
        f"{np.count_nonzero(np.abs(pooled) > 5)} beyond ±5 (in the last bins)",
    )
    line = np.linspace(-5, 5, 401)
    normal = np.exp(-(line**2) / 2) / np.sqrt(2 * np.pi)
    left.plot(line, normal, color="black", linewidth=1.2, label="standard normal")
    left.set(xlim=(-5, 5), xlabel="(estimate − truth) / error", ylabel="density")
    left.set_ylim(top=1.35 * left.get_ylim()[1])  # room for the legend
    left.legend(loc="upper center", fontsize="small")

    _covered_fractions(right, of_kind)
    _save(figure, path)


def _array(name, values, shape):
    """Returns the values as a float array; None in `shape` stands for any length."""
    array = np.asarray(values, dtype=np.float64)
    fits = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} has shape {array.shape}, expected ({wanted})")
    return array


def _nonempty(name, array):
    """Returns the array's shape."""
    if array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, expected at least one value")
    return array.shape


def _edges(name, values, pixels):
    """Returns evenly spaced, ascending edges of so many pixels."""
    edges = _array(name, values, (pixels + 1,))
    step = (edges[-1] - edges[0]) / pixels
    # Edges in float32 have rounding errors that are not small beside a narrow pixel.
    if not (step > 0 and np.allclose(np.diff(edges), step, rtol=0.01, atol=0)):
        raise ValueError(f"{name} must ascend in even steps")
    return edges


def _power_of_two(least):
    """The smallest power of two that is at least so large; at least 1."""
    return 1 << max(0, int(np.ceil(np.log2(least))))


def _block_sums(values, block):
    """Sums over blocks of pixels: ``[H, W]`` to ``[ceil(H / block), ceil(W / block)]``."""
    if block == 1:
        return values
    short = [-length % block for length in values.shape]
    padded = np.pad(values, [(0, length) for length in short]) if any(short) else values
    rows, columns = (length // block for length in padded.shape)
    # One axis after the other: twice as fast as both in one sum.
    return padded.reshape(rows, block, -1).sum(axis=1).reshape(rows, columns, block).sum(axis=2)


def _drawn_blocks(counts, mean, mask):
    """Sums over as many pixels as one dot of the drawing shows.

    Returns:
        Sums of counts and mean, how many used pixels they are over, all of one shape, and along
        how many pixels a block lies, a power of two.
    """
    used = np.ones(counts.shape, bool)
    if mask is not None:
        used = _array("mask", mask, counts.shape) != 0
        counts, mean = np.where(used, counts, 0), np.where(used, mean, 0)
    if not used.any():
        raise ValueError("mask leaves no pixel")
    block = _power_of_two(max(counts.shape) / _DRAWN_PIXELS)
    counts, mean, pixels = (_block_sums(values, block) for values in (counts, mean, used))
    for name, values in (("counts", counts), ("mean", mean)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite in every pixel used")
    return counts, mean, pixels, block


def _deviation(counts, mean):
    """(counts - mean) in standard deviations; in units of 1 count where less is expected.

    Where nearly nothing is expected, sqrt(mean) would make an outlier of every stray electron.
    """
    return (counts - mean) / np.sqrt(np.maximum(mean, 1))


def _block_residual(counts, mean, used):
    """Residual in blocks just large enough, and the sizes of the smallest and largest block.

    Blocks grow by powers of two up to about a sixteenth of the picture's side. One that expects
    enough counts is drawn and leaves the sums, so no count is in two blocks. The choice does not
    look at the counts, which would bias the residual.

    Args:
        counts: ``[H, W]``, 0 where not used.
        mean: ``[H, W]``, 0 where not used.
        used: ``[H, W]`` bool.

    Returns:
        The residual ``[H, W]``, the same in all pixels of a block, NaN where not used; two sizes.
    """
    residual = np.full(counts.shape, np.nan)
    waiting, block, sizes = used.copy(), 1, []
    last = _power_of_two(max(counts.shape) / 16)
    while waiting.any():
        ready = (mean >= _ENOUGH) | (block >= last)
        here = _spread_blocks(ready, block, waiting.shape) & waiting
        if here.any():
            sizes.append(block)
        residual[here] = _spread_blocks(_deviation(counts, mean), block, waiting.shape)[here]
        waiting &= ~here
        counts, mean = (_block_sums(np.where(ready, 0, values), 2) for values in (counts, mean))
        block *= 2
    return residual, sizes[0], sizes[-1]


def _spread_blocks(values, block, shape):
    """Gives every pixel its block's value, for a picture of this shape."""
    return values.repeat(block, axis=0).repeat(block, axis=1)[: shape[0], : shape[1]]


def _radius_labels(axes: Axes, radius, width):
    """Writes R_1, R_2, ... above the axes, apart from each other, with a line to each radius.

    Where they have no room beside each other, none is written.

    Args:
        axes: whose x axis shows radii; its limits must be set.
        radius: ``[S]``.
        width: of the axes, inches.
    """
    low, high = axes.get_xlim()
    inside = (radius >= low) & (radius <= high)
    gap = (high - low) * _LABEL_WIDTH / width
    if gap * inside.sum() > high - low:
        return
    for number, r, place in zip(
        1 + np.flatnonzero(inside),
        radius[inside],
        _apart(radius[inside], gap, low, high),
        strict=True,
    ):
        axes.annotate(
            f"$R_{{{number}}}$",
            (r, 1),
            (place, 1.08),
            xycoords=axes.get_xaxis_transform(),
            textcoords=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize="small",
            arrowprops={
                "arrowstyle": "-",
                "linewidth": 0.5,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0.5, 0),  # from below, so that no line crosses another label
            },
        )


def _apart(places, gap, low, high):
    """The places nearest to the given ones, a gap apart, in their order, between low and high.

    Less the gaps, the places must not descend: isotonic regression, by pooling adjacent violators.
    """
    order = np.argsort(places)
    steps = gap * np.arange(len(places))
    pools: list[tuple[float, int]] = []
    for value in places[order] - steps:
        size = 1
        while pools and pools[-1][0] > value:
            other, others = pools.pop()
            value = (value * size + other * others) / (size + others)
            size += others
        pools.append((value, size))
    levels = [level for level, size in pools for _ in range(size)]
    result = np.empty(len(places))
    result[order] = np.clip(levels, low, high - gap * max(len(places) - 1, 0)) + steps
    return result


def _polar_axes(axes: Axes, labelled):
    """Axes of a density: the polarisation up, radii from 0; angles only if labelled."""
    assert isinstance(axes, PolarAxes)
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(3, prune="lower"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(labelsize="small", pad=1)
    axes.set_xticks(np.arange(8) * np.pi / 4)
    if not labelled:
        axes.set_xticklabels([])
    axes.set_axisbelow(False)  # no curve may hide the radii
    axes.grid(alpha=0.4)


def _beta_by_order(beta, error, orders, beta_true):
    """Figure of beta against the order, and of errors and deviations below."""
    figure = Figure(figsize=(8, 6.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    shells = len(beta)
    for shell, own in enumerate(orders):
        colour, name = COLOURS[shell % len(COLOURS)], _shell_name(shell, shells)
        shift = 0.3 * (shell - (shells - 1) / 2)
        if beta_true is not None:
            every = 2 * np.arange(1, beta_true.shape[1] + 1)
            label = "true" if shell == 0 else None
            style = {"color": TRUTH_COLOUR, "linestyle": "", "markersize": 9}
            upper.plot(every + shift, beta_true[shell], marker="_", label=label, **style)
        order = np.array(own, int)
        index = order // 2 - 1
        value, bar = beta[shell, index], error[shell, index]
        style = {"color": colour, "markersize": 4}
        upper.errorbar(order + shift, value, bar, fmt="o", capsize=2, label=name, **style)
        lower.plot(order + shift, bar, "o-", linewidth=1, label=f"{name}: error", **style)
        if beta_true is not None:
            known = order <= 2 * beta_true.shape[1]
            off = np.abs(value[known] - beta_true[shell, index[known]])
            label = f"{name}: |fit − true|"
            lower.plot(order[known] + shift, off, "x", label=label, **style)
    upper.axhline(0, color="black", linewidth=0.6)
    upper.set_ylabel(r"$\beta$")
    lower.set_ylabel(r"size of the error of $\beta$")
    _log_scale(lower, "y", error)
    if (error > 0).any():
        # A fit that meets the truth by chance would stretch the axis.
        lower.set_ylim(bottom=max(lower.get_ylim()[0], error[error > 0].min() / 30))
        lower.set_ylim(top=8 * lower.get_ylim()[1])  # room for the legend
    lower.set_xticks(2 * np.arange(1, 1 + max(max(own, default=2) for own in orders) // 2))
    lower.set_xlabel(f"order of the Legendre polynomial\n{CONVENTION}")
    upper.legend(fontsize="small")
    lower.legend(fontsize="small", ncols=shells, loc="upper center")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure


def _beta_by_shell(beta, error, orders, together, beta_true, radius, unit):
    """Figure of one panel for each order in `together`, beta against the shell."""
    rows = -(-len(together) // 3)
    columns = -(-len(together) // rows)
    width, height = (8, 4.4) if columns == 1 else (4.2 * columns, 2.6 * rows + 0.8)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    number = np.arange(1, len(beta) + 1)
    place = number if radius is None else radius
    ends = ""
    for panel, order in enumerate(together):
        axes, index = panels[panel], order // 2 - 1
        if beta_true is not None and index < beta_true.shape[1]:
            style = {"color": TRUTH_COLOUR, "linestyle": "", "markersize": 11, "mew": 1.5}
            axes.plot(place, beta_true[:, index], marker="_", label="true", **style)
        own = np.array([order in fitted for fitted in orders])
        axes.errorbar(
            place[own],
            beta[own, index],
            error[own, index],
            fmt="o",
            color=COLOURS[0],
            markersize=4,
            capsize=2,
            label="fit ± 1 standard error",
        )
        axes.set_ylabel(rf"$\beta_{{{order}}}$")
        axes.grid(alpha=0.3)
        axes.tick_params(labelbottom=panel + columns >= len(together))
        low, high = axes.get_ylim()
        for value in (0.0, -0.5, 1.0) if together == [2] else (0.0,):
            if low < value < high:
                style = ":" if value else "-"
                axes.axhline(value, color="black", linewidth=0.8, linestyle=style, zorder=1)
                ends = "; dotted: where I becomes negative" if value else ends
    for axes in panels[len(together) :]:
        axes.set_axis_off()
    if radius is None:
        panels[0].set(xlim=(0.5, len(beta) + 0.5), xticks=number[:: 1 + len(beta) // 13])
    else:
        panels[0].set_xlim(_limits(radius))
        for axes in panels[:columns]:
            _radius_labels(axes, radius, width / columns - 0.7)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    what = "shell, from the inside" if radius is None else f"radius R ({unit})"
    figure.supxlabel(f"{what}{ends}\n{CONVENTION}", fontsize="medium")
    return figure


def _covered_fractions(axes: Axes, of_kind):
    """Draws how many pulls of each kind, ``{name: [n]}``, lie within 1 and 1.96 errors."""
    lowest = 1.0
    for row, (width, wanted) in enumerate(((1.0, 0.683), (1.96, 0.95))):
        inside = [np.count_nonzero(np.abs(values) <= width) for values in of_kind.values()]
        size = np.array([len(values) for values in of_kind.values()])
        fraction = np.array(inside) / size
        low, high = _binomial_interval(fraction, size)
        lowest = min(lowest, low.min())
        axes.axhline(wanted, color=COLOURS[row], linestyle="--", linewidth=1)
        axes.errorbar(
            np.arange(size.size) + 0.15 * (row - 0.5),
            fraction,
            (fraction - low, high - fraction),
            fmt="o",
            color=COLOURS[row],
            markersize=4,
            capsize=2,
            label=f"within {width:g} error{'s' if row else ''}; line: {wanted:g}",
        )
    axes.set(
        xlim=(-0.6, len(of_kind) - 0.4),
        ylim=(min(0.6, lowest - 0.03), 1.01),
        xticks=np.arange(len(of_kind)),
        ylabel="fraction of the pulls, ± 1 binomial s.d.",
    )
    axes.set_xticklabels([_kind_name(kind) for kind in of_kind])
    axes.grid(alpha=0.3, axis="y")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)


def _binomial_interval(fraction, size):
    """Wilson's interval of one standard deviation: it has a length at fractions of 0 and 1 too."""
    middle = (fraction + 0.5 / size) / (1 + 1 / size)
    half = np.sqrt(fraction * (1 - fraction) / size + 0.25 / size**2) / (1 + 1 / size)
    return np.minimum(middle - half, fraction), np.maximum(middle + half, fraction)


def _kind_name(kind: str) -> str:
    if kind.startswith("beta"):
        return rf"$\beta_{{{kind.removeprefix('beta')}}}$"
    return {"R": "$R$", "sigma": r"$\sigma$", "background": "back-\nground"}.get(kind, kind)


def _limits(values):
    """Limits of an axis that shows all finite values, with a margin."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    margin = 0.05 * (high - low) or max(0.05 * abs(high), 1e-9)
    return low - margin, high + margin


def _log_scale(axes: Axes, which, values):
    """Makes the x or y axis logarithmic, with plain numbers, if it can show any of the values."""
    if not (values > 0).any():
        return
    axes.set(**{f"{which}scale": "log"})
    axis, (low, high) = {
        "x": (axes.xaxis, axes.get_xlim()),
        "y": (axes.yaxis, axes.get_ylim()),
    }[which]
    # A narrow range may hold no 1, 2 or 5.
    wide = high > 8 * low
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _shell_name(shell, shells):
    if shells == 1:
        return "single shell"
    if shells == 2:
        return ("inner shell", "outer shell")[shell]
    return f"shell {shell + 1}"


def _legendre(cos_theta, orders):
    """P_2 .. P_2L at cos(theta) ``[n]``: ``[n, L]``."""
    return np.polynomial.legendre.legvander(cos_theta, 2 * orders)[:, 2::2]


def _angular_density(beta, cos_theta):
    """I(cos theta) of one shell's beta ``[L]``."""
    return 0.5 + _legendre(cos_theta, len(beta)) @ beta


def _save(figure: Figure, path):
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata=PNG_TEXT)
