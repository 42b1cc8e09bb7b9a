"""Calibrate radii in energy, from fitted rings whose energies are known.

  python -m sevi_jax.calibrate --input=a.json --known=1:0.0123eV,2:0.0456eV --output=cal.json
  python -m sevi_jax.calibrate --input=a.json,b.json --known='1:99.2cm-1;1:0.5(1)meV,3:20meV' \\
      --second_term --output=cal.json
  python -m sevi_jax.calibrate --input=a.json --photon_energy=2.7293 \\
      --known='1:2.6(0.0002)eV,2:2.5eV' --output=cal.json

Input: answers of sevi_jax.predict, or fits saved from Python, in JSON. E = c R^2, or with
--second_term E = c R^2 (1 + d R^2), is fitted with all errors. Shells count from 1 as the table of
predict counts them. An energy has a unit, eV, meV or cm-1, and where it is not exact its error
behind it, as 0.0123(2)eV (in its last digits) or 0.0123+-0.0002eV. Energies are kinetic; with
--photon_energy they are binding energies. Several pictures, of one file or of several, have their
energies behind semicolons, in their order. Printed: the calibration, and by it the energies of all
shells of the input. Output: the calibration in JSON, for predict --calibration, and beside it a
figure of the same name in .png.
"""

import pathlib

from absl import flags

from sevi_jax import commands
from sevi_jax.data import outputs
from sevi_jax.errors import InputError

_INPUT = flags.DEFINE_list("input", [], "Fits in JSON.")
_KNOWN = flags.DEFINE_string(
    "known", None, "Energies of shells as 1:0.0123eV,2:0.0456eV; of the next picture behind a ';'."
)
_OUTPUT = flags.DEFINE_string("output", None, "Calibration, .json.")
_SECOND_TERM = flags.DEFINE_bool("second_term", False, "Fit d of E = c R^2 (1 + d R^2) as well.")
_PHOTON_ENERGY = flags.DEFINE_string(
    "photon_energy",
    None,
    "eV, as 2.7293 or 2.7293(1), or 454.5nm in vacuum: the energies of --known are binding ones.",
)
_UNIT = flags.DEFINE_enum("unit", "eV", ["eV", "meV", "cm-1"], "Of the energies that are printed.")

_OVERWRITE = commands.define_overwrite()


def main() -> None:
    """Calibrates, prints the result and writes it."""
    inputs = commands.paths(_INPUT.value, "input")
    if not _KNOWN.value:
        raise InputError("--known=SHELL:ENERGY,... is needed, for instance --known=1:0.0123eV")
    if not _OUTPUT.value or pathlib.Path(_OUTPUT.value).suffix.lower() != ".json":
        raise InputError("--output=FILE.json is needed")
    output = pathlib.Path(_OUTPUT.value)
    with commands.guarding(inputs, _OVERWRITE.value):
        for path in (output, output.with_suffix(".png")):
            outputs.check_output(path)
        _calibrate(inputs, _KNOWN.value, output)


def _calibrate(inputs: list[pathlib.Path], text: str, output: pathlib.Path) -> None:
    from sevi_jax.results import known_energies
    from sevi_jax.results.calibration import calibrate
    from sevi_jax.results.energies import read_fits, shell_energies, table
    from sevi_jax.results.figures.style import save_figure

    known = known_energies.parse_known(text)
    photon = known_energies.parse_photon_energy(_PHOTON_ENERGY.value)
    fits = [fit for path in inputs for fit in read_fits(path)]
    if len(known) != len(fits):
        raise InputError(
            f"--known={text}: found energies of {len(known)} pictures, expected those of "
            f"the {len(fits)} pictures of --input, each behind a semicolon"
        )
    calibration = calibrate(
        list(zip(fits, known, strict=True)), _SECOND_TERM.value, photon_energy=photon
    )
    print(calibration.table())
    for fit in fits:
        energies = shell_energies(fit, calibration, photon, _UNIT.value)
        print(f"{fit.name}:\n{table(energies)}")
    calibration.save(output)
    figure = output.with_suffix(".png")
    save_figure(calibration.plot(), figure)
    print(f"calibration: {output}, figure: {figure}")


if __name__ == "__main__":
    commands.run(main, "sevi_jax.calibrate", __doc__, checks_jax=False)
