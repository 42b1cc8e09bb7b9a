import h5py
import numpy as np
import pytest

from sevi_jax.data import fields
from sevi_jax.data.events import count_electrons, file_kind
from sevi_jax.data.frame_files import FoundElectrons, check_event_path, open_frames
from sevi_jax.errors import InputError

SIZE = 64


def write_frames(path, images, ids=None, name="FinalImage", **options):
    images = np.asarray(images)
    rows = np.zeros(len(images), [("ImageId", "i4"), ("Image", images.dtype, images.shape[1:])])
    rows["ImageId"] = np.arange(len(images)) if ids is None else ids
    rows["Image"] = images
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=rows, **options)
    return path


def some_images(n, dtype="u1", shape=(SIZE, SIZE)):
    return np.random.default_rng(0).integers(0, 200, (n, *shape)).astype(dtype)


@pytest.mark.parametrize("options", [{}, {"chunks": (1,), "compression": "gzip"}])
def test_frames_come_in_file_order_with_their_ids(tmp_path, options):
    images, ids = some_images(7), np.array([5, 3, 9, 9, -2, 0, 1])
    path = write_frames(tmp_path / "a.h5", images, ids, **options)
    with open_frames(path) as table:
        assert (table.number, table.size) == (7, SIZE)
        for start in (0, 2, 4, 7):
            read = [table.read_into(table.buffer(2), first) for first in range(start, 7, 2)]
            blocks = [(i.copy(), f.copy()) for i, f in read]
            assert [len(i) for i, _ in blocks] == [min(2, 7 - n) for n in range(start, 7, 2)]
            for name, expected, k in (("ids", ids, 0), ("images", images, 1)):
                found = [row for block in blocks for row in block[k]]
                assert len(found) == 7 - start, name
                for row, value in zip(found, expected[start:], strict=True):
                    np.testing.assert_array_equal(row, value)


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (some_images(2, shape=(SIZE, SIZE + 2)), "uint8[64,66], expected square frames of 64"),
        (some_images(2, "u2"), "uint16[64,64], expected square frames of 64"),
        (some_images(2, "f4"), "float32[64,64], expected square frames of 64"),
        (some_images(2, shape=(8, 8)), "uint8[8,8], expected square frames of 64"),
        (some_images(2, shape=(SIZE,)), "uint8[64], expected a picture of real numbers a row"),
        (some_images(0), "table FinalImage: found 0 rows, expected at least one"),
    ],
    ids=["oblong", "u2", "f4", "tiny", "line", "none"],
)
def test_other_frames_are_refused(tmp_path, images, found):
    path = write_frames(tmp_path / "a.h5", images)
    with pytest.raises(InputError) as error, open_frames(path):
        pass
    assert str(error.value).startswith(f"{path}, table FinalImage")
    assert found in str(error.value)


def test_file_without_frames_and_truncated_file_are_refused(tmp_path):
    path = write_frames(tmp_path / "a.h5", some_images(3), name="Pictures")
    with pytest.raises(InputError, match="found no such table"), open_frames(path):
        pass
    path = write_frames(tmp_path / "b.h5", some_images(20))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match="truncated"), open_frames(path):
        pass


def columns(n, seed=0):
    rng = np.random.default_rng(seed)
    names = (fields.X, fields.Z, fields.AMPLITUDE, fields.RESIDUAL)
    return {field: rng.uniform(-1, 1, n) for field in names}


def test_what_was_recorded_is_kept_and_the_rest_is_not(tmp_path):
    output, words = tmp_path / "electrons.h5", {"input": "a.h5"}
    one, two, lost = columns(5, 0), columns(4, 1), columns(3, 2)
    with FoundElectrons(output, words) as found:
        found.add(np.full(5, 7), one)
        found.progress.notes["seen"] = [7]
        found.record(1)
        found.add(np.full(3, 8), lost)
    assert not output.exists()
    with FoundElectrons(output, words) as found:
        assert (found.progress.frames, found.progress.electrons) == (1, 5)
        assert found.progress.notes == {"seen": [7]}
        found.add(np.full(4, 8), two)
        found.record(1)
        found.finish(0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["electrons.h5"]
    with h5py.File(output) as file:
        rows = file["DetectedElectrons"][:]
    np.testing.assert_array_equal(rows["ImageId"], [7] * 5 + [8] * 4)
    np.testing.assert_array_equal(rows["ElectronId"], range(9))
    for field in one:
        expected = np.concatenate([one[field], two[field]])
        np.testing.assert_allclose(rows[field.name], expected, rtol=1e-6)
    assert file_kind(output) == "electrons"
    assert next(count_electrons(output, 32, progress=False)).counts.sum() == 9


def test_record_of_another_input_is_not_used(tmp_path):
    output = tmp_path / "electrons.h5"
    for words in ({"input": "a.h5"}, {"input": "b.h5"}):
        with FoundElectrons(output, words) as found:
            assert found.progress.frames == 0
            found.add(np.full(5, 7), columns(5))
            found.record(1)


@pytest.mark.parametrize("damage", ["", "{", '{"belongs_to": {}}', "rows"])
def test_damaged_record_is_begun_anew(tmp_path, damage):
    output, words = tmp_path / "electrons.h5", {"input": "a.h5"}
    with FoundElectrons(output, words) as found:
        found.add(np.full(5, 7), columns(5))
        found.record(1)
    folder = tmp_path / "electrons.h5.partial"
    if damage == "rows":
        (folder / "electrons.bin").write_bytes(b"short")
    else:
        (folder / "record.json").write_text(damage)
    with FoundElectrons(output, words) as found:
        assert found.progress.frames == 0
        found.finish(0.0)
    with h5py.File(output) as file:
        assert len(file["DetectedElectrons"]) == 0


def test_run_without_progress_leaves_nothing(tmp_path):
    with FoundElectrons(tmp_path / "new/a.h5", {}):
        pass
    assert not list((tmp_path / "new").iterdir())


def test_output_is_checked_before_anything_is_done(tmp_path):
    with pytest.raises(InputError, match=r"found suffix .json, expected .h5"):
        check_event_path(tmp_path / "a.json")
    (tmp_path / "a.h5").mkdir()
    with pytest.raises(InputError, match="found a folder"), FoundElectrons(tmp_path / "a.h5", {}):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="expected a folder"),
        FoundElectrons(tmp_path / "file/a.h5", {}),
    ):
        pass


def test_second_process_is_refused(tmp_path):
    # another opening of the file holds another lock, as another process would
    with FoundElectrons(tmp_path / "a.h5", {}) as found:
        found.add(np.full(5, 7), columns(5))
        found.record(1)
        with (
            pytest.raises(InputError, match=r"process \d+ on .* is writing it"),
            FoundElectrons(tmp_path / "a.h5", {}),
        ):
            pass
        assert (tmp_path / "a.h5.partial/record.json").exists()
