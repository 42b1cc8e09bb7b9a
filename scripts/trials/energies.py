"""Do energies lie within their stated errors? Pairs of a calibration picture and a measured one.

  nice -n 15 python -m scripts.trials.energies
  nice -n 15 python -m scripts.trials.energies --pairs=40 --output=build/trials/energies

Pictures are 200 x 200 pixels with 5e4 electrons a shell, drawn electron by electron by
`sevi_jax.synthesis.spectrometer`: four rings whose energies are known, and three others. Both are
fitted from the picture alone, c (in every second pair also d, which is not 0 there) comes from the
first, by way of a file, and the energies of the second are compared with the truth. In two pairs of
four the known energies have errors of their own. Printed: how many radii of the second pictures,
kinetic energies, and differences of two energies lie within their 68 % and 95 % intervals, with the
error that follows from the scatter of the pairs; the Kolmogorov-Smirnov p-value of the
calibrations' p-values; and how many calibrations have p below 1e-3 when the energies of two
neighbouring rings are exchanged, or every ring is taken for the next one (the last for a line that
is not in the picture). Pairs count whose fits both converged without a warning; how many others
there are is printed first. A trial that was stopped goes on where it was, as long as the program's
revision is the same.
"""

import argparse
import itertools
import json
import pathlib
import tempfile
from typing import Any

import numpy as np

from scripts.trials import judging
from sevi_jax.errors import InputError
from sevi_jax.provenance import revision
from sevi_jax.results.calibration import Calibration, calibrate
from sevi_jax.results.fit import Fit, fit
from sevi_jax.synthesis.spectrometer import simulate

SHAPE = (200, 200)
ELECTRONS = 5e4
RINGS, SHELLS = 4, 3
UNLIKELY = 1e-3


def draw_shells(rng: np.random.Generator, number: int) -> list[dict[str, Any]]:
    """Draws narrow shells that do not overlap, inner first."""
    while True:
        radii = np.sort(rng.uniform(18, 92, number))
        if np.diff(radii).min() > 10:
            break
    return [
        {
            "radius": float(radius),
            "sigma": float(rng.uniform(1.0, 2.0)),
            "electrons": ELECTRONS,
            "beta": {2: float(rng.uniform(0.3, 1.7))},
        }
        for radius in radii
    ]


def draw_fit(rng: np.random.Generator, name: str, number: int) -> tuple[np.ndarray, Fit]:
    """Draws a picture and fits it; returns the true radii, too."""
    shells = draw_shells(rng, number)
    picture = simulate(shells, SHAPE, seed=int(rng.integers(2**31)))
    object.__setattr__(picture, "name", name)
    return np.array([shell["radius"] for shell in shells]), fit(picture, shells=number)


def through_a_file(calibration: Calibration) -> Calibration:
    """Writes a calibration and reads it."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "calibration.json"
        calibration.save(path)
        return Calibration.load(path)


def wrong_p_values(found: Fit, known: list[Any], second_term: bool) -> dict[str, list[float]]:
    """P-values of calibrations in which rings are taken for others."""
    exchanged = []
    for k in range(RINGS - 1):
        order = list(range(RINGS))
        order[k], order[k + 1] = order[k + 1], order[k]
        exchanged.append({i: known[j] for i, j in enumerate(order)})
    shifted = [{i: known[i + 1] for i in range(RINGS)}]

    def p_value(energies: dict[int, Any]) -> float:
        try:
            return calibrate([(found, energies)], second_term).p_value
        except InputError:  # no c above 0 does it
            return 0.0

    return {
        name: [p_value(energies) for energies in assignments]
        for name, assignments in (("exchanged", exchanged), ("shifted", shifted))
    }


def run(number: int, seed: int) -> dict[str, Any]:
    """Draws and judges one pair."""
    rng = np.random.default_rng([seed, number])
    second_term, inexact = number % 2 == 1, number // 2 % 2 == 1
    c = float(rng.uniform(5e-6, 5e-5))
    d = float(rng.uniform(-1e-5, 1e-5)) if second_term else 0.0
    known_radii, first = draw_fit(rng, "calibration", RINGS)
    radii, second = draw_fit(rng, "measured", SHELLS)
    row: dict[str, Any] = {
        "converged": first.converged and second.converged,
        "warnings": [*first.warnings, *second.warnings],
    }
    row["good"] = row["converged"] and not row["warnings"]
    if not row["good"]:
        return row

    def energy(radius: np.ndarray) -> np.ndarray:
        return c * radius**2 * (1 + d * radius**2)

    # of the rings, and of a line that is not in the picture
    known_radii = np.append(known_radii, known_radii[-1] + rng.uniform(10, 20))
    true_known = energy(known_radii)
    known: list[Any] = true_known.tolist()
    if inexact:
        # of the size that the radii's errors have in energy
        size = 2 * c * known_radii * 0.02
        drawn = true_known + size * rng.standard_normal(RINGS + 1)
        known = list(zip(drawn.tolist(), size.tolist(), strict=True))
    calibration = through_a_file(calibrate([(first, dict(enumerate(known[:RINGS])))], second_term))
    found: list[Any] = [one.kinetic for one in second.energies(calibration, unit="cm-1")]
    true = energy(radii) * 8065.543937

    def pull(value: Any, truth: float) -> float:
        return float((value.nominal_value - truth) / value.std_dev)

    pairs = list(itertools.combinations(range(SHELLS), 2))
    row["radii"] = [
        pull(shell.radius, radius) for shell, radius in zip(second.shells, radii, strict=True)
    ]
    row["energies"] = [pull(x, t) for x, t in zip(found, true, strict=True)]
    row["differences"] = [pull(found[j] - found[i], true[j] - true[i]) for i, j in pairs]
    row["errors"] = [x.std_dev for x in found]
    row["p_value"] = calibration.p_value
    return row | wrong_p_values(first, known, second_term)


def report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Computes and prints the figures of all pairs."""
    good = [row for row in rows if row["good"]]
    converged = sum(row["converged"] for row in rows)
    found: dict[str, Any] = {"pairs": len(rows), "converged": converged, "good": len(good)}
    print(f"pairs {len(rows)}: both fits converged {converged}, without a warning {len(good)}")
    for name in ("radii", "energies", "differences"):
        part = found[name] = judging.coverage([np.array(row[name]) for row in good])
        print(
            f"{name}: {part['parameters']}, within 68 %: {100 * part['68']:.1f} "
            f"± {100 * part['68_error_by_picture']:.1f} %, within 95 %: {100 * part['95']:.1f} "
            f"± {100 * part['95_error_by_picture']:.1f} %, mean pull {part['mean_pull']:+.3f}"
        )
    found["uniformity"] = judging.uniformity(row["p_value"] for row in good)
    found["small_p"] = sum(row["p_value"] < UNLIKELY for row in good)
    print(
        f"calibrations: p-values' Kolmogorov-Smirnov p {found['uniformity']:.3g}, "
        f"p < {UNLIKELY}: {found['small_p']}"
    )
    for name in ("exchanged", "shifted"):
        values = np.concatenate([row[name] for row in good])
        found[name] = {"number": len(values), "found": int((values < UNLIKELY).sum())}
        print(f"rings {name}: {found[name]['found']} of {len(values)} have p < {UNLIKELY}")
    return found


def main() -> None:
    """Runs what is missing and prints the figures."""
    parser = argparse.ArgumentParser(description="Do energies lie within their stated errors?")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="build/trials/energies")
    arguments = parser.parse_args()
    folder = pathlib.Path(arguments.output)
    rows = judging.Rows(folder / f"pairs_{arguments.seed}.jsonl", revision())
    done = rows.read()
    for number in range(arguments.pairs):
        if number not in done:
            rows.add(number, run(number, arguments.seed))
    every = rows.read()
    found = report([every[number] for number in range(arguments.pairs)])
    found["revision"] = revision()
    (folder / "summary.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
