"""Fits as plain dictionaries, which JSON and the course's answer files are written from.

A record is in the literature's convention and has lengths in pixels, half-widths beside them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from uncertainties import UFloat

from sevi_jax.errors import InputError
from sevi_jax.physics.convention import COURSE_ORDERS, LITERATURE, half_width, to_course
from sevi_jax.results.shell import FittedShell

if TYPE_CHECKING:
    from sevi_jax.results.fit import Fit


def _pair(name: str, value: UFloat | None, scale: float = 1.0) -> dict[str, float | None]:
    """A value and its error; None where there is none."""
    if value is None:
        return {name: None, f"{name}_error": None}
    return {name: value.nominal_value / scale, f"{name}_error": value.std_dev / scale}


def _shell(shell: FittedShell, unit: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in (("R", shell.radius), ("sigma", shell.sigma), ("tail", shell.tail)):
        found |= _pair(f"{key}_pixels", value)
    found |= _pair("electrons", shell.electrons)
    found["counting_error"] = shell.counting_error
    found["orders"] = list(shell.beta)
    found["beta"] = [x.nominal_value for x in shell.beta.values()]
    found["beta_error"] = [x.std_dev for x in shell.beta.values()]
    return found | _pair("R", shell.radius, unit) | _pair("sigma", shell.sigma, unit)


def fit_record(fit: "Fit") -> dict[str, Any]:
    """The record of a fitted picture; what is not fitted has None for its error."""
    free = set(fit.names)
    row, column = fit.origin
    errors = [row.std_dev, column.std_dev] if "origin_row" in free else None
    ellipse = None
    if fit.ellipse is not None:
        ellipse = _pair("cos2", fit.ellipse[0]) | _pair("sin2", fit.ellipse[1])
    unit = half_width(fit.shape)
    return {
        "file": fit.name,
        "shape": list(fit.shape),
        "electrons": fit.electrons,
        "gain": fit.gain,
        "converged": fit.converged,
        "reason": fit.reason,
        "warnings": list(fit.warnings),
        "notes": list(fit.notes),
        "deviance_per_dof": fit.deviance_per_dof,
        "p_value": fit.p_value,
        "dispersion": fit.dispersion,
        "origin_pixels": [row.nominal_value, column.nominal_value],
        "origin_pixels_error": errors,
        "polarisation_degrees": fit.angle.nominal_value,
        "polarisation_degrees_error": fit.angle.std_dev if "angle" in free else None,
        "ellipse": ellipse,
        "shells": [_shell(shell, unit) for shell in fit.shells],
        "names": list(fit.parameters),
        "values": fit.values[fit.place].tolist(),
        "covariance": fit.covariance[np.ix_(fit.place, fit.place)].tolist(),
    }


def source_of_fits() -> dict[str, Any]:
    """What made fits, for files."""
    from sevi_jax.provenance import revision, versions

    return {"versions": versions(), "revision": revision()}


def document(
    records: Sequence[Mapping[str, Any]], source: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a JSON file of records holds.

    Args:
        records: of pictures.
        source: what made them; None are fits from the pictures alone.
    """
    source = source_of_fits() if source is None else source
    return {"convention": LITERATURE, **source, "pictures": list(records)}


def check_course(orders: Sequence[Sequence[int]]) -> None:
    """Raises InputError where a course's answer file cannot hold the orders."""
    for own in orders:
        strange = sorted(set(own) - set(COURSE_ORDERS))
        if strange:
            raise InputError(
                f"order {strange[0]} has no place in an .h5 answer, which holds even orders from "
                "2 to 24: write a .json"
            )


def course_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as the course's answer files have it: half-widths, and the course's beta.

    Raises:
        InputError: a shell has an odd order.
    """
    check_course([shell["orders"] for shell in record["shells"]])
    shells = []
    for shell in record["shells"]:
        last = max(shell["orders"], default=0) // 2
        found: dict[str, Any] = {key: shell.get(key) for key in ("R", "sigma")}
        for key in ("beta", "beta_error"):
            if shell.get(key) is None:
                continue
            values = [0.0] * last
            for order, value in zip(shell["orders"], shell[key], strict=True):
                values[order // 2 - 1] = math.nan if value is None else to_course(value)
            found[key] = values
        if "beta_error" in found:
            found |= {key: shell[key] for key in ("R_error", "sigma_error", "counting_error")}
            found |= {"yield": shell["electrons"], "yield_error": shell["electrons_error"]}
        shells.append(found)
    return {"file": record["file"], "shells": shells}
