"""How well and how fast electrons are found on camera frames of 1024 x 1024 pixels.

  .venv/bin/python scripts/benchmarks/detection.py
  .venv/bin/python scripts/benchmarks/detection.py --frames=320 --pairs=40 --output=detection.json

Positions are drawn from pairs of shells of the original's prior, 86 electrons a frame on average;
the frames are drawn by NumPy in float64 from the definition of the spots, not by this program. They
are written to a file, and `python -m sevi_jax.detect` does the rest, twice: the first run compiles,
the second counts. Found and true electrons are paired one to one, nearest first, up to 2 pixels.
Processor time is that of all cores; wall time means something on an idle machine only.
"""

import argparse
import json
import os
import pathlib
import resource
import sys
import tempfile
import time
from typing import Any

import h5py
import numpy as np

from sevi_jax.config import default_config
from sevi_jax.data.writers import PairWriter
from sevi_jax.detection.detect_file import detect_file
from sevi_jax.detection.grouping import one_to_one
from sevi_jax.network.training.specs import prior_from
from sevi_jax.prng import root_key
from sevi_jax.simulation import FrameSpec, write_frames

SIZE, RADIUS = 1024, 2.0  # pixels
FIFTHS = np.arange(5) / 5
CLOSE, LONE = 10.0, 40.0  # pixels to the next electron


def draw_frame(places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a frame with a spot of random shape at each place ``[N, 2]``, in half-widths."""
    picture = np.zeros((SIZE, SIZE))
    scale = SIZE / 2
    for centre in (places + 1) * scale:
        amplitude, s = rng.normal(100, 10), rng.normal(0.015, 0.001) * scale
        rho = np.clip(rng.normal(0, 0.1), -1, 1)
        if amplitude <= 1:
            continue
        reach = s * np.sqrt(2 * np.log(amplitude))
        first = np.clip(np.floor(centre - reach), 0, SIZE).astype(int)
        last = np.clip(np.ceil(centre + reach), 0, SIZE).astype(int)
        if (last <= first).any():
            continue
        dx, dz = (
            (np.add.outer(np.arange(i, j), FIFTHS).ravel() - c) / s
            for i, j, c in zip(first, last, centre, strict=True)
        )
        spot = np.exp(-(dx[:, None] ** 2 + dz**2 + 2 * rho * dx[:, None] * dz) / 2)
        rows, columns = last - first
        mean = amplitude * spot.reshape(rows, 5, columns, 5).mean(axis=(1, 3))
        picture[first[0] : last[0], first[1] : last[1]] += mean
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def read_electrons(path: pathlib.Path) -> np.ndarray:
    """All rows of the table DetectedElectrons."""
    with h5py.File(path) as file:
        table: Any = file["DetectedElectrons"]
        return table[:]


def make_file(path: pathlib.Path, frames: int, pairs: int, seed: int) -> list[np.ndarray]:
    """Writes the frames; returns the true places on each, in half-widths."""
    prior = prior_from(default_config())
    each = frames // pairs
    truth = []
    with PairWriter(path, orders=12) as writer:
        for pair in range(pairs):
            drawn = path.with_name("drawn.h5")
            root = root_key(seed + pair)
            write_frames(drawn, prior, root, each, FrameSpec(size=64), progress=False)
            rows = read_electrons(drawn)
            rng = np.random.default_rng([seed, pair])
            places = np.stack([rows["x"], rows["z"]], axis=1)
            here = [places[rows["ImageId"] == i] for i in range(each)]
            images = np.stack([draw_frame(where, rng) for where in here])
            writer.frames(np.arange(len(truth), len(truth) + each), images)
            truth += here
    return truth


def judge(path: pathlib.Path, truth: list[np.ndarray]) -> dict:
    """Compares a file of found electrons with the truth; lengths in pixels."""
    rows = read_electrons(path)
    found = (np.stack([rows["x"], rows["z"]], axis=1) + 1) * SIZE / 2
    errors, apart, missed = [], [], []
    for number, places in enumerate(truth):
        true = (places + 1) * SIZE / 2
        true = true[((true >= 0) & (true < SIZE)).all(axis=1)]
        here = found[rows["ImageId"] == number]
        between = np.linalg.norm(true[:, None] - true, axis=2) + np.diag(np.full(len(true), 1e9))
        nearest = between.min(axis=1)
        distance = np.linalg.norm(here[:, None] - true, axis=2)
        i, j = one_to_one(distance, RADIUS).T
        errors.append(here[i] - true[j])
        apart.append(nearest[j])
        missed.append(np.delete(nearest, j))
    errors, apart, missed = (np.concatenate(parts) for parts in (errors, apart, missed))
    size, count = np.linalg.norm(errors, axis=1), len(errors) + len(missed)
    close = (apart < CLOSE).sum() / ((apart < CLOSE).sum() + (missed < CLOSE).sum())
    return {
        "electrons": count,
        "recall": len(errors) / count,
        "precision": len(errors) / len(rows),
        "found_over_true": len(rows) / count,
        "recall_close": float(close),
        "median_error_lone": float(np.median(size[apart > LONE])),
        "median_error_close": float(np.median(size[apart < CLOSE])),
        "rms": errors.std(axis=0).tolist(),
        "bias": errors.mean(axis=0).tolist(),
        "bias_error": (errors.std(axis=0) / np.sqrt(len(errors))).tolist(),
        "blur_half_widths": float(np.sqrt((errors**2).mean()) * 2 / SIZE),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=160, help="of all pairs (160)")
    parser.add_argument("--pairs", type=int, default=40, help="of shells (40)")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (0)")
    parser.add_argument("--output", type=pathlib.Path, help="results, .json")
    args = parser.parse_args()
    if args.frames % args.pairs:
        parser.error("--frames must be a multiple of --pairs")
    with tempfile.TemporaryDirectory() as folder:
        path, output = pathlib.Path(folder) / "frames.h5", pathlib.Path(folder) / "electrons.h5"
        truth = make_file(path, args.frames, args.pairs, args.seed)
        for _ in range(2):
            wall, processor = time.perf_counter(), time.process_time()
            summary = detect_file(path, output, progress=False)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
        found = judge(output, truth)
    found |= {
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "wall_ms_per_frame": wall / args.frames * 1e3,
        "processor_ms_per_frame": processor / args.frames * 1e3,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(summary)
    for name, value in found.items():
        print(f"{name:24} {value}")
    if args.output:
        args.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
