"""Distributions of any form, of pictures that were drawn electron by electron."""

import json

import numpy as np
import pytest
from command_line import assert_refused, command
from uncertainties import ufloat

import sevi_jax
from sevi_jax.data.picture import Picture
from sevi_jax.errors import InputError
from sevi_jax.results.energies import SavedFit, SavedShell

SHAPE, ORIGIN = (140, 140), (70.5, 69.2)
RING = {"radius": 45.0, "sigma": 2.0, "electrons": 40_000, "beta": {2: 1.4}, "exact": True}
SCALE = 6.0  # of the gamma density of the continuum, pixels


def gamma(rng, number):
    return rng.gamma(4.0, SCALE, number)


CONTINUUM = {"sampler": gamma, "electrons": 60_000, "beta": {2: -0.5}, "exact": True}


def truth(r):
    """I and I beta_2 of both."""
    ring = 40_000 * np.exp(-0.5 * ((r - 45.0) / 2.0) ** 2) / (np.sqrt(2 * np.pi) * 2.0)
    smooth = 60_000 * r**3 * np.exp(-r / SCALE) / (6 * SCALE**4)
    return ring + smooth, 1.4 * ring - 0.5 * smooth


@pytest.fixture(scope="module")
def picture():
    return sevi_jax.simulate([RING, CONTINUUM], SHAPE, 3, origin=ORIGIN)


@pytest.fixture(scope="module")
def found(picture):
    return sevi_jax.invert(picture)


def test_distribution_lies_in_its_bands(found):
    assert found.converged, found.reason
    assert found.p_value > 1e-4  # false-alarm rate of this line
    assert found.warnings == ()
    intensity, harmonic = truth(found.r)
    inside = found.r < 62
    error = np.sqrt(np.mean((found.intensity - intensity)[inside] ** 2))
    assert error < 0.04 * np.sqrt(np.mean(intensity[inside] ** 2))
    bright = intensity > 1e-3 * intensity.max()
    for level, least in ((0.68, 0.5), (0.95, 0.85)):
        band = found.band(level)
        for (low, high), true in (
            (band.intensity, intensity),
            (band.harmonics[2], harmonic),
        ):
            # some 15 independent radii of one picture: 0.5 is 1.5 standard deviations below 0.68
            assert np.mean((low <= true) & (true <= high), where=bright) >= least
    row, column = found.origin
    assert abs(row.nominal_value - ORIGIN[0]) < 4 * row.std_dev < 0.2
    assert abs(column.nominal_value - ORIGIN[1]) < 4 * column.std_dev < 0.2


def test_totals_are_those_of_the_picture(found):
    total = found.total
    assert total.nominal_value == pytest.approx(100_000, rel=0.02)
    assert 0.5 < total.std_dev / np.sqrt(100_000) < 2
    mean = found.mean_beta[2]
    assert abs(mean.nominal_value - 0.26) < 4 * mean.std_dev
    assert 0.5 < mean.std_dev / np.sqrt(5 / 100_000) < 1.5  # of the mean of 5 P_2
    assert found.mean.sum() == pytest.approx(found.fit.electrons, rel=1e-3)


def test_beta_is_stated_where_it_is_known(found):
    known = found.is_known
    assert np.isnan(found.beta[2][~known]).all()
    at = np.searchsorted(found.r, 45.0)
    pull = (found.beta[2][at] - 1.4) / found.beta_error[2][at]
    assert abs(pull) < 4
    assert 0 < found.beta_error[2][at] < 0.2
    np.testing.assert_allclose(found.beta[2][known], (found.harmonics[2] / found.intensity)[known])


def test_beta_error_is_that_of_the_ratio(found):
    # draws from the covariance of I and I beta against the formula
    count = len(found.r)
    at = int(np.searchsorted(found.r, 45.0))
    place = [at, count + at]
    rng = np.random.default_rng(1)
    mean = [found.intensity[at], found.harmonics[2][at]]
    draws = rng.multivariate_normal(mean, found.covariance[np.ix_(place, place)], 40_000)
    assert np.std(draws[:, 1] / draws[:, 0]) == pytest.approx(found.beta_error[2][at], rel=0.05)


def test_shells_on_a_continuum(picture):
    fit = sevi_jax.fit(picture, shells=1, orders=(2,), continuum=True)
    assert fit.converged, fit.reason
    shell = fit.shells[0]
    for x, true in (
        (shell.radius, 45.0), (shell.sigma, 2.0), (shell.electrons, 40_000), (shell.beta[2], 1.4),
    ):  # fmt: skip
        assert abs(x.nominal_value - true) < 4 * x.std_dev
    assert fit.distribution is not None
    assert fit.distribution.total.nominal_value == pytest.approx(60_000, rel=0.1)
    assert set(fit.parameters) == {
        "radius_1", "sigma_1", "electrons_1", "beta2_1", "origin_row", "origin_column",
    }  # fmt: skip
    json.dumps(fit.to_dict(), allow_nan=False)
    fit.plot("rings")


def test_spectrum_keeps_the_electrons(found):
    ring = SavedFit("known", (SavedShell(ufloat(50.0, 0.01)),))
    calibration = sevi_jax.calibrate([(ring, {0: 0.25})])
    spectrum = found.spectrum(calibration, unit="meV")
    total = np.trapezoid(spectrum.intensity, spectrum.energy)
    assert total == pytest.approx(found.total.nominal_value, rel=0.01)


def test_files(found, tmp_path):
    path = tmp_path / "d.csv"
    found.save(path)
    lines = path.read_text().splitlines()
    names = lines[1].split(",")
    values = np.array([[float(x) for x in line.split(",")] for line in lines[2:]])
    np.testing.assert_allclose(values[:, names.index("intensity")], found.intensity, rtol=1e-6)
    np.testing.assert_allclose(values[:, 0], found.r)
    found.save(tmp_path / "d.json")
    record = json.loads((tmp_path / "d.json").read_text())["pictures"][0]
    assert record["orders"] == [2]
    np.testing.assert_allclose(record["distribution"]["intensity"], found.intensity)
    assert len(record["distribution"]["beta2"]) == len(found.r)
    found.report(tmp_path / "d.html")
    assert (tmp_path / "d.html").read_text().count("data:image/png") == 3
    with pytest.raises(InputError, match=r"\.csv or \.json"):
        found.save(tmp_path / "d.txt")


def test_labelled_arrays(found):
    xarray = pytest.importorskip("xarray")
    data = found.to_xarray()
    assert isinstance(data, xarray.Dataset)
    np.testing.assert_array_equal(data["intensity"].sel(r=45.0), found.intensity[44])


def test_odd_orders_and_a_masked_part():
    shell = {"radius": 40.0, "sigma": 3.0, "electrons": 50_000, "beta": {1: 0.5, 2: 0.8}}
    whole = sevi_jax.simulate([shell], SHAPE, 5, origin=ORIGIN)
    mask = np.ones(SHAPE, bool)
    mask[60:80, 60:75] = False
    picture = Picture(np.where(mask, whole.counts, np.nan), mask=mask)
    found = sevi_jax.invert(picture, orders=(1, 2))
    assert found.p_value > 1e-4
    # the nearest pixel beside the mask is 6.3 pixels off: nothing is seen of smaller radii, of
    # which log I can be anything, and they are in no sum
    assert found.r[0] == 7
    assert any("begin at r = 7" in note for note in found.notes), found.notes
    assert abs(found.total.nominal_value - 50_000) < 4 * found.total.std_dev
    assert 0.9 < found.total.std_dev / np.sqrt(50_000) < 1.5
    for n, true in shell["beta"].items():
        x = found.mean_beta[n]
        # beta_n is the mean of (2 n + 1) P_n, whose variance is 2 n + 1 in even directions
        assert abs(x.nominal_value - true) < 4 * x.std_dev
        assert 0.5 < x.std_dev / np.sqrt((2 * n + 1) / 50_000) < 1.5


def test_electrons_beside_a_free_efficiency():
    # rings alone do not tell I(r) from an efficiency that varies with r: `even_rings` says which
    shell = {"radius": 40.0, "sigma": 3.0, "electrons": 50_000, "beta": {2: 0.8}, "exact": True}
    picture = sevi_jax.simulate([shell], SHAPE, 8, origin=ORIGIN)
    found = sevi_jax.invert(picture, free=("origin", "efficiency"))
    assert found.converged, found.reason
    total = found.total
    assert abs(total.nominal_value - 50_000) < 4 * total.std_dev < 10_000


def test_missing_orders_are_named():
    shell = {"radius": 40.0, "sigma": 3.0, "electrons": 100_000, "beta": {2: 0.8, 4: 0.9}}
    picture = sevi_jax.simulate([shell], SHAPE, 6, origin=ORIGIN)
    found = sevi_jax.invert(picture)
    assert found.p_value < 1e-3
    assert any("more orders: orders=2,4" in text for text in found.warnings), found.warnings
    turned = sevi_jax.simulate([shell], SHAPE, 7, origin=ORIGIN, angle=12.0)
    said = sevi_jax.invert(turned, orders=(2, 4)).warnings
    assert any("turned" in text for text in said), said


def test_wrong_arguments_are_said(picture):
    with pytest.raises(InputError, match="expected different numbers from 1 to 24"):
        sevi_jax.invert(picture, orders=(0,))
    with pytest.raises(InputError, match="shells alone"):
        sevi_jax.fit(picture, continuum=True, positive=True)
    with pytest.raises(InputError, match="number of shells"):
        sevi_jax.fit(picture, shells="auto", continuum=True)


def test_command(picture, tmp_path):
    np.save(tmp_path / "a.npy", picture.counts)
    said = command("invert", "--input=a.npy", "--output=answer.json", cwd=tmp_path)
    assert said.status == 0, said.err
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.npy", "answer.json", "answer.html", "answer_1_distribution.csv",
        "answer_1_distribution.png", "answer_1_fit.png", "answer_1_rings.png",
    }  # fmt: skip
    assert "electrons of all radii" in said.out
    assert_refused(tmp_path, "answer.h5", "invert", "--input=a.npy", "--output=answer.h5")
