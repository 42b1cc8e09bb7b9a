import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from sevi_jax.synthesis.electrons import angle_table, draw_electrons

NUMBER = 4_000_000


def from_power_series(coefficients):
    """Beta, 12 orders, of a density proportional to the power series in c, which must be even."""
    series = np.zeros(25)
    legendre = np.polynomial.legendre.poly2leg(coefficients)
    series[: len(legendre)] = legendre / (2 * legendre[0])
    return series[2::2]


# No density here is negative; those that touch zero do it at a root of even multiplicity.
BETAS = {
    "isotropic": np.zeros(12),
    "negative": np.array([-0.45] + [0.0] * 11),
    "cosine squared": from_power_series([0, 0, 1]),
    "zero inside": from_power_series(np.polynomial.polynomial.polypow([-0.37, 0, 1], 2)),
    "zeros inside": from_power_series(
        np.polynomial.polynomial.polypow(np.polynomial.legendre.leg2poly([0] * 12 + [1]), 2)
    ),
    "pole": from_power_series([0] * 24 + [1]),
    "zero at the pole": from_power_series(np.polynomial.polynomial.polypow([1, 0, -1], 12)),
    "like the prior": np.array(
        [0.65, 0.8, 0.55, 0.33, 0.2, 0.12, 0.06, 0.03, 0.012, 0.006, 0.002, 0.0007]
    ),
}


def bin_masses(beta, edges):
    """Integral of the density between edges in c, by the antiderivative of its series, float64."""
    series = np.zeros(2 * len(beta) + 1)
    series[0], series[2::2] = 0.5, beta
    return np.diff(np.polynomial.legendre.legval(edges, np.polynomial.legendre.legint(series)))


def density(beta, cosine):
    orders = 2 * np.arange(1, len(beta) + 1)
    return 0.5 + scipy.special.eval_legendre(orders, np.asarray(cosine)[..., None]) @ beta


def table_of(beta):
    return jax.jit(angle_table)(jnp.asarray(beta, jnp.float32))


@functools.partial(jax.jit, static_argnums=4)
def draw(key, radius, sigma, beta, number):
    return draw_electrons(key, radius, sigma, angle_table(beta), number)


@functools.cache
def drawn(name, number=NUMBER):
    beta = jnp.asarray(BETAS[name], jnp.float32)
    electrons = draw(jax.random.key(1), jnp.float32(0.6), jnp.float32(0.007), beta, number)
    assert all(values.dtype == jnp.float32 and values.shape == (number,) for values in electrons)
    return tuple(np.asarray(values) for values in electrons)


def chi_square_pvalue(observed, expected):
    """Chi-square after neighbouring bins are joined until each is expected 25 times or more."""
    assert observed.sum() == pytest.approx(expected.sum(), rel=1e-9)
    group = np.floor(np.cumsum(expected) / 25).astype(int)
    group = np.minimum(group, group[-1] - 1)
    _, group = np.unique(group, return_inverse=True)
    observed, expected = np.bincount(group, observed), np.bincount(group, expected)
    return scipy.stats.chisquare(observed, expected).pvalue


def test_the_chosen_densities_are_nowhere_negative():
    grid = np.linspace(0, 1, 20_001)
    for beta in BETAS.values():
        assert density(beta, grid).min() > -1e-9


@pytest.mark.parametrize("name", BETAS)
def test_drawn_angles_follow_the_density(name):
    cosine = drawn(name)[1].astype(float)
    assert np.abs(cosine).max() <= 1
    # Bins narrower than the program's cells of 1/512, none of whose edges but 0 is one of theirs;
    # at the poles and the equator 5e-4, where a cell's own shape shows. Both signs separately.
    fine = np.concatenate(
        [np.linspace(0, 0.02, 41), np.linspace(0.02, 0.98, 801)[1:], np.linspace(0.98, 1, 41)[1:]]
    )
    edges = np.concatenate([-fine[:0:-1], fine])
    expected = NUMBER * bin_masses(BETAS[name], edges)
    observed = np.histogram(cosine, edges)[0]
    # Three chi-squares, each at 1e-5.
    assert chi_square_pvalue(observed, expected) > 1e-5
    near_pole, near_equator = np.abs(edges[1:] + edges[:-1]) / 2 > [[0.98], [0.02]]
    for part in (near_pole, ~near_equator):
        kept, law = observed[part], expected[part]
        if law.sum() < 1000:
            # too few for bins: their number, a Poisson number within 4.4 sd
            assert abs(kept.sum() - law.sum()) < 4.4 * max(law.sum(), 1) ** 0.5 + 5
            continue
        rest = [NUMBER - kept.sum()], [NUMBER - law.sum()]
        assert chi_square_pvalue(np.append(kept, rest[0]), np.append(law, rest[1])) > 1e-5


@pytest.mark.parametrize("name", BETAS)
def test_table_holds_the_exact_masses(name):
    table = table_of(BETAS[name])
    keep, alias, left = (np.asarray(v) for v in (table.keep, table.alias, table.left))
    cells = len(keep)
    assert keep.min() >= 0
    assert keep.max() <= 1
    # Every cell is picked with probability 1 / cells; it keeps `keep`, its alias has the rest.
    mass = (keep + np.bincount(alias, 1 - keep.astype(float), cells)) / cells
    edges = np.linspace(0, 1, cells + 1)
    exact = 2 * bin_masses(BETAS[name], edges)
    # float32 sums over 512 cells: 7e-5 of a mean cell, seen by no test of fewer than 1e10 electrons
    np.testing.assert_allclose(mass, exact, rtol=1e-5, atol=1.5e-4 / cells)
    # The line inside a cell has the density's values at its edges, up to its scale.
    value = np.maximum(density(BETAS[name], edges), 0)
    heavy = exact > 1e-3 / cells
    lower, upper = value[:-1][heavy], value[1:][heavy]
    np.testing.assert_allclose(left[heavy], lower / (lower + upper), rtol=0, atol=2e-3)


def test_table_survives_rounding_below_zero():
    # (1 - c^2)^12 rounds to small negative values at the pole.
    table = table_of(BETAS["zero at the pole"] + 1e-6)
    assert all(np.isfinite(np.asarray(v)).all() for v in (table.keep, table.left))


def test_parameters_of_an_electron_are_independent_and_follow_their_laws():
    name = "like the prior"
    r, cosine, x, _ = (values.astype(float) for values in drawn(name))
    # Each turned into a number that is uniform in (0, 1) if its law holds...
    uniform_r = scipy.stats.norm(np.float32(0.6), np.float32(0.007)).cdf(r)
    grid = np.linspace(0, 1, 200_001)
    uniform_c = np.interp(
        np.abs(cosine), grid, 2 * np.insert(np.cumsum(bin_masses(BETAS[name], grid)), 0, 0)
    )
    off_pole = np.abs(cosine) < 0.999  # nearer, sin(theta) loses digits
    phi = np.arccos(np.clip(x / (r * np.sqrt(1 - cosine**2)), -1, 1)) / np.pi
    values = [uniform_r, uniform_c / uniform_c[off_pole].max(), phi]
    # ...then 8 x 8 x 8 x 2 boxes are equally likely if they are independent as well.
    boxes = [np.minimum((v[off_pole] * 8).astype(int), 7) for v in values]
    flat = np.ravel_multi_index((*boxes, (cosine[off_pole] > 0).astype(int)), (8, 8, 8, 2))
    observed = np.bincount(flat, minlength=1024)
    assert scipy.stats.chisquare(observed).pvalue > 1e-5
    # each law by itself, finer; false-alarm rate 1e-5 each
    for value in (uniform_r, uniform_c, phi[off_pole]):
        thinned = value[: NUMBER // 4]
        assert scipy.stats.kstest(thinned, "uniform").pvalue > 1e-5


def test_place_within_a_cell_is_independent_of_phi_and_sign():
    # One random word serves the three: phi 20 bits, the place in a cell 11, the sign 1.
    r, cosine, x, _ = (values.astype(float) for values in drawn("isotropic"))
    place = np.abs(cosine) * 512 % 1
    phi = np.arccos(np.clip(x / (r * np.sqrt(1 - cosine**2)), -1, 1)) / np.pi
    boxes = [np.minimum((v * 16).astype(int), 15) for v in (place, phi)]
    flat = np.ravel_multi_index((*boxes, (cosine > 0).astype(int)), (16, 16, 2))
    assert scipy.stats.chisquare(np.bincount(flat, minlength=512)).pvalue > 1e-5


def test_neighbours_are_independent():
    # The electrons of a chunk, and of two chunks with different keys; 5 sd of a correlation.
    first = drawn("isotropic", 1_000_000)
    beta = jnp.zeros(12, jnp.float32)
    second = draw(jax.random.key(2), jnp.float32(0.6), jnp.float32(0.007), beta, 1_000_000)
    for one, other in zip(first, second, strict=True):
        assert abs(np.corrcoef(one, np.asarray(other))[0, 1]) < 5 / 1000
        assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 5 / 1000


def test_positions_are_the_projection():
    r, cosine, x, z = (values.astype(float) for values in drawn("like the prior"))
    np.testing.assert_allclose(z, r * cosine, rtol=2e-7)
    # y^2 = r^2 - x^2 - z^2 is a square
    assert (r**2 - x**2 - z**2).min() > -1e-6
    # |x| reaches r sin(theta), both signs
    sine = np.sqrt(1 - cosine**2)
    ratio = (x / (r * sine))[sine > 0.1]
    assert ratio.max() == pytest.approx(1, abs=1e-6)
    assert ratio.min() == pytest.approx(-1, abs=1e-6)


def test_radii_reach_far_tails():
    r = drawn("isotropic")[0].astype(float)
    deviation = (r - np.float32(0.6)) / np.float32(0.007)
    for sd in (3, 4, 4.5):
        expected = NUMBER * scipy.stats.norm.sf(sd)
        for beyond in ((deviation > sd).sum(), (deviation < -sd).sum()):
            # six tests at 1e-6 on either side of a Poisson number
            assert scipy.stats.poisson(expected).sf(beyond - 1) > 1e-6
            assert scipy.stats.poisson(expected).cdf(beyond) > 1e-6
    # fourth moment 3, its standard error sqrt(96 / N); 4.4 sd
    assert abs((deviation**4).mean() - 3) < 4.4 * math.sqrt(96 / NUMBER)
