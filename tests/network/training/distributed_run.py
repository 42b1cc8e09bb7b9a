"""A run of the real loop and step with the smallest network, by one process or one of several.

  python distributed_run.py COORDINATOR NUMBER INDEX WORKDIR LOCKED [SIGNAL STEP]

One of several first tries what all of them must refuse: a batch that does not divide, and the
folder LOCKED, in which another process trains. Then they train in WORKDIR; the signal comes to this
process at the beginning of that step, when the first checkpoint is on disk.
"""

import os
import pathlib
import signal
import sys
import time
from unittest import mock

import jax
import numpy as np
import small

from sevi_jax.errors import InputError
from sevi_jax.network import resnet
from sevi_jax.network.network import ShellNetwork
from sevi_jax.network.training import loop, processes
from sevi_jax.network.training.checkpoint import FOLDER
from sevi_jax.network.training.sharding import copied
from sevi_jax.prng import stream_key
from sevi_jax.synthesis.pipeline import draw_pictures

STEPS = 8


def config(**changes):
    """The original's network for one shell, on 16 x 16 pixels and all devices."""
    values = {
        "image__size": 16,
        "prior__beta": ((0.1, 0.2, 0.15, 0.1),) * 2,
        "train__steps": STEPS,
        "train__eval_every": 4,
        "eval__pictures": 4,
        "mesh__devices": 0,
    }
    return small.single_config(**values | changes)


class Trainer(loop.Trainer):
    """The real one, but for BatchNorm's statistics; its held-out pictures are written too."""

    def __init__(self, config, workdir):
        super().__init__(config)
        model, batch = ShellNetwork(self.network), config.eval.batch

        def evaluation(variables, root, index):
            pictures = draw_pictures(
                stream_key(root, "eval", index), batch, self.synthesis, self.mesh
            )
            return pictures, model.apply(variables, pictures.counts, train=False)

        drawn = jax.jit(evaluation, out_shardings=copied(self.mesh))

        def keep(*args):
            pictures, prediction = drawn(*args)
            if processes.is_first():
                np.save(workdir / "counts.npy", pictures.counts)
            return pictures, prediction

        self._evaluation = keep

    def with_statistics(self, state):
        return state


def smallest_network():
    """One block instead of eight: a context manager."""
    return mock.patch.dict(resnet._STAGES, {18: ((1, 0, 0, 0), False)})


def refused(train):
    """How a call is refused; "" is in the words of another process."""
    try:
        train()
    except InputError as error:
        return str(error)
    except processes.FailedElsewhere:
        return ""
    raise AssertionError("not refused")


def main(coordinator, number, index, workdir, locked, name=None, at=None):
    if number > 1:
        processes.join(coordinator, number, index, seconds=60)
        for changed, folder in ((config(train__batch=7), workdir), (config(), locked)):
            print("refused:", refused(lambda c=changed, f=folder: loop.train(c, f)))
    trainer = Trainer(config(), workdir)
    original = trainer.step

    def step(state, root):
        if int(state.step) + 1 == at and name:
            while not (workdir / FOLDER / "4").is_dir():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.Signals[name])
        return original(state, root)

    trainer.step = step
    finished = small.train(workdir, trainer.config, trained_by=trainer)
    print("finished" if finished else "stopped", flush=True)


if __name__ == "__main__":
    with small.quick_compilation(), smallest_network():
        coordinator, number, index, *folders = sys.argv[1:6]
        event = (*sys.argv[6:7], *map(int, sys.argv[7:]))
        main(coordinator, int(number), int(index), *map(pathlib.Path, folders), *event)
