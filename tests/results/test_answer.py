"""From a user's file to an answer file: what is read, what is refused, what is written."""

import json
import pathlib

import h5py
import numpy as np
import pytest
import small

from sevi_jax.data.answers import write_answer
from sevi_jax.errors import InputError
from sevi_jax.network.run import load_run
from sevi_jax.results import answer

POSITIONS = [np.random.default_rng(i).uniform(-1, 1, (300 + i, 2)) for i in range(3)]
RADIUS = [0.6, 0.4, 0.8]
BETA = np.full((3, 12), 0.1)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    with small.quick_compilation():
        yield


def read(path, shells=2, **options):
    reading = answer.Reading(**options)
    return {name: counts for name, counts, _ in answer.read_pictures(path, shells, 32, reading)}


def test_pair_is_one_picture(tmp_path, capfd):
    path = small.write_pair(tmp_path / "train0.h5", RADIUS[:2], BETA[:2], POSITIONS[0])
    found = read(path)
    assert list(found) == [str(path)]
    np.testing.assert_array_equal(found[str(path)], small.histogram(POSITIONS[0]))


def test_distributions_are_a_picture_each_for_a_single_shell(tmp_path):
    path = small.write_distributions(tmp_path / "train10.h5", RADIUS, BETA, POSITIONS, [4, 9, 2])
    found = read(path, shells=1)
    assert list(found) == [f"{path}[{identity}]" for identity in (4, 9, 2)]
    for counts, positions in zip(found.values(), POSITIONS, strict=True):
        np.testing.assert_array_equal(counts, small.histogram(positions))


def test_electrons_without_truth_are_one_picture_for_any_network(tmp_path):
    path = small.write_pair(tmp_path / "detected.h5", RADIUS[:2], BETA[:2], POSITIONS[1])
    with h5py.File(path, "a") as file:
        del file["Truth"]
    for shells in (1, 2):
        (counts,) = read(path, shells).values()
        np.testing.assert_array_equal(counts, small.histogram(POSITIONS[1]))


def test_plain_pictures_are_summed_in_blocks_and_turned_on_request(tmp_path):
    counts = np.random.default_rng(7).poisson(2.0, (64, 64))
    np.save(tmp_path / "a.npy", counts)
    blocks = np.array(
        [[counts[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].sum() for j in range(32)] for i in range(32)]
    )
    ((name, found),) = read(tmp_path / "a.npy").items()
    assert name == "a.npy"
    np.testing.assert_array_equal(found, blocks)
    ((_, turned),) = read(tmp_path / "a.npy", transpose=True).items()
    np.testing.assert_array_equal(turned, blocks.T)


def test_fits_read_pictures_of_any_shape_with_their_masks(tmp_path):
    # a bright pixel at x = 2, z = 1 (of 5 by 3), in a file that was stored the other way round and
    # turned by 90 degrees; its mask in the same way
    counts = np.ones((5, 3))
    counts[2, 1], mask = 7, counts > 0
    mask[4, 0] = False
    reading = answer.Reading(transpose=True, quarter_turns=3, mask=tmp_path / "mask.npy")
    np.save(tmp_path / "a.npy", np.rot90(counts.T))
    np.save(tmp_path / "mask.npy", 9 * np.rot90(mask.T))
    ((_, found, used),) = answer.read_pictures(tmp_path / "a.npy", 2, None, reading)
    np.testing.assert_array_equal(found, counts)
    np.testing.assert_array_equal(used, mask)
    np.save(tmp_path / "mask.npy", np.ones((3, 5)))
    with pytest.raises(InputError, match=r"mask\.npy: found 3 x 5 pixels, expected 5 x 3"):
        list(answer.read_pictures(tmp_path / "a.npy", 2, None, reading))
    np.save(tmp_path / "mask.npy", np.zeros((5, 3)))
    with pytest.raises(InputError, match=r"a\.npy: a picture without counts"):
        list(answer.read_pictures(tmp_path / "a.npy", 2, None, reading))


def test_image_set_is_read_from_hdf5(tmp_path):
    images = np.random.default_rng(8).poisson(2.0, (2, 32, 32)).astype("u4")
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["images"] = images
    np.testing.assert_array_equal(list(read(tmp_path / "set.h5").values()), images)


def save(path, counts):
    np.save(path, counts)
    return path


@pytest.mark.parametrize(
    ("make", "shells", "message"),
    [
        (
            lambda at: small.write_pair(at / "a.h5", RADIUS[:2], BETA[:2], POSITIONS[0]),
            1,
            r"a\.h5: table Truth has 2 shells, expected 1",
        ),
        (
            lambda at: small.write_pair(at / "a.h5", RADIUS[:1], BETA[:1], POSITIONS[0]),
            2,
            r"a\.h5: table Truth has 1 shells, expected 2",
        ),
        (
            lambda at: small.write_distributions(at / "a.h5", RADIUS, BETA, POSITIONS),
            2,
            r"a\.h5: every distribution is a single shell",
        ),
        (
            lambda at: save(at / "a.npy", np.ones((32, 64))),
            2,
            r"a\.npy: found 32 x 64 pixels, expected a square",
        ),
        (
            lambda at: save(at / "a.npy", np.ones((48, 48))),
            2,
            r"a\.npy: found 48 x 48 pixels, expected a multiple of 32 x 32",
        ),
        (lambda at: save(at / "a.npy", np.zeros((32, 32))), 2, r"a\.npy: a picture without counts"),
    ],
    ids=["two shells", "one shell", "distributions", "not square", "no multiple", "dark"],
)
def test_files_that_do_not_fit_are_refused(tmp_path, make, shells, message):
    with pytest.raises(InputError, match=message) as error:
        read(make(tmp_path), shells)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("frames only", r"a\.h5: camera frames without electron positions"),
        ("no table", r"a\.h5, table DetectedElectrons: found no such table"),
        ("no field", r"a\.h5, table DetectedElectrons, field z: found only"),
        ("no bytes", r"a\.h5: found an empty file"),
        ("text", r"a\.h5: found 'no numbers', expected rows of numbers"),
    ],
)
def test_damaged_event_files_are_refused(tmp_path, change, message):
    path = small.write_pair(tmp_path / "a.h5", RADIUS[:2], BETA[:2], POSITIONS[0])
    if change == "no bytes":
        path.write_bytes(b"")
    elif change == "text":
        path.write_text("no numbers\n" * 100)
    else:
        with h5py.File(path, "a") as file:
            detected = file["DetectedElectrons"][:]
            del file["DetectedElectrons"]
            if change == "no field":
                file["DetectedElectrons"] = detected[["ImageId", "ElectronId", "x"]]
            if change == "frames only":
                del file["Truth"]
                file["FinalImage"] = small.rows(ImageId=[0], Image=np.zeros((1, 32, 32), "u1"))
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


def predicted(run, number):
    counts = np.random.default_rng(9).poisson(4.0, (number, 32, 32)).astype(np.uint32)
    names = [f"picture{i}.npy" for i in range(number)]
    return counts, answer.predict_pictures(run, names, counts)


def test_answer_holds_what_the_network_said(tmp_path):
    run = load_run(small.trained_run())
    counts, pictures = predicted(run, 2)
    prediction = run.predict(counts)
    write_answer(tmp_path / "a.json", pictures)
    found = json.loads((tmp_path / "a.json").read_text())["pictures"]
    for i, picture in enumerate(found):
        assert picture["file"] == f"picture{i}.npy"
        assert picture["electrons"] == counts[i].sum()
        assert len(picture["shells"]) == 2
        for s, shell in enumerate(picture["shells"]):
            assert shell["R"] == pytest.approx(prediction.radius[i, s], rel=1e-6)
            assert shell["sigma"] == pytest.approx(prediction.sigma[i, s], rel=1e-6)
            np.testing.assert_allclose(shell["beta"], prediction.beta[i, s], rtol=1e-6)

    write_answer(tmp_path / "a.h5", pictures[:1])
    with h5py.File(tmp_path / "a.h5") as file:
        table = file["Answer"]
        expected = [("SphereId", "u1"), ("R", "<f8"), ("beta", "<f8", (12,))]
        assert table.dtype == np.dtype(expected)
        assert table["SphereId"].tolist() == [0, 1]
        np.testing.assert_allclose(table["R"], prediction.radius[0], rtol=1e-6)
        np.testing.assert_allclose(table["beta"], prediction.beta[0], rtol=1e-6)


def test_network_without_radii_says_null(tmp_path):
    run = load_run(small.single_run())
    _, pictures = predicted(run, 1)
    write_answer(tmp_path / "a.json", pictures)
    (picture,) = json.loads((tmp_path / "a.json").read_text())["pictures"]
    (shell,) = picture["shells"]
    assert shell["R"] is None
    assert shell["sigma"] is None
    assert len(shell["beta"]) == 12


def test_table_shows_betas_in_both_conventions():
    shells = [
        {"R": 0.41234, "sigma": None, "beta": [0.5, 0.25]},
        {"R": 0.7, "sigma": 0.006, "beta": [-0.125, 0.0625]},
    ]
    text = answer.table({"file": "a.npy", "electrons": 1234.0, "shells": shells})
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    assert rows["a.npy:"] == ["1234", "counts"]
    assert rows["R"] == ["0.41234", "0.70000"]
    assert rows["sigma"] == ["-", "0.00600"]
    assert rows["beta_2"] == ["0.50000", "1.00000", "-0.12500", "-0.25000"]
    assert rows["beta_4"] == ["0.25000", "0.50000", "0.06250", "0.12500"]


def test_names_of_files_are_those_the_user_gave(tmp_path):
    path = small.write_pair(tmp_path / "train0.h5", RADIUS[:2], BETA[:2], POSITIONS[0])
    assert [pathlib.Path(name) for name in read(path)] == [path]
