"""Spectra over kinetic or binding energy, from a density of the radius; knows no picture.

With E(R) of a calibration, ``dN/dE = dN/dR / (dE/dR)``. Two errors are kept apart, because they do
different things: that of the density, which is the band, and that of the energy axis by the
calibration, which moves or stretches the whole spectrum.
"""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from sevi_jax.arguments import elements, numbers, target
from sevi_jax.data.outputs import MADE_BY
from sevi_jax.data.replacing import replacing
from sevi_jax.errors import InputError
from sevi_jax.physics.units import PER_EV, energy_unit
from sevi_jax.results.calibration import Calibration, Energy, check_calibration, photon_value

if TYPE_CHECKING:
    from sevi_jax.results.figures.style import Drawing

_POINTS_PER_SIGMA = 8
_COARSE = 256  # points over all radii, between the rings
_PADDED = 1024
_COMPILED: dict[str, Any] = {}  # functions of `_density` by shape


@dataclasses.dataclass(frozen=True, eq=False)
class Spectrum:
    """A spectrum.

    Attributes:
        energy: ascending, ``[K]``.
        intensity: electrons per unit of energy, ``[K]``.
        intensity_error: half of its 68 % band, without the calibration's error, ``[K]``; the
            covariance is ``covariance``.
        energy_error: error of the axis, that of calibration and photon energy, ``[K]``; common to
            all points.
        unit: eV, meV or cm-1.
        kind: "kinetic" or "binding".
        covariance: of `intensity`, ``[K, K]``; None where it is not kept.
    """

    energy: np.ndarray
    intensity: np.ndarray
    intensity_error: np.ndarray
    energy_error: np.ndarray
    unit: str
    kind: str
    covariance: np.ndarray | None = None

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the spectrum as CSV: energy, its error, electrons per unit, their error.

        Lines that begin with # are none of the table.
        """
        path = target(path, (".csv",))
        unit = self.unit
        columns = {
            f"{self.kind}_energy_{unit}": self.energy,
            f"energy_error_{unit}": self.energy_error,
            f"electrons_per_{unit}": self.intensity,
            f"electrons_per_{unit}_error": self.intensity_error,
        }
        rows = np.column_stack(list(columns.values()))
        lines = [f"# made by {MADE_BY}", ",".join(columns)]
        lines += (",".join(f"{x:.10g}" for x in row) for row in rows)
        with replacing(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", "utf-8")

    def plot(self) -> "Drawing":
        """Draws the spectrum and its band; notebooks show the figure, ``savefig`` saves it."""
        from sevi_jax.results.figures import energies as figures

        bands = self.energy, self.intensity, self.intensity_error
        return figures.spectrum(*bands, self.energy_error, self.unit, self.kind)


def spectrum_of(
    r: np.ndarray,
    intensity: np.ndarray,
    spread: np.ndarray,
    calibration: Calibration,
    photon_energy: Energy | None = None,
    unit: str = "eV",
) -> Spectrum:
    """Turns a density of the radius into one of energy.

    Args:
        r: radii, ascending, ``[K]`` pixels. Points at 0 and beyond the radius where the energies of
            the calibration would fall are left out.
        intensity: electrons per pixel of r, ``[K]``.
        spread: covariance of `intensity` ``[K, K]``, or, where that is not known, its standard
            errors ``[K]``.
        calibration: of energies.
        photon_energy: eV; with it the spectrum is one over binding energy.
        unit: of energy.

    Raises:
        InputError: an argument is not what is expected.
    """
    check_calibration(calibration)
    unit = energy_unit(unit)
    r, intensity, spread = (np.asarray(x, np.float64) for x in (r, intensity, spread))
    if r.ndim != 1 or intensity.shape != r.shape or spread.shape not in (r.shape, r.shape * 2):
        raise InputError(
            f"spectrum: found r, intensity and errors of shapes {r.shape}, {intensity.shape}, "
            f"{spread.shape}, expected [K], [K], and [K] or [K, K]"
        )
    photon = None if photon_energy is None else photon_value(photon_energy)
    used = (r > 0) & (r < calibration.turning_radius)
    r, intensity = r[used], intensity[used]
    per_pixel = calibration.slope(r) * PER_EV[unit]
    covariance = None
    if spread.ndim == 2:
        covariance = spread[np.ix_(used, used)] / np.outer(per_pixel, per_pixel)
        error = np.sqrt(np.maximum(np.diagonal(covariance), 0))
    else:
        error = spread[used] / per_pixel
    energy, axis = calibration.energy(r), calibration.energy_error(r)
    if photon is not None:
        energy = photon.nominal_value - energy
        axis = np.hypot(axis, photon.std_dev)
    order = slice(None) if photon is None else slice(None, None, -1)
    columns = (energy * PER_EV[unit], intensity / per_pixel, error, axis * PER_EV[unit])
    return Spectrum(
        *(x[order] for x in columns),
        unit=unit,
        kind="kinetic" if photon is None else "binding",
        covariance=None if covariance is None else covariance[order, order],
    )


def fit_spectrum(
    fit: Any,
    calibration: Calibration,
    photon_energy: Energy | None = None,
    unit: str = "eV",
    energy: np.ndarray | None = None,
) -> Spectrum:
    """Computes the spectrum of the shells of a `Fit`.

    Args:
        fit: whose shells are summed; their background is left out.
        calibration: of energies.
        photon_energy: eV; with it the spectrum is one over binding energy.
        unit: of energy.
        energy: where, kinetic or binding, in `unit`, ``[K]``; None chooses points that follow every
            ring. Energies that no radius has are left out.
    """
    check_calibration(calibration)
    if energy is None:
        r = _radii(fit)
    else:
        expected = "a list of finite numbers"
        listed = elements("energy", energy, expected)
        values = numbers("energy", listed, len(listed), expected)
        kinetic = np.asarray(values) / PER_EV[energy_unit(unit)]
        if photon_energy is not None:
            kinetic = photon_value(photon_energy).nominal_value - kinetic
        r = calibration.radius(kinetic)
        r = np.sort(r[r > 0])
    density, error = radial_density(fit, r)
    return spectrum_of(r, density, error, calibration, photon_energy, unit)


def radial_density(fit: Any, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes electrons per pixel of radius of all shells of a `Fit`, and their errors.

    Args:
        fit: a `Fit`.
        r: radii above 0, ``[K]`` pixels.

    Returns:
        ``[K]`` and ``[K]``; errors by the covariance of radii, widths, tails and electrons.
    """
    total, slopes, columns = np.zeros(len(r)), [], []
    for number, (shell, shape) in enumerate(zip(fit.shells, _shapes(fit), strict=True), 1):
        tail = 0.0 if shell.tail is None else shell.tail.nominal_value
        lengths = (shell.radius.nominal_value, shell.sigma.nominal_value, tail)
        value, by = _density(shape, r, lengths)
        electrons = shell.electrons.nominal_value
        total += electrons * value
        for index, name in enumerate(("radius", "sigma", "tail")):
            if f"{name}_{number}" in fit.names:
                columns.append(f"{name}_{number}")
                slopes.append(electrons * by[:, index])
        columns.append(f"electrons_{number}")
        slopes.append(value)
    place = [fit.names.index(name) for name in columns]
    covariance = np.asarray(fit.covariance)[np.ix_(place, place)]
    jacobian = np.stack(slopes, axis=1)
    variance = np.einsum("ki,ij,kj->k", jacobian, covariance, jacobian)
    return total, np.sqrt(np.maximum(variance, 0))


def _density(
    shape: str, r: np.ndarray, lengths: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Density of the radius ``[K]`` and its derivatives by R, sigma and tail, ``[K, 3]``."""
    import jax
    import jax.numpy as jnp

    from sevi_jax.physics import shapes

    if shape not in _COMPILED:

        def both(points, parameters):
            def density(p):
                return shapes.density(shape, points, p)

            return density(parameters), jax.jacfwd(density)(parameters)

        _COMPILED[shape] = jax.jit(both)
    # a few lengths, so that few programs are compiled
    padded = np.ones(-(-len(r) // _PADDED) * _PADDED, np.float32)
    padded[: len(r)] = r
    found = _COMPILED[shape](padded, jnp.asarray(lengths, jnp.float32))
    value, by = (np.asarray(x, np.float64)[: len(r)] for x in found)
    return value, by


def _shapes(fit: Any) -> list[str]:
    return [shell.shape for shell in fit.fitted.model.model.shells]


def _radii(fit: Any) -> np.ndarray:
    """Points close to one another on every ring, and further apart between them."""
    parts, far = [], 0.0
    for shell in fit.shells:
        radius, sigma = shell.radius.nominal_value, shell.sigma.nominal_value
        tail = 0.0 if shell.tail is None else shell.tail.nominal_value
        low = max(radius - 5 * sigma - 8 * max(-tail, 0.0), 0.0)
        high = radius + 5 * sigma + 8 * max(tail, 0.0)
        points = int(np.ceil((high - low) / sigma * _POINTS_PER_SIGMA)) + 1
        parts.append(np.linspace(low, high, points))
        far = max(far, high)
    r = np.unique(np.concatenate([*parts, np.linspace(0, far, _COARSE + 1)]))
    return r[r > 0]
