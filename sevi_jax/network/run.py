"""A trained network, loaded from its run's folder, and applied to counts."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sevi_jax import provenance
from sevi_jax.config import Config
from sevi_jax.errors import InputError
from sevi_jax.network.network import NetworkSpec, Prediction, ShellNetwork
from sevi_jax.network.training.checkpoint import FOLDER, Checkpoints
from sevi_jax.network.training.loop import load_config
from sevi_jax.network.training.sharding import first_devices
from sevi_jax.network.training.specs import network_from, synthesis_from
from sevi_jax.network.training.state import abstract_state, make_optimizer
from sevi_jax.network.training.step import held_out, make_evaluation
from sevi_jax.prng import root_key, stream_key
from sevi_jax.synthesis.pipeline import Pictures, SynthesisSpec, draw_pictures
from sevi_jax.synthesis.raster import fold_counts

# Pictures are predicted this many pixels at a time, at least one on every device.
_BATCH_PIXELS = 2**20


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained network and what it was trained for.

    Attributes:
        workdir: folder of the run.
        step: steps done in the checkpoint used, the best one.
        config: configuration of the run.
        network: what network.
        synthesis: how its training pictures were drawn.
        variables: parameters (averaged), BatchNorm statistics and constants.
        mesh: where they lie; pictures are split over it.
    """

    workdir: pathlib.Path
    step: int
    config: Config
    network: NetworkSpec
    synthesis: SynthesisSpec
    variables: dict[str, Any]
    mesh: Mesh

    def predict(self, counts: np.ndarray) -> Prediction:
        """Predicts the shells of pictures.

        Args:
            counts: full pictures ``[B, size, size]`` of the run's `image.size`, first axis x.

        Returns:
            The prediction as NumPy arrays, inner shell first where radii are predicted.
        """
        batch = max(1, min(64, _BATCH_PIXELS // self.network.image.side**2))
        batch = -(-batch // self.mesh.size) * self.mesh.size
        parts = []
        for start in range(0, len(counts), batch):
            part = np.asarray(counts[start : start + batch], np.float32)
            # filled up to a whole batch, so that there is one compilation
            empty = np.zeros((batch - len(part), *part.shape[1:]), np.float32)
            pictures = np.concatenate([part, empty])
            pictures = jax.device_put(pictures, NamedSharding(self.mesh, PartitionSpec("data")))
            prediction = _apply(self.network, self.variables, pictures)
            parts.append(jax.tree.map(lambda x: x[: len(part)], jax.device_get(prediction)))  # noqa: B023
        return _inner_first(jax.tree.map(lambda *x: np.concatenate(x), *parts))

    def held_out(self, pictures: int, exposure: float = 1.0) -> tuple[Pictures, Prediction]:
        """Draws pictures electron by electron that no training or selection has seen; predicts.

        Args:
            pictures: how many.
            exposure: factor on the prior's electron numbers.

        Returns:
            Pictures without counts, and the prediction as of `predict`.
        """
        drawn_by_electrons = dataclasses.replace(
            self.synthesis, renderer="electrons", exposure=(exposure, exposure)
        )
        batch = self.config.eval.batch
        evaluation = make_evaluation(self.network, drawn_by_electrons, batch, "test", self.mesh)
        root = root_key(self.config.seed)
        drawn, prediction = held_out(evaluation, self.variables, root, pictures, batch)
        return drawn, _inner_first(prediction)

    @property
    def source(self) -> dict[str, Any]:
        """Where results come from, for files: the run with its step and seed, and versions."""
        return {
            "run": {
                "workdir": str(self.workdir),
                "step": self.step,
                "seed": self.config.seed,
                "devices": [device.device_kind for device in self.mesh.devices.flat],
            },
            "versions": provenance.versions(),
            "revision": provenance.revision(),
        }

    def test_pictures(self, pictures: int, exposure: float = 1.0) -> Pictures:
        """Draws the pictures of `held_out` once more, with their counts; NumPy arrays.

        Args:
            pictures: how many.
            exposure: as in `held_out`.
        """
        batch = self.config.eval.batch
        spec = dataclasses.replace(
            self.synthesis, renderer="electrons", exposure=(exposure, exposure)
        )
        root = root_key(self.config.seed)

        @jax.jit
        def draw(index):
            return draw_pictures(stream_key(root, "test", index), batch, spec, self.mesh)

        parts = [jax.device_get(draw(index)) for index in range(-(-pictures // batch))]
        return jax.tree.map(lambda *x: np.concatenate(x)[:pictures], *parts)


def _inner_first(prediction: Prediction) -> Prediction:
    """Sorts the shells of each picture by radius, where it is predicted; NumPy arrays."""
    if prediction.radius is None:
        return prediction
    order = np.argsort(np.asarray(prediction.radius), axis=1, kind="stable")

    def sort(values: Any) -> Any:
        places = order.reshape(order.shape + (1,) * (values.ndim - 2))
        return np.take_along_axis(values, places, axis=1)

    return jax.tree.map(sort, prediction)


@functools.partial(jax.jit, static_argnums=0)
def _apply(network: NetworkSpec, variables: dict[str, Any], counts: jax.Array) -> Any:
    """The network's `Prediction` from full pictures of counts; input as in training."""
    pictures = fold_counts(counts) if network.image.fold else counts
    return ShellNetwork(network).apply(variables, pictures, train=False)


def load_run(workdir: pathlib.Path) -> Run:
    """Loads the best checkpoint of a run.

    Raises:
        InputError: if there is no run or no checkpoint, or the checkpoint is of another network.
    """
    config = load_config(workdir)
    if not (workdir / FOLDER).is_dir():
        raise InputError(f"{workdir}: no checkpoint here (there is no folder {FOLDER})")
    # the devices that are here now, not those that trained
    devices = range(1, len(jax.devices()) + 1)
    mesh = first_devices(max(n for n in devices if config.eval.batch % n == 0))
    network = network_from(config)
    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.best_step
        if step is None:
            raise InputError(f"{workdir}: no checkpoint here yet")
        like = abstract_state(network, make_optimizer(config))
        variables = checkpoints.restore_network(step, like, mesh)
    return Run(workdir, step, config, network, synthesis_from(config), variables, mesh)
