"""Makes a run's folder from the parameters that `gpu_report.sh` brought home.

  .venv/bin/python scripts/restore_run.py --workdir=runs/double34 report/parameters_*.npz

The folder then serves `sevi_jax.evaluate`, `sevi_jax.predict` and `sevi_jax.train --init_from`. The
network is the averaged one, rounded to half precision; the optimizer's state is new.
"""

import argparse
import dataclasses
import pathlib
import sys

import jax
import parameter_files

from sevi_jax.config import default_config, validate
from sevi_jax.network.training.checkpoint import FOLDER, Checkpoints
from sevi_jax.network.training.loop import Trainer, save_config
from sevi_jax.network.training.state import TrainState


def with_parameters(state: TrainState, files: list[pathlib.Path]) -> TrainState:
    """A state whose network, averaged and not, is that of the files.

    Args:
        state: of step 0; its other arrays are kept.
        files: a whole set.

    Raises:
        ValueError: in one line, if the files are no whole set or of another network.
    """
    arrays, _ = parameter_files.read_parameters(files)
    like = {"params": state.params, "batch_stats": state.batch_stats}
    read = parameter_files.put_into(like, arrays)

    def placed(name):
        lies = jax.tree.map(lambda x: x.sharding, getattr(state, name))
        # copies, since a donated buffer may appear only once
        return jax.tree.map(lambda x, place: jax.device_put(x.copy(), place), read[name], lies)

    return dataclasses.replace(
        state,
        params=placed("params"),
        ema_params=placed("params"),
        batch_stats=placed("batch_stats"),
        ema_batch_stats=placed("batch_stats"),
    )


def restore(workdir: pathlib.Path, files: list[pathlib.Path]) -> None:
    """Makes the folder.

    Raises:
        ValueError: in one line, as `with_parameters`, and where the folder holds a run.
    """
    if (workdir / FOLDER).exists():
        raise ValueError(f"{workdir}: holds a run already")
    _, description = parameter_files.read_parameters(files)
    config = default_config()
    config.update(description["config"])
    config.mesh.devices = 1
    validate(config)
    state = with_parameters(Trainer(config).initial_state(), files)
    step = jax.device_put(jax.numpy.int32(description["step"]), state.step.sharding)
    state = dataclasses.replace(state, step=step)
    config.mesh.devices = 0
    workdir.mkdir(parents=True, exist_ok=True)
    save_config(workdir, config)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(description["step"], state, description["distance"])
        checkpoints.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=pathlib.Path, nargs="+", help="parameters_0.npz and others")
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder to make")
    options = parser.parse_args()
    try:
        restore(options.workdir, options.files)
    except ValueError as error:
        sys.exit(f"restore_run.py: {error}")
    print(f"{options.workdir}: made")


if __name__ == "__main__":
    main()
