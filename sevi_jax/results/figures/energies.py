"""Figures of energies: NumPy arrays in, figures out; knows no fit and no calibration."""

import numpy as np

from sevi_jax.results.figures.style import COLOURS, Drawing

_UNITS = {"cm-1": "cm$^{-1}$"}


def calibration(
    curve: tuple[np.ndarray, np.ndarray, np.ndarray],
    radius: np.ndarray,
    energy: np.ndarray,
    error: np.ndarray,
    title: str,
    residual: np.ndarray,
) -> Drawing:
    """Draws the energies of rings and the curve through them against R^2; below it, residuals.

    Args:
        curve: radii (pixels), energies and their errors (eV), ``[K]`` each.
        radius: of the rings, ``[N]`` pixels.
        energy: known, ``[N]`` eV.
        error: of the residuals, ``[N]`` eV.
        title: of the figure.
        residual: known energies minus those of the curve, ``[N]`` eV.
    """
    r, fitted, band = curve
    figure = Drawing(figsize=(7, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    upper.plot(r**2, fitted, color=COLOURS[0], linewidth=1)
    upper.plot(radius**2, energy, "o", color=COLOURS[1], markersize=5)
    upper.set(ylabel="kinetic energy (eV)", xlim=(0, None), ylim=(0, None))
    upper.set_title(title, fontsize="medium")
    lower.fill_between(r**2, -1e3 * band, 1e3 * band, color=COLOURS[0], alpha=0.25, linewidth=0)
    lower.axhline(0, color=COLOURS[0], linewidth=1)
    lower.errorbar(
        radius**2, 1e3 * residual, 1e3 * error, fmt="o", color=COLOURS[1], capsize=3, markersize=5
    )
    lower.set(xlabel="R² (pixels²)", ylabel="known - fitted (meV)")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure


def spectrum(
    energy: np.ndarray,
    intensity: np.ndarray,
    error: np.ndarray,
    axis_error: np.ndarray,
    unit: str,
    kind: str,
) -> Drawing:
    """Draws a spectrum with its 68 % band.

    Args:
        energy: ``[K]``.
        intensity: electrons per unit of energy, ``[K]``.
        error: half of the band, ``[K]``.
        axis_error: error of the energies, ``[K]``; its largest is stated.
        unit: of energy.
        kind: "kinetic" or "binding".
    """
    name = _UNITS.get(unit, unit)
    figure = Drawing(figsize=(8, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(
        energy, intensity - error, intensity + error, color=COLOURS[0], alpha=0.3, linewidth=0
    )
    axes.plot(energy, intensity, color=COLOURS[0], linewidth=1)
    axes.set(xlabel=f"{kind} energy ({name})", ylabel=f"electrons per {name}")
    axes.margins(x=0)
    axes.grid(alpha=0.3)
    if len(axis_error):
        low, high = axis_error.min(), axis_error.max()
        axes.set_title(
            f"error of the energy axis: {low:.2g} to {high:.2g} {name}", fontsize="medium"
        )
    return figure
