"""Fits and energies against PyAbel where it is installed: its own picture, rBasex, toPES."""

import warnings

import numpy as np
import pytest

import sevi_jax as sj

pytest.importorskip("abel", reason="the extra [compare] is not installed")

# of SampleImage("Ominus") without anions in the upper level: 1 - 0.2 c^2 in three rings
PLACES = np.array([257, 285, 341]) * 0.2
WIDTH = 1.2
BETA = -(0.2 * 2 / 3) / (1 - 0.2 / 3)
DRAWS = 12


def true_radius(place):
    """Mean of r where the density in space is exp(-((r - place) / WIDTH)^2)."""
    r = np.linspace(place - 8 * WIDTH, place + 8 * WIDTH, 4001)
    weight = r**2 * np.exp(-(((r - place) / WIDTH) ** 2))
    return weight @ r / weight.sum()


def rings_of(image):
    """Radii and beta_2 of the three rings by rBasex, ``[2, 3]``."""
    import abel.rbasex

    options = {"origin": (100, 100), "rmax": 100, "order": 2, "out": None}
    r, intensity, beta = abel.rbasex.rbasex_transform(image, **options)[1].rIbeta()
    found = []
    for place in PLACES:
        near = np.abs(r - place) < 2.8
        weight = intensity[near]
        found.append((weight @ r[near] / weight.sum(), weight @ beta[near] / weight.sum()))
    return np.array(found).T


@pytest.fixture(scope="module")
def picture():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyAbel's own
        from abel.tools.analytical import SampleImage

        ideal = SampleImage(201, name="Ominus", sigma=WIDTH, temperature=1).transform(1e-4)
    ideal = np.maximum(ideal, 0)
    return np.random.default_rng(0).poisson(1e6 * ideal / ideal.sum()).astype(float)


@pytest.fixture(scope="module")
def fit(picture):
    return sj.fit(picture, shells=3, orders=(2,))


def test_analytical_picture(fit):
    """Eight numbers within 4 errors: 1 of 2000 correct programs would fail."""
    assert fit.converged
    assert fit.warnings == ()
    for shell, place in zip(fit.shells, PLACES, strict=True):
        for found, truth in ((shell.radius, true_radius(place)), (shell.beta[2], BETA)):
            assert abs(found.nominal_value - truth) < 4 * found.std_dev
    # the middle of pixel (100, 100)
    for found in fit.origin:
        assert abs(found.nominal_value - 100.5) < 4 * found.std_dev


def test_inversion_of_the_counts_is_that_of_the_means(picture, fit):
    """What windows and smoothing of rBasex do to its numbers is the same for counts and means.

    Its errors are the scatter over pictures drawn from the means, of 12 draws each: with 4.5 of
    them, 1 of 200 correct programs would fail.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counts, means = rings_of(picture), rings_of(fit.mean)
        rng = np.random.default_rng(1)
        mean = np.maximum(fit.mean, 0)  # rounding beyond the rings
        drawn = [rings_of(rng.poisson(mean).astype(float)) for _ in range(DRAWS)]
    error = np.std(drawn, axis=0, ddof=1)
    assert (np.abs(counts - means) < 4.5 * error).all()
    # what is expected of the means is the fit; where they differ is PyAbel's bias, which is small
    own = np.array([[s.radius.nominal_value, s.beta[2].nominal_value] for s in fit.shells]).T
    assert (np.abs(means - own) < [[0.05], [0.02]]).all()


@pytest.mark.parametrize("photon", [None, 0.2])
def test_energies_are_those_of_topes(fit, photon):
    from abel.tools.vmi import toPES

    from sevi_jax.results.spectrum import radial_density

    calibration = sj.calibrate([(fit, {2: 0.1})])
    c = calibration.c.nominal_value
    r = np.linspace(30, 80, 1001)
    density, _ = radial_density(fit, r)
    energy, intensity = toPES(r, density.copy(), c, photon_energy=photon)
    own = fit.spectrum(calibration, photon_energy=photon, energy=energy)
    np.testing.assert_allclose(own.energy, energy, rtol=1e-10)
    np.testing.assert_allclose(own.intensity[1:-1], intensity[1:-1], rtol=1e-4, atol=1e-4)

    radii = np.array([shell.radius.nominal_value for shell in fit.shells])
    theirs, _ = toPES(radii.copy(), np.ones(3), c, photon_energy=photon)
    found = fit.energies(calibration, photon_energy=photon)
    ours = [x.kinetic if photon is None else x.binding for x in found]
    np.testing.assert_allclose(sorted(x.nominal_value for x in ours), theirs, rtol=1e-4)
