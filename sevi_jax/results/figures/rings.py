"""Counts in rings about the origin, the fit and its parts; arrays in, a figure out."""

import numpy as np

from sevi_jax.results.figures.style import COLOURS, Drawing, as_array, nonempty, radius_labels

_WIDTH = 10.0  # inches


def radial_profile(
    s: np.ndarray,
    counts: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    shells: np.ndarray,
    background: np.ndarray,
    radius: np.ndarray,
) -> Drawing:
    """Draws the counts in rings, the fit and its parts, and the residual below.

    Where a ring has a variance below 1, its residual is in units of 1 count.

    Args:
        s: edges of the rings, ascending distances from the origin, pixels, ``[n + 1]``.
        counts: electrons per ring, ``[n]``.
        mean: that the fit expects, ``[n]``.
        variance: of the counts, as the fit expects it, ``[n]``.
        shells: expected electrons per ring of each shell, ``[S, n]``.
        background: expected electrons per ring of the background, ``[n]``.
        radius: of the shells, marked R_1 .. R_S, ``[S]``, pixels.

    Raises:
        ValueError: an array has another shape, or `s` does not ascend.
    """
    counts = as_array("counts", counts, (None,))
    (rings,) = nonempty("counts", counts)
    s = as_array("s", s, (rings + 1,))
    if not (np.diff(s) > 0).all():
        raise ValueError("s must ascend")
    mean = as_array("mean", mean, (rings,))
    variance = as_array("variance", variance, (rings,))
    shells = as_array("shells", shells, (None, rings))
    background = as_array("background", background, (rings,))
    radius = as_array("radius", radius, (len(shells),))
    figure = Drawing(figsize=(_WIDTH, 6.0))
    upper, lower = figure.subplots(
        2, 1, sharex=True, height_ratios=(3, 1),
        gridspec_kw={"left": 0.08, "right": 0.985, "top": 0.92, "bottom": 0.09, "hspace": 0.06},
    )  # fmt: skip
    middle = (s[1:] + s[:-1]) / 2
    for shell, part in enumerate(shells):
        colour = COLOURS[shell % len(COLOURS)]
        label = ("shells" if len(shells) > 1 else "shell") if shell == 0 else None
        upper.stairs(part, s, fill=True, color=colour, alpha=0.35, linewidth=0, label=label)
    if background.any():
        upper.stairs(background, s, color="0.4", linestyle="--", linewidth=1.2, label="background")
    upper.stairs(mean, s, color="black", linewidth=1, label="fit")
    error = np.sqrt(np.maximum(variance, 0))
    upper.vlines(middle, counts - error, counts + error, color="0.45", linewidth=0.7)
    points = {"color": "0.45", "markersize": 3}
    upper.plot(middle, counts, ".", label="counts ± their standard deviation", **points)
    upper.set_ylabel("electrons per ring")
    upper.legend(fontsize="small", loc="best" if rings < 100 else "upper left")

    residual = (counts - mean) / np.sqrt(np.maximum(variance, 1))
    reach = max(4.0, 1.1 * float(np.max(np.abs(residual[np.isfinite(residual)]), initial=0)))
    lower.axhspan(-1, 1, color="0.9", linewidth=0)
    lower.axhline(0, color="black", linewidth=0.8)
    lower.plot(middle, residual, ".", color="0.35", markersize=3)
    lower.set(
        xlim=s[[0, -1]],
        ylim=(-reach, reach),
        xlabel="distance from the origin in the picture (pixels)",
        ylabel="(counts − fit) / s.d.",
    )
    for axes in (upper, lower):
        low, high = axes.get_ylim()
        axes.vlines(radius, low, high, color="0.6", linestyle=":", linewidth=0.8, zorder=0.5)
        axes.set_ylim(low, high)
    radius_labels(upper, radius, _WIDTH)
    return figure
