"""Flags of the commands that read pictures, and what they mean; each is defined once, here."""

import dataclasses
import math
import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags

from sevi_jax import commands
from sevi_jax.errors import InputError

if TYPE_CHECKING:
    from sevi_jax.results.energies import EnergyScale
    from sevi_jax.results.predicting import Options

_INPUT = flags.DEFINE_list("input", [], "Pictures, event files and files of camera frames.")
_OUTPUT = flags.DEFINE_string("output", None, "Answer file, .json (of predict also .h5).")
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

# Those that only plain pictures have a use for.
_OF_PICTURES = ("polarisation", "offset", "gate", "pixel", "columns")


@dataclasses.dataclass(frozen=True)
class Given:
    """What the flags say.

    Attributes:
        inputs: files that are read, in their order.
        output: the answer file.
        reading: arguments of `data.load.load_all`.
        known: fields of `Picture` that are stated.
        fit: arguments of a fit: free, background, range.
        blur: half-widths, or None.
        figures: whether figures and the page are made.
        scale: of energies; None without a calibration.
        files: every file that is read.
        overwrite: whether other files may be replaced.
    """

    inputs: list[pathlib.Path]
    output: pathlib.Path
    reading: dict[str, Any]
    known: dict[str, Any]
    fit: dict[str, Any]
    blur: float | None
    figures: bool
    scale: "EnergyScale | None"
    files: list[pathlib.Path]
    overwrite: bool

    def options(self, **more: Any) -> "Options":
        """What is asked for, with the fields that a command has flags of its own for."""
        from sevi_jax.results.predicting import Options

        return Options(
            reading=self.reading, known=self.known, blur=self.blur, figures=self.figures,
            scale=self.scale, **more,
        )  # fmt: skip


def given() -> Given:
    """Reads all flags of this module.

    Raises:
        InputError: naming a flag that is wrong, missing or without an effect.
    """
    if not _OFF.value:
        commands.refuse(["off_scale"], "goes with --off, which is not given")
    if not _CALIBRATION.value:
        commands.refuse(["photon_energy", "unit"], "goes with --calibration, which is not given")
    inputs = commands.paths(_INPUT.value, "input")
    reading = _reading()
    if not _OUTPUT.value:
        raise InputError("--output=FILE is needed, a .json (of predict also an .h5)")
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
        "free": tuple(name.strip() for name in _FREE.value if name.strip()),
        "background": _BACKGROUND.value,
        "range": _pair(_RANGE, "LOW,HIGH"),
    }
    beside = [reading[name] for name in ("mask", "efficiency", "off") if name in reading]
    calibration = commands.paths([_CALIBRATION.value], "calibration") if _CALIBRATION.value else []
    return Given(
        inputs=inputs,
        output=pathlib.Path(_OUTPUT.value),
        reading=reading,
        known={name: value for name, value in known.items() if value is not None},
        fit=fit,
        blur=_BLUR.value,
        figures=_FIGURES.value == "all",
        scale=_scale(calibration),
        files=[*inputs, *beside, *calibration],
        overwrite=_OVERWRITE.value,
    )


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


def _scale(calibration: list[pathlib.Path]) -> "EnergyScale | None":
    """How energies are stated; None without a calibration."""
    if not calibration:
        return None
    from sevi_jax.results import known_energies
    from sevi_jax.results.calibration import Calibration
    from sevi_jax.results.energies import EnergyScale

    photon = known_energies.parse_photon_energy(_PHOTON_ENERGY.value)
    return EnergyScale(Calibration.load(calibration[0]), photon, _UNIT.value)
