"""Figures of training and its reports, looked at as matplotlib has them."""

import matplotlib.pyplot as plt
import matplotlib.text
import numpy as np
import PIL.Image
import pytest

from sevi_jax.results.figures import style, training

RNG = np.random.default_rng(0)
BETA = RNG.normal(0.5, 0.2, (30, 2, 12))
OTHER = BETA + RNG.normal(0, 0.02, BETA.shape)


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
    "angular_distributions": (BETA[0], OTHER[0]),
    "angular_distributions of more true orders": (np.ones((2, 16)) / 20, OTHER[0]),
    "angular_distributions without truth": (None, OTHER[0, :1]),
}


# Warnings are errors (pyproject.toml), those of matplotlib and NumPy included.
@pytest.mark.parametrize("name", CALLS)
def test_figure_is_written(tmp_path, saved_figures, name):
    path = tmp_path / "figure.png"
    getattr(training, name.split()[0])(path, *CALLS[name])
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
        ("angular_distributions", (BETA[0], OTHER), "beta_pred"),
        ("angular_distributions", (BETA[0, :1], OTHER[0]), "beta_true"),
    ],
)
def test_bad_argument_is_named_and_nothing_is_written(tmp_path, function, arguments, named):
    with pytest.raises(ValueError, match=rf"^{named}\b"):
        getattr(training, function)(tmp_path / "figure.png", *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["beta_scatter", "beta_errors", "angular_distributions without truth"]
)
def test_figure_of_beta_states_the_convention(tmp_path, saved_figures, name):
    getattr(training, name.split()[0])(tmp_path / "figure.png", *CALLS[name])
    assert style.COURSE in all_text(saved_figures[0])


def test_scatter_states_the_rms_error(tmp_path, saved_figures):
    true = np.zeros((4, 2, 3))
    predicted = true + np.array([0.1, 0.2, 0.4])
    training.beta_scatter(tmp_path / "figure.png", true, predicted)
    titles = [axes.get_title() for axes in saved_figures[0].axes[:3]]
    assert [title.split("rms ")[1] for title in titles] == ["0.1", "0.2", "0.4"]


def test_angular_distribution_is_the_density_of_beta(tmp_path, saved_figures):
    training.angular_distributions(tmp_path / "figure.png", None, np.array([[0.5, 0.25]]))
    cos_theta, density = saved_figures[0].axes[0].lines[0].get_data()
    p2 = (3 * cos_theta**2 - 1) / 2
    p4 = (35 * cos_theta**4 - 30 * cos_theta**2 + 3) / 8
    np.testing.assert_allclose(density, 0.5 + 0.5 * p2 + 0.25 * p4, atol=1e-12)
    # Half of the electrons are on each side: a density over -1..1 integrates to 1.
    assert np.trapezoid(density, cos_theta) == pytest.approx(0.5, abs=1e-4)
