"""Nothing that a command reads, and nothing foreign, is written over; own results are."""

import json
import os

import h5py
import numpy as np
import pytest
from PIL import Image

from sevi_jax.data.answers import write_json, write_table
from sevi_jax.data.outputs import check_output, guarding, is_result
from sevi_jax.data.replacing import replacing
from sevi_jax.data.writers import DistributionsWriter, FoundElectronsWriter, ImageSetWriter
from sevi_jax.errors import InputError
from sevi_jax.results.figures import training
from sevi_jax.results.record import document

PICTURES = [{"file": "a.npy", "shells": [{"R": 0.4, "sigma": 0.006, "beta": [0.1]}]}]


def h5(path, **tables):
    with h5py.File(path, "w") as file:
        for name, values in tables.items():
            file[name] = values
    return path


def found_electrons(path):
    with FoundElectronsWriter(path) as writer:
        writer.electrons(np.zeros(0, np.dtype([("x", "<f8"), ("z", "<f8")])))


def distributions(path):
    with DistributionsWriter(path, orders=1) as writer:
        writer.add(0, 0.5, 0.005, np.zeros(1))


def image_set(path):
    with ImageSetWriter(path, orders=1) as writer:
        ones = np.ones((1, 1))
        writer.add(np.ones((1, 4, 4)), ones, ones, ones, np.zeros((1, 1, 1)))


def text(content):
    return lambda path: path.write_text(content)


OWN = {
    "answer.json": lambda path: write_json(path, document(PICTURES)),
    "answer.h5": lambda path: write_table(path, PICTURES),
    "electrons.h5": found_electrons,
    "train10.h5": distributions,
    "images.h5": image_set,
    "a.png": lambda path: training.loss_curve(path, *np.ones((4, 1))),
    "report.json": text(json.dumps({"versions": {"sevi_jax": "0.0"}, "images": []})),
    "a.html": text('<!DOCTYPE html><meta name="generator" content="sevi_jax 0.1">'),
    "a.csv": text("# made by sevi_jax 0.1\nr,I\n"),
    # from before files said so
    "old.json": text('{"convention": "", "pictures": []}'),
    "old.h5": lambda path: h5(path, Answer=[1.0]),
    "old_electrons.h5": lambda path: h5(
        path,
        DetectedElectrons=np.zeros(1, [(x, "f4") for x in ("x", "z", "amplitude", "residual")]),
    ),
}
FOREIGN = {
    "train0.h5": lambda path: h5(
        path, DetectedElectrons=np.zeros(1, [("ImageId", "i4"), ("x", "f8"), ("z", "f8")])
    ),
    "finaltest.h5": lambda path: h5(path, FinalImage=[1]),
    "empty.h5": lambda path: h5(path),
    "no.h5": text("x"),
    "notes.json": text('{"pictures": ["a"], "versions": {"numpy": "2"}}'),
    "list.json": text("[]"),
    "no.json": text("sevi_jax"),
    "photo.png": lambda path: Image.new("L", (4, 4)).save(path),
    "notes.html": text("<!DOCTYPE html>what sevi_jax made by itself"),
    "data.csv": text("1,2\n"),
    "nothing.json": text(""),
}


@pytest.mark.parametrize("name", OWN)
def test_earlier_result_is_replaced(tmp_path, name):
    path = tmp_path / name
    OWN[name](path)
    assert is_result(path)
    with guarding([]), replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_file_is_replaced_only_where_that_is_said(tmp_path, name):
    path = tmp_path / name
    FOREIGN[name](path)
    before = path.read_bytes()
    with guarding([]), pytest.raises(InputError, match="no earlier result of this program"):
        check_output(path)
    with guarding([]), pytest.raises(InputError, match="--overwrite"), replacing(path):
        pytest.fail("was opened")
    assert path.read_bytes() == before
    with guarding([], overwrite=True), replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def by_symbolic_link(path, folder):
    (folder / "link.h5").symlink_to(path)
    return folder / "link.h5"


def by_hard_link(path, folder):
    os.link(path, folder / "hard.h5")
    return folder / "hard.h5"


def by_link_to_its_folder(path, folder):
    (folder / "link").symlink_to(path.parent)
    return folder / "link" / path.name


@pytest.mark.parametrize(
    "other_name",
    [
        lambda path, _: path,
        lambda path, _: path.parent / ".." / path.parent.name / path.name,
        lambda path, _: path.relative_to(os.getcwd()),
        by_symbolic_link,
        by_hard_link,
        by_link_to_its_folder,
    ],
    ids=["itself", "dots", "relative", "symbolic", "hard", "folder"],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_input_is_never_written_over_by_whatever_name(tmp_path, monkeypatch, other_name, overwrite):
    """Also where it is an earlier result, and where the input is the link."""
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data/answer.h5"
    OWN["answer.h5"](path)
    before = path.read_bytes()
    other = other_name(path, tmp_path)
    for source, target in ((path, other), (other, path)):
        with (
            guarding([source], overwrite),
            pytest.raises(InputError, match="which the command reads"),
            replacing(target),
        ):
            pytest.fail("was opened")
    assert path.read_bytes() == before


def test_nothing_in_a_folder_that_is_read_is_written(tmp_path):
    (tmp_path / "run/checkpoints/3").mkdir(parents=True)
    with guarding([tmp_path / "run/checkpoints"], overwrite=True):
        for path in ("checkpoints/3/a.json", "checkpoints/new.json", "../run/checkpoints/b.json"):
            with pytest.raises(InputError, match=r"in .*checkpoints, which the command reads"):
                check_output(tmp_path / "run" / path)
        check_output(tmp_path / "run/answer.json")


def test_symbolic_link_stays_one(tmp_path):
    OWN["answer.json"](tmp_path / "real.json")
    (tmp_path / "link.json").symlink_to("real.json")
    (tmp_path / "new.json").symlink_to("not_yet.json")
    for name, real in (("link.json", "real.json"), ("new.json", "not_yet.json")):
        with guarding([]), replacing(tmp_path / name) as temporary:
            temporary.write_text("new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / real).read_text() == "new"


def test_write_protected_file_stays(tmp_path):
    path = tmp_path / "answer.json"
    OWN["answer.json"](path)
    path.chmod(0o444)
    with guarding([], overwrite=True), pytest.raises(InputError, match="is write-protected"):
        check_output(path)


def test_folder_and_device_are_no_files_to_write(tmp_path):
    (tmp_path / "a.json").mkdir()
    os.mkfifo(tmp_path / "b.json")
    for name, message in (("a.json", "found a folder"), ("b.json", "no ordinary file")):
        with pytest.raises(InputError, match=message):
            check_output(tmp_path / name)


def test_rules_end_with_the_command(tmp_path):
    path = tmp_path / "notes.json"
    FOREIGN["notes.json"](path)
    with guarding([path]):
        pass
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_file_where_a_folder_should_be_is_said_before_any_work(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.npy is a file, expected a folder"):
        check_output(tmp_path / "a.npy" / "answer.json")
    check_output(tmp_path / "new" / "folder" / "answer.json")
