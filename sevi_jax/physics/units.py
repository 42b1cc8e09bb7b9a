"""Units of energy; knows no radius and no picture."""

from sevi_jax.errors import InputError

# How many of a unit are 1 eV; cm-1 is E / (h c), CODATA 2018.
PER_EV = {"eV": 1.0, "meV": 1e3, "cm-1": 8065.543937}
_OTHER_NAMES = {"cm^-1": "cm-1", "1/cm": "cm-1", "cm⁻¹": "cm-1"}


def energy_unit(name: str) -> str:
    """Returns the unit's name as results write it: eV, meV or cm-1.

    Raises:
        InputError: it is none of them.
    """
    name = _OTHER_NAMES.get(name, name)
    if name not in PER_EV:
        raise InputError(f"unit={name!r}: expected one of {', '.join(PER_EV)}")
    return name
