"""A picture, the means of its fit, and the residual, side by side; arrays in, a figure out."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.ticker import MaxNLocator

from sevi_jax.results.figures.style import Drawing, as_array, nonempty

_MASKED = "0.6"
_ENOUGH = 5.0  # expected variance from which on a residual is nearly normal
_DRAWN_PIXELS = 400  # along a side of a panel, which has so many on the screen
_PANEL = 4.0  # inches


def fit_picture(
    counts: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    used: np.ndarray,
    rings: Sequence[np.ndarray] = (),
    axis: np.ndarray | None = None,
) -> Drawing:
    """Draws counts, fit and residual side by side, rows downwards.

    The residual is ``(counts - mean) / sqrt(variance)``, summed over blocks of 2^k x 2^k pixels.
    Every pixel lies in one block: the smallest in which the pixels that no smaller block took have
    a variance of 5. A large picture begins with larger blocks, so that the drawing does not average
    the residual; counts and fit are then drawn as the average of such a block. Where even the
    largest block has a variance below 1, the residual is in units of 1 count.

    Args:
        counts: electrons per pixel, ``[H, W]``.
        mean: that the fit expects, ``[H, W]``.
        variance: of the counts, as the fit expects it, ``[H, W]``.
        used: pixels where it is 0 are grey, whatever they hold, ``[H, W]``.
        rings: curves to mark, ``[n, 2]`` rows and columns in pixels from the corner.
        axis: the two ends of a line along the polarisation, ``[2, 2]``, likewise.

    Raises:
        ValueError: an array has another shape, no pixel is used, or a used pixel is not finite.
    """
    counts = as_array("counts", counts, (None, None))
    nonempty("counts", counts)
    mean = as_array("mean", mean, counts.shape)
    variance = as_array("variance", variance, counts.shape)
    height, width = counts.shape
    sums, pixels, block = _drawn_blocks(
        {"counts": counts, "mean": mean, "variance": variance}, used
    )
    residual, smallest, largest = _block_residual(sums[0], sums[1], sums[2], pixels > 0)
    shown = [np.where(pixels > 0, x / np.maximum(pixels, 1), np.nan) for x in sums[:2]]
    # A single hot pixel must not make the rings dark.
    high = max(float(np.nanquantile(shown[0], 0.999)), float(np.nanmax(shown[1]))) or 1.0
    low = min(0.0, float(np.nanquantile(shown[0], 0.001)))
    scale = Normalize(low, high) if low < 0 else PowerNorm(0.5, vmin=0, vmax=high, clip=True)
    averages = f", averages of {block}×{block} pixels" if block > 1 else ""
    sizes = " to ".join(f"{n}×{n}" for n in sorted({block * smallest, block * largest}))
    blocks = f"residual in blocks of {sizes} pixels" if sizes != "1×1" else "residual"
    # Blocks may reach beyond the last pixel.
    extent = (0, pixels.shape[1] * block, pixels.shape[0] * block, 0)

    figure, panels, bars = _panels(height / width)
    titles = f"electrons{averages}", f"fit{averages}", blocks
    for axes, values, title in zip(panels, (*shown, residual), titles, strict=True):
        is_residual = values is residual
        axes.imshow(
            values,
            extent=extent,
            aspect="auto",  # the panel has the picture's shape
            cmap=colormaps["RdBu_r" if is_residual else "inferno"].with_extremes(bad=_MASKED),
            norm=Normalize(-5, 5, clip=True) if is_residual else scale,
            interpolation="nearest",  # an average would not have the spread of a residual
        )
        _mark(axes, rings, axis, "black" if is_residual else "white")
        axes.set(xlim=(0, width), ylim=(height, 0), xlabel="column (pixels)")
        axes.set_title(title, fontsize="medium")
        axes.xaxis.set_major_locator(MaxNLocator(4, prune="upper"))
        axes.yaxis.set_major_locator(MaxNLocator(4))
    panels[0].set_ylabel("row (pixels)")
    for axes in panels[1:]:
        axes.tick_params(labelleft=False)
    cut = "max" if np.nanmax(shown[0]) > high else "neither"
    root = "" if low < 0 else " (square-root scale)"
    for image, bar, extend, label in (
        (panels[0].get_images()[0], bars[0], cut, f"electrons per pixel{root}; dotted: R"),
        (panels[2].get_images()[0], bars[1], "both", "(counts − fit) / standard deviation"),
    ):
        figure.colorbar(
            image, cax=bar, label=label, orientation="horizontal", extend=extend,
            extendfrac=0.02, ticks=MaxNLocator(5),
        )  # fmt: skip
    return figure


def _mark(axes: Axes, rings: Sequence[np.ndarray], axis: np.ndarray | None, colour: str) -> None:
    """Draws the rings and the line along the polarisation."""
    curves = [np.asarray(ring)[:, ::-1] for ring in rings]
    # Short dots far apart: a full circle would hide a thin shell.
    axes.add_collection(
        LineCollection(curves, colors=colour, linestyles=[(0, (1, 5))], linewidths=0.8),
        autolim=False,
    )
    if axis is not None:
        rows, columns = np.asarray(axis).T
        axes.plot(columns, rows, color=colour, linewidth=0.6, alpha=0.6)


def _panels(ratio: float) -> tuple[Drawing, list[Axes], list[Axes]]:
    """Three panels of this height over width, and the axes of two colour bars below.

    They are placed by hand: matplotlib's layouts draw everything twice.
    """
    wide, high = (_PANEL, _PANEL * ratio) if ratio < 1.5 else (1.5 * _PANEL / ratio, 1.5 * _PANEL)
    left, gap, below, above = 0.7, 0.2, 1.35, 0.4
    total = left + 3 * wide + 3 * gap, below + high + above
    figure = Drawing(figsize=total)

    def place(x, y, width, height):
        return figure.add_axes((x / total[0], y / total[1], width / total[0], height / total[1]))

    panels = [place(left + i * (wide + gap), below, wide, high) for i in range(3)]
    bars = [
        place(left, 0.55, 2 * wide + gap, 0.15),
        place(left + 2 * (wide + gap), 0.55, wide, 0.15),
    ]
    return figure, panels, bars


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


def _drawn_blocks(arrays, used):
    """Sums over as many pixels as one dot of the drawing shows.

    Args:
        arrays: by name ``[H, W]``.
        used: ``[H, W]``.

    Returns:
        Sums of the arrays, how many used pixels they are over, all of one shape, and along how
        many pixels a block lies, a power of two.
    """
    (shape,) = {array.shape for array in arrays.values()}
    used = as_array("used", used, shape) != 0
    if not used.any():
        raise ValueError("used leaves no pixel")
    block = _power_of_two(max(shape) / _DRAWN_PIXELS)
    sums = []
    for name, values in arrays.items():
        sums.append(_block_sums(np.where(used, values, 0), block))
        if not np.isfinite(sums[-1]).all():
            raise ValueError(f"{name} must be finite in every pixel used")
    return sums, _block_sums(used, block), block


def _deviation(counts, mean, variance):
    """(counts - mean) in standard deviations; in units of 1 count where less is expected.

    Where nearly nothing is expected, sqrt(mean) would make an outlier of every stray electron.
    """
    return (counts - mean) / np.sqrt(np.maximum(variance, 1))


def _block_residual(counts, mean, variance, used):
    """Residual in blocks just large enough, and the sizes of the smallest and largest block.

    Blocks grow by powers of two up to about a sixteenth of the picture's side. One that expects
    enough counts is drawn and leaves the sums, so no count is in two blocks. The choice does not
    look at the counts, which would bias the residual.

    Args:
        counts: ``[H, W]``, 0 where not used.
        mean: ``[H, W]``, 0 where not used.
        variance: ``[H, W]``, 0 where not used.
        used: ``[H, W]`` bool.

    Returns:
        The residual ``[H, W]``, the same in all pixels of a block, NaN where not used; two sizes.
    """
    residual = np.full(counts.shape, np.nan)
    waiting, block, sizes = used.copy(), 1, []
    last = _power_of_two(max(counts.shape) / 16)
    while waiting.any():
        ready = (variance >= _ENOUGH) | (block >= last)
        here = _spread_blocks(ready, block, waiting.shape) & waiting
        if here.any():
            sizes.append(block)
        off = _deviation(counts, mean, variance)
        residual[here] = _spread_blocks(off, block, waiting.shape)[here]
        waiting &= ~here
        counts, mean, variance = (
            _block_sums(np.where(ready, 0, values), 2) for values in (counts, mean, variance)
        )
        block *= 2
    return residual, sizes[0], sizes[-1]


def _spread_blocks(values, block, shape):
    """Gives every pixel its block's value, for a picture of this shape."""
    return values.repeat(block, axis=0).repeat(block, axis=1)[: shape[0], : shape[1]]
