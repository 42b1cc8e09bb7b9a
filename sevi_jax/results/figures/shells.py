"""Angular distributions and betas of fitted shells, the literature's; arrays in, a figure out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sevi_jax.results.figures.style import (
    COLOURS,
    Drawing,
    limits_of,
    log_scale,
    radius_labels,
    shell_name,
)

_NEGATIVE = "#cc0000"
_PANEL = 2.4  # inches
_CONVENTION = "I ∝ 1 + Σ βₙ Pₙ(cos θ)"


def densities(beta: Sequence[Mapping[int, float]], covariance: Sequence[np.ndarray]) -> Drawing:
    """Draws I(theta) of each shell over that of an isotropic one, with its band of one error.

    Where I is negative, |I| is drawn, dashed red. The dotted circle is I = 1.

    Args:
        beta: of each shell by its order.
        covariance: of each shell's betas ``[L, L]``; NaN draws no band.
    """
    count = len(beta)
    columns = min(6, count)
    rows = -(-count // columns)
    figure = Drawing(figsize=(max(_PANEL * columns, 5.5), _PANEL * 1.12 * rows + 0.75))
    height = figure.get_figheight()
    axes = figure.add_axes((0, 0.35 / height, 1, 1 - 0.75 / height))
    axes.set_axis_off()
    theta = np.linspace(0, 2 * np.pi, 361)
    direction = np.stack([np.sin(theta), np.cos(theta)], axis=1)
    curves, dashed, circles, bands = [], [], [], []
    for number, (own, matrix) in enumerate(zip(beta, covariance, strict=True)):
        density, error = density_of(own, matrix, np.cos(theta))
        unit = 1 / max(float(np.max(np.abs(density) + np.nan_to_num(error))), 1.0)
        middle = np.array([2.3 * (number % columns), -2.6 * (number // columns)])
        curves.append(middle + unit * np.maximum(density, 0)[:, None] * direction)
        circles.append(middle + unit * direction)
        if (density < 0).any():
            dashed.append(middle + unit * np.maximum(-density, 0)[:, None] * direction)
        if np.isfinite(error).all():
            outer, inner = (np.maximum(density + sign * error, 0)[:, None] for sign in (1, -1))
            ring = [outer * direction, (inner * direction)[::-1]]
            bands.append(middle + unit * np.concatenate(ring))
        least = f", least −{-density.min():.2g}" if density.min() < 0 else ""
        axes.text(
            middle[0], middle[1] + 1.05, shell_name(number, count) + least,
            ha="center", va="bottom", color=_NEGATIVE if least else "black",
            fontsize="medium" if columns < 4 else "small",
        )  # fmt: skip
    axes.add_collection(PolyCollection(bands, facecolors=COLOURS[0], alpha=0.3), autolim=False)
    axes.add_collection(LineCollection(circles, colors="0.5", linestyles=":"), autolim=False)
    axes.add_collection(LineCollection(curves, colors=COLOURS[0], linewidths=1.2), autolim=False)
    axes.add_collection(
        LineCollection(dashed, colors=_NEGATIVE, linestyles="--", linewidths=1.2), autolim=False
    )
    axes.set_aspect("equal")
    axes.set(xlim=(-1.2, 2.3 * columns - 1.1), ylim=(-2.6 * (rows - 1) - 1.2, 1.4))
    handles = [
        Line2D([], [], color=COLOURS[0], label="fit"),
        Patch(color=COLOURS[0], alpha=0.3, label="± 1 standard error"),
        Line2D([], [], color="0.5", linestyle=":", label="isotropic"),
    ]
    if dashed:
        handles.append(Line2D([], [], color=_NEGATIVE, linestyle="--", label="negative, |I| drawn"))
    figure.legend(handles=handles, loc="upper center", ncols=4, frameon=False, fontsize="small")
    figure.text(
        0.5, 0.06 / height, f"{_CONVENTION}; θ = 0, the polarisation, is up",
        ha="center", va="bottom", fontsize="small",
    )  # fmt: skip
    return figure


def density_of(
    beta: Mapping[int, float], covariance: np.ndarray, cosine: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """1 + sum beta_n P_n, and its standard error ``sqrt(P' C P)``."""
    orders = list(beta)
    polynomials = np.polynomial.legendre.legvander(cosine, max(orders, default=0))[:, orders]
    density = 1 + polynomials @ np.array([beta[n] for n in orders])
    variance = np.einsum("tl,lk,tk->t", polynomials, np.asarray(covariance), polynomials)
    return density, np.sqrt(np.maximum(variance, 0))


def beta_values(
    beta: Sequence[Mapping[int, float]], error: Sequence[Mapping[int, float]], radius: np.ndarray
) -> Drawing:
    """Draws fitted beta with error bars.

    Up to four shells of several orders: beta against the order, and the errors below. Else one
    panel for each order: beta against the shell's radius.

    Args:
        beta: of each shell by its order; at least one.
        error: their standard errors.
        radius: of the shells, pixels, ``[S]``.
    """
    together = sorted({order for own in beta for order in own})
    if not together:
        raise ValueError("beta holds no order")
    if len(beta) <= 4 and len(together) > 1:
        return _by_order(beta, error, together)
    return _by_shell(beta, error, together, np.asarray(radius, np.float64))


def _by_order(beta, error, together):
    """Figure of beta against the order, and of errors below."""
    figure = Drawing(figsize=(8, 5.6))
    upper, lower = figure.subplots(
        2, 1, sharex=True, height_ratios=(3, 2),
        gridspec_kw={"left": 0.1, "right": 0.985, "top": 0.98, "bottom": 0.09, "hspace": 0.06},
    )  # fmt: skip
    shells = len(beta)
    for shell, own in enumerate(beta):
        name, place = shell_name(shell, shells), 0.3 * (shell - (shells - 1) / 2)
        order, value = np.array(list(own)), np.array(list(own.values()))
        bar = np.array([error[shell][n] for n in own])
        style = {"color": COLOURS[shell % len(COLOURS)], "markersize": 4}
        upper.errorbar(order + place, value, bar, fmt="o", capsize=2, label=name, **style)
        lower.plot(order + place, bar, "o-", linewidth=1, label=name, **style)
    upper.axhline(0, color="black", linewidth=0.6)
    upper.set_ylabel("beta ± 1 standard error")
    lower.set_ylabel("standard error of beta")
    log_scale(lower, "y", np.array([e for own in error for e in own.values()]))
    lower.set_xticks(together)
    lower.set_xlabel(f"order n of the Legendre polynomial; {_CONVENTION}")
    upper.legend(fontsize="small")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure


def _by_shell(beta, error, together, radius):
    """Figure of one panel for each order, beta against the radius."""
    rows = -(-len(together) // 3)
    columns = -(-len(together) // rows)
    width, height = (8, 4.0) if columns == 1 else (4.2 * columns, 2.4 * rows + 0.9)
    figure = Drawing(figsize=(width, height))
    panels = figure.subplots(
        rows, columns, squeeze=False, sharex=True,
        gridspec_kw={"left": 0.7 / width, "right": 1 - 0.1 / width, "top": 1 - 0.4 / height,
                     "bottom": 0.6 / height, "wspace": 0.2, "hspace": 0.08},
    ).ravel()  # fmt: skip
    for panel, order in enumerate(together):
        axes = panels[panel]
        own = [i for i, shell in enumerate(beta) if order in shell]
        value, bar = (np.array([x[i][order] for i in own]) for x in (beta, error))
        axes.errorbar(radius[own], value, bar, fmt="o", color=COLOURS[0], markersize=4, capsize=2)
        axes.set_ylabel(f"beta_{order} ± 1 standard error" if columns == 1 else f"beta_{order}")
        axes.grid(alpha=0.3)
        _mark_limits(axes, order if together == [order] else 0)
    for axes in panels[len(together) :]:
        axes.set_axis_off()
    panels[0].set_xlim(limits_of(radius))
    for axes in panels[:columns]:
        radius_labels(axes, radius, width / columns - 0.7)
    figure.text(0.5, 0.08 / height, f"radius (pixels); {_CONVENTION}", ha="center", va="bottom")
    return figure


def _mark_limits(axes: Axes, order: int) -> None:
    """Draws 0, and where a single order makes a density negative."""
    low, high = axes.get_ylim()
    for value in (0.0, *((-1.0, 2.0) if order == 2 else ())):
        if low < value < high:
            axes.axhline(
                value, color="black", linewidth=0.8, linestyle=":" if value else "-", zorder=1
            )
