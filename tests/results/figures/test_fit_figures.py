"""Figures of fits: what matplotlib was told, against the arrays it was made from."""

import io
import itertools

import matplotlib.text
import numpy as np
import PIL.Image
import pytest

from sevi_jax.results.figures.pictures import fit_picture
from sevi_jax.results.figures.rings import radial_profile
from sevi_jax.results.figures.shells import beta_values, densities
from sevi_jax.results.figures.style import png

RNG = np.random.default_rng(0)
PLACE = np.linspace(-1, 1, 65)
MEAN = 20 * np.exp(-(((np.hypot(*np.meshgrid(PLACE[:64], PLACE[:48])) - 0.5) / 0.2) ** 2))
COUNTS = RNG.poisson(MEAN)
MASK = RNG.random(MEAN.shape) < 0.8
ALL = np.ones(MEAN.shape)
RADII = np.sort(np.append(np.linspace(10, 95, 14), np.linspace(30, 32, 10)))
EDGES = np.linspace(0, 100, 101)
PARTS = 500 * np.exp(-(((EDGES[:100] - RADII[:, None]) / 5) ** 2))
RINGS = PARTS.sum(0) + 5
CIRCLE = 20 * np.stack([np.cos(np.arange(9)), np.sin(np.arange(9))], axis=1) + 24


def drawn(figure):
    """The figure once it has been written; warnings are errors."""
    with PIL.Image.open(io.BytesIO(png(figure))) as image:
        assert image.format == "PNG"
        assert min(image.size) > 200
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
    return figure


def betas(values):
    return [dict(zip((1, 2, 5), row, strict=True)) for row in values]


SPREAD = [1e-4 * np.eye(3)] * 24
FIGURES = {
    "picture": lambda: fit_picture(COUNTS, MEAN, MEAN, MASK, [CIRCLE, 2 * CIRCLE], CIRCLE[:2]),
    "picture of nothing": lambda: fit_picture(*np.zeros((3, 8, 8)), np.ones((8, 8))),
    "picture of a difference": lambda: fit_picture(COUNTS - 30.0, MEAN - 30, MEAN + 9, ALL),
    "picture of one pixel": lambda: fit_picture([[3]], [[2]], [[2]], [[1]]),
    "high picture": lambda: fit_picture(*np.ones((3, 64, 9)), np.ones((64, 9))),
    "rings": lambda: radial_profile(EDGES, RINGS, RINGS, RINGS, PARTS, 0 * RINGS + 5, RADII),
    "rings of nothing": lambda: radial_profile([0, 1], [0], [0], [0], np.zeros((0, 1)), [0], []),
    "densities": lambda: densities(betas([[0.1, 0.5, -0.1]] * 2), SPREAD[:2]),
    "densities of 24": lambda: densities(betas([[0.1, 2.5, -0.1]] * 24), SPREAD),
    "densities without errors": lambda: densities([{2: 0.5}], [np.full((1, 1), np.nan)]),
    "density without order": lambda: densities([{}], [np.zeros((0, 0))]),
    "betas by order": lambda: beta_values(*[betas([[0.1, 0.2, 0.3]] * 4)] * 2, RADII[:4]),
    "betas by shell": lambda: beta_values(*[betas([[0.1, 0.2, 0.3]] * 24)] * 2, RADII),
    "one beta": lambda: beta_values([{2: 0.5}], [{2: 0.0}], [40.0]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_can_be_written(name):
    drawn(FIGURES[name]())


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: fit_picture(COUNTS[0], MEAN, MEAN, ALL), "counts"),
        (lambda: fit_picture(COUNTS, MEAN.T, MEAN, ALL), "mean"),
        (lambda: fit_picture(COUNTS, MEAN, MEAN[:3], ALL), "variance"),
        (lambda: fit_picture(COUNTS, np.where(MASK, MEAN, np.nan), MEAN, ALL), "mean"),
        (lambda: fit_picture(COUNTS, MEAN, MEAN, 0 * ALL), "used"),
        (lambda: radial_profile(EDGES[:100], *[RINGS] * 3, PARTS, RINGS, RADII), "s"),
        (lambda: radial_profile(EDGES[::-1], *[RINGS] * 3, PARTS, RINGS, RADII), "s"),
        (lambda: radial_profile(EDGES, *[RINGS] * 3, PARTS.T, RINGS, RADII), "shells"),
        (lambda: radial_profile(EDGES, *[RINGS] * 3, PARTS, RINGS, RADII[:3]), "radius"),
        (lambda: beta_values([{}], [{}], [3.0]), "beta"),
    ],
)
def test_bad_argument_is_named(make, named):
    with pytest.raises(ValueError, match=rf"^{named}\b"):
        make()


def test_picture_has_rows_downwards_and_pixels_from_the_corner():
    counts = np.zeros((30, 20))
    counts[14, 3] = 9
    axes = fit_picture(counts, counts, counts, counts + 1, [CIRCLE]).axes[0]
    image = axes.get_images()[0]
    row, column = np.argwhere(np.asarray(image.get_array()) == 9)[0]
    left, right, bottom, top = image.get_extent()
    assert image.origin == "upper"
    assert left + (column + 0.5) / 20 * (right - left) == pytest.approx(3.5)
    assert top + (row + 0.5) / 30 * (bottom - top) == pytest.approx(14.5)
    assert axes.get_ylim() == (30, 0)
    # a curve of rows and columns lies at columns across and rows down
    (segment,) = axes.collections[0].get_segments()
    np.testing.assert_allclose(segment, CIRCLE[:, ::-1])
    box = axes.get_position()
    wide, high = axes.figure.get_size_inches()
    assert box.height * high / (box.width * wide) == pytest.approx(1.5)


def blocks_by_recursion(counts, mean, variance, used, last):
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
        expected = sum(variance[pixel] for pixel in pixels)
        if expected < 5 and size < last:
            return pixels
        for pixel in pixels:
            off = sum(counts[pixel] - mean[pixel] for pixel in pixels)
            residual[pixel] = off / max(expected, 1) ** 0.5
        return []

    for i in range(0, counts.shape[0], last):
        for j in range(0, counts.shape[1], last):
            left_over(i, j, last)
    return residual


@pytest.mark.parametrize(
    ("exposure", "sizes"), [(1, "1×1 to 4×4"), (0.1, "2×2 to 4×4"), (0.0003, "4×4")]
)
def test_residual_is_that_of_blocks_which_expect_enough(exposure, sizes):
    mean = exposure * MEAN
    counts = np.random.default_rng(1).poisson(mean).astype(float)
    counts[~MASK] = np.nan
    panels = drawn(fit_picture(counts, mean, 1.2 * mean, MASK)).axes[:3]
    shown = [np.ma.filled(axes.get_images()[0].get_array(), np.nan) for axes in panels]
    np.testing.assert_array_equal(shown[0], np.where(MASK, counts, np.nan))
    np.testing.assert_allclose(shown[1], np.where(MASK, mean, np.nan))
    wanted = blocks_by_recursion(counts, mean, 1.2 * mean, MASK, last=4)
    np.testing.assert_allclose(shown[2], wanted, atol=1e-9)
    assert f"blocks of {sizes} pixels" in panels[2].get_title()


def test_large_picture_is_drawn_in_blocks_that_keep_place_and_number():
    mean = np.full((1100, 1030), 2.0)
    counts = np.random.default_rng(2).poisson(mean)
    counts[700, 100] = 900
    figure = fit_picture(counts, mean, mean, np.ones(mean.shape))
    image, _, residual = (axes.get_images()[0] for axes in figure.axes[:3])
    array = np.asarray(image.get_array())
    assert max(array.shape) <= 400
    row, column = np.argwhere(array == array.max())[0]
    left, right, bottom, top = image.get_extent()
    assert abs(left + (column + 0.5) / array.shape[1] * (right - left) - 100.5) <= 2
    assert abs(top + (row + 0.5) / array.shape[0] * (bottom - top) - 700.5) <= 2
    assert array[row, column] == pytest.approx(counts[700:704, 100:104].mean())
    # The mean square of 70 000 residuals of variance 1 has the standard deviation 0.0054; it is
    # allowed 5.5 of them: false alarms in 4e-8 of the seeds.
    whole = np.asarray(residual.get_array())[:275, :257]
    assert np.mean(np.delete(whole, column, axis=1) ** 2) == pytest.approx(1, abs=0.03)


def test_rings_show_their_residual_in_standard_deviations():
    counts = np.array([25.0, 110.0, 81.0, 3.0])
    mean = np.array([16.0, 100.0, 100.0, 0.01])
    variance = np.array([16.0, 100.0, 400.0, 0.01])
    s = np.array([0, 1, 2, 4, 5.0])
    parts = np.array([mean / 2, mean / 4])
    upper, lower = drawn(radial_profile(s, counts, mean, variance, parts, mean / 4, [1, 3])).axes
    places, residual = lower.lines[1].get_data()
    np.testing.assert_allclose(places, [0.5, 1.5, 3, 4.5])
    np.testing.assert_allclose(residual, [9 / 4, 1, -0.95, 2.99])
    bars = upper.collections[0].get_segments()
    np.testing.assert_allclose([np.ptp(bar[:, 1]) for bar in bars], 2 * np.sqrt(variance))
    assert lower.get_ylim()[1] >= 2.99


def test_labels_of_24_radii_stand_apart_in_order():
    figure = drawn(FIGURES["rings"]())
    labels = [text for text in figure.axes[0].texts if text.get_text().startswith("R")]
    assert [text.xy[0] for text in labels] == list(RADII)
    assert labels[23].get_text() == "R₂₄"
    boxes = [matplotlib.text.Text.get_window_extent(text) for text in labels]
    assert all(one.x1 < two.x0 for one, two in itertools.pairwise(boxes))
    assert boxes[0].x0 > 0
    assert boxes[-1].x1 < figure.bbox.x1


def test_band_of_the_density_is_the_spread_of_random_betas():
    rng = np.random.default_rng(3)
    beta = np.array([0.3, 0.8, 0.2])
    factor = rng.normal(0, 0.02, (3, 3))
    covariance = factor @ factor.T
    axes = drawn(densities(betas(beta[None]), [covariance])).axes[0]
    vertices = axes.collections[0].get_paths()[0].vertices[:722]
    circle = axes.collections[1].get_segments()[0]
    unit = np.hypot(*circle.T).mean()  # of an isotropic density
    outer, inner = (np.hypot(*part.T) / unit for part in (vertices[:361], vertices[361:][::-1]))
    c = np.cos(np.linspace(0, 2 * np.pi, 361))
    p5 = (63 * c**5 - 70 * c**3 + 15 * c) / 8
    polynomials = np.stack([c, (3 * c**2 - 1) / 2, p5])
    draws = 1 + rng.multivariate_normal(beta, covariance, 20000) @ polynomials
    np.testing.assert_allclose((outer + inner) / 2, 1 + beta @ polynomials, atol=1e-9)
    # A standard deviation of 20000 draws is known to 0.5 %; false alarms: 1e-9 in an angle.
    np.testing.assert_allclose((outer - inner) / 2, draws.std(axis=0), rtol=0.03)
    # theta = 0 is up: with beta_1 > 0 most goes there
    assert vertices[0, 1] == pytest.approx(np.hypot(*vertices[0]))
    assert outer[0] > outer[180]


def test_negative_density_is_drawn_in_red():
    beta, flat = [{2: 2.4}, {2: 1.8}], [np.zeros((1, 1))] * 2
    axes = drawn(densities(beta, flat)).axes[0]
    negative = axes.collections[3].get_segments()
    assert len(negative) == 1
    c = np.cos(np.linspace(0, 2 * np.pi, 361))
    density = 1 + 2.4 * (3 * c**2 - 1) / 2
    unit = 1 / density.max()
    np.testing.assert_allclose(np.hypot(*negative[0].T), unit * np.maximum(-density, 0), atol=1e-12)
    assert "−0.2" in axes.texts[0].get_text()
    assert "−" not in axes.texts[1].get_text()


def bars_of(axes, container=0):
    """Places, values, and half the lengths of the bars of an errorbar plot."""
    points, _, (bars,) = axes.containers[container]
    return *points.get_data(), [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]


def test_only_fitted_betas_are_drawn_with_their_errors():
    beta, error = [{1: 0.1, 6: 0.3}, {4: 0.5}], [{1: 0.01, 6: 0.03}, {4: 0.05}]
    upper, lower = drawn(beta_values(beta, error, [3, 4])).axes
    places, values, bars = bars_of(upper)
    np.testing.assert_allclose(np.round(places), [1, 6])
    np.testing.assert_allclose(values, [0.1, 0.3])
    np.testing.assert_allclose(bars, [0.01, 0.03])
    np.testing.assert_allclose(bars_of(upper, 1)[1:], [[0.5], [0.05]])
    np.testing.assert_allclose(lower.lines[0].get_ydata(), [0.01, 0.03])


def test_many_shells_are_drawn_against_the_radius():
    beta = [{2: 0.1 * i, 6: -0.1} for i in range(16)] + [{2: 0.5}]
    error = [dict.fromkeys(own, 0.01) for own in beta]
    second, sixth = drawn(beta_values(beta, error, RADII[:17])).axes[:2]
    for axes, order, fitted in ((second, 2, 17), (sixth, 6, 16)):
        places, values, bars = bars_of(axes)
        np.testing.assert_allclose(places, RADII[:fitted])
        np.testing.assert_allclose(values, [own[order] for own in beta[:fitted]])
        np.testing.assert_allclose(bars, 0.01)
