"""A fit as its users hold it, of a picture that was drawn electron by electron."""

import base64
import html.parser
import json

import numpy as np
import pytest
import uncertainties
from uncertainties import ufloat

from sevi_jax.data.picture import Picture
from sevi_jax.errors import InputError
from sevi_jax.estimation.scoring import Quadratic
from sevi_jax.model.components import Shell
from sevi_jax.results import record, table
from sevi_jax.results.energies import read_fits
from sevi_jax.results.figures import fits as figures
from sevi_jax.results.fit import fit
from sevi_jax.results.training_prior import ShellsPrior
from sevi_jax.synthesis.spectrometer import bend, simulate

SHAPE, ORIGIN = (150, 160), (73.3, 81.85)
SHELLS = [
    {"radius": 30.0, "sigma": 1.2, "electrons": 30_000, "beta": {2: 1.2}, "exact": True},
    {"radius": 55.0, "sigma": 1.5, "electrons": 60_000, "beta": {2: -0.8}, "exact": True},
]
KEYS = {
    "file", "electrons", "gain", "converged", "reason", "warnings", "notes", "deviance_per_dof",
    "p_value", "dispersion", "origin_pixels", "origin_pixels_error", "polarisation_degrees",
    "polarisation_degrees_error", "ellipse", "shells",
}  # fmt: skip
SHELL_KEYS = {
    "R_pixels", "R_pixels_error", "sigma_pixels", "sigma_pixels_error", "tail_pixels",
    "tail_pixels_error", "electrons", "electrons_error", "counting_error", "orders", "beta",
    "beta_error", "R", "R_error", "sigma", "sigma_error",
}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    picture = simulate(SHELLS, SHAPE, 1, origin=ORIGIN, background=0.3)
    return fit(picture, shells=2, orders=(2,), background="constant")


def test_shells_are_right_within_their_errors(found):
    assert found.converged, found.reason
    assert found.p_value > 1e-4  # false-alarm rate of this line
    assert found.warnings == ()
    pulls = [(x.nominal_value - true) / x.std_dev for x, true in zip(found.origin, ORIGIN)]  # noqa: B905
    for shell, true in zip(found.shells, SHELLS, strict=True):
        for x, value in (
            (shell.radius, true["radius"]),
            (shell.sigma, true["sigma"]),
            (shell.electrons, true["electrons"]),
            (shell.beta[2], true["beta"][2]),
        ):
            pulls.append((x.nominal_value - value) / x.std_dev)
        assert shell.tail is None
        assert 0 < shell.radius.std_dev < 0.1
    # 10 numbers within 4.5 standard errors: false-alarm rate 1e-4
    assert np.abs(pulls).max() < 4.5


def test_names_values_and_covariance_are_those_of_the_shells(found):
    assert found.names[:4] == ("radius_1", "sigma_1", "electrons_1", "beta2_1")
    assert found.names[8:] == ("origin_row", "origin_column", "background_0")
    values = dict(zip(found.names, found.values, strict=True))
    errors = dict(zip(found.names, np.sqrt(np.diagonal(found.covariance)), strict=True))
    outer = found.shells[1]
    for name, x in (("radius_2", outer.radius), ("beta2_2", outer.beta[2])):
        assert x.nominal_value == values[name]
        assert x.std_dev == pytest.approx(errors[name])
    # a difference has the covariance in it
    i, j = (found.names.index(name) for name in ("radius_2", "sigma_2"))
    variance = found.covariance[i, i] + found.covariance[j, j] - 2 * found.covariance[i, j]
    assert (outer.radius - outer.sigma).std_dev == pytest.approx(np.sqrt(variance))
    assert found.mean.shape == SHAPE
    assert found.mean.sum() == pytest.approx(found.electrons, rel=0.01)


def test_table_shows_what_the_fit_holds(found):
    lines = str(found).splitlines()
    assert repr(found) == str(found)
    cells = {line[2:24].strip(): line[24:].split("  ") for line in lines}
    inner = found.shells[0]
    assert f"{inner.radius.nominal_value:.3f}" in " ".join(cells["radius (pixels)"])
    assert f"{inner.radius.nominal_value / 80:.5f}" in " ".join(cells["radius (half-widths)"])
    assert f"{inner.beta[2].nominal_value:.3f}" in " ".join(cells["beta_2"])
    assert any(line.startswith("  background_0 0.") for line in lines)
    assert "WARNING" not in str(found)
    assert table.headline(found) in lines[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (ufloat(0.123456, 0.0123), "0.123 ± 0.012"),
        (ufloat(1234567.8, 321.0), "1234568 ± 321"),
        (ufloat(0.5, float("nan")), "0.5 ± ?"),
        (0.123456789, "0.123457"),
    ],
)
def test_error_has_two_digits(value, text):
    assert table.plus_minus(value) == text


def test_record_has_the_keys_that_others_rely_on(found):
    picture = found.to_dict()
    assert set(picture) >= KEYS
    assert all(set(shell) == SHELL_KEYS for shell in picture["shells"])
    shell, outer = picture["shells"][1], found.shells[1]
    assert shell["R_pixels"] == outer.radius.nominal_value
    assert shell["R"] == pytest.approx(outer.radius.nominal_value / 80)
    assert shell["sigma_error"] == pytest.approx(outer.sigma.std_dev / 80)
    assert (shell["tail_pixels"], shell["tail_pixels_error"]) == (None, None)
    assert (shell["orders"], shell["beta"]) == ([2], [outer.beta[2].nominal_value])
    assert picture["origin_pixels_error"] == [x.std_dev for x in found.origin]
    assert picture["polarisation_degrees_error"] is None
    assert picture["ellipse"] is None


def test_saved_fit_is_read_back_with_its_correlations(found, tmp_path):
    found.save(tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["convention"] == "literature"
    assert "sevi_jax" in document["versions"]
    np.testing.assert_allclose(document["pictures"][0]["covariance"], found.covariance)
    (saved,) = read_fits(tmp_path / "a.json")
    pairs = [[shell.radius for shell in x.shells] for x in (found, saved)]
    matrices = [np.array(uncertainties.covariance_matrix(pair)) for pair in pairs]
    np.testing.assert_allclose(*matrices, rtol=1e-6)
    with pytest.raises(InputError, match=r"a\.txt: found suffix \.txt, expected \.json"):
        found.save(tmp_path / "a.txt")


def test_course_has_half_widths_and_half_the_beta(found):
    course = record.course_record(found.to_dict())
    for shell, own in zip(course["shells"], found.shells, strict=True):
        assert shell["R"] == pytest.approx(own.radius.nominal_value / 80)
        assert shell["beta"] == pytest.approx([own.beta[2].nominal_value / 2])
        assert shell["beta_error"] == pytest.approx([own.beta[2].std_dev / 2])
        assert shell["yield"] == own.electrons.nominal_value
    gap = {"shells": [{**found.to_dict()["shells"][0], "orders": [6]}], "file": "a"}
    assert record.course_record(gap)["shells"][0]["beta"][:2] == [0.0, 0.0]
    gap["shells"][0]["orders"] = [3]
    with pytest.raises(InputError, match="order 3 has no place"):
        record.course_record(gap)


def test_frame_has_a_row_for_each_shell(found):
    frame = found.to_frame()
    assert list(frame.index) == [1, 2]
    assert frame.loc[2, "radius"] == found.shells[1].radius.nominal_value
    assert frame.loc[1, "beta_2_error"] == found.shells[0].beta[2].std_dev
    assert "tail" not in frame


class Reader(html.parser.HTMLParser):
    """Collects table rows and image sources; checks that tags are closed."""

    def __init__(self):
        super().__init__()
        self.open, self.rows, self.images = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        elif tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_page_holds_table_and_figures(found, tmp_path):
    found.report(tmp_path / "new" / "a.html")
    text = (tmp_path / "new" / "a.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert "http" not in text  # nothing is fetched from elsewhere
    rows = {row[0]: row[1:] for row in reader.rows if row}
    assert rows["beta_2"] == [table.plus_minus(shell.beta[2]) for shell in found.shells]
    assert len(reader.images) == 4
    for image in reader.images:
        start, _, data = image.partition(",")
        assert start == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    assert found._repr_html_() in text


def test_names_do_not_leave_the_page(tmp_path):
    strange = simulate(SHELLS[:1], (70, 70), 1)
    strange = Picture(strange.counts, name="<b>a & co</b>", origin=(35, 35))
    text = fit(strange)._repr_html_()
    assert "<b>" not in text


def test_figures_show_the_fit(found):
    figure = found.plot()
    panels = [np.asarray(axes.get_images()[0].get_array()) for axes in figure.axes[:2]]
    np.testing.assert_array_equal(panels[0], found.fitted.picture.counts)
    np.testing.assert_allclose(panels[1], found.mean, rtol=1e-6)
    assert figure._repr_png_().startswith(b"\x89PNG")
    upper = found.plot("rings").axes[0]
    stairs = {patch.get_label(): patch.get_data().values for patch in upper.patches}
    assert stairs["fit"].sum() == pytest.approx(found.mean.sum(), rel=1e-6)
    # the parts add up to the fit
    shells = [p.get_data().values for p in upper.patches if p.get_fill()]
    assert len(shells) == 2
    parts = np.sum(shells, axis=0) + stairs["background"]
    np.testing.assert_allclose(parts, stairs["fit"], atol=0.01 * stairs["fit"].max())
    electrons = [part.sum() for part in shells]
    np.testing.assert_allclose(electrons, [30_000, 60_000], rtol=0.05)
    with pytest.raises(InputError, match="expected one of fit, rings, densities, betas"):
        found.plot("spectrum")


def test_bent_rings_are_drawn_where_electrons_arrive():
    # the simulator's own bending, which shares no code with the model's
    truth = simulate(
        SHELLS[:1], (8, 8), 0, ellipse=(0.05, -0.02), third=(0.01, 0.02), fourth=(-0.01, 0.005)
    ).truth
    t = np.linspace(0, 6, 50)
    points = 30 * np.stack([np.cos(t), np.sin(t)], axis=1)
    alpha = np.deg2rad(20.0)
    geometry = np.array([1.5, -2.5, alpha, 0.05, -0.02, 0.01, 0.02, -0.01, 0.005])
    found = figures.to_detector(points, geometry)
    turned = points @ np.array([[np.cos(alpha), np.sin(alpha)], [-np.sin(alpha), np.cos(alpha)]])
    expected = np.stack(bend(*turned.T, truth), axis=1) + np.array([1.5, -2.5])
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_what_is_held_has_no_error_and_what_is_wrong_is_said():
    picture = simulate(SHELLS, SHAPE, 2, origin=ORIGIN, angle=15.0)
    held = Picture(picture.counts, origin=ORIGIN, name="tilted.txt")
    tilted = fit(held, shells=2, orders=(2,), range=(5, 70))
    assert [x.std_dev for x in tilted.origin] == [0, 0]
    assert tilted.to_dict()["origin_pixels_error"] is None
    assert tilted.dispersion > 1
    assert any("does not describe" in text for text in tilted.warnings)
    assert "  WARNING: " in str(tilted)
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(rows + 0.5 - ORIGIN[0], columns + 0.5 - ORIGIN[1])
    used = (distance >= 5) & (distance <= 70)
    np.testing.assert_array_equal(figures.pixels_of(tilted).used, used)
    assert tilted.electrons == picture.counts[used].sum()
    with pytest.raises(InputError, match="no pixel"):
        fit(held, range=(300, 400))


def test_prior_of_betas_pulls_as_far_as_it_should(found):
    # beta_2 of the inner shell, known as well beforehand as from the counts: the estimate is the
    # middle of both
    beta = found.shells[0].beta[2]
    mean, precision = np.zeros(6), np.zeros((6, 6))
    mean[2] = beta.nominal_value + 3 * beta.std_dev
    precision[2, 2] = beta.std_dev**-2
    prior = ShellsPrior((Shell((2,)),) * 2, mean, precision)
    options = {"shells": 2, "orders": (2,), "background": "constant", "prior": prior}
    pulled = fit(found.fitted.picture, start=found.fitted.found.values, **options).shells[0].beta[2]
    moved = (pulled.nominal_value - beta.nominal_value) / beta.std_dev
    assert moved == pytest.approx(1.5, rel=0.1)
    assert pulled.std_dev == pytest.approx(beta.std_dev / np.sqrt(2), rel=0.05)


def test_slopes_of_the_prior_are_those_of_its_value():
    rng = np.random.default_rng(0)
    shells = (Shell((2, 4)), Shell((1,), "skewed"))
    factor = rng.normal(size=(7, 7))
    prior = ShellsPrior(shells, rng.normal(size=7), factor @ factor.T)
    vector = np.array([30.0, 1.5, 900.0, 500.0, -90.0, 50.0, 2.0, 0.4, 700.0, 60.0, 3.3])
    _, slope, curvature = prior.evaluate(vector)
    for index in range(len(vector)):
        step = np.zeros(len(vector))
        step[index] = 1e-5 * max(1.0, abs(vector[index]))
        up, down = (prior.evaluate(vector + sign * step)[0] for sign in (1, -1))
        expected = -(up - down) / (4 * step[index])
        assert slope[index] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert np.linalg.eigvalsh(curvature).min() > -1e-9
    assert curvature[-1].any() == 0  # what is no shell's
    # a Quadratic of the same numbers, where the vector is linear
    straight = Quadratic(prior.mean[:2], prior.precision[:2, :2])
    lone = ShellsPrior((Shell(()),), prior.mean[:2], prior.precision[:2, :2])
    assert lone.evaluate(vector[:3])[0] == pytest.approx(straight.evaluate(vector[:2])[0])
