import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special

from sevi_jax.physics import legendre

COSINES = np.concatenate([np.linspace(-1, 1, 401), [1e-9, -1e-4, 0.999999]])


@pytest.mark.parametrize("num_orders", [1, 2, 12])
def test_values_are_the_even_polynomials(num_orders):
    orders = 2 * np.arange(num_orders + 1)
    values = legendre.legendre_values(COSINES, num_orders)
    np.testing.assert_allclose(
        values, scipy.special.eval_legendre(orders, COSINES[:, None]), rtol=0, atol=1e-12
    )
    np.testing.assert_array_equal(legendre.even_orders(num_orders), orders[1:])


@pytest.mark.parametrize("num_orders", [1, 2, 12])
def test_series_is_the_float64_sum_to_rounding(num_orders):
    rng = np.random.default_rng(0)
    # Coefficients as large as 1 in all orders: wilder than any density.
    coefficients = rng.uniform(-1, 1, (num_orders + 1, 5)).astype(np.float32)
    square = (COSINES**2).astype(np.float32)
    series = jax.jit(legendre.legendre_series)(coefficients[:, :, None], square)
    assert series.dtype == jnp.float32
    polynomials = scipy.special.eval_legendre(
        2 * np.arange(num_orders + 1)[:, None], np.sqrt(square.astype(np.float64))
    )
    expected = coefficients.astype(np.float64).T @ polynomials
    scale = np.abs(coefficients).sum(0).max()
    np.testing.assert_allclose(np.asarray(series), expected, rtol=0, atol=5e-6 * scale)


def test_series_follows_the_pole_and_the_equator():
    # P_2l(1) = 1, and P_2l(0) = (-1)^l (2l)! / (4^l l!^2).
    coefficients = np.linspace(1, 2, 13).astype(np.float32)
    at_pole, at_equator = legendre.legendre_series(coefficients, np.array([1, 0], np.float32))
    signs = [(-1) ** i * scipy.special.comb(2 * i, i) / 4**i for i in range(13)]
    np.testing.assert_allclose(at_pole, coefficients.sum(), rtol=2e-5)
    np.testing.assert_allclose(at_equator, np.dot(coefficients, signs), rtol=0, atol=1e-5)


def test_integrals_are_those_of_quadrature():
    edges = np.array([-1, -0.7, -0.1, 0, 0.02, 0.5, 0.98, 1.0])
    integrals = legendre.legendre_integrals(edges, 12)
    for cell, (low, high) in enumerate(itertools.pairwise(edges)):
        for i in range(13):
            exact, _ = scipy.integrate.quad(
                lambda c, n=2 * i: scipy.special.eval_legendre(n, c), low, high, epsabs=1e-13
            )
            assert integrals[cell, i] == pytest.approx(exact, rel=0, abs=1e-11)


def test_constant_stands_before_beta():
    beta = jnp.asarray([[0.1, 0.2], [0.3, 0.4]], jnp.float32)
    np.testing.assert_array_equal(
        legendre.with_constant(beta), np.float32([[0.5, 0.1, 0.2], [0.5, 0.3, 0.4]])
    )


def squared_polynomial_beta(rng):
    """Beta of q(c)^2, q even of degree 12: touches zero wherever q has a root."""
    series = np.zeros(13)
    series[::2] = rng.normal(size=7) * 0.7 ** np.arange(7)
    square = np.polynomial.legendre.legmul(series, series)
    return (square / (2 * square[0]))[2::2]


def test_minimum_is_that_of_a_dense_grid():
    rng = np.random.default_rng(1)
    scale = 0.7 ** np.arange(12)
    betas = [rng.normal(size=12) * scale for _ in range(60)]
    betas += [squared_polynomial_beta(rng) for _ in range(30)]
    # one order alone, both signs: the minimum lies at the pole, at the equator or between
    betas += [sign * row for row in np.eye(12) * 0.3 for sign in (1, -1)]
    betas = np.array([np.zeros(12), *betas]).astype(np.float32)
    minimum = np.asarray(jax.jit(legendre.density_minimum)(betas))
    # Even steps in theta, where a density of degree 24 bends at most 24^2: 2e-6 of it at 20001.
    cosine = np.cos(np.linspace(0, np.pi / 2, 20_001))
    polynomials = scipy.special.eval_legendre(2 * np.arange(13)[:, None], cosine)
    coefficients = np.insert(betas.astype(np.float64), 0, 0.5, axis=1)
    exact = (coefficients @ polynomials).min(1)
    size = np.abs(coefficients).sum(1)
    assert (np.abs(minimum - exact) / size).max() < 3e-6


@pytest.mark.parametrize("num_orders", [1, 2])
def test_minimum_of_few_orders_has_a_closed_form(num_orders):
    # 1/2 + b P_2: 1/2 - b/2 at the equator for b > 0, 1/2 + b at the pole for b < 0.
    for b in (-0.6, -0.5, -0.2, 0.0, 0.7, 1.0, 1.3):
        beta = jnp.zeros(num_orders, jnp.float32).at[0].set(b)
        exact = 0.5 - b / 2 if b > 0 else 0.5 + b
        assert float(legendre.density_minimum(beta)) == pytest.approx(exact, abs=1e-6)
