"""Predict the shells in measured pictures or event files, by a fit or by a trained network.

  python -m sevi_jax.predict --shells=2 --input=a.tif --output=answer.json
  python -m sevi_jax.predict --shells=3 --orders=2,4 --background=constant --input=a.npy \\
      --output=answer.json
  python -m sevi_jax.predict --shells=2 --input=train0.h5 --output=answer.h5
  python -m sevi_jax.predict --workdir=runs/quick --input=train0.h5 --output=answer.h5
  python -m sevi_jax.predict --workdir=runs/quick --fit --input=a.npy,b.txt.bz2 --output=answer.json
  python -m sevi_jax.predict --shells=2 --input=on.tif --off=off.tif --mask=rim.png --offset=100 \\
      --output=answer.json
  python -m sevi_jax.predict --shells=2 --input=pymepix.h5:/centroided --gate=tof:1.1e-6,1.3e-6 \\
      --output=answer.json
  python -m sevi_jax.predict --shells=2 --input=a.tif --calibration=cal.json \\
      --photon_energy=2.7293 --unit=cm-1 --output=answer.json

Without --workdir (or with --fit) a likelihood is fitted: radius, sigma, electrons and betas with
errors, goodness of fit; figures, and one page with all of it, beside the answer; with --calibration
energies of the shells, and the spectrum as <answer>_<number>_spectrum.csv. The fit starts from the
picture itself, or from the network of --workdir. Input: pictures of counts of any size in any usual
format (text, .npy, TIFF, PNG, HDF5, MATLAB; FILE[3] and FILE:NAME name a part), event files (the
table DetectedElectrons; of other cameras columns x and y), files of camera frames (the electrons
are found first, and kept beside the answer as <answer>_electrons.h5; see sevi_jax.detect). Axis 0
of a picture is rows, downwards; the polarisation is vertical unless --polarisation says otherwise.
A network without --fit takes centred square pictures, larger than its own by a whole factor.
Output: .json, in pixels and the literature's convention of beta, or the course's table Answer in an
.h5. A file that is no good is said, the others get their answers, and the exit status is 2.
"""

import math
import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags

from sevi_jax import commands
from sevi_jax.errors import InputError

if TYPE_CHECKING:
    from sevi_jax.results.energies import EnergyScale

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_INPUT = flags.DEFINE_list("input", [], "Pictures, event files and files of camera frames.")
_OUTPUT = flags.DEFINE_string("output", None, "Answer file, .h5 or .json.")
_SHELLS = flags.DEFINE_string(
    "shells", None, "How many shells, or auto; with --workdir, that of the network."
)
_FIT = flags.DEFINE_bool("fit", False, "Fit the likelihood; always done without --workdir.")
_MAP = flags.DEFINE_bool("map", False, "Fit with the prior of the run: maximum a posteriori.")
_ORDERS = flags.DEFINE_string(
    "orders",
    None,
    "Orders of beta that are fitted, as 2,4; per shell, inner first, as '2,4;2'. 2 for pictures, "
    "all even ones to 24 for event files and frames, or those of the network.",
)
_SHAPE = flags.DEFINE_enum(
    "shape", "normal", ["normal", "skewed"], "Of the density of a radius; skewed has a tail."
)
_FREE = flags.DEFINE_list(
    "free", ["origin"],
    "What else is fitted: some of origin, angle (of the polarisation), ellipse, harmonics, "
    "efficiency. An origin that is given is held.",
)  # fmt: skip
_POLARISATION = flags.DEFINE_string(
    "polarisation", None, "vertical, horizontal, or degrees from vertical; of plain pictures."
)
_BACKGROUND = flags.DEFINE_enum(
    "background",
    "none",
    ["none", "constant", "smooth"],
    "Of the fit: the same everywhere, or slowly varying.",
)
_ORIGIN = flags.DEFINE_list(
    "origin", None, "Centre as ROW,COLUMN in pixels from the corner; else it is found."
)
_RANGE = flags.DEFINE_list(
    "range", None, "LOW,HIGH: fit pixels that are so far from the origin only, pixels."
)
_MASK = flags.DEFINE_string("mask", None, "Picture that is 0 where a pixel is not to be fitted.")
_EFFICIENCY = flags.DEFINE_string("efficiency", None, "Picture of the pixels' efficiency.")
_OFF = flags.DEFINE_string("off", None, "Picture taken without the light.")
_OFF_SCALE = flags.DEFINE_string(
    "off_scale", "free", "Exposure of the picture over that of --off, or free."
)
_OFFSET = flags.DEFINE_float("offset", 0.0, "What the camera adds to every value of a picture.")
_GATE = flags.DEFINE_multi_string(
    "gate",
    None,
    "COLUMN:LOW,HIGH, of foreign event files: events in between are counted; may be repeated.",
)
_PIXEL = flags.DEFINE_float(
    "pixel", None, "Width of a pixel in the units of foreign event positions; else it is chosen."
)
_COLUMNS = flags.DEFINE_list(
    "columns", None, "ACROSS,DOWN: columns of the positions in foreign event files."
)
_GAIN = flags.DEFINE_string("gain", "auto", "Value of one electron in the picture, or auto.")
_NOISE = flags.DEFINE_enum(
    "noise", None, ["poisson", "normal"], "Of the values; normal for differences of pictures."
)
_BLUR = flags.DEFINE_float(
    "blur",
    None,
    "Known standard deviation of the position errors along each axis, half-widths; it is taken off "
    "the fitted shells. What an event file says of itself, else 0.",
    0.0,
    0.1,
)
_POSITIVE = flags.DEFINE_bool("positive", False, "Keep fitted densities from falling below 0.")
_FIGURES = flags.DEFINE_enum(
    "figures", "all", ["all", "none"], "Figures and the page beside the answer of a fit."
)
_CALIBRATION = flags.DEFINE_string(
    "calibration", None, "Of sevi_jax.calibrate: fits get energies and a spectrum."
)
_PHOTON_ENERGY = flags.DEFINE_string(
    "photon_energy",
    None,
    "eV, as 2.7293 or 2.7293(1), or 454.5nm in vacuum: binding energies are given, too.",
)
_UNIT = flags.DEFINE_enum("unit", "eV", ["eV", "meV", "cm-1"], "Of energies.")
_OVERWRITE = commands.define_overwrite()

# Flags that only fits look at, and those that only plain pictures have a use for.
_OF_FITS = (
    "map", "orders", "shape", "free", "background", "origin", "range", "mask", "efficiency", "off",
    "off_scale", "noise", "blur", "positive", "figures", "calibration",
)  # fmt: skip
_OF_PICTURES = ("polarisation", "offset", "gate", "pixel", "columns")


def _pair(flag: flags.FlagHolder, what: str) -> tuple[float, float] | None:
    """The two numbers of a list flag."""
    if flag.value is None:
        return None
    try:
        numbers = [float(value) for value in flag.value]
    except ValueError:
        numbers = []
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
        text = f"--{flag.name}={','.join(flag.value)}"
        raise InputError(f"{text}: expected two numbers {what} in pixels")
    return numbers[0], numbers[1]


def _number(flag: flags.FlagHolder, word: str) -> float | None:
    """The positive number of a flag, None for the word that stands for one that is not known."""
    if flag.value == word:
        return None
    try:
        value = float(flag.value)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"--{flag.name}={flag.value}: expected a positive number, or {word}")
    return value


def _reading() -> dict[str, Any]:
    """How the inputs are read: other pictures, the offset, and what foreign event files need."""
    found: dict[str, Any] = {
        flag.name: commands.paths([flag.value], flag.name)[0]
        for flag in (_MASK, _EFFICIENCY, _OFF)
        if flag.value
    }
    if not math.isfinite(_OFFSET.value):
        raise InputError(f"--offset={_OFFSET.value}: expected a number")
    if _OFFSET.value:
        found["offset"] = _OFFSET.value
    if _GATE.value:
        found["gate"] = ";".join(_GATE.value)
    if _PIXEL.value is not None:
        if not 0 < _PIXEL.value < math.inf:
            raise InputError(f"--pixel={_PIXEL.value}: expected a positive number")
        found["pixel"] = _PIXEL.value
    if _COLUMNS.value:
        if len(_COLUMNS.value) != 2:
            raise InputError(f"--columns={','.join(_COLUMNS.value)}: expected ACROSS,DOWN")
        found["columns"] = tuple(name.strip() for name in _COLUMNS.value)
    return found


def _shells() -> int | str | None:
    """How many shells."""
    if _SHELLS.value in (None, "auto"):
        return _SHELLS.value
    if not _SHELLS.value.isdecimal() or not 1 <= int(_SHELLS.value) <= 99:
        raise InputError(f"--shells={_SHELLS.value}: expected a number from 1, or auto")
    return int(_SHELLS.value)


def _scale() -> "EnergyScale | None":
    """How energies are stated; None without a calibration."""
    if not _CALIBRATION.value:
        return None
    from sevi_jax.results import known_energies
    from sevi_jax.results.calibration import Calibration
    from sevi_jax.results.energies import EnergyScale

    path = commands.paths([_CALIBRATION.value], "calibration")[0]
    photon = known_energies.parse_photon_energy(_PHOTON_ENERGY.value)
    return EnergyScale(Calibration.load(path), photon, _UNIT.value)


def main() -> int:
    """Predicts and writes the answers."""
    workdir = commands.workdir(_WORKDIR.value) if _WORKDIR.value else None
    shells = _shells()
    if workdir is None and shells is None:
        raise InputError("--workdir=FOLDER of a run, or --shells=NUMBER for a fit, is needed")
    if workdir is None:
        commands.refuse(["map"], "needs the prior of a run, --workdir=FOLDER")
    elif not _FIT.value:
        commands.refuse(_OF_FITS, "goes with --fit, which is not given")
    if not _OFF.value:
        commands.refuse(["off_scale"], "goes with --off, which is not given")
    if not _CALIBRATION.value:
        commands.refuse(["photon_energy", "unit"], "goes with --calibration, which is not given")
    inputs = commands.paths(_INPUT.value, "input")
    reading = _reading()
    if not _OUTPUT.value:
        raise InputError("--output=FILE is needed, an .h5 or a .json")
    output = pathlib.Path(_OUTPUT.value)
    from sevi_jax.results import predicting

    if any(map(commands.is_given, _OF_PICTURES)):
        for path in inputs:
            if (kind := predicting.kind_of(path)) != "images":
                commands.refuse(_OF_PICTURES, f"is for plain pictures, but {path} holds {kind}")
    polarisation = _POLARISATION.value
    known = {
        "origin": _pair(_ORIGIN, "ROW,COLUMN"),
        "polarisation": None if polarisation is None else predicting.polarisation_of(polarisation),
        "gain": _number(_GAIN, "auto"),
        "noise": _NOISE.value,
        "off_scale": _number(_OFF_SCALE, "free"),
    }
    fit = {
        "shape": _SHAPE.value,
        "free": tuple(name.strip() for name in _FREE.value if name.strip()),
        "background": _BACKGROUND.value,
        "range": _pair(_RANGE, "LOW,HIGH"),
        "positive": _POSITIVE.value,
    }
    options = predicting.Options(
        shells=shells,
        orders=predicting.parse_orders(_ORDERS.value, shells),
        fit=fit,
        reading=reading,
        known={name: value for name, value in known.items() if value is not None},
        blur=_BLUR.value,
        likelihood=_FIT.value,
        use_prior=_MAP.value,
        figures=_FIGURES.value == "all",
        scale=_scale(),
    )
    calibration = [pathlib.Path(_CALIBRATION.value)] if _CALIBRATION.value else []
    read = [reading[name] for name in ("mask", "efficiency", "off") if name in reading]
    with commands.guarding([*inputs, *read, *calibration], _OVERWRITE.value, workdir):
        return predicting.predict_files(inputs, output, workdir, options)


if __name__ == "__main__":
    commands.run(main, "sevi_jax.predict", __doc__)
