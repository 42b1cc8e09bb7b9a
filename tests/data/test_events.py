"""Counting electrons: against a plain loop, in any order, in any number of passes."""

import h5py
import numpy as np
import pytest
import small
from hdf5_files import draw, expected_pictures, second_kind, table, write

from sevi_jax.data import events, tables
from sevi_jax.data.events import (
    EventCounts,
    count_electrons,
    file_kind,
    read_blur,
    read_truth,
)
from sevi_jax.errors import InputError

SIZE = 16


def count(path, **options) -> EventCounts:
    """All groups of a file as one."""
    groups = list(count_electrons(path, SIZE, progress=False, **options))
    assert len({group.unmatched for group in groups}) == 1
    return EventCounts(
        ids=np.concatenate([group.ids for group in groups]),
        counts=np.concatenate([group.counts for group in groups]),
        inside=np.concatenate([group.inside for group in groups]),
        outside=np.concatenate([group.outside for group in groups]),
        unmatched=groups[0].unmatched,
    )


def check(found, data):
    counts, outside, unmatched = expected_pictures(data, SIZE)
    np.testing.assert_array_equal(found.ids, data["ids"])
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_array_equal(found.inside, counts.sum((1, 2)))
    np.testing.assert_array_equal(found.outside, outside)
    assert found.unmatched == unmatched > 0
    assert found.inside.sum() + found.outside.sum() + found.unmatched == len(data["x"])
    assert found.outside.sum() > 0
    assert found.counts.dtype == np.uint32


@pytest.fixture
def data():
    return draw()


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of few rows, so that the small files take several."""
    monkeypatch.setattr(tables.Table.blocks, "__defaults__", (5000,))


@pytest.mark.parametrize("options", [{}, {"chunks": (97,), "compression": "gzip"}])
@pytest.mark.parametrize("kind", ["i4", ">i4", "u4", "i8", "u8", "u2"])
@pytest.mark.usefixtures("small_blocks")
def test_counts_equal_a_plain_loop(tmp_path, options, kind):
    data = draw(spread=10)  # ids fit in two bytes
    check(count(write(tmp_path / "a.h5", second_kind(data, ids=kind), **options)), data)


@pytest.mark.usefixtures("small_blocks")
def test_order_of_rows_does_not_matter(tmp_path, data):
    rng = np.random.default_rng(1)
    shuffled = second_kind(
        data, rng.permutation(len(data["electron"])), rng.permutation(len(data["x"]))
    )
    check(count(write(tmp_path / "a.h5", shuffled)), data)


@pytest.mark.parametrize("index_bytes", [9000, 79999, 10**6])
@pytest.mark.parametrize("pictures", [0, 4, 5])
@pytest.mark.usefixtures("small_blocks")
def test_groups_and_windows_equal_one_pass(tmp_path, data, index_bytes, pictures):
    path = write(tmp_path / "a.h5", second_kind(data))
    limit = pictures * SIZE * SIZE * 4
    groups = list(count_electrons(path, SIZE, progress=False, memory_limit=limit))
    assert max(len(group.ids) for group in groups) <= max(1, pictures)
    check(count(path, memory_limit=limit, index_bytes=index_bytes), data)


def test_more_than_255_distributions(tmp_path, data):
    data["ids"] = np.random.default_rng(2).permutation(1000)[:300] * 3
    data["distribution"] = np.resize(data["ids"], len(data["electron"]))
    for name in ("R", "sigma", "beta"):
        data[name] = np.resize(data[name], (300, *data[name].shape[1:]))
    check(count(write(tmp_path / "a.h5", second_kind(data)), index_bytes=50000), data)


def test_unknown_distribution_is_unmatched(tmp_path, data):
    path = write(tmp_path / "a.h5", second_kind({**data, "ids": np.array([7, 3, 12, 0, 99])}))
    found = count(path)
    counts, outside, unmatched = expected_pictures(data, SIZE)
    np.testing.assert_array_equal(found.counts[:4], counts[:4])
    assert found.counts[4].sum() == 0
    assert found.unmatched == unmatched + counts[4].sum() + outside[4]


def test_detector_edges(tmp_path):
    below = np.nextafter(1, 0)
    data = {
        "Truth": table(SphereId=np.zeros(1, "u1"), R=[0.5], sigma=[0.01], beta=np.zeros((1, 3))),
        "DetectedElectrons": table(
            ImageId=np.zeros(6, "i4"),
            ElectronId=np.arange(6, dtype="i4"),
            x=[-1.0, below, 0.0, 1.0, 0.0, np.nextafter(-1, -2)],
            z=[below, -1.0, 0.0, 0.0, 1e300, 0.0],
        ),
    }
    found = count(write(tmp_path / "a.h5", data))
    assert np.argwhere(found.counts[0]).tolist() == [[0, 15], [8, 8], [15, 0]]
    assert (found.inside, found.outside, found.unmatched) == (3, 3, 0)


def test_field_names_and_positions(tmp_path, data):
    renamed = second_kind(data)
    for name, names in {
        "DistributionParameters": ("first", "Radius", "SIGMA_r", "Beta"),
        "GeneratedElectrons": ("a", "b", "R", "cosθ"),
        "DetectedElectrons": ("electron_id", "X", "Z"),
    }.items():
        renamed[name].dtype.names = names
    path = write(tmp_path / "a.h5", renamed)
    check(count(path), data)
    np.testing.assert_array_equal(read_truth(path).sigma, data["sigma"])
    np.testing.assert_array_equal(read_truth(path).radius, data["R"])

    # Known names win over the order of the fields.
    swapped = {
        name: table(**{field: rows[field] for field in reversed(rows.dtype.names)})
        for name, rows in second_kind(data).items()
    }
    path = write(tmp_path / "b.h5", swapped)
    check(count(path), data)
    np.testing.assert_array_equal(read_truth(path).beta, data["beta"])


@pytest.mark.parametrize("names", ["sigma", "sigma_R", "sigmaR", "Sigma_r", "unnamed"])
def test_truth_of_a_pair_is_sorted_by_radius(tmp_path, names):
    beta = np.arange(32.0).reshape(2, 16)
    rows = table(SphereId=np.array([0, 1], "u1"), R=[0.8, 0.4], sigma=[0.006, 0.008], beta=beta)
    rows.dtype.names = ("SphereId", "R", names, "beta")
    truth = read_truth(write(tmp_path / "a.h5", {"Truth": rows}))
    assert truth.ids.tolist() == [1, 0]
    assert truth.radius.tolist() == [0.4, 0.8]
    assert truth.sigma.tolist() == [0.008, 0.006]
    np.testing.assert_array_equal(truth.beta, beta[::-1])
    assert truth.ids.dtype == np.int64


def test_file_kinds(tmp_path):
    rows = table(ImageId=np.zeros(1, "i4"), x=[0.0], z=[0.0])
    for kind, names in {
        "distributions": ["DetectedElectrons", "DistributionParameters", "GeneratedElectrons"],
        "pair": ["DetectedElectrons", "FinalImage", "Truth"],
        "electrons": ["DetectedElectrons"],
        "frames": ["FinalImage"],
        "images": ["images"],
    }.items():
        path = write(tmp_path / f"{kind}.h5", dict.fromkeys(names, rows))
        assert file_kind(path) == kind
    assert count(tmp_path / "electrons.h5").counts.sum() == 1


def test_progress_goes_to_stderr_only_when_asked(tmp_path, data, capsys, monkeypatch):
    monkeypatch.setattr(events, "PROGRESS_DELAY", 0)
    path = write(tmp_path / "train.h5", second_kind(data))
    list(count_electrons(path, SIZE, progress=False))
    assert capsys.readouterr() == ("", "")
    list(count_electrons(path, SIZE))
    out, err = capsys.readouterr()
    assert out == ""
    assert "train.h5" in err
    assert "electrons/s" in err
    assert "100%" in err


def test_size_is_checked(tmp_path):
    with pytest.raises(ValueError, match="size=0"):
        next(count_electrons(tmp_path / "a.h5", 0))


def without(rows, name):
    return table(**{n: rows[n] for n in rows.dtype.names if n != name})


def having(rows, **columns):
    return table(**{**{n: rows[n] for n in rows.dtype.names}, **columns})


def put(rows, name, row, value):
    rows = rows.copy()
    rows[name][row] = value
    return rows


T, G, D = "DistributionParameters", "GeneratedElectrons", "DetectedElectrons"
BAD_TABLES = {
    "no generated": (G, lambda t: None, "found no such table (the file has: Detec"),
    "no detected": (D, lambda t: None, "expected table DetectedElectrons"),
    "no rows detected": (D, lambda t: t[:0], "found 0 rows"),
    "no rows generated": (G, lambda t: t[:0], "found 0 rows"),
    "no rows truth": (T, lambda t: t[:0], "found 0 rows"),
    "plain": (D, lambda t: t["x"], "found plain float64, expected a compound table"),
    "two dimensions": (D, lambda t: t[:10].reshape(2, 5), "found shape (2, 5)"),
    "no z": (D, lambda t: without(t, "z"), "field z: found only ElectronId, x, expected a field z"),
    "y for z": (D, lambda t: table(ElectronId=t["ElectronId"], x=t["x"], y=t["z"]), "field z: "),
    "no id": (D, lambda t: without(t, "ElectronId"), "field ElectronId: found only x, z"),
    "x text": (D, lambda t: having(t, x=t["x"].astype("S8")), "field x: found |S8"),
    "x vector": (D, lambda t: having(t, x=np.ones((len(t), 2))), "field x: found float64[2]"),
    "id real": (D, lambda t: having(t, ElectronId=t["x"]), "expected one integer a row"),
    "nan": (D, lambda t: put(t, "z", 1234, np.nan), "field z: found nan in row 1234"),
    "inf": (D, lambda t: put(t, "x", 999, -np.inf), "field x: found -inf in row 999"),
    "negative id": (D, lambda t: put(t, "ElectronId", 1500, -4), "found -4 in row 1500"),
    "negative made": (G, lambda t: put(t, "ElectronId", 1500, -4), "found -4 in row 1500"),
    "large id": (
        G,
        lambda t: having(t, ElectronId=t["ElectronId"].astype("i8") + 2**31),
        "expected 0..2147483647",
    ),
    "twice": (G, lambda t: put(t, "ElectronId", 1, t["ElectronId"][0]), "expected every id once"),
    "twice apart": (G, lambda t: put(t, "ElectronId", 9, t["ElectronId"][3500]), "every id once"),
    "same ids": (T, lambda t: put(t, "DistributionId", 1, 7), "found id 7 in several rows"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
@pytest.mark.usefixtures("small_blocks")
def test_bad_tables(tmp_path, data, case):
    name, change, message = BAD_TABLES[case]
    contents = second_kind(data)
    changed = change(contents.pop(name))
    path = tmp_path / "bad.h5"
    write(path, contents if changed is None else {**contents, name: changed})
    with pytest.raises(InputError) as error:
        count(path)
    assert_one_line(error, path, name, message)


BAD_TRUTHS = {
    "sigma inf": (lambda t: put(t, "sigma", 3, np.inf), "field sigma_R: found a value"),
    "beta nan": (lambda t: put(t, "beta", (2, 1), np.nan), "field beta: found a value that is not"),
    "beta one": (lambda t: having(t, beta=t["R"]), "expected a vector of real numbers a row"),
    "no beta": (lambda t: without(t, "beta"), "field beta: found only DistributionId, R, sigma"),
    "no sigma": (lambda t: without(t, "sigma"), "field sigma_R: found only DistributionId, R, b"),
}


@pytest.mark.parametrize("case", BAD_TRUTHS)
def test_bad_truth(tmp_path, data, case):
    change, message = BAD_TRUTHS[case]
    path = write(tmp_path / "bad.h5", {T: change(second_kind(data)[T])})
    with pytest.raises(InputError) as error:
        read_truth(path)
    assert_one_line(error, path, T, message)


def truncate(path, content):
    path.write_bytes(content[: len(content) // 2])


def flip(path, content):
    """Spoils the middle of the file: the compressed chunks."""
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(2000) + content[middle + 2000 :])


BAD_FILES = {
    "missing": (lambda path, content: path.unlink(), "no such file"),
    "empty": (lambda path, content: path.write_bytes(b""), "empty file"),
    "text": (lambda path, content: path.write_text("x z\n" * 999), "not an HDF5 file"),
    "truncated": (truncate, "truncated"),
    "spoilt": (flip, "unreadable data"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path, data, case):
    change, message = BAD_FILES[case]
    path = write(tmp_path / "bad.h5", second_kind(data), compression="gzip", chunks=(100,))
    change(path, path.read_bytes())
    with pytest.raises(InputError) as error:
        count(path)
    assert_one_line(error, path, "", message)


def test_folder_groups_and_dangling_links(tmp_path):
    with pytest.raises(InputError, match="found a folder"):
        file_kind(tmp_path)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_group("DetectedElectrons")
    with pytest.raises(InputError, match="table DetectedElectrons: found a group"):
        count(path)
    with h5py.File(path, "w") as file:
        file["DetectedElectrons"] = h5py.ExternalLink("nowhere.h5", "x")
    with pytest.raises(InputError) as error:
        count(path)
    assert_one_line(error, path, "DetectedElectrons", "found a link to another file")
    with h5py.File(path, "w") as file:
        file["Other"] = np.zeros(3)
    with pytest.raises(InputError, match="found tables Other, expected one of Distr"):
        file_kind(path)


def assert_one_line(error, path, table_name, message):
    text = str(error.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert table_name in text
    assert message in text


@pytest.mark.parametrize("value", [0.001, np.float32(0.5), 0])
def test_blur_is_an_attribute_of_the_electrons(tmp_path, value):
    path = small.write_pair(tmp_path / "a.h5", [0.4, 0.6], np.zeros((2, 12)), np.zeros((3, 2)))
    assert read_blur(path) == 0
    with h5py.File(path, "a") as file:
        file["DetectedElectrons"].attrs["blur"] = value
    assert read_blur(path) == value


@pytest.mark.parametrize("value", [-1.0, np.nan, "much", [0.1, 0.2]])
def test_blur_that_is_none_is_refused(tmp_path, value):
    path = small.write_pair(tmp_path / "a.h5", [0.4, 0.6], np.zeros((2, 12)), np.zeros((3, 2)))
    with h5py.File(path, "a") as file:
        file["DetectedElectrons"].attrs["blur"] = value
    with pytest.raises(InputError, match=r"a\.h5, table DetectedElectrons, attribute blur: found"):
        read_blur(path)
