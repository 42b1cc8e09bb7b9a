"""Same seed, same machine kind: same bits, however the run is cut up and looked at."""

import pathlib
import shutil
import subprocess
import sys

import pytest
import small

from sevi_jax.network.training.checkpoint import FOLDER

HERE = pathlib.Path(__file__).parent
# Goes on with a run of `small_config`.
GO_ON = """
import pathlib, sys
sys.path[:0] = sys.argv[2:]
import conftest
import small
with small.quick_compilation():
    assert small.train(pathlib.Path(sys.argv[1]), init_from=None)
"""


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    with small.quick_compilation():
        yield


@pytest.mark.parametrize(
    "changes",
    [{"train__log_every": 4}, {"train__eval_every": 3}, {"train__keep": 5, "train__log_every": 2}],
    ids=str,
)
def test_intervals_do_not_touch_the_numbers(tmp_path, changes):
    config = small.small_config(**changes)
    assert small.train(tmp_path, config, trained_by=small.trainer(config))
    expected = small.read_state(small.trained_run(), small.STEPS)
    small.assert_same_bits(small.read_state(tmp_path, small.STEPS), expected)


def test_another_process_goes_on_to_the_same_bits(tmp_path):
    """A real network, and nothing in common but the checkpoint of step 4."""
    run = shutil.copytree(small.trained_run(), tmp_path / "run")
    shutil.rmtree(run / FOLDER / "6")
    line = [sys.executable, "-c", GO_ON, str(run), str(HERE.parents[1])]
    result = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert "going on from step 4" in result.stdout
    expected = small.read_state(small.trained_run(), small.STEPS)
    small.assert_same_bits(small.read_state(run, small.STEPS), expected)
