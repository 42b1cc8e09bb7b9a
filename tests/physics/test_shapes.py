import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from scipy.integrate import quad

from sevi_jax.physics import shapes

# R, sigma, tau of shells far from the centre, near it, and cut by it
NORMAL = [(50.0, 1.5, 0.0), (6.0, 4.0, 0.0), (3.0, 10.0, 0.0)]
SKEWED = [(50.0, 1.5, 2.0), (50.0, 1.5, -2.0), (50.0, 1.5, 0.05), (4.0, 3.0, 3.0), (4.0, 3.0, -3.0)]


def reference(shape, radius, sigma, tail):
    """The density by SciPy, cut at 0."""
    if shape == "normal":
        return scipy.stats.truncnorm(-radius / sigma, np.inf, radius, sigma).pdf
    whole = scipy.stats.exponnorm(abs(tail) / sigma, radius, sigma)
    if tail > 0:
        return lambda r: whole.pdf(r) / whole.sf(0.0)
    return lambda r: whole.pdf(2 * radius - r) / whole.cdf(2 * radius)


CASES = [("normal", *x) for x in NORMAL] + [("skewed", *x) for x in SKEWED]


@pytest.mark.parametrize(("shape", "radius", "sigma", "tail"), CASES)
def test_density_is_that_of_scipy(shape, radius, sigma, tail):
    low, high, _ = shapes.support(shape, jnp.array([radius, sigma, tail], jnp.float32))
    r = np.linspace(max(float(low), 1e-3), float(high), 300)
    computed = shapes.density(
        shape, jnp.asarray(r, jnp.float32), jnp.array([radius, sigma, tail], jnp.float32)
    )
    expected = reference(shape, radius, sigma, tail)(r)
    # float32 of r / sigma in the exponent of a thin shell
    np.testing.assert_allclose(np.asarray(computed), expected, atol=2e-5 * expected.max())


def test_support_leaves_out_few_electrons():
    for shape, radius, sigma, tail in CASES:
        low, high, _ = shapes.support(shape, jnp.array([radius, sigma, tail], jnp.float32))
        inside = quad(reference(shape, radius, sigma, tail), float(low), float(high), limit=400)[0]
        assert 1 - 1e-5 < inside < 1 + 1e-7


def test_scaled_erfc_is_that_of_scipy():
    x = np.linspace(0, 60, 400).astype(np.float32)
    computed = np.asarray(shapes.scaled_erfc(jnp.asarray(x)))
    np.testing.assert_allclose(computed, scipy.special.erfcx(x.astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("radius", [8.0, 40.0])
def test_blurred_density_is_the_convolution_in_space(radius):
    # for r >> b the radial part of the heat kernel of order 0 is r / r' N(r - r'; b)
    sigma, blur = 1.2, 0.6
    r = np.linspace(radius - 3, radius + 3, 25)
    expected = [
        x * quad(
            lambda y, x=x: scipy.stats.norm.pdf(y, radius, sigma)
            * scipy.stats.norm.pdf(x - y, 0, blur) / y,
            x - 6 * blur, x + 6 * blur,
        )[0]
        for x in r
    ]  # fmt: skip
    computed = shapes.blurred(
        "normal",
        jnp.asarray(r, jnp.float32),
        jnp.array([radius, sigma, 0.0], jnp.float32),
        jnp.float32(blur**2),
    )
    # third order in blur / r, and float32 of (r - R) / sigma
    bound = 3 * (blur / radius) ** 3 + 1e-4
    np.testing.assert_allclose(np.asarray(computed), expected, atol=bound * max(expected))
