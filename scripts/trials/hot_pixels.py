"""How often a pixel of a good picture is left out, and how many hot and dead ones are found.

  python scripts/trials/hot_pixels.py --good=1000 --bad=100

Good pictures: 10 to 1e6 electrons; one to three rings of 0.8 to 3 pixels (standard deviation),
spots of 0.6 to 3 pixels or slow shells in the centre, backgrounds, gains, also such that vary from
pixel to pixel. Bad ones have one to ten hot pixels besides, anywhere, of at least 100 electrons and
15 times the mean of their surroundings, and one dead pixel where every neighbour has 100 electrons
or more, if there is such a place. Exit status 1 if more than one good picture in a thousand has a
pixel left out, or a hot pixel of a bad one is not found.
"""

import argparse
import dataclasses
import sys
from typing import Any

import numpy as np
from scipy import ndimage

from sevi_jax.data.hot import find_defects, without_defects
from sevi_jax.data.picture import Picture
from sevi_jax.synthesis.spectrometer import TrueShell, simulate

GAINS = (1.0, 1.0, 1.0, 37.0, 1 / 163, 0.37)


def spot(rng: np.random.Generator, electrons: float) -> TrueShell:
    """A spot in the centre: normal in all directions, or a slow shell, of 0.6 to 3 pixels."""
    width = np.exp(rng.uniform(np.log(0.6), np.log(3)))
    if rng.random() < 0.5:
        return TrueShell(
            electrons=electrons,
            sampler=lambda g, n: width * np.linalg.norm(g.normal(size=(n, 3)), axis=1),
        )
    return TrueShell(rng.uniform(0.5, 3), max(width, 0.8), electrons, {2: rng.uniform(-0.9, 1.9)})


def good(number: int) -> Picture:
    """Draws a picture in which nothing is wrong."""
    rng = np.random.default_rng([number, 18])
    height, width = rng.integers(100, 520, 2)
    electrons = float(np.exp(rng.uniform(np.log(10), np.log(1e6))))
    half = min(height, width) / 2
    shells = [
        TrueShell(
            rng.uniform(5, 0.95 * half),
            np.exp(rng.uniform(np.log(0.8), np.log(3))),
            electrons * rng.uniform(0.1, 1),
            {2: rng.uniform(-0.9, 1.9)},
        )
        for _ in range(rng.integers(1, 4))
    ]
    if rng.random() < 0.5:
        shells.append(spot(rng, electrons * rng.uniform(0.01, 1)))
    settings: dict[str, Any] = {
        "origin": (height / 2 + rng.uniform(-5, 5), width / 2 + rng.uniform(-5, 5)),
        "background": rng.choice([0.0, 0.0, 0.01, 1.0, 30.0]),
        "gain": rng.choice(GAINS),
    }
    if rng.random() < 0.2:
        settings["scatter"] = rng.uniform(0, 0.1)
    return simulate(shells, (int(height), int(width)), seed=number, **settings)


def spoiled(number: int, picture: Picture) -> tuple[Picture, np.ndarray, np.ndarray]:
    """The picture with hot and dead pixels, and which these are, ``[H, W]`` bool each."""
    rng = np.random.default_rng([number, 19])
    counts, gain = picture.counts.copy(), picture.truth.gain
    around = ndimage.uniform_filter(counts / gain, 5)
    dim = ndimage.minimum_filter(counts / gain, 3)
    dead, hot = np.zeros(counts.shape, bool), np.zeros(counts.shape, bool)
    bright = np.argwhere(dim > 100)
    if len(bright):
        row, column = bright[rng.integers(len(bright))]
        dead[row, column] = True
    for _ in range(rng.integers(1, 11)):
        place = tuple(rng.integers(0, counts.shape))
        lowest = max(100.0, 15 * around[place])
        counts[place] = gain * np.round(np.exp(rng.uniform(np.log(lowest), np.log(65535))))
        hot[place], dead[place] = True, False
    counts[dead] = 0
    return dataclasses.replace(picture, counts=counts), hot, dead


def main() -> int:
    """Runs the trial; returns the exit status."""
    parser = argparse.ArgumentParser(description="Trial of the test for hot and dead pixels.")
    parser.add_argument("--good", type=int, default=1000, help="Pictures without such pixels.")
    parser.add_argument("--bad", type=int, default=100, help="Pictures with such pixels.")
    parser.add_argument("--first", type=int, default=0, help="Number of the first picture.")
    args = parser.parse_args()
    wrong = []
    for number in range(args.first, args.first + args.good):
        picture = good(number)
        found = find_defects(picture.counts)
        if found.hot.any() or found.dead.any():
            wrong.append(number)
            print(f"picture {number}: {without_defects(picture).notes}")
    print(f"{len(wrong)} of {args.good} good pictures have a pixel left out")
    planted, missed, dead, dead_missed, other = 0, 0, 0, 0, 0
    first = args.first + args.good
    for number in range(first, first + args.bad):
        picture, hot, is_dead = spoiled(number, good(number))
        found = find_defects(picture.counts)
        planted, missed = planted + hot.sum(), missed + (hot & ~found.hot).sum()
        dead, dead_missed = dead + is_dead.sum(), dead_missed + (is_dead & ~found.dead).sum()
        other += ((found.hot | found.dead) & ~hot & ~is_dead).sum()
        for row, column in np.argwhere(hot & ~found.hot):
            part = picture.counts[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
            print(f"picture {number}: missed ({row}, {column}), gain {picture.truth.gain}\n{part}")
    print(f"of {planted} hot pixels in {args.bad} pictures {missed} are missed")
    print(f"of {dead} dead ones {dead_missed}; {other} other pixels are left out")
    return 1 if len(wrong) > args.good / 1000 or missed else 0


if __name__ == "__main__":
    sys.exit(main())
