"""What figures share: colours, checks of arrays, axes, and how they are saved; knows no fit.

Figures are `Figure` objects without pyplot, so they need no display and leave no global state.
"""

import io
import pathlib

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sevi_jax.data.outputs import PNG_TEXT
from sevi_jax.data.replacing import replacing

DPI = 120
FIT_DPI = 100
COURSE = r"$\beta$ in the sevi_jax convention; literature $\beta$ = 2 × this"
TRUTH_COLOUR = "0.45"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_LABEL_WIDTH = 0.29  # inches, of R_24 with a space
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")  # mathematics of matplotlib is slow


class Drawing(Figure):
    """A figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        return png(self)


def png(figure: Figure) -> bytes:
    """The figure of a fit as a PNG file."""
    stream = io.BytesIO()
    options = {"metadata": PNG_TEXT, "pil_kwargs": {"compress_level": 4}}
    figure.savefig(stream, format="png", dpi=FIT_DPI, **options)
    return stream.getvalue()


def as_array(name, values, shape):
    """Returns the values as a float array; None in `shape` stands for any length."""
    array = np.asarray(values, dtype=np.float64)
    fits = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} has shape {array.shape}, expected ({wanted})")
    return array


def nonempty(name, array):
    """Returns the array's shape."""
    if array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, expected at least one value")
    return array.shape


def limits_of(values):
    """Limits of an axis that shows all finite values, with a margin."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    margin = 0.05 * (high - low) or max(0.05 * abs(high), 1e-9)
    return low - margin, high + margin


def log_scale(axes: Axes, which, values):
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


def shell_name(shell, shells):
    if shells == 1:
        return "single shell"
    if shells == 2:
        return ("inner shell", "outer shell")[shell]
    return f"shell {shell + 1}"


def save_figure(figure: Figure, path: str | pathlib.Path) -> None:
    """Writes a PNG file."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata=PNG_TEXT)


def radius_labels(axes: Axes, radius, width):
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
        apart(radius[inside], gap, low, high),
        strict=True,
    ):
        axes.annotate(
            f"R{number}".translate(_SUBSCRIPTS),
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


def apart(places, gap, low, high):
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
