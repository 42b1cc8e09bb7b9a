"""Fits drawn pictures of the kinds that real spectrometers take; do the stated errors hold?

  python -m scripts.trials.fit_cases
  python -m scripts.trials.fit_cases --pictures=16 --case=tilt --case=seven_rings --jobs=2
  python -m scripts.trials.fit_cases --list

Pictures are 200 x 200 pixels with 2e5 electrons a shell, drawn electron by electron by
`sevi_jax.synthesis.spectrometer`; every picture has a truth of its own, from a fixed seed. Each fit
starts from the picture alone. Printed, and written to OUTPUT/summary.json, per case and for all
together: how many parameters lie within the 68 % and the 95 % intervals, with binomial errors; the
mean pull; distance of the angular distributions over its mean by the fit's own covariance; the
Kolmogorov-Smirnov p-value of the p-values. A trial that was stopped goes on where it was, as long
as the program's revision is the same.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import pathlib
import time
import traceback
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from scripts.trials import adapter, judging
from sevi_jax.data.picture import Picture
from sevi_jax.errors import InputError
from sevi_jax.provenance import revision
from sevi_jax.synthesis.spectrometer import CosineSampler, simulate

SHAPE = (200, 200)
ELECTRONS = 2e5
Settings = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """One kind of picture.

    Attributes:
        draw: from a generator and the picture's number to shells, the conditions of `simulate`,
            and options of the fit.
        pooled: whether it counts in the line of all cases together.
        finish: what is done to the picture before it is fitted.
    """

    draw: Callable[[np.random.Generator, int], tuple[list[Settings], Settings, Settings]]
    pooled: bool = True
    finish: Callable[[Picture], Picture] = lambda picture: picture


def betas(rng: np.random.Generator, orders: tuple[int, ...] = (2,)) -> dict[int, float]:
    """Draws beta so that the density is positive; beta_2 is not near 0, others are at most 0.3."""
    while True:
        beta = {order: float(rng.uniform(-0.3, 0.3)) for order in orders}
        beta[2] = float(rng.choice([rng.uniform(-0.8, -0.3), rng.uniform(0.3, 1.7)]))
        try:
            CosineSampler(beta)
        except InputError:
            continue
        return beta


def shell(rng: np.random.Generator, low: float, high: float, **other: Any) -> Settings:
    """Draws a narrow shell with its radius in [low, high], pixels."""
    return {
        "radius": float(rng.uniform(low, high)),
        "sigma": float(rng.uniform(1.0, 2.5)),
        "electrons": ELECTRONS,
        "beta": betas(rng),
        **other,
    }


def two_shells(rng: np.random.Generator) -> list[Settings]:
    """Draws two narrow shells that do not overlap."""
    return [shell(rng, 30, 50), shell(rng, 62, 84)]


def draw_tilt(rng, number):
    """The polarisation is turned by up to 10 degrees."""
    conditions = {"angle": float(rng.uniform(-10, 10))}
    return two_shells(rng), conditions, {"shells": 2, "free": ("origin", "angle")}


def draw_ellipse(rng, number):
    """Rings are ellipses, by up to 2.5 %, in any direction."""
    size, direction = rng.uniform(0, 0.025), rng.uniform(0, 2 * np.pi)
    conditions = {"ellipse": (float(size * np.cos(direction)), float(size * np.sin(direction)))}
    return two_shells(rng), conditions, {"shells": 2, "free": ("origin", "ellipse")}


def draw_offset(rng, number):
    """The origin is 6 % of the picture's width off the middle, on a background of 0.05."""
    direction = rng.uniform(0, 2 * np.pi)
    origin = 100 + 0.06 * 200 * np.array([np.cos(direction), np.sin(direction)])
    conditions = {"origin": tuple(map(float, origin)), "background": 0.05}
    return two_shells(rng), conditions, {"shells": 2, "background": "constant"}


def draw_slow(ratio, rng, number):
    """R / sigma is as the name says; every second picture has a narrow shell around it."""
    sigma = float(rng.uniform(4, 8))
    shells = [shell(rng, 0, 1, radius=ratio * sigma, sigma=sigma)]
    if number % 2:
        shells.append(shell(rng, 70, 85))
    return shells, {}, {"shells": len(shells)}


def draw_skewed(sign, rng, number):
    """Radii have an exponential tail of 0.8 to 1.5 sigma, outwards or inwards."""
    shells = two_shells(rng)
    for one in shells:
        one["tail"] = float(sign * rng.uniform(0.8, 1.5) * one["sigma"])
    return shells, {}, {"shells": 2, "shape": "skewed"}


def draw_odd(rng, number):
    """Orders 1, 2 and 3."""
    shells = two_shells(rng)
    for one in shells:
        one["beta"] = betas(rng, (1, 2, 3))
    return shells, {}, {"shells": 2, "orders": (1, 2, 3)}


def draw_seven(rng, number):
    """Seven rings on a background, and their number is not told."""
    while True:
        radii = np.sort(rng.uniform(12, 90, 7))
        if np.diff(radii).min() > 7:
            break
    shells = [shell(rng, 0, 1, radius=float(r), sigma=float(rng.uniform(0.8, 1.6))) for r in radii]
    return shells, {"background": 0.5}, {"shells": "auto", "background": "constant"}


def draw_all(rng, number):
    """Angle, ellipse, harmonics, origin and background at once."""
    shells = two_shells(rng)
    conditions = {
        **draw_offset(rng, number)[1],
        **draw_ellipse(rng, number)[1],
        "angle": float(rng.uniform(-10, 10)),
        "third": tuple(map(float, rng.normal(0, 0.005, 2))),
        "fourth": tuple(map(float, rng.normal(0, 0.005, 2))),
    }
    free = ("origin", "angle", "ellipse", "harmonics")
    return shells, conditions, {"shells": 2, "background": "constant", "free": free}


def draw_plain(rng, number):
    """Two narrow shells and nothing else; no warning is in place."""
    return two_shells(rng), {}, {"shells": 2}


def draw_on_and_off(rng, number):
    """A bright background with a picture of it alone; the ratio of exposures is not told."""
    slope = rng.uniform(-1, 1, 2) / 200

    def background(row, column):
        return 3 + slope[0] * row + slope[1] * column

    conditions = {"background": background, "off_scale": float(rng.uniform(0.5, 2))}
    return two_shells(rng), conditions, {"shells": 2}


def draw_gain(rng, number):
    """An electron counts as any number from 0.01 to 100, which is not told."""
    return two_shells(rng), {"gain": float(10 ** rng.uniform(-2, 2))}, {"shells": 2}


def draw_scatter(scatter, rng, number):
    """Gains vary from pixel to pixel."""
    shells = two_shells(rng)
    for one in shells:
        one["electrons"] = 2.5 * ELECTRONS
    return shells, {"scatter": scatter}, {"shells": 2}


def subtract_off(picture: Picture) -> Picture:
    """Leaves the difference of the picture and its off picture, as of equal exposures."""
    counts = picture.counts - picture.truth.off_scale * picture.off
    return dataclasses.replace(picture, counts=counts, off=None)


CASES = {
    "tilt": Case(draw_tilt),
    "ellipse": Case(draw_ellipse),
    "offset": Case(draw_offset),
    **{f"slow_{ratio:g}": Case(functools.partial(draw_slow, ratio)) for ratio in (0.5, 1, 2, 3, 5)},
    "skewed": Case(functools.partial(draw_skewed, 1)),
    "odd": Case(draw_odd),
    "seven_rings": Case(draw_seven),
    "skewed_inwards": Case(functools.partial(draw_skewed, -1), pooled=False),
    "all_at_once": Case(draw_all, pooled=False),
    "plain": Case(draw_plain, pooled=False),
    "on_and_off": Case(draw_on_and_off, pooled=False),
    "difference": Case(draw_on_and_off, pooled=False, finish=subtract_off),
    "gain": Case(draw_gain, pooled=False),
    "scatter_5": Case(functools.partial(draw_scatter, 0.05), pooled=False),
    "scatter_10": Case(functools.partial(draw_scatter, 0.10), pooled=False),
}


def settings(case: str, number: int) -> tuple[list[Settings], Settings, Settings]:
    """Draws shells, conditions and the fit's options of one picture."""
    rng = np.random.default_rng([zlib.crc32(case.encode()), number])
    shells, conditions, options = CASES[case].draw(rng, number)
    conditions["seed"] = int(rng.integers(2**31))
    return shells, conditions, {"orders": (2,), **options}


def one_fit(case: str, number: int) -> dict[str, Any]:
    """Draws one picture, fits it and returns its row; a crash is a fit that did not converge."""
    shells, conditions, options = settings(case, number)
    picture = CASES[case].finish(simulate(shells, SHAPE, **conditions))
    start = time.perf_counter()
    try:
        found = adapter.fit(picture, **options)
        return adapter.row(found, picture.truth, time.perf_counter() - start)
    except Exception as error:
        traceback.print_exc()
        return {
            "p_value": None,
            "converged": False,
            "reason": f"{type(error).__name__}: {error}",
            "shells": 0,
            "true_shells": len(shells),
            "seconds": time.perf_counter() - start,
        }


def run(
    case: str, numbers: Iterable[int], rows: judging.Rows, pool: concurrent.futures.Executor | None
) -> None:
    """Fits pictures of a case and keeps their rows."""
    if pool is None:
        for number in numbers:
            rows.add(number, one_fit(case, number))
        return
    tasks = {pool.submit(one_fit, case, number): number for number in numbers}
    for task in concurrent.futures.as_completed(tasks):
        rows.add(tasks[task], task.result())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=64, help="of every case")
    parser.add_argument("--case", action="append", choices=CASES, help="may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("fit_cases"))
    parser.add_argument("--any_revision", action="store_true", help="take rows of any revision")
    parser.add_argument("--list", action="store_true", help="names the cases")
    options = parser.parse_args()
    if options.list:
        for name, case in CASES.items():
            print(f"{name:<16}{getattr(case.draw, 'func', case.draw).__doc__}")
        return
    cases = options.case or [name for name, case in CASES.items() if case.pooled]
    found = {}
    context = multiprocessing.get_context("spawn")
    pool = None
    if options.jobs > 1:
        pool = concurrent.futures.ProcessPoolExecutor(options.jobs, mp_context=context)
    for case in cases:
        path = options.output / f"{case}.jsonl"
        rows = judging.Rows(path, None if options.any_revision else revision())
        done = rows.read()
        run(case, (k for k in range(options.pictures) if k not in done), rows, pool)
        found[case] = [row for k, row in rows.read().items() if k < options.pictures]
        print(judging.table({case: judging.summarise(found[case])}).splitlines()[-1], flush=True)
    if pool is not None:
        pool.shutdown()
    report(found, options.output)


def report(found: dict[str, list[dict[str, Any]]], output: pathlib.Path) -> None:
    """Prints the tables of all cases and writes their summary."""
    summaries = {case: judging.summarise(rows) for case, rows in found.items()}
    pooled = [case for case in found if CASES[case].pooled]
    if len(pooled) > 1:
        together = [row for case in pooled for row in found[case]]
        summaries["all together"] = judging.summarise(together)
    print()
    print(judging.table(summaries))
    print()
    print(judging.kinds_table(summaries))
    for case, summary in summaries.items():
        if summary["warned"]:
            print(f"{case}: {summary['warned']} with a warning")
        for reason, count in summary["reasons"].items():
            print(f"{case}: {count} did not converge: {reason}")
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"revision": revision(), "cases": summaries}, indent=1)
    (output / "summary.json").write_text(text)


if __name__ == "__main__":
    main()
