"""How well distributions of any form are found: errors beside rBasex's best, and coverage of bands.

  .venv/bin/python -m scripts.trials.freeform --cases a b c d --electrons 1e5 1e6 --seeds 20

Pictures of 512 x 512 are drawn electron by electron: radii and directions from NumPy's generators,
thrown onto the detector and counted. Four kinds of distributions:

  a   six Gaussian rings, sigma 2 to 4 pixels
  b   a gamma continuum whose beta_2 varies with r
  c   40 % rings on 60 % of that continuum
  d   rings of other shapes: a boxcar, an exponential tail, a Lorentzian, a doublet 6 pixels apart

The truth at r is the mean of I and I beta_2 over the pixel from r - 1/2 to r + 1/2, as a histogram
has it. Errors are the root of the mean square over r = 1 ... 255 of the difference from the truth,
over that of the truth. Beside them stands PyAbel's rBasex with the best of its regularisations and
strengths, as it is or averaged over pixels, chosen for every picture in hindsight, once for I and
once for I beta_2. Coverage is that of the pointwise bands where the truth is above a thousandth of
its maximum.

  .venv/bin/python -m scripts.trials.freeform --variants --cases c --electrons 1e6 --seeds 20

compares errors of I and I beta_2 with those of the same distributions where nothing else is free:
with orders 1 or 4, an origin 3 pixels off, a constant background or a turned polarisation.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIZE = 512
RADII = np.arange(1.0, 256.0)
STRENGTHS = {
    "L2": 10.0 ** np.arange(-1.0, 6.1, 0.5),
    "diff": 10.0 ** np.arange(-1.0, 7.1, 0.5),
    "SVD": np.array([0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]),
}


class Part:
    """A part of a distribution: draws radii, knows their density, has a beta_2(r)."""

    def __init__(
        self, weight: float, draw: Callable, density: Callable, beta: Callable, place=(), jumps=()
    ):
        self.weight, self.draw, self.density, self.beta = weight, draw, density, beta
        self.place = place  # radius and sigma of a ring
        self.jumps = jumps  # radii where the density does

    def means(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means of density and density times beta_2 over pixels of the radius, ``[len(r)]``."""
        node, weight = np.polynomial.legendre.leggauss(6)
        found = np.zeros((2, len(r)))
        for k, middle in enumerate(r):
            ends = [x for x in self.jumps if abs(x - middle) < 0.5]
            ends = [middle - 0.5, *sorted(ends), middle + 0.5]
            for low, high in itertools.pairwise(ends):
                at = 0.5 * (low + high) + 0.5 * (high - low) * node
                own = 0.5 * (high - low) * weight * self.density(at)
                found[:, k] += own.sum(), (own * self.beta(at)).sum()
        return found[0], found[1]


def _ring(weight: float, radius: float, sigma: float, beta: float) -> Part:
    def density(r):
        return np.exp(-0.5 * ((r - radius) / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)

    return Part(
        weight, lambda rng, n: rng.normal(radius, sigma, n), density, lambda r: beta + 0 * r,
        (radius, sigma),
    )  # fmt: skip


def _continuum(weight: float) -> Part:
    shape, scale = 4.0, 25.0

    def density(r):
        return r ** (shape - 1) * np.exp(-r / scale) / (6.0 * scale**shape)

    def beta(r):
        return 0.5 + np.tanh((r - 90) / 40)

    return Part(weight, lambda rng, n: rng.gamma(shape, scale, n), density, beta)


def _boxcar(weight: float, low: float, high: float, beta: float) -> Part:
    return Part(
        weight, lambda rng, n: rng.uniform(low, high, n),
        lambda r: ((r > low) & (r < high)) / (high - low), lambda r: beta + 0 * r,
        jumps=(low, high),
    )  # fmt: skip


def _tail(weight: float, edge: float, length: float, beta: float) -> Part:
    return Part(
        weight, lambda rng, n: edge + rng.exponential(length, n),
        lambda r: (r > edge) * np.exp(-np.maximum(r - edge, 0.0) / length) / length,
        lambda r: beta + 0 * r, jumps=(edge,),
    )  # fmt: skip


def _lorentzian(weight: float, radius: float, width: float, beta: float) -> Part:
    def density(r):
        return width / np.pi / ((r - radius) ** 2 + width**2)

    return Part(
        weight, lambda rng, n: radius + width * rng.standard_cauchy(n), density,
        lambda r: beta + 0 * r,
    )  # fmt: skip


def parts_of(case: str, rng: np.random.Generator) -> list[Part]:
    """The distribution of a case; places and betas vary with the seed."""
    if case == "a":
        radii = np.array([35, 70, 105, 140, 180, 220]) + rng.uniform(-5, 5, 6)
        weights = rng.uniform(0.4, 1.6, 6)
        return [
            _ring(w, r, s, b)
            for w, r, s, b in zip(
                weights / weights.sum(), radii, rng.uniform(2, 4, 6), rng.uniform(-0.9, 1.9, 6),
                strict=True,
            )
        ]  # fmt: skip
    if case == "b":
        return [_continuum(1.0)]
    if case == "c":
        radii = np.array([60, 110, 170]) + rng.uniform(-5, 5, 3)
        rings = [
            _ring(0.4 / 3, r, s, b)
            for r, s, b in zip(radii, rng.uniform(2, 4, 3), rng.uniform(-0.9, 1.9, 3), strict=True)
        ]
        return [*rings, _continuum(0.6)]
    if case == "d":
        b = rng.uniform(-0.9, 1.9, 5)
        shift = rng.uniform(-3, 3, 4)
        return [
            _boxcar(0.25, 50 + shift[0], 70 + shift[0], b[0]),
            _tail(0.25, 100 + shift[1], 12.0, b[1]),
            _lorentzian(0.25, 165 + shift[2], 3.0, b[2]),
            _ring(0.125, 210 + shift[3], 1.7, b[3]),
            _ring(0.125, 216 + shift[3], 1.7, b[4]),
        ]
    raise ValueError(case)


def directions(rng: np.random.Generator, beta: np.ndarray) -> np.ndarray:
    """cos(theta) drawn from 1 + beta P_2 by rejection, ``[N]``."""
    found = np.empty(len(beta))
    left = np.arange(len(beta))
    while len(left):
        c = rng.uniform(-1, 1, len(left))
        own = beta[left]
        height = 1 + own * (1.5 * c * c - 0.5)
        taken = rng.uniform(0, 1, len(left)) * np.maximum(1 + own, 1 - own / 2) < height
        found[left[taken]] = c[taken]
        left = left[~taken]
    return found


@dataclasses.dataclass(frozen=True)
class Variant:
    """What else a picture has, and what is free when it is inverted.

    Attributes:
        more: (n, beta_n) of an order besides 2.
        off: of the origin from where it is in the plain case, (rows, columns), pixels.
        degrees: that the polarisation is turned by.
        background: electrons of a constant one, as a share of the others.
        free: of the geometry.
    """

    more: tuple[int, float] | None = None
    off: tuple[float, float] = (0.0, 0.0)
    degrees: float = 0.0
    background: float = 0.0
    free: tuple[str, ...] = ()

    def invert(self, picture: np.ndarray) -> Any:
        """The distribution that is found."""
        import sevi_jax

        middle = None if "origin" in self.free else (SIZE / 2 + 0.5, SIZE / 2 + 0.5)
        orders = (2,) if self.more is None else (2, self.more[0])
        background = "constant" if self.background else "none"
        return sevi_jax.invert(
            sevi_jax.Picture(picture, origin=middle), orders, self.free, background
        )


PLAIN = Variant()
VARIANTS = {
    "order 4": Variant(more=(4, 0.2)),
    "order 1": Variant(more=(1, 0.08)),
    "origin 3 pixels off": Variant(off=(1.7, -2.5), free=("origin",)),
    "constant background": Variant(background=0.1),
    "tilt of 7 degrees": Variant(degrees=7.0, free=("angle",)),
}


def directions_with(
    rng: np.random.Generator, beta: np.ndarray, order: int, more: float
) -> np.ndarray:
    """The same as `directions` with one more order."""
    found = np.empty(len(beta))
    left = np.arange(len(beta))
    wave = np.eye(order + 1)[order] * more
    while len(left):
        c = rng.uniform(-1, 1, len(left))
        own = beta[left]
        height = 1 + own * (1.5 * c * c - 0.5) + np.polynomial.legendre.legval(c, wave)
        most = np.maximum(1 + own, 1 - own / 2) + abs(more)
        taken = rng.uniform(0, 1, len(left)) * most < height
        found[left[taken]] = c[taken]
        left = left[~taken]
    return found


def draw(case: str, electrons: float, seed: int, variant: Variant = PLAIN):
    """A picture ``[SIZE, SIZE]``, and the truth I and I beta_2 at `RADII`."""
    parts = parts_of(case, np.random.default_rng([seed, 1]))
    rng = np.random.default_rng([seed, 2, int(electrons)])
    picture = np.zeros((SIZE, SIZE))
    intensity, harmonic = np.zeros_like(RADII), np.zeros_like(RADII)
    more, angle = variant.more, np.deg2rad(variant.degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    for part in parts:
        for block in np.array_split(np.arange(rng.poisson(electrons * part.weight)), 8):
            r = part.draw(rng, len(block))
            r = r[r > 0]
            beta = part.beta(r)
            c = directions(rng, beta) if more is None else directions_with(rng, beta, *more)
            phi = rng.uniform(0, 2 * np.pi, len(r))
            along, across = r * c, r * np.sqrt(1 - c * c) * np.cos(phi)
            row = along * cosine - across * sine + SIZE / 2 + 0.5 + variant.off[0]
            column = along * sine + across * cosine + SIZE / 2 + 0.5 + variant.off[1]
            picture += np.histogram2d(
                row, column, bins=SIZE, range=((0, SIZE), (0, SIZE))
            )[0]  # fmt: skip
        own, turned = part.means(RADII)
        intensity += electrons * part.weight * own
        harmonic += electrons * part.weight * turned
    if variant.background:
        picture += rng.poisson(variant.background * electrons / SIZE**2, picture.shape)
    return picture, intensity, harmonic


def relative(found: np.ndarray, truth: np.ndarray) -> float:
    """Root of the mean square of the difference over that of the truth."""
    return float(np.sqrt(np.mean((found - truth) ** 2) / np.mean(truth**2)))


@functools.cache
def _rbasex() -> Any:
    import abel  # pyright: ignore[reportMissingImports]

    return abel.rbasex.rbasex_transform


def best_of_rbasex(picture: np.ndarray, intensity: np.ndarray, harmonic: np.ndarray):
    """Smallest errors of I and I beta_2 over all regularisations and strengths."""
    choices = [None, "pos"] + [(kind, x) for kind, values in STRENGTHS.items() for x in values]
    errors = []
    for choice in choices:
        # rBasex wants the origin in the middle of a pixel, where `draw` has put it
        found = _rbasex()(
            picture, origin=(SIZE // 2, SIZE // 2), rmax=SIZE // 2 - 1, order=2,
            reg=choice, out=None,
        )[1]  # fmt: skip
        r, own, beta = found.rIbeta()
        points = np.interp(RADII, r, own), np.interp(RADII, r, np.nan_to_num(own * beta))
        for name, (i, h) in (("", points), (" averaged", [over_pixels(x) for x in points])):
            errors.append((relative(i, intensity), relative(h, harmonic), f"{choice}{name}"))
    return min(errors), min(errors, key=lambda x: x[1])


def over_pixels(values: np.ndarray) -> np.ndarray:
    """Means over pixels of straight lines between values a pixel apart."""
    near = np.pad(values, 1, mode="edge")
    return (near[:-2] + 6 * values + near[2:]) / 8


def measure(case: str, electrons: float, seed: int, folder: pathlib.Path) -> dict:
    """Errors and coverage of one picture; kept in a file, so that a run may be cut off."""
    path = folder / f"{case}_{electrons:.0e}_{seed}.json"
    if path.exists():
        return json.loads(path.read_text())
    picture, intensity, harmonic = draw(case, electrons, seed)
    best = best_of_rbasex(picture, intensity, harmonic)
    begun = time.process_time()
    found = PLAIN.invert(picture)
    place = np.searchsorted(found.r, RADII)
    bright = intensity > 1e-3 * intensity.max()
    slope = np.abs(np.gradient(intensity)) / np.maximum(intensity, 1e-9)
    row = {
        "case": case, "electrons": electrons, "seed": seed, "p_value": found.p_value,
        "seconds": time.process_time() - begun, "converged": found.converged,
        "intensity": relative(found.intensity[place], intensity) / best[0][0],
        "harmonic": relative(found.harmonics[2][place], harmonic) / best[1][1],
        "rbasex": [best[0][2], best[1][2]],
    }  # fmt: skip
    for level in (0.68, 0.95):
        band = found.band(level)
        for name, (low, high), truth in (
            ("intensity", band.intensity, intensity),
            ("harmonic", band.harmonics[2], harmonic),
        ):
            inside = (low[place] <= truth) & (truth <= high[place])
            row[f"{name}_{level}"] = float(inside[bright].mean())
            flanks = bright & (slope > 0.1)
            if flanks.any():
                row[f"{name}_{level}_flanks"] = float(inside[flanks].mean())
    path.write_text(json.dumps(row))
    return row


def judge_variants(cases: list[str], electrons: list[float], seeds: range) -> None:
    """Prints errors of every variant over those of the plain case, of the same seeds."""
    for number in electrons:
        for case in cases:
            plain = np.array([errors_of(case, number, seed, PLAIN) for seed in seeds])
            for name, variant in VARIANTS.items():
                own = np.array([errors_of(case, number, seed, variant) for seed in seeds])
                each = own / plain
                whole = np.sqrt(np.mean(own**2, axis=0) / np.mean(plain**2, axis=0))
                spread = each.std(axis=0, ddof=1) / np.sqrt(len(seeds))
                print(
                    f"{case} {number:.0e} {len(seeds)} {name}: "
                    f"I {whole[0]:.3f} +- {spread[0]:.3f}, "
                    f"I beta_2 {whole[1]:.3f} +- {spread[1]:.3f}", flush=True,
                )  # fmt: skip


def errors_of(case: str, electrons: float, seed: int, variant: Variant) -> tuple[float, float]:
    """Errors of I and I beta_2 of one picture."""
    picture, intensity, harmonic = draw(case, electrons, seed, variant)
    found = variant.invert(picture)
    place = np.searchsorted(found.r, RADII)
    return (
        relative(found.intensity[place], intensity),
        relative(found.harmonics[2][place], harmonic),
    )


def measure_rings(seed: int) -> np.ndarray:
    """Deviations of the rings of case c, fitted with the continuum, in their errors, ``[3, 4]``.

    Columns: radius, sigma, electrons, beta_2.
    """
    import sevi_jax

    picture, _, _ = draw("c", 1e6, seed)
    parts = parts_of("c", np.random.default_rng([seed, 1]))[:3]
    fit = sevi_jax.fit(picture, shells=3, orders=(2,), continuum=True)
    pulls = []
    for shell, part in zip(fit.shells, parts, strict=True):
        truth = (*part.place, 1e6 * part.weight, float(part.beta(np.zeros(1))[0]))
        found = (shell.radius, shell.sigma, shell.electrons, shell.beta[2])
        # drawn is a Poisson number about this mean, which the errors of Poisson counts have in them
        pulls.append([(x.nominal_value - t) / x.std_dev for x, t in zip(found, truth, strict=True)])
    return np.array(pulls)


def judge_rings(seeds: range) -> None:
    """Prints how often the rings' values lie within their errors, over some pictures."""
    every = []
    for seed in seeds:
        every.append(measure_rings(seed))
        pulls = np.abs(np.array(every))
        columns = " ".join(
            f"{name} {100 * np.mean(pulls[..., i] < 1):.0f} %"
            for i, name in enumerate(("R", "sigma", "N", "beta_2"))
        )
        within = [f"{100 * np.mean(pulls < x):.1f} %" for x in (1, 1.96)]
        print(
            f"{len(every)} pictures: within one error {within[0]}, 1.96 {within[1]}; {columns}",
            flush=True,
        )


def main() -> None:
    """Measures cell after cell and prints a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=list("abcd"))
    parser.add_argument("--electrons", nargs="+", type=float, default=[1e4, 1e5, 1e6, 1e7])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/freeform"))
    parser.add_argument("--rings", type=int, help="fit the rings of case c in so many pictures")
    parser.add_argument("--variants", action="store_true", help="compare those with the plain case")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    if options.variants:
        judge_variants(options.cases, options.electrons, seeds)
        return
    if options.rings:
        judge_rings(range(options.first, options.first + options.rings))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    print("case electrons seeds | error / rBasex's best: I, I beta_2 | coverage of 68 and 95 % "
          "bands, in flanks (68 %): I; I beta_2 | p < 0.01")  # fmt: skip
    for electrons in options.electrons:
        for case in options.cases:
            rows = []
            for seed in seeds:
                rows.append(measure(case, electrons, seed, options.folder))
                print(f"{case} {electrons:.0e} {seed}", end="\r", file=sys.stderr)

            def mean(key, rows=rows):
                return np.mean([row[key] for row in rows if key in row] or [np.nan])

            def cover(name, mean=mean):
                return (f"{100 * mean(f'{name}_0.68'):.0f} {100 * mean(f'{name}_0.95'):.0f} "
                        f"{100 * mean(f'{name}_0.68_flanks'):.0f}")  # fmt: skip

            small = np.mean([row["p_value"] < 0.01 for row in rows])
            print(f"{case} {electrons:.0e} {len(rows)} | {mean('intensity'):.2f} "
                  f"{mean('harmonic'):.2f} | {cover('intensity')}; {cover('harmonic')} | "
                  f"{small:.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
