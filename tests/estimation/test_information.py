import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sevi_jax.estimation.information import (
    FreeParameters,
    PictureParams,
    expected_distance,
    from_row,
    information,
    mean_and_jacobian,
    to_row,
)
from sevi_jax.physics.expected import expected_counts
from sevi_jax.physics.types import ImageSpec, ShellParams
from sevi_jax.results.training_prior import gaussian_prior
from sevi_jax.synthesis.prior import ShellPrior

# Shells with different free orders, and orders that are known but not 0.
FREE = FreeParameters(((2, 4, 8), (2,)), background=1)
BETA = [[0.65, 0.8, 0.3, 0.33], [-0.4, 0.1, 0.0, 0.0]]
PARAMS = PictureParams(
    ShellParams(
        jnp.asarray([0.45, 0.7], jnp.float32),
        jnp.asarray([0.007, 0.01], jnp.float32),
        jnp.asarray([2e5, 3e5], jnp.float32),
        jnp.asarray(BETA, jnp.float32),
    ),
    jnp.full(1, 3.0, jnp.float32),
)
# coarse pixels, and fine ones, of which `expected_counts` takes the average over points
SPECS = [ImageSpec(64), ImageSpec(64, fold=True), ImageSpec(352, fold=True)]


def batch(params):
    return jax.tree.map(lambda x: x[None], params)


def means(row, image):
    params = from_row(row, FREE)
    return expected_counts(params.shells, image) + params.background


@pytest.mark.parametrize("image", SPECS, ids=str)
def test_jacobian_matches_the_expected_counts(image):
    mean, jacobian = (np.asarray(x, float) for x in mean_and_jacobian(PARAMS, FREE, image))
    assert mean.shape == (image.side, image.side)
    assert jacobian.shape == (image.side**2, len(FREE.names)) == (image.side**2, 11)
    row = to_row(PARAMS, FREE)
    picture = jax.jit(means, static_argnums=1)
    exact = np.asarray(picture(row, image), float)
    np.testing.assert_allclose(mean, exact, rtol=0, atol=5e-5 * exact.max())
    assert FREE.names[3:7] == ("beta2_1", "beta4_1", "beta8_1", "R_2")
    # Central differences: R and sigma by a fortieth of sigma; the others are linear. R = 0.45 and
    # the steps are rounded to float32: the steps really taken count.
    steps = [2e-4, 2e-4, 1e5, 0.3, 0.3, 0.3, 2e-4, 2e-4, 1e5, 0.3, 2.0]
    for column, (place, step) in enumerate(zip(FREE.index, steps, strict=True)):
        ends = [row.at[place].add(jnp.float32(sign * step)) for sign in (1, -1)]
        above, below = (np.asarray(picture(end, image), float) for end in ends)
        difference = (above - below).ravel() / float(ends[0][place] - ends[1][place])
        tolerance = 2e-3 if column in (0, 1, 6, 7) else 2e-4
        np.testing.assert_allclose(
            jacobian[:, column],
            difference,
            rtol=0,
            atol=tolerance * np.abs(difference).max(),
            err_msg=FREE.names[column],
        )


def test_jacobian_matches_forward_differentiation():
    image = ImageSpec(64, fold=True)
    jacobian = mean_and_jacobian(PARAMS, FREE, image)[1]
    exact = jax.jit(jax.jacfwd(means), static_argnums=1)(to_row(PARAMS, FREE), image)
    exact = np.asarray(exact, float).reshape(image.side**2, -1)[:, FREE.index]
    scale = np.abs(exact).max(0)
    np.testing.assert_allclose(np.asarray(jacobian) / scale, exact / scale, rtol=0, atol=2e-5)


def test_information_is_that_of_poisson_numbers():
    # The same formula in float64; a full picture knows as much as the folded one; masked pixels
    # tell nothing. The background per stored pixel means another thing in the two.
    free = FREE
    params = PictureParams(PARAMS.shells, jnp.full(1, 0.5, jnp.float32))
    image = ImageSpec(64)
    mask = np.ones((64, 64), np.float32)
    mask[20:30, 5:60] = 0
    mean, jacobian = (np.asarray(x, float) for x in mean_and_jacobian(params, free, image))
    weight = mask.ravel() / mean.ravel()
    exact = (jacobian * weight[:, None]).T @ jacobian
    found = information(batch(params), free, image, mask)
    scale = np.sqrt(np.diag(exact))
    np.testing.assert_allclose(
        np.asarray(found.fisher[0], float) / np.outer(scale, scale),
        exact / np.outer(scale, scale),
        rtol=0,
        atol=1e-5,
    )
    np.testing.assert_allclose(found.errors[0], np.sqrt(np.diag(np.linalg.inv(exact))), rtol=1e-3)

    whole = information(batch(params), free, image)
    folded = PictureParams(PARAMS.shells, jnp.full(1, 2.0, jnp.float32))
    folded = information(batch(folded), free, ImageSpec(64, fold=True))
    ratio = np.asarray(whole.errors / folded.errors)[0]
    np.testing.assert_allclose(ratio, [1] * 10 + [0.25], rtol=1e-3)
    assert (np.asarray(found.errors) > np.asarray(whole.errors)).all()


def test_information_on_the_yield_is_that_of_the_number_of_electrons():
    # If only the yield N were unknown: information N / N^2, since every electron is counted.
    found = information(
        batch(PictureParams(PARAMS.shells, jnp.float32(0.0))),
        FreeParameters(((2,), (2,))),
        ImageSpec(64, fold=True),
    )
    number = np.array([2e5, 3e5])
    row = np.asarray(found.fisher[0], float) @ np.array([0, 0, 2e5, 0, 0, 0, 3e5, 0])
    # sum_k F_jk N_k = sum_i dmu_i / dN_j = 1 for both yields; 0 for R, sigma, beta, which move
    # electrons but do not make any
    np.testing.assert_allclose(row[[2, 6]], 1, rtol=3e-4)
    size = np.sqrt(np.diag(np.asarray(found.fisher[0], float))[[0, 1, 3, 4, 5, 7]] * number.sum())
    np.testing.assert_allclose(row[[0, 1, 3, 4, 5, 7]] / size, 0, atol=1e-3)


def test_score_has_the_information_as_its_covariance():
    # 20 000 pictures of Poisson numbers. Each entry of the sample covariance, in units of the
    # diagonal, has standard deviation sqrt((1 + r^2) / 20 000) < 0.01; the limit is 5 of them.
    image = ImageSpec(16, fold=True)
    mean, jacobian = (np.asarray(x, float) for x in mean_and_jacobian(PARAMS, FREE, image))
    mean = mean.ravel()
    counts = np.random.default_rng(0).poisson(mean, (20_000, mean.size))
    score = (counts / mean - 1) @ jacobian
    fisher = np.asarray(information(batch(PARAMS), FREE, image).fisher[0], float)
    scale = np.sqrt(np.diag(fisher))
    sample = score.T @ score / len(score)
    np.testing.assert_allclose(
        sample / np.outer(scale, scale), fisher / np.outer(scale, scale), rtol=0, atol=0.05
    )


def test_expected_distance_is_the_mean_over_normal_errors():
    free = FreeParameters(((2, 4, 6), (4,), ()))
    rng = np.random.default_rng(1)
    root = rng.normal(size=(13, 13)) * 0.01
    covariance = root @ root.T
    errors = rng.multivariate_normal(np.zeros(13), covariance, size=400_000)
    # places of the betas; int P_n^2 over [-1, 1] is 2 / (2 n + 1)
    first = np.sqrt((errors[:, [3, 4, 5]] ** 2 * 2 / np.array([5, 9, 13])).sum(1))
    second = np.sqrt(errors[:, 9] ** 2 * 2 / 9)
    total = first + second
    limit = 5 * total.std() / np.sqrt(len(total))
    found = float(expected_distance(jnp.asarray(covariance, jnp.float32), free))
    assert found == pytest.approx(total.mean(), abs=limit)
    # one order: sqrt(2 / pi) of its weighted standard deviation
    one = FreeParameters(((2,),))
    covariance = jnp.diag(jnp.asarray([1e-8, 1e-8, 1e8, 0.04], jnp.float32))
    exact = np.sqrt(2 / np.pi) * 0.2 * np.sqrt(2 / 5)
    assert float(expected_distance(covariance, one)) == pytest.approx(exact, rel=1e-5)


def test_gaussian_prior_has_the_moments_of_the_prior():
    # Betas so small that the density is always positive: truncated normals, whose moments SciPy
    # knows. 65 536 draws: a mean is off by 5 standard errors once in a million.
    rows = ((0.0, 0.1, 0.08, 0.05), (-0.05, 0.05, 0.0, 0.2))
    prior = (ShellPrior((0.3, 0.9), (0.005, 0.009), (1000, 3000), rows),)
    found = gaussian_prior(prior, FreeParameters(((2, 4, 6),), background=1), exposure=0.1)
    expected = [(0.6, 0.6**2 / 12), (0.007, 0.004**2 / 12), (200, 200**2 / 12)]
    for low, high, mean, sd in rows:
        law = scipy.stats.truncnorm((low - mean) / sd, (high - mean) / sd, mean, sd)
        expected.append((law.mean(), law.var()))
    mean, variance = np.array(expected).T
    limit = np.where(np.arange(5) < 3, 1e-5 * mean, 5 * np.sqrt(variance / 65_536))
    assert (np.abs(np.asarray(found.mean)[:5] - mean) <= limit).all()
    precision = np.asarray(found.precision, float)
    np.testing.assert_allclose(np.diag(precision)[:5] * variance, 1, rtol=0.04)
    # an order that the prior does not have, and the background, are left free
    assert not precision[5:].any()
    assert not precision[:, 5:].any()
    # prior and counts add up
    image = ImageSpec(64, fold=True)
    params = batch(from_row(jnp.asarray([0.6, 0.007, 200, 0.05, 0.0, 0.0, 1.0]), FREE_OF_PRIOR))
    alone = information(params, FREE_OF_PRIOR, image)
    both = information(params, FREE_OF_PRIOR, image, prior=found)
    np.testing.assert_allclose(both.fisher[0] - alone.fisher[0], precision, rtol=1e-2, atol=1e-2)
    assert float(both.distance[0]) < float(alone.distance[0])


FREE_OF_PRIOR = FreeParameters(((2, 4, 6),), background=1)


def test_row_and_record_are_each_others_inverse():
    row = to_row(PARAMS, FREE)
    assert row.shape == (FREE.row_size,)
    back = from_row(row, FREE)
    jax.tree.map(np.testing.assert_array_equal, back, PARAMS)
    # other numbers of orders are cut, or padded with zeros
    short = FreeParameters(((2,), (4,)))
    assert (
        from_row(to_row(PARAMS, short), short).shells.beta.tolist()
        == np.float32(np.array(BETA)[:, :2]).tolist()
    )


@pytest.mark.parametrize("orders", [(3,), (0,), (4, 2), (2, 2)])
def test_orders_that_make_no_sense_are_refused(orders):
    with pytest.raises(ValueError, match=r"orders=.* must be even, at least 2, ascending"):
        FreeParameters((orders,))
