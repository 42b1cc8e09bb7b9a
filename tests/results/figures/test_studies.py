"""Figures of studies, looked at as matplotlib has them."""

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
import scipy.stats

from sevi_jax.results.figures import studies

RNG = np.random.default_rng(0)
NAMES = ("R_1", "sigma_1", "yield_1", "beta2_1", "R_2", "sigma_2", "yield_2", "background_1")


CALLS = {
    "efficiency": (RNG.lognormal(-3, 0.5, 200), RNG.lognormal(-3, 0.3, 200)),
    "efficiency of one": ([0.1], [0.1]),
    "coverage": (RNG.normal(size=(50, len(NAMES))), NAMES),
    "coverage of one": ([[0.5]], ["R_1"]),
}


# Warnings are errors (pyproject.toml), those of matplotlib and NumPy included.
@pytest.mark.parametrize("name", CALLS)
def test_figure_is_written(tmp_path, saved_figures, name):
    path = tmp_path / "figure.png"
    getattr(studies, name.split()[0])(path, *CALLS[name])
    with PIL.Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
    assert len(saved_figures) == 1
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        ("efficiency", (np.ones((2, 2)), np.ones(2)), "distance"),
        ("efficiency", ([0.1, np.nan], np.ones(2)), "distance"),
        ("efficiency", ([0.1], np.ones(2)), "bound"),
        ("efficiency", ([0.1], [0.0]), "bound"),
        ("coverage", (np.ones(8), NAMES), "pulls"),
        ("coverage", (np.full((2, 8), np.nan), NAMES), "pulls"),
        ("coverage", (np.ones((2, 7)), NAMES), "names"),
    ],
)
def test_bad_argument_is_named_and_nothing_is_written(tmp_path, function, arguments, named):
    with pytest.raises(ValueError, match=rf"^{named}\b"):
        getattr(studies, function)(tmp_path / "figure.png", *arguments)
    assert list(tmp_path.iterdir()) == []


def bars_of(axes, container=0):
    """Places, values, and half the lengths of the bars of an errorbar plot."""
    points, _, (bars,) = axes.containers[container]
    return *points.get_data(), [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]


def test_efficiency_marks_mean_and_median(tmp_path, saved_figures):
    distance, bound = np.array([0.02, 0.03, 0.1]), np.array([0.02, 0.02, 0.01])
    studies.efficiency(tmp_path / "figure.png", distance, bound)
    left, right = saved_figures[0].axes
    marks = {line.get_label(): line.get_xdata()[0] for line in left.lines}
    assert marks == {
        "the bound": 1,
        "median: 1.5": pytest.approx(1.5),
        "mean: 4.17": pytest.approx(12.5 / 3),
    }
    assert sum(patch.get_height() for patch in left.patches) == 3
    points = np.asarray(right.collections[0].get_offsets())
    np.testing.assert_allclose(points, np.stack([bound, distance], axis=1))
    line = right.lines[0]
    np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
    assert right.get_xscale() == right.get_yscale() == "log"


def test_coverage_is_counted_by_kind(tmp_path, saved_figures):
    pulls = np.array([[0.5, 0.2, 1.2], [-1.5, np.nan, 1.95], [0.9, -9, np.nan]])
    studies.coverage(tmp_path / "figure.png", pulls, ["R_1", "beta2_1", "R_2"])
    left, right = saved_figures[0].axes
    # R: 0.5, -1.5, 0.9, 1.2, 1.95; beta_2: 0.2, -9
    for container, inside in ((0, (2, 1)), (1, (5, 1))):
        _, fractions, _ = bars_of(right, container)
        np.testing.assert_allclose(fractions, [inside[0] / 5, inside[1] / 2])
        _, _, (bars,) = right.containers[container]
        for k, n, segment in zip(inside, (5, 2), bars.get_segments(), strict=True):
            interval = scipy.stats.binomtest(k, n).proportion_ci(0.682689492, "wilson")
            np.testing.assert_allclose(segment[:, 1], interval, atol=1e-6)
    assert [label.get_text() for label in right.get_xticklabels()] == ["$R$", r"$\beta_{2}$"]
    areas = [patch.get_width() * patch.get_height() for patch in left.patches]
    assert sum(areas) == pytest.approx(1)
    assert areas[0] == pytest.approx(1 / 7)  # the -9
    line = left.lines[0]
    np.testing.assert_allclose(line.get_ydata(), scipy.stats.norm.pdf(line.get_xdata()))
