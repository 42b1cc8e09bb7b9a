"""Pictures drawn electron by electron against closed forms.

Where a test is random its seed is fixed. A p-value is asked to exceed 1e-5, and a mean to lie
within 4.5 of its standard errors: with a free seed each such check fails once in 1e5 runs.
"""

import subprocess
import sys

import numpy as np
import pytest
import reference_mean
from numpy.polynomial import legendre
from scipy import stats

from sevi_jax.errors import InputError
from sevi_jax.synthesis import spectrometer
from sevi_jax.synthesis.spectrometer import (
    CosineSampler,
    TrueShell,
    Truth,
    bend,
    draw_shell,
    simulate,
)

PRIOR_LIKE = {
    2: 1.9,
    4: 1.8,
    6: 1.2,
    8: 0.9,
    10: 0.6,
    12: 0.35,
    14: 0.2,
    16: 0.1,
    18: 0.04,
    24: 0.003,
}
BETAS = [{}, {2: 2}, {2: -1}, {1: 0.3, 2: -0.5, 3: -0.1}, {1: 1}, PRIOR_LIKE, {24: 0.9, 23: 0.05}]


def cumulative(cosine, beta):
    """Distribution function of cos(theta)."""
    coefficients = np.zeros(25)
    coefficients[0] = 0.5
    for order, value in beta.items():
        coefficients[order] = value / 2
    return legendre.legval(cosine, legendre.legint(coefficients, lbnd=-1))


def within(values, expected, errors=4.5):
    """Whether the mean of values is the expected one, by its own standard error."""
    return abs(np.mean(values) - expected) < errors * np.std(values) / np.sqrt(len(values))


def drawn(shell, number=200_000, seed=0):
    shell = TrueShell(**shell)
    return draw_shell(np.random.default_rng(seed), shell, CosineSampler(shell.beta), number)


@pytest.mark.parametrize("cells", [2, 256])  # of 2 cells nearly every candidate is in doubt
@pytest.mark.parametrize("beta", BETAS)
def test_cosine_has_the_density(beta, cells, monkeypatch):
    monkeypatch.setattr(spectrometer, "_CELLS", cells)
    cosine = CosineSampler(beta).draw(np.random.default_rng(1), 200_000)
    assert len(cosine) == 200_000
    assert stats.kstest(cosine, cumulative, args=(beta,)).pvalue > 1e-5
    for order in (1, 2, 3, 4, 6, 24):
        values = legendre.legval(cosine, np.eye(25)[order])
        assert within(values, beta.get(order, 0) / (2 * order + 1)), order


@pytest.mark.parametrize("beta", BETAS)
def test_bounds_of_every_cell_hold(beta):
    sampler = CosineSampler(beta)
    at = np.linspace(sampler.edges[:-1], sampler.edges[1:], 101)
    density = legendre.legval(at, np.eye(25)[0] + sum(v * np.eye(25)[n] for n, v in beta.items()))
    assert (sampler.upper - density.max(0) >= 0).all()
    assert (density.min(0) - sampler.lower >= -1e-13).all()
    # and are no wider than the density varies: 101 points miss an extremum by less than this
    assert (sampler.upper - density.max(0)).max() < 2e-4
    assert (density.min(0) - sampler.lower).max() < 2e-4


@pytest.mark.parametrize(
    ("beta", "where"), [({2: 2.01}, r"-?0\.000"), ({1: -1.01}, r"1\.000"), ({4: 2.4}, r"-?0\.655")]
)
def test_negative_density_is_refused_in_one_line(beta, where):
    shell = {"radius": 9, "sigma": 1, "electrons": 5}
    with pytest.raises(InputError, match=rf"shell 2: .* negative.* cos theta = {where}") as error:
        simulate([shell, {**shell, "beta": beta}], (20, 20))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ratio", [0.3, 1, 3, 30])
def test_radius_is_normal_and_cut_at_zero(ratio):
    r = drawn({"radius": 2.0 * ratio, "sigma": 2.0})[0]
    assert stats.kstest(r, stats.truncnorm(-ratio, np.inf, 2 * ratio, 2).cdf).pvalue > 1e-5


@pytest.mark.parametrize(("radius", "tail"), [(60, 3), (60, -3), (1, 3), (2, -1.5)])
def test_radius_with_a_tail_is_exponentially_modified_and_cut_at_zero(radius, tail):
    r = drawn({"radius": radius, "sigma": 2.0, "tail": tail})[0]
    whole = stats.exponnorm(abs(tail) / 2, radius, 2)

    def below(x):
        """Probability of r < x before the cut; a negative tail is the mirrored one about R."""
        return whole.cdf(x) if tail > 0 else whole.sf(2 * radius - x)

    assert r.min() > 0
    assert stats.kstest(r, lambda x: (below(x) - below(0)) / (1 - below(0))).pvalue > 1e-5


def test_radius_of_a_free_distribution():
    r = drawn({"sampler": lambda rng, n: rng.gamma(3, 10, n)})[0]
    assert stats.kstest(r, stats.gamma(3, scale=10).cdf).pvalue > 1e-5
    r = drawn({"sampler": lambda rng, n: rng.uniform(-1, 3, n)})[0]
    assert stats.kstest(r, stats.uniform(0, 3).cdf).pvalue > 1e-5


def test_projection_of_an_isotropic_shell():
    _, _, along, across = drawn({"radius": 10, "sigma": 0})
    # Archimedes: every coordinate of a sphere is uniform
    assert stats.kstest(along, stats.uniform(-10, 20).cdf).pvalue > 1e-5
    assert stats.kstest(across, stats.uniform(-10, 20).cdf).pvalue > 1e-5
    s = np.hypot(along, across)
    assert stats.kstest(s, lambda s: 1 - np.sqrt(1 - (s / 10) ** 2)).pvalue > 1e-5


def test_projection_keeps_direction():
    r, cosine, along, across = drawn({"radius": 10, "sigma": 2, "beta": {1: 0.4, 2: 1.2, 3: 0.2}})
    np.testing.assert_allclose(along, r * cosine)
    azimuth = across / (r * np.sqrt(1 - cosine**2))
    assert stats.kstest(np.arccos(azimuth), stats.uniform(0, np.pi).cdf).pvalue > 1e-5
    # r, cos(theta) and the azimuth know nothing of one another
    for a, b in ((r, cosine), (r, azimuth), (cosine, azimuth)):
        assert within((a - a.mean()) * (b - b.mean()), 0)


def test_harmonics_change_the_distance_only():
    truth = Truth((), third=(0.03, -0.02), fourth=(0.01, 0.04))
    t = np.linspace(-3, 3, 50)
    rows, columns = bend(7 * np.cos(t), 7 * np.sin(t), truth)
    np.testing.assert_allclose(np.arctan2(columns, rows), t)
    expected = 1 + 0.03 * np.cos(3 * t) - 0.02 * np.sin(3 * t)
    expected += 0.01 * np.cos(4 * t) + 0.04 * np.sin(4 * t)
    np.testing.assert_allclose(np.hypot(rows, columns), 7 * expected)
    # after the ellipse: the angle is that on the detector
    both = Truth((), ellipse=(0.1, 0.05), third=(0.03, -0.02), fourth=(0.01, 0.04))
    first = bend(rows, columns, Truth((), ellipse=(0.1, 0.05)))
    np.testing.assert_allclose(bend(rows, columns, both), bend(*first, truth))


def moments(picture, origin):
    """Number, means and second moments of a picture's counts about a point, and their errors."""
    rows, columns = (np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5).reshape(2, -1)
    rows, columns = rows - origin[0], columns - origin[1]
    weight = picture.counts.ravel()
    values = np.stack([rows, columns, rows**2, rows * columns, columns**2])
    mean = values @ weight / weight.sum()
    error = np.sqrt(((values - mean[:, None]) ** 2) @ weight) / weight.sum()
    return mean, error


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"angle": 20.0},
        {"angle": 90.0},
        {"ellipse": (0.1, 0.0)},
        {"angle": -30.0, "ellipse": (0.05, -0.08), "blur": 3.0},
    ],
)
def test_moments_of_a_picture(conditions):
    radius, sigma, beta = 30.0, 4.0, {1: 0.3, 2: 0.8}
    origin = (70.3, 88.6)
    shell = {"radius": radius, "sigma": sigma, "electrons": 300_000, "beta": beta, "exact": True}
    picture = simulate([shell], (150, 170), 3, origin=origin, **conditions)
    assert picture.counts.sum() == 300_000
    # moments of the sphere: E c = beta_1 / 3, E c^2 = 1/3 + 2 beta_2 / 15
    square = radius**2 + sigma**2
    c2 = 1 / 3 + 2 * beta[2] / 15
    along = np.array([radius * beta[1] / 3, 0])
    second = square * np.diag([c2, (1 - c2) / 2])
    t = np.radians(conditions.get("angle", 0.0))
    turn = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    a, b = conditions.get("ellipse", (0, 0))
    matrix = np.array([[1 + a, b], [b, 1 - a]]) @ turn
    second = matrix @ second @ matrix.T + np.eye(2) * conditions.get("blur", 0) ** 2
    # a pixel's own width; Sheppard's correction is exact enough for smooth densities
    second += np.eye(2) / 12
    expected = [*matrix @ along, second[0, 0], second[0, 1], second[1, 1]]
    mean, error = moments(picture, origin)
    assert (abs(mean - expected) < 4.5 * error).all(), (mean - expected) / error


@pytest.mark.parametrize(
    ("shell", "conditions"),
    [
        (
            {"radius": 20, "sigma": 2, "beta": {1: 0.3, 2: -0.4, 3: -0.15, 4: 0.1}},
            {
                "angle": 25.0,
                "ellipse": (0.05, -0.03),
                "third": (0.02, 0.01),
                "fourth": (-0.01, 0.02),
            },
        ),
        ({"radius": 20, "sigma": 2, "tail": -3, "beta": {2: -0.8}}, {"origin": (-3, 60)}),
        ({"radius": 2, "sigma": 4, "tail": 3, "beta": {1: 0.3, 2: 1}}, {"origin": (30.1, 35.3)}),
    ],
)
def test_picture_has_the_means_by_quadrature(shell, conditions):
    shell = {**shell, "electrons": 500_000}
    picture = simulate([shell], (60, 70), 3, **{"origin": (25.3, 39.2), **conditions})
    mean = reference_mean.mean(picture.truth, 2)
    share = picture.truth.inside[0] / picture.truth.drawn[0]
    error = np.sqrt(share * (1 - share) / 500_000)
    assert abs(mean.sum() / 500_000 - share) < 4.5 * error + 3e-5  # of the quadrature
    for side in (1, 5):
        blocks = [
            x.reshape(60 // side, side, 70 // side, side).sum((1, 3))
            for x in (picture.counts, mean)
        ]
        n, m = (x[blocks[1] > 1] for x in blocks)
        assert len(n) > 30
        # of a Poisson number of mean m, (n - m)^2 / m has the mean 1 and the variance 2 + 1 / m;
        # chi-square of 30 degrees of freedom exceeds 5 of its standard deviations once in 1e4
        assert abs(((n - m) ** 2 / m - 1).sum()) < 5 * np.sqrt((2 + 1 / m).sum())


def test_positive_angle_turns_axis_0_towards_axis_1():
    picture = simulate(
        [{"radius": 30, "sigma": 1, "electrons": 1e5, "beta": {1: 1}}], (80, 80), 4, angle=30
    )
    (row, column), _ = (part[:2] for part in moments(picture, (40, 40)))
    assert np.degrees(np.arctan2(column, row)) == pytest.approx(30, abs=1.5)  # 4.5 errors


def test_no_electron_is_lost():
    shells = [
        {"radius": 30, "sigma": 1, "electrons": 200_001, "exact": True},
        {"radius": 60, "sigma": 1, "electrons": 100_000, "exact": True},
    ]
    picture = simulate(shells, (80, 200), 5)
    truth = picture.truth
    assert truth.drawn == (200_001, 100_000)
    assert truth.inside[0] == 200_001
    assert truth.counted == truth.inside
    assert picture.counts.sum() == sum(truth.counted)
    # rows of a sphere are uniform: those within 40 of 60; binomial
    assert abs(truth.inside[1] - 1e5 * 2 / 3) < 4.5 * np.sqrt(1e5 * 2 / 9) + 20  # width of sigma


def test_origin_outside_and_efficiency():
    efficiency = np.full((60, 50), 0.6)
    efficiency[:20] = 0
    shell = {"radius": 30, "sigma": 1e-3, "electrons": 300_000, "exact": True}
    picture = simulate([shell], (60, 50), 6, origin=(70.0, -5.0), efficiency=efficiency)
    plain = simulate([shell], (60, 50), 6, origin=(70.0, -5.0))
    truth = picture.truth
    assert truth.inside == plain.truth.inside
    assert 0 < truth.inside[0] < 100_000
    assert picture.counts[:20].sum() == 0
    assert (picture.counts <= plain.counts).all()
    reached = plain.counts[20:].sum()
    assert abs(truth.counted[0] - 0.6 * reached) < 4.5 * np.sqrt(0.24 * reached)
    # nothing lies beyond the shell's edge
    rows, columns = np.mgrid[:60, :50]
    assert plain.counts[np.hypot(rows + 1 - 70, columns + 5) > 30.1].sum() == 0
    assert picture.efficiency is not None
    assert picture.origin is None


def test_numbers_follow_poisson():
    numbers = [
        simulate([{"radius": 5, "sigma": 1, "electrons": 50}], (20, 20), k).truth.drawn[0]
        for k in range(400)
    ]
    assert within(numbers, 50)
    assert 400 * np.var(numbers) / 50 == pytest.approx(400, abs=4.5 * np.sqrt(800))


def test_background_and_off_picture():
    mean = lambda row, column: 2 + row / 50 + 0 * column  # noqa: E731
    efficiency = np.full((100, 120), 0.5)
    picture = simulate([], (100, 120), 7, background=mean, off_scale=0.25, efficiency=efficiency)
    rows = np.arange(100) + 0.5
    for values, expected in ((picture.counts, 1 + rows / 100), (picture.off, 4 + 4 * rows / 100)):
        pull = (values.sum(1) - 120 * expected) / np.sqrt(120 * expected)
        assert stats.chi2.sf((pull**2).sum(), 100) > 1e-5
        assert stats.chi2.cdf((pull**2).sum(), 100) > 1e-5
    flat = simulate([], (100, 120), 7, background=0.05)
    assert flat.off is None
    assert abs(flat.counts.sum() - 600) < 4.5 * np.sqrt(600)


def test_camera():
    shell = {"radius": 20, "sigma": 2, "electrons": 2e4}
    counts = simulate([shell], (60, 60), 8).counts
    values = simulate([shell], (60, 60), 8, gain=37.0, offset=100.0, hot=((3, 5, 65535.0),)).counts
    expected = 37 * counts + 100
    expected[3, 5] = 65535
    np.testing.assert_array_equal(values, expected)


def test_scatter_of_the_gain():
    values = simulate([], (300, 300), 9, background=400.0, gain=3.0, scatter=0.1).counts
    assert within(values.ravel(), 1200)
    variance = 3 * 1200 + 120**2 + 0.01 * 3 * 1200
    # near enough to a normal distribution for the error of a variance
    assert np.var(values) == pytest.approx(variance, rel=5 * np.sqrt(2 / values.size))


def test_seed_and_streams():
    shells = [
        {"radius": 20, "sigma": 2, "electrons": 2e4},
        {"radius": 9, "sigma": 1, "electrons": 9},
    ]
    one = simulate(shells, (60, 60), 8)
    np.testing.assert_array_equal(one.counts, simulate(shells, (60, 60), 8).counts)
    assert (one.counts != simulate(shells, (60, 60), 9).counts).any()
    # what is added draws nothing from the shells' streams
    more = simulate([*shells, shells[0]], (60, 60), 8, background=1.0, gain=2.0, scatter=0.1)
    assert more.truth.drawn[:2] == one.truth.drawn
    assert more.truth.drawn[2] != one.truth.drawn[0]


def test_picture_is_told_what_a_user_knows():
    mask = np.ones((30, 40), bool)
    mask[:3] = False
    picture = simulate([], (30, 40), 1, background=1.0, mask=mask, blur=2.0, gain=5.0, off_scale=2)
    assert picture.shape == (30, 40)
    np.testing.assert_array_equal(picture.used, mask)
    assert picture.blur == 2
    assert picture.gain is picture.origin is picture.off_scale is None
    assert (picture.truth.gain, picture.truth.off_scale) == (5, 2)
    assert picture.truth.origin == (15, 20)


@pytest.mark.parametrize(
    ("shell", "conditions", "message"),
    [
        ({"radius": 5, "sigma": -1, "electrons": 5}, {}, "sigma=-1"),
        ({"sigma": 1, "electrons": 5}, {}, "radius=nan"),
        ({"radius": 5, "sigma": 1, "electrons": -5}, {}, "electrons=-5"),
        ({"radius": 5, "sigma": 1, "electrons": 5.5, "exact": True}, {}, "whole"),
        ({"radius": 5, "sigma": 1, "electrons": 5, "beta": {25: 1}}, {}, "orders 1 to 24"),
        ({"radius": -50, "sigma": 1, "electrons": 5e4}, {}, "fewer than one radius in 1000"),
        ({"sampler": lambda rng, n: np.ones(3), "electrons": 50}, {}, r"shape \(3,\)"),
        ({"radius": 5, "sigma": 1}, {"gain": 0}, "gain=0"),
        ({"radius": 5, "sigma": 1}, {"blur": -1}, "blur=-1"),
        ({"radius": 5, "sigma": 1}, {"ellipse": (1, 0.2)}, "below 1"),
        ({"radius": 5, "sigma": 1}, {"efficiency": np.full((20, 20), 1.1)}, "from 0 to 1"),
        ({"radius": 5, "sigma": 1}, {"mask": np.ones((3, 3))}, r"mask has shape \(3, 3\)"),
        ({"radius": 5, "sigma": 1}, {"hot": ((20, 1, 5),)}, "outside the picture"),
        ({"radius": 5, "sigma": 1}, {"background": -1}, "background"),
        ({"radius": 5, "sigma": 1}, {"shape": (1, 20)}, "at least 2 x 2"),
    ],
)
def test_mistakes_are_refused_in_one_line(shell, conditions, message):
    with pytest.raises(InputError, match=message) as error:
        simulate([shell], **{"shape": (20, 20), **conditions})
    assert "\n" not in str(error.value)


def test_needs_no_jax():
    code = "import sys, sevi_jax.synthesis.spectrometer; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
