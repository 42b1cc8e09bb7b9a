"""What a GPU does with this program, in a given time and one folder; useful whenever it ends.

  bash scripts/gpu_report.sh --minutes=10 --output=report
  bash scripts/gpu_report.sh --minutes=10 --output=report2 --stages=train \\
      --init='report/parameters_*.npz'

The stages, each in a process of its own, so that none takes another's memory or time:

  numbers   the device's numbers against the CPU's, as gpu_check.py; at most 90 s
  rates     pictures per second: the step of configs/double34.py in TF32 and bfloat16 at several
            batches, the share of the synthesis, both renderers at two sizes; seconds of fits
  torch     the same network's step in PyTorch on pictures that lie in memory, and this program's
            whole step, in turns; where PyTorch with CUDA is there
  train     double34 for the rest of the time, from the start or from the parameters of an earlier
            report (--init); the learning rate follows the clock, not the number of steps

The folder gets report.json (rewritten after every measurement), loss.png, log.txt and the averaged
parameters in half precision, parameters_0.npz and others of at most 16 MB (rewritten once a minute
or so), from which restore_run.py makes a run's folder. A stage that fails or is out of time is
noted, and the next one begins.
"""

import argparse
import importlib.util
import json
import math
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
STAGES = ("numbers", "rates", "torch", "train")
# Of the time that is left, at most this part, and at most so many seconds.
LIMITS = {"numbers": (0.3, 90), "rates": (0.35, 150), "torch": (0.25, 75)}
END_SECONDS = 5.0  # for the summary
CHECKPOINT_SECONDS = 60.0  # between two writes of the parameters


class Report:
    """report.json: sections of values, rewritten as a whole, so that it is never half a file."""

    def __init__(self, folder: pathlib.Path):
        self._path = folder / "report.json"

    def read(self) -> dict[str, Any]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def update(self, section: str, **values: Any) -> None:
        """Adds values to a section, or replaces them."""
        content = self.read()
        content.setdefault(section, {}).update(values)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(temporary, self._path)


# ------------------------------------------------------------------ the process that starts others


def run_stages(options: argparse.Namespace) -> None:
    """Runs one stage after the other and notes how each ended."""
    end = time.time() + 60 * options.minutes - END_SECONDS
    options.output.mkdir(parents=True, exist_ok=True)
    report = Report(options.output)
    report.update("arguments", **{name: str(value) for name, value in vars(options).items()})
    stages = [stage for stage in STAGES if stage in options.stages]
    for stage in stages:
        if stage == "torch" and importlib.util.find_spec("torch") is None and not options.torch:
            report.update(stage, status="skipped", reason="there is no PyTorch")
            continue
        until, now = end, time.time()
        if stage in LIMITS and stage != stages[-1]:
            part, most = LIMITS[stage]
            until = now + min(most, part * (end - now))
        report.update(stage, status="running")
        status = run_stage(stage, until, options)
        report.update(stage, status=status, wall_seconds=round(time.time() - now, 1))
        print_stage(stage, report.read()[stage])


def run_stage(stage: str, until: float, options: argparse.Namespace) -> str:
    """Runs one stage in a process of its own; returns how it ended."""
    line = [sys.executable, str(HERE / "gpu_report.py"), *sys.argv[1:]]
    line += [f"--child={stage}", f"--until={until}"]
    # a child ends by itself; one that does not is late by so much
    grace = 120.0 if options.tiny else 0.0 if stage == "numbers" else 3.0
    with (options.output / "log.txt").open("a") as log:
        print(f"--- {stage}", file=log, flush=True)
        child = subprocess.Popen(line, stdout=log, stderr=log)

        def stop(*_: Any) -> None:
            child.terminate()
            Report(options.output).update(stage, status="stopped by a signal")
            sys.exit(1)

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        try:
            code = child.wait(timeout=max(0.0, until + grace - time.time()))
        except subprocess.TimeoutExpired:
            child.terminate()
            try:
                child.wait(timeout=2)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            return "out of time"
    return "done" if code == 0 else f"failed with status {code}, see log.txt"


def print_stage(stage: str, section: dict[str, Any]) -> None:
    """Prints what a stage found, for the terminal."""
    print(f"\n{stage}: {section['status']} ({section.get('wall_seconds', 0)} s)")
    for row in section.get("rows", []):
        print("  " + ", ".join(f"{name} {_short(value)}" for name, value in row.items()))
    for name in ("step", "distance", "distance_median", "pictures_per_second"):
        if name in section:
            print(f"  {name} {_short(section[name])}")
    sys.stdout.flush()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ------------------------------------------------------------------------------------ the stages


def stage_numbers(options: argparse.Namespace, report: Report, until: float) -> None:
    """The device against the CPU."""
    import gpu_check

    def note(rows: list[dict[str, Any]]) -> None:
        report.update("numbers", rows=rows, all_within_limits=all(row["ok"] for row in rows))
        if time.time() > until:
            report.update("numbers", left_out=True)
            sys.exit(0)

    config = _sized(32 if options.tiny else 256, True, 8, options)
    gpu_check.check_numbers(config, seed=0, report=note)


def stage_rates(options: argparse.Namespace, report: Report, until: float) -> None:
    """Pictures per second, the most wanted first, as long as there is time."""
    import gpu_check

    rows = []
    for row, call in measurements(options):
        if time.time() > until:
            report.update("rates", left_out=True)
            break
        start = time.time()
        seconds = gpu_check.median_seconds(call(), options.repeats)
        row |= {"seconds": seconds, "with_compilation": round(time.time() - start, 1)}
        if seconds and "batch" in row:
            row["pictures_per_second"] = row["batch"] / seconds
        rows.append(row)
        report.update("rates", rows=rows, shares=_shares(rows))


def measurements(
    options: argparse.Namespace,
) -> Iterator[tuple[dict[str, Any], Callable[[], Callable[[int], Any]]]]:
    """What is measured: a description, and what makes the call that is timed."""
    import gpu_check

    from sevi_jax.network.training.loop import Trainer
    from sevi_jax.physics.types import ImageSpec

    large, small = (32, 32) if options.tiny else (1024, 128)
    batches = (4, 2) if options.tiny else (32, 8, 64)

    def step(batch: int, dtype: str):
        row = {"what": "double34 step", "size": large, "dtype": dtype, "batch": batch}
        config = _sized(large, False, batch, options, dtype)
        return row, lambda: gpu_check.stepping(Trainer(config))

    def synthesis(size: int, fold: bool, renderer: str, batch: int):
        row = {"what": f"synthesis, {renderer}", "size": size, "fold": fold, "batch": batch}
        config = _sized(size, fold, batch, options)
        config.synthesis.renderer = renderer
        return row, lambda: gpu_check.drawing(Trainer(config))

    def fit(size: int, fold: bool):
        def make():
            call = gpu_check.fit_case(ImageSpec(size, fold), seed=0, electrons=2e6)
            return lambda _: call()

        return {"what": "fit of two shells", "size": size, "fold": fold}, make

    yield step(batches[0], "bfloat16")
    yield synthesis(large, False, "electrons", batches[0])
    yield step(batches[0], "float32")
    yield synthesis(small, True, "electrons", batches[0])
    yield synthesis(large, False, "poisson", batches[0])
    yield synthesis(small, True, "poisson", batches[0])
    yield fit(small, True)
    yield fit(large, False)
    for batch in batches[1:]:
        yield synthesis(large, False, "electrons", batch)
        yield step(batch, "bfloat16")
        yield step(batch, "float32")


def _shares(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Share of the synthesis in the steps that were measured."""
    drawn = {
        (row["size"], row["batch"]): row["seconds"]
        for row in rows
        if row["what"] == "synthesis, electrons" and not row["fold"] and row["seconds"]
    }
    return [
        {
            "dtype": row["dtype"],
            "batch": row["batch"],
            "share_of_synthesis": drawn[row["size"], row["batch"]] / row["seconds"],
        }
        for row in rows
        if row["what"] == "double34 step"
        and row["seconds"]
        and (row["size"], row["batch"]) in drawn
    ]


def stage_torch(options: argparse.Namespace, report: Report, until: float) -> None:
    """PyTorch on stored pictures and this program's whole step, in turns."""
    import statistics

    import benchmark_training
    import gpu_check
    import jax

    from sevi_jax.network.training.loop import Trainer

    torch = benchmark_training.Torch(pathlib.Path(options.torch or sys.executable))
    report.update("torch", version=torch.version, cuda=torch.has_cuda)
    if not torch.has_cuda and not options.tiny:
        report.update("torch", reason="PyTorch sees no GPU")
        return
    rows = []
    size, batch = (32, 4) if options.tiny else (1024, 32)
    for dtype in ("bfloat16", "float32"):
        if time.time() > until:
            break
        config = gpu_check.make_config(False, size, False, batch, dtype)
        if options.tiny:  # PyTorch's side has the published width and blocks only
            config.model.depth, config.prior.electrons = 18, (2000, 4000)
        trainer = Trainer(config)
        pictures = jax.device_get(gpu_check.drawing(trainer)(0))
        params = jax.device_get(trainer.initial_state().params)
        device = "cuda" if torch.has_cuda else "cpu"
        benchmark_training.set_up(torch, trainer, params, pictures, device=device, dtype=dtype)
        del pictures, params
        step = gpu_check.stepping(trainer)
        torch.ask("step", steps=2)
        theirs: list[float] = []
        ours: list[float] = []
        jax.block_until_ready(step(0))
        for _ in range(options.repeats):
            theirs += torch.ask("step", steps=3)["times"]
            for i in range(3):
                start = time.perf_counter()
                jax.block_until_ready(step(i))
                ours.append(time.perf_counter() - start)
            row = {"dtype": dtype, "batch": batch, "size": size}
            row["pytorch_stored"] = batch / statistics.median(theirs)
            row["sevi_jax_whole_step"] = batch / statistics.median(ours)
            report.update("torch", rows=[*rows, row])
        rows.append(row)


def stage_train(options: argparse.Namespace, report: Report, until: float) -> None:
    """Trains until then, and judges the network on held-out pictures."""
    import jax
    import numpy as np
    import optax

    from sevi_jax.network.training.loop import Trainer
    from sevi_jax.network.training.sharding import copied
    from sevi_jax.network.training.state import learning_rate_schedule, make_optimizer

    began = time.time()
    config = _config(options)
    optimizer = optax.inject_hyperparams(
        lambda learning_rate: make_optimizer(config, learning_rate)
    )(learning_rate=jax.numpy.float32(0))
    trainer = Trainer(config, optimizer)
    schedule, place = learning_rate_schedule(config), copied(trainer.mesh)
    state = trainer.initial_state()
    if options.init:
        from restore_run import with_parameters

        state = with_parameters(state, options.init)

    def at_rate(state, part: float):
        """The state with the learning rate of that part of the schedule."""
        rate = np.asarray(schedule(min(part, 1.0) * config.train.steps), np.float32)
        hyper = {"learning_rate": jax.device_put(rate, place)}
        return state.replace(opt_state=state.opt_state._replace(hyperparams=hyper))

    log = TrainingLog(report, options, config, began)
    # With rate 0 a step changes the optimizer's averages only, and compiles before the clock runs.
    state, metrics = trainer.step(at_rate(state, 0.0), trainer.root)
    jax.block_until_ready(metrics)
    log.note(compilation_of_step=time.time() - began)
    start = time.time()
    state = log.checkpoint(trainer, state, 1)
    judging = time.time() - start
    clock = time.time()
    # at least a few steps, however late it is
    end = clock + 5.0 if options.tiny else until - 1.3 * judging - 2.0
    step, last = 1, clock
    pending = metrics
    while (now := time.time()) < end:
        state, metrics = trainer.step(at_rate(state, (now - clock) / (end - clock)), trainer.root)
        step += 1
        # looks at the step before, so as not to wait for this one
        if not log.add(step - 1, pending):
            return
        pending = metrics
        if now - last > max(CHECKPOINT_SECONDS, 10 * judging) or (
            last == clock and now - clock > 0.2 * (end - clock)
        ):
            start = time.time()
            state = log.checkpoint(trainer, state, step)
            last, judging = time.time(), time.time() - start
            if not options.tiny:
                end = max(end, until - 1.5 * judging - 2.0)  # the first one compiled
    if log.add(step, pending):
        log.checkpoint(trainer, state, step)
        log.note(memory=jax.devices()[0].memory_stats() or {})


class TrainingLog:
    """Writes what a training finds: losses, held-out distances, parameters, figure."""

    def __init__(self, report: Report, options: argparse.Namespace, config: Any, began: float):
        self._report, self._options, self._config = report, options, config
        self._began = began
        self._losses: list[list[float]] = []  # step, seconds, loss
        self._distances: list[list[float]] = []  # step, seconds, mean, median
        self._since: list[float] = []
        self._written = self._rate_from = time.time()
        self._steps_from = 1

    def note(self, **values: Any) -> None:
        self._report.update("train", **values)

    def add(self, step: int, metrics: dict[str, Any]) -> bool:
        """Takes the metrics of a step; returns whether they are finite."""
        loss = float(metrics["loss"])
        if not math.isfinite(loss):
            self.note(diverged=f"step {step}: loss {loss}")
            return False
        self._since.append(loss)
        now = time.time()
        if now - self._written > 3:
            self._losses.append([step, now - self._began, sum(self._since) / len(self._since)])
            self._since, self._written = [], now
            rate = (step - self._steps_from) / (now - self._rate_from)
            self.note(
                losses=self._losses, step=step, pictures_per_second=rate * self._config.train.batch
            )
        return True

    def checkpoint(self, trainer: Any, state: Any, step: int) -> Any:
        """Judges the averaged parameters and writes them; donates the state, returns the new."""
        import jax
        import parameter_files

        from sevi_jax import provenance

        start = time.time()
        state = trainer.with_statistics(state)
        values = trainer.evaluate(state)
        network = {"params": state.ema_params, "batch_stats": state.ema_batch_stats}
        if not all(math.isfinite(x) for x in values.values()):
            self.note(diverged=f"step {step}: held-out distance is not finite")
            return state
        config = self._config.copy_and_resolve_references()
        config.train.steps = max(step, 1)
        description = {
            "config": config.to_dict(),
            "step": step,
            "distance": values["distance"],
            "versions": provenance.versions() | {"revision": provenance.revision()},
        }
        parameter_files.write_parameters(self._options.output, jax.device_get(network), description)
        self._distances.append(
            [step, time.time() - self._began, values["distance"], values["distance_median"]]
        )
        self.note(
            distances=self._distances,
            **values,
            step=step,
            batch=self._config.train.batch,
            pictures=step * self._config.train.batch,
            held_out=self._config.eval.pictures,
            config=config.to_dict(),
            judging_seconds=time.time() - start,
        )
        self._draw()
        # the judging is no training
        self._rate_from, self._steps_from, self._written = time.time(), step, time.time()
        return state

    def _draw(self) -> None:
        """loss.png, where matplotlib is there; a figure is not worth a training."""
        try:
            import numpy as np

            from sevi_jax.results.figures import training

            losses, distances = (
                np.array(self._losses or [[1, 0, np.nan]]),
                np.array(self._distances),
            )
            training.loss_curve(
                self._options.output / "loss.png",
                losses[:, 0],
                losses[:, 2],
                distances[:, 0],
                distances[:, 2],
            )
        except Exception as error:
            print(f"loss.png: {error!r}", file=sys.stderr)


def _config(options: argparse.Namespace) -> Any:
    """The configuration to train: of the file, with what the flags change."""
    config = runpy.run_path(str(options.config))["get_config"]()
    config.mesh.devices = 1
    config.eval.pictures = 256
    config.eval.batch = 32
    if options.batch:
        config.train.batch = options.batch
    if options.rate:
        config.train.learning_rate = options.rate
    if options.dtype:
        config.model.dtype = options.dtype
    if options.tiny:
        _make_tiny(config)
    from sevi_jax.config import validate

    validate(config)
    return config


def _sized(
    size: int, fold: bool, batch: int, options: argparse.Namespace, dtype: str = "float32"
) -> Any:
    """gpu_check's configuration; tiny where that is asked for."""
    import gpu_check

    config = gpu_check.make_config(options.tiny, size, fold, batch, dtype)
    if options.tiny:
        _make_tiny(config, size, fold, batch, dtype)
    return config


def _make_tiny(
    config: Any, size: int = 32, fold: bool = False, batch: int = 4, dtype: str = "float32"
) -> None:
    """Makes a configuration one of seconds, with a ResNet of one block; for a test on a CPU."""
    from sevi_jax.network import resnet

    resnet._STAGES[18] = ((1, 0, 0, 0), False)
    config.model.depth, config.model.width, config.model.dtype = 18, 4, dtype
    config.image.size, config.image.fold = size, fold
    config.prior.electrons, config.synthesis.chunk = (2000, 4000), 2048
    config.train.batch = config.eval.batch = batch
    config.eval.pictures = config.eval.statistics_batches = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, required=True, help="that all may take")
    add("--output", type=pathlib.Path, required=True, help="folder; made if missing")
    add("--init", type=pathlib.Path, action="append", help="a file of parameters to go on from")
    add("--stages", default=",".join(STAGES), help=f"some of {','.join(STAGES)}")
    add("--config", type=pathlib.Path, default=HERE.parent / "configs" / "double34.py")
    add("--batch", type=int, help="pictures of a step in training; the configuration's")
    add("--rate", type=float, help="largest learning rate; the configuration's")
    add("--dtype", choices=("float32", "bfloat16"), help="type in training; the configuration's")
    add("--torch", help="a Python that has PyTorch; this one")
    add("--repeats", type=int, default=5, help="calls of a measurement; the median counts (5)")
    add("--tiny", action="store_true", help="small numbers for everything: a test of this script")
    add("--child", choices=STAGES, help=argparse.SUPPRESS)
    add("--until", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.stages.split(",")) - set(STAGES)
    if unknown:
        parser.error(f"--stages: {', '.join(sorted(unknown))} is none of {', '.join(STAGES)}")
    options.stages = options.stages.split(",")
    if options.child is None:
        run_stages(options)
        return
    run_child(options)


def run_child(options: argparse.Namespace) -> None:
    """Runs one stage in this process."""
    # both sides of the comparison share the memory
    if options.child == "torch":
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")
    sys.path.insert(0, str(HERE))
    from machine import describe_machine

    from sevi_jax import commands, memory

    memory.keep()
    commands.keep_compiled_programs()
    report = Report(options.output)
    if "machine" not in report.read():
        from sevi_jax import provenance

        found = describe_machine() | {"revision": provenance.revision(), "driver": _driver()}
        report.update("machine", **found)
    stage = {
        "numbers": stage_numbers,
        "rates": stage_rates,
        "torch": stage_torch,
        "train": stage_train,
    }
    stage[options.child](options, report, options.until)


def _driver() -> str | None:
    """What NVIDIA's tool says of card and driver; None where it is not there."""
    line = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(line, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


if __name__ == "__main__":
    main()
