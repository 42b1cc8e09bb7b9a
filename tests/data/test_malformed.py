"""Malformed files: one InputError line each, in bounded time and memory; nothing else happens.

The files are read in one process of its own, whose memory and CPU time can be told from the tests'.
"""

import json
import pathlib
import subprocess
import sys

import h5py
import numpy as np
import pytest
import tifffile
from hdf5_files import draw, expected_pictures, second_kind, table, write
from malformed import COUNTS, KINDS, D, pair, twice_detected

from sevi_jax.data.events import count_electrons, read_truth
from sevi_jax.data.load import load, load_all
from sevi_jax.errors import InputError

SECONDS, MEMORY = 5, 1024
CASES = [(kind, name) for kind, files in KINDS.items() for name in files]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What reading each file did, by path, and what the process printed besides."""
    folder = tmp_path_factory.mktemp("malformed")
    paths = []
    for kind, name in CASES:
        (folder / kind).mkdir(exist_ok=True)
        paths.append((kind, str(folder / kind / name)))
        KINDS[kind][name][0](folder / kind / name)
    (folder / "list.json").write_text(json.dumps(paths))
    (folder / "empty").mkdir()
    before = sorted(folder.rglob("*"))
    script = pathlib.Path(__file__).with_name("read_all.py")
    result = subprocess.run(
        [sys.executable, str(script), str(folder / "list.json")],
        cwd=folder / "empty",
        capture_output=True,
        text=True,
        timeout=600,
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0, (paths[len(lines)], result.stderr)
    assert result.stderr == ""
    assert sorted(folder.rglob("*")) == before
    return folder, {line["path"]: line for line in lines}


@pytest.mark.parametrize("kind", KINDS)
def test_one_line_names_file_and_field(outcomes, kind):
    folder, found = outcomes
    wrong = {}
    for name, (_, words) in KINDS[kind].items():
        path = str(folder / kind / name)
        outcome = found[path]
        text = str(outcome["text"])
        kept = {
            "error": outcome["error"] == "InputError",
            "begins with the path": text.startswith(path),
            "says what is wrong": words in text.removeprefix(path),
            "one line": text.removeprefix(path).isprintable() and len(text) < 600 + len(path),
            "no forbidden call": outcome["forbidden"] == [],
            "time": outcome["seconds"] < SECONDS,
            "memory": outcome["peak"] < MEMORY,
        }
        if not all(kept.values()):
            broken = [promise for promise, is_kept in kept.items() if not is_kept]
            wrong[name] = broken, {**outcome, "path": name}
    assert not wrong, "\n".join(f"{name}: {said}" for name, said in wrong.items())


@pytest.mark.parametrize("index_bytes", [9000, 10**6])
@pytest.mark.parametrize("pictures", [1, 5])
@pytest.mark.parametrize("apart", [1, 2000])
def test_twice_detected_in_any_number_of_passes(tmp_path, index_bytes, pictures, apart):
    tables = second_kind(draw())
    twice_detected(apart)(tables)
    path = write(tmp_path / "a.h5", tables)
    options = {"memory_limit": pictures * 2 * 16 * 16 * 4, "index_bytes": index_bytes}
    with pytest.raises(InputError, match="field ElectronId: found the same id in several rows"):
        list(count_electrons(path, 16, progress=False, **options))


# What is unusual but right, and must be read.


@pytest.mark.parametrize("orders", [1, 5, 12, 40])
def test_any_number_of_betas(tmp_path, orders):
    beta = np.random.default_rng(0).normal(size=(2, orders))
    pair(beta=beta)(tmp_path / "a.h5")
    np.testing.assert_array_equal(read_truth(tmp_path / "a.h5").beta, beta)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "lzf", "chunks": (97,)},
        {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": (97,)},
        {"compression": "gzip", "chunks": (1,)},  # gzip gives up on so short a chunk
        {"compression": "gzip", "fletcher32": True, "chunks": (1,)},
        {"fletcher32": True, "shuffle": True, "chunks": (97,)},
        {"chunks": (5000,), "maxshape": (None,)},
    ],
    ids=str,
)
def test_filters(tmp_path, options):
    data = draw()
    tables = second_kind(data)
    path = write(tmp_path / "a.h5", {name: tables[name] for name in tables if name != D})
    with h5py.File(path, "r+") as file:
        file.create_dataset(D, data=tables[D], **options)
    (events,) = count_electrons(path, 16, progress=False)
    np.testing.assert_array_equal(events.counts, expected_pictures(data, 16)[0])


def test_chunk_longer_than_a_block(tmp_path):
    rows = table(x=np.random.default_rng(0).uniform(-1, 1, 300_000), z=np.zeros(300_000))
    path = write(tmp_path / "a.h5", {D: rows}, chunks=(300_000,))
    (events,) = count_electrons(path, 16, progress=False)
    expected = np.histogram(rows["x"], np.linspace(-1, 1, 17))[0]
    np.testing.assert_array_equal(events.counts[0, :, 8], expected)


def test_link_inside_the_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/table"] = table(x=[0.1, 0.2], z=[0.1, 0.2])
        file[D] = h5py.SoftLink("/group/table")
    (events,) = count_electrons(tmp_path / "a.h5", 16, progress=False)
    assert events.inside == 2


def test_fields_of_no_interest_may_be_text(tmp_path):
    kind = np.dtype([("note", h5py.string_dtype()), ("x", "f8"), ("z", "f8")])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[D] = np.array([("a", 0.1, 0.1), ("b", 0.3, 0.1)], kind)
    (events,) = count_electrons(tmp_path / "a.h5", 16, progress=False)
    assert np.argwhere(events.counts[0]).tolist() == [[8, 8], [10, 8]]


def test_weak_pictures_are_no_bombs(tmp_path):

    rng = np.random.default_rng(0)
    pictures = np.zeros((2, 1024, 1024), np.uint32)
    for picture in pictures:
        np.add.at(picture.reshape(-1), rng.integers(0, picture.size, 1000), 1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        options = {"compression": "gzip", "shuffle": True, "compression_opts": 1}
        file.create_dataset("images", data=pictures, chunks=(1, 1024, 1024), **options)
    found = load_all(tmp_path / "a.h5", most_pixels=0)
    np.testing.assert_array_equal([picture.counts for picture in found], pictures)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (16, 16)},
        {"rowsperstrip": 3},
        {"rowsperstrip": 3, "compression": "zlib"},
        {"compression": "zlib", "tile": (32, 32)},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"photometric": "miniswhite"},
    ],
    ids=str,
)
def test_kinds_of_tiff(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", COUNTS.astype(np.uint16), **options)
    np.testing.assert_array_equal(load(tmp_path / "a.tif").counts, COUNTS)
