"""Predict the shells in measured pictures or event files, by a trained network or by a fit.

  python -m sevi_jax.predict --shells=2 --input=train0.h5 --output=answer.json
  python -m sevi_jax.predict --shells=3 --orders=2 --input=a.npy --output=answer.json
  python -m sevi_jax.predict --workdir=runs/quick --input=train0.h5 --output=answer.h5
  python -m sevi_jax.predict --workdir=runs/quick --fit --input=a.npy,b.txt.bz2 --output=answer.json
  python -m sevi_jax.predict --shells=2 --input=finaltest.h5 --output=answer.h5

Without --workdir (or with --fit) a Poisson likelihood is fitted: R, sigma, yield and betas with
errors, goodness of fit; figures, and one page with all of it, beside the answer. It starts from the
network of --workdir, or from the picture itself. Input: event files (the table DetectedElectrons),
files of camera frames (the electrons are found first, and kept beside the answer as
<answer>_electrons.h5; see sevi_jax.detect), or pictures of counts as .npy, .npz, .txt, .csv,
.txt.gz, .txt.bz2, TIFF, PNG or .h5 image sets; first axis x, second z (the laser's polarisation;
--transpose or --rotate if it is another way). A fit takes any size, finds the origin, and can leave
pixels out (--mask, --range); a network takes centred square pictures, larger than its own by a
whole factor. Output: .json, or the table Answer in an .h5.
"""

import math
import pathlib

from absl import flags

from sevi_jax import commands
from sevi_jax.errors import InputError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_INPUT = flags.DEFINE_list("input", [], "Event files and pictures.")
_OUTPUT = flags.DEFINE_string("output", None, "Answer file, .h5 or .json.")
_SHELLS = flags.DEFINE_integer(
    "shells", None, "How many shells; with --workdir, that of the network.", 1, 24
)
_TRANSPOSE = flags.DEFINE_bool("transpose", False, "Plain pictures have z along the first axis.")
_ROTATE = flags.DEFINE_enum(
    "rotate", "0", ["0", "90", "180", "270"], "Turn plain pictures by so many degrees, before that."
)
_FIT = flags.DEFINE_bool("fit", False, "Fit the likelihood; always done without --workdir.")
_MAP = flags.DEFINE_bool("map", False, "Fit with the prior of the run: maximum a posteriori.")
_ORDERS = flags.DEFINE_string(
    "orders",
    None,
    "Orders of beta that are fitted, as 2,4,6; per shell, inner first, as '2,4;2'. "
    "All of 2..24, or those of the network.",
)
_BACKGROUND = flags.DEFINE_enum(
    "background",
    "none",
    ["none", "constant", "smooth"],
    "Of the fit: the same everywhere, or slowly varying.",
)
_ORIGIN = flags.DEFINE_list(
    "origin", None, "Centre of plain pictures as x,z in pixels from the corner; else it is found."
)
_MASK = flags.DEFINE_string("mask", None, "Picture that is 0 where a pixel is not to be fitted.")
_RANGE = flags.DEFINE_list(
    "range", None, "LOW,HIGH: fit pixels that are so far from the origin only, pixels."
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
_OVERWRITE = commands.define_overwrite()

# Flags that only fits look at, and those that only plain pictures have a use for.
_OF_FITS = ("map", "orders", "background", "origin", "mask", "range", "blur", "positive")
_OF_PICTURES = ("origin", "transpose", "rotate")


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


def main() -> None:
    """Predicts and writes the answer."""
    workdir = commands.workdir(_WORKDIR.value) if _WORKDIR.value else None
    if workdir is None and _SHELLS.value is None:
        raise InputError("--workdir=FOLDER of a run, or --shells=NUMBER for a fit, is needed")
    if workdir is None:
        commands.refuse(["map"], "needs the prior of a run, --workdir=FOLDER")
    elif not _FIT.value:
        commands.refuse(_OF_FITS, "goes with --fit, which is not given")
    inputs = commands.paths(_INPUT.value, "input")
    masks = commands.paths([_MASK.value], "mask") if _MASK.value else [None]
    if not _OUTPUT.value:
        raise InputError("--output=FILE is needed, an .h5 or a .json")
    origin, reach = _pair(_ORIGIN, "x,z"), _pair(_RANGE, "LOW,HIGH")
    output = pathlib.Path(_OUTPUT.value)
    from sevi_jax.results.answer import Reading, kind_of
    from sevi_jax.results.predicting import Options, check_outputs, predict_files

    if any(map(commands.is_given, _OF_PICTURES)):
        for path in inputs:
            if (kind := kind_of(path)) != "images":
                commands.refuse(_OF_PICTURES, f"is for plain pictures, but {path} holds {kind}")
    options = Options(
        shells=_SHELLS.value,
        orders=_ORDERS.value,
        background=_BACKGROUND.value,
        origin=origin,
        reach=reach,
        positive=_POSITIVE.value,
        blur=_BLUR.value,
        fit=_FIT.value,
        use_prior=_MAP.value,
        reading=Reading(_TRANSPOSE.value, int(_ROTATE.value) // 90, masks[0]),
    )
    with commands.guarding([*inputs, *masks], _OVERWRITE.value, workdir):
        check_outputs(inputs, output)
        predict_files(inputs, output, workdir, options)


if __name__ == "__main__":
    commands.run(main, "sevi_jax.predict", __doc__)
