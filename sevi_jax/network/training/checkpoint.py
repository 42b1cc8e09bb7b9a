"""Checkpoints of a run through Orbax; its only importer.

Orbax writes a checkpoint under a temporary name and renames it when it is complete. Just before
that it is sealed (`seal`): a checkpoint whose files are no longer what was written is passed over
for the next one, and that is said.

Several processes (`processes`) call the same methods in the same order, on one file system. Orbax
writes what each of them holds, and waits for all; the first of them seals, when the others have
written, and alone looks for damage and puts things away.
"""

import contextlib
import errno
import json
import logging
import math
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN

from sevi_jax import provenance
from sevi_jax.errors import InputError
from sevi_jax.network.training import processes
from sevi_jax.network.training.seal import damage, seal
from sevi_jax.network.training.state import TrainState, state_sharding

FOLDER = "checkpoints"
_DELETED = "deleted"  # a checkpoint goes there by one rename, so that none is found half deleted
# Files of a checkpoint, by the beginning of their names.
_ALL = ("",)
_FOR_INFERENCE = ("network/", "metrics/")
# What a disk says that is no mistake of the program's.
_DISK_TROUBLE = ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ESTALE")


# Folders of checkpoints, items and shapes that were found to match.
_matching: set[tuple[pathlib.Path, str, tuple[tuple[str, str], ...]]] = set()


class Checkpoints:
    """The checkpoints of one run: the newest ones and the best; a context manager.

    Reading changes nothing in the folder, so it may be done beside a training.

    Args:
        workdir: folder of the run; made when something is saved.
        keep: how many of the newest are kept, beside the best.
    """

    def __init__(self, workdir: pathlib.Path, keep: int = 1):
        self._folder = (workdir / FOLDER).absolute()
        self._keep = keep
        self._manager: ocp.CheckpointManager | None = None  # made by the first save
        self._saving = 0  # the step that is being saved, or was last
        self._distances: dict[int, float] = {}  # infinite where not evaluated
        self._intact: set[tuple[int, tuple[str, ...]]] = set()  # what was looked at

    def save(self, step: int, state: TrainState, distance: float | None) -> None:
        """Saves in the background.

        Args:
            step: steps done.
            state: of the run.
            distance: held-out distance of this state, or None where it was not evaluated.

        Raises:
            InputError: if this one or the one before cannot be written.
        """
        items = {
            "network": ocp.args.StandardSave(state.ema_variables),
            "training": ocp.args.StandardSave(state.training_part),
        }
        self.wait()
        self._saving = step
        with self._disk_trouble_in_one_line("saved"):
            manager = self._manager or self._open_for_saving()
            with processes.together():
                if processes.is_first():
                    self._try_room(state)
            self._distances[step] = math.inf if distance is None else distance
            manager.save(
                step,
                args=ocp.args.Composite(**items),
                metrics={} if distance is None else {"distance": distance},  # None: a warning
                custom_metadata={"versions": provenance.versions()},
                force=True,
            )

    @property
    def latest_step(self) -> int | None:
        """Steps done in the newest undamaged checkpoint; None where there is no checkpoint.

        Raises:
            InputError: if there are checkpoints and all are damaged.
        """
        return processes.from_first(lambda: self._first_undamaged(self._steps(), _ALL))

    @property
    def best_step(self) -> int | None:
        """Steps done in the checkpoint of the smallest held-out distance, else in the newest.

        One whose network or distance is damaged does not count.

        Raises:
            InputError: as `latest_step`.
        """

        def best() -> int | None:
            steps = sorted(self._steps(), key=lambda step: (self._distance(step), -step))
            return self._first_undamaged(steps, _FOR_INFERENCE)

        return processes.from_first(best)

    def restore(
        self, step: int, like: TrainState, mesh: Mesh, shard_params: bool = False
    ) -> TrainState:
        """Reads the whole state of a checkpoint.

        Args:
            step: steps done.
            like: the state's shapes (`state.abstract_state`).
            mesh: where the arrays shall lie; any number of devices.
            shard_params: whether the large ones shall be split (`state_sharding`).

        Raises:
            InputError: if the checkpoint is damaged or of another network, or can't be read.
        """
        sharding = state_sharding(like, mesh, shard_params)
        network = self._restore(step, "network", like.ema_variables, sharding.ema_variables)
        training = self._restore(step, "training", like.training_part, sharding.training_part)
        return TrainState.from_parts(network, training)

    def restore_network(
        self, step: int, like: TrainState, mesh: Mesh, shard_params: bool = False
    ) -> dict[str, Any]:
        """Reads what inference needs, `TrainState.ema_variables`; as `restore`."""
        sharding = state_sharding(like, mesh, shard_params)
        return self._restore(step, "network", like.ema_variables, sharding.ema_variables)

    def check(self) -> None:
        """Raises InputError if what is being saved in the background cannot be written."""
        if self._manager:
            with self._disk_trouble_in_one_line("saved"):
                self._manager.check_for_errors()

    def wait(self) -> None:
        """Waits until all is on disk; raises InputError if it cannot be written."""
        if self._manager:
            with self._disk_trouble_in_one_line("saved"):
                self._manager.wait_until_finished()
            if processes.is_first():
                shutil.rmtree(self._folder / _DELETED, ignore_errors=True)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *unused) -> None:
        if self._manager is None:
            return
        if kind and jax.process_count() > 1 and not issubclass(kind, processes.Agreed):
            return  # waiting is for all processes, and the others may not come here
        try:
            self.wait()
        except Exception:
            if kind is None:  # else the first error is the one to tell
                raise
        finally:
            with contextlib.suppress(Exception):  # the error of `wait` once more
                self._manager.close()

    def _open_for_saving(self) -> ocp.CheckpointManager:
        """Makes Orbax's manager, once what kills and damage left is out of its way."""
        latest = self.latest_step or 0
        with processes.together():
            if processes.is_first():
                self._tidy(latest)
        self._distances = {step: self._distance(step) for step in self._steps()}
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy(
                    [LatestN(self._keep), _Best(self._distances)]
                ),
                best_fn=lambda metrics: metrics["distance"],  # without it none are written
                cleanup_tmp_directories=True,
                todelete_subdir=_DELETED,
                lightweight_initialize=True,  # distances are read here, where damage is expected
                async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
            ),
        )
        return self._manager

    def _tidy(self, latest: int) -> None:
        """Makes the folder; puts away what was deleted only half, and what is damaged."""
        self._folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._folder / _DELETED, ignore_errors=True)
        for step in self._steps():
            # what was not gone on from comes again; an older one may still have a good network
            if what := self._damage(step, _ALL if step > latest else _FOR_INFERENCE):
                self._set_aside(step, what)

    def _try_room(self, state: TrainState) -> None:
        """Raises OSError if a checkpoint will not fit, or nothing can be written at all.

        Orbax would say so too, but after a hundred tracebacks of its threads on stderr.
        """
        leaves = jax.tree.leaves(state)
        # the arrays as they are, though most are packed; what is said of each; the rest
        size = sum(leaf.nbytes for leaf in leaves) + 1024 * len(leaves) + 2**18
        with tempfile.TemporaryFile(dir=self._folder) as file:  # a kill leaves nothing
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif shutil.disk_usage(self._folder).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))

    def _seal(self) -> None:
        """Writes the checksums; Orbax calls it when all files are there, the final name not yet."""
        (folder,) = self._folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
        seal(pathlib.Path(folder))

    def _set_aside(self, step: int, what: str) -> None:
        """Keeps a damaged checkpoint under a name that is no step's."""
        path = self._folder / str(step)
        kept = path.with_name(f"{step}.damaged")
        shutil.rmtree(kept, ignore_errors=True)
        path.rename(kept)
        print(f"{path}: damaged ({what}), kept as {kept.name}", file=sys.stderr)

    def _steps(self) -> list[int]:
        """Steps of all checkpoints, newest first."""
        with self._disk_trouble_in_one_line("read"):
            try:
                paths = [path for path in self._folder.iterdir() if path.is_dir()]
            except FileNotFoundError:
                return []
        names = (path.name for path in paths)
        return sorted((int(x) for x in names if x.isascii() and x.isdigit()), reverse=True)

    def _distance(self, step: int) -> float:
        """Held-out distance of a checkpoint; infinite where it is not known."""
        try:
            text = (self._folder / str(step) / "metrics" / "metrics").read_bytes()
            return float(json.loads(text)["distance"])
        except (OSError, ValueError, KeyError, TypeError):
            return math.inf  # damage is found by `_damage`

    def _first_undamaged(self, steps: Iterable[int], parts: tuple[str, ...]) -> int | None:
        """The first of the steps that has no damage; says which were passed over for it."""
        damaged = []
        for step in steps:
            what = self._damage(step, parts)
            path = self._folder / str(step)
            if what is None:
                for line in damaged:
                    print(f"{line}, step {step} is used instead", file=sys.stderr)
                return step
            if path.exists():  # else a training that runs has replaced it by a newer one
                damaged.append(f"{path}: damaged ({what})")
        if damaged:
            raise InputError(f"{'; '.join(damaged)}; no other checkpoint is left")
        return None

    def _damage(self, step: int, parts: tuple[str, ...]) -> str | None:
        """What is wrong with the files of a checkpoint, or None."""
        folder = self._folder / str(step)
        if (step, parts) in self._intact:
            return None
        with self._disk_trouble_in_one_line("read"):
            what = damage(folder, parts)
        if what is None:
            self._intact.add((step, parts))
        return what

    def _restore(self, step: int, item: str, like: Any, sharding: Any) -> Any:
        folder = self._folder / str(step) / item
        with processes.together():
            if not folder.parent.is_dir():
                raise InputError(f"{folder.parent}: no checkpoint here (any more)")
            if processes.is_first() and (what := self._damage(step, (f"{item}/",))):
                raise InputError(f"{folder.parent}: damaged ({what})")
        try:
            return _read(folder, like, sharding)
        except Exception as error:
            first = (str(error).strip() or repr(error)).splitlines()[0]
            if not folder.exists():
                raise InputError(
                    f"{folder.parent}: gone while it was read; a training that runs may have "
                    "replaced it by a newer one: try again"
                ) from error
            raise InputError(
                f"{folder.parent}: not a checkpoint of the network in this run's configuration "
                f"({first[:200]})"
            ) from error

    @contextlib.contextmanager
    def _disk_trouble_in_one_line(self, what: str) -> Iterator[None]:
        """Turns what a disk refuses, also where Orbax tells of it, into InputError."""
        try:
            yield
        except (InputError, processes.FailedElsewhere):
            raise
        except Exception as error:
            for name in _DISK_TROUBLE:
                code = getattr(errno, name)
                reason = os.strerror(code)
                if getattr(error, "errno", None) == code or reason in str(error):
                    path = self._folder / str(self._saving) if what == "saved" else self._folder
                    raise InputError(f"{path}: cannot be {what} ({reason})") from error
            raise


class _Best:
    """Orbax's policy of what to keep: the checkpoint of the smallest distance.

    Args:
        distances: per step, infinite where it is not known; may change.
    """

    def __init__(self, distances: dict[int, float]):
        self._distances = distances

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [info.step for info in checkpoints]
        known = [step for step in steps if math.isfinite(self._distances.get(step, math.inf))]
        best = min(known, key=lambda step: (self._distances[step], -step), default=None)
        return [step == best for step in steps]


def _read(folder: pathlib.Path, like: Any, sharding: Any) -> Any:
    """Reads the arrays of an item; ValueError names the first that is of another network."""
    expected = _shapes(like)
    kind = (folder.parents[1], folder.name, tuple(expected.items()))
    # the metadata that is missed is that of the whole checkpoint, a folder above
    with _no_warnings(), ocp.StandardCheckpointer() as reader:
        # once for a run: TensorStore keeps half a MiB for good each time that it is asked for them
        if kind not in _matching:
            found = _shapes(reader.metadata(folder).item_metadata)
            for name in sorted(found.keys() | expected.keys()):
                there, here = found.get(name, "nothing"), expected.get(name, "nothing")
                if there != here:
                    raise ValueError(f"{name}: found {there}, expected {here}")
            _matching.add(kind)
        wanted = jax.tree.map(
            lambda x, lies: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lies), like, sharding
        )
        return reader.restore(folder, wanted)


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Keeps Orbax from warning on stderr."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _shapes(tree: Any) -> dict[str, str]:
    """Shape and type of every array of a tree by its name."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{tuple(leaf.shape)} {leaf.dtype}"
        for path, leaf in jax.tree.leaves_with_path(tree)
    }
