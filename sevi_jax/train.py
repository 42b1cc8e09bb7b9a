"""Train a network on pictures drawn fresh for every step.

  python -m sevi_jax.train --config=configs/quick.py
  python -m sevi_jax.train --config=configs/double34.py --config.train.batch=16
  python -m sevi_jax.train --config=configs/double34.py --workdir=runs/narrow \\
      --init_from=runs/double34 --config.prior.radius='((0.40, 0.42), (0.70, 0.72))'

The run's folder (--workdir, by default runs/<name of the configuration>) gets config.json,
metrics.jsonl, tensorboard/, checkpoints/ and, at the end, figures and held_out.json. The same
command again goes on from the newest checkpoint. Ctrl-C saves and stops.
"""

import pathlib
import sys

from absl import flags

from sevi_jax import commands

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/<configuration>.")
_INIT_FROM = flags.DEFINE_string(
    "init_from", None, "Folder of another run: start from its best parameters."
)
commands.define_config()


def main() -> int:
    """Trains, then judges the network on held-out pictures; returns the exit status."""
    config = commands.get_config()
    workdir = pathlib.Path(_WORKDIR.value or f"runs/{commands.config_name()}")
    init_from = pathlib.Path(_INIT_FROM.value) if _INIT_FROM.value else None
    # JAX takes a second to load; mistakes in flags shall not wait for it
    from sevi_jax.training.loop import Diverged, train

    try:
        if train(config, workdir, init_from):
            _judge(workdir, config.eval.pictures)
    except Diverged as error:
        print(
            f"sevi_jax.train: stopped at {error}; the same command goes on from the newest "
            "checkpoint, which is from before",
            file=sys.stderr,
        )
        return 1
    except OSError as error:  # a write to an open file does not say which
        name = error.filename or str(workdir)
        raise OSError(error.errno, error.strerror or str(error), name) from error
    return 0


def _judge(workdir: pathlib.Path, pictures: int) -> None:
    """Judges the best checkpoint on held-out pictures; writes and prints the report."""
    from sevi_jax.inference import report
    from sevi_jax.inference.run import load_run

    print(f"judging the best checkpoint on {pictures} held-out pictures ...")
    run = load_run(workdir)
    judged = report.judge_held_out(run, *run.held_out(pictures))
    result = report.write_report(workdir, run, judged, "held_out")
    report.write_loss_curve(workdir)
    print(report.table(result))
    print(f"figures: {workdir}/loss.png, {workdir}/held_out_betas.png and others")


if __name__ == "__main__":
    commands.run(main, "sevi_jax.train", __doc__)
