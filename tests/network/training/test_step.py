"""BatchNorm's statistics, losses and held-out numbers in NumPy; which pictures are drawn."""

import jax
import numpy as np
import pytest
import small

from sevi_jax.network.network import ShellNetwork
from sevi_jax.prng import stream_key
from sevi_jax.synthesis.pipeline import draw_pictures


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    with small.quick_compilation():
        yield


@pytest.fixture(scope="module")
def draw():
    """Pictures of a stream, as NumPy arrays."""
    trainer = small.trainer()
    drawn = jax.jit(lambda key: draw_pictures(key, 4, trainer.synthesis, trainer.mesh))
    return lambda stream, index: jax.device_get(drawn(stream_key(trainer.root, stream, index)))


def two_steps():
    trainer = small.trainer()
    state = trainer.initial_state()
    for _ in range(2):
        state, _ = trainer.step(state, trainer.root)
    return trainer, state


def column_convolution(features, kernel):
    """A 3-tap convolution along a map of one column, zeros beyond its ends: float64, by hand."""
    padded = np.pad(features[:, :, 0, :].astype(float), ((0, 0), (1, 1), (0, 0)))
    taps = kernel[:, 0].astype(float)  # [3, in, out]
    length = features.shape[1]
    return sum(padded[:, i : i + length] @ taps[i] for i in range(3))


def test_statistics_are_the_mean_over_batches_of_the_averaged_parameters(draw):
    trainer, state = two_steps()
    params = jax.device_get(state.ema_params)
    constants = jax.device_get(state.constants)
    model = ShellNetwork(trainer.network).bind({"constants": constants})
    means, variances = [], []
    for index in range(2):
        features = np.asarray(model._features(draw("statistics", index).counts))
        out = column_convolution(features, params["resnet"]["stem_conv"]["kernel"])
        means.append(out.mean(axis=(0, 1)))
        variances.append(out.var(axis=(0, 1)))
    stale = jax.device_get(state.ema_batch_stats)
    state = trainer.with_statistics(state)
    found = jax.device_get(state.ema_batch_stats)["resnet"]["stem_norm"]
    # float32 sums over 32 numbers, and a variance as a difference of two such
    np.testing.assert_allclose(found["mean"], np.mean(means, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["var"], np.mean(variances, 0), rtol=1e-4, atol=1e-5)
    assert not np.allclose(stale["resnet"]["stem_norm"]["mean"], found["mean"], rtol=1e-2)
    # made afresh, not carried on
    first = jax.device_get(state.ema_batch_stats)
    small.assert_same_bits(jax.device_get(trainer.with_statistics(state).ema_batch_stats), first)


def test_only_the_statistics_of_the_average_are_made_afresh():
    trainer, state = two_steps()
    before = jax.device_get(state)
    after = jax.device_get(trainer.with_statistics(state))
    for name in ("params", "batch_stats", "ema_params", "opt_state", "constants", "step"):
        small.assert_same_bits(getattr(before, name), getattr(after, name))


def test_held_out_numbers_are_those_of_the_predictions():
    trainer, state = two_steps()
    seen = []
    evaluation = trainer._evaluation

    def look(variables, root, index):
        result = evaluation(variables, root, index)
        seen.append(jax.device_get(result))
        return result

    trainer._evaluation = look
    found = trainer.evaluate(state)
    assert len(seen) == 2  # 8 pictures in batches of 4
    true = np.concatenate([pictures.params.beta for pictures, _ in seen]).astype(float)
    pred = np.concatenate([prediction.beta for _, prediction in seen]).astype(float)
    weights = 2 / (4 * np.arange(1, 13) + 1)
    squared = (weights * (pred - true) ** 2).sum(-1)  # [pictures, shells]
    distance = np.sqrt(squared).sum(-1)
    radius_true = np.concatenate([pictures.params.radius for pictures, _ in seen])
    radius_pred = np.concatenate([prediction.radius for _, prediction in seen])
    per_parameter = np.sqrt(squared.mean() / weights.sum())
    expected = {
        "distance": distance.mean(),
        "distance_median": np.median(distance),
        "squared_loss": squared.sum(-1).mean(),
        "averaged_relative_error": per_parameter / 0.7,
        "radius_mae": np.abs(radius_pred - radius_true).mean(),
    }
    assert found == pytest.approx(expected, rel=1e-5)

    # the same pictures for other parameters, none of them twice
    first = [pictures.params for pictures, _ in seen]
    seen.clear()
    trainer.evaluate(trainer.step(state, trainer.root)[0])
    small.assert_same_bits(first, [pictures.params for pictures, _ in seen])
    assert len(np.unique(radius_true)) == radius_true.size


def test_last_batch_is_cut_to_the_number_of_pictures():
    _, state = two_steps()
    trainer = small.trainer(small.small_config(eval__pictures=5))
    whole = small.trainer()
    kept = [jax.device_get(whole._evaluation(state.ema_variables, whole.root, i)) for i in range(2)]
    true = np.concatenate([pictures.params.radius for pictures, _ in kept])[:5]
    pred = np.concatenate([prediction.radius for _, prediction in kept])[:5]
    expected = np.abs(true - pred).mean()
    assert trainer.evaluate(state)["radius_mae"] == pytest.approx(expected, rel=1e-5)


def test_streams_and_steps_draw_different_pictures(draw):
    batches = [
        draw(stream, i) for stream in ("train", "eval", "statistics", "test") for i in (0, 1)
    ]
    radii = np.concatenate([batch.params.radius.ravel() for batch in batches])
    assert len(np.unique(radii)) == radii.size
    # and the held-out ones are those of the stream "eval"
    trainer, state = two_steps()
    pictures, _ = trainer._evaluation(state.ema_variables, trainer.root, 1)
    np.testing.assert_allclose(pictures.params.radius, batches[3].params.radius, rtol=1e-6)
    assert pictures.counts is None


def test_loss_of_a_step_is_that_of_its_pictures_before_the_update(draw):
    """The first step's loss, from a plain forward pass on the pictures of its stream."""
    trainer = small.trainer()
    state = jax.device_get(trainer.initial_state())
    pictures = draw("train", 0)
    model = ShellNetwork(trainer.network)
    variables = {
        "params": state.params,
        "batch_stats": state.batch_stats,
        "constants": state.constants,
    }
    forward = jax.jit(lambda v, c: model.apply(v, c, train=True, mutable=["batch_stats"])[0])
    prediction = jax.device_get(forward(variables, pictures.counts))
    weights = 2 / (4 * np.arange(1, 13) + 1)
    difference = prediction.beta.astype(float) - pictures.params.beta
    squared = (weights * difference**2).sum(-1).sum(-1).mean()
    # standard deviations of uniform numbers in the prior's ranges
    shape = (((prediction.radius - pictures.params.radius) / (0.6 / 12**0.5)) ** 2).mean()
    shape += (((prediction.sigma - pictures.params.sigma) / (0.004 / 12**0.5)) ** 2).mean()
    _, metrics = trainer.step(trainer.initial_state(), trainer.root)
    assert float(metrics["squared_loss"]) == pytest.approx(squared, rel=1e-4)
    assert float(metrics["shape_loss"]) == pytest.approx(shape, rel=1e-4)
    assert float(metrics["loss"]) == pytest.approx(squared + 0.1 * shape, rel=1e-4)
    assert 0 < float(metrics["acceptance"]) <= 1
