"""A run loaded from its folder predicts as its network does; damaged folders are refused."""

import functools
import json
import re
import shutil

import jax
import numpy as np
import pytest
import small

from sevi_jax.errors import InputError
from sevi_jax.network.network import ShellNetwork
from sevi_jax.network.run import load_run
from sevi_jax.network.training.checkpoint import Checkpoints
from sevi_jax.network.training.metrics import read_metrics

ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    with small.quick_compilation():
        yield


@functools.cache
def run():
    return load_run(small.trained_run())


def pictures(number, seed=0):
    return np.random.default_rng(seed).poisson(4.0, (number, 32, 32)).astype(np.uint32)


def test_best_checkpoint_with_its_averaged_parameters_is_loaded():
    with Checkpoints(small.trained_run()) as checkpoints:
        best = checkpoints.best_step
    distances = {
        row["step"]: row["distance"]
        for row in read_metrics(small.trained_run())
        if row["kind"] == "eval"
    }
    assert run().step == best == min(distances, key=distances.get)
    expected = small.read_state(small.trained_run(), best).ema_variables
    small.assert_same_bits(jax.device_get(run().variables), expected)


def test_run_is_loaded_on_as_many_devices_as_divide_its_held_out_batch(tmp_path):
    """However many trained it; there are four here."""
    shutil.copytree(small.trained_run(), tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["mesh"]["devices"] = 4096
    for batch, devices in ((4, 4), (6, 3), (5, 1)):
        config["eval"]["batch"] = batch
        (tmp_path / "run/config.json").write_text(json.dumps(config))
        assert load_run(tmp_path / "run").mesh.size == devices


def test_prediction_is_the_networks_on_counts_folded_by_hand():
    counts = pictures(3)
    quadrants = [counts[:, 16:, 16:], counts[:, 15::-1, 16:], counts[:, 16:, 15::-1]]
    folded = sum(quadrants) + counts[:, 15::-1, 15::-1]
    assert folded.sum() == counts.sum()
    apply = jax.jit(functools.partial(ShellNetwork(run().network).apply, train=False))
    expected = apply(run().variables, folded.astype(np.int32))
    order = np.argsort(expected.radius, axis=1)  # inner shell first
    expected = jax.tree.map(
        lambda x: np.stack([row[places] for row, places in zip(x, order, strict=True)]),
        jax.device_get(expected),
    )
    found = run().predict(counts)
    assert isinstance(found.beta, np.ndarray)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **ROUNDING), found, expected)


def test_pictures_do_not_depend_on_the_batch_they_come_in():
    counts = pictures(70)  # 64 and 6, filled up to 64
    whole = run().predict(counts)
    assert whole.beta.shape == (70, 2, 12)
    for place in (0, 63, 64, 69):
        alone = run().predict(counts[place : place + 1])
        part = jax.tree.map(lambda x, i=place: x[i : i + 1], whole)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **ROUNDING), part, alone)


def test_mirror_images_are_the_same_to_a_folded_network():
    counts = pictures(2)
    first, mirrored = run().predict(counts), run().predict(counts[:, ::-1, ::-1])
    small.assert_same_bits(first, mirrored)
    turned = run().predict(counts.transpose(0, 2, 1))
    assert not np.allclose(first.beta, turned.beta, rtol=1e-3)


def test_held_out_pictures_are_fresh_ones_and_weaker_with_less_exposure():
    drawn, prediction = run().held_out(6)
    assert drawn.counts is None
    assert prediction.beta.shape == drawn.params.beta.shape == (6, 2, 12)
    assert (drawn.params.radius[:, 0] < drawn.params.radius[:, 1]).all()
    assert drawn.params.electrons.min() >= 2000
    trainer, variables = small.trainer(), jax.device_get(run().variables)
    selected = [
        trainer._evaluation(variables, trainer.root, index)[0].params.radius for index in range(2)
    ]
    radii = np.concatenate([drawn.params.radius.ravel(), *(np.ravel(x) for x in selected)])
    assert len(np.unique(radii)) == radii.size
    # with less exposure the same shells, drawn again
    weak = run().held_out(4, exposure=0.25)[0].params
    np.testing.assert_allclose(weak.electrons, 0.25 * drawn.params.electrons[:4], atol=1)
    small.assert_same_bits(weak.beta, drawn.params.beta[:4])


def test_folder_without_run_or_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no run here \(there is no config\.json\)"):
        load_run(tmp_path)
    shutil.copy(small.trained_run() / "config.json", tmp_path)
    with pytest.raises(InputError, match="no checkpoint here"):
        load_run(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="no checkpoint here yet"):
        load_run(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("width", 8), ("depth", 34), ("shape", False)])
def test_checkpoint_of_another_network_is_refused_in_one_line(tmp_path, key, value):
    shutil.copytree(small.trained_run(), tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["model"][key] = value
    config["loss"]["shape_weight"] = 0.0
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="not a checkpoint of the network in this run's") as error:
        load_run(tmp_path / "run")
    assert str(error.value).startswith(str(tmp_path / "run/checkpoints"))
    assert re.search(r"\(\S+: found .*, expected .*\)$", str(error.value))
    assert "\n" not in str(error.value)


def test_damaged_checkpoint_is_refused_in_one_line(tmp_path):
    shutil.copytree(small.trained_run(), tmp_path / "run")
    for step in (tmp_path / "run/checkpoints").iterdir():
        for path in (step / "network").rglob("*"):
            if path.is_file():
                path.write_bytes(b"")
    with pytest.raises(InputError) as error:
        load_run(tmp_path / "run")
    assert "\n" not in str(error.value)
