import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sevi_jax.network.radial import ladder_radii, radial_matrix
from sevi_jax.physics.expected import expected_counts
from sevi_jax.physics.types import ImageSpec, ShellParams
from sevi_jax.synthesis.prior import ShellPrior, beta_moments

# The prior's orders 2 to 8, so that the radial matrix is small.
ROWS = (
    (0.35, 1.0, 1.0, 0.65),
    (0.43, 1.434, 0.85, 0.5),
    (0.25, 1.24, 0.55, 0.5),
    (0.118, 0.9, 0.25, 0.5),
)
SHELL = ShellPrior((0.3, 0.9), (0.005, 0.009), (1_800_000, 2_500_000), ROWS)
PRIOR = (SHELL, SHELL)
IMAGE = ImageSpec(64, fold=True)
RUNGS = 40
BETA = (0.7, 0.75, 0.5, 0.3)
expect = jax.jit(expected_counts, static_argnums=1)


def coefficients(*rows):
    """Ladder's coefficients of shells (radius, beta) of 2 million electrons each: ``[K, L + 1]``.

    Taken from the picture divided by its sum, and multiplied by their root mean square in the
    prior, so that the shells' yields, and yields times beta, are what is left.
    """
    radius, beta = (jnp.asarray(v, jnp.float32) for v in zip(*rows, strict=True))
    one = jnp.ones_like(radius)
    params = ShellParams(radius, 0.007 * one, 2e6 * one, beta)
    picture = np.asarray(expect(params, IMAGE), float)
    matrix = radial_matrix(IMAGE, PRIOR, RUNGS)
    assert matrix.shape == (RUNGS * 5, 32 * 32)
    assert matrix.dtype == np.float32
    scaled = matrix.astype(float) @ (picture / picture.sum()).ravel()
    rms = beta_moments(PRIOR)[1].astype(float).mean(0)
    return scaled.reshape(RUNGS, 5) * np.append(1, rms)


def test_ladder_reaches_beyond_the_prior():
    radii = ladder_radii(PRIOR, RUNGS)
    assert radii.shape == (RUNGS,)
    assert radii[0] < 0.3 - 3 * 0.009
    assert 0.9 + 3 * 0.009 < radii[-1] < 1
    np.testing.assert_allclose(np.diff(radii), (radii[-1] - radii[0]) / (RUNGS - 1), rtol=1e-4)


@pytest.mark.parametrize("radius", [0.33, 0.452, 0.6, 0.777, 0.88])
def test_a_shell_is_a_bump_at_its_radius_with_its_beta(radius):
    ladder = coefficients((radius, BETA))
    radii = ladder_radii(PRIOR, RUNGS)
    peak = int(np.argmax(ladder[:, 0]))
    # the nearest rung, or its neighbour where two are about as near
    assert abs(radii[peak] - radius) < 0.6 * (radii[1] - radii[0])
    around = ladder[max(peak - 2, 0) : peak + 3].sum(0)
    # The yield, of which the picture has 1 in all, and beta as its ratio to it: to 10 %, as the
    # estimate is pulled to the prior's mean.
    assert around[0] > 0.5 * ladder[:, 0].sum()
    np.testing.assert_allclose(around[1:] / around[0], BETA, rtol=0.1)


def test_two_shells_are_two_bumps():
    outer_beta = (0.4, 0.5, 0.3, 0.15)
    ladder = coefficients((0.45, BETA), (0.75, outer_beta))
    radii = ladder_radii(PRIOR, RUNGS)
    for radius, beta in ((0.45, BETA), (0.75, outer_beta)):
        near = np.abs(radii - radius) < 0.05
        around = ladder[near].sum(0)
        assert np.abs(radii[near][np.argmax(ladder[near, 0])] - radius) < radii[1] - radii[0]
        np.testing.assert_allclose(around[1:] / around[0], beta, rtol=0.1)
    between = np.abs(radii - 0.6) < 0.05
    assert np.abs(ladder[between, 0]).max() < 0.1 * ladder[:, 0].max()


def test_estimate_is_linear_in_the_picture():
    one, two = (coefficients((radius, BETA)) for radius in (0.45, 0.75))
    both = coefficients((0.45, BETA), (0.75, BETA))
    np.testing.assert_allclose(both, (one + two) / 2, rtol=0, atol=1e-3 * np.abs(both).max())
