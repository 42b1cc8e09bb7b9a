"""Loads and fits every file of a folder of simulated pictures, and says what is not as expected.

  python -m scripts.trials.cases FOLDER
  python -m scripts.trials.cases FOLDER --case=tilt --case=gain

FOLDER holds one folder per case, each with a ``case.json`` that names its files and the truth (R
and sigma in pixels, the literature's beta). A file passes if every parameter lies within 3 standard
errors of the truth and the p-value exceeds 0.001, or if it is refused where it has to be. Exit
status 1 if a file does not pass.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from scripts.trials import adapter
from sevi_jax.data.picture import Picture
from sevi_jax.errors import InputError
from sevi_jax.synthesis.spectrometer import TrueShell, Truth

WITHIN = 3.0
# Files that have to be refused, with the reason in one line.
REFUSED = ("false_colours.png", "difference_wrapped_uint16.npy")
# Files that are read as part of another.
PARTS = ("laser_off.npy",)
# What a user who knows the case asks of the fit.
OPTIONS: dict[str, dict[str, Any]] = {
    "tilt": {"free": ("origin", "angle")},
    "ellipse": {"free": ("origin", "ellipse")},
    "odd_orders": {"orders": (1, 2, 3)},
    # without the bright spot in the centre; 0.02 electrons a pixel lie under all
    "hot_pixels": {"range": (20.0, 240.0), "background": "constant"},
}


@dataclasses.dataclass
class Outcome:
    """What became of one picture.

    Attributes:
        name: of case, file, and picture in the file.
        passed: whether it is as expected.
        lines: what to print.
    """

    name: str
    passed: bool
    lines: list[str]


def truths(case: dict[str, Any], file: str, picture: Picture, number: int) -> Truth:
    """Builds the truth of one picture from ``case.json``."""
    known = case["truth"]
    one = known["shells"][number] if "shells" in known else known
    columns = ("R_pixels", "sigma_pixels", "electrons_mean", "beta_literature")
    sign = -1 if file.startswith("right_circular") else 1
    shells = []
    for radius, sigma, electrons, beta in zip(*(one[x] for x in columns), strict=True):
        orders = {int(n): sign ** int(n) * value for n, value in beta.items()}
        shells.append(TrueShell(radius, sigma, electrons, orders))
    # half_picture gives an origin per file
    origin = known.get(f"{pathlib.Path(file).stem}_origin", one["origin_row_column_from_corner"])
    stretch = known.get("stretched_along_z", 1.0) - 1
    gain: float = 1.0
    if "divided_by" in known:
        stated = {"counts": 1.0, "gain_37_per_electron": 37.0}
        gain = stated.get(pathlib.Path(file).stem, 1.0 / float(known["divided_by"]))
    return Truth(
        tuple(shells),
        picture.shape,
        origin=tuple(origin),
        angle=known.get("tilt_degrees", 0.0),
        ellipse=(stretch, 0.0),
        gain=gain,
    )


def load(folder: pathlib.Path, file: str) -> list[Picture]:
    """Loads the pictures of a file, with what belongs to them."""
    pictures = adapter.load_all(folder / file)
    if file == "laser_on.npy":
        off = adapter.load_all(folder / "laser_off.npy")[0].counts
        pictures = [dataclasses.replace(picture, off=off) for picture in pictures]
    return pictures


def judge(name: str, found: Any, truth: Truth) -> Outcome:
    """Compares a fit with the truth."""
    lines = [f"  {note}" for note in (*found.notes, *found.warnings)]
    if len(found.shells) != len(truth.shells):
        return Outcome(name, False, [*lines, f"  {len(found.shells)} shells found"])
    passed = bool(found.converged) and (found.p_value or 0) > 1e-3
    lines.append(f"  p-value {found.p_value:.3g}, converged {found.converged}: {found.reason}")
    for what, true, value in adapter.parameters(found, truth):
        pull = (value.nominal_value - true) / value.std_dev
        far = abs(pull) > WITHIN
        passed = passed and not far
        mark = "  <-- " + f"{abs(pull):.1f} errors off" if far else ""
        lines.append(f"  {what:<14}{value:>24.2u}   truth {true:<10.6g}{pull:+6.2f}{mark}")
    return Outcome(name, passed, lines)


def outcomes(folder: pathlib.Path) -> Iterator[Outcome]:
    """Loads and fits every file of a case."""
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    for file in case["files"]:
        if file in PARTS:
            continue
        name = f"{folder.name}/{file}"
        try:
            pictures = load(folder, file)
            expected = case["truth"].get("pictures", 1)
            if len(pictures) != expected:
                yield Outcome(name, False, [f"  {len(pictures)} pictures read, not {expected}"])
            for number, picture in enumerate(pictures):
                truth = truths(case, file, picture, number)
                # the centre of a part of a picture is known
                if folder.name == "half_picture":
                    picture = dataclasses.replace(picture, origin=truth.origin)
                start = time.perf_counter()
                options = {"shells": 2, "orders": (2,), **OPTIONS.get(folder.name, {})}
                found = adapter.fit(picture, **options)
                seconds = f"  {time.perf_counter() - start:.2f} s"
                one = judge(f"{name} {number + 1}" if expected > 1 else name, found, truth)
                if file in REFUSED:
                    one = Outcome(name, False, ["  was to be refused", *one.lines])
                yield dataclasses.replace(one, lines=[*one.lines, seconds])
        except InputError as error:
            lines = [f"  refused: {error}"]
            yield Outcome(name, file in REFUSED and "\n" not in str(error), lines)
        except Exception as error:
            yield Outcome(name, False, [f"  crashed: {type(error).__name__}: {error}"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--case", action="append", help="a folder in it; may be repeated")
    options = parser.parse_args()
    folders = sorted(path.parent for path in options.folder.glob("*/case.json"))
    found = []
    for folder in folders:
        if options.case and folder.name not in options.case:
            continue
        for outcome in outcomes(folder):
            print(f"{'as expected' if outcome.passed else 'NOT AS EXPECTED'}: {outcome.name}")
            print("\n".join(outcome.lines), flush=True)
            found.append(outcome)
    bad = [outcome.name for outcome in found if not outcome.passed]
    print(f"\n{len(found) - len(bad)} of {len(found)} as expected")
    if bad:
        print("not as expected: " + ", ".join(bad))
        sys.exit(1)


if __name__ == "__main__":
    main()
