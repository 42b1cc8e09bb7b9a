"""Statistics of trials against numbers that are known exactly or to a stated false-alarm rate."""

import math

import numpy as np
import pytest

from scripts.trials import judging


def row(pulls, **other):
    """A row whose errors are 0.5 and whose truth is 1."""
    pulls = np.asarray(pulls, float)
    names = [f"radius {k}" if k % 2 else f"beta_2 {k}" for k in range(len(pulls))]
    return {
        "names": names,
        "true": [1.0] * len(pulls),
        "values": (1 + 0.5 * pulls).tolist(),
        "errors": [0.5] * len(pulls),
        "distance": 2.0,
        "bound": 1.0,
        "p_value": 0.5,
        "converged": True,
        "reason": "",
        "shells": 2,
        "true_shells": 2,
        "seconds": 1.0,
        **other,
    }


def test_coverage_counts():
    found = judging.coverage([np.array([0.5, -0.9, 1.1, -3.0]), np.array([1.9, math.nan])])
    assert found["parameters"] == 6
    assert found["68"] == pytest.approx(2 / 6)
    assert found["95"] == pytest.approx(4 / 6)
    assert found["68_error"] == pytest.approx(math.sqrt(2 / 6 * 4 / 6 / 6))
    # by picture: 2 of 4 and 0 of 2 where 4/3 and 2/3 are expected
    assert found["68_error_by_picture"] == pytest.approx(math.sqrt(2 * (2 / 3) ** 2) / 6)
    assert found["mean_pull"] == pytest.approx((0.5 - 0.9 + 1.1 - 3 + 1.9) / 5)
    assert judging.coverage([]) == {"parameters": 0}


def test_errors_of_the_coverage_are_right():
    """Of parameters that are all equal in a picture, only the error by picture knows."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        found = judging.coverage([np.full(8, rng.standard_normal()) for _ in range(64)])
        shares.append((found["68"], found["68_error_by_picture"], found["68_error"]))
    shares, by_picture, binomial = np.array(shares).T
    # the error of a standard deviation of 400 is 3.5 %; five of them
    assert by_picture.mean() == pytest.approx(shares.std(), rel=0.18)
    assert binomial.mean() == pytest.approx(by_picture.mean() / math.sqrt(8), rel=0.05)


def test_uniformity():
    rng = np.random.default_rng(1)
    assert judging.uniformity(rng.random(500)) > 1e-5  # false alarms: 1e-5
    assert judging.uniformity(rng.random(500) ** 2) < 1e-5
    assert judging.uniformity([None, math.nan, 0.5]) == pytest.approx(1)
    assert math.isnan(judging.uniformity([]))


def test_angular_distance_is_that_of_the_densities():
    orders, one, two = [1, 2, 3], np.array([0.1, -0.5, 0.2]), np.array([0.3, 0.4, -0.1])
    cosine, weight = np.polynomial.legendre.leggauss(20)
    difference = np.polynomial.legendre.legval(cosine, [0, *(one - two)]) / 2
    expected = math.sqrt((difference**2 * weight).sum())
    assert judging.angular_distance([orders], [one], [two]) == pytest.approx(expected)
    twice = judging.angular_distance([orders] * 2, [one] * 2, [two] * 2)
    assert twice == pytest.approx(2 * expected)


def test_expected_distance():
    # one order: sqrt(2 / 5) / 2 times the mean of |normal|
    found = judging.expected_distance([[2]], [np.array([[0.04]])])
    expected = math.sqrt(2 / 5) / 2 * 0.2 * math.sqrt(2 / math.pi)
    assert found == pytest.approx(expected, rel=4.5 * 0.756 / 64)
    # two orders of equal weighted errors: the mean of Rayleigh's distribution
    covariance = np.diag([0.04 * 5 / 2, 0.04 * 9 / 2])
    found = judging.expected_distance([[2, 4]], [covariance])
    assert found == pytest.approx(0.1 * math.sqrt(math.pi / 2), rel=4.5 * 0.523 / 64)
    assert math.isnan(judging.expected_distance([[2]], [np.array([[math.nan]])]))


def test_summary_and_tables():
    rows = [
        row([0.5, 2.5], p_value=0.2, warnings=["tilted"]),
        row([-0.5, 0.5], distance=4.0, p_value=1e-4),
        row([9.0, 9.0], converged=False, reason="too many steps"),
        row([9.0], shells=1),
    ]
    found = judging.summarise(rows)
    assert (found["pictures"], found["right_shells"], found["converged"]) == (4, 3, 3)
    assert (found["good"], found["warned"]) == (2, 1)
    assert found["reasons"] == {"too many steps": 1}
    assert found["coverage"]["68"] == 0.75
    assert found["kinds"]["radius"]["68"] == 0.5
    assert found["kinds"]["beta_2"]["68"] == 1
    assert found["distance"]["over_bound"] == pytest.approx(3)
    assert found["small_p"] == 1
    text = judging.table({"tilt": found, "none": judging.summarise([])})
    assert text.count("\n") == 3
    assert "| tilt | 4 | 3 | 3 | 4 | 75.0" in text
    assert "| tilt | radius | 2 | 50.0" in judging.kinds_table({"tilt": found})


def test_rows_are_kept_and_those_of_other_revisions_left_out(tmp_path):
    path = tmp_path / "new" / "tilt.jsonl"
    rows = judging.Rows(path, "abc")
    assert rows.read() == {}
    rows.add(3, row([0.1]))
    rows.add(1, row([0.2], bound=math.nan))
    judging.Rows(path, "other").add(2, row([0.3]))
    assert sorted(rows.read()) == [1, 3]
    assert math.isnan(rows.read()[1]["bound"])
    assert sorted(judging.Rows(path, None).read()) == [1, 2, 3]
    # a line that was cut off when the trial was stopped harms neither itself nor the next
    with path.open("a") as file:
        file.write('{"picture": 7, "re')
    assert sorted(rows.read()) == [1, 3]
    rows.add(8, row([0.1]))
    assert sorted(rows.read()) == [1, 3, 8]
