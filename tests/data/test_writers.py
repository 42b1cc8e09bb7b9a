"""Files written here read back unchanged; a writer that is interrupted leaves nothing."""

import h5py
import numpy as np
import pytest

from sevi_jax.data import writers
from sevi_jax.data.events import count_electrons, file_kind, read_truth
from sevi_jax.data.load import load_all
from sevi_jax.data.writers import DistributionsWriter, ImageSetWriter, PairWriter
from sevi_jax.errors import InputError

SIZE = 8


def electrons(rng, count):
    """Keyword arguments r, costheta, x, z, detected."""
    columns = {name: rng.uniform(-1.1, 1.1, count) for name in ("r", "costheta", "x", "z")}
    return {**columns, "detected": rng.random(count) < 0.6}


def histogram(parts):
    x, z = (np.concatenate([part[name][part["detected"]] for part in parts]) for name in "xz")
    return np.histogram2d(x, z, bins=SIZE, range=[[-1, 1], [-1, 1]])[0]


@pytest.mark.parametrize("chunk_bytes", [1000, 1 << 20])
def test_distributions_round_trip(tmp_path, monkeypatch, chunk_bytes):
    monkeypatch.setattr(writers, "CHUNK_BYTES", chunk_bytes)
    rng = np.random.default_rng(0)
    path = tmp_path / "new" / "folder" / "train.h5"
    beta = rng.normal(size=(3, 16))
    parts = {number: [electrons(rng, count) for count in (70, 0, 501)] for number in (4, 0, 9)}
    with DistributionsWriter(path, orders=16) as writer:
        for row, number in enumerate(parts):
            writer.add(number, 0.5 + row / 10, 0.005, beta[row])
        for call in range(3):  # the distributions of a file may alternate
            for number, calls in parts.items():
                writer.electrons(number, **calls[call])

    assert file_kind(path) == "distributions"
    truth = read_truth(path)
    np.testing.assert_array_equal(truth.ids, [4, 0, 9])
    np.testing.assert_array_equal(truth.radius, [0.5, 0.6, 0.7])
    np.testing.assert_array_equal(truth.beta, beta)
    (group,) = count_electrons(path, SIZE, progress=False)
    for number, counts in zip(group.ids, group.counts, strict=True):
        np.testing.assert_array_equal(counts, histogram(parts[int(number)]))
    assert group.unmatched == 0
    seen = sum(call["detected"].sum() for calls in parts.values() for call in calls)
    assert group.inside.sum() + group.outside.sum() == seen

    with h5py.File(path) as file:
        described = {name: dict(file[name].dtype.fields) for name in file}
        generated = file["GeneratedElectrons"][:]
        assert "literature" in file["DistributionParameters"].attrs["convention"]
    assert list(described["DistributionParameters"]) == ["DistributionId", "R", "sigma_R", "beta"]
    assert list(described["GeneratedElectrons"]) == [
        "DistributionId", "ElectronId", "r", "cos(theta)",
    ]  # fmt: skip
    assert list(described["DetectedElectrons"]) == ["ElectronId", "x", "z"]
    np.testing.assert_array_equal(generated["ElectronId"], np.arange(3 * 571))
    np.testing.assert_array_equal(generated["cos(theta)"][:70], parts[4][0]["costheta"])
    np.testing.assert_array_equal(generated["r"][70:140], parts[0][0]["r"])


def test_pair_round_trip(tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "train0.h5"
    images = rng.integers(0, 256, (3, 32, 32), dtype=np.uint8)
    part = electrons(rng, 300)
    sphere, image = rng.integers(0, 2, 300), rng.integers(0, 3, 300)
    with PairWriter(path, orders=5) as writer:
        writer.truth([0.4, 0.6], [0.005, 0.006], np.arange(10.0).reshape(2, 5))
        writer.frames([0, 1], images[:2])
        writer.frames([2], images[2:])
        writer.electrons(sphere, part["r"], part["costheta"], image, part["x"], part["z"],
                         part["detected"])  # fmt: skip
    assert file_kind(path) == "pair"
    np.testing.assert_array_equal(read_truth(path).beta, np.arange(10).reshape(2, 5))
    (group,) = count_electrons(path, SIZE, progress=False)
    np.testing.assert_array_equal(group.counts[0], histogram([part]))
    with h5py.File(path) as file:
        assert file["FinalImage"].chunks == (1,)
        np.testing.assert_array_equal(file["FinalImage"]["Image"], images)
        np.testing.assert_array_equal(file["FinalImage"]["ImageId"], [0, 1, 2])
        np.testing.assert_array_equal(file["GeneratedElectrons"]["SphereId"], sphere)
        detected = file["DetectedElectrons"][:]
    assert detected.dtype.names == ("ImageId", "ElectronId", "x", "z")
    np.testing.assert_array_equal(detected["ImageId"], image[part["detected"]])
    np.testing.assert_array_equal(detected["ElectronId"], np.flatnonzero(part["detected"]))


def test_frames_alone(tmp_path):
    with PairWriter(tmp_path / "finaltest.h5", orders=12) as writer:
        writer.frames([5], np.zeros((1, 4, 4), np.uint8))
    assert file_kind(tmp_path / "finaltest.h5") == "frames"


def test_image_set_round_trip(tmp_path):
    rng = np.random.default_rng(2)
    path = tmp_path / "images.h5"
    counts = rng.poisson(3, (5, 16, 16))
    shells = {"radius": rng.random((5, 2)), "sigma": rng.random((5, 2)),
              "electrons": rng.integers(0, 10, (5, 2)), "beta": rng.random((5, 2, 12))}  # fmt: skip
    with ImageSetWriter(path, orders=12) as writer:
        for part in (slice(0, 3), slice(3, 5)):
            writer.add(counts[part], **{name: values[part] for name, values in shells.items()})
    assert file_kind(path) == "images"
    pictures = load_all(path)
    assert [picture.name for picture in pictures] == [f"images.h5[{number}]" for number in range(5)]
    np.testing.assert_array_equal([picture.counts for picture in pictures], counts)
    with h5py.File(path) as file:
        assert file["images"].dtype == np.uint32
        rows = file["Shells"][:]
    np.testing.assert_array_equal(rows["ImageId"], np.repeat(np.arange(5), 2))
    np.testing.assert_array_equal(rows["ShellId"], np.tile([0, 1], 5))
    np.testing.assert_array_equal(rows["R"], shells["radius"].reshape(-1))
    np.testing.assert_array_equal(rows["electrons"], shells["electrons"].reshape(-1))
    np.testing.assert_array_equal(rows["beta"], shells["beta"].reshape(10, 12))


@pytest.mark.parametrize("kind", [DistributionsWriter, PairWriter, ImageSetWriter])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "the old contents"])
def test_interrupted_writer_leaves_nothing(tmp_path, kind, error, old):
    path = tmp_path / "train.h5"
    if old:
        path.write_text(old)

    def interrupted():
        with kind(path, orders=12):
            assert len(list(tmp_path.iterdir())) == (2 if old else 1)
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == ([path] if old else [])
    assert not old or path.read_text() == old


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    for path, found in [(tmp_path, "found a folder"), (tmp_path / "file" / "a.h5", "file")]:
        with pytest.raises(InputError, match=found) as error, PairWriter(path, orders=12):
            pass
        assert "\n" not in str(error.value)


def test_too_many_electrons(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "MAX_ELECTRONS", 100)
    part = electrons(np.random.default_rng(3), 60)
    with DistributionsWriter(tmp_path / "a.h5", orders=1) as writer:
        writer.add(0, 0.5, 0.005, [1.0])
        writer.electrons(0, **part)
        with pytest.raises(InputError, match="found 120 electrons, expected at most 100"):
            writer.electrons(0, **part)


def test_misuse_is_refused(tmp_path):
    part = electrons(np.random.default_rng(4), 5)
    picture = np.zeros((1, 4, 4))
    shells = {"radius": [[0.5]], "sigma": [[0.01]], "electrons": [[5]], "beta": np.zeros((1, 1, 2))}
    with DistributionsWriter(tmp_path / "a.h5", orders=2) as writer:
        with pytest.raises(ValueError, match="must be added first"):
            writer.electrons(0, **part)
        with pytest.raises(ValueError, match=r"beta \(3,\) must be \(2,\)"):
            writer.add(0, 0.5, 0.005, [1.0, 2.0, 3.0])
        writer.add(1, 0.5, 0.005, [1.0, 2.0])
        with pytest.raises(ValueError, match="only once"):
            writer.add(1, 0.5, 0.005, [1.0, 2.0])
        with pytest.raises(ValueError, match=r"must all be \[5\]"):
            writer.electrons(1, **{**part, "x": part["x"][:4]})
    with ImageSetWriter(tmp_path / "b.h5", orders=2) as writer:
        for wrong in (picture + 0.5, picture - 1, picture + np.nan, np.zeros((2, 4, 4))):
            with pytest.raises(ValueError, match="must be whole numbers"):
                writer.add(wrong, **shells)
    with (
        PairWriter(tmp_path / "c.h5", orders=2) as writer,
        pytest.raises(ValueError, match="must be uint8"),
    ):
        writer.frames([0], picture)
    with pytest.raises(ValueError, match="outside its with block"):
        DistributionsWriter(tmp_path / "d.h5", orders=1).add(0, 0.5, 0.005, [1.0])
