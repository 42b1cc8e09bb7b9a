"""Statistics of the trial of means, with numbers whose distribution is known."""

import numpy as np

from scripts.trials import means


def test_chi_square_of_means():
    rng = np.random.default_rng(0)
    mean = rng.uniform(0, 50, (64, 64)) ** 2 / 100
    values = [means.chi_square(rng.poisson(mean), mean) for _ in range(200)]
    # mean 0 and standard deviation 1, 4.5 errors
    assert abs(np.mean(values)) < 4.5 / np.sqrt(200)
    assert abs(np.std(values) - 1) < 4.5 / np.sqrt(400) + 0.05  # chi-square is a little skewed
    slow = mean * (1 + 0.1 * np.sin(np.arange(64) / 10))
    assert means.chi_square(means.blocks(rng.poisson(slow), 16), means.blocks(mean, 16)) > 5
    assert means.blocks(np.ones((9, 5)), 4).tolist() == [[16], [16]]
