"""Energies and their errors against derivatives by hand; files of fits; flags."""

import json
import types

import numpy as np
import pytest
import uncertainties
from uncertainties import ufloat

from sevi_jax.errors import InputError
from sevi_jax.results import known_energies
from sevi_jax.results.calibration import calibrate
from sevi_jax.results.energies import add_energies, read_fits, shell_energies

PER_EV = 8065.543937
KNOWN = np.array([0.02, 0.11, 0.26])
RADII = np.array([40.0, 93.0, 142.0])
COVARIANCE = np.array([[2.0, 0.7, 0.1], [0.7, 1.0, -0.3], [0.1, -0.3, 3.0]]) * 1e-4


def a_fit(radii, covariance, name):
    values = uncertainties.correlated_values(radii, covariance)
    shells = [types.SimpleNamespace(radius=x, sigma=ufloat(1.5, 0.1)) for x in values]
    return types.SimpleNamespace(name=name, shells=shells)


def exact_calibration(second_term=False):
    c = 1.2e-5
    fit = a_fit(np.sqrt(KNOWN / c), COVARIANCE, "known")
    return calibrate([(fit, dict(enumerate(KNOWN)))], second_term)


def test_errors_of_energies_and_differences_by_hand():
    calibration = exact_calibration()
    fit = a_fit(RADII, COVARIANCE, "measured")
    found = shell_energies(fit, calibration, (2.7293, 1e-4))
    c, var_c = calibration.c.nominal_value, calibration.covariance[0, 0]
    by = np.hstack([np.diag(2 * c * RADII), (RADII**2)[:, None]])
    every = np.block([[COVARIANCE, np.zeros((3, 1))], [np.zeros((1, 3)), np.array([[var_c]])]])
    expected = by @ every @ by.T
    for k, one in enumerate(found):
        assert one.kinetic.nominal_value == pytest.approx(c * RADII[k] ** 2, rel=1e-12)
        assert one.kinetic.std_dev == pytest.approx(np.sqrt(expected[k, k]), rel=1e-7)
        assert one.binding.nominal_value == pytest.approx(2.7293 - c * RADII[k] ** 2, rel=1e-12)
        assert one.binding.std_dev == pytest.approx(np.sqrt(expected[k, k] + 1e-8), rel=1e-7)
        assert one.sigma.nominal_value == pytest.approx(2 * c * RADII[k] * 1.5)
    along = np.array([-1.0, 1.0, 0])
    for difference in (found[1].kinetic - found[0].kinetic, found[0].binding - found[1].binding):
        assert difference.std_dev == pytest.approx(np.sqrt(along @ expected @ along), rel=1e-6)


def test_a_fit_that_calibrates_itself_gives_back_what_is_known():
    # of one exact ring the energy is known, whatever the error of its radius
    fit = a_fit(RADII, COVARIANCE, "self")
    found = shell_energies(fit, calibrate([(fit, {1: 0.1})]))
    assert found[1].kinetic.nominal_value == pytest.approx(0.1)
    assert found[1].kinetic.std_dev < 1e-9
    ratio = (RADII[0] / RADII[1]) ** 2
    by = 0.1 * ratio * np.array([2 / RADII[0], -2 / RADII[1]])
    error = np.sqrt(by @ COVARIANCE[:2, :2] @ by)
    assert found[0].kinetic.std_dev == pytest.approx(error, rel=1e-6)


def test_tiny_errors_are_not_lost_to_rounding():
    # radii known to 1e-9 of themselves: errors of differences to 1e-4 of the closed form
    radii, size = np.array([400.0, 401.0]), 4e-7
    fit = a_fit(radii, np.diag([size**2] * 2), "far")
    calibration = calibrate([(a_fit([450.0], [[size**2]], "known"), {0: 2.0})])
    found = shell_energies(fit, calibration, unit="cm-1")
    c = 2.0 / 450.0**2 * PER_EV
    var_c = (2 * c / 450.0 * size) ** 2
    difference = found[1].kinetic - found[0].kinetic
    variance = (2 * c * size) ** 2 * (radii**2).sum() + np.diff(radii**2)[0] ** 2 * var_c
    assert difference.nominal_value == pytest.approx(c * 801.0, rel=1e-11)
    assert difference.std_dev == pytest.approx(np.sqrt(variance), rel=1e-4)


@pytest.mark.parametrize(("unit", "scale"), [("eV", 1), ("meV", 1e3), ("cm-1", PER_EV)])
def test_units(unit, scale):
    calibration, fit = exact_calibration(True), a_fit(RADII, COVARIANCE, "measured")
    one, other = (shell_energies(fit, calibration, 2.0, u)[2] for u in ("eV", unit))
    for name in ("kinetic", "binding", "sigma"):
        value, scaled = getattr(one, name), getattr(other, name)
        assert scaled.nominal_value == pytest.approx(value.nominal_value * scale, rel=1e-12)
        assert scaled.std_dev == pytest.approx(value.std_dev * scale, rel=1e-12)
    assert other.unit == unit


def test_answer_gets_energies():
    fit = a_fit(RADII, COVARIANCE, "measured")
    calibration = exact_calibration()
    answer = {"file": "a", "shells": [{"R_pixels": r} for r in RADII]}
    found = add_energies(answer, fit, calibration, 2.7, "cm-1")
    one = shell_energies(fit, calibration, 2.7, "cm-1")[1]
    assert found["shells"][1] == {
        "R_pixels": 93.0,
        "energy": one.kinetic.nominal_value,
        "energy_error": one.kinetic.std_dev,
        "binding_energy": one.binding.nominal_value,
        "binding_energy_error": one.binding.std_dev,
        "unit": "cm-1",
    }
    assert "energy" not in answer["shells"][1]
    without = add_energies(answer, fit, calibration)["shells"][0]
    assert without["binding_energy"] is without["binding_energy_error"] is None
    unknown = types.SimpleNamespace(name="unknown", shells=[])
    for r in RADII:
        unknown.shells.append(types.SimpleNamespace(radius=ufloat(r, np.nan), sigma=None))
    assert add_energies(answer, unknown, calibration)["shells"][0]["energy_error"] is None


def test_saved_fits_are_read_with_their_covariance(tmp_path):
    shells = [
        {"R_pixels": r, "R_pixels_error": 0.02, "sigma_pixels": 1.0, "sigma_pixels_error": None}
        for r in RADII[:2]
    ]
    plain = {"file": "a.txt", "shells": shells}
    names = ["radius_1", "sigma_1", "radius_2", "sigma_2"]
    values = [40.0, 1.0, 93.0, 1.1]
    covariance = np.diag([4e-4, 1e-2, 9e-4, 1e-2])
    covariance[0, 2] = covariance[2, 0] = 3e-4
    whole = plain | {"names": names, "values": values, "covariance": covariance.tolist()}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"pictures": [plain, whole]}))
    first, second = read_fits(path)
    assert first.name == "a.txt"
    assert first.shells[1].radius.nominal_value == 93
    assert (first.shells[1].radius - first.shells[0].radius).std_dev == pytest.approx(
        0.02 * np.sqrt(2)
    )
    assert (second.shells[1].radius - second.shells[0].radius).std_dev == pytest.approx(
        np.sqrt(7e-4)
    )
    path.write_text(json.dumps(whole))
    assert read_fits(path)[0].shells[1].sigma.nominal_value == 1.1
    for content, message in (
        ("[]", "expected fits"),
        ('{"pictures": []}', "expected fits"),
        ('{"pictures": [3]}', "picture 1: "),
        ('{"file": "a", "shells": [{"R": 1}]}', "'R_pixels' is missing"),
        ('{"file": "a", "shells": []}', "list of shells"),
        (json.dumps(whole | {"values": [1, 2]}), "values must be numbers"),
        ("{", "expected JSON"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message) as error:
            read_fits(path)
        assert "\n" not in str(error.value)


def test_energies_of_flags():
    parsed = known_energies.parse_known("1:0.0123eV, 3:99.2(5)cm-1; 2:15+-0.2 meV,4:.5eV")
    first, second = parsed
    assert sorted(first) == [0, 2]
    assert first[0].nominal_value == 0.0123
    assert first[0].std_dev == 0
    assert first[2].nominal_value == pytest.approx(99.2 / PER_EV)
    assert first[2].std_dev == pytest.approx(0.5 / PER_EV)
    assert second[1].nominal_value == pytest.approx(0.015)
    assert second[1].std_dev == pytest.approx(0.0002)
    assert second[3].nominal_value == 0.5
    assert known_energies.parse_photon_energy(None) is None
    photon = known_energies.parse_photon_energy("2.7293(2)")
    assert (photon.nominal_value, photon.std_dev) == pytest.approx((2.7293, 0.0002))
    # h c / e, CODATA 2018: 1239.841984 eV nm
    photon = known_energies.parse_photon_energy("454.5(2) nm")
    expected = 1239.841984 / 454.5
    assert photon.nominal_value == pytest.approx(expected, rel=1e-9)
    assert photon.std_dev == pytest.approx(expected * 0.2 / 454.5, rel=1e-6)
    for text in ("nm", "0nm", "-3nm", "1eVnm"):
        with pytest.raises(InputError, match="--photon_energy="):
            known_energies.parse_photon_energy(text)
    for text in ("1:0.0123", "0:1eV", "a:1eV", "1=1eV", "1:1J", "1:eV", "1:1eV,1:2eV", "1:1e999eV"):
        with pytest.raises(InputError, match="--known="):
            known_energies.parse_known(text)
