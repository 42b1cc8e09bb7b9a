import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_mean

from sevi_jax.physics import series
from sevi_jax.synthesis.spectrometer import TrueShell

ORDERS = (0, 1, 2, 3, 12, 24)
POINTS = 700


def on_grid(shape, radius, sigma, tail, orders, step, variance=0.0):
    modes = series.modes_for(orders)
    kind = series.Kind(shape, orders, modes)
    shell = np.array([radius, sigma, tail]), np.ones(len(orders))
    distances = (np.arange(POINTS) - 1) * step
    found = series.ring_series(*shell, kind, variance).on_grid(distances).astype(np.float64)
    lengths = 3 if shape == "skewed" else 2
    return modes, found[..., lengths:], found[..., :lengths]


@pytest.mark.parametrize(
    ("shape", "radius", "sigma", "tail"),
    [
        ("normal", 60.0, 0.7, 0.0),
        ("normal", 20.0, 4.0, 0.0),
        ("normal", 6.0, 4.0, 0.0),
        ("normal", 8.0, 9.0, 0.0),
        ("skewed", 60.0, 1.5, 2.0),
        ("skewed", 40.0, 1.5, -2.0),
    ],
)
def test_series_is_the_density_by_quadrature(shape, radius, sigma, tail):
    step = max(sigma / 6, (radius + 7 * sigma + 20 * abs(tail)) / POINTS)
    modes, units, _ = on_grid(shape, radius, sigma, tail, ORDERS, step)
    s = (np.arange(POINTS) - 1) * step
    chosen = np.arange(8, POINTS - 1, 9)
    for i, order in enumerate(ORDERS):
        beta = {order: 1.0} if order else {}
        shell = TrueShell(radius, sigma, 1.0, beta, tail=tail)
        alone = TrueShell(radius, sigma, 1.0, {}, tail=tail)
        for angle in (0.3, 2.0):
            place = s[chosen] * np.cos(angle), s[chosen] * np.sin(angle)
            expected = reference_mean.sphere_density(shell, *place)
            if order:
                expected = expected - reference_mean.sphere_density(alone, *place)
            computed = units[chosen, :, i] @ np.cos(np.multiply(modes, angle))
            assert np.abs(computed - expected).max() < 2e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("shape", "values"), [("normal", (30.0, 2.0, 0.0)), ("skewed", (30.0, 2.0, 1.5))]
)
def test_derivatives_are_differences(shape, values):
    step = 0.4
    _, _, slopes = on_grid(shape, *values, (0, 2), step)
    for index in range(2 if shape == "normal" else 3):
        shift = 0.02
        moved = []
        for sign in (1, -1):
            other = list(values)
            other[index] += sign * shift
            moved.append(on_grid(shape, *other, (0, 2), step)[1].sum(axis=-1))
        expected = (moved[0] - moved[1]) / (2 * shift)
        # float32 of the difference, and its third order
        bound = 2e-3 * np.abs(expected).max()
        np.testing.assert_allclose(slopes[..., index], expected, atol=bound)


@pytest.mark.parametrize("ratio", [0.3, 1.0, 3.0, 10.0])
def test_every_electron_is_somewhere(ratio):
    # 2 pi int s A_0 ds = 1; close to the centre s A_0 from the nodes themselves
    sigma = 5.0
    radius = ratio * sigma
    kind = series.Kind("normal", (0,), (0,))
    node, weight = np.polynomial.legendre.leggauss(400)
    high = radius + 7 * sigma
    q = (node + 1) / 2
    s = high * q * q
    values, _ = jax.jit(series.series_at, static_argnames="kind")(
        jnp.asarray(s, jnp.float32),
        jnp.array([radius, sigma, 0.0], jnp.float32),
        jnp.ones(1, jnp.float32),
        kind=kind,
        variance=jnp.float32(0.0),
    )
    total = np.sum(np.asarray(values, np.float64)[:, 0, 0] * 2 * np.pi * high * q * weight)
    assert abs(total - 1) < 2e-5
