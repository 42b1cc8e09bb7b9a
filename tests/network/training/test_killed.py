"""SIGKILL at chosen moments; `scripts/endurance/torture.py` does it at random ones."""

import json
import os
import pathlib
import subprocess
import sys

import numbers_run
import pytest
import small

from sevi_jax.network.training import seal
from sevi_jax.network.training.checkpoint import FOLDER
from sevi_jax.network.training.metrics import read_metrics

HERE = pathlib.Path(__file__).parent
# Audit events and what their arguments hold. A run that goes on may not reach the moments of the
# ones before again, so their steps come in this order.
MOMENTS = {
    "configuration, before its name": ("os.rename", "config.json.tmp"),
    "first checkpoint begun": ("os.mkdir", "/2.orbax-checkpoint-tmp"),
    "metrics cut at the start": ("os.rename", "metrics.tmp"),
    "half a line of metrics": ("line", "train 4"),
    "arrays of a checkpoint written": ("open", "/6.orbax-checkpoint-tmp/network"),
    "checksums of a checkpoint": ("open", "/8.orbax-checkpoint-tmp/checksums.json"),
    "checkpoint before its name": ("os.rename", "/10.orbax-checkpoint-tmp'"),
    "old checkpoint put away": ("os.rename", "/checkpoints/deleted/12"),
    "old checkpoint deleted": ("shutil.rmtree", "/checkpoints/deleted"),
    "held-out line before the checkpoint": ("line", "eval 20"),
}


def run(workdir, *moment):
    """Trains in an own process; returns its exit status and what it said."""
    env = os.environ | {
        "PYTHONPATH": f"{HERE}:{HERE.parents[1]}:{HERE.parents[2]}",
        "JAX_PLATFORMS": "cpu",
    }
    line = [sys.executable, numbers_run.__file__, str(workdir), *moment]
    result = subprocess.run(line, env=env, capture_output=True, text=True, timeout=300)
    return result.returncode, result.stdout + result.stderr


def undamaged_steps(workdir):
    """Steps of the checkpoints that have their names; each is whole."""
    folders = [path for path in (workdir / FOLDER).glob("*") if path.name.isdigit()]
    assert {seal.damage(path) for path in folders} <= {None}
    return sorted(int(path.name) for path in folders)


def rows_without_times(workdir):
    return [
        {name: value for name, value in row.items() if not name.endswith("_per_second")}
        for row in read_metrics(workdir)
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    assert numbers_run.train(workdir)
    return workdir


def test_run_killed_at_every_moment_ends_like_one_never_killed(tmp_path, undisturbed):
    for name, moment in MOMENTS.items():
        status, said = run(tmp_path, *moment)
        assert status == -9, f"{name}: {said}"
        undamaged_steps(tmp_path)
        if (tmp_path / "config.json").exists():
            json.loads((tmp_path / "config.json").read_text())
    status, said = run(tmp_path)
    assert status == 0, said
    assert "done" in said.splitlines()
    small.assert_same_bits(*(numbers_run.state_at(x, 24) for x in (tmp_path, undisturbed)))
    rows = rows_without_times(tmp_path)
    assert rows == rows_without_times(undisturbed)
    steps = [row["step"] for row in rows if row["kind"] == "train"]
    assert steps == sorted({*range(2, 25, 2), *range(3, 25, 3)})
    # and nothing is left over
    assert undamaged_steps(tmp_path) == undamaged_steps(undisturbed)
    assert {path.name for path in (tmp_path / FOLDER).iterdir()} == {
        path.name for path in (undisturbed / FOLDER).iterdir()
    }
    names = {"config.json", "metrics.jsonl", "tensorboard", FOLDER}
    assert {path.name for path in tmp_path.iterdir()} == names
