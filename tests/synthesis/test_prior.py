import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from sevi_jax.config import ORIGINAL_BETA
from sevi_jax.prng import root_key, stream_key
from sevi_jax.synthesis import prior
from sevi_jax.synthesis.prior import ShellPrior

LOW, HIGH, MEAN, SD = np.array(ORIGINAL_BETA, np.float64).T
SHELL = ShellPrior((0.3, 0.9), (0.005, 0.009), (1_800_000, 2_500_000), ORIGINAL_BETA)
PICTURES = 20_000


def truncated(order_slice=slice(None)):
    low, high, mean, sd = (v[order_slice] for v in (LOW, HIGH, MEAN, SD))
    return scipy.stats.truncnorm((low - mean) / sd, (high - mean) / sd, mean, sd)


def density_minima(beta, points=1001):
    """Smallest density of each row, float64, on a grid even in theta."""
    cosine = np.cos(np.linspace(0, np.pi / 2, points))
    orders = 2 * np.arange(1, beta.shape[-1] + 1)
    polynomials = scipy.special.eval_legendre(orders[:, None], cosine)
    return np.concatenate(
        [(0.5 + part @ polynomials).min(-1) for part in np.array_split(beta.astype(float), 8)]
    )


@functools.cache
def reference_beta(number=60_000):
    """Beta by NumPy and SciPy alone: inverse CDF, then rejection; and the acceptance rate."""
    uniform = np.random.default_rng(11).random((number, 12))
    beta = truncated().ppf(uniform)
    accepted = density_minima(beta, 501) >= 0
    return beta[accepted], accepted.mean()


@functools.cache
def drawn_shells():
    """Two original shells, PICTURES times."""
    keys = jax.random.split(jax.random.key(5), PICTURES)
    draw = jax.jit(jax.vmap(lambda key: prior.sample_shells(key, (SHELL, SHELL))))
    return jax.device_get(draw(keys))


def test_draws_without_the_condition_are_truncated_normals():
    number = 200_000
    bounds = np.array(ORIGINAL_BETA, np.float32).T[:, None, :] * np.ones((1, number, 1), np.float32)
    beta = np.asarray(jax.jit(prior.truncated_normal)(jax.random.key(2), *bounds))
    assert beta.dtype == np.float32
    assert (beta >= bounds[0]).all()
    assert (beta <= bounds[1]).all()
    for i in range(12):
        law = truncated(i)
        # False-alarm rate of the three checks and 12 orders together: 3e-5.
        values = beta[:, i].astype(float)
        assert scipy.stats.kstest(values, law.cdf).pvalue > 1e-6, f"order {2 * i + 2}"
        mean, variance, kurtosis = (float(m) for m in law.stats("mvk"))
        assert abs(values.mean() - mean) < 5 * (variance / number) ** 0.5
        spread = 5 * variance * ((kurtosis + 2) / number) ** 0.5
        assert abs(((values - mean) ** 2).mean() - variance) < spread


def test_order_24_is_fine_near_its_lower_bound():
    # Bounds at 2e-7 and 0.23 sd: the lowest 1 % must hold as many draws as it should, spread out.
    number = 400_000
    low, high, mean, sd = (np.full(number, v, np.float32) for v in ORIGINAL_BETA[-1])
    beta = np.asarray(prior.truncated_normal(jax.random.key(3), low, high, mean, sd), float)
    law = truncated(11)
    edges = law.ppf(np.linspace(0, 0.01, 11))
    observed = np.histogram(beta, edges)[0]
    # 400 each, and so independent Poisson numbers but for 1 %; false-alarm rate 1e-5.
    chi_square = ((observed - 400) ** 2 / 400).sum()
    assert chi_square < scipy.stats.chi2(10).isf(1e-5)
    assert len(np.unique(beta)) > 0.9 * number


@pytest.mark.parametrize("bounds", [(1.0, 4.0), (-4.0, -3.0), (3.0, 9.0), (-0.5, -0.5)])
def test_bounds_away_from_the_mean(bounds):
    number = 100_000
    arguments = (np.full(number, v, np.float32) for v in (*bounds, 0.0, 1.0))
    values = np.asarray(prior.truncated_normal(jax.random.key(4), *arguments), float)
    assert values.min() >= bounds[0]
    assert values.max() <= bounds[1]
    if bounds[0] < bounds[1]:
        assert scipy.stats.kstest(values, scipy.stats.truncnorm(*bounds).cdf).pvalue > 1e-5


def test_every_density_is_positive_and_within_bounds():
    params, attempts = drawn_shells()
    beta = params.beta.reshape(-1, 12)
    assert beta.dtype == np.float32
    assert (beta >= LOW.astype(np.float32)).all()
    assert (beta <= HIGH.astype(np.float32)).all()
    # float32 decides on sums of size 4: rounding lets 1e-6 pass
    assert density_minima(beta).min() > -1e-5
    assert attempts.min() >= 1


def test_accepted_beta_and_acceptance_rate_are_those_of_rejection_sampling():
    params, attempts = drawn_shells()
    reference, reference_rate = reference_beta()
    rate = attempts.size / attempts.sum()
    number, reference_number = attempts.sum(), 60_000
    sd = (rate * (1 - rate) * (1 / number + 1 / reference_number)) ** 0.5
    # 4.4 sd: false-alarm rate 1e-5
    assert abs(rate - reference_rate) < 4.4 * sd
    assert rate == pytest.approx(0.96, abs=0.01)
    # A vector is drawn again as a whole, so every order and the first shell's as the second's
    # follow the accepted draws; 24 tests at 1e-6.
    for shell in range(2):
        for i in range(12):
            drawn = params.beta[:, shell, i]
            assert scipy.stats.ks_2samp(drawn, reference[:, i], method="asymp").pvalue > 1e-6


def test_attempts_are_geometric():
    _, attempts = drawn_shells()
    counts = np.bincount(attempts.ravel() - 1)
    rate = reference_beta()[1]
    first, second = counts[:2] / attempts.size
    # 5 sd: false-alarm rate 1e-6
    tolerance = 5 / attempts.size**0.5
    assert abs(first - rate) < tolerance * math.sqrt(2 * rate * (1 - rate))
    assert abs(second - rate * (1 - rate)) < tolerance * math.sqrt(rate * (1 - rate))


def test_radii_are_sorted_uniform_numbers():
    params, _ = drawn_shells()
    inner, outer = ((params.radius.astype(float) - 0.3) / 0.6).T
    assert (inner <= outer).all()
    # Order statistics of two uniform numbers; two tests at 1e-5.
    assert scipy.stats.kstest(inner, scipy.stats.beta(1, 2).cdf).pvalue > 1e-5
    assert scipy.stats.kstest(outer, scipy.stats.beta(2, 1).cdf).pvalue > 1e-5
    assert params.radius.min() >= np.float32(0.3)
    assert params.radius.max() <= np.float32(0.9)


def test_sigma_and_electrons_are_uniform():
    params, _ = drawn_shells()
    assert params.electrons.dtype == np.int32
    for values, (low, high) in (
        (params.sigma, SHELL.sigma),
        (params.electrons, SHELL.electrons),
    ):
        assert values.min() >= np.float32(low)
        assert values.max() <= np.float32(high)
        uniform = scipy.stats.uniform(low, high - low)
        for place in range(2):  # four tests at 1e-5
            assert scipy.stats.kstest(values[:, place].astype(float), uniform.cdf).pvalue > 1e-5


def test_parameters_are_independent_of_one_another():
    params, _ = drawn_shells()
    columns = [
        params.radius.sum(1),
        *params.sigma.T,
        *params.electrons.T.astype(float),
        *(params.beta[:, shell, i] for shell in range(2) for i in (0, 3, 11)),
    ]
    coefficients = np.corrcoef(np.stack(columns).astype(float))
    # The positivity couples orders of one shell, and nothing else; 52 coefficients, 5 sd each:
    # false-alarm rate 3e-5.
    coefficients[5:8, 5:8] = coefficients[8:, 8:] = 0
    np.fill_diagonal(coefficients, 0)
    assert np.abs(coefficients).max() < 5 / PICTURES**0.5


def test_each_shell_has_its_own_prior_and_integers_reach_both_bounds():
    one = ((0.2, 0.3, 0.25, 0.1), (0.0, 0.1, 0.0, 0.1))
    two = ((-0.2, -0.1, 0.0, 0.1), (-0.1, 0.0, 0.0, 0.1))
    shells = (
        ShellPrior((0.3, 0.4), (0.005, 0.006), (3, 7), one),
        ShellPrior((0.7, 0.8), (0.008, 0.009), (100, 100), two),
    )
    keys = jax.random.split(jax.random.key(6), 5000)
    draw = jax.jit(jax.vmap(lambda key: prior.sample_shells(key, shells)))
    params, attempts = jax.device_get(draw(keys))
    assert params.beta.shape == (5000, 2, 2)
    assert attempts.shape == (5000, 2)
    for place, shell in enumerate(shells):
        for values, (low, high) in (
            (params.radius[:, place], shell.radius),
            (params.sigma[:, place], shell.sigma),
            (params.electrons[:, place], shell.electrons),
            *((params.beta[:, place, i], shell.beta[i][:2]) for i in range(2)),
        ):
            assert values.min() >= np.float32(low)
            assert values.max() <= np.float32(high)
    observed = np.bincount(params.electrons[:, 0], minlength=8)[3:]
    assert observed.sum() == 5000
    assert scipy.stats.chisquare(observed).pvalue > 1e-5


def test_radii_of_overlapping_ranges_are_sorted_but_sigma_stays_with_its_place():
    shells = (
        ShellPrior((0.8, 0.9), (0.005, 0.006), (1, 1), ORIGINAL_BETA[:1]),
        ShellPrior((0.3, 0.4), (0.008, 0.009), (2, 2), ORIGINAL_BETA[:1]),
    )
    params, _ = prior.sample_shells(jax.random.key(0), shells)
    assert params.radius[0] < 0.41 < 0.79 < params.radius[1]
    assert params.sigma[0] < 0.007 < params.sigma[1]
    np.testing.assert_array_equal(params.electrons, [1, 2])


def test_vmap_draws_what_single_calls_draw():
    # The loop of one key must not depend on how often another key was drawn again.
    keys = jax.random.split(jax.random.key(7), 200)
    draw = jax.jit(lambda key: prior.sample_beta(key, SHELL))
    beta, attempts = jax.vmap(draw)(keys)
    picked = [*np.flatnonzero(np.asarray(attempts) > 1)[:3], 0]
    assert len(picked) == 4
    for i in picked:
        single, count = draw(keys[i])
        np.testing.assert_allclose(single, beta[i], rtol=1e-6)
        assert count == attempts[i]


def test_moments_are_those_of_rejection_sampling():
    mean, rms = prior.beta_moments((SHELL,))
    assert mean.shape == rms.shape == (1, 12)
    beta, _ = reference_beta()
    # Two samples, 65 536 and some 57 000; 24 tests of 5 sd: false-alarm rate 1.4e-5.
    scale = 5 * (1 / 65_536 + 1 / len(beta)) ** 0.5
    assert (np.abs(mean[0] - beta.mean(0)) < scale * beta.std(0)).all()
    square = beta**2
    assert (np.abs(rms[0].astype(float) ** 2 - square.mean(0)) < scale * square.std(0)).all()


def test_streams_and_steps_give_different_keys_and_the_same_name_the_same_key():
    root = root_key(3)
    keys = [
        stream_key(root, "train", 0),
        stream_key(root, "train", 1),
        stream_key(root, "eval", 0),
        stream_key(root_key(4), "train", 0),
        root,
    ]
    words = np.array([jax.random.key_data(key) for key in keys])
    assert len(np.unique(words, axis=0)) == len(keys)
    again = jax.jit(lambda step: stream_key(root_key(3), "train", step))(jnp.int32(1))
    np.testing.assert_array_equal(jax.random.key_data(again), words[1])
