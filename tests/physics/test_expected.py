import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sevi_jax.physics.expected import _pixel_rule, expected_counts, shell_profile
from sevi_jax.physics.types import ImageSpec, ShellParams
from sevi_jax.synthesis.pipeline import render_electrons

expect = jax.jit(expected_counts, static_argnums=1)
render = jax.jit(render_electrons, static_argnums=(2, 3))

PRIOR_LIKE = [0.65, 0.8, 0.55, 0.33, 0.2, 0.12, 0.06, 0.03, 0.012, 0.006, 0.002, 0.0007]
# cos(theta)^24, all orders, sharp at the pole: int c^24 P_n by the series of the monomial
POLE = (np.polynomial.legendre.poly2leg([0] * 24 + [1]) * 12.5)[2::2]
NEGATIVE = [-0.45] + [0.0] * 11
ISOTROPIC = [0.0] * 12


def shells(*rows):
    """Parameters from rows (radius, sigma, electrons, beta)."""
    radius, sigma, electrons, beta = zip(*rows, strict=True)
    return ShellParams(
        *(jnp.asarray(v, jnp.float32) for v in (radius, sigma)),
        jnp.asarray(electrons, jnp.int32),
        jnp.asarray(beta, jnp.float32),
    )


# --- The electrons' picture and the expected one, written independently, are each other's test.


CASES = {
    "two shells": shells((0.41, 0.006, 10**7, PRIOR_LIKE), (0.72, 0.009, 14_000_000, POLE)),
    "close shells": shells((0.6, 0.005, 10**7, NEGATIVE), (0.61, 0.005, 10**7, PRIOR_LIKE)),
    "inner": shells((0.3, 0.005, 2 * 10**7, PRIOR_LIKE)),
    "outer": shells((0.9, 0.005, 2 * 10**7, ISOTROPIC)),
    "partly outside": shells((0.98, 0.009, 2 * 10**7, NEGATIVE)),
    "across the corner": shells((1.25, 0.02, 2 * 10**7, ISOTROPIC)),
}


def assert_poisson(counts, expected):
    """Compares counts with their means, pixel by pixel; false-alarm rate 3e-5."""
    assert counts.shape == expected.shape
    bright = expected > 25
    e, n = expected[bright], counts[bright]
    assert bright.sum() > 50
    # (n - e)^2 / e of a Poisson number has mean 1 and variance 2 + 1/e; 4.5 sd. (A pixel's number
    # is binomial: a little narrower.)
    z = (((n - e) ** 2 / e).sum() - e.size) / np.sqrt((2 + 1 / e).sum())
    assert abs(z) < 4.5, f"chi-square of {e.size} pixels is {z:.1f} sd off"
    # The worst pixel, from both tails.
    tail = np.minimum(scipy.stats.poisson.cdf(n, e), scipy.stats.poisson.sf(n - 1, e))
    assert tail.min() * 2 * e.size > 1e-5
    # All the dim pixels as one Poisson number, 4.5 sd.
    dim = expected[~bright].sum()
    assert abs(counts[~bright].sum() - dim) < 4.5 * np.sqrt(max(dim, 1)) + 1


@pytest.mark.parametrize("case", CASES)
def test_rasters_match_the_expected_counts(case):
    # One raster of 768 x 768 is, its pixels added up, the raster of every size that divides 768.
    params = CASES[case]
    raster = np.asarray(render(jax.random.key(8), params, ImageSpec(768), 2**18))
    # 64 to 256 pixels take one path of `expected`, 384 and 768 (7 and 4 points) the other.
    for size in (64, 96, 256, 384, 768):
        counts = raster.reshape(size, 768 // size, size, 768 // size).sum((1, 3))
        if size == 96:
            assert_poisson(counts, np.asarray(expect(params, ImageSpec(size)), float))
        half = size // 2
        sides = [counts[::i, ::j][half:, half:] for i in (1, -1) for j in (1, -1)]
        assert_poisson(sum(sides), np.asarray(expect(params, ImageSpec(size, fold=True)), float))


@pytest.mark.parametrize("spec", [ImageSpec(64, fold=True), ImageSpec(768, fold=True)], ids=str)
def test_folded_rasters_match_the_expected_counts(spec):
    # Electrons beyond the edge too: what is outside must be left out before it is folded.
    params = CASES["partly outside"]
    counts = np.asarray(render(jax.random.key(9), params, spec, 2**18))
    assert_poisson(counts, np.asarray(expect(params, spec), float))


# --- Against the integral of the density over a pixel, float64.


NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)
# t^2 (3 - 2 t) of t in (0, 1): turns a square root's zero at either end into a straight line
STEPS = (NODES + 1) ** 2 * (2 - NODES) / 4
STEP_WEIGHTS = WEIGHTS * 3 / 4 * (1 - NODES**2)


def reference_box(radius, sigma, beta, x, z):
    """Probability of x0 < |x| < x1 and z0 < |z| < z1 of one electron (docs/course.md), float64.

    Not along the line of sight but in the order of drawing: r and theta by Gauss's rule, phi in
    closed form. |x| = r sin(theta) |cos(phi)| lies in the box with probability
    2/pi (arccos(x0 / (r sin)) - arccos(x1 / (r sin))), each ratio cut at 1. Both integrals are
    split where a side or a corner of the box is reached, so the rule sees smooth functions.
    """
    (x0, x1), (z0, z1) = x, z
    series = np.zeros(2 * len(beta) + 1)
    series[0], series[2::2] = 0.5, beta
    reach = np.array([radius - 8 * sigma, radius, radius + 8 * sigma])
    corners = [np.hypot(v, w) for v in (0, x0, x1) for w in (z0, z1)] + [x0, x1]
    breaks = np.sort(np.clip(np.append(reach, corners), np.hypot(x0, z0), None))
    breaks = np.unique(np.clip(breaks, reach[0], reach[-1]))
    length = np.diff(breaks)[:, None]
    r = (breaks[:-1, None] + length * STEPS).ravel()
    r_weight = (length * STEP_WEIGHTS).ravel() * scipy.stats.norm(radius, sigma).pdf(r)

    first = np.maximum(np.arccos(np.minimum(z1 / r, 1)), np.arcsin(np.minimum(x0 / r, 1)))
    last = np.arccos(np.minimum(z0 / r, 1))
    middle = np.clip(np.arcsin(np.minimum(x1 / r, 1)), first, np.maximum(first, last))
    total = 0.0
    for start, stop in ((first, middle), (middle, last)):
        width = np.maximum(stop - start, 0)[:, None]
        theta = start[:, None] + width * STEPS
        across = np.maximum(r[:, None] * np.sin(theta), 1e-12)
        phi = np.arccos(np.minimum(x0 / across, 1)) - np.arccos(np.minimum(x1 / across, 1))
        density = np.polynomial.legendre.legval(np.cos(theta), series)
        inner = (width * STEP_WEIGHTS * phi * density * np.sin(theta)).sum(1)
        total += 4 / np.pi * np.sum(r_weight * inner)
    return total


def reference_pixel(radius, sigma, beta, spec, i, j):
    """The same for pixel (i, j) of the folded picture."""
    width = 2 / spec.size
    box = ((i * width, (i + 1) * width), (j * width, (j + 1) * width))
    return reference_box(radius, sigma, beta, *box)


def chosen_pixels(radius, spec):
    """Pixels on both axes, at the edge of the shell in several directions, inside and outside."""
    width = 2 / spec.size

    def at(fraction, angle):
        place = radius * fraction * np.array([np.sin(angle), np.cos(angle)])
        return tuple(int(v) for v in place / width)

    pixels = [(0, 0)]
    pixels += [at(1, angle) for angle in (0, 0.03, 0.5, 1.0, 1.3, np.pi / 2)]
    pixels += [at(0.97, 0), at(1.015, 0.8), at(0.7, 0.4), at(0.5, np.pi / 2), at(0.5, 0)]
    return pixels


@pytest.mark.parametrize("size", [64, 256, 512])
@pytest.mark.parametrize("sigma", [0.005, 0.009])
@pytest.mark.parametrize(("radius", "beta"), [(0.3, PRIOR_LIKE), (0.9, POLE), (0.62, NEGATIVE)])
def test_pixels_match_the_integral_of_the_density(radius, sigma, beta, size):
    spec = ImageSpec(size, fold=True)
    computed = np.asarray(expect(shells((radius, sigma, 10**6, beta)), spec), float) / 10**6
    pixels = chosen_pixels(radius, spec)
    exact = [reference_pixel(radius, sigma, beta, spec, i, j) for i, j in pixels]
    chosen = [computed[i, j] for i, j in pixels]
    np.testing.assert_allclose(chosen, exact, rtol=0, atol=2e-4 * computed.max())
    assert max(exact) > 0.3 * computed.max()


@pytest.mark.parametrize("size", [64, 512])
@pytest.mark.parametrize("radius", [0.3, 0.6, 0.9])
def test_all_electrons_are_on_the_detector(radius, size):
    params = shells((radius, 0.009, 10**6, PRIOR_LIKE), (radius, 0.005, 2 * 10**6, POLE))
    total = np.asarray(expect(params, ImageSpec(size, True)), float).sum()
    assert total == pytest.approx(3 * 10**6, rel=1e-4)


@pytest.mark.parametrize("size", [64, 512])
@pytest.mark.parametrize("radius", [1.0, 1.1, 1.3])
def test_electrons_beyond_the_detector_are_missing(radius, size):
    params = shells((radius, 0.009, 10**6, PRIOR_LIKE))
    total = np.asarray(expect(params, ImageSpec(size, True)), float).sum() / 10**6
    exact = reference_box(radius, 0.009, PRIOR_LIKE, (0, 1), (0, 1))
    assert exact < 0.99
    assert total == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("size", [64, 512])
def test_full_picture_has_the_symmetry_and_folds_to_the_folded_one(size):
    params = CASES["two shells"]
    full, folded = (np.asarray(expect(params, ImageSpec(size, fold))) for fold in (False, True))
    np.testing.assert_array_equal(full, full[::-1])
    np.testing.assert_array_equal(full, full[:, ::-1])
    half = size // 2
    np.testing.assert_allclose(full[half:, half:] * 4, folded, rtol=1e-6)


@pytest.mark.parametrize("size", [64, 512])
def test_picture_is_linear_in_yield_and_in_yield_times_beta(size):
    spec = ImageSpec(size, True)
    one, two = np.array(PRIOR_LIKE), np.array(POLE)
    picture = {
        name: np.asarray(expect(shells((0.5, 0.006, number, beta)), spec), float)
        for name, number, beta in (
            ("one", 10**6, one),
            ("two", 10**6, two),
            ("mixture", 4 * 10**6, 0.25 * one + 0.75 * two),
        )
    }
    scale = picture["mixture"].max()
    mixture = picture["one"] + 3 * picture["two"]
    np.testing.assert_allclose(picture["mixture"], mixture, rtol=0, atol=2e-6 * scale)


# --- Rounding: the compiler may compute a value twice, rounded differently.


def test_no_shell_has_a_rounding_error_for_a_line_of_sight():
    # At the node R - 5.5 sigma the line of sight begins at the root of a rounding error. Where its
    # sign was taken twice, differently, the profile was wrong by up to a quarter of its peak: 1.4 %
    # of the shells. A shell beside it, R by 1e-6 off, must be the same to rounding.
    rng = np.random.default_rng(0)
    radius = rng.uniform(0.3, 0.9, 512).astype(np.float32)
    sigma = rng.uniform(0.005, 0.009, 512).astype(np.float32)

    @jax.jit
    def profiles(radius, sigma):
        def profile(shell):
            return shell_profile(*shell, jnp.asarray(PRIOR_LIKE, jnp.float32))

        return jax.lax.map(profile, (radius, sigma), batch_size=16)

    own, beside = (np.asarray(profiles(radius + np.float32(d), sigma)) for d in (0, 1e-6))
    scale = np.abs(own).max((1, 2))
    assert (np.abs(own - beside).max((1, 2)) / scale).max() < 1e-3


def test_counts_do_not_depend_on_rounding_where_the_nodes_change():
    # R - 6 sigma = 0.64 of the second shell is a point of the even grid, to rounding. The counts
    # there once were off by half a per cent; between equal steps of R they lie in the middle.
    spec = ImageSpec(352, True)
    beta = [0.65, 0.8, 0.3, 0.33], [-0.4, 0.1, 0.0, 0.0]

    def counts(step):
        rows = (0.45 + step, 0.007, 200_000, beta[0]), (0.7 + step, 0.01, 300_000, beta[1])
        params = shells(*rows).replace(electrons=jnp.asarray([2e5, 3e5], jnp.float32))
        return np.asarray(expect(params, spec), float)

    below, at, above = (counts(step) for step in (-1e-5, 0, 1e-5))
    assert np.abs(below + above - 2 * at).max() < 5e-5 * at.max()


@pytest.mark.parametrize(("width", "degree"), [(0.0029, 3), (0.005, 5)])
def test_points_of_a_pixel_are_exact_for_polynomials(width, degree):
    x, z, weight = _pixel_rule(width).T
    for i, j in np.ndindex(degree + 1, degree + 1):
        if i + j <= degree:
            sides = [0.0 if n % 2 else 2 * (width / 2) ** (n + 1) / (n + 1) for n in (i, j)]
            scale = width**2 * (width / 2) ** (i + j)
            assert np.sum(weight * x**i * z**j) == pytest.approx(np.prod(sides), abs=1e-12 * scale)


# --- Gradients


@functools.partial(jax.jit, static_argnums=3)
def derivatives(radius, sigma, beta, spec):
    """Pictures of one electron's derivatives by R, sigma and every beta."""

    def picture(radius, sigma, beta):
        one = jnp.ones(1, jnp.float32)
        return expected_counts(ShellParams(radius[None], sigma[None], one, beta[None]), spec)

    return jax.jacfwd(picture, argnums=(0, 1, 2))(radius, sigma, beta)


@pytest.mark.parametrize("size", [64, 352])
def test_gradients_match_central_differences_of_the_integral(size):
    spec = ImageSpec(size, True)
    radius, sigma, beta = np.float32(0.62), np.float32(0.006), np.float32(PRIOR_LIKE)
    by_radius, by_sigma, by_beta = (
        np.asarray(d, float) for d in derivatives(radius, sigma, beta, spec)
    )
    assert all(np.isfinite(d).all() for d in (by_radius, by_sigma, by_beta))
    pixels = chosen_pixels(0.62, spec)
    radius, sigma, beta = float(radius), float(sigma), beta.astype(float)

    def compare(computed, exact, tolerance):
        chosen = np.array([computed[i, j] for i, j in pixels])
        np.testing.assert_allclose(chosen, exact, rtol=0, atol=tolerance * np.abs(computed).max())

    def difference(function, step):
        return [(function(step, i, j) - function(-step, i, j)) / (2 * step) for i, j in pixels]

    exact = difference(lambda d, i, j: reference_pixel(radius + d, sigma, beta, spec, i, j), 1e-4)
    compare(by_radius, exact, 2e-3)
    exact = difference(lambda d, i, j: reference_pixel(radius, sigma + d, beta, spec, i, j), 1e-4)
    compare(by_sigma, exact, 2e-3)
    # linear in beta: any step gives the derivative
    for order in (0, 3, 11):
        step = np.eye(12)[order]
        exact = difference(
            lambda d, i, j, step=step: reference_pixel(radius, sigma, d * step, spec, i, j), 1.0
        )
        compare(by_beta[..., order], exact, 5e-4)


@pytest.mark.parametrize("size", [64, 352])
def test_reverse_gradient_is_finite_and_agrees_with_forward(size):
    spec = ImageSpec(size, True)
    weights = np.random.default_rng(0).normal(size=(spec.side, spec.side)).astype(np.float32)
    radius, sigma, beta = jnp.float32(0.62), jnp.float32(0.006), jnp.asarray(PRIOR_LIKE)

    def weighted(radius, sigma, beta):
        one = jnp.ones(1, jnp.float32)
        params = ShellParams(radius[None], sigma[None], one, beta[None])
        return jnp.sum(weights * expected_counts(params, spec))

    gradient = jax.jit(jax.grad(weighted, argnums=(0, 1, 2)))(radius, sigma, beta)
    for reverse, forward in zip(gradient, derivatives(radius, sigma, beta, spec), strict=True):
        forward = np.asarray(forward, float)
        exact = np.tensordot(weights, forward, axes=2)
        scale = np.abs(weights[..., None] * forward.reshape(spec.side, spec.side, -1)).sum((0, 1))
        assert (np.abs(np.asarray(reverse) - exact) <= 2e-5 * scale).all()
