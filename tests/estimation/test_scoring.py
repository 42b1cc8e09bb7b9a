"""The search, on quadratic functions whose lowest values are known."""

import numpy as np
import pytest

from sevi_jax.estimation.scoring import Limits, Reason, search
from sevi_jax.model.components import Shell
from sevi_jax.model.means import Layout
from sevi_jax.model.picture_model import Evaluation, Model, Values

LIMITS = Limits((1.0, 100.0), (0.5, 20.0), (10.0, 1e6))
START = np.array([50.0, 2.0, 1.0, 1000.0, 100.0])  # R, sigma, tau, N, N beta_2
SCALE = np.array([0.01, 0.01, 0.02, 20.0, 40.0])  # errors


class Bowl:
    """(v - lowest)' A (v - lowest), with parameters that are correlated."""

    size = 1000

    def __init__(self, lowest, rounding=0.0):
        self.model = Model((Shell((2,), "skewed"),), Layout((0, 2)))
        root = np.random.default_rng(3).normal(size=(5, 5)) + 3 * np.eye(5)
        self.matrix = root @ root.T / np.outer(SCALE, SCALE)
        self.lowest, self.rounding, self.count = np.array(lowest), rounding, 0

    def ensure_sorted(self, values):
        pass

    def evaluate(self, values):
        off = values.vector(self.model) - self.lowest
        self.count += 1
        # as if every mean were rounded: a little more at every evaluation
        deviance = 1e6 + off @ self.matrix @ off + self.rounding * self.count
        return Evaluation(float(deviance), -self.matrix @ off, self.matrix)


def lowest_along(bowl, directions, fixed):
    """Lowest vector of fixed + directions @ free."""
    a = directions.T @ bowl.matrix @ directions
    return fixed + directions @ np.linalg.solve(
        a, directions.T @ bowl.matrix @ (bowl.lowest - fixed)
    )


def test_inside_all_ranges():
    bowl = Bowl([52.0, 1.5, 2.0, 1500.0, -300.0])
    found = search(bowl, Values((START,)), LIMITS)
    assert found.reason is Reason.CONVERGED
    np.testing.assert_allclose(found.values.shells[0], bowl.lowest, rtol=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_tail_at_the_end_of_its_range_goes_with_sigma(sign):
    bowl = Bowl([52.0, 1.0, sign * 9.0, 1500.0, -300.0])
    found = search(bowl, Values((START,)), LIMITS)
    assert found.reason is Reason.BOUND
    directions = np.delete(np.eye(5), 2, axis=1)
    directions[2, 1] = sign * LIMITS.tail
    expected = lowest_along(bowl, directions, np.zeros(5))
    assert 0.5 < expected[1] < 20  # sigma is in its range
    np.testing.assert_allclose(found.values.shells[0], expected, rtol=1e-3)


def test_a_width_at_the_end_of_its_range():
    bowl = Bowl([52.0, 0.2, 0.1, 1500.0, -300.0])
    found = search(bowl, Values((START,)), LIMITS)
    assert found.reason is Reason.BOUND
    fixed = np.array([0.0, LIMITS.sigma[0], 0.0, 0.0, 0.0])
    expected = lowest_along(bowl, np.delete(np.eye(5), 1, axis=1), fixed)
    np.testing.assert_allclose(found.values.shells[0], expected, rtol=1e-3, atol=1e-3)


def test_what_rounding_hides_is_not_looked_for():
    """The score asks for half an error, and no step to there lowers the deviance."""
    bowl = Bowl([52.0, 1.5, 2.0, 1500.0, -300.0], rounding=2.0)
    error = np.sqrt(np.diagonal(np.linalg.inv(bowl.matrix)))
    start = bowl.lowest + 0.6 * error * np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    off = start - bowl.lowest
    assert 0.3 < off @ bowl.matrix @ off < 1
    found = search(bowl, Values((start,)), LIMITS)
    assert found.reason is Reason.CONVERGED
    assert found.evaluations < 8


def test_what_is_worth_more_than_an_error_is_no_end():
    bowl = Bowl([52.0, 1.5, 2.0, 1500.0, -300.0], rounding=5.0)
    error = np.sqrt(np.diagonal(np.linalg.inv(bowl.matrix)))
    start = bowl.lowest + 1.3 * error * np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    found = search(bowl, Values((start,)), LIMITS)
    assert found.reason is Reason.STUCK
