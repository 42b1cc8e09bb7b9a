"""Spectra against electrons whose energies are counted, and a fit's against its own shells."""

import types

import numpy as np
import pytest
import uncertainties
from scipy import stats
from uncertainties import ufloat

from sevi_jax.data.outputs import is_result
from sevi_jax.errors import InputError
from sevi_jax.results import fit as results_fit
from sevi_jax.results.calibration import calibrate
from sevi_jax.results.figures.style import png
from sevi_jax.results.spectrum import fit_spectrum, radial_density, spectrum_of
from sevi_jax.synthesis.spectrometer import simulate

C, D = 1.1e-5, -2e-6
SHELLS = ((60.0, 2.0, None, 4e4), (110.0, 1.5, 3.0, 9e4))


def a_calibration(second_term=False):
    radius = np.array([50.0, 100.0, 150.0])
    energy = C * radius**2 * (1 + (D if second_term else 0) * radius**2)
    shells = [types.SimpleNamespace(radius=ufloat(r, 0.01)) for r in radius]
    known = types.SimpleNamespace(name="known", shells=shells)
    return calibrate([(known, dict(enumerate(energy)))], second_term)


def a_fit():
    """A normal and a skewed shell, as a `Fit` shows them."""
    names, values = [], []
    for number, (radius, sigma, tail, electrons) in enumerate(SHELLS, 1):
        names += [f"radius_{number}", f"sigma_{number}"]
        values += [radius, sigma]
        if tail is not None:
            names.append(f"tail_{number}")
            values.append(tail)
        names.append(f"electrons_{number}")
        values.append(electrons)
    rng = np.random.default_rng(0)
    mix = np.eye(len(values)) + 0.2 * rng.standard_normal((len(values),) * 2)
    sizes = np.array([0.02, 0.03, 200.0, 0.02, 0.03, 0.04, 300.0])
    covariance = mix @ mix.T * np.outer(sizes, sizes)
    every = dict(zip(names, uncertainties.correlated_values(values, covariance), strict=True))
    shells = [
        types.SimpleNamespace(
            radius=every[f"radius_{k}"],
            sigma=every[f"sigma_{k}"],
            tail=every.get(f"tail_{k}"),
            electrons=every[f"electrons_{k}"],
        )
        for k in (1, 2)
    ]
    kinds = [types.SimpleNamespace(shape=shape) for shape in ("normal", "skewed")]
    model = types.SimpleNamespace(model=types.SimpleNamespace(shells=kinds))
    return types.SimpleNamespace(
        names=tuple(names),
        covariance=covariance,
        shells=shells,
        fitted=types.SimpleNamespace(model=model),
    )


def densities(r, values):
    """Of the two shells, by SciPy in float64."""
    radius, sigma, electrons, far, wide, tail, many = values
    first = electrons * stats.norm.pdf(r, radius, sigma)
    return first + many * stats.exponnorm.pdf(r, tail / wide, far, wide)


def values_of(fit):
    found = []
    for shell in fit.shells:
        found += [shell.radius, shell.sigma]
        found += [] if shell.tail is None else [shell.tail]
        found.append(shell.electrons)
    return np.array([x.nominal_value for x in found])


def test_density_of_the_radius_and_its_error_by_differences():
    fit = a_fit()
    r = np.linspace(50, 130, 161)
    density, error = radial_density(fit, r)
    values = values_of(fit)
    np.testing.assert_allclose(density, densities(r, values), rtol=2e-3, atol=1e-2)
    sizes = np.sqrt(np.diagonal(fit.covariance))
    jacobian = np.stack(
        [
            (densities(r, values + 1e-3 * size * unit) - densities(r, values - 1e-3 * size * unit))
            / (2e-3 * size)
            for size, unit in zip(sizes, np.eye(len(values)), strict=True)
        ],
        axis=1,
    )
    expected = np.sqrt(np.einsum("ki,ij,kj->k", jacobian, fit.covariance, jacobian))
    np.testing.assert_allclose(error, expected, rtol=5e-3, atol=0.05)


@pytest.mark.parametrize("photon", [None, 2.5])
def test_energies_of_drawn_electrons_have_the_spectrum(photon):
    calibration = a_calibration(second_term=True)
    found = fit_spectrum(a_fit(), calibration, photon, "meV")
    assert (np.diff(found.energy) > 0).all()
    total = np.trapezoid(found.intensity, found.energy)
    assert total == pytest.approx(1.3e5, rel=2e-3)
    rng = np.random.default_rng(1)
    r = np.concatenate(
        [
            rng.normal(60, 2, 400_000),
            rng.normal(110, 1.5, 900_000) + 3 * rng.standard_exponential(900_000),
        ]
    )
    energy = 1e3 * C * r**2 * (1 + D * r**2)
    energy = energy if photon is None else 1e3 * photon - energy
    low, high = np.quantile(energy, [0.001, 0.999])
    counts, edges = np.histogram(energy, 40, (low, high))
    # integral of the spectrum over every bin, from its points
    steps = np.diff(found.energy) * (found.intensity[1:] + found.intensity[:-1]) / 2
    integral = np.interp(edges, found.energy, np.concatenate([[0], np.cumsum(steps)]))
    expected = 10 * np.diff(integral)
    # Poisson's noise of 40 bins, and 0.3 % of the points' integration and of c and d
    variance = expected + (3e-3 * expected + 3) ** 2
    assert np.sum((counts - expected) ** 2 / variance) < stats.chi2.ppf(1 - 1e-6, 40)


def test_points_of_a_free_density_keep_their_covariance():
    calibration = a_calibration()
    r = np.arange(0.0, 200.0, 2.0)
    intensity = 1000 + 5 * r
    rng = np.random.default_rng(2)
    mix = rng.standard_normal((len(r), len(r)))
    covariance = mix @ mix.T
    found = spectrum_of(r, intensity, covariance, calibration, (2.0, 0.001), "cm-1")
    # r = 0 has no dN/dE; binding energies fall with r
    per_pixel = 2 * C * r[1:] * 8065.543937
    np.testing.assert_allclose(found.energy[::-1], (2 - C * r[1:] ** 2) * 8065.543937, rtol=1e-9)
    np.testing.assert_allclose(found.intensity[::-1], intensity[1:] / per_pixel, rtol=1e-9)
    expected = covariance[1:, 1:] / np.outer(per_pixel, per_pixel)
    np.testing.assert_allclose(found.covariance[::-1, ::-1], expected, rtol=1e-9)
    np.testing.assert_allclose(found.intensity_error**2, np.diagonal(found.covariance))
    relative = calibration.c.std_dev / C
    axis = np.hypot(0.001, relative * C * r[1:] ** 2) * 8065.543937
    np.testing.assert_allclose(found.energy_error[::-1], axis, rtol=1e-6)
    only = spectrum_of(r, intensity, np.sqrt(np.diagonal(covariance)), calibration, None, "cm-1")
    assert only.covariance is None
    np.testing.assert_allclose(only.intensity_error, found.intensity_error[::-1])


def test_points_beyond_the_calibration_are_left_out():
    calibration = a_calibration(second_term=True)
    turning = np.sqrt(0.5 / -D)
    r = np.linspace(1, 1.2 * turning, 500)
    found = spectrum_of(r, np.ones(500), np.ones(500), calibration)
    assert found.energy[-1] < C / (4 * -D)
    assert (np.diff(found.energy) > 0).all()
    with pytest.raises(InputError, match="expected \\[K\\], \\[K\\], and"):
        spectrum_of(r, np.ones(3), np.ones(500), calibration)


def test_csv_and_figure(tmp_path):
    found = fit_spectrum(a_fit(), a_calibration(), 2.5, "cm-1")
    found.save(tmp_path / "s.csv")
    assert png(found.plot()).startswith(b"\x89PNG")
    made_by, header = (tmp_path / "s.csv").read_text().splitlines()[:2]
    assert made_by.startswith("# made by sevi_jax ")
    assert header == (
        "binding_energy_cm-1,energy_error_cm-1,electrons_per_cm-1,electrons_per_cm-1_error"
    )
    rows = np.loadtxt(tmp_path / "s.csv", delimiter=",", skiprows=2)
    np.testing.assert_allclose(rows[:, 0], found.energy, rtol=1e-9)
    np.testing.assert_allclose(rows[:, 3], found.intensity_error, rtol=1e-9)
    assert is_result(tmp_path / "s.csv")


def test_a_fit_of_a_picture_has_energies_and_a_spectrum():
    shell = {"radius": 20.0, "sigma": 1.5, "electrons": 20_000, "beta": {2: 1.0}, "exact": True}
    fit = results_fit.fit(simulate([shell], (64, 64), seed=3))
    known = types.SimpleNamespace(
        name="known", shells=[types.SimpleNamespace(radius=ufloat(25.0, 0.01))]
    )
    calibration = calibrate([(known, {0: 0.1})])
    (one,) = fit.energies(calibration, photon_energy=1.0, unit="meV")
    # 5 errors: a false alarm in 2e6
    assert abs(one.kinetic.nominal_value - 64.0) < 5 * one.kinetic.std_dev < 2
    assert one.binding.nominal_value == pytest.approx(1000 - one.kinetic.nominal_value)
    own = calibrate([(fit, {0: 0.1})])
    assert fit.energies(own)[0].kinetic.std_dev < 1e-9
    found = fit.spectrum(calibration, unit="meV", energy=np.linspace(30, 110, 801))
    total = np.trapezoid(found.intensity, found.energy)
    assert total == pytest.approx(fit.shells[0].electrons.nominal_value, rel=1e-3)
