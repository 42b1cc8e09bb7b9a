"""Calibrations against closed forms and a general minimiser; files; mistakes in one line."""

import itertools
import json
import types

import numpy as np
import pytest
import uncertainties
from scipy import optimize, stats
from uncertainties import ufloat

from sevi_jax.data.outputs import is_result
from sevi_jax.errors import InputError
from sevi_jax.results.calibration import Calibration, calibrate
from sevi_jax.results.correlated import covariance_of
from sevi_jax.results.figures.style import png

C, D = 1.3e-5, 8e-7
RADII = np.array([41.0, 95.0, 143.0, 171.0])
MIX = np.array([[1, 0.4, 0.1, 0], [0, 1.5, 0.3, 0.1], [0, 0, 0.8, -0.5], [0, 0, 0, 1.2]])
COVARIANCE = MIX @ MIX.T * 1e-4


def a_fit(radii, covariance, name="a"):
    """A fit that knows radii alone."""
    values = uncertainties.correlated_values(radii, covariance)
    shells = [types.SimpleNamespace(radius=x, sigma=None) for x in values]
    return types.SimpleNamespace(name=name, shells=shells)


def measured(seed, scale=1.0):
    drawn = np.random.default_rng(seed).multivariate_normal(RADII, COVARIANCE * scale)
    return a_fit(drawn, COVARIANCE * scale), drawn


def test_one_ring_gives_c_and_no_p_value():
    found = calibrate([(a_fit([120.0], [[0.04]]), {0: 0.2})])
    assert found.c.nominal_value == pytest.approx(0.2 / 120**2, rel=1e-12)
    assert found.c.std_dev == pytest.approx(2 * 0.2 / 120**3 * 0.2, rel=1e-9)
    assert found.d.nominal_value == found.d.std_dev == 0
    assert np.isnan(found.p_value)
    assert found.covariance == pytest.approx(np.array([[found.c.std_dev**2]]))
    assert found.warnings == ()


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-12])
def test_exact_energies_give_generalised_least_squares_in_the_radius(scale):
    # R = s sqrt(E) is linear in s = 1 / sqrt(c): closed form, whatever the covariance
    fit, drawn = measured(1, scale)
    energy = C * RADII**2
    inverse = np.linalg.inv(COVARIANCE * scale)
    root = np.sqrt(energy)
    s = root @ inverse @ drawn / (root @ inverse @ root)
    left = drawn - s * root
    found = calibrate([(fit, dict(enumerate(energy)))])
    assert found.c.nominal_value == pytest.approx(1 / s**2, rel=1e-11)
    error = 2 / s**3 / np.sqrt(root @ inverse @ root)
    # the weights are taken at the fitted radii, and so is the error
    assert found.c.std_dev == pytest.approx(error, rel=1e-6 * max(scale, 1))
    # where errors are 1e-8 of a pixel, 1e-14 of R is 1e-6 of them
    chi_square = left @ inverse @ left
    assert found.chi_square == pytest.approx(chi_square, rel=1e-4)
    assert found.p_value == pytest.approx(stats.chi2.sf(chi_square, 3), rel=1e-3)


def test_errors_of_energies_and_a_second_term_by_a_general_minimiser():
    rng = np.random.default_rng(2)
    fit, drawn = measured(2)
    truth = C * RADII**2 * (1 + D * RADII**2)
    sizes = np.array([3e-5, 1e-4, 1e-4, 2e-4])
    known = truth + sizes * rng.standard_normal(4)
    inverse = np.linalg.inv(np.linalg.cholesky(COVARIANCE))

    def residuals(p):
        square = p[2:] ** 2
        energy = p[0] * 1e-5 * square * (1 + p[1] * 1e-6 * square)
        return np.concatenate([inverse @ (drawn - p[2:]), (known - energy) / sizes])

    best = optimize.least_squares(
        residuals, [1.0, 0.5, *drawn], xtol=1e-15, ftol=1e-15, gtol=1e-12, x_scale="jac"
    )
    covariance = np.linalg.inv(best.jac.T @ best.jac)
    pairs = [(fit, {k: (known[k], sizes[k]) for k in range(4)})]
    found = calibrate(pairs, second_term=True)
    assert found.values == pytest.approx(best.x[:2] * [1e-5, 1e-6], rel=1e-5)
    expected = covariance[:2, :2] * np.outer([1e-5, 1e-6], [1e-5, 1e-6])
    np.testing.assert_allclose(found.covariance, expected, rtol=2e-3)
    assert found.chi_square == pytest.approx(2 * best.cost, rel=1e-6)
    assert found.degrees_of_freedom == 2


def test_a_shared_error_of_the_photon_energy_is_one_variable():
    # the line's binding energy is one UFloat in two pictures of exact photon energies: with radii
    # that are nearly exact c is the slope of the photon energy, without the line's error
    line = ufloat(1.4611, 0.01)
    photons = [1.6, 1.9]
    kinetic = [p - 1.46 for p in photons]
    radius = np.sqrt(np.array(kinetic) / C)
    pairs = [
        (a_fit([r], [[1e-12]], f"picture {p}"), {0: p - line})
        for r, p in zip(radius, photons, strict=True)
    ]
    found = calibrate(pairs)
    # E1 = c R1^2 and E2 = c R2^2 with E1 - E2 exact: c = (E2 - E1) / (R2^2 - R1^2)
    assert found.c.nominal_value == pytest.approx(C, rel=1e-7)
    assert found.c.std_dev < 1e-6 * C
    assert found.chi_square == pytest.approx((0.0011 / 0.01) ** 2, rel=1e-3)


def test_binding_energies_with_a_photon_energy_and_other_units():
    fit, _ = measured(3)
    energy = C * RADII**2
    direct = calibrate([(fit, dict(enumerate(energy)))])
    binding = {k: (2.7293 - e) * 8065.543937 for k, e in enumerate(energy)}
    other = calibrate([(fit, binding)], photon_energy=2.7293, unit="cm^-1")
    assert other.c.nominal_value == pytest.approx(direct.c.nominal_value, rel=1e-10)
    milli = calibrate([(fit, {k: 1e3 * e for k, e in enumerate(energy)})], unit="meV")
    assert milli.c.nominal_value == pytest.approx(direct.c.nominal_value, rel=1e-12)


def test_pulls_are_normal_and_p_values_uniform():
    # false alarm below 1e-3 each: 500 pulls, Kolmogorov-Smirnov at 1e-3
    pulls, p_values = [], []
    truth = C * RADII**2 * (1 + D * RADII**2)
    rng = np.random.default_rng(4)
    for seed in range(500):
        fit, _ = measured(1000 + seed)
        known = {k: (e + 1e-5 * rng.standard_normal(), 1e-5) for k, e in enumerate(truth)}
        found = calibrate([(fit, known)], second_term=True)
        root = np.linalg.cholesky(found.covariance)
        pulls.append(np.linalg.solve(root, found.values - [C, D]))
        p_values.append(found.p_value)
    assert stats.kstest(np.ravel(pulls), "norm").pvalue > 1e-3
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_wrong_assignment_has_a_small_p_value_and_a_warning():
    fit, _ = measured(5)
    energy = C * RADII**2
    found = calibrate([(fit, {0: energy[0], 1: energy[1], 2: energy[3]})])
    assert found.p_value < 1e-3
    assert "contradict the calibration" in found.warnings[0]


@pytest.mark.parametrize("second_term", [False, True])
def test_any_order_of_energies_has_a_small_p_value_or_is_refused(second_term):
    fit, _ = measured(5)
    energy = C * RADII**2
    for order in itertools.permutations(range(4)):
        try:
            found = calibrate([(fit, {k: energy[j] for k, j in enumerate(order)})], second_term)
            p_value = found.p_value
        except InputError:  # no c above 0 does it
            p_value = 0.0
        assert (p_value > 1e-3) == (order == (0, 1, 2, 3))


def test_energy_radius_and_slope_invert_one_another():
    fit, _ = measured(6)
    for sign in (1, -1):
        truth = C * RADII**2 * (1 + sign * D * RADII**2)
        found = calibrate([(fit, dict(enumerate(truth)))], second_term=True)
        r = np.array([0.5, 60.0, 170.0])
        np.testing.assert_allclose(found.radius(found.energy(r)), r, rtol=1e-12)
        step = 1e-4
        numeric = (found.energy(r + step) - found.energy(r - step)) / (2 * step)
        np.testing.assert_allclose(found.slope(r), numeric, rtol=1e-6)
        # the error of c and d alone, by uncertainties
        energy = found.energy(ufloat(60.0, 1e-30))
        assert found.energy_error(60.0) == pytest.approx(energy.std_dev, rel=1e-9)
        assert np.isinf(found.turning_radius) == (found.d.nominal_value > 0)


def test_file_keeps_every_bit_and_the_correlation(tmp_path):
    fit, drawn = measured(7)
    truth = C * RADII**2 * (1 + D * RADII**2)
    found = calibrate([(fit, {k: (truth[k], 1e-5) for k in range(3)})], second_term=True)
    found.save(tmp_path / "cal.json")
    assert is_result(tmp_path / "cal.json")
    read = Calibration.load(tmp_path / "cal.json")
    assert (read.values == found.values).all()
    np.testing.assert_allclose(read.covariance, found.covariance, rtol=1e-9)
    assert read.p_value == found.p_value
    assert (read.rings[2].picture, read.rings[2].shell) == ("a", 2)
    # the same fit once more: its radii are the calibration's
    again = a_fit(drawn, COVARIANCE, "folder/a")
    of = [x.radius for x in (fit.shells[1], again.shells[1])]
    expected = covariance_of([found.c, of[0]])[0, 1]
    assert abs(expected) > 0.1 * found.c.std_dev * of[0].std_dev
    assert covariance_of([read.c, of[1]])[0, 1] == 0
    assert covariance_of([read.linked(again).c, of[1]])[0, 1] == pytest.approx(expected, rel=1e-6)
    # another one is not
    for other in (a_fit(drawn + 0.01, COVARIANCE), a_fit(drawn, COVARIANCE, "b")):
        assert read.linked(other).rings[1].radius is read.rings[1].radius


def damage(text, **changes):
    found = json.loads(text)
    for key, value in changes.items():
        if value is KeyError:
            del found[key]
        else:
            found[key] = value
    return json.dumps(found)


def test_damaged_files_are_one_clear_line(tmp_path):
    path = tmp_path / "cal.json"
    fit, _ = measured(8)
    calibrate([(fit, dict(enumerate(C * RADII**2)))]).save(path)
    text = path.read_text()
    cases = {
        text[:200]: "expected JSON",
        "[1, 2]": "expected a calibration written by",
        damage(text, kind="other"): "expected a calibration written by",
        damage(text, chi_square=KeyError): "lacks the key 'chi_square'",
        damage(text, c="1e-5"): "c, d must be finite numbers",
        damage(text, c=-1e-5): "c above 0",
        damage(text, sensitivity=[[1.0]]): "sensitivity must be finite numbers",
        damage(text, rings=[]): "damaged",
        damage(text, rings_covariance=None): "rings_covariance must be",
    }
    for content, message in cases.items():
        path.write_text(content)
        with pytest.raises(InputError, match=message) as error:
            Calibration.load(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="No such file"):
        Calibration.load(tmp_path / "none.json")


def test_mistakes_are_one_clear_line():
    fit, _ = measured(9)
    for arguments, message in (
        (([(fit, {})],), "found 0 rings"),
        (([(fit, {0: 0.1})], True), "found 1 rings of known energy, expected at least 2"),
        (([(fit, {4: 0.1})],), "no shell of index 4: expected 0 to 3"),
        (([(fit, {-1: 0.1})],), "no shell of index -1"),
        (([(fit, {0: "a"})],), "expected a number or"),
        (([(fit, {0: -0.1})],), "expected more than 0"),
        (([(fit, {0: (0.1, -1)})],), "expected a number or"),
        (([(fit, {0: np.nan})],), "finite"),
        (((fit, {0: 0.1}),), "expected pairs as"),
        (([(3, {0: 0.1})],), "expected a fit, found int"),
        (([(fit, {0: 0.1}), (fit, {0: 0.1})],), "named twice"),
        (([(a_fit([10.0], [[np.nan]]), {0: 0.1})],), "not determined"),
        (([(fit, {0: 0.1})], False, None, "J"), "unit='J'"),
    ):
        with pytest.raises(InputError, match=message) as error:
            calibrate(*arguments)
        assert "\n" not in str(error.value)


def test_figure_is_drawn():
    fit, _ = measured(10)
    found = calibrate([(fit, dict(enumerate(C * RADII**2)))], second_term=True)
    assert png(found.plot()).startswith(b"\x89PNG")
    assert "E = c R^2 (1 + d R^2)" in found.table()
