"""Figures of studies of many fits: how near the bound they are, and whether errors are honest."""

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sevi_jax.results.figures.style import COLOURS, as_array, log_scale, nonempty, save_figure


def efficiency(path: str | pathlib.Path, distance: np.ndarray, bound: np.ndarray) -> None:
    """Draws the distances reached against those that the counts allow, over many pictures.

    Args:
        path: PNG file to write.
        distance: distance of each fit from the truth, ``[n]``.
        bound: the mean distance of an efficient estimate (Cramér-Rao), ``[n]``.

    Raises:
        ValueError: an array has another shape, or a value is not positive and finite.
    """
    distance = as_array("distance", distance, (None,))
    nonempty("distance", distance)
    bound = as_array("bound", bound, distance.shape)
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
    log_scale(left, "x", bins)
    left.legend()
    every = np.concatenate([distance, bound])
    low, high = every.min() / 1.2, every.max() * 1.2
    right.plot([low, high], [low, high], color="black", linewidth=0.8, label="distance = bound")
    size = float(np.clip(4000 / ratio.size, 4, 25))
    right.scatter(bound, distance, s=size, color=COLOURS[0], alpha=0.6, linewidths=0)
    right.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    right.set(xlabel="bound of the distance (Cramér-Rao)", ylabel="distance from the truth")
    for which in ("x", "y"):
        log_scale(right, which, every)
    right.grid(alpha=0.3)
    right.legend(loc="upper left")
    save_figure(figure, path)


def coverage(path: str | pathlib.Path, pulls: np.ndarray, names: Sequence[str]) -> None:
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
    pulls = as_array("pulls", pulls, (None, None))
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
    save_figure(figure, path)


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
