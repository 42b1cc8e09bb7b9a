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

from absl import flags

from sevi_jax import commands, picture_flags
from sevi_jax.errors import InputError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
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
_POSITIVE = flags.DEFINE_bool("positive", False, "Keep fitted densities from falling below 0.")
flags.adopt_module_key_flags(picture_flags)

# Flags that only fits look at.
_OF_FITS = (
    "map", "orders", "shape", "free", "background", "origin", "range", "mask", "efficiency", "off",
    "off_scale", "noise", "blur", "positive", "figures", "calibration",
)  # fmt: skip


def _shells() -> int | str | None:
    """How many shells."""
    if _SHELLS.value in (None, "auto"):
        return _SHELLS.value
    if not _SHELLS.value.isdecimal() or not 1 <= int(_SHELLS.value) <= 99:
        raise InputError(f"--shells={_SHELLS.value}: expected a number from 1, or auto")
    return int(_SHELLS.value)


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
    given = picture_flags.given()
    from sevi_jax.results import predicting

    options = given.options(
        shells=shells,
        orders=predicting.parse_orders(_ORDERS.value, shells),
        fit={"shape": _SHAPE.value, "positive": _POSITIVE.value, **given.fit},
        likelihood=_FIT.value,
        use_prior=_MAP.value,
    )
    with commands.guarding(given.files, given.overwrite, workdir):
        return predicting.predict_files(given.inputs, given.output, workdir, options)


if __name__ == "__main__":
    commands.run(main, "sevi_jax.predict", __doc__)
