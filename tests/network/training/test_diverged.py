"""Broken numbers at any step stop the run, which names them and keeps the last good state."""

import dataclasses
import re

import jax
import numbers_run
import numpy as np
import pytest
import small

from sevi_jax.network.training import loop
from sevi_jax.network.training.metrics import read_metrics


def spoiled(at, *, loss=None, part=None, **changes):
    """A trainer whose step `at` has another loss, or one number of a part of its state broken."""

    def spoil(step, state, metrics):
        if step != at:
            return state, metrics
        if loss is not None:
            return state, metrics | {"loss": loss}
        leaves, tree = jax.tree.flatten(getattr(state, part))
        leaves[-1] = np.array(leaves[-1])
        leaves[-1].flat[-1] = np.float32("inf")
        return dataclasses.replace(state, **{part: tree.unflatten(leaves)}), metrics

    return numbers_run.Trainer(numbers_run.config(**changes), spoil)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The state of step 4 of an undisturbed run."""
    workdir = tmp_path_factory.mktemp("good")
    assert numbers_run.train(workdir, train__steps=4)
    return numbers_run.state_at(workdir, 4)


def assert_stops(workdir, trainer, message, good):
    """It stops with that message, and the newest checkpoint is that of step 4, undisturbed."""
    with pytest.raises(loop.Diverged, match=message):
        numbers_run.train(workdir, trainer)
    assert [row["step"] for row in read_metrics(workdir) if row["kind"] == "eval"] == [2, 4]
    with loop.Checkpoints(workdir) as checkpoints:
        assert checkpoints.latest_step == 4
    small.assert_same_bits(numbers_run.state_at(workdir, 4).params, good.params)


@pytest.mark.parametrize("at", [5, 6], ids=["between", "at a checkpoint"])
@pytest.mark.parametrize("loss", ["nan", "inf", "1e9"])
def test_loss_that_is_not_finite_or_leaps(tmp_path, good, at, loss):
    rule = "more than 1000 times the largest of the .* steps before" if loss == "1e9" else ""
    message = f"step {at}: loss={re.escape(f'{float(loss):g}')}.*{rule}"
    assert_stops(tmp_path, spoiled(at, loss=float(loss)), message, good)


def test_loss_may_be_large_where_those_before_were(tmp_path):
    """The losses of this run are from 1 to 2."""
    assert numbers_run.train(tmp_path / "a", spoiled(7, loss=999.0))
    with pytest.raises(loop.Diverged, match="step 7: loss=2001, "):
        numbers_run.train(tmp_path / "b", spoiled(7, loss=2001.0))
    # a first step has none before
    assert numbers_run.train(tmp_path / "c", spoiled(1, loss=1e9))


@pytest.mark.parametrize("part", ["params", "batch_stats", "opt_state", "ema_params"])
def test_state_with_one_broken_number_is_not_saved_though_its_loss_is_finite(tmp_path, good, part):
    assert_stops(tmp_path, spoiled(6, part=part), rf"step 6: state\.{part}\..* not finite", good)


def test_evaluation_that_is_not_finite_is_neither_written_nor_saved(tmp_path, good):
    trainer = numbers_run.Trainer(numbers_run.config())
    evaluate = trainer.evaluate

    def broken(state):
        return {"distance": float("nan")} if int(state.step) == 6 else evaluate(state)

    trainer.evaluate = broken
    assert_stops(tmp_path, trainer, r"step 6: held-out\.distance is not finite", good)


def test_run_that_was_stopped_goes_on_like_one_that_was_not(tmp_path, good):
    """For broken numbers that do not come again: a fault of the machine, or a mended program."""
    with pytest.raises(loop.Diverged):
        numbers_run.train(tmp_path / "a", spoiled(5, loss=float("nan")))
    for name in "ab":
        assert numbers_run.train(tmp_path / name)
    small.assert_same_bits(*(numbers_run.state_at(tmp_path / name, 24) for name in "ab"))
