import h5py
import numpy as np
import pytest
from camera_model import draw_shapes, frame_of, match

from sevi_jax.data.events import count_electrons, read_blur
from sevi_jax.detection import detect_file as module
from sevi_jax.detection.detect_file import detect_file
from sevi_jax.detection.detector import Detector
from sevi_jax.errors import InputError
from sevi_jax.results import predicting

SIZE, NUMBER = 128, 10
BATCH = 4


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", BATCH * SIZE**2)


def write_file(path, ids=None, seed=0, **options):
    """Frames of a camera of 128 pixels; returns the places in half-widths."""
    rng = np.random.default_rng(seed)
    places = [rng.uniform(3, SIZE - 3, (12, 2)) for _ in range(NUMBER)]
    rows = np.zeros(NUMBER, [("ImageId", "i4"), ("Image", "u1", (SIZE, SIZE))])
    rows["ImageId"] = np.arange(NUMBER) if ids is None else ids
    for row, where in zip(rows, places, strict=True):
        row["Image"] = frame_of(where, draw_shapes(rng, 12), SIZE, SIZE / 2)
    with h5py.File(path, "w") as file:
        file.create_dataset("FinalImage", data=rows, chunks=(1,), compression="gzip", **options)
    return [where * 2 / SIZE - 1 for where in places]


def read(path):
    with h5py.File(path) as file:
        return file["DetectedElectrons"][:]


def test_electrons_of_every_frame_are_found(tmp_path):
    ids = np.array([4, 2, 0, 1, 3, 15, 9, 8, 7, 6])
    places = write_file(tmp_path / "a.h5", ids)
    summary = detect_file(tmp_path / "a.h5", tmp_path / "e.h5", progress=False)
    rows = read(tmp_path / "e.h5")
    assert (summary.frames, summary.electrons) == (NUMBER, len(rows))
    assert (summary.resumed, summary.repeated) == (0, 0)
    np.testing.assert_array_equal(rows["ElectronId"], range(len(rows)))
    matched = 0
    for number, true in zip(ids, places, strict=True):
        here = rows["ImageId"] == number
        where = np.stack([rows["x"][here], rows["z"][here]], axis=1)
        matched += len(match(where, true, 0.3 * 2 / SIZE))
    assert matched >= 0.95 * 12 * NUMBER
    assert len(rows) <= 1.03 * 12 * NUMBER
    counts = next(count_electrons(tmp_path / "e.h5", 32, progress=False))
    assert counts.counts.sum() == len(rows)


def test_a_fit_of_frames_takes_the_electrons_found_beside_its_answer(tmp_path):
    write_file(tmp_path / "a.h5")
    output = tmp_path / "out" / "answer.json"
    ((frames, electrons),) = predicting.electrons_of([tmp_path / "a.h5"], output)
    assert electrons == tmp_path / "out" / "answer_electrons.h5"
    assert predicting.events_of(frames, electrons) == electrons
    assert len(read(electrons)) > 100
    # what are no frames is left alone
    assert list(predicting.electrons_of([electrons, tmp_path / "a.npy"], output)) == []
    assert predicting.events_of(electrons, None) == electrons


def test_blur_is_that_of_the_positions(tmp_path):
    # measured on frames that are drawn anew, against the true positions of these: the scatter of
    # some 100 errors, with a few large ones of overlapping spots
    places = write_file(tmp_path / "a.h5", seed=5)
    summary = detect_file(tmp_path / "a.h5", tmp_path / "e.h5", progress=False)
    assert read_blur(tmp_path / "e.h5") == summary.blur
    rows, off = read(tmp_path / "e.h5"), []
    for number, true in enumerate(places):
        here = rows["ImageId"] == number
        found = np.stack([rows["x"][here], rows["z"][here]], axis=1)
        pairs = match(found, true, summary.model.width_mean)
        off += [found[i] - true[j] for i, j in pairs]
    exact = np.sqrt(np.mean(np.square(off)))
    assert exact / 2.5 < summary.blur < 2.5 * exact


def test_interrupted_run_goes_on_to_the_same_result(tmp_path, monkeypatch):
    write_file(tmp_path / "a.h5")
    detect_file(tmp_path / "a.h5", tmp_path / "whole.h5", progress=False)
    calls = []

    def stops(self, frames, detect=Detector.detect):
        calls.append(len(frames))
        if len(calls) == 4:  # one measures the blur
            raise KeyboardInterrupt
        return detect(self, frames)

    with monkeypatch.context() as patch:
        patch.setattr(Detector, "detect", stops)
        patch.setattr(module, "THREADS", 1)
        with pytest.raises(KeyboardInterrupt):
            detect_file(tmp_path / "a.h5", tmp_path / "e.h5", progress=False)
    assert not (tmp_path / "e.h5").exists()
    summary = detect_file(tmp_path / "a.h5", tmp_path / "e.h5", progress=False)
    assert summary.resumed == 2 * BATCH
    assert not (tmp_path / "e.h5.partial").exists()
    np.testing.assert_array_equal(read(tmp_path / "e.h5"), read(tmp_path / "whole.h5"))
    # another file under the same name is begun anew
    with monkeypatch.context() as patch:
        calls.clear()
        patch.setattr(Detector, "detect", stops)
        patch.setattr(module, "THREADS", 1)
        with pytest.raises(KeyboardInterrupt):
            detect_file(tmp_path / "a.h5", tmp_path / "e.h5", progress=False)
    write_file(tmp_path / "a.h5", seed=1)
    assert detect_file(tmp_path / "a.h5", tmp_path / "e.h5", progress=False).resumed == 0


def test_repeated_and_missing_ids_are_said(tmp_path):
    write_file(tmp_path / "a.h5", np.array([0, 1, 2, 3, 4, 4, 4, 7, 8, 0]))
    summary = detect_file(tmp_path / "a.h5", tmp_path / "e.h5", progress=False)
    assert (summary.repeated, summary.missing) == (3, 2)
    assert "3 frames have the ImageId of an earlier frame" in str(summary)
    assert "2 ImageIds between the first and last have no frame" in str(summary)


def test_frames_without_electrons_give_an_empty_table(tmp_path):
    rows = np.zeros(3, [("ImageId", "i4"), ("Image", "u1", (SIZE, SIZE))])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["FinalImage"] = rows
    assert detect_file(tmp_path / "a.h5", tmp_path / "e.h5", progress=False).electrons == 0
    assert len(read(tmp_path / "e.h5")) == 0


@pytest.fixture
def beside(monkeypatch):
    """Lets short files be searched by two processes; the blocks that the other one was given."""
    monkeypatch.setattr(module, "BLOCKS_WORTH_IT", 1)
    given, search = [], module._SearchBeside.__call__

    def noted(self, first):
        given.append(first)
        return search(self, first)

    monkeypatch.setattr(module._SearchBeside, "__call__", noted)
    return given


def test_two_processes_find_what_one_finds(tmp_path, beside):
    write_file(tmp_path / "a.h5", np.arange(NUMBER)[::-1])
    for processes in (1, 2):
        output = tmp_path / f"{processes}.h5"
        assert not beside
        detect_file(tmp_path / "a.h5", output, progress=False, processes=processes)
    assert beside
    np.testing.assert_array_equal(read(tmp_path / "2.h5"), read(tmp_path / "1.h5"))


def test_process_that_is_killed_is_said_and_what_was_done_stays(tmp_path, beside, monkeypatch):
    write_file(tmp_path / "a.h5")

    class Killed(module._SearchBeside):
        def __call__(self, first):
            self._process.kill()
            return super().__call__(first)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_SearchBeside", Killed)
        with pytest.raises(InputError, match=r"a\.h5: .* ended \(status -9\).* goes on"):
            detect_file(tmp_path / "a.h5", tmp_path / "e.h5", progress=False, processes=2)
    assert not (tmp_path / "e.h5").exists()
    detect_file(tmp_path / "a.h5", tmp_path / "e.h5", progress=False, processes=1)
    detect_file(tmp_path / "a.h5", tmp_path / "whole.h5", progress=False, processes=1)
    np.testing.assert_array_equal(read(tmp_path / "e.h5"), read(tmp_path / "whole.h5"))


@pytest.mark.parametrize("processes", [1, 2])
def test_damaged_chunk_keeps_what_was_done(tmp_path, beside, processes):
    write_file(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        chunk = file["FinalImage"].id.get_chunk_info(9)
    data = bytearray((tmp_path / "a.h5").read_bytes())
    middle = chunk.byte_offset + chunk.size // 2
    data[middle : middle + 40] = bytes(40)
    (tmp_path / "a.h5").write_bytes(data)
    (tmp_path / "e.h5").write_bytes(b"of before")
    with pytest.raises(InputError, match=r"a\.h5, table FinalImage: found unreadable data"):
        detect_file(tmp_path / "a.h5", tmp_path / "e.h5", progress=False, processes=processes)
    assert (tmp_path / "e.h5").read_bytes() == b"of before"
    assert (tmp_path / "e.h5.partial/record.json").exists()
