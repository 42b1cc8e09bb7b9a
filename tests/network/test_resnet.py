"""The residual networks: their sizes, their types, their batch statistics."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sevi_jax.network.resnet import DEPTHS, ResNet

# torchvision's published numbers of parameters: 3 channels, 1000 classes.
_TORCHVISION = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160}


def _parameters_by_formula(depth, channels, outputs):
    """Weights of a convolution and the scale and shift after it, block by block."""

    def conv_and_norm(inputs, features, size):
        return inputs * features * size**2 + 2 * features

    counts = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
    expansion = 4 if depth >= 50 else 1
    total = conv_and_norm(channels, 64, 7)
    inputs = 64
    for features, count in zip((64, 128, 256, 512), counts, strict=True):
        for _ in range(count):
            if expansion == 1:
                total += conv_and_norm(inputs, features, 3) + conv_and_norm(features, features, 3)
            else:
                total += conv_and_norm(inputs, features, 1) + conv_and_norm(features, features, 3)
                total += conv_and_norm(features, 4 * features, 1)
            if inputs != expansion * features:
                total += conv_and_norm(inputs, expansion * features, 1)
            inputs = expansion * features
    return total + inputs * outputs + outputs


def _shapes(model, size=(64, 64)):
    images = jax.ShapeDtypeStruct((2, *size, 1), jnp.float32)
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)


@pytest.mark.parametrize("depth", DEPTHS)
def test_parameter_count_is_torchvisions(depth):
    assert _parameters_by_formula(depth, 3, 1000) == _TORCHVISION[depth]
    params = _shapes(ResNet(depth, outputs=24))["params"]
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == _parameters_by_formula(depth, 1, 24)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match=r"model\.depth=20 must be one of 18, 34, 50, 101"):
        _shapes(ResNet(20, outputs=24))
    with pytest.raises(ValueError, match=r"model\.stem=large must be one of imagenet, small"):
        _shapes(ResNet(18, outputs=24, stem="large"))


def _feature_maps(model, size):
    """Sizes of the maps the convolutions work on, in order."""
    sizes = []

    def record(lhs, rhs, *args, **kwargs):
        sizes.append(lhs.shape[1:3])
        return lax.conv_general_dilated(lhs, rhs, *args, **kwargs)

    _shapes(model.clone(conv=record), size)
    return sizes


def test_map_sizes_are_those_of_torchs_padding():
    sizes = _feature_maps(ResNet(18, outputs=24), (96, 13))
    assert list(dict.fromkeys(sizes)) == [(96, 13), (24, 4), (12, 2), (6, 1), (3, 1)]
    sizes = _feature_maps(ResNet(18, outputs=24, stem="small"), (32, 32))
    assert list(dict.fromkeys(sizes)) == [(32, 32), (16, 16), (8, 8), (4, 4)]


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_float32_at_the_edges_whatever_the_type_inside(depth, dtype, stem):
    model = ResNet(depth, outputs=5, dtype=dtype, stem=stem)
    variables = _shapes(model)
    images = jax.ShapeDtypeStruct((2, 9, 8, 1), jnp.float32)
    apply = partial(model.apply, train=True, mutable=["batch_stats"])
    found, updates = jax.eval_shape(apply, variables, images)
    assert found.shape == (2, 5)
    chex.assert_type([found, *jax.tree.leaves((variables, updates))], jnp.float32)
    chex.assert_trees_all_equal_shapes(updates["batch_stats"], variables["batch_stats"])


@pytest.fixture(scope="module")
def trained():
    """A narrow network, four pictures at levels of their own, and one training pass over them."""
    model = ResNet(18, outputs=3, width=4)
    levels = jnp.arange(4, dtype=jnp.float32).reshape(4, 1, 1, 1)
    images = levels + jax.random.normal(jax.random.key(1), (4, 32, 32, 1))
    # Unoptimised: its many random draws take long to compile and no time to run.
    options = {"xla_backend_optimization_level": 0}
    init = jax.jit(partial(model.init, train=False), compiler_options=options)
    variables = init(jax.random.key(0), images)
    apply = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    return model, variables, images, apply, apply(variables, images)


def test_initial_kernels_keep_the_variance_of_the_gradient(trained):
    kernel = trained[1]["params"]["stage4_block2"]["conv2"]["kernel"]
    assert kernel.shape == (3, 3, 32, 32)
    np.testing.assert_allclose(kernel.std(), (2 / (3 * 3 * 32)) ** 0.5, rtol=0.04)


def test_running_statistics_move_by_a_tenth(trained):
    _, variables, images, _, (output, updates) = trained
    chex.assert_tree_all_finite((output, updates))
    stem = lax.conv_general_dilated(
        images,
        variables["params"]["stem_conv"]["kernel"],
        (2, 2),
        ((3, 3), (3, 3)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    found = updates["batch_stats"]["stem_norm"]
    np.testing.assert_allclose(found["mean"], 0.1 * stem.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * stem.var((0, 1, 2)), rtol=1e-4)


def test_evaluation_uses_running_statistics_and_not_the_neighbours(trained):
    model, variables, images, _, (_, updates) = trained
    evaluate = jax.jit(partial(model.apply, train=False))
    found = evaluate(variables, images)
    np.testing.assert_allclose(evaluate(variables, images.at[1:].set(0.0))[0], found[0], rtol=1e-5)
    assert not np.allclose(evaluate({**variables, **updates}, images), found, rtol=1e-2)


def test_statistics_are_those_of_the_whole_batch_when_it_is_sharded(trained):
    _, variables, images, apply, expected = trained
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    replicated = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    chex.assert_trees_all_close(apply(replicated, sharded), expected, rtol=1e-3, atol=1e-4)
