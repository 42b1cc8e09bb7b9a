"""A run of the real loop on a few numbers instead of a network: nothing to compile.

As a program it trains in the folder given, and kills itself at a moment given:

  python numbers_run.py WORKDIR [EVENT PART]

EVENT is one of Python's audit events ("os.rename"), PART is what its arguments must contain.
"""

import contextlib
import dataclasses
import os
import pathlib
import resource
import signal
import sys

import jax
import numpy as np
import small

from sevi_jax.network.training import loop
from sevi_jax.network.training.checkpoint import Checkpoints
from sevi_jax.network.training.sharding import copied, data_mesh
from sevi_jax.network.training.state import TrainState


class Trainer:
    """Stands for `loop.Trainer`. A step adds noise that depends on its number and the seed.

    Args:
        config: as `small_config`.
        spoil: ``(step, state, metrics) -> (state, metrics)``, after each step.
    """

    def __init__(self, config, spoil=None):
        self.config = config
        self.mesh = data_mesh(config)
        self.root = config.seed
        self._spoil = spoil

    def _put(self, state):
        return jax.device_put(state, copied(self.mesh))

    def initial_state(self):
        tree = {"dense": {"kernel": np.zeros((3, 5), np.float32)}}
        stats = {"norm": {"mean": np.zeros(5, np.float32)}}
        return self._put(
            TrainState(
                step=np.int32(0),
                params=tree,
                batch_stats=stats,
                opt_state=({"mu": tree, "nu": tree},),
                ema_params=tree,
                ema_batch_stats=stats,
                constants={"scale": np.ones(5, np.float32)},
            )
        )

    def abstract_state(self):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self.initial_state())

    def compile_step(self):
        """There is nothing to compile."""

    def step(self, state, root):
        state = jax.device_get(state)
        rng = np.random.default_rng((root, int(state.step)))

        def move(x):
            return (0.9 * x + rng.normal(size=x.shape)).astype(x.dtype)

        state = dataclasses.replace(
            state,
            step=np.int32(state.step + 1),
            params=jax.tree.map(move, state.params),
            batch_stats=jax.tree.map(move, state.batch_stats),
            opt_state=jax.tree.map(move, state.opt_state),
            ema_params=jax.tree.map(move, state.ema_params),
        )
        metrics = {"loss": 1 + rng.uniform(), "grad_norm": rng.uniform()}
        if self._spoil:
            state, metrics = self._spoil(int(state.step), state, metrics)
        return self._put(state), metrics

    def with_statistics(self, state):
        mean = np.asarray(state.ema_params["dense"]["kernel"]).mean(0)
        return self._put(dataclasses.replace(state, ema_batch_stats={"norm": {"mean": mean}}))

    def evaluate(self, state):
        return {"distance": float(np.abs(state.ema_params["dense"]["kernel"]).mean())}


def config(**changes):
    return small.small_config(**{"train__steps": 24, "train__log_every": 3} | changes)


def train(workdir, trainer=None, **changes):
    """Trains; returns what `loop.train` does."""
    trainer = trainer or Trainer(config(**changes))
    return small.train(pathlib.Path(workdir), trainer.config, trained_by=trainer)


def state_at(workdir, step):
    """The whole state of a checkpoint, as NumPy arrays."""
    trainer = Trainer(config())
    with Checkpoints(workdir) as checkpoints:
        return jax.device_get(checkpoints.restore(step, trainer.abstract_state(), trainer.mesh))


@contextlib.contextmanager
def full_disk(size):
    """No file can become larger than that, which a program sees as it sees a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(event, part):
    """Kills this process at the first audit event of that name with that in its arguments."""

    def look(name, args):
        if name == event and part in repr(args):
            kill()

    sys.addaudithook(look)


def kill_within_a_line(part):
    """Kills this process when half of the first line with that in it is in metrics.jsonl."""
    original = loop.MetricsWriter.write

    def write(self, kind, step, values):
        if part == f"{kind} {step}":
            self._file.write('{"kind": "train", "st')
            self._file.flush()
            kill()
        original(self, kind, step, values)

    loop.MetricsWriter.write = write


if __name__ == "__main__":
    if sys.argv[2:]:
        event, part = sys.argv[2:]
        kill_within_a_line(part) if event == "line" else kill_at(event, part)
    print("done" if train(sys.argv[1]) else "stopped")
