"""Figures of a `Distribution`: what is drawn is taken from it and from nothing else."""

from typing import TYPE_CHECKING

from sevi_jax.errors import InputError
from sevi_jax.results.figures import fits
from sevi_jax.results.figures.style import COLOURS, Drawing, png

if TYPE_CHECKING:
    from sevi_jax.results.distribution import Distribution

KINDS = ("distribution", "fit", "rings")
_SHOWN = 1e-3  # of the largest I: radii beyond the last one with so much are not drawn


def draw(distribution: "Distribution", kind: str) -> Drawing:
    """Draws a figure of a distribution.

    Args:
        distribution: what is drawn.
        kind: one of `KINDS`.

    Raises:
        InputError: another kind.
    """
    if kind not in KINDS:
        raise InputError(f"plot({kind!r}): expected one of {', '.join(KINDS)}")
    if kind == "distribution":
        return _curves(distribution)
    return fits.draw(distribution.fit, kind)


def drawings(distribution: "Distribution") -> dict[str, bytes]:
    """All figures of a distribution by their kind, as PNG files."""
    return {kind: png(draw(distribution, kind)) for kind in KINDS}


def _curves(distribution: "Distribution") -> Drawing:
    """I(r) above, every beta_n(r) below, with 68 and 95 % bands."""
    r, orders = distribution.r, distribution.orders
    bands = [distribution.band(level) for level in (0.95, 0.68)]
    figure = Drawing(figsize=(9, 3.2 + 2.0 * len(orders)), layout="constrained")
    heights = (2.4, *(1.0 for _ in orders))
    panels = figure.subplots(1 + len(orders), 1, sharex=True, height_ratios=heights, squeeze=False)
    panels = panels[:, 0]
    above = distribution.intensity > _SHOWN * distribution.intensity.max()
    above &= distribution.is_known | ~distribution.is_known.any()
    last = min(1.15 * r[above].max(), r[-1])
    colour = COLOURS[0]
    for band, alpha in zip(bands, (0.2, 0.4), strict=True):
        panels[0].fill_between(r, *band.intensity, color=colour, alpha=alpha, linewidth=0)
    panels[0].plot(r, distribution.intensity, color=colour, linewidth=1)
    top = 1.05 * float(bands[1].intensity[1][above].max())
    panels[0].set(ylabel="I(r) (electrons per pixel)", xlim=(0, last), ylim=(0, top))
    for axes, n, colour in zip(panels[1:], orders, COLOURS[1:] * 4, strict=False):
        for band, alpha in zip(bands, (0.2, 0.4), strict=True):
            axes.fill_between(r, *band.beta[n], color=colour, alpha=alpha, linewidth=0)
        axes.plot(r, distribution.beta[n], color=colour, linewidth=1)
        shown = distribution.beta[n][distribution.is_known & (r <= last)]
        low, high = (shown.min(), shown.max()) if len(shown) else (-1.0, 2.0)
        margin = 0.15 * max(high - low, 0.5)
        axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        axes.set(ylabel=f"β{n}(r)".translate(_SUBSCRIPTS), ylim=(low - margin, high + margin))
    panels[-1].set_xlabel("radius (pixels)")
    panels[0].set_title("bands: 68 and 95 %, at every radius by itself", fontsize="medium")
    for axes in panels:
        axes.grid(alpha=0.3)
    return figure


_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
