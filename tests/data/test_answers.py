"""Answers read back as they were written; the table is the course's."""

import json

import h5py
import numpy as np
import pytest

from sevi_jax.data.answers import check_answer_path, write_json, write_table
from sevi_jax.errors import InputError

BETA = [np.linspace(0, 1, 12).tolist(), np.linspace(2, 1, 12).tolist()]
PICTURES = [
    {"file": "a.npy", "shells": [{"R": 0.4, "sigma": 0.006, "beta": BETA[0]},
                                 {"R": None, "sigma": None, "beta": BETA[1]}]},
    {"file": "b.h5[3]", "shells": [{"R": 0.5, "sigma": 0.007, "beta": BETA[1]}]},
]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2])
def test_json_round_trip(tmp_path, count):
    path = tmp_path / "new" / "answer.json"
    write_json(path, {"convention": "literature", "pictures": PICTURES[:count]})
    assert json.loads(path.read_text()) == {
        "convention": "literature",
        "pictures": PICTURES[:count],
    }
    assert [file.name for file in path.parent.iterdir()] == ["answer.json"]


def test_json_keeps_extra_keys_of_any_type(tmp_path):
    picture = {
        "file": "a.npy",
        "yield": np.float32(3),
        "shells": [
            {"R": np.nan, "sigma": None, "beta": np.ones(12), "error": (np.inf, np.int64(2))}
        ],
    }
    write_json(tmp_path / "a.json", {"pictures": [picture]})
    (found,) = json.loads((tmp_path / "a.json").read_text())["pictures"]
    assert found["yield"] == 3
    assert found["shells"][0] == {"R": None, "sigma": None, "beta": [1] * 12, "error": [None, 2]}


def test_table_of_two_pictures_has_their_numbers(tmp_path):
    write_table(tmp_path / "a.h5", PICTURES)
    with h5py.File(tmp_path / "a.h5") as file:
        table = file["Answer"][()]
        assert file["Pictures"].asstr()[()].tolist() == ["a.npy", "b.h5[3]"]
    np.testing.assert_array_equal(table["PictureId"], [0, 0, 1])
    np.testing.assert_array_equal(table["SphereId"], [0, 1, 0])
    np.testing.assert_array_equal(table["R"], [0.4, np.nan, 0.5])
    np.testing.assert_array_equal(table["beta"], [*BETA, BETA[1]])


def test_table_of_one_picture_is_that_of_the_spec(tmp_path):
    write_table(tmp_path / "a.h5", PICTURES[:1])
    with h5py.File(tmp_path / "a.h5") as file:
        table = file["Answer"]
        assert table.dtype == np.dtype([("SphereId", "u1"), ("R", "<f8"), ("beta", "<f8", (12,))])
        np.testing.assert_array_equal(table["SphereId"], [0, 1])
        np.testing.assert_array_equal(table["R"], [0.4, np.nan])
        np.testing.assert_array_equal(table["beta"], BETA)
        assert "literature" in table.attrs["convention"]


def test_names_of_any_letters(tmp_path):
    names = ["µm/a b.npy", "", "latin1-\udce9.npy"]  # the last as Python has names of other systems
    pictures = [{**PICTURES[0], "file": name} for name in names]
    write_table(tmp_path / "a.h5", pictures)
    write_json(tmp_path / "a.json", {"pictures": pictures})
    found = json.loads((tmp_path / "a.json").read_text())["pictures"]
    assert [picture["file"] for picture in found] == names
    with h5py.File(tmp_path / "a.h5") as file:
        bytes_ = file["Pictures"][()].tolist()
    assert bytes_ == [name.encode("utf-8", "surrogateescape") for name in names]


def test_short_betas_are_padded_and_long_ones_refused(tmp_path):
    shell = {"R": 0.5, "sigma": None, "beta": [1.0, 2.0]}
    write_table(tmp_path / "a.h5", [{"file": "x", "shells": [shell]}])
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["Answer"]["beta"], [[1, 2] + [0] * 10])
    with pytest.raises(ValueError, match="beta has 13 numbers"):
        write_table(tmp_path / "b.h5", [{"file": "x", "shells": [{**shell, "beta": [0] * 13}]}])
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


def test_bad_answers(tmp_path):
    for name in ("a.txt", "answer"):
        with pytest.raises(InputError, match=r"expected .json or .h5"):
            check_answer_path(tmp_path / name)
        with pytest.raises(InputError, match=r"expected .h5"):
            write_table(tmp_path / name, PICTURES)
        with pytest.raises(InputError, match=r"expected .json"):
            write_json(tmp_path / name, {"pictures": PICTURES})
    with pytest.raises(ValueError, match="at least one picture"):
        write_table(tmp_path / "a.h5", [])


def test_table_of_a_fit_has_its_errors(tmp_path):
    keys = ("R", "R_error", "sigma", "sigma_error", "yield", "yield_error", "counting_error")
    shells = [
        {
            **{key: place + i / 8 for i, key in enumerate(keys)},
            "beta": [0.5, 0],
            "beta_error": [2, 3],
        }
        for place in (1, 2)
    ]
    write_table(tmp_path / "a.h5", [{"file": "x", "shells": shells}] * 2)
    with h5py.File(tmp_path / "a.h5") as file:
        table = file["AnswerErrors"][()]
        assert len(table) == len(file["Answer"]) == 4
    np.testing.assert_array_equal(table["PictureId"], [0, 0, 1, 1])
    np.testing.assert_array_equal(table["SphereId"], [0, 1, 0, 1])
    np.testing.assert_array_equal(table["yield_error"], [1.625, 2.625] * 2)
    np.testing.assert_array_equal(table["beta_error"][:, :3], [[2, 3, 0]] * 4)


def test_lists_of_numbers_take_one_line(tmp_path):
    document = {"pictures": [{"file": "a", "shells": []}], "matrix": [[1, 2], [3, 4]], "empty": {}}
    write_json(tmp_path / "a.json", document)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == document
    assert "    [1, 2],\n    [3, 4]\n" in text
