"""A run that is stopped, killed or spoiled goes on as if nothing had happened, to the last bit."""

import dataclasses
import json
import math
import os
import shutil
import signal
import socket

import jax
import numpy as np
import pytest
import small

from sevi_jax.errors import InputError
from sevi_jax.locks import FILE_NAME, locked
from sevi_jax.network.training import loop
from sevi_jax.network.training.checkpoint import FOLDER, Checkpoints
from sevi_jax.network.training.metrics import read_metrics


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    with small.quick_compilation():
        yield


class Killed(BaseException):
    """Stands for a kill: nothing in the program catches it."""


def with_step(act):
    """The shared trainer whose steps call ``act(number of the step, state)`` first."""
    trainer = small.trainer()
    original = trainer.step

    def step(state, root):
        replaced = act(int(state.step) + 1, state)
        return original(state if replaced is None else replaced, root)

    trainer.step = step
    return trainer


def saved_steps(workdir):
    return sorted(int(path.name) for path in (workdir / FOLDER).iterdir() if path.name.isdigit())


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def metrics_without_times(workdir):
    return [
        {name: value for name, value in row.items() if not name.endswith("_per_second")}
        for row in read_metrics(workdir)
    ]


def assert_like_uninterrupted(workdir):
    """Every array of the last state and every number of the metrics is the same."""
    expected = small.trained_run()
    states = [small.read_state(folder, small.STEPS) for folder in (workdir, expected)]
    small.assert_same_bits(*states)
    assert metrics_without_times(workdir) == metrics_without_times(expected)


def test_uninterrupted_run_logs_every_step_once_and_evaluates_at_the_interval():
    run = small.trained_run()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    written = [(row["kind"], row["step"]) for row in map(json.loads, lines)]
    expected = []
    for step in range(1, 7):
        expected += [("train", step)] + [("eval", step)] * (step % 2 == 0)
    assert written == expected
    assert int(small.read_state(run, 6).step) == 6
    assert list((run / "tensorboard").iterdir())


def test_training_changes_every_parameter_and_averages_it():
    first, last = small.trainer().initial_state(), small.read_state(small.trained_run(), 6)
    for before, after, average in zip(
        *map(jax.tree.leaves, (first.params, last.params, last.ema_params)), strict=True
    ):
        assert np.isfinite(after).all()
        assert not np.array_equal(before, after)
        assert not np.array_equal(after, average)
    # the average by hand: it forgets by (1 + n) / (10 + n) after n steps
    states = [first]
    trainer = small.trainer()
    state = trainer.initial_state()
    for _ in range(2):
        state, _ = trainer.step(state, trainer.root)
        states.append(jax.device_get(state))
    average = jax.device_get(first.params)
    for done, state in enumerate(states[1:]):
        decay = (1 + done) / (10 + done)
        average = jax.tree.map(
            lambda a, p, d=decay: d * a.astype(float) + (1 - d) * p, average, state.params
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        average,
        states[-1].ema_params,
    )


def test_run_killed_within_a_step_goes_on_bit_for_bit(tmp_path):
    def die(step, _state):
        if step == 4:
            raise Killed

    with pytest.raises(Killed):
        small.train(tmp_path, trained_by=with_step(die))
    assert saved_steps(tmp_path) == [2]
    assert small.train(tmp_path)
    assert_like_uninterrupted(tmp_path)


def test_run_killed_before_it_saves_does_logged_steps_again(tmp_path):
    trainer = small.trainer()
    evaluate = trainer.evaluate

    def die(state):
        if int(state.step) == 4:
            raise Killed
        return evaluate(state)

    trainer.evaluate = die
    with pytest.raises(Killed):
        small.train(tmp_path, trained_by=trainer)
    assert read_metrics(tmp_path)[-1]["step"] == 4
    # a kill may cut the last line too
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "eval", "st')
    assert saved_steps(tmp_path) == [2]
    assert small.train(tmp_path)
    assert_like_uninterrupted(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_the_step_and_the_run_goes_on_bit_for_bit(tmp_path, capsys, caplog, number):
    def send(step, _state):
        if step == 3:
            os.kill(os.getpid(), number)

    handlers = [signal.getsignal(x) for x in (signal.SIGTERM, signal.SIGINT)]
    assert not small.train(tmp_path, trained_by=with_step(send))
    assert handlers == [signal.getsignal(x) for x in (signal.SIGTERM, signal.SIGINT)]
    assert f"{number.name}: saved at step 3" in "".join(capsys.readouterr())
    assert "did not provide metrics" not in caplog.text
    assert saved_steps(tmp_path) == [2, 3]
    assert small.train(tmp_path)
    assert_like_uninterrupted(tmp_path)


def test_finished_run_says_so_and_changes_nothing(tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(small.trained_run(), workdir)
    before = contents(workdir)
    capsys.readouterr()
    assert small.train(workdir, trained_by=with_step(lambda *_: pytest.fail("took a step")))
    assert "finished, 6 steps done" in capsys.readouterr().out
    assert contents(workdir) == before


@pytest.mark.parametrize("bad", [3, 4])
def test_non_finite_loss_names_the_step_and_keeps_the_older_checkpoint(tmp_path, bad):
    def spoil(step, state):
        if step == bad:
            params = jax.tree.map(lambda x: x * np.float32("nan"), state.params)
            return dataclasses.replace(state, params=params)
        return None

    with pytest.raises(loop.Diverged, match=rf"step {bad}: loss=nan"):
        small.train(tmp_path, trained_by=with_step(spoil))
    assert saved_steps(tmp_path) == [2]
    expected = small.trainer().initial_state()
    for _ in range(2):
        expected, _ = small.trainer().step(expected, small.trainer().root)
    small.assert_same_bits(small.read_state(tmp_path, 2).params, jax.device_get(expected.params))
    assert max(row["step"] for row in read_metrics(tmp_path)) == bad - 1
    assert all(math.isfinite(row.get("loss", 0)) for row in read_metrics(tmp_path))


def test_best_checkpoint_is_kept_along_the_newest(tmp_path):
    distances = dict(enumerate([0.5, 0.2, 0.6, 0.4, 0.3, 0.7], start=1))
    config = small.small_config(train__eval_every=1, train__keep=2)
    trainer = small.trainer(config)
    trainer.evaluate = lambda state: {"distance": distances[int(state.step)]}
    assert small.train(tmp_path, config, trained_by=trainer)
    assert saved_steps(tmp_path) == [2, 5, 6]
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best_step == 2
        assert checkpoints.latest_step == 6


def start_from(workdir, init_from, **changes):
    """The state in which a run begins; nothing is trained."""
    found = []

    def look(_step, state):
        found.append(jax.device_get(state))
        raise Killed

    trainer = with_step(look)
    trainer.config = small.small_config(**changes)
    with pytest.raises(Killed):
        small.train(workdir, trainer.config, init_from, trained_by=trainer)
    return found[0]


@pytest.mark.parametrize(
    "changes",
    [{}, {"prior__radius": ((0.40, 0.42), (0.70, 0.72)), "seed": 3}],
    ids=["same prior", "narrower prior"],
)
def test_run_starts_from_the_best_averaged_parameters_of_another(tmp_path, changes):
    other = small.trained_run()
    with Checkpoints(other) as checkpoints:
        best = small.read_state(other, checkpoints.best_step)
    state = start_from(tmp_path, other, **changes)
    assert int(state.step) == 0
    for params in (state.params, state.ema_params):
        small.assert_same_bits(params, best.ema_params)
    for statistics in (state.batch_stats, state.ema_batch_stats):
        small.assert_same_bits(statistics, best.ema_batch_stats)
    # the ladder's radii belong to the parameters, so they are the other run's too
    small.assert_same_bits(state.constants, best.constants)
    fresh = jax.device_get(small.trainer().initial_state())
    small.assert_same_bits(state.opt_state, fresh.opt_state)


def test_run_that_has_begun_does_not_start_from_another_again(tmp_path):
    shutil.copytree(small.trained_run(), tmp_path / "run")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="run has checkpoints already; to go on from them leave"):
        small.train(tmp_path / "run", init_from=small.single_run())
    assert contents(tmp_path) == before


def test_same_command_goes_on_also_where_it_began_from_another_run(tmp_path):
    """A requeued job repeats its command, ``--init_from`` included."""
    other = small.trained_run()
    trainer = with_step(lambda step, _: os.kill(os.getpid(), signal.SIGTERM) if step == 3 else None)
    assert not small.train(tmp_path / "run", init_from=other, trained_by=trainer)
    assert small.train(tmp_path / "run", init_from=other)
    with pytest.raises(InputError, match="has checkpoints already"):
        small.train(tmp_path / "run", init_from=small.single_run())
    assert small.train(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed=0 in the run that is here, but 1 was asked for"),
        ({"prior__radius": (0.4, 0.5)}, "prior.radius="),
        ({"prior__electrons": (2000, 5000)}, "prior.electrons="),
        ({"synthesis__renderer": "poisson"}, "synthesis.renderer=electrons in the run"),
        ({"synthesis__exposure": (0.5, 1.0)}, "synthesis.exposure="),
        ({"loss__kind": "distance"}, "loss.kind=squared in the run"),
        ({"loss__shape_weight": 0.2}, "loss.shape_weight=0.1 in the run"),
        ({"train__batch": 8}, "train.batch=4 in the run"),
        ({"eval__pictures": 12}, "eval.pictures=8 in the run"),
        ({"eval__batch": 8}, "eval.batch=4 in the run"),
        ({"model__width": 8}, "model.width=4 in the run"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_run_of_another_problem_is_refused_with_the_way_out(tmp_path, changes, message):
    """Else its best checkpoint is the best of distances on different pictures."""
    shutil.copytree(small.trained_run(), tmp_path / "run")
    before = contents(tmp_path)
    config = small.small_config(**{"train__steps": 8} | changes)
    with pytest.raises(InputError) as error:
        small.train(tmp_path / "run", config)
    assert message in str(error.value)
    assert f"--config={tmp_path / 'run/config.json'}" in str(error.value)
    assert "--workdir=FOLDER" in str(error.value)
    assert contents(tmp_path) == before


def test_what_may_change_when_a_run_goes_on_is_said(tmp_path, capsys):
    shutil.copytree(small.trained_run(), tmp_path / "run")
    changes = {"train__steps": 8, "train__learning_rate": 2e-3, "train__eval_every": 4}
    assert small.train(tmp_path / "run", small.small_config(**changes))
    said = capsys.readouterr().out
    assert "going on from step 6 with train.steps=8 (was 6), " in said
    assert "train.learning_rate=0.002 (was 0.001), train.eval_every=4 (was 2)" in said
    assert loop.load_config(tmp_path / "run").train.steps == 8


def test_run_says_on_what_it_trains(tmp_path, capsys):
    assert small.train(tmp_path / "run", small.small_config(train__steps=1))
    said = capsys.readouterr().out
    assert f"{tmp_path / 'run'}: training on 1 x cpu in 1 process, 4 pictures a step, 4 on" in said


def test_held_out_distance_is_shown_when_there_is_one(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(loop.tqdm, "set_postfix_str", lambda _, text: shown.append(text))
    assert small.train(tmp_path / "run", small.small_config(train__steps=4))
    assert ["held-out" in text for text in shown] == [False, False, True, True]
    assert not any("nan" in text for text in shown)


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints"])
def test_folder_of_something_else_is_not_trained_in(tmp_path, name):
    path = tmp_path / name
    path.mkdir() if name == "checkpoints" else path.write_text("of another program\n")
    with pytest.raises(InputError, match=f"holds {name}, but no config.json of a run"):
        small.train(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


ORDERS = tuple((0.1, 0.2, 0.15, 0.1) for _ in range(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__width": 8}, "model.width=4 there, but 8 in this run"),
        ({"model__ladder": 9}, "model.ladder=8 there, but 9 in this run"),
        ({"image__size": 64}, "image.size=32 there, but 64 in this run"),
        ({"shells": 1}, "shells=2 there, but 1 in this run"),
        ({"prior__beta": ORDERS}, "12 orders of beta there, but 3 in this run"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_parameters_of_another_network_are_refused(tmp_path, changes, message):
    """Nothing is written."""
    config = small.small_config(**changes)
    with pytest.raises(InputError, match=message):
        loop.train(config, tmp_path / "new", init_from=small.trained_run())
    assert not (tmp_path / "new").exists()


def test_second_training_in_a_folder_is_refused_and_leaves_nothing(tmp_path):
    with locked(tmp_path, "", ""):
        with pytest.raises(InputError) as error:
            loop.train(small.small_config(), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    who = f"process {os.getpid()} on {socket.gethostname()}"
    assert str(error.value) == f"{tmp_path}: {who} trains here already"


def test_folder_without_a_run_is_refused_as_a_start(tmp_path):
    with pytest.raises(InputError, match=r"empty: no run here"):
        loop.train(small.small_config(), tmp_path / "new", init_from=tmp_path / "empty")
    unsaved = tmp_path / "unsaved"
    unsaved.mkdir()
    loop.save_config(unsaved, small.small_config())
    with pytest.raises(InputError, match=r"unsaved: no checkpoint here"):
        loop.train(small.small_config(), tmp_path / "new", init_from=unsaved)
    assert not (tmp_path / "new").exists()
    assert [path.name for path in unsaved.iterdir()] == ["config.json"]


def test_configuration_of_a_run_is_read_back_the_same():
    assert loop.load_config(small.trained_run()).to_json() == small.small_config().to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a configuration of this program"),
        ('{"trian": {}}', "not a configuration of this program .*trian"),
        ('{"shells": 3}', "shells=3 must be 1 or 2"),
    ],
)
def test_damaged_configuration_of_a_run_is_one_line(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        loop.load_config(tmp_path)
    assert "\n" not in str(error.value)


def test_the_step_compiled_ahead_is_the_one_that_a_run_takes():
    trainer = loop.Trainer(small.small_config())
    state = trainer.initial_state()
    compiled = []

    def listen(event, seconds, **more):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        trainer.compile_step()
        ahead = len(compiled)
        jax.block_until_ready(trainer.step(state, trainer.root))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert ahead >= 1
    assert len(compiled) == ahead
