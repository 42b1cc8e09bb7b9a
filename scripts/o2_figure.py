"""Draws the README's figure: the measured picture of O2-, and its spectrum over binding energy.

  python scripts/o2_figure.py

Takes docs/data/O2-ANU1024.txt.bz2 and writes docs/figures/o2.png. Fit and calibration are those of
the README, by the outermost ring and the electron affinity.
"""

import pathlib

import numpy as np
from matplotlib.figure import Figure

import sevi_jax as sj

DOCS = pathlib.Path(__file__).parents[1] / "docs"
PHOTON = 1239.841984 / 454.5  # eV
AFFINITY = 0.448, 0.006  # eV


def main() -> None:
    """Fits, calibrates and draws."""
    picture = sj.load(DOCS / "data/O2-ANU1024.txt.bz2")
    fit = sj.fit(picture, shells=5, shape="skewed", background="constant", range=(328, 425))
    calibration = sj.calibrate([(fit, {4: AFFINITY})], photon_energy=PHOTON)
    energies = fit.energies(calibration, photon_energy=PHOTON, unit="cm-1")
    spectrum = fit.spectrum(calibration, photon_energy=PHOTON, unit="cm-1")

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    shown = np.sqrt(picture.counts)
    left.imshow(shown, cmap="inferno", vmax=np.quantile(shown, 0.999))
    row, column = (x.nominal_value for x in fit.origin)
    for radius in (328, 425):
        angle = np.linspace(0, 2 * np.pi, 400)
        place = column + radius * np.sin(angle), row + radius * np.cos(angle)
        left.plot(*place, color="white", linewidth=0.6, linestyle="--")
    left.set(title="O$_2^-$, 454.5 nm; fitted between the circles", xticks=[], yticks=[])
    low, high = (spectrum.intensity + k * spectrum.intensity_error for k in (-1, 1))
    right.fill_between(spectrum.energy, low, high, alpha=0.4, linewidth=0)
    right.plot(spectrum.energy, spectrum.intensity, linewidth=1)
    for level, one in enumerate(reversed(energies)):
        assert one.binding is not None
        place = one.binding.nominal_value
        top = spectrum.intensity[np.abs(spectrum.energy - place) < 150].max()
        right.annotate(
            f"v = {level}\n{place:.0f}", (place, top), (0, 4), textcoords="offset points",
            ha="center", fontsize="small",
        )  # fmt: skip
    right.set(
        title="$\\mathrm{O_2}(X, v) \\leftarrow \\mathrm{O_2^-}$",
        xlim=(2500, 11000), xlabel="binding energy (cm$^{-1}$)", ylabel="electrons per cm$^{-1}$",
        ylim=(0, 1.15 * spectrum.intensity.max()),
    )  # fmt: skip
    figure.savefig(DOCS / "figures/o2.png", dpi=80)
    for shell, one in zip(fit.shells, energies, strict=True):
        print(f"R = {shell.radius:.1uS} pixels, binding energy {one.binding:.1uS} cm^-1")


if __name__ == "__main__":
    main()
