"""The whole network: shapes of every option, what the input forgets, the read-out by hand."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from sevi_jax.network import network
from sevi_jax.network.network import ShellNetwork, constant_shapes, network_constants, shape_scales
from sevi_jax.network.training.specs import network_from

TINY = network_from(small.small_config())  # 2 shells, radial, ladder 8, readout, shape


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    with small.quick_compilation():
        yield


def spec(**changes):
    return dataclasses.replace(TINY, **changes)


def variable_shapes(of):
    """Parameters, statistics and constants, nothing computed."""
    counts = jax.ShapeDtypeStruct((1, of.image.side, of.image.side), jnp.float32)

    def init(key, constants, counts):
        model = ShellNetwork(of)
        _, made = model.apply(
            {"constants": constants},
            counts,
            train=False,
            rngs={"params": key},
            mutable=["params", "batch_stats"],
        )
        return dict(made)

    shapes = jax.eval_shape(init, jax.random.key(0), constant_shapes(of), counts)
    return shapes | {"constants": constant_shapes(of)}


def random_variables(of, seed=0):
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        values = rng.normal(0, 0.3, leaf.shape).astype(np.float32)
        return np.abs(values) + 1 if "var" in jax.tree_util.keystr(path) else values

    return jax.tree.map_with_path(fill, variable_shapes(of))


OPTIONS = [
    (input, head, shape, shells, dtype)
    for (input, head), shape, shells, dtype in itertools.product(
        [("counts", "linear"), ("sqrt", "linear"), ("radial", "linear"), ("radial", "readout")],
        [False, True],
        [1, 2],
        ["float32", "bfloat16"],
    )
]


@pytest.mark.parametrize(("input", "head", "shape", "shells", "dtype"), OPTIONS)
def test_prediction_has_a_number_for_every_shell_and_order(input, head, shape, shells, dtype):
    of = spec(input=input, head=head, shape=shape, prior=TINY.prior[:shells], dtype=dtype)
    counts = jax.ShapeDtypeStruct((3, 16, 16), jnp.int32)
    apply = functools.partial(ShellNetwork(of).apply, train=False)
    found = jax.eval_shape(apply, variable_shapes(of), counts)
    assert found.beta.shape == (3, shells, 12)
    assert found.beta.dtype == jnp.float32
    if shape:
        assert found.radius.shape == found.sigma.shape == (3, shells)
        assert found.radius.dtype == found.sigma.dtype == jnp.float32
    else:
        assert found.radius is None
        assert found.sigma is None


def test_last_layer_has_as_many_numbers_as_the_heads_take():
    def outputs(**changes):
        params = variable_shapes(spec(**changes))["params"]
        return params["resnet"]["head"]["bias"].shape[0]

    assert outputs(input="sqrt", head="linear", shape=False) == 24
    assert outputs(input="sqrt", head="linear", shape=True) == 24 + 4
    # weights over 8 rungs for each of 2 shells, gain and shift of each beta
    assert outputs(shape=False) == 2 * 8 + 24 + 24
    assert outputs(shape=False, exposures=(1.0, 0.01)) == 2 * 16 + 24 + 24


@pytest.mark.parametrize("changes", [{}, {"exposures": (1.0, 0.01)}, {"head": "linear"},
                                     {"input": "sqrt", "head": "linear", "shape": False}],
                         ids=str)  # fmt: skip
def test_constants_have_the_shapes_that_are_promised(monkeypatch, changes):
    # The matrix itself takes seconds; `tests/network/test_radial.py` looks at it.
    asked = []

    def matrix(image, prior, ladder, exposure):
        asked.append(exposure)
        return np.full((ladder * 13, image.side**2), exposure, np.float32)

    monkeypatch.setattr(network, "radial_matrix", matrix)
    monkeypatch.setattr(network, "beta_moments", lambda prior: np.ones((2, 2, 12), np.float32))
    of = spec(**changes)
    made = network_constants(of)
    shapes = constant_shapes(of)
    assert {name: (x.shape, x.dtype) for name, x in made.items()} == {
        name: (x.shape, x.dtype) for name, x in shapes.items()
    }
    if of.input == "radial":
        assert made["radial"].shape == (len(of.exposures), 8 * 13, 256)
        assert asked == list(of.exposures)
        assert made["radial"][:, 0, 0].tolist() == pytest.approx(of.exposures)


def test_shape_scales_are_moments_of_uniform_numbers():
    radius, sigma = shape_scales(TINY.prior)
    np.testing.assert_allclose(radius, [[0.6, 0.6], [0.6 / 12**0.5] * 2], rtol=1e-6)
    np.testing.assert_allclose(sigma, [[0.007, 0.007], [0.004 / 12**0.5] * 2], rtol=1e-5)
    fixed = dataclasses.replace(TINY.prior[0], radius=(0.5, 0.5))
    radius, _ = shape_scales((fixed,))
    assert radius.ravel().tolist() == [0.5, 1.0]


@pytest.mark.parametrize("input", ["counts", "sqrt"])
def test_input_is_the_picture_in_units_of_its_mean(input):
    model = ShellNetwork(spec(input=input, head="linear", shape=False)).bind({})
    counts = np.random.default_rng(1).poisson(3.0, (2, 16, 16))
    expected = counts / counts.mean(axis=(1, 2), keepdims=True)
    expected = np.sqrt(expected) if input == "sqrt" else expected
    for factor in (1, 2, 1000):
        found = np.asarray(model._features(jnp.asarray(counts * factor)))
        assert found.shape == (2, 16, 16, 1)
        np.testing.assert_allclose(found[..., 0], expected, rtol=1e-5)
    # and a picture without counts is no division by zero
    assert not np.asarray(model._features(jnp.zeros((1, 16, 16), jnp.int32))).any()


def test_twice_the_counts_give_the_same_prediction():
    of = spec(input="sqrt", head="linear", shape=True)
    variables = random_variables(of)
    apply = jax.jit(functools.partial(ShellNetwork(of).apply, train=False))
    counts = np.random.default_rng(2).poisson(3.0, (2, 16, 16)).astype(np.int32)
    once, twice = (apply(variables, counts * factor) for factor in (1, 2))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), once, twice)
    other = apply(variables, counts[::-1].copy())
    assert not np.allclose(other.beta, once.beta, rtol=1e-3)


def test_radial_input_is_the_matrix_times_the_picture_and_its_strength():
    of = spec(exposures=(1.0, 0.01))
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(2, 8 * 13, 256)).astype(np.float32)
    counts = rng.poisson(5.0, (3, 16, 16)).astype(np.int32)
    model = ShellNetwork(of).bind({"constants": {"radial": matrix}})
    found = np.asarray(model._features(jnp.asarray(counts)))
    assert found.shape == (3, 8, 1, 2 * 13 + 1)
    share = counts / counts.sum(axis=(1, 2), keepdims=True)
    for e, rung, order in itertools.product(range(2), range(8), range(13)):
        row = matrix[e, rung * 13 + order].reshape(16, 16).astype(float)
        expected = (share * row).sum(axis=(1, 2))
        channel = found[:, rung, 0, e * 13 + order]
        np.testing.assert_allclose(channel, expected, rtol=1e-4, atol=1e-6)
    strength = np.log10(counts.sum(axis=(1, 2))) - 5
    np.testing.assert_allclose(
        found[..., -1], np.tile(strength[:, None, None], (1, 8, 1)), rtol=1e-5
    )


def ladder_model(exposures=(1.0,)):
    """The read-out alone, with made-up constants; returns the model, rms and ladder."""
    rms = np.random.default_rng(4).uniform(0.1, 1.0, (2, 12)).astype(np.float32)
    ladder = np.linspace(0.3, 0.9, 8, dtype=np.float32)
    model = ShellNetwork(spec(exposures=exposures))
    return model.bind({"constants": {"beta_rms": rms, "ladder": ladder}}), rms, ladder


def test_read_out_of_one_rung_is_its_coefficient_over_its_yield():
    model, rms, ladder = ladder_model()
    rng = np.random.default_rng(5)
    features = rng.normal(size=(2, 8, 1, 14)).astype(np.float32)
    features[..., 0] = rng.uniform(0.5, 1.5, (2, 8, 1))  # yields
    rungs = np.array([[1, 6], [3, 4]])  # of each picture and shell
    weights = np.zeros((2, 2, 8), np.float32)
    np.put_along_axis(weights, rungs[..., None], 1, axis=2)
    zero = np.zeros((2, 2, 12), np.float32)
    beta, radius = model._read_out(*map(jnp.asarray, (features, weights, zero, zero)))
    for picture, shell in itertools.product(range(2), range(2)):
        row = features[picture, rungs[picture, shell], 0].astype(float)
        expected = rms[shell] * row[1:13] / row[0]
        np.testing.assert_allclose(beta[picture, shell], expected, rtol=1e-5)
        assert radius[picture, shell] == pytest.approx(ladder[rungs[picture, shell]], rel=1e-5)

    # a gain is a factor, a shift a number in units of the order's rms
    gain, shift = rng.normal(size=(2, *zero.shape)).astype(np.float32)
    corrected, _ = model._read_out(*map(jnp.asarray, (features, weights, gain, shift)))
    expected = np.asarray(beta) * (1 + 0.3 * gain) + 0.1 * rms * shift
    np.testing.assert_allclose(corrected, expected, rtol=1e-4, atol=1e-5)


def test_read_out_of_several_rungs_weighs_them_by_yield():
    model, rms, ladder = ladder_model(exposures=(1.0, 0.01))
    rng = np.random.default_rng(6)
    # two noise levels: 13 channels each, then the strength
    features = rng.uniform(0.2, 1.0, (1, 8, 1, 27)).astype(np.float32)
    weights = rng.dirichlet(np.ones(16), (1, 2)).astype(np.float32)
    zero = np.zeros((1, 2, 12), np.float32)
    beta, radius = model._read_out(*map(jnp.asarray, (features, weights, zero, zero)))
    for shell in range(2):
        total, moment, sums = 0.0, 0.0, np.zeros(12)
        for level, rung in itertools.product(range(2), range(8)):
            weight = float(weights[0, shell, 8 * level + rung])
            channels = features[0, rung, 0, 13 * level : 13 * level + 13].astype(float)
            total += weight * channels[0]
            moment += weight * channels[0] * ladder[rung]
            sums += weight * channels[1:]
        np.testing.assert_allclose(beta[0, shell], rms[shell] * sums / total, rtol=1e-4)
        assert radius[0, shell] == pytest.approx(moment / total, rel=1e-4)


def test_read_out_where_the_weights_find_no_electrons_stays_finite_and_on_the_ladder():
    model, _, ladder = ladder_model()
    features = np.full((1, 8, 1, 14), -1.0, np.float32)
    weights = np.full((1, 2, 8), 1 / 8, np.float32)
    zero = np.zeros((1, 2, 12), np.float32)
    beta, radius = model._read_out(*map(jnp.asarray, (features, weights, zero, zero)))
    assert np.isfinite(beta).all()
    assert ((radius >= ladder[0]) & (radius <= ladder[-1])).all()
