"""Fits a picture with many rings and compares with PyAbel's rBasex on the same picture.

  .venv/bin/pip install -e .[compare]
  .venv/bin/python scripts/trials/compare_rbasex.py --shells=18 --range=0,425 PICTURE

rBasex inverts the picture to I(r) and beta_2(r) without errors and without rings. A ring is taken
as what lies within 3 sigma of the fitted R (at least 2 pixels), or half the way to the next ring:
R is the mean of r there, weighted by I, the number of electrons the integral of I, beta_2 the mean
weighted by I. Its errors are the scatter over pictures in which every count is drawn anew. So that
one sees where a difference comes from, the same is done to the fitted means, whose rings are known:
what differs there too is due to the window (wings of this ring left out, those of neighbours let
in), not to the counts. beta_2 is the literature's. Needs PyAbel, which the project itself does not.
"""

import argparse
import json
import pathlib
import warnings
from typing import Any

import numpy as np

from sevi_jax.data.load import load
from sevi_jax.results.figures.fits import pixels_of
from sevi_jax.results.fit import fit

NAMES = ("R", "electrons", "beta_2")
LENGTHS = ("radius", "sigma")


def rings_of(counts, mask, origin, reach, radius, sigma):
    """R, electrons and beta_2 of rings by rBasex, ``[3, S]``, and the share outside them."""
    import abel.rbasex  # pyright: ignore[reportMissingImports]

    # rBasex takes the middle of a pixel only as the origin
    place = tuple(round(x - 0.5) for x in origin)
    # PyAbel's annotations know only the names of origins and ranges, not their numbers
    options: dict[str, Any] = {"origin": place, "rmax": int(reach), "order": 2, "out": None}
    _, found = abel.rbasex.rbasex_transform(counts, weights=mask.astype(float), **options)
    r, intensity, beta = found.rIbeta()
    half = np.append(np.diff(radius) / 2, np.inf)
    below = np.minimum(np.maximum(3 * sigma, 2.0), np.append(np.inf, half[:-1]))
    above = np.minimum(np.maximum(3 * sigma, 2.0), half)
    rows = []
    for ring in range(len(radius)):
        # rBasex gives numbers at whole pixels: read them at tenths
        at = np.arange(radius[ring] - below[ring], radius[ring] + above[ring], 0.1)
        weight, value = np.interp(at, r, intensity), np.interp(at, r, intensity * beta)
        rows.append((weight @ at / weight.sum(), 0.1 * weight.sum(), value.sum() / weight.sum()))
    rows = np.array(rows).T
    return rows, 1 - rows[1].sum() / intensity.sum()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--shells", type=int, required=True)
    parser.add_argument("--range", default="0,inf", help="LOW,HIGH, pixels from the origin")
    parser.add_argument("--background", default="constant", help="none, constant or smooth")
    parser.add_argument("--draws", type=int, default=10, help="pictures for rBasex's errors")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("rbasex"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # PyAbel's own
    low, high = (float(x) for x in options.range.split(","))
    picture = load(options.picture)
    found = fit(picture, options.shells, (2,), background=options.background, range=(low, high))
    print(found)
    options.output.mkdir(parents=True, exist_ok=True)
    name = options.picture.name.partition(".")[0]
    found.save(options.output / f"{name}.json")
    found.report(options.output / f"{name}.html")

    shells = found.shells
    quantities = [(s.radius, s.electrons, s.beta[2], s.counting_error) for s in shells]
    value = np.array([[x.nominal_value for x in q[:3]] for q in quantities]).T
    error = np.array([[x.std_dev for x in q[:3]] for q in quantities]).T
    error[1] = np.hypot(error[1], [q[3] for q in quantities])
    radius, sigma = (np.array([getattr(s, n).nominal_value for s in shells]) for n in LENGTHS)
    pixels = pixels_of(found)
    origin = [x.nominal_value for x in found.origin]
    reach = min(high, *origin, *(np.array(found.shape) - origin))

    def rbasex(counts):
        return rings_of(counts, pixels.used, origin, reach, radius, sigma)

    (data, outside), (model, model_outside) = rbasex(pixels.counts), rbasex(pixels.mean)
    rng = np.random.default_rng(0)
    scatter = [rbasex(rng.poisson(pixels.counts).astype(float))[0] for _ in range(options.draws)]
    scatter = np.std(scatter, axis=0, ddof=1) * np.sqrt(found.dispersion)
    print("| ring |" + "".join(f" {n}: fit | rBasex | rBasex of the fit |" for n in NAMES))
    print("|---|" + "---|" * 9)
    for ring in range(len(radius)):
        cells = []
        for row, digits in enumerate((3, 0, 3)):
            cells.append(f"{value[row, ring]:.{digits}f} ± {error[row, ring]:.{digits}f}")
            cells.append(f"{data[row, ring]:.{digits}f} ± {scatter[row, ring]:.{digits}f}")
            cells.append(f"{model[row, ring]:.{digits}f}")
        print(f"| {ring + 1} | " + " | ".join(cells) + " |")
    both = np.hypot(error, scatter)
    for row, name in enumerate(NAMES):
        apart, unlike = np.abs(data - value)[row] / both[row], np.abs(data - model)[row]
        print(
            f"{name}: medians over the rings: |rBasex - fit| {np.median(apart):.1f} errors, "
            f"|rBasex - rBasex of the fit| {np.median(unlike / scatter[row]):.1f} of its errors, "
            f"errors of rBasex over those of the fit {np.median(scatter[row] / error[row]):.2f}"
        )
    print(
        f"of rBasex's electrons outside the rings: {outside:.1%}; of the fit's {model_outside:.1%}"
    )
    result = {
        "fit": found.to_dict(),
        "rbasex": data.tolist(),
        "rbasex_error": scatter.tolist(),
        "rbasex_of_fit": model.tolist(),
    }
    (options.output / "comparison.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
