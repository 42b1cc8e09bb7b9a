"""Damaged checkpoints are passed over and said; what is read is what was written."""

import json
import os
import shutil

import jax
import numbers_run
import numpy as np
import pytest
import small

from sevi_jax.errors import InputError
from sevi_jax.network.training.checkpoint import FOLDER, Checkpoints

# Distances of the checkpoints of `run`: the best is neither the oldest nor the newest.
DISTANCES = {2: 0.5, 4: 0.2, 6: 0.3}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run with three checkpoints; for reading only."""
    workdir = tmp_path_factory.mktemp("original")
    trainer = numbers_run.Trainer(numbers_run.config(train__keep=3, train__steps=6))
    trainer.evaluate = lambda state: {"distance": DISTANCES[int(state.step)]}
    assert numbers_run.train(workdir, trainer)
    return workdir


@pytest.fixture
def run(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")


def flip(path, place=0.5, bit=3):
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def array_file(workdir, step, item):
    """The largest file of an item: numbers, which no index of TensorStore's protects."""
    folder = workdir / FOLDER / str(step) / item
    return max((x for x in folder.rglob("*") if x.is_file()), key=lambda x: x.stat().st_size)


def steps(workdir):
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.latest_step, checkpoints.best_step


def test_undamaged_run_reads_newest_and_best_and_says_nothing(original, capfd):
    assert steps(original) == (6, 4)
    assert int(numbers_run.state_at(original, 6).step) == 6
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("harm", [flip, truncate, lambda path: path.unlink()])
def test_every_file_of_a_checkpoint_is_watched(original, run, capfd, harm):
    """Either the checkpoint before is used and one line says so, or the numbers are the same."""
    newest = original / FOLDER / "6"
    files = sorted(path.relative_to(newest) for path in newest.rglob("*") if path.is_file())
    assert len(files) > 20
    expected = numbers_run.state_at(original, 6)
    unwatched = []
    for name in files:
        folder = run / FOLDER / "6"
        shutil.rmtree(folder)
        shutil.copytree(newest, folder)
        harm(folder / name)
        capfd.readouterr()
        with Checkpoints(run) as checkpoints:
            used = checkpoints.latest_step
        said = capfd.readouterr().err
        if used == 6:
            assert said == ""
            small.assert_same_bits(numbers_run.state_at(run, 6), expected)
            unwatched.append(str(name))
        else:
            assert used == 4
            assert len(said.splitlines()) == 1
            assert said.startswith(f"{folder}: damaged ({name}: ")
            assert said.endswith("step 4 is used instead\n")
    # what only Orbax reads, and not for the numbers
    assert unwatched == ["_CHECKPOINT_METADATA", "commit_success.txt"]
    small.assert_same_bits(
        numbers_run.state_at(run, 4).params, numbers_run.state_at(original, 4).params
    )


def test_flipped_bits_anywhere_in_the_numbers_are_found(run):
    """The numbers are what TensorStore itself does not watch."""
    path = array_file(run, 6, "network")
    before = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(50):
        flip(path, rng.uniform(), rng.integers(8))
        assert steps(run)[0] == 4
        path.write_bytes(before)
    assert steps(run)[0] == 6


def test_network_is_read_though_what_only_training_needs_is_damaged(run, capfd):
    flip(array_file(run, 4, "training"))
    assert steps(run) == (6, 4)
    assert capfd.readouterr().err == ""
    flip(array_file(run, 4, "network"))
    assert steps(run) == (6, 6)
    assert "checkpoints/4: damaged (network/" in capfd.readouterr().err


def test_distance_that_is_damaged_does_not_make_a_checkpoint_the_best(run, capfd):
    path = run / FOLDER / "2/metrics/metrics"
    assert "0.5" in path.read_text()
    path.write_text(path.read_text().replace("0.5", "0.1"))
    assert steps(run) == (6, 4)
    assert "checkpoints/2: damaged (metrics/metrics: other bytes" in capfd.readouterr().err


def test_damaged_checkpoint_is_never_read_even_if_asked_for(run):
    flip(array_file(run, 6, "training"))
    with pytest.raises(InputError, match=r"checkpoints/6: damaged \(training/"):
        numbers_run.state_at(run, 6)


def test_run_without_any_undamaged_checkpoint_is_refused_and_not_begun_anew(run):
    for step in DISTANCES:
        truncate(array_file(run, step, "network"))
    rows = (run / "metrics.jsonl").read_text()
    for call in (steps, numbers_run.train):
        with pytest.raises(InputError, match=r"6: damaged.*4: damaged.*no other") as error:
            call(run)
        assert "\n" not in str(error.value)
    assert (run / "metrics.jsonl").read_text() == rows


def test_training_goes_on_from_the_undamaged_one_to_the_same_bits(original, run, capfd):
    flip(array_file(run, 6, "network"))
    flip(array_file(run, 2, "network"))
    assert numbers_run.train(run, train__keep=3, train__steps=6)
    printed = capfd.readouterr()
    assert "going on from step 4" in printed.out
    small.assert_same_bits(*(numbers_run.state_at(x, 6) for x in (run, original)))
    assert {x.name for x in (run / FOLDER).iterdir()} == {"2.damaged", "4", "6", "6.damaged"}
    assert "checkpoints/6: damaged" in printed.err
    assert "kept as 6.damaged" in printed.err
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "eval"] == [2, 4, 6]


def test_checkpoint_holds_the_versions(original):
    metadata = json.loads((original / FOLDER / "6/_CHECKPOINT_METADATA").read_text())
    assert metadata["custom_metadata"]["versions"]["jax"] == jax.__version__


def test_full_disk_is_one_line_and_the_checkpoints_before_stay(run, capfd):
    before = steps(run)
    match = r"/8: cannot be saved \(File too large\)$"
    with numbers_run.full_disk(100_000), pytest.raises(InputError, match=match):
        numbers_run.train(run, train__keep=1, train__steps=8)
    assert "Traceback" not in capfd.readouterr().err
    assert steps(run) == before
    assert numbers_run.train(run, train__keep=1, train__steps=8)
    assert steps(run)[0] == 8


def test_folder_that_may_only_be_read_keeps_its_checkpoints(run, original, capfd):
    may_change = os.geteuid() == 0
    folders = [run, run / FOLDER]
    try:
        for folder in folders:
            folder.chmod(0o555)
        if may_change:
            os.seteuid(65534)
        with pytest.raises(PermissionError, match="Permission denied"):
            numbers_run.train(run, train__steps=8)
    finally:
        if may_change:
            os.seteuid(0)
        for folder in folders:
            folder.chmod(0o755)
    assert capfd.readouterr().err == ""
    assert steps(run) == (6, 4)
    small.assert_same_bits(*(numbers_run.state_at(x, 6) for x in (run, original)))


def test_checkpoints_that_may_not_be_read_are_no_damage_and_no_empty_folder(run, capfd):
    """Neither is another checkpoint used nor a new run begun."""
    other = 65534  # nobody
    may_change = os.geteuid() == 0
    (run / FOLDER).chmod(0o000)
    try:
        if may_change:
            os.seteuid(other)
        for call in (steps, numbers_run.train):
            with pytest.raises((InputError, PermissionError), match="Permission denied"):
                call(run)
    finally:
        if may_change:
            os.seteuid(0)
        (run / FOLDER).chmod(0o755)
    assert capfd.readouterr().err == ""
    assert steps(run) == (6, 4)


def test_folder_with_spaces_and_other_letters(tmp_path, original):
    workdir = tmp_path / "Läufe vom 3. Mai" / "数据 %20 #1?"
    assert numbers_run.train(workdir, train__steps=4)
    assert numbers_run.train(workdir, train__keep=3, train__steps=6)
    small.assert_same_bits(*(numbers_run.state_at(x, 6) for x in (workdir, original)))
