"""Energies as people write them in flags: 0.0123eV, 0.0123(2)eV, 99.2+-0.5cm-1, 454.5nm."""

import math
import re
from typing import Any

import uncertainties
from uncertainties import UFloat

from sevi_jax.errors import InputError
from sevi_jax.physics.units import PER_EV
from sevi_jax.results.correlated import constant

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_VALUE = re.compile(rf"\s*({_NUMBER})(?:\(([\d.]+)\)|\s*(?:\+-|\+/-|±)\s*({_NUMBER}))?\s*(.*?)\s*")
_UNITS = {unit.lower(): unit for unit in PER_EV} | {"cm^-1": "cm-1", "1/cm": "cm-1"}


def parse_known(text: str) -> list[dict[int, UFloat]]:
    """Energies of ``--known``, eV, by index of the shell from 0, of every picture.

    Raises:
        InputError: naming the part that is wrong.
    """
    found = []
    for part in text.split(";"):
        energies: dict[int, UFloat] = {}
        for entry in filter(None, (x.strip() for x in part.split(","))):
            number, colon, energy = entry.partition(":")
            if not colon or not number.strip().isdecimal() or int(number) < 1:
                raise InputError(
                    f"--known={entry}: expected SHELL:ENERGY as 1:0.0123eV; shells count from 1"
                )
            if int(number) - 1 in energies:
                raise InputError(f"--known={text}: shell {int(number)} has two energies")
            energies[int(number) - 1] = parse_energy(energy, f"--known={entry}")
        found.append(energies)
    return found


def parse_photon_energy(text: str | None) -> UFloat | None:
    """The photon energy of a flag in eV; None where there is none.

    Args:
        text: an energy, whose unit is eV where it has none, or a wavelength in vacuum, in nm.

    Raises:
        InputError: it is something else.
    """
    if text is None:
        return None
    what = f"--photon_energy={text}"
    if not text.strip().lower().endswith("nm"):
        energy: Any = parse_energy(text, what, "eV")
        if not energy.nominal_value > 0:
            raise InputError(f"{what}: expected an energy above 0")
        return energy
    # as a number without a unit of its own
    wavelength: Any = parse_energy(text.strip()[:-2] + "eV", what)
    if not wavelength.nominal_value > 0:
        raise InputError(f"{what}: expected a positive wavelength")
    return 1e7 / PER_EV["cm-1"] / wavelength


def parse_energy(text: str, what: str, unit: str | None = None) -> UFloat:
    """An energy in eV, with its error where it has one.

    Args:
        text: number, error as (2) in the last digits or as +-0.0002, and unit.
        what: what messages call it.
        unit: where the text has none; None demands one.

    Raises:
        InputError: it is something else.
    """
    match = _VALUE.fullmatch(text)
    name = None if match is None else _UNITS.get((match[4] or unit or "").lower())
    if match is None or name is None:
        raise InputError(
            f"{what}: expected a number with a unit of {', '.join(PER_EV)}, as 0.0123eV, "
            "0.0123(2)eV or 0.0123+-0.0002eV"
        )
    value, error = float(match[1]), 0.0
    if match[2] is not None:
        try:
            error = uncertainties.ufloat_fromstr(f"{match[1]}({match[2]})").std_dev
        except ValueError:
            raise InputError(f"{what}: ({match[2]}) is no error of {match[1]}") from None
    elif match[3] is not None:
        error = abs(float(match[3]))
    if not (math.isfinite(value) and math.isfinite(error)):
        raise InputError(f"{what}: expected a finite number")
    scale = PER_EV[name]
    return uncertainties.ufloat(value / scale, error / scale) if error else constant(value / scale)
