"""Trains and evaluates in one process for hours, and watches its memory, files and throughput.

  python scripts/endurance/soak.py --minutes=120 --output=soak.jsonl

Each round makes some steps of configs/quick.py, is stopped as by SIGTERM, loads the run, judges it
on held-out pictures and on an event file, writes the reports, and goes on from its checkpoint. A
line per minute and per round is written as it goes. At the end comes the verdict on what was after
the first 10 minutes; exit status 1 if memory grew by more than 3 %, if more files are open, or if
steps became slower by 5 % or more. `--summary` judges a file that was written before.
"""

import argparse
import itertools
import json
import os
import pathlib
import runpy
import signal
import sys
import tempfile
import threading
import time
from typing import Any, TextIO
from unittest import mock

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "Agg"

import numpy as np

from sevi_jax import memory
from sevi_jax.network.run import load_run
from sevi_jax.network.training import loop
from sevi_jax.results import cases, report
from sevi_jax.simulation import simulate

ROOT = pathlib.Path(__file__).resolve().parents[2]
WARM_MINUTES = 10
PICTURES = 32  # held-out pictures judged in a round
PAIRS = 15  # of the event file


class Trainer(loop.Trainer):
    """Compiled once; asks for a stop at the end of each round, as SIGTERM does.

    Args:
        config: a valid configuration.
        steps: of a round.
    """

    def __init__(self, config: Any, steps: int):
        super().__init__(config)
        self.done = 0
        self._jitted, self.step = self.step, self._counted
        self._steps = steps

    def _counted(self, state, root):
        self.done += 1
        if self.done % self._steps == 0:
            signal.raise_signal(signal.SIGTERM)
        return self._jitted(state, root)


class Watch:
    """Writes lines of figures on the process: one every minute, by a thread, and those asked for.

    Args:
        file: where to.
        trainer: whose steps are counted.
    """

    def __init__(self, file: TextIO, trainer: Trainer):
        self._file = file
        self._trainer = trainer
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._memory: dict[str, list[float]] = {"minute": [], "round": []}
        threading.Thread(target=self._look, daemon=True).start()

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self._start) / 60

    def _look(self) -> None:
        """Looks at the memory every second: it is not the same in each phase of a round."""
        for second in itertools.count(1):
            time.sleep(max(0.0, self._start + second - time.monotonic()))
            now = resident_mib()
            with self._lock:
                for values in self._memory.values():
                    values.append(now)
            if second % 60 == 0:
                self.line("minute")

    def line(self, kind: str, **more: Any) -> None:
        """Appends one line: Linux's own figures of this process, and `more`.

        ``rss_mib`` is the mean of the resident memory since the last line of this kind.
        """
        with self._lock:
            memory, self._memory[kind] = self._memory[kind], []
            values = {
                "kind": kind,
                "minutes": round(self.minutes, 3),
                "rss_mib": round(float(np.mean(memory)), 2),
                "rss_mib_most": max(memory),
                "open_files": len(os.listdir("/proc/self/fd")),
                "threads": len(os.listdir("/proc/self/task")),
                "cpu_s": round(time.process_time(), 2),
                "load": os.getloadavg()[0],
                "steps": self._trainer.done,
            }
            self._file.write(json.dumps(values | more) + "\n")
            self._file.flush()


def resident_mib() -> float:
    """Resident memory of this process."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGESIZE") / 2**20, 2)


def quick_config() -> Any:
    """The configuration of configs/quick.py, of more steps than there is time for."""
    config = runpy.run_path(str(ROOT / "configs/quick.py"))["get_config"]()
    config.train.steps = 10_000_000
    config.train.eval_every = 100
    config.eval.pictures = 64
    config.mesh.devices = 1
    return config


def judge(workdir: pathlib.Path, events: pathlib.Path) -> float:
    """Loads the run and writes both reports, as the commands do; returns the held-out distance."""
    run = load_run(workdir)
    held_out = report.judge_held_out(run, *run.held_out(PICTURES))
    result = report.write_report(workdir, run, held_out, "held_out")
    size, shells = run.network.image.size, run.network.shells
    parts = cases.read_cases(events, shells, size, pairs=PAIRS, seed=0, progress=False)
    judged = [one for part in parts for one in report.judge_cases(run, part)]
    report.write_report(workdir / "report", run, judged)
    report.write_loss_curve(workdir)
    return result["distance"]["mean"]


def soak(folder: pathlib.Path, file: TextIO, minutes: float, steps: int) -> None:
    """Goes round until the time is over."""
    config = quick_config()
    simulate(config, "distributions", folder / "train10.h5", number=6, electrons="300000")
    trainer = Trainer(config, steps)
    watch = Watch(file, trainer)
    while watch.minutes < minutes:
        times = [time.process_time()]
        with mock.patch.object(loop, "Trainer", return_value=trainer):
            loop.train(config, folder / "run")
        times.append(time.process_time())
        distance = judge(folder / "run", folder / "train10.h5")
        times.append(time.process_time())
        train_s, judge_s = (float(x) for x in np.diff(times))
        watch.line("round", steps_per_cpu_s=steps / train_s, judge_cpu_s=judge_s, distance=distance)


def summary(path: pathlib.Path) -> tuple[dict[str, Any], bool]:
    """The verdict over what came after the first minutes, and whether it is good.

    Growth is that of a straight line through all values, over the whole of the time.
    """
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rounds = [x for x in rows if x["kind"] == "round" and x["minutes"] > WARM_MINUTES]
    minute = [x for x in rows if x["kind"] == "minute" and x["minutes"] > WARM_MINUTES]

    def growth(rows: list[dict[str, Any]], name: str) -> float:
        minutes, values = (np.array([row[key] for row in rows]) for key in ("minutes", name))
        slope, start = np.polyfit(minutes - minutes[0], values, 1)
        return 100 * float(slope * (minutes[-1] - minutes[0]) / start)

    quarter = max(1, len(rounds) // 4)
    rates = [x["steps_per_cpu_s"] for x in rounds]
    files = [x["open_files"] for x in rounds]
    figures: dict[str, Any] = {
        "minutes": rows[-1]["minutes"],
        "steps": rows[-1]["steps"],
        "rounds": sum(x["kind"] == "round" for x in rows),
        "rss_mib_first_last": [rounds[0]["rss_mib"], rounds[-1]["rss_mib"]],
        "rss_mib_most": max(x["rss_mib_most"] for x in minute),
        "rss_growth_percent": growth(rounds, "rss_mib"),
        "rss_growth_percent_by_minute": growth(minute, "rss_mib"),
        "open_files_first_last_most": [files[0], files[-1], max(files)],
        "threads_first_last": [rounds[0]["threads"], rounds[-1]["threads"]],
        "steps_per_cpu_s_first_quarter": float(np.mean(rates[:quarter])),
        "steps_per_cpu_s_last_quarter": float(np.mean(rates[-quarter:])),
        "steps_per_cpu_s_growth_percent": growth(rounds, "steps_per_cpu_s"),
        "distance_first_last": [rounds[0]["distance"], rounds[-1]["distance"]],
    }
    good = (
        figures["rss_growth_percent"] <= 3
        and files[-1] <= files[0]
        and figures["steps_per_cpu_s_growth_percent"] > -5
    )
    return figures, good


def main() -> int:
    parser = argparse.ArgumentParser(description="Trains and evaluates for hours.")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--steps", type=int, default=300, help="Of a round.")
    parser.add_argument("--output", type=pathlib.Path, default="soak.jsonl", help="JSON lines.")
    parser.add_argument("--summary", action="store_true", help="Only judge --output.")
    args = parser.parse_args()
    if args.minutes < 2 * WARM_MINUTES:
        parser.error(f"--minutes={args.minutes:g} must be at least {2 * WARM_MINUTES}")
    if not args.summary:
        os.nice(19)
        memory.keep()  # as the commands do
        with (
            tempfile.TemporaryDirectory(prefix="sevi_jax_soak_") as name,
            args.output.open("w") as file,
        ):
            soak(pathlib.Path(name), file, args.minutes, args.steps)
    figures, good = summary(args.output)
    print(json.dumps(figures, indent=1))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
