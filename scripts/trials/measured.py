"""The measured picture of O2-: what a fit with everything free leaves, ring by ring.

  python -m scripts.trials.measured
  python -m scripts.trials.measured --steps --whole

Fits the five outermost rings of docs/data/O2-ANU1024.txt.bz2 as skewed shells with origin, angle,
ellipse, harmonics and efficiency free. Printed: Pearson's chi-square per pixel and per block of
pixels, with the counts' means as their variances; of every ring the same, and the waves around it
that are left, in per cent of the counts, with Poisson's standard errors; and the electrons of every
shell beside rBasex's. A block counts where over a third of it is used. With --steps also what the
fit leaves where less is free; with --whole what a density of any form leaves of the whole picture.

rBasex knows no background: what it makes of the fit's is taken off. Its rings end half way to the
next ones, so they hold what the shells leave between them: it is linear, and what it makes of the
rest, counts less all means, is printed beside.
"""

import argparse
import dataclasses
import itertools
import pathlib
import time
from collections.abc import Sequence

import abel  # pyright: ignore[reportMissingImports]
import numpy as np

import sevi_jax as sj
from scripts.machine import describe_machine
from sevi_jax.provenance import revision

PICTURE = pathlib.Path(__file__).parents[2] / "docs/data/O2-ANU1024.txt.bz2"
EVERYTHING = ("origin", "angle", "ellipse", "harmonics", "efficiency")
STEPS = (("origin",), EVERYTHING[:-1])
SIZES = (1, 2, 4, 8, 16)
FILLED = 1 / 3  # of a block
WAVES = 8  # highest m
LEFT = 3  # waves of a ring that are printed
ZONES = (0, 35, 100, 160, 220, 280, 330, 370, 425)  # pixels, of the whole picture
EDGE = 2.0  # pixels within the range: rBasex of pixels that end there is wrong


@dataclasses.dataclass(frozen=True)
class Left:
    """What a fit leaves of a picture.

    Attributes:
        off: counts less means, ``[H, W]``; 0 where a pixel is not used.
        mean: ``[H, W]``; likewise.
        distance: of every pixel from the origin, pixels.
        angle: of every pixel from axis 0, radians.
    """

    off: np.ndarray
    mean: np.ndarray
    distance: np.ndarray
    angle: np.ndarray

    @classmethod
    def of(cls, fit: sj.Fit, counts: np.ndarray) -> "Left":
        """Of a fit of counts of electrons."""
        used = np.isfinite(fit.mean_electrons)
        mean = np.where(used, fit.mean_electrons, 0.0)
        row, column = (
            np.arange(n) + 0.5 - x.nominal_value
            for n, x in zip(counts.shape, fit.origin, strict=True)
        )
        row, column = np.meshgrid(row, column, indexing="ij")
        return cls(
            np.where(used, counts - mean, 0.0), mean, np.hypot(row, column),
            np.arctan2(column, row),
        )  # fmt: skip

    def squares(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Pearson's terms of blocks of size x size pixels, and their distances."""

        def summed(values):
            height, width = (n // size for n in values.shape)
            cut = values[: height * size, : width * size]
            return cut.reshape(height, size, width, size).sum(axis=(1, 3))

        used = self.mean > 0
        number = summed(used.astype(float))
        keep = number > FILLED * size * size
        terms = summed(self.off)[keep] ** 2 / summed(self.mean)[keep]
        return terms, summed(np.where(used, self.distance, 0.0))[keep] / number[keep]

    def waves(self, low: float, high: float) -> list[tuple[float, str]]:
        """Amplitudes of waves around a ring, the surest first: standard errors, and words."""
        ring = (self.mean > 0) & (self.distance >= low) & (self.distance < high)
        off, mean, angle = self.off[ring], self.mean[ring], self.angle[ring]
        found = []
        for m in range(WAVES + 1):
            for name, wave in (("cos", np.cos(m * angle)), ("sin", np.sin(m * angle))):
                weight = float(mean @ wave**2)
                if weight > 0:
                    size, error = float(off @ wave) / weight, weight**-0.5
                    text = f"{name} {m}t {100 * size:+.2f} +- {100 * error:.2f} %"
                    found.append((abs(size) / error, text))
        return sorted(found, reverse=True)


def rbasex(image: np.ndarray, fit: sj.Fit, limits: tuple[float, float], distance: np.ndarray):
    """r and I(r) of rBasex, from the pixels in range."""
    origin = tuple(round(x.nominal_value - 0.5) for x in fit.origin)
    weights = ((distance > limits[0]) & (distance < limits[1])).astype(float)
    options = {"origin": origin, "rmax": int(limits[1]), "order": 2, "out": None}
    found = abel.rbasex.rbasex_transform(np.nan_to_num(image), weights=weights, **options)[1]
    return found.rIbeta()[:2]


def background(fit: sj.Fit) -> np.ndarray:
    """Means of the fit without its shells, ``[H, W]``."""
    values, model = fit.fitted.found.values, fit.fitted.model
    shells = []
    for shell, vector in zip(model.model.shells, values.shells, strict=True):
        none = np.array(vector)
        none[shell.lengths :] = 0.0
        shells.append(none)
    return model.mean(dataclasses.replace(values, shells=tuple(shells)))


def fitted(picture: sj.Picture, free: tuple[str, ...], options: argparse.Namespace) -> sj.Fit:
    """The fit of the rings."""
    start = time.process_time()
    fit = sj.fit(
        picture, shells=options.shells, orders=(2,), shape="skewed", free=free,
        background=options.background, range=tuple(options.range),
    )  # fmt: skip
    print(f"free: {', '.join(free)}; {time.process_time() - start:.0f} s of processor time")
    summary(fit, picture)
    return fit


def summary(fit: sj.Fit, picture: sj.Picture) -> None:
    """Prints how a fit ended, and what is left of the whole picture."""
    left = Left.of(fit, picture.counts)
    terms = ", ".join(f"{left.squares(size)[0].mean():.2f}" for size in SIZES)
    print(f"  {fit.reason}, p = {fit.p_value:.2g}")
    print(f"  chi-square in blocks of {', '.join(map(str, SIZES))} pixels a side: {terms}")


def middles(fit: sj.Fit) -> list[float]:
    """Mean radii of the shells, pixels."""
    return [
        x.radius.nominal_value + (x.tail.nominal_value if x.tail is not None else 0.0)
        for x in fit.shells
    ]


def table(left: Left, edges: Sequence[float]) -> None:
    """Prints what is left between each radius and the next."""
    blocks, far = left.squares(SIZES[-1])
    pixels, near = left.squares(1)
    print("ring, pixels: chi-square per pixel, in blocks of 16; waves that are left")
    for low, high in itertools.pairwise(edges):
        pair = (x[(d >= low) & (d < high)].mean() for x, d in ((pixels, near), (blocks, far)))
        texts = "; ".join(text for _, text in left.waves(low, high)[:LEFT])
        print(f"  {low:.0f} to {high:.0f}: " + ", ".join(f"{x:.2f}" for x in pair) + f"; {texts}")


def rings(fit: sj.Fit, picture: sj.Picture, limits: tuple[float, float]) -> None:
    """Prints what is left, ring by ring, and electrons beside rBasex's."""
    left, places = Left.of(fit, picture.counts), middles(fit)
    edges = [limits[0], *(0.5 * (a + b) for a, b in itertools.pairwise(places))]
    table(left, [*edges, limits[1]])
    r, own = rbasex(picture.counts - background(fit), fit, limits, left.distance)
    rest = rbasex(left.off, fit, limits, left.distance)[1]
    print("shell: electrons, over rBasex's; what rBasex makes of the rest, of its own")
    ends = [limits[0] + EDGE, *edges[1:], limits[1] - EDGE]
    for shell, place, low, high in zip(fit.shells, places, ends[:-1], ends[1:], strict=True):
        near = (r >= low) & (r < high)
        ratio, share = shell.electrons.nominal_value / own[near].sum(), rest[near].sum()
        share /= own[near].sum()
        print(f"  R = {place:.1f}: {shell.electrons:.2uS}, {ratio:.3f}; {100 * share:+.1f} %")


def whole(picture: sj.Picture) -> None:
    """Fits a density of any form to the whole picture, and prints what is left."""
    found = sj.invert(picture, orders=(2,), free=EVERYTHING, range=(0, 425))
    print("a density of any form of the whole picture")
    summary(found.fit, picture)
    table(Left.of(found.fit, picture.counts), ZONES)


def main() -> None:
    """Fits and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shells", type=int, default=5)
    parser.add_argument("--range", type=float, nargs=2, default=(328.0, 425.0))
    parser.add_argument("--background", default="constant")
    parser.add_argument("--steps", action="store_true", help="also with less free")
    parser.add_argument("--whole", action="store_true", help="also a density of any form")
    options = parser.parse_args()
    picture = sj.load(PICTURE)
    machine = describe_machine()
    print(f"revision {revision()}, {machine['cores']} cores of {machine['cpu']}")
    for free in STEPS if options.steps else ():
        fitted(picture, free, options)
    rings(fitted(picture, EVERYTHING, options), picture, tuple(options.range))
    if options.whole:
        whole(picture)


if __name__ == "__main__":
    main()
