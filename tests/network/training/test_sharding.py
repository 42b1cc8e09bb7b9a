"""One device or four: the same pictures, loss and predictions; checkpoints go from one to other."""

import distributed_run
import jax
import numpy as np
import pytest
import small

from sevi_jax.errors import InputError
from sevi_jax.network.training import loop, sharding
from sevi_jax.network.training.checkpoint import Checkpoints
from sevi_jax.network.training.sharding import copied, data_mesh

# The batch's means are summed in another order: float32 rounding through 20 layers.
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    with small.quick_compilation():
        yield


@pytest.fixture(scope="module")
def four():
    return loop.Trainer(small.small_config(mesh__devices=4))


@pytest.fixture(scope="module")
def stepped(four):
    """Metrics and state after the first step, on one and on four devices."""
    one = small.trainer()
    start = jax.device_get(one.initial_state())
    results = []
    for trainer in (one, four):
        state = jax.device_put(start, copied(trainer.mesh))
        results.append(trainer.step(state, trainer.root))
    return results


def test_first_step_is_the_same_on_one_and_four_devices(stepped):
    (one, one_metrics), (four, four_metrics) = jax.device_get(stepped)
    # drawn electron by electron, the pictures are the same: so are the attempts
    assert one_metrics["acceptance"] == four_metrics["acceptance"]
    for name in ("loss", "squared_loss", "shape_loss", "distance", "grad_norm"):
        np.testing.assert_allclose(one_metrics[name], four_metrics[name], **ROUNDING, err_msg=name)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, **ROUNDING), one.batch_stats, four.batch_stats
    )


def test_held_out_pictures_and_predictions_are_the_same_on_one_and_four_devices(four):
    one = small.trainer()
    variables = jax.device_get(one.initial_state().ema_variables)
    results = []
    for trainer in (one, four):
        placed = jax.device_put(variables, copied(trainer.mesh))
        results.append(jax.device_get(trainer._evaluation(placed, trainer.root, 0)))
    (one_pictures, one_pred), (four_pictures, four_pred) = results
    small.assert_same_bits(one_pictures, four_pictures)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **ROUNDING), one_pred, four_pred)


def test_state_lies_on_all_devices_of_the_mesh(stepped):
    for (state, _), number in zip(stepped, (1, 4), strict=True):
        assert all(len(leaf.sharding.device_set) == number for leaf in jax.tree.leaves(state))
        assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state))


def test_checkpoint_of_four_devices_goes_on_on_one_and_back(stepped, four, tmp_path):
    state = stepped[1][0]
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, None)
        checkpoints.wait()
        for mesh in (small.trainer().mesh, four.mesh):
            found = checkpoints.restore(1, small.abstract_state(), mesh)
            small.assert_same_bits(jax.device_get(found), jax.device_get(state))
            devices = {device for leaf in jax.tree.leaves(found) for device in leaf.devices()}
            assert devices == set(mesh.devices.flat)


def test_batch_that_does_not_divide_or_missing_devices_are_refused():
    with pytest.raises(InputError, match=r"train\.batch=6 must be a multiple of the 4 devices"):
        data_mesh(small.small_config(train__batch=6, mesh__devices=4))
    with pytest.raises(InputError, match=r"eval\.batch=2 must be a multiple of the 4 devices"):
        data_mesh(small.small_config(eval__batch=2, mesh__devices=0))
    with pytest.raises(InputError, match=r"mesh\.devices=5 must be at most 4"):
        data_mesh(small.small_config(train__batch=5, eval__batch=5, mesh__devices=5))


def largest_part(state):
    """Elements of the state that the fullest device holds."""
    held = {}
    for leaf in jax.tree.leaves(state):
        for shard in leaf.addressable_shards:
            held[shard.device] = held.get(shard.device, 0) + shard.data.size
    return max(held.values())


def test_arrays_are_split_along_the_longest_axis_that_divides(monkeypatch):
    monkeypatch.setattr(sharding, "SPLIT_FROM", 64)
    mesh = data_mesh(small.small_config(mesh__devices=4))
    shapes = {"a": (3, 8, 16), "b": (63,), "c": (64,), "d": (9, 11), "e": (16, 18)}
    tree = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    found = {name: tuple(lies.spec) for name, lies in sharding.split(mesh, tree).items()}
    assert found == {"a": (None, None, "data"), "b": (), "c": ("data",), "d": (), "e": ("data",)}


@distributed_run.smallest_network()
def test_split_state_takes_less_room_and_trains_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(sharding, "SPLIT_FROM", 64)
    results = {}
    for shard_params in (False, True):
        config = distributed_run.config(mesh__shard_params=shard_params, model__width=16)
        trainer = loop.Trainer(config)
        state = trainer.initial_state()
        for _ in range(2):
            state, metrics = trainer.step(state, trainer.root)
        results[shard_params] = state, jax.device_get(metrics)
    (whole, whole_metrics), (split, split_metrics) = results[False], results[True]
    assert largest_part(split) < 0.4 * largest_part(whole)
    for name in whole_metrics:
        np.testing.assert_allclose(split_metrics[name], whole_metrics[name], **ROUNDING)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4),
        jax.device_get(split.params),
        jax.device_get(whole.params),
    )
    # and a checkpoint of one goes on as the other
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, split, None)
        checkpoints.wait()
        for shard_params, like in ((False, whole), (True, split)):
            found = checkpoints.restore(2, trainer.abstract_state(), trainer.mesh, shard_params)
            small.assert_same_bits(jax.device_get(found), jax.device_get(split))
            for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(like), strict=True):
                assert x.sharding.is_equivalent_to(y.sharding, x.ndim)
