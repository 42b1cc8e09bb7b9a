"""Judge a trained network on event files with known shells, or on held-out pictures.

  python -m sevi_jax.evaluate --workdir=runs/quick --data=train10.h5,train11.h5
  python -m sevi_jax.evaluate --workdir=runs/quick

A network for one shell takes each distribution of a file with many; one for two shells takes pairs
of them, inner first, or the whole of a file that holds a pair. Of an image set with its shells (as
sevi_jax.synthesize --kind=images writes it) each picture is taken. Without --data, pictures are
drawn electron by electron from the prior of the run. --output gets report.json and figures; the
table on the terminal shows the distance of the angular densities, the worst pictures with what
makes them hard, and where the truth has orders that the network has not. --fit fits the likelihood
to every picture too, from the network's answer or from the picture alone, and says how near the
Cramer-Rao bound the fits come and whether their errors hold.
"""

import pathlib

from absl import flags

from sevi_jax import commands

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_DATA = flags.DEFINE_list(
    "data", [], "Files train<num>.h5 of either kind, or image sets with their shells."
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the report; <workdir>/report.")
_PAIRS = flags.DEFINE_integer("pairs", 256, "Pairs of distributions at most, per file.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the choice of pairs.", 0)
_EXPOSURE = flags.DEFINE_float(
    "exposure", 1.0, "Factor on the electron numbers of held-out pictures.", 1e-6, 100.0
)
_PICTURES = flags.DEFINE_integer("pictures", 256, "Held-out pictures, where there is no --data.", 1)

_FIT = flags.DEFINE_bool("fit", False, "Fit the likelihood to every picture, too.")
_START = flags.DEFINE_enum("start", "network", ["network", "picture"], "Where the fits start from.")
_MAP = flags.DEFINE_bool("map", False, "Fit with the prior of the run: maximum a posteriori.")
_POSITIVE = flags.DEFINE_bool("positive", False, "Keep fitted densities from falling below 0.")
_OVERWRITE = commands.define_overwrite()


def main() -> int:
    """Evaluates and writes the report; returns the exit status."""
    workdir = commands.workdir(_WORKDIR.value)
    files = commands.paths(_DATA.value, "data") if _DATA.value else []
    if files:
        commands.refuse(("exposure", "pictures"), "is for held-out pictures, without --data")
    else:
        commands.refuse(("pairs", "seed"), "chooses pairs of distributions in the files of --data")
    if not _FIT.value:
        commands.refuse(("start", "map", "positive"), "goes with --fit, which is not given")
    output = pathlib.Path(_OUTPUT.value or workdir / "report")
    with commands.guarding(files, _OVERWRITE.value, workdir):
        _evaluate(workdir, files, output)
    return 0


def _evaluate(workdir: pathlib.Path, files: list[pathlib.Path], output: pathlib.Path) -> None:
    """Evaluates a run on files, or on held-out pictures where there are none."""
    from sevi_jax.network.run import load_run
    from sevi_jax.physics.types import ImageSpec
    from sevi_jax.results import cases, report
    from sevi_jax.results.judged_fits import judge_fits

    report.check_outputs(output)
    run = load_run(workdir)
    if run.network.shells == 1:
        commands.refuse(("pairs", "seed"), "is for networks of two shells")
    elif files and not any(cases.is_paired(file) for file in files):
        commands.refuse(("pairs", "seed"), "is for files of many distributions, which none is")
    judged, fits = [], []
    image, shells = run.network.image, run.network.shells

    def add_fits(counts, shape, truth, prediction) -> None:
        start = prediction if _START.value == "network" else None
        prior = run.synthesis.prior if _MAP.value else None
        # what the truth has is fitted: a missing order would spoil its neighbours
        orders = max(run.network.orders, truth.beta.shape[-1])
        fits.extend(judge_fits(counts, shape, truth, orders, start, prior, _POSITIVE.value))

    for file in files:
        for part in cases.read_cases(
            file, shells, image.size, pairs=_PAIRS.value, seed=_SEED.value
        ):
            judged += report.judge_cases(run, part)
            if _FIT.value:
                shape, prediction = ImageSpec(image.size), run.predict(part.counts)
                add_fits(part.counts, shape, part.truth, prediction)
    if not files:
        drawn, prediction = run.held_out(_PICTURES.value, _EXPOSURE.value)
        judged = report.judge_held_out(run, drawn, prediction)
        if _FIT.value:
            drawn = run.test_pictures(_PICTURES.value, _EXPOSURE.value)
            add_fits(drawn.counts, image, drawn.params, prediction)
    print(report.table(report.write_report(output, run, judged, fits=fits)))
    print(f"report and figures: {output}/")


if __name__ == "__main__":
    commands.run(main, "sevi_jax.evaluate", __doc__)
