"""Fits of pictures with known shells; efficiency and coverage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sevi_jax.network.network import Prediction
from sevi_jax.physics.types import ImageSpec, ShellParams
from sevi_jax.results.judged_fits import (
    JudgedFit,
    expected_distance,
    judge_fits,
    summarise_fits,
)
from sevi_jax.synthesis.pipeline import render_electrons
from sevi_jax.synthesis.prior import ShellPrior

IMAGE, PICTURES = ImageSpec(64, fold=True), 24
PRIOR = tuple(
    ShellPrior((0.3, 0.9), (0.008, 0.02), (20_000, 40_000), ((-0.2, 0.8, 0.3, 0.3),) * 1)
    for _ in range(2)
)


@pytest.fixture(scope="module")
def drawn():
    """Counts by the electrons renderer, truth; the first four look like one broad ring."""
    rng = np.random.default_rng(8)
    radius = rng.uniform([0.3, 0.65], [0.6, 0.9], (PICTURES, 2))
    sigma = rng.uniform(0.008, 0.02, (PICTURES, 2))
    radius[:4], sigma[:4] = (0.6, 0.62), 0.01
    truth = ShellParams(
        radius.astype(np.float32),
        sigma.astype(np.float32),
        rng.integers(20_000, 40_000, (PICTURES, 2)).astype(np.int32),
        rng.uniform(-0.2, 0.8, (PICTURES, 2, 1)).astype(np.float32),
    )
    draw = jax.jit(lambda key, p: render_electrons(key, p, IMAGE, 2**14))
    counts = [
        draw(jax.random.key(i), jax.tree.map(lambda x: jnp.asarray(x[i]), truth))  # noqa: B023
        for i in range(PICTURES)
    ]
    return np.array(counts), truth


@pytest.fixture(scope="module")
def fits(drawn):
    return judge_fits(drawn[0], IMAGE, drawn[1], 1, None)


def test_shells_are_found_in_the_picture_alone(drawn, fits):
    assert all(fit.converged for fit in fits), [fit.reason for fit in fits]
    off = np.array([fit.radius for fit in fits]) - drawn[1].radius
    # errors of R are 1e-4 to 3e-4; of shells 0.02 apart, 2e-3 to 4e-3
    assert np.abs(off[4:]).max() < 2e-3
    assert np.abs(off[:4]).max() < 0.015
    summary = summarise_fits(fits)
    assert summary["converged"] == 1
    # distance / bound of 24 pictures, each with a scatter of 0.55: +-0.35 is three standard errors
    assert summary["efficiency"]["mean"] == pytest.approx(1, abs=0.35)
    # 192 pulls, but the two yields of a picture are one number, and overlapping shells share their
    # errors: some 140 independent ones, 68.3 +- 3.9 %, four standard errors
    assert summary["coverage"]["pooled"]["68"] == pytest.approx(0.683, abs=0.16)
    assert set(summary["coverage"]) == {"pooled", "radius", "sigma", "electrons", "beta2"}


def test_start_of_a_network_ends_in_the_same_place(drawn, fits):
    counts, truth = drawn
    start = Prediction(truth.beta + 0.05, truth.radius - 0.002, truth.sigma * 1.1)
    other = judge_fits(counts, IMAGE, truth, 1, start)
    for one, two in zip(fits, other, strict=True):
        np.testing.assert_allclose(one.pulls, two.pulls, atol=0.1)


def test_prior_makes_estimates_better_on_average(drawn, fits):
    counts, truth = drawn
    believed = judge_fits(counts, IMAGE, truth, 1, None, PRIOR)
    assert np.mean([x.bound for x in believed]) < np.mean([x.bound for x in fits])


def test_expected_distance_is_the_mean_over_normal_errors():
    orders = (2, 4, 6)
    rng = np.random.default_rng(1)
    root = rng.normal(size=(3, 3)) * 0.01
    covariance = root @ root.T
    errors = rng.multivariate_normal(np.zeros(3), covariance, size=400_000)
    # int P_n^2 over [-1, 1] is 2 / (2 n + 1)
    distance = np.sqrt((errors**2 * 2 / np.array([5, 9, 13])).sum(1))
    limit = 5 * distance.std() / np.sqrt(len(distance))
    found = expected_distance(covariance, orders)
    assert found == pytest.approx(distance.mean(), abs=limit)
    # one order: sqrt(2 / pi) of its weighted standard deviation
    exact = np.sqrt(2 / np.pi) * 0.2 * np.sqrt(2 / 5)
    assert expected_distance(np.array([[0.04]]), (2,)) == pytest.approx(exact, rel=1e-6)
    assert expected_distance(np.zeros((1, 1)), (2,)) == 0


def test_summary_counts_only_what_converged():
    rng = np.random.default_rng(0)

    def some(converged, scale):
        return JudgedFit(
            beta=np.zeros((1, 1)),
            beta_error=np.ones((1, 1)),
            radius=np.ones(1),
            distance=2.0,
            bound=1.0,
            pulls=np.append(scale * rng.normal(size=3), np.nan),
            names=("radius_1", "sigma_1", "electrons_1", "beta2_1"),
            converged=converged,
            reason="converged" if converged else "stuck",
            deviance_per_dof=1.0,
            p_value=0.5,
        )

    found = summarise_fits([some(True, 1) for _ in range(500)] + [some(False, 100)] * 2)
    assert found["converged"] == pytest.approx(500 / 502)
    assert found["not_converged"] == {"stuck": 2}
    assert found["efficiency"]["mean"] == 2
    # 1500 numbers: 68.3 +- 1.2 %, four standard errors
    assert found["coverage"]["pooled"]["68"] == pytest.approx(0.683, abs=0.048)
    assert found["coverage"]["beta2"] == {}  # not known


def test_few_electrons_of_close_shells_are_parted():
    """On rings they show one shell and a few electrons of something else; halves are tried."""
    image = ImageSpec(128, fold=True)
    one = ShellParams(
        jnp.array([0.6, 0.62], jnp.float32),
        jnp.array([0.0075, 0.0082], jnp.float32),
        jnp.array([2200, 2300], jnp.int32),
        jnp.array([[0.5] + 11 * [0.0], [0.6] + 11 * [0.0]], jnp.float32),
    )
    counts = np.array(render_electrons(jax.random.key(34), one, image, 2**13))[None]
    truth = jax.tree.map(lambda x: np.asarray(x)[None], one)
    (fit,) = judge_fits(counts, image, truth, 12, None)
    assert fit.converged, fit.reason
    off = 64 * (fit.radius - one.radius)
    assert np.abs(off).max() < 1  # pixels; errors are some 0.2, the shells 1.3 apart
