"""The means of the model against quadrature in float64, its derivatives against differences."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import reference_mean
import scipy.special

from sevi_jax.model import means
from sevi_jax.model.components import Shell, modes_of
from sevi_jax.model.means import Layout
from sevi_jax.model.picture_model import Data, Model, PictureModel, Values
from sevi_jax.synthesis.spectrometer import Truth, simulate

SHAPE = (64, 56)


def parts(shells, shape="normal", **conditions):
    """Truth, model and values of a picture."""
    truth = simulate(shells, SHAPE, seed=1, **conditions).truth
    assert isinstance(truth, Truth)
    components, values = [], []
    for shell in truth.shells:
        orders = tuple(sorted(shell.beta)) or (2,)
        components.append(Shell(orders, shape))
        lengths = [shell.radius, shell.sigma, shell.tail][: components[-1].lengths]
        betas = [1.0, *(shell.beta.get(n, 0.0) for n in orders)]
        values.append(np.array([*lengths, *(shell.electrons * np.array(betas))]))
    origin = np.subtract(truth.origin, np.array(SHAPE) / 2)
    geometry = np.array(
        [*origin, np.radians(truth.angle), *truth.ellipse, *truth.third, *truth.fourth]
    )
    return truth, tuple(components), Values(tuple(values), geometry)


def ring(radius=18.0, sigma=1.3, **more):
    return {"radius": radius, "sigma": sigma, "electrons": 1e5, "beta": {2: 1.1}} | more


CASES = {
    "round": ([ring(), ring(9.0, 1.6, beta={2: -0.4, 4: 0.3})], "normal", {}),
    "turned": ([ring()], "normal", {"angle": 25.0, "origin": (30.3, 29.1)}),
    "ellipse": ([ring()], "normal", {"ellipse": (0.02, -0.015)}),
    "bent": ([ring()], "normal", {"third": (0.01, 0.004), "fourth": (-0.008, 0.005)}),
    "odd": ([ring(beta={1: 0.3, 2: -0.4, 3: -0.1})], "normal", {}),
    "skewed": ([ring(tail=1.5)], "skewed", {}),
    "slow": ([ring(4.0, 6.0)], "normal", {"origin": (31.7, 28.2)}),
    "narrow": ([ring(sigma=0.6)], "normal", {"origin": (31.2, 28.4)}),
    "thin": ([ring(sigma=0.3), ring(9.0, 0.5)], "normal", {"origin": (31.2, 28.4)}),
    "thin and slow": ([ring(sigma=0.4), ring(2.0, 3.0)], "normal", {"origin": (31.7, 28.2)}),
    "corner": ([ring(1.5, 5.0)], "normal", {"origin": (32.0, 28.0)}),
}


@pytest.mark.parametrize("case", [case for case in CASES if case != "thin and slow"])
def test_means_are_those_of_quadrature(case):
    shells, shape, conditions = CASES[case]
    truth, components, values = parts(shells, shape, **conditions)
    data = Data(np.zeros(SHAPE), np.ones(SHAPE))
    model = Model(components, Layout(modes_of(components)))
    computed = PictureModel(data, model, values).mean(values)
    expected = reference_mean.mean(truth, nodes=8 if case == "thin" else 3)
    # a normal blur in place of the pixel's square: 3 / 2880 (w / sigma)^4 of the peak at most
    few = {"slow": 3e-4, "corner": 3e-4, "narrow": 1e-4, "thin": 1e-3}
    bound = few.get(case, 1.2e-3)
    # the bend has no value at the origin itself: the pixels there are as good as their middles
    rows, columns = np.indices(SHAPE) + 0.5
    away = np.hypot(rows - truth.origin[0], columns - truth.origin[1])
    compared = away > (2.0 if case == "bent" else 0.0)
    assert np.abs(computed - expected)[compared].max() < bound * expected.max()
    assert abs(computed.sum() / expected.sum() - 1) < 1e-4


@pytest.mark.parametrize("case", ["bent", "skewed", "slow", "narrow", "thin and slow"])
def test_score_and_information_are_those_of_the_means(case):
    shells, shape, conditions = CASES[case]
    picture = simulate(shells, SHAPE, seed=5, background=0.3, **conditions)
    _, components, values = parts(shells, shape, **conditions)
    layout = Layout(modes_of(components), tuple(range(9)), 15, True)
    model = Model(components, layout)
    exposure = np.ones(SHAPE)
    exposure[:10, :7] = 0.0
    background = np.append(0.3, 0.02 * np.sin(np.arange(1, 15)))
    values = dataclasses.replace(
        values, background=background, efficiency=np.linspace(-0.02, 0.02, 14)
    )
    fitted = PictureModel(Data(picture.counts * exposure, exposure), model, values)
    found = fitted.evaluate(values)
    vector = values.vector(model)
    scale = 1 / np.sqrt(np.diagonal(found.information))
    mean = fitted.mean(values)
    used = np.isfinite(mean)
    columns = []
    for index in range(len(vector)):
        moved = []
        for sign in (1, -1):
            step = np.zeros(len(vector))
            step[index] = sign * 0.7 * scale[index]
            moved.append(fitted.mean(values.with_vector(vector + step, model))[used])
        columns.append((moved[0] - moved[1]) / 1.4)
    jacobian = np.stack(columns, axis=1)  # in units of errors
    counts, held = picture.counts[used], mean[used]
    score = jacobian.T @ ((counts - held) / held)
    # differences of float32 means, a thousandth of an error each
    np.testing.assert_allclose(found.score * scale, score, atol=0.03)
    information = jacobian.T @ (jacobian / held[:, None])
    computed = found.information * np.outer(scale, scale)
    np.testing.assert_allclose(computed, information, atol=0.02)


def test_information_on_yields_is_that_of_numbers_of_electrons():
    # narrow: where pixels have one node, information is that at the middles of cells
    shells, shape, conditions = CASES["narrow"]
    _, components, values = parts(shells, shape, **conditions)
    model = Model(components, Layout(modes_of(components)))
    fitted = PictureModel(Data(np.ones(SHAPE), np.ones(SHAPE)), model, values)
    information = fitted.evaluate(values).information
    # means are linear in the amplitudes a: J a is the mean, and I a the sum of J over all pixels,
    # which is 1 for numbers of electrons; the others move electrons but make none
    amplitudes = values.vector(model)
    numbers = np.zeros(model.size)
    for shell, first in zip(components, model.starts, strict=False):
        amplitudes[first : first + shell.lengths] = 0.0
        numbers[first + shell.lengths] = 1.0
    found = information @ amplitudes
    total = sum(values.shells[i][shell.lengths] for i, shell in enumerate(components))
    scale = np.sqrt(np.diagonal(information) * total)
    np.testing.assert_allclose(found[numbers == 1], 1, rtol=3e-4)
    np.testing.assert_allclose((found / scale)[numbers == 0], 0, atol=1e-3)


def test_half_deviance_is_that_of_scipy():
    mean = np.array([0.02, 0.7, 3.0, 40.0, 2000.0])[:, None]
    counts = np.array([0.0, 1.0, 3.0, 45.0, 2010.0, 2500.0])
    exact = scipy.special.xlogy(counts, counts / mean) - counts + mean
    computed = means.half_deviance(jnp.asarray(mean, jnp.float32), jnp.asarray(counts, jnp.float32))
    np.testing.assert_allclose(np.asarray(computed), exact, rtol=2e-5, atol=1e-6)
