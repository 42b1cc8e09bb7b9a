"""Are the model's means those of drawn electrons? Sums over the picture, and chi-square.

  python -m scripts.trials.means
  python -m scripts.trials.means --electrons=1e7 --only=slow --output=means.json

First the share of a shell's electrons that meets the picture: the sum of the means of all pixels
against the share drawn, in standard errors of the number of electrons, for shells from
R / sigma = 0.3 to 100, in the middle of a picture and with a third of them beyond its edge. Then
Pearson's chi-square of drawn pictures against the means, pixels taken together in blocks of 1, 2,
4, 8 and 16 a side, as its distance from what is expected in standard deviations: for every shape,
angle and geometry. Blocks make a slow error of the means visible that single pixels hide.
"""

import argparse
import json
import math
import pathlib
import time
from typing import Any

import numpy as np

from scripts.trials import adapter
from sevi_jax.synthesis.spectrometer import simulate

SHAPE = (200, 200)
BLOCKS = (1, 2, 4, 8, 16)
RATIOS = (0.3, 0.5, 1, 2, 3, 5, 10, 30, 100)
BETA = {2: 1.2}
ORDERS = {2: 1.6, 4: 0.9, 6: 0.5, 8: 0.3, 10: 0.2, 12: 0.1, 16: 0.05, 20: 0.02, 24: 0.01}
ODD = {1: 0.3, 2: -0.4, 3: -0.15}
# The smallest share of a mean that is asked of a model that computes in float32.
ROUNDING = 2e-6


def slow_cases() -> dict[str, dict[str, Any]]:
    """Returns one shell of every R / sigma and shape, in the middle and across an edge."""
    cases = {}
    for ratio in RATIOS:
        # the whole shell stays within 90 pixels of its origin
        sigma = min(90 / (ratio + 6), 12.0)
        one = {"radius": ratio * sigma, "sigma": sigma, "beta": BETA}
        two = {**one, "tail": 1.2 * sigma, "sigma": sigma / 2, "radius": ratio * sigma / 2}
        for shape, shell in (("normal", one), ("skewed", two)):
            edge = (100.0, 0.3 * shell["radius"])
            cases[f"slow {ratio:g} {shape}"] = {"shell": shell}
            cases[f"slow {ratio:g} {shape}, edge"] = {"shell": shell, "origin": edge}
    return cases


def geometry_cases() -> dict[str, dict[str, Any]]:
    """Returns one shell in every geometry."""
    shell = {"radius": 70.0, "sigma": 2.0, "beta": BETA}
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] / 200
    efficiency = 0.7 + 0.2 * np.sin(3 * rows) * np.cos(2 * columns)
    efficiency[:30, :40] = 0
    bent = {"ellipse": (0.02, -0.015), "third": (0.01, 0.005), "fourth": (-0.004, 0.008)}
    every = {**bent, "angle": 25.0, "origin": (95.3, 108.8), "efficiency": efficiency, "blur": 0.8}
    conditions = {
        "plain": {},
        "narrow": {"shell": {**shell, "sigma": 0.5}},
        "very narrow": {"shell": {**shell, "sigma": 0.15}},
        "tail": {"shell": {**shell, "tail": 3.0}},
        "tail inwards": {"shell": {**shell, "tail": -3.0}},
        "orders to 24": {"shell": {**shell, "beta": ORDERS}},
        "odd orders": {"shell": {**shell, "beta": ODD}},
        "origin": {"origin": (93.37, 108.81)},
        "origin outside": {"origin": (-10.0, 30.0)},
        "angle": {"angle": 33.0},
        "angle, odd orders": {"angle": -140.0, "shell": {**shell, "beta": ODD}},
        "ellipse": {"ellipse": (0.02, -0.015)},
        "harmonics": {"third": (0.01, 0.005), "fourth": (-0.004, 0.008)},
        "blur": {"blur": 1.5},
        "efficiency": {"efficiency": efficiency},
        "all": every,
        "all, odd, skewed": {**every, "shell": {**shell, "beta": ODD, "tail": 2.0}},
        "all, slow": {**every, "shell": {"radius": 12.0, "sigma": 10.0, "beta": ODD}},
    }
    return {f"shape {name}": {"shell": shell, **case} for name, case in conditions.items()}


def blocks(values: np.ndarray, side: int) -> np.ndarray:
    """Sums over blocks of `side` x `side` pixels; what is left at the edges goes."""
    height, width = (n // side for n in values.shape)
    values = values[: height * side, : width * side]
    return values.reshape(height, side, width, side).sum(axis=(1, 3))


def chi_square(counts: np.ndarray, mean: np.ndarray) -> float:
    """Returns the distance of Pearson's chi-square from what is expected, standard deviations.

    Pixels with a mean below 1 are taken as one.
    """
    large = mean >= 1
    n = np.append(counts[large], counts[~large].sum())
    m = np.append(mean[large], mean[~large].sum())
    if m[-1] < 1:
        n, m = n[:-1], m[:-1]
    # of a Poisson number n of mean m, (n - m)^2 / m has the mean 1 and the variance 2 + 1 / m
    return float(((n - m) ** 2 / m - 1).sum() / np.sqrt((2 + 1 / m).sum()))


def judge(case: dict[str, Any], electrons: float, seed: int) -> dict[str, Any]:
    """Draws one case and compares it with the model."""
    conditions = {name: value for name, value in case.items() if name != "shell"}
    start = time.perf_counter()
    picture = simulate([{**case["shell"], "electrons": electrons}], SHAPE, seed, **conditions)
    middle = time.perf_counter()
    truth = picture.truth
    mean = adapter.means(truth)
    drawn = truth.counted[0] / truth.drawn[0]
    share = float(mean.sum()) / electrons
    error = max(math.sqrt(drawn * (1 - drawn) / truth.drawn[0]), ROUNDING)
    return {
        "drawn": drawn,
        "share": share,
        "errors": (share - drawn) / error,
        "chi_square": [chi_square(blocks(picture.counts, k), blocks(mean, k)) for k in BLOCKS],
        "seconds": [middle - start, time.perf_counter() - middle],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--electrons", type=float, default=1e8, help="of every picture")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=pathlib.Path, help="JSON")
    options = parser.parse_args()
    cases = {**slow_cases(), **geometry_cases()}
    columns = ["case", "drawn", "means", "apart, errors", *(f"chi2 {k}" for k in BLOCKS)]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    found, crashed = {}, []
    for number, (name, case) in enumerate(cases.items()):
        if options.only not in name:
            continue
        try:
            one = judge(case, options.electrons, options.seed + number)
        except (ValueError, TypeError, ArithmeticError) as error:
            crashed.append(name)
            print(f"| {name} | crashed: {type(error).__name__}: {error} |", flush=True)
            continue
        found[name] = one
        cells = [name, f"{one['drawn']:.6f}", f"{one['share']:.6f}", f"{one['errors']:+.2f}"]
        cells += [f"{value:+.1f}" for value in one["chi_square"]]
        print("| " + " | ".join(cells) + " |", flush=True)
    if crashed:
        print("crashed: " + ", ".join(crashed))
    if not found:
        return
    worst = max(found, key=lambda name: abs(found[name]["errors"]))
    print(f"largest distance of a sum: {found[worst]['errors']:+.2f} errors ({worst})")
    worst = max(found, key=lambda name: max(found[name]["chi_square"]))
    print(f"largest chi-square: {max(found[worst]['chi_square']):+.1f} deviations ({worst})")
    if options.output:
        options.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
