"""Predict the shells in measured pictures or event files, by a trained network or by a fit.

  python -m sevi_jax.predict --shells=2 --input=train0.h5 --output=answer.json
  python -m sevi_jax.predict --shells=3 --orders=2 --input=a.npy --output=answer.json
  python -m sevi_jax.predict --workdir=runs/quick --input=train0.h5 --output=answer.h5
  python -m sevi_jax.predict --workdir=runs/quick --fit --input=a.npy,b.txt.bz2 --output=answer.json

Without --workdir (or with --fit) a Poisson likelihood is fitted: R, sigma, yield and betas with
errors, goodness of fit, and figures beside the answer. It starts from the network of --workdir, or
from the picture itself. Input: event files (the table DetectedElectrons), or pictures of counts as
.npy, .npz, .txt, .csv, .txt.gz, .txt.bz2, TIFF, PNG or .h5 image sets; square, first axis x, second
z (the laser's polarisation; --transpose if it is the other way). A fit takes any size and finds the
origin; a network takes centred pictures, larger than its own by a whole factor. Output: .json, or
the table Answer in an .h5.
"""

import pathlib

from absl import flags

from sevi_jax import commands
from sevi_jax.errors import InputError

BACKGROUNDS = {"none": 0, "constant": 1, "smooth": 6}

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_INPUT = flags.DEFINE_list("input", [], "Event files and pictures.")
_OUTPUT = flags.DEFINE_string("output", None, "Answer file, .h5 or .json.")
_SHELLS = flags.DEFINE_integer(
    "shells", None, "How many shells; with --workdir, that of the network.", 1, 24
)
_TRANSPOSE = flags.DEFINE_bool("transpose", False, "Plain pictures have z along the first axis.")
_FIT = flags.DEFINE_bool("fit", False, "Fit the likelihood; always done without --workdir.")
_ORDERS = flags.DEFINE_string(
    "orders",
    None,
    "Orders of beta that are fitted, as 2,4,6; per shell, inner first, as '2,4;2'. "
    "All of 2..24, or those of the network.",
)
_BACKGROUND = flags.DEFINE_enum(
    "background", "none", list(BACKGROUNDS), "Of the fit: the same everywhere, or slowly varying."
)
_ORIGIN = flags.DEFINE_list(
    "origin", None, "Centre of plain pictures as x,z in pixels from the corner; else it is found."
)
_POSITIVE = flags.DEFINE_bool("positive", False, "Keep fitted densities from falling below 0.")


def _orders(shells: int, most: int) -> tuple[tuple[int, ...], ...]:
    """Orders per shell from --orders."""
    if _ORDERS.value is None:
        return (tuple(range(2, 2 * most + 1, 2)),) * shells
    try:
        found = [
            tuple(int(n) for n in part.split(",") if n.strip()) for part in _ORDERS.value.split(";")
        ]
    except ValueError:
        found = []
    found = found * shells if len(found) == 1 else found
    if len(found) != shells or any(n < 2 or n % 2 or n > 24 for part in found for n in part):
        raise InputError(
            f"--orders={_ORDERS.value}: expected even numbers from 2 to 24 as 2,4,6, for all "
            f"shells or for each of {shells} behind a semicolon"
        )
    return tuple(tuple(sorted(set(part))) for part in found)


def _origin() -> tuple[float, float] | None:
    """The centre from --origin."""
    if _ORIGIN.value is None:
        return None
    try:
        x, z = (float(value) for value in _ORIGIN.value)
    except ValueError:
        raise InputError(
            f"--origin={','.join(_ORIGIN.value)}: expected two numbers x,z in pixels"
        ) from None
    return x, z


def main() -> int:
    """Predicts and writes the answer; returns the exit status."""
    workdir = commands.workdir(_WORKDIR.value) if _WORKDIR.value else None
    if workdir is None and _SHELLS.value is None:
        raise InputError("--workdir=FOLDER of a run, or --shells=NUMBER for a fit, is needed")
    inputs = commands.paths(_INPUT.value, "input")
    if not _OUTPUT.value:
        raise InputError("--output=FILE is needed, an .h5 or a .json")
    output = pathlib.Path(_OUTPUT.value)
    from sevi_jax.data.answers import check_answer_path, write_answer
    from sevi_jax.data.events import file_kind
    from sevi_jax.inference import answer
    from sevi_jax.inference.measure import Request

    check_answer_path(output)
    if workdir is None:
        run, shells, most = None, _SHELLS.value or 1, 12
    else:
        from sevi_jax.inference.run import load_run

        run = load_run(workdir)
        shells, most = run.network.shells, run.network.orders
        if _SHELLS.value not in (None, shells):
            raise InputError(
                f"--shells={_SHELLS.value}, but the network in {workdir} is for {shells}"
            )
    orders, origin = _orders(shells, most), _origin()
    answers = []
    for path in inputs:
        if run is not None and not _FIT.value:
            size = run.network.image.size
            for name, counts in answer.read_pictures(path, shells, size, _TRANSPOSE.value):
                answers += answer.predict_pictures(run, [name], counts[None])
                print(answer.table(answers[-1]))
            continue
        from sevi_jax.inference.fitted import fit_picture

        request = Request(orders, BACKGROUNDS[_BACKGROUND.value], origin, _POSITIVE.value)
        for name, counts in answer.read_pictures(path, shells, None, _TRANSPOSE.value):
            stem = output.with_name(f"{output.stem}_{len(answers) + 1}")
            is_event_file = path.suffix.lower() in (".h5", ".hdf5") and file_kind(path) != "images"
            answers.append(fit_picture(name, counts, request, is_event_file, run, stem))
    write_answer(output, answers)
    print(f"answer: {output}")
    return 0


if __name__ == "__main__":
    commands.run(main, "sevi_jax.predict", __doc__)
