"""Small event files, written with h5py alone so that they do not depend on the writers."""

import h5py
import numpy as np

DISTRIBUTIONS = 5
GENERATED = 4000


def draw(seed=0, orders=12, spread=20):
    """Columns of a second-kind file: sparse ids, some electrons off the detector or unmatched."""
    rng = np.random.default_rng(seed)
    ids = np.array([7, 3, 12, 0, 5])
    electron = np.sort(rng.choice(spread * GENERATED, GENERATED, replace=False))
    distribution = np.sort(rng.choice(ids, GENERATED))
    seen = rng.random(GENERATED) < 0.6
    stray = np.setdiff1d(np.arange(spread * GENERATED), electron)[:17]
    detected = np.concatenate([electron[seen], stray])
    return {
        "ids": ids,
        "R": rng.uniform(0.3, 0.9, DISTRIBUTIONS),
        "sigma": rng.uniform(0.005, 0.009, DISTRIBUTIONS),
        "beta": rng.normal(size=(DISTRIBUTIONS, orders)),
        "electron": electron,
        "distribution": distribution,
        "detected": detected,
        "x": rng.normal(0, 0.6, len(detected)),
        "z": rng.normal(0, 0.6, len(detected)),
    }


def table(**columns):
    """A structured array from its columns."""
    columns = {name: np.asarray(values) for name, values in columns.items()}
    rows = len(next(iter(columns.values())))
    out = np.zeros(rows, [(name, col.dtype, col.shape[1:]) for name, col in columns.items()])
    for name, col in columns.items():
        out[name] = col
    return out


def second_kind(data, generated_order=slice(None), detected_order=slice(None), ids="i4"):
    """The three tables of a second-kind file, by name."""
    return {
        "DistributionParameters": table(
            DistributionId=data["ids"].astype("i4"),
            R=data["R"],
            sigma=data["sigma"],
            beta=data["beta"],
        ),
        "GeneratedElectrons": table(
            DistributionId=data["distribution"].astype(ids),
            ElectronId=data["electron"].astype(ids),
            r=np.ones(GENERATED),
            costheta=np.zeros(GENERATED),
        )[generated_order],
        "DetectedElectrons": table(
            ElectronId=data["detected"].astype(ids), x=data["x"], z=data["z"]
        )[detected_order],
    }


def write(path, tables, **options):
    """Writes the tables, with h5py's dataset options, and returns the path."""
    with h5py.File(path, "w") as file:
        for name, rows in tables.items():
            chunks = options.get("chunks") and (min(options["chunks"][0], len(rows)),)
            file.create_dataset(name, data=rows, **{**options, "chunks": chunks})
    return path


def expected_pictures(data, size):
    """Counts [D, size, size] and outside [D], one electron after the other."""
    owner = dict(zip(data["electron"].tolist(), data["distribution"].tolist(), strict=True))
    row = {int(number): place for place, number in enumerate(data["ids"])}
    counts = np.zeros((len(row), size, size), int)
    outside, unmatched = np.zeros(len(row), int), 0
    for electron, x, z in zip(data["detected"].tolist(), data["x"], data["z"], strict=True):
        if electron not in owner:
            unmatched += 1
            continue
        place = row[owner[electron]]
        if -1 <= x < 1 and -1 <= z < 1:
            counts[place, int((x + 1) / 2 * size), int((z + 1) / 2 * size)] += 1
        else:
            outside[place] += 1
    return counts, outside, unmatched
