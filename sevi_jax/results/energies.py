"""Energies of fitted shells, with errors that are correlated; reads fits that were saved.

A shell's energy is that of its radius R by a `Calibration`. Its error has the errors of R, c and d
in it, and so have those of differences and sums of energies.
"""

import dataclasses
import math
import pathlib
from typing import Any

import numpy as np
import uncertainties
from uncertainties import UFloat

from sevi_jax.errors import InputError
from sevi_jax.physics.units import PER_EV, energy_unit
from sevi_jax.results.calibration import (
    Calibration,
    Energy,
    check_calibration,
    photon_value,
    read_json,
)
from sevi_jax.results.correlated import correlated


@dataclasses.dataclass(frozen=True)
class ShellEnergy:
    """The energy of a shell.

    Attributes:
        kinetic: kinetic energy of the electrons.
        binding: photon energy - kinetic energy; None where the photon energy is not given.
        sigma: standard deviation of the energies of the shell's electrons, sigma dE/dR; None where
            the fit does not give a width.
        unit: of all three: eV, meV or cm-1.
    """

    kinetic: UFloat
    binding: UFloat | None
    sigma: UFloat | None
    unit: str


@dataclasses.dataclass(frozen=True)
class EnergyScale:
    """How energies are stated.

    Attributes:
        calibration: of radii.
        photon_energy: eV; None states kinetic energies only.
        unit: eV, meV or cm-1.
    """

    calibration: Calibration
    photon_energy: UFloat | None = None
    unit: str = "eV"


@dataclasses.dataclass(frozen=True)
class SavedShell:
    """Radius and width (None where there is none) of a shell of a file, pixels."""

    radius: UFloat
    sigma: UFloat | None = None


@dataclasses.dataclass(frozen=True)
class SavedFit:
    """What a file holds of a fit that energies need.

    Attributes:
        name: of its picture.
        shells: inner first.
    """

    name: str
    shells: tuple[SavedShell, ...]


def shell_energies(
    fit: Any,
    calibration: Calibration,
    photon_energy: Energy | None = None,
    unit: str = "eV",
) -> tuple[ShellEnergy, ...]:
    """Computes the energies of the shells of a fit.

    Differences of the values are right with their errors: of two energies of this fit, and, where
    the calibration and the photon energy are the same variables, of energies of several fits.

    Args:
        fit: a `Fit`, or one that `read_fits` read.
        calibration: of the same spectrometer and settings, in the same pixels.
        photon_energy: eV; a number that is exact, a pair (value, error), or a `UFloat`.
        unit: of the result: "eV", "meV" or "cm-1".

    Returns:
        One per shell, inner first.

    Raises:
        InputError: unit or photon energy are not what is expected.
    """
    check_calibration(calibration)
    unit = energy_unit(unit)
    scale = PER_EV[unit]
    photon: Any = None if photon_energy is None else photon_value(photon_energy)
    calibration = calibration.linked(fit)
    found = []
    for shell in fit.shells:
        kinetic = calibration.energy(shell.radius)
        binding = None if photon is None else (photon - kinetic) * scale
        width = None
        if shell.sigma is not None:
            width = shell.sigma * calibration.slope(shell.radius) * scale
        found.append(ShellEnergy(kinetic * scale, binding, width, unit))
    return tuple(found)


def add_energies(
    picture: dict[str, Any],
    fit: Any,
    calibration: Calibration,
    photon_energy: Energy | None = None,
    unit: str = "eV",
) -> dict[str, Any]:
    """Adds energies to the shells of an answer, as predict's JSON has them.

    Args:
        picture: answer of the fit, with a list "shells".
        fit: as in `shell_energies`, like the rest.

    Returns:
        The same with energy, energy_error, binding_energy, binding_energy_error and unit in every
        shell; what is not known is None.
    """
    energies = shell_energies(fit, calibration, photon_energy, unit)
    shells = [
        {
            **shell,
            "energy": _finite(one.kinetic.nominal_value),
            "energy_error": _finite(one.kinetic.std_dev),
            "binding_energy": None if one.binding is None else _finite(one.binding.nominal_value),
            "binding_energy_error": None if one.binding is None else _finite(one.binding.std_dev),
            "unit": one.unit,
        }
        for shell, one in zip(picture["shells"], energies, strict=True)
    ]
    return {**picture, "shells": shells}


def table(energies: tuple[ShellEnergy, ...]) -> str:
    """Formats energies for the terminal, one shell a line."""
    lines = []
    for number, one in enumerate(energies, 1):
        line = f"  shell {number}: kinetic energy {one.kinetic:.2u} {one.unit}"
        if one.binding is not None:
            line += f", binding energy {one.binding:.2u} {one.unit}"
        lines.append(line)
    return "\n".join(lines)


def read_fits(path: str | pathlib.Path) -> list[SavedFit]:
    """Reads radii with errors from an answer of predict or a saved fit, in JSON.

    Where the file has the keys names, values and covariance of a fit, the radii are correlated as
    these say; else every radius has its own error R_pixels_error.

    Raises:
        InputError: the file is missing or holds something else; one line says what.
    """
    path = pathlib.Path(path)
    found = read_json(path)
    pictures = found.get("pictures", [found]) if isinstance(found, dict) else None
    if not isinstance(pictures, list) or not pictures:
        raise InputError(f"{path}: expected fits: JSON with a key pictures")
    fits = []
    for number, picture in enumerate(pictures, 1):
        place = f"{path}, picture {number}"
        try:
            fits.append(_saved_fit(picture))
        except KeyError as error:
            raise InputError(f"{place}: the key {error} is missing; is it a fit?") from None
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"{place}: {error}") from None
    return fits


def _saved_fit(picture: dict[str, Any]) -> SavedFit:
    """Raises KeyError, TypeError or ValueError where something is missing or of another kind."""
    name, shells = str(picture["file"]), picture["shells"]
    if not isinstance(shells, list) or not shells:
        raise ValueError("expected a list of shells")
    if picture.get("covariance") is None or picture.get("names") is None:
        return SavedFit(name, tuple(_saved_shell(shell) for shell in shells))
    names = [str(x) for x in picture["names"]]
    values = _array("values", picture["values"], (len(names),))
    covariance = _array("covariance", picture["covariance"], (len(names),) * 2)
    variables = dict(zip(names, correlated(values, covariance), strict=True))
    numbers = range(1, len(shells) + 1)
    return SavedFit(
        name,
        tuple(SavedShell(variables[f"radius_{k}"], variables[f"sigma_{k}"]) for k in numbers),
    )


def _saved_shell(shell: dict[str, Any]) -> SavedShell:
    radius = _with_error(shell["R_pixels"], shell["R_pixels_error"])
    sigma = None
    if shell.get("sigma_pixels") is not None:
        sigma = _with_error(shell["sigma_pixels"], shell.get("sigma_pixels_error"))
    return SavedShell(radius, sigma)


def _with_error(value: float | None, error: float | None) -> UFloat:
    """A value of JSON, where null is a number that is not known."""
    value, error = (math.nan if x is None else float(x) for x in (value, error))
    return uncertainties.ufloat(value, error)


def _array(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.array(value, np.float64)  # null becomes NaN
    if array.shape != shape:
        raise ValueError(f"{name} must be numbers of shape {shape}")
    return array


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
