"""Checkpoints of a run through Orbax; its only importer."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from sevi_jax.errors import InputError
from sevi_jax.training.sharding import copied
from sevi_jax.training.state import TrainState

FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of one run: the newest ones and the best; a context manager.

    Args:
        workdir: folder of the run; made when something is saved.
        keep: how many of the newest are kept, beside the best.
    """

    def __init__(self, workdir: pathlib.Path, keep: int = 1):
        policies = [
            LatestN(keep),
            # sorted upwards and the last one kept: the highest is the best
            BestN(
                get_metric_fn=lambda metrics: -metrics["distance"],
                n=1,
                keep_checkpoints_without_metrics=False,
            ),
        ]
        self._folder = (workdir / FOLDER).absolute()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy(policies),
                best_fn=lambda metrics: metrics["distance"],
                best_mode="min",
                create=False,  # not by looking for a checkpoint: a refused run leaves no folder
            ),
        )

    def save(self, step: int, state: TrainState, distance: float | None) -> None:
        """Saves in the background.

        Args:
            step: steps done.
            state: of the run.
            distance: held-out distance of this state, or None where it was not evaluated.
        """
        items = {
            "network": ocp.args.StandardSave(state.ema_variables),
            "training": ocp.args.StandardSave(state.training_part),
        }
        metrics = None if distance is None else {"distance": distance}
        self._folder.mkdir(parents=True, exist_ok=True)
        self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)

    @property
    def latest_step(self) -> int | None:
        """Steps done in the newest checkpoint; None where there is none."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Steps done in the checkpoint of the smallest held-out distance, else in the newest."""
        best = self._manager.best_step()
        return self.latest_step if best is None else best

    def restore(self, step: int, like: TrainState, mesh: Mesh) -> TrainState:
        """Reads the whole state of a checkpoint.

        Args:
            step: steps done.
            like: the state's shapes (`state.abstract_state`).
            mesh: where the arrays shall lie; any number of devices.

        Raises:
            InputError: if the checkpoint is of another network, or can't be read.
        """
        items = {"network": like.ema_variables, "training": like.training_part}
        found = self._restore(step, items, mesh)
        return TrainState.from_parts(found["network"], found["training"])

    def restore_network(self, step: int, like: TrainState, mesh: Mesh) -> dict[str, Any]:
        """Reads what inference needs, `TrainState.ema_variables`; as `restore`."""
        return self._restore(step, {"network": like.ema_variables}, mesh)["network"]

    def _restore(self, step: int, items: dict[str, Any], mesh: Mesh) -> Any:
        sharding = copied(mesh)
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), items
        )
        args = {name: ocp.args.StandardRestore(item) for name, item in abstract.items()}
        try:
            self._check_shapes(step, items["network"])
            return self._manager.restore(step, args=ocp.args.Composite(**args))
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            first = (str(error).strip() or repr(error)).splitlines()[0]
            raise InputError(
                f"{self._folder / str(step)}: not a checkpoint of the network in this run's "
                f"configuration ({first[:200]})"
            ) from error

    def _check_shapes(self, step: int, network: dict[str, Any]) -> None:
        """Raises ValueError for another network, from the metadata alone.

        A restore that fails half-way leaves readers behind, which complain on stderr later.
        """
        folder: Any = self._folder / str(step) / "network"  # Orbax's own Path type is wanted
        stored = ocp.StandardCheckpointHandler().metadata(folder)
        found, expected = (
            {
                jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape)
                for path, leaf in jax.tree.leaves_with_path(tree)
            }
            for tree in (getattr(stored, "tree", stored), network)
        )
        for name in sorted(found.keys() | expected.keys()):
            there, here = (str(x[name]) if name in x else "nothing" for x in (found, expected))
            if there != here:
                raise ValueError(f"{name}: found {there}, expected {here}")

    def wait(self) -> None:
        """Waits until all is on disk."""
        self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *unused) -> None:
        self._manager.close()
