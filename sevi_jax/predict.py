"""Predict the shells in measured pictures or event files.

  python -m sevi_jax.predict --workdir=runs/quick --input=train0.h5 --output=answer.h5
  python -m sevi_jax.predict --workdir=runs/quick --input=a.npy,b.txt.bz2 --output=answer.json

Input: event files (the table DetectedElectrons), or pictures of counts as .npy, .npz, .txt, .csv,
.txt.gz, .txt.bz2, TIFF, PNG or .h5 image sets; square, centred, first axis x, second z (the laser's
polarisation; --transpose if it is the other way). A picture may be larger than the network's by a
whole factor. Output: the table Answer in an .h5, or the same as .json.
"""

import pathlib

from absl import flags

from sevi_jax import commands
from sevi_jax.errors import InputError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_INPUT = flags.DEFINE_list("input", [], "Event files and pictures.")
_OUTPUT = flags.DEFINE_string("output", None, "Answer file, .h5 or .json.")
_SHELLS = flags.DEFINE_integer("shells", None, "Check that the network is for so many shells.")
_TRANSPOSE = flags.DEFINE_bool("transpose", False, "Plain pictures have z along the first axis.")


def main() -> int:
    """Predicts and writes the answer; returns the exit status."""
    workdir = commands.workdir(_WORKDIR.value)
    inputs = commands.paths(_INPUT.value, "input")
    if not _OUTPUT.value:
        raise InputError("--output=FILE is needed, an .h5 or a .json")
    output = pathlib.Path(_OUTPUT.value)
    from sevi_jax.data.answers import check_answer_path, write_answer
    from sevi_jax.inference import answer
    from sevi_jax.inference.run import load_run

    check_answer_path(output)
    run = load_run(workdir)
    shells = run.network.shells
    if _SHELLS.value not in (None, shells):
        raise InputError(f"--shells={_SHELLS.value}, but the network in {workdir} is for {shells}")
    answers = []
    for path in inputs:
        size = run.network.image.size
        for name, counts in answer.read_pictures(path, shells, size, _TRANSPOSE.value):
            answers += answer.predict_pictures(run, [name], counts[None])
            print(answer.table(answers[-1]))
    write_answer(output, answers)
    print(f"answer: {output}")
    return 0


if __name__ == "__main__":
    commands.run(main, "sevi_jax.predict", __doc__)
