"""The report of a GPU, run on the CPU with tiny sizes; parameters brought home make a run again."""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import distributed_run
import jax
import numpy as np
import pytest
import small

from sevi_jax.network.network import ShellNetwork
from sevi_jax.network.run import load_run
from sevi_jax.network.training import loop

ROOT = pathlib.Path(__file__).parents[3]
STAGES = ("numbers", "rates", "train")


@pytest.fixture
def scripts(monkeypatch):
    """Imports a script by its name, as the scripts do among themselves."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module


def run_report(folder, *flags):
    env = os.environ | {
        "PYTHON": sys.executable,
        "WHEELS": str(folder / "no wheels"),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": "",
    }
    line = ["bash", ROOT / "scripts/gpu_report.sh", f"--output={folder}", "--tiny", "--repeats=1"]
    return subprocess.run([*line, *flags], env=env, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a report on the CPU; on a busy machine it needs more minutes."""
    for minutes in (0.8, 3, 10):
        folder = tmp_path_factory.mktemp("report")
        result = run_report(folder, f"--minutes={minutes}")
        log = (folder / "log.txt").read_text()
        assert result.returncode == 0, result.stderr + log
        report = json.loads((folder / "report.json").read_text())
        if "out of time" not in {report[stage]["status"] for stage in STAGES}:
            break
    return folder


def test_report_holds_every_stage(folder):
    report = json.loads((folder / "report.json").read_text())
    assert report["machine"]["device"] == "cpu"
    assert {report[stage]["status"] for stage in STAGES} == {"done"}
    assert report["torch"]["status"] in ("skipped", "done")
    rows = report["numbers"]["rows"]
    assert rows
    assert all(row["ok"] == (row["value"] <= row["limit"]) for row in rows)
    assert report["numbers"]["all_within_limits"]
    # a slow machine may leave all of them out, but says so
    assert report["rates"].get("rows") or report["rates"]["left_out"]
    for row in report["rates"].get("rows", []):
        assert row["seconds"] > 0
    train = report["train"]
    assert train["step"] > 1
    assert train["pictures"] == train["step"] * train["batch"]
    assert 0 < train["distance"] < 5
    assert [row[0] for row in train["distances"]] == sorted({row[0] for row in train["distances"]})
    names = {path.name for path in folder.iterdir()}
    assert names == {"report.json", "log.txt", "loss.png", "parameters_0.npz"}


def test_parameters_of_the_report_make_the_same_network(folder, tmp_path, scripts):
    """The run made of them has the distance of the report, on the same held-out pictures."""
    restore_run = scripts("restore_run")
    with small.quick_compilation(), distributed_run.smallest_network():
        restore_run.restore(tmp_path / "run", [folder / "parameters_0.npz"])
        run = load_run(tmp_path / "run")
        found = loop.Trainer(run.config).evaluate(_Averaged(run.variables))
    expected = json.loads((folder / "report.json").read_text())["train"]
    assert found["distance"] == pytest.approx(expected["distance"], abs=1e-2)
    assert run.step == expected["step"]


class _Averaged:
    """Stands for a state where only its averaged network is asked for."""

    def __init__(self, variables):
        self.ema_variables = variables


def test_rounding_to_half_precision_moves_no_beta_by_a_hundredth(tmp_path, scripts):
    parameter_files, restore_run = scripts("parameter_files"), scripts("restore_run")
    config = small.single_config(image__size=16)
    state = small.random_state(config)
    network = {"params": state.ema_params, "batch_stats": state.ema_batch_stats}
    description = {"config": config.to_dict(), "step": 7, "distance": 0.5}
    # so small that there are several files
    paths = parameter_files.write_parameters(tmp_path, network, description, largest_file=30_000)
    assert len(paths) > 2
    assert all(path.stat().st_size < 60_000 for path in paths)
    with small.quick_compilation():
        restore_run.restore(tmp_path / "run", paths[::-1])
        run = load_run(tmp_path / "run")
        counts = np.random.default_rng(0).poisson(20.0, (6, 16, 16))
        found = run.predict(counts)
        apply = jax.jit(lambda v, c: ShellNetwork(run.network).apply(v, c, train=False))
        expected = apply(network | {"constants": {}}, counts.astype(np.float32))
    assert run.step == 7
    assert np.abs(expected.beta).max() > 0.1
    np.testing.assert_allclose(found.beta, expected.beta, rtol=0, atol=1e-2)
    assert not np.array_equal(found.beta, expected.beta)


def test_sets_that_are_not_whole_are_refused(tmp_path, scripts):
    parameter_files = scripts("parameter_files")
    rng = np.random.default_rng(0)
    network = {"a": rng.normal(size=100), "b": rng.normal(size=(3, 3, 4, 8))}
    sets = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        sets.append(parameter_files.write_parameters(tmp_path / name, network, {}, 450))
    one, other = sets
    arrays, _ = parameter_files.read_parameters(one)
    np.testing.assert_array_equal(arrays["a"], network["a"].astype(np.float32))
    np.testing.assert_allclose(arrays["b"], network["b"], rtol=5e-4)
    empty = tmp_path / "empty.npz"
    empty.touch()
    for paths, message in (
        ([one[0], other[1]], "of another set"),
        ([one[0]], "1 files of parameters, expected 2"),
        ([one[1]], "parameters_0.npz is missing"),
        ([empty], "not a file of parameters"),
    ):
        with pytest.raises(ValueError, match=message):
            parameter_files.read_parameters(paths)
    with pytest.raises(
        ValueError, match=r"b: shape \(3, 3, 4, 8\) in the files, \(2,\) in the net"
    ):
        parameter_files.put_into({"a": np.zeros(100), "b": np.zeros(2)}, arrays)


def test_report_that_is_cut_off_is_whole(tmp_path):
    """Out of time before its first stage: noted, and no half file."""
    result = run_report(tmp_path / "out", "--minutes=0", "--stages=rates")
    assert result.returncode == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["rates"]["left_out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.json", "log.txt"}


def test_unknown_stage_is_refused(tmp_path):
    result = run_report(tmp_path / "out", "--minutes=1", "--stages=train,dance")
    assert result.returncode == 2
    assert "dance is none of numbers, rates, torch, train" in result.stderr
