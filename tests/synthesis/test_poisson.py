import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sevi_jax.synthesis.poisson import sample_poisson

NUMBER = 1_000_000
draw = jax.jit(sample_poisson)


@pytest.mark.parametrize("mean", [0.3, 3.0, 9.9, 10.0, 25.0, 300.0, 1e4])
def test_counts_are_poisson(mean):
    counts = np.asarray(draw(jax.random.key(1), jnp.full(NUMBER, mean, jnp.float32)))
    assert counts.dtype == np.int32
    assert counts.min() >= 0
    mean = float(np.float32(mean))
    law = scipy.stats.poisson(mean)
    # Bins of one count or more, each expected at least 20 times; the ends hold the tails.
    values = np.arange(law.ppf(1e-9), law.isf(1e-9) + 1)
    width = max(1, int(mean**0.5 / 25))
    values = values[::width]
    values = values[(law.cdf(values) * NUMBER > 20) & (law.sf(values) * NUMBER > 20)]
    edges = np.concatenate([[-1], values, [np.inf]])
    expected = np.diff(np.concatenate([[0], law.cdf(values), [1]])) * NUMBER
    observed = np.histogram(counts, np.concatenate([edges[:-1] + 0.5, [np.inf]]))[0]
    assert observed.sum() == NUMBER
    # False-alarm rate of chi-square, mean and variance together 2e-5 per mean.
    assert scipy.stats.chisquare(observed, expected * (NUMBER / expected.sum())).pvalue > 1e-5
    assert abs(counts.mean() - mean) < 4.6 * (mean / NUMBER) ** 0.5
    # The fourth central moment is 3 m^2 + m, so the squared deviation has variance 2 m^2 + m.
    sd = ((2 * mean**2 + mean) / NUMBER) ** 0.5
    assert abs(((counts - mean) ** 2).mean() - mean) < 4.6 * sd


def test_mean_zero_gives_zero():
    assert np.asarray(draw(jax.random.key(0), jnp.zeros(1000, jnp.float32))).max() == 0


@pytest.mark.parametrize("mean", [0.05, 9.278148651123047])
def test_no_count_is_impossibly_large(mean):
    # At 9.278... the float32 sum of all probabilities stays below the largest uniform numbers.
    counts = draw(jax.random.key(0), jnp.full(20_000_000, mean, jnp.float32))
    # Bound with a false-alarm rate of 1e-5 for all the draws together.
    assert int(counts.max()) <= scipy.stats.poisson(mean).isf(1e-5 / 20_000_000)


def test_pixels_follow_their_own_means_and_are_independent():
    means = np.random.default_rng(0).uniform(0, 30, (200, 50)).astype(np.float32)
    keys = jax.random.split(jax.random.key(2), 100)
    counts = np.asarray(jax.jit(jax.vmap(sample_poisson, (0, None)))(keys, means))
    assert counts.shape == (100, 200, 50)
    z = (counts - means) / np.sqrt(means)
    # sum of chi-squares with variance 2 + 1/mean each; 4.4 sd is a false-alarm rate of 1e-5
    sd = np.sqrt((2 + 1 / means.astype(float)).sum() * 100)
    assert abs((z.astype(float) ** 2).sum() - z.size) < 4.4 * sd
    for shifted in (z[1:] * z[:-1], z[:, 1:] * z[:, :-1], z[:, :, 1:] * z[:, :, :-1]):
        assert abs(shifted.mean(dtype=float)) < 4.4 / shifted.size**0.5
