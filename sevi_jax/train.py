"""Train a network on pictures drawn fresh for every step.

  python -m sevi_jax.train --config=configs/quick.py
  python -m sevi_jax.train --config=configs/double34.py --config.train.batch=16
  python -m sevi_jax.train --config=configs/double34.py --workdir=runs/narrow \\
      --init_from=runs/double34 --config.prior.radius='((0.40, 0.42), (0.70, 0.72))'

  python -m sevi_jax.train --config=configs/double34.py --distributed
  python -m sevi_jax.train --config=configs/double34.py --coordinator=host0:9000 \\
      --num_processes=2 --process_id=0

The run's folder (--workdir, by default runs/<name of the configuration>) gets config.json,
metrics.jsonl, tensorboard/, checkpoints/ and, at the end, figures and held_out.json. Ctrl-C or
SIGTERM saves and stops, with exit status 75; the same command goes on from the newest checkpoint.
What may change then is how long and how fast it trains and how often it says so; other pictures or
another network need another folder. Exit status: 0 when all steps are done, 75 stopped, 1 for
numbers that cannot be right (a loss that is not finite), 2 for a mistake, 130 for a Ctrl-C before
there was anything to save.

With --distributed the processes of a cluster's job (SLURM, Open MPI) train one network on all their
devices; elsewhere start one on each machine with the three flags. They share the run's folder.
"""

import pathlib
import sys

from absl import flags

from sevi_jax import commands
from sevi_jax.config import Config, describe, fields
from sevi_jax.errors import InputError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/<configuration>.")
_INIT_FROM = flags.DEFINE_string(
    "init_from", None, "Folder of another run: start from its best parameters."
)
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes of a cluster.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT where process 0 listens; without a cluster."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.", 1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", 0)
# Keys that no other input looks at.
_OF_THE_RADIAL_INPUT = ("model.ladder", "model.exposures")
_OVERWRITE = commands.define_overwrite()
commands.define_config()


def main() -> int:
    """Trains, then judges the network on held-out pictures; returns the exit status."""
    config = commands.get_config()
    workdir = pathlib.Path(_WORKDIR.value or f"runs/{commands.config_name()}")
    init_from = commands.workdir(_INIT_FROM.value, "init_from") if _INIT_FROM.value else None
    if config.model.input != "radial":
        commands.refuse_keys([x for x in fields() if x not in _OF_THE_RADIAL_INPUT])
    coordinator, number, index = _others()
    with commands.guarding([], _OVERWRITE.value, init_from):
        # JAX takes a second to load; mistakes in flags shall not wait for it
        from sevi_jax.network.training import processes
        from sevi_jax.network.training.loop import Diverged, train
        from sevi_jax.results import report

        if _DISTRIBUTED.value or coordinator is not None:
            processes.join(coordinator, number, index)
        commands.require_sound_jax()
        try:
            with processes.together():
                if processes.is_first():
                    report.check_outputs(workdir, "held_out", "loss.png")
            if not train(config, workdir, init_from):
                return commands.STOPPED
            _judge(workdir, config.eval.pictures)
        except Diverged as error:
            help_text = _after(config, workdir)
            if processes.is_first():
                print(f"sevi_jax.train: stopped at {error}; {help_text}", file=sys.stderr)
            return 1
        except processes.FailedElsewhere:
            return 2
        except OSError as error:  # a write to an open file does not say which
            name = error.filename or str(workdir)
            raise OSError(error.errno, error.strerror or str(error), name) from error
    return 0


def _after(config: Config, workdir: pathlib.Path) -> str:
    """What helps a run whose numbers broke: repeated as it is, it comes to the same numbers.

    All processes ask, since the first one tells the others.
    """
    from sevi_jax.network.training.checkpoint import Checkpoints

    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.latest_step
    rate, norm = config.train.learning_rate, config.train.clip_norm
    change = (
        f"--config.train.learning_rate below {rate:g} or --config.train.clip_norm below {norm:g}"
    )
    if step is None:
        return (
            "there is no checkpoint to go on from, and the same command comes to the same numbers: "
            f"begin again with {change}"
        )
    return (
        f"the same command goes on from the checkpoint of step {step} to the same numbers (unless "
        f"the machine made the fault): give it {change}"
    )


def _others() -> tuple[str | None, int | None, int | None]:
    """What the flags say of the other processes, for `processes.join`."""
    coordinator, number, index = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    if coordinator is None and number is None and index is None:
        return None, None, None
    if _DISTRIBUTED.value:
        raise InputError("--distributed asks the cluster who the others are; --coordinator says it")
    if coordinator is None or number is None or index is None:
        raise InputError("--coordinator, --num_processes and --process_id belong together")
    host, _, port = coordinator.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise InputError(f"--coordinator={coordinator}: expected HOST:PORT")
    if index >= number:
        raise InputError(f"--process_id={index} must be below --num_processes={number}")
    return coordinator, number, index


def _judge(workdir: pathlib.Path, pictures: int) -> None:
    """Judges the best checkpoint on held-out pictures; writes and prints the report."""
    from sevi_jax.network.run import load_run
    from sevi_jax.network.training import processes
    from sevi_jax.results import report

    is_first = processes.is_first()
    if is_first:
        print(f"judging the best checkpoint on {pictures} held-out pictures ...")
    run = load_run(workdir)
    held_out = run.held_out(pictures)  # on the devices of all processes
    if not is_first:
        return
    judged = report.judge_held_out(run, *held_out)
    result = report.write_report(workdir, run, judged, "held_out")
    report.write_loss_curve(workdir)
    print(report.table(result))
    print(f"figures: {workdir}/loss.png, {workdir}/held_out_betas.png and others")


if __name__ == "__main__":
    commands.run(
        main,
        "sevi_jax.train",
        __doc__,
        lambda: f"\nConfiguration:\n{describe()}",
        checks_jax=False,
    )
