"""How long a fit takes, cold and warm, beside PyAbel's rBasex on the same pictures in one run.

  .venv/bin/pip install -e .[compare]
  .venv/bin/python -m scripts.benchmarks.fit_speed
  .venv/bin/python -m scripts.benchmarks.fit_speed --o2=O2-ANU1024.txt.bz2 --output=speed.json

Pictures of 1024 x 1024 are drawn electron by electron: two shells of the training prior with twelve
orders, the same with radii 6 to 15 pixels apart, and, where --o2 names it, the measured picture of
O2- with 18 shells. A fit starts from the picture, the origin is free, and its time holds start,
goodness and errors. Cold is the first call of a kind in a process of its own, with an empty folder
of compiled programs. Warm is the median of other pictures of the kind, each with an origin of its
own. rBasex is told the origin and gives no errors; it takes turns with the fit, and is warm as well
(its basis is kept). Then the programs are counted that a fit with another origin, range, gain or
bound compiles (there should be none), and `python -m sevi_jax.predict` is timed from its start to
its answer. Beside the time on the clock stands that of the processors, which a busy machine changes
less.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from scripts.trials import adapter
from sevi_jax.data.picture import Picture
from sevi_jax.errors import InputError
from sevi_jax.synthesis.spectrometer import CosineSampler, simulate

SIZE = 1024
EVEN_ORDERS = tuple(range(2, 25, 2))
# Rows of the training prior: low, high, mean and standard deviation of beta in the course's
# convention, which is half of the literature's.
PRIOR = (
    (0.35, 1, 1, 0.65), (0.43, 1.434, 0.85, 0.5), (0.25, 1.24, 0.55, 0.5),
    (0.118, 0.9, 0.25, 0.5), (0.045, 0.6, 0.1, 0.5), (0.012, 0.36, 0.04, 0.3),
    (0.0026, 0.2, 0.015, 0.2), (0.0004, 0.1, 0.002, 0.1), (7.0e-5, 0.045, 0.004, 0.05),
    (5.6e-6, 0.019, 0, 0.02), (1.2e-7, 0.0067, 0, 0.01), (2e-9, 0.0023, 0, 0.01),
)  # fmt: skip
# What is asked of the warm fit, seconds on two cores.
LIMITS = {"two shells": 0.6, "close shells": 1.5, "O2-": 3.0}
O2_RANGE = (0, 425)
COMPILED = "/jax/core/compile/backend_compile_duration"
Options = dict[str, Any]


def prior_beta(rng: np.random.Generator) -> dict[int, float]:
    """Draws twelve betas of the training prior, again until the density is positive."""
    while True:
        beta = {}
        for order, (low, high, mean, sd) in zip(EVEN_ORDERS, PRIOR, strict=True):
            value = np.inf
            while not low < value < high:
                value = rng.normal(mean, sd)
            beta[order] = 2 * float(value)
        with contextlib.suppress(InputError):
            CosineSampler(beta)
            return beta


def prior_picture(seed: int, apart: tuple[float, float]) -> Picture:
    """Draws a picture of two shells of the prior whose radii are `apart` half-widths apart."""
    rng = np.random.default_rng(seed)
    half = SIZE / 2
    while True:
        radii = np.sort(rng.uniform(0.3, 0.9, 2))
        if apart[0] < radii[1] - radii[0] < apart[1]:
            break
    shells = [
        {
            "radius": float(radius * half),
            "sigma": float(rng.uniform(0.005, 0.009) * half),
            "electrons": float(rng.uniform(1.8e6, 2.5e6)),
            "beta": prior_beta(rng),
        }
        for radius in radii
    ]
    row, column = half + rng.uniform(-8, 8, 2)
    return simulate(shells, (SIZE, SIZE), seed, origin=(float(row), float(column)))


def small_picture(seed: int) -> Picture:
    """Draws 200 x 200 pixels of two shells with orders 2 and 4."""
    rng = np.random.default_rng(seed)
    shells = [
        {"radius": radius, "sigma": 1.8, "electrons": 2.5e5, "beta": {2: beta, 4: 0.2}}
        for radius, beta in ((45.0, 1.2), (80.0, -0.5))
    ]
    row, column = 100 + rng.uniform(-3, 3, 2)
    return simulate(shells, (200, 200), seed, origin=(float(row), float(column)))


@contextlib.contextmanager
def compilations() -> Iterator[list[float]]:
    """Yields a list that gets the seconds of every program compiled meanwhile."""
    import jax.monitoring

    seconds: list[float] = []

    def listen(event: str, duration_secs: float, **kwargs: Any) -> None:
        if event == COMPILED:
            seconds.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Calls a function; returns its result, seconds on the clock and seconds of processors."""
    clock, processor = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - clock, time.process_time() - processor


def rbasex(picture: Picture, origin: Sequence[float], orders: Sequence[int], reach: float) -> Any:
    """Inverts a picture by rBasex up to the largest order and to the distance `reach`."""
    import abel.rbasex  # pyright: ignore[reportMissingImports]

    # rBasex takes the middle of a pixel only as the origin
    row, column = (round(x - 0.5) for x in origin)
    place = {"origin": (row, column), "rmax": int(reach)}
    options: Options = {**place, "order": max(orders), "out": None}
    counts = np.where(picture.used, picture.counts, 0)
    _, found = abel.rbasex.rbasex_transform(counts, **options)
    return found.rIbeta()


@dataclasses.dataclass
class Kind:
    """One kind of picture.

    Attributes:
        pictures: the first is for the cold call, the others are fitted warm.
        options: of the fit.
        reach: how far rBasex inverts, pixels.
    """

    pictures: list[Picture]
    options: Options
    reach: float


def kind(name: str, warm: int, o2: pathlib.Path | None) -> Kind:
    """Draws or loads the pictures of one kind."""
    if name == "O2-":
        if o2 is None:
            raise InputError("--o2=FILE is needed for O2-")
        picture = adapter.load_all(o2)[0]
        # every further one with counts of its own, as if measured again
        rng = np.random.default_rng(0)
        again = [
            dataclasses.replace(picture, counts=rng.poisson(np.maximum(picture.counts, 0)))
            for _ in range(warm)
        ]
        options = {"shells": 18, "orders": (2,), "range": O2_RANGE, "background": "constant"}
        return Kind([picture, *again], options, O2_RANGE[1])
    apart = (0.012, 0.03) if name == "close shells" else (0.1, 0.6)
    pictures = [prior_picture(seed, apart) for seed in range(warm + 1)]
    return Kind(pictures, {"shells": 2, "orders": EVEN_ORDERS}, 500)


def measure(name: str, warm: int, o2: pathlib.Path | None) -> dict[str, Any]:
    """Times fits of one kind and rBasex in this process."""
    subject = kind(name, warm, o2)
    fits, inversions, converged = [], [], 0
    programs = []
    for picture in subject.pictures:
        with compilations() as compiled:
            found, *seconds = timed(lambda p=picture: adapter.fit(p, **subject.options))
        programs.append(len(compiled))
        fits.append(seconds)
        converged += bool(found.converged)
        origin = [getattr(x, "nominal_value", x) for x in found.origin]
        _, *seconds = timed(
            lambda p=picture, o=origin: rbasex(p, o, subject.options["orders"], subject.reach)
        )
        inversions.append(seconds)
    return {
        "cold": fits[0],
        "warm": medians(fits[1:]),
        "warm_all": fits[1:],
        "programs_cold": programs[0],
        "programs_warm": sum(programs[1:]),
        "converged": f"{converged} of {len(subject.pictures)}",
        "rbasex_cold": inversions[0],
        "rbasex": medians(inversions[1:]),
        "changes": changes(subject) if name == "two shells" else None,
    }


def medians(rows: Sequence[Sequence[float]]) -> list[float]:
    """Returns the median of every column."""
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def changes(subject: Kind) -> dict[str, int | str]:
    """Counts the programs compiled by a fit that differs from one before it in values only.

    Where a fit refuses what it is asked for, its reason stands in place of the number.
    """
    picture, options = subject.pictures[1], subject.options
    # a range or bounds may be another program than none; with other values they must not be
    sorts: dict[str, tuple[Options, Options]] = {
        "origin": ({"origin": (510.2, 513.1)}, {"origin": (518.7, 507.4)}),
        "gain": ({"gain": 1.0}, {"gain": 37.5}),
        "range": ({"range": (10.0, 500.0)}, {"range": (12.5, 480.25)}),
        "bound": (
            {"positive": True, "range": (10.0, 500.0)},
            {"positive": True, "range": (3.0, 499.0)},
        ),
    }
    found: dict[str, int | str] = {}
    for name, pair in sorts.items():
        for values in pair:
            fields = {key: values[key] for key in ("origin", "gain") if key in values}
            counts = picture.counts * fields.get("gain", 1.0)
            changed = dataclasses.replace(picture, counts=counts, **fields)
            more = {key: value for key, value in values.items() if key not in fields}
            with compilations() as compiled:
                try:
                    adapter.fit(changed, **{**options, **more})
                except InputError as error:
                    found[name] = str(error)
                    break
            found[name] = len(compiled)  # of the second of the pair
    return found


def predict(repeats: int) -> dict[str, list[float]]:
    """Times the command from its start to its answer, in seconds on the clock."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        pictures = [folder / f"picture{k}.npy" for k in range(4)]
        for number, path in enumerate(pictures):
            np.save(path, small_picture(number).counts)

        def run(cache: str, figures: str, inputs: Sequence[pathlib.Path]) -> float:
            line = [sys.executable, "-m", "sevi_jax.predict", "--shells=2", "--orders=2,4"]
            line += ["--input=" + ",".join(map(str, inputs)), f"--figures={figures}"]
            line += [f"--output={folder / 'answer.json'}"]
            env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / cache)}
            start = time.perf_counter()
            subprocess.run(line, env=env, check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - start

        cold = [run(f"programs{k}", "none", pictures[:1]) for k in range(repeats)]
        kept = [run("programs0", "none", pictures[:1]) for _ in range(repeats)]
        run("programs0", "all", pictures)  # fonts, and programs of the figures
        plain = [run("programs0", "none", pictures) for _ in range(repeats)]
        drawn = [run("programs0", "all", pictures) for _ in range(repeats)]
    each = (statistics.median(drawn) - statistics.median(plain)) / len(pictures)
    return {"without_programs": cold, "programs_kept": kept, "figures_each": [each]}


def in_own_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measures one kind in a process of its own, with an empty folder of compiled programs."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "scripts.benchmarks.fit_speed", f"--kind={name}"]
        line += [f"--warm={options.warm}", f"--output={folder}/kind.json"]
        line += [f"--o2={options.o2}"] if options.o2 else []
        env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/programs"}
        subprocess.run(line, env=env, check=True, stdout=subprocess.DEVNULL)
        return json.loads(pathlib.Path(folder, "kind.json").read_text(encoding="utf-8"))


def cell(seconds: Sequence[float]) -> str:
    """Prints seconds on the clock and, in brackets, of processors."""
    return f"{seconds[0]:.2f} ({seconds[1]:.2f})"


def everything(options: argparse.Namespace) -> dict[str, Any]:
    """Measures all kinds and the command, and prints the table."""
    found: dict[str, Any] = {}
    columns = ("kind", "cold", "warm", "asked", "rBasex cold", "rBasex", "programs", "converged")
    print("Seconds on the clock (and of processors); programs compiled cold + warm\n")
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for name, limit in LIMITS.items():
        if name == "O2-" and not options.o2:
            continue
        one = found[name] = in_own_process(name, options)
        cells = [cell(one["cold"]), cell(one["warm"]), f"{limit}"]
        cells += [cell(one["rbasex_cold"]), cell(one["rbasex"])]
        cells += [f"{one['programs_cold']} + {one['programs_warm']}", one["converged"]]
        print("| " + " | ".join([name, *cells]) + " |", flush=True)
    changed = found["two shells"]["changes"].items()
    print("\nPrograms compiled by a fit with another", ", ".join(f"{k}: {n}" for k, n in changed))
    if not options.no_predict:
        found["predict"] = predict(3)
        for name, limit in (("without_programs", 5), ("programs_kept", 2.5), ("figures_each", 0.7)):
            median = statistics.median(found["predict"][name])
            print(f"predict of 200 x 200, {name}: {median:.2f} s (asked: {limit})")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--o2", type=pathlib.Path, help="O2-ANU1024.txt.bz2")
    parser.add_argument("--warm", type=int, default=7, help="pictures of a kind fitted warm")
    parser.add_argument("--kind", choices=LIMITS, help="this one only, in this process")
    parser.add_argument("--no_predict", action="store_true", help="leave the command out")
    parser.add_argument("--output", type=pathlib.Path, help="JSON")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # PyAbel's own
    one = options.kind
    found = measure(one, options.warm, options.o2) if one else everything(options)
    text = json.dumps(found, indent=1)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    elif one:
        print(text)


if __name__ == "__main__":
    main()
