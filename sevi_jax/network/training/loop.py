"""The training loop. Order at every step: step, log, and at an interval evaluate, log, save.

Nothing here computes on the device by itself; all that is in `step`. What is saved has its metrics
on disk and only finite numbers in it. Several processes (`processes`) go through the same steps
with the same numbers; the first of them writes and speaks.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import optax
from tqdm import tqdm

from sevi_jax import config as config_module
from sevi_jax import memory
from sevi_jax.config import Config
from sevi_jax.errors import InputError
from sevi_jax.locks import locked
from sevi_jax.network import losses
from sevi_jax.network.training import processes
from sevi_jax.network.training.checkpoint import FOLDER as CHECKPOINTS
from sevi_jax.network.training.checkpoint import Checkpoints
from sevi_jax.network.training.metrics import FILE_NAME as METRICS_FILE
from sevi_jax.network.training.metrics import MetricsWriter, NoMetrics
from sevi_jax.network.training.sharding import data_mesh
from sevi_jax.network.training.specs import network_from, synthesis_from
from sevi_jax.network.training.state import (
    TrainState,
    abstract_state,
    init_state,
    learning_rate_schedule,
    make_optimizer,
    state_sharding,
)
from sevi_jax.network.training.step import (
    LossSpec,
    held_out,
    make_evaluation,
    make_finite_check,
    make_statistics,
    make_train_step,
)
from sevi_jax.network.training.stopping import StopRequests
from sevi_jax.prng import root_key

CONFIG_FILE = "config.json"
# A loss this many times the largest of the steps before is no bad luck with the pictures: gradients
# are clipped, so only broken numbers (or a learning rate that breaks them) bring it about.
SPIKE = 1000.0
SPIKE_STEPS = 100
# What may change when a run goes on; fields, or sections of fields.
MAY_CHANGE = (
    "train.steps",
    "train.learning_rate",
    "train.warmup",
    "train.weight_decay",
    "train.clip_norm",
    "train.ema_decay",
    "train.log_every",
    "train.eval_every",
    "train.keep",
    "eval.statistics_batches",
    "mesh",
)
START_FILE = "start.json"  # from which other run a run began


class Diverged(processes.Agreed):
    """The numbers of a step cannot be right; the message names the step and what is wrong."""


def save_config(workdir: pathlib.Path, config: Config) -> None:
    """Writes the configuration into the run's folder."""
    temporary = workdir / (CONFIG_FILE + ".tmp")
    temporary.write_text(json.dumps(config.to_dict(), indent=1) + "\n")
    os.replace(temporary, workdir / CONFIG_FILE)


def load_config(workdir: pathlib.Path) -> Config:
    """Reads the configuration of a run.

    Raises:
        InputError: if there is none, or it does not fit this program.
    """
    path = workdir / CONFIG_FILE
    if not path.is_file():
        raise InputError(f"{workdir}: no run here (there is no {CONFIG_FILE})")
    config = config_module.read_config(path)
    config_module.validate(config)
    return config


def check_same_network(here: Config, there: Config, place: str) -> None:
    """Checks that parameters of one run fit the network of another.

    Raises:
        InputError: naming the first field that differs.
    """
    fields = [f"model.{name}" for name in here.model] + ["image.size", "image.fold", "shells"]
    if found := _differences(here, there, fields):
        name, (mine, other) = next(iter(found.items()))
        raise InputError(f"{place}: {name}={other} there, but {mine} in this run")
    orders = [len(network_from(config).prior[0].beta) for config in (here, there)]
    if orders[0] != orders[1]:
        raise InputError(f"{place}: {orders[1]} orders of beta there, but {orders[0]} in this run")


def check_same_run(here: Config, there: Config, workdir: pathlib.Path) -> str:
    """Checks that a run may go on with another configuration.

    What is drawn, the network, its loss and the held-out pictures stay: among distances of other
    pictures there is no best checkpoint.

    Args:
        here: the configuration asked for.
        there: that of the run in `workdir`.
        workdir: folder of the run.

    Returns:
        What has changed, in words; empty if nothing has.

    Raises:
        InputError: naming the first field that must not change, and the way out.
    """
    found = _differences(here, there, config_module.fields())
    for name, (mine, other) in found.items():
        if not any(name == x or name.startswith(f"{x}.") for x in MAY_CHANGE):
            raise InputError(
                f"{workdir}: {name}={other} in the run that is here, but {mine} was asked for; go "
                f"on with --config={workdir / CONFIG_FILE}, or begin another run with "
                f"--workdir=FOLDER (from these parameters: --init_from={workdir})"
            )
    return ", ".join(f"{name}={mine} (was {other})" for name, (mine, other) in found.items())


def _differences(here: Config, there: Config, fields: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    """The fields whose values differ, with both values."""
    values = {
        name: [config_module.as_tuples(config_module.value_of(x, name)) for x in (here, there)]
        for name in fields
    }
    return {name: (mine, other) for name, (mine, other) in values.items() if mine != other}


class Trainer:
    """The jitted functions of a run and how they are called.

    Args:
        config: a valid configuration.
        optimizer: as `make_optimizer`, which is the default.
    """

    def __init__(self, config: Config, optimizer: optax.GradientTransformation | None = None):
        self.config = config
        self.mesh = data_mesh(config)
        self.network = network_from(config)
        self.synthesis = synthesis_from(config)
        self.optimizer = optimizer or make_optimizer(config)
        self.root = root_key(config.seed)
        self._abstract_state = abstract_state(self.network, self.optimizer)
        self.sharding = state_sharding(self._abstract_state, self.mesh, config.mesh.shard_params)
        self.step = make_train_step(
            self.network,
            self.synthesis,
            LossSpec(**config.loss.to_dict()),
            self.optimizer,
            config.train.ema_decay,
            config.train.batch,
            self.mesh,
            self.sharding,
        )
        self._lower_step = self.step.lower  # pyright: ignore[reportFunctionMemberAccess]
        self._statistics = make_statistics(
            self.network,
            self.synthesis,
            config.train.batch,
            config.eval.statistics_batches,
            self.mesh,
            self.sharding,
        )
        full_counts = dataclasses.replace(self.synthesis, exposure=(1.0, 1.0))
        self._evaluation = make_evaluation(
            self.network, full_counts, config.eval.batch, "eval", self.mesh
        )

    def initial_state(self) -> TrainState:
        """Makes the state of step 0."""
        return init_state(self.network, self.optimizer, self.config.seed, self.sharding)

    def abstract_state(self) -> TrainState:
        """Returns the shapes of the state."""
        return self._abstract_state

    def compile_step(self) -> None:
        """Compiles the step ahead of its first call; made for a thread beside `initial_state`."""
        state = jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(
                x.shape, x.dtype, sharding=place, weak_type=x.weak_type
            ),
            self.abstract_state(),
            self.sharding,
        )
        self._lower_step(state, self.root).compile()

    def with_statistics(self, state: TrainState) -> TrainState:
        """Makes BatchNorm's statistics of the averaged parameters afresh; donates the state."""
        return self._statistics(state, self.root)

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Judges a state on the fixed held-out pictures of its run.

        Returns:
            ``distance`` (mean), ``distance_median``, ``squared_loss``,
            ``averaged_relative_error`` and, where R is predicted, ``radius_mae`` (half-widths).
        """
        drawn, prediction = held_out(
            self._evaluation,
            state.ema_variables,
            self.root,
            self.config.eval.pictures,
            self.config.eval.batch,
        )
        beta_pred, beta_true = prediction.beta, drawn.params.beta
        distance = np.asarray(losses.distance(beta_pred, beta_true), np.float64)
        squared = float(losses.beta_loss(beta_pred, beta_true, "squared"))
        values = {
            "distance": float(distance.mean()),
            "distance_median": float(np.median(distance)),
            "squared_loss": squared,
            "averaged_relative_error": losses.averaged_relative_error(
                squared / self.network.shells, self.network.orders
            ),
        }
        if prediction.radius is not None:
            values["radius_mae"] = float(np.abs(prediction.radius - drawn.params.radius).mean())
        return values


def _first_state(
    trainer: Trainer, checkpoints: Checkpoints, init_from: pathlib.Path | None
) -> TrainState:
    """The newest checkpoint's state, else one with another run's parameters, else a new one."""
    latest, like = checkpoints.latest_step, trainer.abstract_state()
    placed = trainer.mesh, trainer.config.mesh.shard_params
    if latest is not None:
        return checkpoints.restore(latest, like, *placed)
    if init_from is None:
        return trainer.initial_state()
    with processes.together():
        check_same_network(trainer.config, load_config(init_from), str(init_from))
    with Checkpoints(init_from) as others:
        best = others.best_step
        if best is None:
            raise InputError(f"{init_from}: no checkpoint here to go on from")
        variables = others.restore_network(best, like, *placed)
    state = trainer.initial_state()  # takes seconds, so after all that may be refused

    def copy(tree):
        return jax.tree.map(lambda x: x.copy(), tree)

    return dataclasses.replace(
        state,
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        ema_params=copy(variables["params"]),
        ema_batch_stats=copy(variables["batch_stats"]),
        constants=variables["constants"],
    )


class _Log:
    """Collects step metrics and writes their means at each interval; stops at impossible ones."""

    def __init__(self, config: Config, writer: MetricsWriter | NoMetrics, progress: tqdm):
        self._config = config
        self._writer = writer
        self._progress = progress
        self._schedule = learning_rate_schedule(config)
        self._rows: list[dict[str, float]] = []
        self._pending: tuple[int, dict[str, jax.Array]] | None = None
        self._last = time.monotonic()  # when the step before was done
        self._seconds = 0.0  # that the steps in `_rows` took
        self._losses = collections.deque[float](maxlen=SPIKE_STEPS)
        self.distance: float | None = None  # latest held-out distance

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics of a step; looks at those of the step before, so as not to wait."""
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        """Waits for the step that was added last, and writes at the end of an interval.

        Raises:
            Diverged: if its loss or gradient is not finite, or the loss leaps.
        """
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        row = {name: float(value) for name, value in metrics.items()}
        now = time.monotonic()
        self._seconds, self._last = self._seconds + now - self._last, now
        loss, before = row["loss"], max(self._losses, default=math.inf)
        if not (math.isfinite(loss) and math.isfinite(row["grad_norm"])):
            raise Diverged(f"step {step}: loss={loss}, gradient norm={row['grad_norm']}")
        if loss > SPIKE * before > 0:
            raise Diverged(
                f"step {step}: loss={loss:g}, more than {SPIKE:g} times the largest of the "
                f"{len(self._losses)} steps before, {before:g}"
            )
        self._losses.append(loss)
        self._rows.append(row)
        self._progress.update()
        if step % self._config.train.log_every == 0 or step == self._config.train.steps:
            self.write(step)

    def write(self, step: int) -> None:
        """Writes the means since the last line."""
        if not self._rows:
            return
        means = {name: float(np.mean([row[name] for row in self._rows])) for name in self._rows[0]}
        rate = len(self._rows) / max(self._seconds, 1e-9)
        pictures = rate * self._config.train.batch
        self._writer.write(
            "train",
            step,
            means
            | {
                "learning_rate": float(np.asarray(self._schedule(step - 1))),
                "steps_per_second": rate,
                "pictures_per_second": pictures,
            },
        )
        held_out = "" if self.distance is None else f", held-out distance {self.distance:.4f}"
        self._progress.set_postfix_str(
            f"{pictures:.0f} pictures/s, loss {means['loss']:.4f}{held_out}"
        )
        self._rows.clear()
        self._seconds = 0.0

    def go_on(self) -> None:
        """Leaves the time since the last step (an evaluation) out of the rates."""
        self._last = time.monotonic()


def train(config: Config, workdir: pathlib.Path, init_from: pathlib.Path | None = None) -> bool:
    """Trains a network, from the newest undamaged checkpoint in `workdir` if there is one.

    Args:
        config: configuration.
        workdir: folder of the run; made if missing.
        init_from: folder of another run whose best averaged parameters are the start of a new run.

    Returns:
        Whether all steps are done; False if a signal stopped the run (its state is saved).

    Raises:
        InputError: for a configuration or a folder that does not fit, a folder in which another
            process trains, and a checkpoint that cannot be written.
        OSError: for what else cannot be written.
        Diverged: naming the step; the newest checkpoint is from before.
        FailedElsewhere: if the first of several processes raises one of these alone.
    """
    with contextlib.ExitStack() as held:
        with processes.together():
            config_module.validate(config)
            trainer = Trainer(config)
            if processes.is_first():
                held.enter_context(locked(workdir, workdir, "trains here already"))
            there = _run_in(workdir)
        return _train(trainer, workdir, init_from, there)


def _run_in(workdir: pathlib.Path) -> Config | None:
    """The configuration of the run in a folder; None where there is no run.

    Raises:
        InputError: if the folder holds what a run would write over, and no run.
    """
    if (workdir / CONFIG_FILE).exists():
        return load_config(workdir)
    for name in (METRICS_FILE, CHECKPOINTS):
        if (workdir / name).exists():
            raise InputError(
                f"{workdir}: holds {name}, but no {CONFIG_FILE} of a run; another folder "
                "(--workdir) is needed"
            )
    return None


def _train(
    trainer: Trainer, workdir: pathlib.Path, init_from: pathlib.Path | None, there: Config | None
) -> bool:
    """As `train`, in a locked folder; `there` is the configuration of the run in it."""
    config, is_first = trainer.config, processes.is_first()
    with Checkpoints(workdir, config.train.keep) as checkpoints:
        steps, latest, changes = config.train.steps, checkpoints.latest_step or 0, ""
        with processes.together():
            if latest and there is not None:
                changes = check_same_run(config, there, workdir)
            if latest and init_from is not None and _began_from(workdir) != init_from.resolve():
                raise InputError(
                    f"--init_from={init_from}: {workdir} has checkpoints already; to go on from "
                    "them leave it out, to begin again take another --workdir"
                )
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            # Several processes compile at the first step, all in one order.
            # A mistake in --init_from shall not wait for it.
            if latest < steps and jax.process_count() == 1 and init_from is None:
                pool.submit(trainer.compile_step)  # what fails there fails at the first step too
            state = _first_state(trainer, checkpoints, init_from)
        start = int(state.step)
        if start >= steps:
            if is_first:
                print(f"{workdir}: finished, {start} steps done (train.steps={steps})")
            return True
        if is_first:
            save_config(workdir, config)
            if not start:
                _note_start(workdir, init_from)
            print(_beginning(trainer, workdir, start, changes))
        return _steps(trainer, workdir, checkpoints, state)


def _steps(
    trainer: Trainer, workdir: pathlib.Path, checkpoints: Checkpoints, state: TrainState
) -> bool:
    """Takes the steps that are left. The order of what is done in one is written down here.

    Step, its metrics, and, where an evaluation or a stop is due: BatchNorm's statistics, the check
    of all numbers, evaluation, checkpoint.
    """
    config, is_first = trainer.config, processes.is_first()
    start, steps = int(state.step), config.train.steps
    progress = tqdm(
        total=steps,
        initial=start,
        unit="step",
        desc=workdir.name,
        mininterval=0.5 if sys.stderr.isatty() else 20,
        dynamic_ncols=True,
        disable=not is_first,
    )
    metrics_writer = MetricsWriter(workdir, start) if is_first else NoMetrics()
    finite = make_finite_check(trainer.mesh)
    with progress, metrics_writer as writer, StopRequests(trainer.mesh) as requests:
        log = _Log(config, writer, progress)
        for done in range(start + 1, steps + 1):
            answer = requests.ask()
            state, metrics = trainer.step(state, trainer.root)
            log.add(done, metrics)
            checkpoints.check()
            stop = answer()
            is_due = done % config.train.eval_every == 0 or done == steps
            if not (is_due or stop):
                continue
            log.flush()
            distance = None
            state = trainer.with_statistics(state)
            _check_finite(done, "state", finite(state))
            log.write(done)  # those before the checkpoint are not known to a run that goes on
            if is_due:
                values = trainer.evaluate(state)
                _check_finite(done, "held-out", jax.tree.map(math.isfinite, values))
                log.distance = distance = values["distance"]
                writer.write("eval", done, values)
            writer.sync()
            checkpoints.save(done, state, distance)
            if stop:
                checkpoints.wait()
                if is_first:
                    tqdm.write(f"{stop}: saved at step {done}; start again to go on")
                return False
            memory.give_back()
            log.go_on()
        checkpoints.wait()
    return True


def _beginning(trainer: Trainer, workdir: pathlib.Path, start: int, changes: str) -> str:
    """Says where a run begins, and on what."""
    config, mesh = trainer.config, trainer.mesh
    kinds = collections.Counter(device.device_kind for device in mesh.devices.flat)
    devices = " and ".join(f"{number} x {kind}" for kind, number in kinds.items())
    number = jax.process_count()
    text = (
        f"{workdir}: training on {devices} in {number} process{'es' if number > 1 else ''}, "
        f"{config.train.batch} pictures a step, {config.train.batch // mesh.size} on each device"
    )
    if start:
        text += f"; going on from step {start}" + (f" with {changes}" if changes else "")
    return text


def _note_start(workdir: pathlib.Path, init_from: pathlib.Path | None) -> None:
    """Notes from which run this one begins, so that the same command may go on."""
    path = workdir / START_FILE
    path.unlink(missing_ok=True)
    if init_from is not None:
        path.write_text(json.dumps({"init_from": str(init_from.resolve())}) + "\n")


def _began_from(workdir: pathlib.Path) -> pathlib.Path | None:
    """Folder of the run from which this one began; None where it is not known."""
    try:
        return pathlib.Path(json.loads((workdir / START_FILE).read_text())["init_from"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_finite(step: int, what: str, is_finite: Any) -> None:
    """Raises Diverged, naming the first array of which a tree says that it is not finite."""
    for path, leaf in jax.tree.leaves_with_path(jax.device_get(is_finite)):
        if not leaf:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise Diverged(f"step {step}: {what}.{name} is not finite")
