"""The search of a distribution of any form: its chain rule, its penalty and its scales."""

import numpy as np
import pytest

from sevi_jax.estimation.freeform import (
    Differences,
    FoundFree,
    Smooth,
    fewest_per_pixel,
    jumps,
    rings,
    step_within_reach,
)
from sevi_jax.estimation.scoring import Found, Quadratic, Reason
from sevi_jax.model.components import Shell
from sevi_jax.model.continuum import Continuum
from sevi_jax.model.means import Layout
from sevi_jax.model.picture_model import Evaluation, Model, Values
from sevi_jax.physics.series import modes_for


@pytest.fixture
def smooth():
    continuum = Continuum(16.0, 1.0, (1, 2))
    model = Model((), Layout(modes_for(continuum.orders), (0, 1), 1), continuum)
    rng = np.random.default_rng(3)
    precision = np.zeros((model.size, model.size))
    precision[-2:, -2:] = [[2.0, 0.4], [0.4, 1.0]]  # of what is beside the continuum
    term = Quadratic(np.full(model.size, 0.2), precision)
    found = Smooth(model, rng.normal(0.5, 1.0, continuum.count), 0.3, [term])
    for differences in found.differences:
        differences.variance = rng.uniform(0.1, 2.0, differences.number)
    return found


@pytest.fixture
def vector(smooth):
    rng = np.random.default_rng(4)
    found = rng.normal(0.0, 1.0, smooth.size)
    for part in smooth.betas:
        found[part] = rng.uniform(-0.3, 0.3, smooth.count)
    return found


def slopes_of(function, vector, step=1e-5):
    """Central differences of a function of a vector."""
    found = []
    for unit in np.eye(len(vector)) * step:
        found.append((function(vector + unit) - function(vector - unit)) / (2 * step))
    return np.array(found)


def test_chain_rule(smooth, vector):
    rng = np.random.default_rng(5)
    root = rng.normal(size=(smooth.size, smooth.size))
    information, target = root @ root.T, rng.normal(size=smooth.size)

    def half(v):
        off = smooth.amplitudes(v) - target
        return 0.5 * off @ information @ off

    score = -information @ (smooth.amplitudes(vector) - target)
    slope, matrix = smooth.pulled(vector, score, information)
    np.testing.assert_allclose(slope, -slopes_of(half, vector), rtol=1e-5, atol=1e-4)
    jacobian = slopes_of(smooth.amplitudes, vector).T
    np.testing.assert_allclose(matrix, jacobian.T @ information @ jacobian, rtol=1e-5, atol=1e-4)
    covariance = np.linalg.inv(root @ root.T + np.eye(smooth.size))
    pushed = smooth.pushed(vector, covariance)
    np.testing.assert_allclose(pushed, jacobian @ covariance @ jacobian.T, rtol=1e-5, atol=1e-6)


def test_slope_and_curvature_of_the_penalty(smooth, vector):
    _, slope, curvature = smooth.penalty(vector)
    expected = -slopes_of(lambda v: smooth.penalty(v)[0], vector)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-5)
    expected = -slopes_of(lambda v: smooth.penalty(v)[1], vector)
    np.testing.assert_allclose(curvature, expected, rtol=1e-4, atol=1e-4)


def test_negative_densities_have_no_chance(smooth, vector):
    part = smooth.betas[1]
    vector[part] = 2.5  # 1 + beta P_2 is negative at 90 degrees from beta = 2 on
    assert smooth.penalty(vector)[0] == np.inf
    vector[part] = 0.5
    step = np.zeros(smooth.size)
    step[part] = 10.0
    kept = vector + smooth.share(vector, step) * step
    assert np.isfinite(smooth.penalty(kept)[0])


def test_gaussian_rings_are_smooth():
    # log I of a Gaussian ring is a parabola: all third differences are 0
    differences = Differences(np.arange(40.0), 3)
    log_intensity = -0.5 * ((np.arange(40.0) - 17.3) / 2.6) ** 2
    np.testing.assert_allclose(differences.of(log_intensity), 0, atol=1e-10)
    assert np.abs(log_intensity @ differences.precision() @ log_intensity) < 1e-10


def test_scales_are_found_where_values_are_known():
    rng = np.random.default_rng(6)
    number = 400
    true = np.where(np.arange(number) < number / 2, 0.03, 0.6)
    values = np.cumsum(np.cumsum(rng.normal(size=number) * true))
    differences = Differences(np.arange(number * 1.0), 2)
    exact = np.zeros((number, number))
    differences.revise(values, exact)
    # a window holds 7 numbers, and the geometric mean of all counts as 0.3; for numbers that are
    # known exactly the variance is (7 v + 0.3 mean) / 7.3, v a mean of 7 squares, whose relative
    # error is 0.53
    mean = np.prod([0.03, 0.6])
    for half in (slice(0, 190), slice(205, None)):
        expected = (7 * true[half][0] ** 2 + 0.3 * mean) / 7.3
        found = differences.variance[half].mean()
        assert found == pytest.approx(expected, rel=0.3)  # 3 of its own standard deviations


def test_differences_over_half_pixels():
    nodes = np.sort(np.concatenate([np.arange(30.0), [9.5, 10.5, 11.5]]))
    parabola = 0.3 * (nodes - 4) ** 2 - nodes
    differences = Differences(nodes, 3)
    np.testing.assert_allclose(differences.of(parabola), 0, atol=1e-9)
    # those of r^3 are 6 h^3 of evenly spaced nodes, here divided by the root of h
    cubic = differences.of(nodes**3)
    assert cubic[0] == pytest.approx(6.0)
    even = np.flatnonzero(differences.middle == 10.25)
    np.testing.assert_allclose(cubic[even], 6 * 0.5**2.5)
    np.testing.assert_allclose(
        parabola @ differences.precision() @ parabola,
        np.sum(differences.of(parabola) ** 2 / differences.variance),
        atol=1e-6,
    )


def test_errors_of_scales_are_those_of_an_estimate():
    # one value each with a normal prior whose variance rests on n numbers: a posterior mean
    # d v / (v + s) moves by d s / (v + s)^2 dv, and dv = v sqrt(2 / n)
    differences = Differences(np.arange(5.0), 1)
    differences.worth[:] = 8.0
    differences.variance[:] = 2.0
    values, covariance = np.array([0, 0, 3.0, 3.0, 3.0]), np.diag(np.full(5, 0.1))
    moved = differences.moved(values, covariance)
    shift = 0.1 * 3.0 / 2.0 * np.sqrt(2 / 8)  # covariance times pull, of both ends of the jump
    expected = np.zeros((5, 5))
    expected[1:3, 1:3] = [[1, -1], [-1, 1]]
    np.testing.assert_allclose(moved @ moved.T, expected * shift**2, atol=1e-12)


def test_variances_beneath_a_shell_are_those_beside_it():
    shell = Shell((2,))
    continuum = Continuum(60.0, 1.0, (2,))
    model = Model((shell,), Layout(modes_for((2,))), continuum)
    smooth = Smooth(model, np.zeros(continuum.count), 0.0)
    vector = np.zeros(model.size)
    vector[:2] = 30.0, 2.0
    beneath = smooth.beneath(vector, continuum.nodes)
    np.testing.assert_array_equal(continuum.nodes[beneath], np.arange(25.0, 36.0))
    differences = smooth.differences[0]
    hidden = smooth.beneath(vector, differences.middle)
    rng = np.random.default_rng(8)
    values = np.zeros(continuum.count)
    values[continuum.nodes == 30] = 50.0  # a peak, of which nothing is to be seen
    values += np.cumsum(np.cumsum(np.cumsum(rng.normal(size=len(values)) * 0.05)))
    exact = np.zeros((len(values), len(values)))
    differences.revise(values, exact, hidden=hidden)
    low, high = np.flatnonzero(hidden)[[0, -1]] + [-1, 1]
    ends = np.log(differences.variance[[low, high]])
    share = (differences.middle[hidden] - differences.middle[low]) / (high - low)
    np.testing.assert_allclose(
        np.log(differences.variance[hidden]), ends[0] + share * (ends[1] - ends[0])
    )
    assert np.sqrt(differences.variance[hidden].max()) < 0.3
    # the errors of those beside are all that those beneath have
    moved = differences.moved(values, np.eye(len(values)))
    assert np.abs(moved[:, low + 4 : high - 3]).max() < 1e-9 < np.abs(moved[:, low]).max()


def test_rings_are_taken_out_of_what_is_left():
    continuum = Continuum(60.0, 1.0, (2,))
    model = Model((), Layout(modes_for(continuum.orders)), continuum)
    smooth = Smooth(model, np.zeros(continuum.count), 0.0)
    nodes = continuum.nodes
    beneath = 1e3 * np.exp(-nodes / 25)
    true = [(18.0, 1.5, 2e4, 1.2), (40.0, 2.5, 3e4, -0.6)]
    intensity, harmonic = beneath.copy(), 0.3 * beneath
    for radius, sigma, electrons, beta in true:
        ring = electrons * np.exp(-0.5 * ((nodes - radius) / sigma) ** 2)
        ring /= sigma * np.sqrt(2 * np.pi)
        intensity, harmonic = intensity + ring, harmonic + beta * ring
    values = Values((), continuum=np.concatenate([intensity, harmonic]))
    nothing = np.zeros((0, 0))
    found = Found(values, Evaluation(0.0, nothing, nothing), nothing, Reason.CONVERGED, 1)
    free = FoundFree(found, np.diag(np.full(model.size, 1e2)), 0.0, smooth, nothing)
    answer, left = rings(free, continuum, 2)
    for (radius, sigma, electrons, beta), ring in zip(true, answer, strict=True):
        np.testing.assert_allclose(
            ring, [radius, sigma, electrons, electrons * beta], rtol=0.05, atol=0.05 * electrons
        )
        assert abs(ring[0] - radius) < 0.5
        assert abs(ring[1] - sigma) < 0.1
    left_intensity, left_harmonic = left.reshape(2, -1)
    # 3 sigma off its peak a ring has a hundredth of its height, a quarter of the continuum there
    np.testing.assert_allclose(left_intensity, beneath, rtol=0.35)
    np.testing.assert_allclose(left_harmonic, 0.3 * beneath, rtol=0.35, atol=60)


def test_steps_go_down_where_they_would_run_away(smooth, vector):
    # what lies beyond the picture is known by its sum with what lies within alone: a step that is
    # cut off beyond, and not within, goes up
    place = np.arange(smooth.x.start, smooth.x.stop)
    tight = np.zeros(smooth.size)
    tight[place] = 1.0
    matrix = 1e-4 * np.eye(smooth.size) + 1e4 * np.outer(tight, tight)
    right = np.zeros(smooth.size)
    right[place] = np.where(smooth.beyond, 5e-3, -5e-3)
    whole = np.linalg.solve(matrix, right)
    assert whole[place[smooth.beyond]].min() > 20
    step = step_within_reach(smooth, matrix, right)
    assert step is not None
    assert np.abs(step[place[smooth.beyond]]).max() <= 2
    assert 0.5 * step @ matrix @ step - right @ step < 0
    short = step_within_reach(smooth, matrix, 0.01 * right)
    assert short is not None
    np.testing.assert_allclose(short, 0.01 * whole, rtol=1e-5)


def test_a_first_background_is_no_chance_minimum():
    y, x = np.mgrid[-128:128, -128:128] + 0.5
    place = np.hypot(x, y).astype(int).ravel()
    pixels = np.bincount(place)
    rng = np.random.default_rng(9)
    counts = rng.poisson(0.3, place.size) + rng.poisson(3.0 * np.exp(-place / 20))
    rings = np.bincount(place, counts)
    alone = rings / pixels
    assert alone[pixels > 50].min() < 0.25
    # a mean over a hundredth of all pixels has an error of 0.02; the least of some ten of them
    # is 1.5 such errors lower, and 3 more are allowed
    assert 0.21 < fewest_per_pixel(rings, pixels) < 0.33


def test_nodes_are_halved_at_jumps_alone():
    continuum = Continuum(40.0, 1.0, (2,))
    model = Model((), Layout(modes_for(continuum.orders)), continuum)
    smooth = Smooth(model, np.zeros(continuum.count), 0.0)
    nothing = np.zeros((0, 0))
    nodes = continuum.nodes
    ring = 1e5 * np.exp(-0.5 * ((nodes - 12) / 2.5) ** 2)
    jump = np.where((nodes > 25) & (nodes < 33), 1e5, 1.0)
    for intensity, edges in ((ring, ()), (ring + jump, (26, 33))):
        values = Values((), continuum=np.concatenate([intensity, 0 * intensity]))
        found = Found(values, Evaluation(0.0, nothing, nothing), nothing, Reason.CONVERGED, 1)
        covariance = np.diag(np.full(model.size, 1e3**2))
        halved = jumps(FoundFree(found, covariance, 0.0, smooth, nothing), model)
        # interval k ends at node k; they come in multiples of 16
        assert len(halved) == (16 if edges else 0)
        for edge in edges:
            assert {edge - 1, edge, edge + 1} <= set(halved)


def test_a_polarisation_does_not_turn_around_while_nothing_tells_where_it_is():
    # without beta the angle has no information, and its step by rounding alone may be any
    continuum = Continuum(16.0, 1.0, (2,))
    model = Model((), Layout(modes_for(continuum.orders), (2,), 1), continuum)
    smooth = Smooth(model, np.zeros(continuum.count), 0.0)
    matrix = np.eye(model.size)
    place = model.starts[-1]  # the geometry follows the shells, of which there are none
    matrix[place, place] = 1e-7
    right = np.full(model.size, 1e-3)
    step = step_within_reach(smooth, matrix, right)
    assert step is not None
    assert 0 < step[place] <= 0.1
    others = np.arange(model.size) != place
    np.testing.assert_allclose(step[others], 1e-3)
