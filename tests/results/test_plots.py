import itertools

import matplotlib.figure
import matplotlib.pyplot as plt
import matplotlib.text
import numpy as np
import PIL.Image
import pytest
import scipy.stats

from sevi_jax.results import plots

RNG = np.random.default_rng(0)
BETA = RNG.normal(0.5, 0.2, (30, 2, 12))
OTHER = BETA + RNG.normal(0, 0.02, BETA.shape)
EDGES = np.linspace(-1, 1, 65)
MEAN = 20 * np.exp(-(((np.hypot(*np.meshgrid(EDGES[:64], EDGES[:48])) - 0.5) / 0.2) ** 2))
COUNTS = RNG.poisson(MEAN)
MASK = RNG.random(MEAN.shape) < 0.8
RADII = np.sort(np.append(np.linspace(0.1, 0.95, 14), np.linspace(0.3, 0.32, 10)))
RINGS = np.linspace(0, 1, 101)
PARTS = 500 * np.exp(-(((RINGS[:100] - RADII[:, None]) / 0.05) ** 2))
RING_MEAN = PARTS.sum(0) + 5
COVARIANCE = np.tile(np.eye(12) * 0.02**2, (24, 1, 1))
EVERY_ORDER = tuple(range(2, 26, 2))
NAMES = ("R_1", "sigma_1", "yield_1", "beta2_1", "R_2", "sigma_2", "yield_2", "background_1")


@pytest.fixture
def saved_figures(monkeypatch):
    """Collects the figures that the test saves, to look at what they show."""
    figures = []
    save = matplotlib.figure.Figure.savefig

    def savefig(self, *args, **kwargs):
        figures.append(self)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    return figures


def all_text(figure):
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


CALLS = {
    "loss_curve": (np.arange(50), np.geomspace(1, 0.01, 50), np.arange(3), np.ones(3) / 9),
    "loss_curve with a narrow range": (np.arange(2), np.ones(2), np.arange(2), [0.06, 0.055]),
    "loss_curve of no evaluation": (np.arange(2), np.ones(2), [], []),
    "loss_curve after a NaN": (np.arange(3), [1, np.nan, 0.0], [0, 1], [np.nan, np.nan]),
    "beta_scatter": (BETA, OTHER),
    "beta_scatter of one shell and order": (BETA[:, :1, :1], OTHER[:, :1, :1]),
    "beta_scatter of five shells": (np.tile(BETA, (1, 4, 1))[:, :7], np.ones((30, 7, 12))),
    "beta_scatter of one picture": (BETA[:1], BETA[:1]),
    "beta_scatter of zeros": (np.zeros((4, 2, 3)), np.zeros((4, 2, 3))),
    "distance_histogram": (RNG.lognormal(-3, 0.5, 200), 0.43),
    "distance_histogram of one": ([0.1], 0.43),
    "distance_histogram of zeros": (np.zeros(3), 0.43),
    "beta_errors": (BETA, OTHER),
    "beta_errors of a perfect answer": (BETA[:1], BETA[:1]),
    "picture": (RNG.poisson(3, (64, 48)), [0.3, 0.7]),
    "picture without circles": (RNG.poisson(3, (64, 64)),),
    "picture of nothing": (np.zeros((8, 8), np.uint8),),
    "picture with negative values": (RNG.normal(0, 1, (8, 8)).astype(np.float32),),
    "angular_distributions": (BETA[0], OTHER[0]),
    "angular_distributions of more true orders": (np.ones((2, 16)) / 20, OTHER[0]),
    "angular_distributions without truth": (None, OTHER[0, :1]),
    "fit_picture": (COUNTS, MEAN, EDGES[:49], EDGES, [0.3, 0.7], MASK),
    "fit_picture without mask or circles": (COUNTS, MEAN, EDGES[:49], EDGES, []),
    "fit_picture of nothing": (np.zeros((8, 8)), np.zeros((8, 8)), EDGES[:9], EDGES[:9], [0.3]),
    "fit_picture with negative means": (COUNTS, MEAN - 1, EDGES[:49], EDGES, [0.3]),
    "fit_picture of one pixel": ([[3]], [[2]], [-1, 1], [-1, 1], [0.5]),
    "radial_profile": (RINGS, RNG.poisson(RING_MEAN), RING_MEAN, PARTS, 5 + 0 * RING_MEAN, RADII),
    "radial_profile of one shell": (RINGS, PARTS[3], PARTS[3], PARTS[3:4], 0 * RING_MEAN, [0.4]),
    "radial_profile of nothing": ([0, 1], [0], [0], np.zeros((0, 1)), [0], []),
    "densities": (OTHER[0], COVARIANCE[:2], BETA[0]),
    "densities of one shell without errors": (OTHER[0, :1, :1], np.full((1, 1, 1), np.nan)),
    "densities of 24 shells": (OTHER[:24, 0], COVARIANCE, BETA[:24, 0, :3]),
    "beta_values": (OTHER[0], OTHER[0] ** 2 / 9, (EVERY_ORDER, (2, 4)), BETA[0]),
    "beta_values of one value": ([[0.3]], [[0.01]], ((2,),), None, [0.4]),
    "beta_values of four shells without errors": (BETA[:4, 0], 0 * BETA[:4, 0], (EVERY_ORDER,) * 4),
    "beta_values of 24 shells": (BETA[:24, 0], BETA[:24, 0] ** 2, (EVERY_ORDER,) * 24, None, RADII),
    "beta_values of one order": (BETA[:17, 0], OTHER[:17, 0] ** 2, ((2,),) * 17, BETA[:17, 0]),
    "efficiency": (RNG.lognormal(-3, 0.5, 200), RNG.lognormal(-3, 0.3, 200)),
    "efficiency of one": ([0.1], [0.1]),
    "coverage": (RNG.normal(size=(50, len(NAMES))), NAMES),
    "coverage of one": ([[0.5]], ["R_1"]),
}


# Warnings are errors (pyproject.toml), those of matplotlib and NumPy included.
@pytest.mark.parametrize("name", CALLS)
def test_figure_is_written(tmp_path, saved_figures, name):
    path = tmp_path / "figure.png"
    getattr(plots, name.split()[0])(path, *CALLS[name])
    with PIL.Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
    assert len(saved_figures) == 1
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        ("loss_curve", (np.ones((2, 2)), np.ones(2), [], []), "steps"),
        ("loss_curve", (np.ones(3), np.ones(2), [], []), "loss"),
        ("loss_curve", (np.ones(3), np.ones(3), 1.0, []), "eval_steps"),
        ("loss_curve", (np.ones(3), np.ones(3), [1, 2], [1]), "eval_distance"),
        ("beta_scatter", (BETA[0], OTHER[0]), "beta_true"),
        ("beta_scatter", (BETA, OTHER[:, :, :5]), "beta_pred"),
        ("beta_scatter", (BETA[:0], OTHER[:0]), "beta_true"),
        ("distance_histogram", (np.ones((2, 2)), 0.4), "distance"),
        ("distance_histogram", ([], 0.4), "distance"),
        ("distance_histogram", ([0.1, np.nan], 0.4), "distance"),
        ("distance_histogram", ([0.1, -0.1], 0.4), "distance"),
        ("distance_histogram", ([0.1], 0.0), "prior_mean_distance"),
        ("beta_errors", (BETA[0], OTHER[0]), "beta_true"),
        ("beta_errors", (BETA, OTHER[:3]), "beta_pred"),
        ("picture", (np.ones((2, 4, 4)),), "counts"),
        ("picture", (np.ones((0, 4)),), "counts"),
        ("picture", (np.ones((4, 4)), 0.3), "radius"),
        ("angular_distributions", (BETA[0], OTHER), "beta_pred"),
        ("angular_distributions", (BETA[0, :1], OTHER[0]), "beta_true"),
        ("fit_picture", (COUNTS[0], MEAN, EDGES[:49], EDGES, []), "counts"),
        ("fit_picture", (COUNTS, MEAN.T, EDGES[:49], EDGES, []), "mean"),
        ("fit_picture", (COUNTS, np.where(MASK, MEAN, np.nan), EDGES[:49], EDGES, []), "mean"),
        ("fit_picture", (COUNTS, MEAN, EDGES, EDGES, []), "x_edges"),
        ("fit_picture", (COUNTS, MEAN, EDGES[:49], EDGES[::-1], []), "z_edges"),
        ("fit_picture", (COUNTS, MEAN, EDGES[:49], EDGES**3, []), "z_edges"),
        ("fit_picture", (COUNTS, MEAN, EDGES[:49], EDGES, 0.3), "radius"),
        ("fit_picture", (COUNTS, MEAN, EDGES[:49], EDGES, [], MASK.T), "mask"),
        ("fit_picture", (COUNTS, MEAN, EDGES[:49], EDGES, [], 0 * MASK), "mask"),
        ("radial_profile", (RINGS[:100], *[RING_MEAN] * 2, PARTS, RING_MEAN, RADII), "s"),
        ("radial_profile", (RINGS[::-1], *[RING_MEAN] * 2, PARTS, RING_MEAN, RADII), "s"),
        ("radial_profile", ([0], [], [], np.zeros((0, 0)), [], []), "counts"),
        ("radial_profile", (RINGS, RING_MEAN, RINGS, PARTS, RING_MEAN, RADII), "mean"),
        ("radial_profile", (RINGS, *[RING_MEAN] * 2, PARTS.T, RING_MEAN, RADII), "shells"),
        ("radial_profile", (RINGS, *[RING_MEAN] * 2, PARTS, 5.0, RADII), "background"),
        ("radial_profile", (RINGS, *[RING_MEAN] * 2, PARTS, RING_MEAN, RADII[:3]), "radius"),
        ("densities", (OTHER, COVARIANCE), "beta"),
        ("densities", (OTHER[0], COVARIANCE), "covariance"),
        ("densities", (OTHER[0], COVARIANCE[:2], BETA[0, :1]), "beta_true"),
        ("beta_values", (OTHER, OTHER, ((2,),) * 30), "beta"),
        ("beta_values", (OTHER[0], OTHER[1, :1], ((2,), (2,))), "error"),
        ("beta_values", (OTHER[0], -(OTHER[0] ** 2), ((2,), (2,))), "error"),
        ("beta_values", (OTHER[0], OTHER[0] ** 2, ((2,),)), "orders"),
        ("beta_values", (OTHER[0], OTHER[0] ** 2, ((2,), (3,))), "orders"),
        ("beta_values", (OTHER[0], OTHER[0] ** 2, ((2,), (26,))), "orders"),
        ("beta_values", (OTHER[0], OTHER[0] ** 2, ((), ())), "orders"),
        ("beta_values", (OTHER[0], OTHER[0] ** 2, ((2,), (2,)), BETA[0, :1]), "beta_true"),
        ("beta_values", (OTHER[0], OTHER[0] ** 2, ((2,), (2,)), None, RADII), "radius"),
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
        getattr(plots, function)(tmp_path / "figure.png", *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "beta_scatter",
        "beta_errors",
        "angular_distributions without truth",
        "densities",
        "beta_values",
        "beta_values of one order",
    ],
)
def test_figure_of_beta_states_the_convention(tmp_path, saved_figures, name):
    getattr(plots, name.split()[0])(tmp_path / "figure.png", *CALLS[name])
    assert plots.CONVENTION in all_text(saved_figures[0])


def test_picture_has_x_to_the_right_and_z_upwards(tmp_path, saved_figures):
    counts = np.zeros((20, 20))
    counts[14, 3] = 9  # x = 0.45, z = -0.65
    plots.picture(tmp_path / "figure.png", counts)
    axes = saved_figures[0].axes[0]
    image = axes.get_images()[0]
    row, column = np.argwhere(np.asarray(image.get_array()) == 9)[0]
    left, right, bottom, top = image.get_extent()
    assert image.origin == "lower"
    assert left + (column + 0.5) / 20 * (right - left) == pytest.approx(0.45)
    assert bottom + (row + 0.5) / 20 * (top - bottom) == pytest.approx(-0.65)
    assert axes.get_xlabel().startswith("x (half-widths)")
    assert axes.get_ylabel().startswith("z (half-widths)")


def test_scatter_states_the_rms_error(tmp_path, saved_figures):
    true = np.zeros((4, 2, 3))
    predicted = true + np.array([0.1, 0.2, 0.4])
    plots.beta_scatter(tmp_path / "figure.png", true, predicted)
    titles = [axes.get_title() for axes in saved_figures[0].axes[:3]]
    assert [title.split("rms ")[1] for title in titles] == ["0.1", "0.2", "0.4"]


def test_angular_distribution_is_the_density_of_beta(tmp_path, saved_figures):
    plots.angular_distributions(tmp_path / "figure.png", None, np.array([[0.5, 0.25]]))
    cos_theta, density = saved_figures[0].axes[0].lines[0].get_data()
    p2 = (3 * cos_theta**2 - 1) / 2
    p4 = (35 * cos_theta**4 - 30 * cos_theta**2 + 3) / 8
    np.testing.assert_allclose(density, 0.5 + 0.5 * p2 + 0.25 * p4, atol=1e-12)
    # Half of the electrons are on each side: a density over -1..1 integrates to 1.
    assert np.trapezoid(density, cos_theta) == pytest.approx(0.5, abs=1e-4)


def blocks_by_recursion(counts, mean, used, last):
    """The residual in blocks, pixel by pixel: a block takes what its four quarters left over."""
    residual = np.full(counts.shape, np.nan)

    def left_over(i, j, size):
        if i >= counts.shape[0] or j >= counts.shape[1]:
            return []
        if size == 1:
            pixels = [(i, j)] if used[i, j] else []
        else:
            half = size // 2
            quarters = [(i, j), (i + half, j), (i, j + half), (i + half, j + half)]
            pixels = [pixel for corner in quarters for pixel in left_over(*corner, half)]
        expected = sum(mean[pixel] for pixel in pixels)
        if expected < 5 and size < last:
            return pixels
        for pixel in pixels:
            found = sum(counts[pixel] for pixel in pixels)
            residual[pixel] = (found - expected) / max(expected, 1) ** 0.5
        return []

    for i in range(0, counts.shape[0], last):
        for j in range(0, counts.shape[1], last):
            left_over(i, j, last)
    return residual


@pytest.mark.parametrize(
    ("exposure", "sizes"), [(1, "1×1 to 4×4"), (0.1, "2×2 to 4×4"), (0.0003, "4×4")]
)
def test_residual_is_that_of_blocks_which_expect_enough(tmp_path, saved_figures, exposure, sizes):
    mean = exposure * MEAN
    counts = np.random.default_rng(1).poisson(mean).astype(float)
    counts[~MASK] = np.nan
    plots.fit_picture(tmp_path / "figure.png", counts, mean, EDGES[:49], EDGES, [0.5], MASK)
    panels = saved_figures[0].axes[:3]
    shown = [axes.get_images()[0].get_array().filled(np.nan) for axes in panels]
    np.testing.assert_array_equal(shown[0], np.where(MASK, counts, np.nan).T)
    np.testing.assert_allclose(shown[1], np.where(MASK, mean, np.nan).T)
    wanted = blocks_by_recursion(counts, mean, MASK, last=4)
    np.testing.assert_allclose(shown[2], wanted.T, atol=1e-9)
    assert f"blocks of {sizes} pixels" in panels[2].get_title()


def test_bright_residual_is_that_of_every_pixel(tmp_path, saved_figures):
    mean, counts = MEAN + 50, COUNTS + 50
    plots.fit_picture(tmp_path / "figure.png", counts, mean, EDGES[:49], EDGES, [])
    image = saved_figures[0].axes[2].get_images()[0]
    np.testing.assert_allclose(image.get_array(), ((counts - mean) / np.sqrt(mean)).T)
    assert image.get_clim() == (-5, 5)


def test_large_picture_is_drawn_in_blocks_that_keep_place_and_number(tmp_path, saved_figures):
    mean = np.full((1100, 1030), 2.0)
    counts = np.random.default_rng(2).poisson(mean)
    counts[700, 100] = 900
    edges = np.linspace(-550, 550, 1101), np.linspace(-515, 515, 1031)
    plots.fit_picture(tmp_path / "figure.png", counts, mean, *edges, [300], None, "pixels")
    image, _, residual = (axes.get_images()[0] for axes in saved_figures[0].axes[:3])
    array = np.asarray(image.get_array())
    assert max(array.shape) <= 512
    row, column = np.argwhere(array == array.max())[0]
    left, right, bottom, top = image.get_extent()
    x = left + (column + 0.5) / array.shape[1] * (right - left)
    z = bottom + (row + 0.5) / array.shape[0] * (top - bottom)
    assert abs(x - 150.5) <= 2
    assert abs(z + 414.5) <= 2
    assert array[row, column] == pytest.approx(counts[700:704, 100:104].mean())
    # The mean square of 70 000 residuals of variance 1 has the standard deviation 0.0054; it is
    # allowed 5.5 of them: false alarms in 4e-8 of the seeds.
    drawn = np.delete(np.asarray(residual.get_array())[:257], column, axis=1)
    assert np.mean(drawn**2) == pytest.approx(1, abs=0.03)
    assert (tmp_path / "figure.png").stat().st_size < 3e6


def test_rings_show_their_residual_in_standard_deviations(tmp_path, saved_figures):
    counts = np.array([25.0, 110.0, 81.0, 3.0])
    mean = np.array([16.0, 100.0, 100.0, 0.01])
    parts = np.array([mean / 2, mean / 4])
    s = np.array([0, 1, 2, 4, 5.0])
    plots.radial_profile(tmp_path / "figure.png", s, counts, mean, parts, mean / 4, [1, 3])
    upper, lower = saved_figures[0].axes
    places, residual = lower.lines[1].get_data()
    np.testing.assert_allclose(places, [0.5, 1.5, 3, 4.5])
    np.testing.assert_allclose(residual, [9 / 4, 1, -1.9, 2.99])
    (_, _, (bars,)) = upper.containers[0]
    lengths = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
    np.testing.assert_allclose(lengths, 2 * np.sqrt(counts))
    assert lower.get_ylim()[1] >= 2.99


def test_labels_of_24_radii_stand_apart_in_order(tmp_path, saved_figures):
    plots.radial_profile(tmp_path / "figure.png", *CALLS["radial_profile"])
    figure = saved_figures[0]
    labels = [text for text in figure.axes[0].texts if text.get_text().startswith("$R_")]
    assert [text.get_text() for text in labels] == [f"$R_{{{n}}}$" for n in range(1, 25)]
    assert [text.xy[0] for text in labels] == list(RADII)
    boxes = [matplotlib.text.Text.get_window_extent(text) for text in labels]
    assert all(one.x1 < two.x0 for one, two in itertools.pairwise(boxes))
    assert boxes[0].x0 > 0
    assert boxes[-1].x1 < figure.bbox.x1


def test_radius_label_alone_stands_at_its_radius(tmp_path, saved_figures):
    plots.radial_profile(tmp_path / "figure.png", *CALLS["radial_profile of one shell"])
    (label,) = saved_figures[0].axes[0].texts
    assert label.get_position()[0] == pytest.approx(0.4)


def test_band_of_the_density_is_the_spread_of_random_betas(tmp_path, saved_figures):
    rng = np.random.default_rng(3)
    beta = np.array([0.4, 0.1, -0.05])
    factor = rng.normal(0, 0.02, (3, 3))
    covariance = factor @ factor.T
    plots.densities(tmp_path / "figure.png", beta[None], covariance[None])
    axes = saved_figures[0].axes[0]
    vertices = axes.collections[0].get_paths()[0].vertices
    theta = np.unique(vertices[:, 0])
    low = np.array([vertices[vertices[:, 0] == angle, 1].min() for angle in theta])
    high = np.array([vertices[vertices[:, 0] == angle, 1].max() for angle in theta])
    c = np.cos(theta)
    p4 = (35 * c**4 - 30 * c**2 + 3) / 8
    p6 = (231 * c**6 - 315 * c**4 + 105 * c**2 - 5) / 16
    polynomials = np.stack([(3 * c**2 - 1) / 2, p4, p6])
    draws = 0.5 + rng.multivariate_normal(beta, covariance, 20000) @ polynomials
    np.testing.assert_allclose((high + low) / 2, 0.5 + beta @ polynomials, atol=1e-9)
    # A standard deviation of 20000 draws is known to 0.5 %; false alarms: 1e-9 in an angle.
    np.testing.assert_allclose((high - low) / 2, draws.std(axis=0), rtol=0.03)
    assert axes.get_theta_offset() == pytest.approx(np.pi / 2)  # theta = 0 is up
    assert axes.get_ylim()[0] == 0
    assert theta.max() - theta.min() == pytest.approx(2 * np.pi)


def test_negative_density_is_drawn_in_red(tmp_path, saved_figures):
    plots.densities(tmp_path / "figure.png", [[1.2], [0.9]], np.zeros((2, 1, 1)))
    negative, positive = saved_figures[0].axes[:2]
    assert len(negative.lines) == 2
    assert len(positive.lines) == 1
    theta, value = negative.lines[1].get_data()
    density = 0.5 + 1.2 * (3 * np.cos(theta) ** 2 - 1) / 2
    np.testing.assert_allclose(value, np.where(density < 0, -density, np.nan))
    assert negative.lines[1].get_linestyle() == "--"
    assert "−0.1" in negative.get_title()


def bars_of(axes, container=0):
    """Places, values, and half the lengths of the bars of an errorbar plot."""
    points, _, (bars,) = axes.containers[container]
    return *points.get_data(), [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]


def test_only_fitted_betas_are_drawn_with_their_errors(tmp_path, saved_figures):
    beta = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    error = beta / 10
    plots.beta_values(tmp_path / "figure.png", beta, error, ((2, 6), (4,)), beta + 0.05)
    upper, lower = saved_figures[0].axes
    places, values, bars = bars_of(upper)
    np.testing.assert_allclose(np.round(places), [2, 6])
    np.testing.assert_allclose(values, [0.1, 0.3])
    np.testing.assert_allclose(bars, [0.01, 0.03])
    np.testing.assert_allclose(bars_of(upper, 1)[1:], [[0.5], [0.05]])
    np.testing.assert_allclose(lower.lines[1].get_ydata(), 0.05)


def test_many_shells_are_drawn_against_the_radius(tmp_path, saved_figures):
    beta, error = BETA[:17, 0], np.abs(OTHER[:17, 1])
    orders = ((2, 6),) * 16 + ((2,),)
    plots.beta_values(tmp_path / "figure.png", beta, error, orders, None, RADII[:17])
    second, sixth = saved_figures[0].axes[:2]
    for axes, index, fitted in ((second, 0, 17), (sixth, 2, 16)):
        places, values, bars = bars_of(axes)
        np.testing.assert_allclose(places, RADII[:fitted])
        np.testing.assert_allclose(values, beta[:fitted, index])
        np.testing.assert_allclose(bars, error[:fitted, index])


def test_efficiency_marks_mean_and_median(tmp_path, saved_figures):
    distance, bound = np.array([0.02, 0.03, 0.1]), np.array([0.02, 0.02, 0.01])
    plots.efficiency(tmp_path / "figure.png", distance, bound)
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
    plots.coverage(tmp_path / "figure.png", pulls, ["R_1", "beta2_1", "R_2"])
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
