"""What finding the electrons on camera frames costs, against their true positions.

  python scripts/trials/frames.py --files=8 --frames=2000

Draws files of camera frames with `sevi_jax.synthesize` (two shells of the prior, 86 electrons a
frame), finds the electrons, and fits the true and the found positions of the same electrons, by
maximum a posteriori and by maximum likelihood. Says how many are found within 2 pixels, how far
off, and how the fits differ.
"""

import argparse
import pathlib
import tempfile
import time

import h5py
import numpy as np

from sevi_jax import simulation
from sevi_jax.config import default_config
from sevi_jax.data.events import read_blur, read_truth
from sevi_jax.data.load import load
from sevi_jax.detection.detect_file import detect_file
from sevi_jax.detection.grouping import one_to_one
from sevi_jax.model.components import Shell
from sevi_jax.network import losses
from sevi_jax.network.training.specs import prior_from
from sevi_jax.physics.convention import COURSE_ORDERS
from sevi_jax.results.fit import fit as fit_picture
from sevi_jax.results.record import course_record
from sevi_jax.results.training_prior import shells_prior

SIZE = 512
SHELLS = (Shell(COURSE_ORDERS),) * 2
NEAR = 2.0  # pixels


def matched(path: pathlib.Path, found: pathlib.Path, half: float) -> dict[str, float]:
    """Compares positions frame by frame, each electron with the nearest one, one to one."""
    with h5py.File(path) as true_file, h5py.File(found) as found_file:
        true, seen = (np.asarray(f["DetectedElectrons"]) for f in (true_file, found_file))
    true = true[(np.abs(true["x"]) < 1) & (np.abs(true["z"]) < 1)]
    pairs = 0
    off, alone, close = [], [], []
    for image in np.unique(true["ImageId"]):
        a, b = (t[t["ImageId"] == image] for t in (true, seen))
        a, b = (np.stack([t["x"], t["z"]], axis=1) * half for t in (a, b))
        if not len(b):
            continue
        distance = np.hypot(*(a[:, None] - b[None]).T).T
        between = np.hypot(*(a[:, None] - a[None]).T).T + 1e9 * np.eye(len(a))
        nearest = between.min(1)
        for i, j in one_to_one(distance, 20.0):
            if distance[i, j] <= NEAR:
                pairs += 1
                off.append(a[i] - b[j])
            (alone if nearest[i] > 40 else close if nearest[i] < 10 else []).append(distance[i, j])
    off = np.array(off)
    return {
        "recall": pairs / len(true),
        "precision": pairs / len(seen),
        "alone": float(np.median(alone)),
        "close": float(np.median(close)),
        "bias_x": float(off[:, 0].mean()),
        "bias_z": float(off[:, 1].mean()),
        "rms": float(np.sqrt((off**2).mean())),
    }


def fit(path: pathlib.Path, prior):
    """R, sigma (half-widths) and beta (the course's) of both shells."""
    picture = load(path, size=SIZE)
    believed = None if prior is None else shells_prior(prior, SHELLS, SIZE / 2)
    found = fit_picture(picture, shells=2, orders=COURSE_ORDERS, prior=believed)
    shells = course_record(found.to_dict())["shells"]
    radius, sigma, beta = (np.array([s[key] for s in shells]) for key in ("R", "sigma", "beta"))
    return radius, sigma, beta.astype(np.float32), found.converged


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config = default_config()
    config.shells = 2
    prior = prior_from(config)
    rows = []
    for number in range(options.files):
        with tempfile.TemporaryDirectory() as folder:
            path, found = pathlib.Path(folder) / "frames.h5", pathlib.Path(folder) / "found.h5"
            simulation.simulate(
                config, "frames", str(path), number=options.frames, seed=options.seed + number
            )
            start = time.perf_counter()
            summary = detect_file(path, found, progress=False)
            seconds = time.perf_counter() - start
            row = matched(path, found, 512.0)
            row["wall_ms"] = 1e3 * seconds / summary.frames
            truth, blur = read_truth(path).beta, read_blur(found)
            row["blur_pixels"] = blur * 512
            for name, believed in (("map", prior), ("ml", None)):
                best, ours = fit(path, believed), fit(found, believed)
                distances = [float(losses.distance(f[2], truth.astype("f4"))) for f in (best, ours)]
                row[f"{name}_true"], row[f"{name}_found"] = distances
                row[f"{name}_radius"] = float(np.abs(ours[0] - best[0]).max())
                row[f"{name}_sigma"] = float(np.mean(ours[1] / best[1] - 1))
                row[f"{name}_converged"] = float(best[3] and ours[3])
        rows.append(row)
        print(f"file {number}: " + ", ".join(f"{k} {v:.5g}" for k, v in row.items()), flush=True)
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    print("mean: " + ", ".join(f"{k} {v:.5g}" for k, v in means.items()))
    for name in ("map", "ml"):
        ours, best = means[f"{name}_found"], means[f"{name}_true"]
        print(f"{name}: distance {ours:.4f}, of true positions {best:.4f}, ratio {ours / best:.3f}")


if __name__ == "__main__":
    main()
