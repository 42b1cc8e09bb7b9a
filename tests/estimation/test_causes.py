"""Causes that are named where a fit holds what is wrong; nothing is named where nothing is."""

import dataclasses
import functools

import numpy as np
import pytest

from sevi_jax.estimation.causes import FALSE_ALARM
from sevi_jax.estimation.held import gain, log_chance, widened
from sevi_jax.estimation.spot import find_spot
from sevi_jax.model.components import Shell
from sevi_jax.model.means import Layout
from sevi_jax.model.picture_model import Evaluation, Model, Values
from sevi_jax.results.fit import fit
from sevi_jax.synthesis.spectrometer import simulate

SHELLS = (
    {"radius": 45.0, "sigma": 1.5, "electrons": 2e5, "beta": {2: 1.2}},
    {"radius": 80.0, "sigma": 2.0, "electrons": 3e5, "beta": {2: -0.6}},
)


def picture(seed=1, more=(), change=None, **conditions):
    """Draws two shells on 200 x 200 pixels; conditions and efficiency are not told to the fit."""
    shells = [{**shell, **(change or {})} for shell in SHELLS]
    found = simulate([*shells, *more], (200, 200), seed, **conditions)
    return dataclasses.replace(found, efficiency=None, gain=1.0)


def spot(rng, number):
    """Distances of electrons of a normal cloud in three dimensions, 2 pixels wide."""
    return 2 * np.linalg.norm(rng.normal(size=(number, 3)), axis=1)


def columns():
    """Pixels' middles along a row, from -1 to 1."""
    return (np.arange(200) + 0.5) / 100 - 1


WRONG = {
    "tilt": ({"angle": 7.0}, 7.0, "angle"),
    "ellipse": ({"ellipse": (0.014, -0.014)}, 100 * np.hypot(0.014, 0.014), "ellipse"),
    "harmonics 3": ({"third": (0.0, 0.01)}, 1.0, "harmonics"),
    "harmonics 4": ({"fourth": (-0.008, 0.0)}, 0.8, "harmonics"),
    "order 1": ({"change": {"beta": {1: 0.2, 2: 0.5}}}, 0.2, "orders=(1,2)"),
    "order 4": ({"change": {"beta": {2: 0.5, 4: 0.2}}}, 0.2, "orders=(2,4)"),
    "tail": ({"change": {"tail": 2.0}}, 1.0, "shape='skewed'"),
    "shell": (
        {"more": ({"radius": 20.0, "sigma": 1.5, "electrons": 3e4, "beta": {2: 0.5}},)},
        3e4,
        "shells=3",
    ),
    "background": ({"background": 0.5}, 0.5, "background='constant'"),
    "left and right": (
        {"efficiency": np.broadcast_to(np.exp(0.15 * (columns() - 1)), (200, 200))},
        30.0,
        "efficiency",
    ),
    "central spot": (
        {"more": ({"electrons": 1e5, "sampler": spot},)},
        1e5,
        "range=(",
    ),
    "hot pixels": ({"hot": ((20, 30, 65535.0), (150, 101, 5000.0))}, 2.0, "(150, 101)"),
    "gain": ({"gain": 1.5}, 1.5, "gain=1.5"),
}


@functools.cache
def fitted(kind):
    return fit(picture(**WRONG[kind][0]), 2)


@pytest.mark.parametrize("kind", WRONG)
def test_the_cause_is_named_with_its_size(kind):
    # sizes are 5 errors or more from being 20 % off
    _, size, help_ = WRONG[kind]
    found = fitted(kind)
    assert [cause.kind for cause in found.causes][:1] == [kind]
    first = found.causes[0]
    assert first.size == pytest.approx(size, rel=0.2)
    assert help_ in first.sentence
    assert "\n" not in first.sentence
    assert first.significance > 5


@pytest.mark.parametrize("kind", ["tilt", "ellipse", "hot pixels", "gain"])
def test_warnings_carry_the_sentence_where_p_is_small(kind):
    found = fitted(kind)
    assert found.p_value < 1e-3
    assert found.causes[0].sentence in found.warnings


def test_two_causes_are_told_apart():
    both = fit(picture(angle=6.0, ellipse=(0.0, 0.015)), 2).causes
    assert {cause.kind for cause in both} == {"tilt", "ellipse"}
    # the size of each is right beside the other
    sizes = {cause.kind: cause.size for cause in both}
    assert sizes["tilt"] == pytest.approx(6.0, rel=0.2)
    assert sizes["ellipse"] == pytest.approx(1.5, rel=0.2)


@pytest.mark.parametrize(("seed", "options"), [(11, {}), (12, {"free": ("origin", "ellipse")})])
def test_nothing_is_named_where_nothing_is_wrong(seed, options):
    # a good picture has a cause with a probability of about 1e-3
    found = fit(picture(seed), 2, **options)
    assert found.causes == ()
    assert found.warnings == ()
    assert 10 * FALSE_ALARM <= 1e-3


def test_a_gain_below_1_is_named():
    found = fit(picture(gain=0.01), 2)
    assert [cause.kind for cause in found.causes] == ["gain"]
    assert found.causes[0].size == pytest.approx(0.01, rel=0.2)
    assert any("gain=0.01" in warning for warning in found.warnings)


def test_the_gain_of_a_block_is_what_its_parameters_lower_a_parabola_by():
    # least squares: 40 numbers, 5 columns; columns 3 and 4 are freed beside 0 to 2
    rng = np.random.default_rng(1)
    matrix, right = rng.normal(size=(40, 5)), rng.normal(size=40)

    def solved(number):
        best, square, *_ = np.linalg.lstsq(matrix[:, :number], right, rcond=None)
        return best, float(square[0])

    fewer, all_of_them = solved(3), solved(5)
    residual = right - matrix[:, :3] @ fewer[0]
    evaluation = Evaluation(fewer[1], matrix.T @ residual, matrix.T @ matrix)
    lower, estimate, number = gain(evaluation, np.arange(3), np.arange(3, 5))
    assert lower == pytest.approx(fewer[1] - all_of_them[1])
    assert estimate == pytest.approx(all_of_them[0][3:])
    assert number == 2


def test_directions_that_are_free_already_gain_nothing():
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(40, 3))
    matrix = np.column_stack([matrix, matrix @ [1.0, -2.0, 0.5]])
    right = rng.normal(size=40)
    residual = right - matrix[:, :3] @ np.linalg.lstsq(matrix[:, :3], right, rcond=None)[0]
    evaluation = Evaluation(0.0, matrix.T @ residual, matrix.T @ matrix)
    assert gain(evaluation, np.arange(3), np.array([3]))[2] == 0


@pytest.mark.parametrize("number", [1, 2, 8])
def test_the_chance_far_in_the_tail(number):
    from scipy import integrate, special

    # by integration of the density, of which exp(-x / 2) is taken out; continuous where it changes
    for x in (5.0, 200.0, 920.0, 3000.0):
        rest, _ = integrate.quad(
            lambda t, x=x: np.exp(-t / 2) * (1 + t / x) ** (number / 2 - 1), 0, 200
        )
        expected = -x / 2 + (number / 2 - 1) * np.log(x) + np.log(rest)
        expected -= number / 2 * np.log(2) + special.gammaln(number / 2)
        assert log_chance(x, number) == pytest.approx(expected, rel=1e-3)


def test_the_widened_model_has_the_means_of_the_narrow_one():
    model = Model((Shell((2,)), Shell((2, 4), "skewed")), Layout((0, 2, 4), (0, 1), 1))
    values = Values(
        (np.array([30.0, 2, 1000, 500]), np.array([60.0, 2, 1.0, 1000, 500, 100])),
        np.array([1.0, 2, 0.1, 0, 0, 0, 0, 0, 0]),
        np.array([0.5, *np.zeros(14)]),
    )
    wide, same = widened(model, values)
    assert set(model.names) < set(wide.names)
    found = dict(zip(wide.names, same.vector(wide), strict=True))
    for name, value in zip(model.names, values.vector(model), strict=True):
        assert found[name] == value
    others = [found[name] for name in wide.names if name not in model.names and name != "angle"]
    assert not np.any(others)
    assert found["angle"] == 0.1


def test_a_spot_is_found_with_its_electrons():
    rng = np.random.default_rng(2)
    place = np.hypot(*(np.mgrid[:100, :100] + 0.5 - np.array([47.2, 55.9])[:, None, None]))
    mean = 0.05 + 1e5 / (2 * np.pi * 2.5**2) * np.exp(-0.5 * (place / 2.5) ** 2)
    counts = rng.poisson(mean).astype(float)
    found = find_spot(counts, np.ones(counts.shape), (47.2, 55.9))
    assert abs(found.electrons - 1e5) < 4.5 * found.error + 100
    assert 6 < found.radius < 14
    assert find_spot(rng.poisson(0.05 + 0 * mean), np.ones(counts.shape), (47.2, 55.9)) is None


def test_an_efficiency_is_measured_around_the_rings_that_are_fitted():
    """In the middle, which is left out, and between rings nothing tells it."""
    row, column = np.meshgrid(columns(), columns(), indexing="ij")
    drawn = picture(efficiency=np.exp(0.15 * (row**3 - 3 * row * column**2) - 0.42))
    (cause,) = [x for x in fit(drawn, 2, range=(38, 92)).causes if x.kind == "efficiency"]
    # 0.15 r^3 cos 3t, where the electrons are
    distance = np.hypot(row, column)
    used = (distance > 0.38) & (distance < 0.92)
    size = np.sqrt(np.average(0.15**2 * distance[used] ** 6 / 2, weights=drawn.counts[used]))
    assert cause.size == pytest.approx(100 * size, rel=0.2)
