"""Kills runs at random moments, fills disks, and compares what comes out with undisturbed runs.

  python scripts/endurance/torture.py               # 100 kills of train, 30 of files; the disks
  python scripts/endurance/torture.py --only=train --kills=10 --seed=1
  python scripts/endurance/torture.py --only=files  # what commands write: synthesize and others
  python scripts/endurance/torture.py --only=disk   # needs root: mounts small tmpfs

Prints a line per kill and the figures at the end; exit status 1 if anything was not as it must be.
docs/reliability.md says what that is. Low priority; 100 kills take some 40 minutes on two cores.
"""

import argparse
import collections
import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

os.environ["JAX_PLATFORMS"] = "cpu"

import jax

from sevi_jax.data.replacing import replacing
from sevi_jax.network.training import loop, metrics, seal
from sevi_jax.network.training.checkpoint import FOLDER, Checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = 40
# A network that is compiled in half a minute and makes 40 steps and 10 checkpoints in some seconds.
FLAGS = [
    f"--config={ROOT / 'configs' / 'quick.py'}",
    f"--config.train.steps={STEPS}",
    "--config.train.eval_every=4",
    "--config.train.log_every=3",
    "--config.train.batch=4",
    "--config.image.size=32",
    "--config.model.width=4",
    "--config.model.ladder=8",
    "--config.eval.pictures=8",
    "--config.eval.batch=4",
    "--config.eval.statistics_batches=2",
    "--config.prior.electrons=(2000, 3000)",
    "--config.synthesis.chunk=4096",
]
# of FLAGS, what has an effect on a file
SYNTHESIZE = ["synthesize", *(x for x in FLAGS if x.startswith(("--config=", "--config.prior.")))]
# Commands that write one file: its name and the line, to which --output is added.
FILES = {
    "distributions.h5": [*SYNTHESIZE, "--kind=distributions", "--number=40", "--electrons=100000"],
    "frames.h5": [*SYNTHESIZE, "--kind=frames", "--number=64", "--frame_size=256"],
    "images.h5": [*SYNTHESIZE, "--kind=images", "--number=400", "--config.image.size=32"],
}

# What a kill aims at, and up to how many seconds after it is seen the kill comes.
AIMS = {
    "start or compilation": 25.0,
    "a step": 1.0,
    "metrics": 0.003,
    "a checkpoint": 0.3,
    "the report": 4.0,
}

PARTS = ("train", "files", "disk")
_failures: list[str] = []


def check(ok: bool, what: str) -> None:
    """Notes and prints what is not as it must be."""
    if not ok:
        _failures.append(what)
        print(f"WRONG: {what}", flush=True)


class Command:
    """A command of the program in an own process.

    Args:
        folder: of the compiled functions and of what the process says.
        line: module and arguments.
        cold: compile everything again.
        options: of subprocess.Popen.
    """

    def __init__(self, folder: pathlib.Path, line: list[str], cold: bool = False, **options):
        env = os.environ | {
            "TF_CPP_MIN_LOG_LEVEL": "3",  # what XLA says of functions that it finds compiled
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
            "MPLBACKEND": "Agg",
            "PYTHONUNBUFFERED": "1",
        }
        if not cold:
            env["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
            env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        self._out, self._err = folder / "stdout", folder / "stderr"
        self._since = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"sevi_jax.{line[0]}", *line[1:]],
                env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, **options,
            )  # fmt: skip

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._since

    def runs(self) -> bool:
        return self._process.poll() is None

    def until(self, reached: Callable[[], bool]) -> None:
        """Waits until something is reached, or the process has ended."""
        while self.runs() and not reached():
            time.sleep(0.002)  # a share of the machine that the process shall have

    def kill(self) -> bool:
        """Whether SIGKILL came before the process had ended."""
        self._process.send_signal(signal.SIGKILL)
        return self._process.wait() == -signal.SIGKILL

    def wait(self) -> int:
        return self._process.wait()

    def printed(self) -> str:
        return self._out.read_text(errors="replace")

    def complained(self) -> list[str]:
        """What stands on stderr, without progress bars."""
        lines = re.split(r"[\r\n]+", self._err.read_text(errors="replace"))
        return [line for line in lines if line.strip() and "%|" not in line]


def train_line(workdir: pathlib.Path) -> list[str]:
    return ["train", *FLAGS, f"--workdir={workdir}"]


class Expected:
    """An undisturbed run and how to compare with it."""

    def __init__(self, folder: pathlib.Path):
        self.workdir = folder / "undisturbed"
        for name in ("undisturbed, compiling", "undisturbed"):
            shutil.rmtree(self.workdir, ignore_errors=True)
            command = Command(folder, train_line(self.workdir))
            status = command.wait()
            if status:
                raise SystemExit("\n".join(command.complained()))
            self.seconds = command.seconds
            print(f"{name}: {self.seconds:.0f} s", flush=True)
        self._trainer = loop.Trainer(loop.load_config(self.workdir))
        self._state = self._read(self.workdir)
        self._rows = _rows(self.workdir)

    def _read(self, workdir: pathlib.Path):
        with Checkpoints(workdir) as checkpoints:
            like, mesh = self._trainer.abstract_state(), self._trainer.mesh
            return jax.device_get(checkpoints.restore(STEPS, like, mesh))

    def compare(self, workdir: pathlib.Path) -> None:
        """Checks a finished run: parameters, metrics, report, and that nothing is left over."""
        pairs = zip(*map(jax.tree.leaves, (self._state, self._read(workdir))), strict=True)
        check(all(x.tobytes() == y.tobytes() for x, y in pairs), f"{workdir}: other final bits")
        check(_rows(workdir) == self._rows, f"{workdir}: other metrics")
        steps = [row["step"] for row in self._rows if row["kind"] == "eval"]
        check(steps == list(range(4, STEPS + 1, 4)), f"evaluations at {steps}")
        reports = [json.loads((x / "held_out.json").read_text()) for x in (workdir, self.workdir)]
        for report in reports:
            del report["run"]["workdir"]
        check(reports[0] == reports[1], f"{workdir}: another report")
        check(not torn_figures(workdir), f"{workdir}: torn figures at the end")
        names = [{str(x.relative_to(y)) for x in _small_tree(y)} for y in (workdir, self.workdir)]
        check(names[0] == names[1], f"{workdir}: other files, {sorted(names[0] ^ names[1])}")


def _small_tree(workdir: pathlib.Path) -> list[pathlib.Path]:
    return [*workdir.iterdir(), *(workdir / FOLDER).iterdir()]


def _rows(workdir: pathlib.Path) -> list[dict]:
    return [
        {name: value for name, value in row.items() if not name.endswith("_per_second")}
        for row in metrics.read_metrics(workdir)
    ]


def torn_figures(workdir: pathlib.Path) -> int:
    """How many pictures do not end as they should; nothing reads them but people."""
    return sum(not path.read_bytes().endswith(b"IEND\xaeB`\x82") for path in workdir.glob("*.png"))


def look_after_kill(workdir: pathlib.Path, count: collections.Counter) -> None:
    """Checks what a kill left: no torn file under a name that something reads."""
    for path in (workdir / FOLDER).glob("[0-9]*"):
        if path.name.isdigit():
            damage = seal.damage(path)
            check(damage is None, f"{path}: {damage}")
            count["checkpoints looked at after kills, all whole"] += damage is None
    for name in ("config.json", "held_out.json"):
        with contextlib.suppress(FileNotFoundError):
            try:
                json.loads((workdir / name).read_text())
            except ValueError:
                check(False, f"{workdir / name} is torn")
    steps = [row["step"] for row in metrics.read_metrics(workdir) if row["kind"] == "eval"]
    check(steps == sorted(set(steps)), f"{workdir}: evaluated steps {steps}")
    count["figures cut off by kills, drawn again later"] += torn_figures(workdir)


def _lines(workdir: pathlib.Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return (workdir / metrics.FILE_NAME).read_bytes().count(b"\n")
    return 0


def _is_saving(workdir: pathlib.Path) -> bool:
    return any((workdir / FOLDER).glob("*.orbax-checkpoint-tmp*"))


def kill_once(command: Command, workdir: pathlib.Path, aim: str, rng: random.Random) -> bool:
    """Kills at a random moment of the kind aimed at; whether the process had not ended before."""
    before = _lines(workdir)
    # what a kill before left there is no sign of this process
    old = {path: path.stat().st_ino for path in (workdir / FOLDER).glob("*tmp*")}

    def saves() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return any(
                old.get(path) != path.stat().st_ino for path in (workdir / FOLDER).glob("*tmp*")
            )
        return False

    wait = rng.uniform(0, AIMS[aim])
    if aim in ("a step", "metrics"):
        number = before + rng.randrange(1, 12)
        command.until(lambda: _lines(workdir) >= number)
    elif aim == "a checkpoint":
        command.until(lambda: _lines(workdir) > before)
        time.sleep(rng.uniform(0, 1))
        command.until(saves)
    elif aim == "the report":
        command.until(lambda: "judging" in command.printed())
    time.sleep(wait)
    return command.kill()


def torture_train(
    folder: pathlib.Path, kills: int, rng: random.Random, count: collections.Counter
) -> None:
    """Kills and starts again until enough; each run that gets to its end is compared."""
    expected = Expected(folder)
    run = 0
    while True:
        run += 1
        workdir = folder / f"run{run}"
        done = False
        while not done:
            enough = sum(count[f"kills in {x}"] for x in AIMS) >= kills
            aim = rng.choices(list(AIMS), [3, 3, 3, 4, 2])[0]
            cold = aim == "start or compilation" and rng.random() < 0.5
            command = Command(folder, train_line(workdir), cold)
            if enough:
                done = command.wait() == 0
                check(done, f"{workdir}: status {command.wait()}")
            elif kill_once(command, workdir, aim, rng):
                count[f"kills in {aim}"] += 1
                count["of them with nothing compiled before"] += cold
                half = aim == "a checkpoint" and _is_saving(workdir)
                count["of them with a checkpoint half written"] += half
                print(f"run {run}: killed after {command.seconds:.1f} s, {aim}", flush=True)
                look_after_kill(workdir, count)
            else:
                done = command.wait() == 0
                check(done, f"{workdir}: status {command.wait()}")
            said = command.complained()
            check(not said, f"{workdir}: on stderr {said[:3]}")
            if command.wait() not in (0, -signal.SIGKILL):
                break
        if done:
            expected.compare(workdir)
            count["runs ended and compared, all the same"] += 1
            print(f"run {run}: at its end, compared", flush=True)
        if enough:
            return
        shutil.rmtree(workdir, ignore_errors=not done)


def torture_files(
    folder: pathlib.Path, kills: int, rng: random.Random, count: collections.Counter
) -> None:
    """Kills while a file is written over an old one, which must stay until the new one is whole."""
    digest, files = {}, dict(FILES)
    if importlib.util.find_spec("sevi_jax.detect"):
        camera = folder / "camera.h5"
        command = Command(folder, [*FILES["frames.h5"], f"--output={camera}"])
        check(command.wait() == 0, f"{camera}: {command.complained()}")
        files["electrons.h5"] = ["detect", f"--input={camera}"]
    for name, line in files.items():
        output = folder / name
        for _ in range(2):
            command = Command(folder, [*line, f"--output={output}"])
            check(command.wait() == 0, f"{name}: {command.complained()}")
        digest[name] = hashlib.sha256(output.read_bytes()).hexdigest(), command.seconds
    names = itertools.cycle(files)
    while count["kills"] < kills:
        name = next(names)
        output = folder / name
        line = [*files[name], f"--output={output}", "--overwrite"]  # the old file is foreign
        expected, seconds = digest[name]
        old = rng.random() < 0.5
        output.write_text("old") if old else output.unlink(missing_ok=True)
        # of the time after the imports; the machine may be faster now, so a kill may come too late
        moment = rng.uniform(0.3, 1) * seconds
        command = Command(folder, line)
        command.until(lambda moment=moment, command=command: command.seconds > moment)
        if not command.kill():
            continue
        count["kills"] += 1
        count["of them with a file half written"] += bool(list(folder.glob(f".{name}.*")))
        if output.exists():
            whole = hashlib.sha256(output.read_bytes()).hexdigest() == expected
            check(whole or (old and output.read_text() == "old"), f"{output} is torn")
        else:
            check(not old, f"{output}: the old file is gone")
        print(f"{name}: killed after {command.seconds:.1f} s", flush=True)
        command = Command(folder, line)
        check(command.wait() == 0, f"{name}: {command.complained()}")
        same = hashlib.sha256(output.read_bytes()).hexdigest() == expected
        check(same, f"{output}: another file than undisturbed")
        count["files written again, all the same"] += same
        left = [*folder.glob(f".{name}.*"), *folder.glob(f"{name}.*")]
        check(not left, f"{output}: left-overs {left}")


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size: str) -> Iterator[pathlib.Path]:
    """A file system of that size."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def torture_disk(folder: pathlib.Path, count: collections.Counter) -> None:
    """Full, read-only and forbidden folders: one line and status 2; then on to the same end."""
    expected = Expected(folder)

    def refused(workdir: pathlib.Path, reason: str, **options) -> None:
        command = Command(folder, train_line(workdir), **options)
        status, said = command.wait(), command.complained()
        print(f"{workdir.parent.name}: status {status}, {said}", flush=True)
        check(status == 2 and len(said) == 1 and reason in said[0], f"{workdir}: {said}")
        count[f"refused in one line: {reason}"] += status == 2 and len(said) == 1

    for size in ("100k", "500k", "1m", "1500k", "2m", "2500k", "3m"):
        with small_disk(folder / "Kleine Platte für 数据", size) as disk:
            workdir = disk / "run"
            refused(workdir, "No space left on device")
            saved = [x for x in (workdir / FOLDER).glob("*") if x.name.isdigit()]
            check(all(seal.damage(x) is None for x in saved), f"{size}: damaged checkpoints")
            count["checkpoints on full disks, all whole"] += len(saved)
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            refused(workdir, "Read-only file system")
            subprocess.run(["mount", "-o", "remount,rw,size=50m", disk], check=True)
            command = Command(folder, train_line(workdir))
            check(command.wait() == 0, f"{size}: {command.complained()}")
            expected.compare(workdir)
            count["runs that went on with room, all the same"] += 1
    with small_disk(folder / "forbidden", "50m") as disk:
        (disk / "run").mkdir(mode=0o700)
        nobody = {"user": 65534, "group": 65534, "extra_groups": []}
        try:
            refused(disk / "run", "Permission denied", **nobody)
        except PermissionError:
            check(False, f"as another user: {sys.executable} is not for all users")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--output", help="JSON file for the figures; also of a run cut short")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.nice(15)
    figures = {name: collections.Counter() for name in ([args.only] if args.only else PARTS)}
    with tempfile.TemporaryDirectory(prefix="sevi_jax_torture_") as name:
        folder, rng = pathlib.Path(name), random.Random(args.seed)
        folder.chmod(0o755)
        try:
            for part, count in figures.items():
                if part == "train":
                    torture_train(folder, args.kills, rng, count)
                elif part == "files":
                    torture_files(folder, round(0.3 * args.kills), rng, count)
                elif args.only or os.geteuid() == 0:
                    torture_disk(folder, count)
        finally:
            text = json.dumps(figures | {"not as it must be": _failures}, indent=1)
            print(text)
            if args.output:
                with replacing(args.output) as temporary:
                    temporary.write_text(text + "\n")
    sys.exit(bool(_failures))


if __name__ == "__main__":
    main()
