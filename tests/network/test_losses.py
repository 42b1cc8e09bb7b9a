import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from sevi_jax.config import LOSSES
from sevi_jax.network import losses
from sevi_jax.physics.legendre import order_weights

NODES, WEIGHTS = np.polynomial.legendre.leggauss(60)


def density(beta):
    """1/2 + sum beta_2i P_2i at the Gauss nodes, float64: ``[..., L]`` to ``[..., 60]``."""
    beta = np.asarray(beta, np.float64)
    orders = 2 * np.arange(1, beta.shape[-1] + 1)
    return 0.5 + beta @ scipy.special.eval_legendre(orders[:, None], NODES)


def integral(pred, true):
    """Squared difference of the two densities, integrated over cos(theta)."""
    return ((density(pred) - density(true)) ** 2) @ WEIGHTS


def some_beta(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("predicted", "true"), [(12, 12), (12, 18), (12, 3), (1, 1)])
def test_squared_distance_and_metric_are_integrals(predicted, true):
    # 18 or 3 orders in the truth: those missing on one side count as 0
    pred, truth = some_beta(5, 2, predicted), some_beta(5, 2, true, seed=1)
    exact = integral(pred, truth)
    np.testing.assert_allclose(losses.squared_distances(pred, truth), exact, rtol=2e-6)
    metric = losses.distance(pred, truth)
    assert metric.shape == (5,)
    np.testing.assert_allclose(metric, np.sqrt(exact).sum(-1), rtol=2e-6)


def test_losses_are_means_over_the_batch_of_sums_over_shells():
    pred, truth = some_beta(7, 2, 12), some_beta(7, 2, 12, seed=1)
    exact = integral(pred, truth)
    squared = losses.beta_loss(pred, truth, "squared")
    assert squared.shape == ()
    np.testing.assert_allclose(squared, exact.sum(-1).mean(), rtol=2e-6)
    np.testing.assert_allclose(
        losses.beta_loss(pred, truth, "distance"), np.sqrt(exact).sum(-1).mean(), rtol=2e-6
    )


def test_order_weights_are_integrals_of_squares():
    polynomials = scipy.special.eval_legendre(2 * np.arange(1, 13)[:, None], NODES)
    np.testing.assert_allclose(order_weights(12), polynomials**2 @ WEIGHTS, rtol=1e-6)


def test_perfect_prediction_costs_nothing_and_has_a_finite_gradient():
    beta = jnp.asarray(some_beta(3, 2, 12))
    assert float(losses.beta_loss(beta, beta, "squared")) == 0
    # two shells, sqrt of the floor 1e-10 each
    assert float(losses.beta_loss(beta, beta, "distance")) < 3e-5
    np.testing.assert_array_equal(losses.distance(beta, beta), np.zeros(3))
    for kind in LOSSES:
        gradient = jax.grad(losses.beta_loss)(beta, beta, kind)
        np.testing.assert_array_equal(gradient, np.zeros((3, 2, 12)))


def test_gradient_of_the_distance_is_a_unit_step_per_picture():
    # d sqrt(w d^2) / d d = sqrt(w) sign(d) where one order alone differs, over B pictures.
    truth = some_beta(4, 1, 12)
    pred = truth.copy()
    pred[:, :, 2] += 0.1
    gradient = np.asarray(jax.grad(losses.beta_loss)(jnp.asarray(pred), truth, "distance"))
    expected = np.zeros((4, 1, 12))
    expected[:, :, 2] = np.sqrt(2 / 13) / 4
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize("num_orders", [1, 12])
def test_averaged_relative_error_of_equal_errors(num_orders):
    # An error of 0.07 in every parameter is 10 % of the typical beta, 0.7.
    truth = some_beta(6, 2, num_orders)
    loss = losses.beta_loss(truth + np.float32(0.07), truth, "squared")
    per_shell = loss / 2
    assert float(losses.averaged_relative_error(per_shell, num_orders)) == pytest.approx(
        0.1, rel=1e-4
    )
