"""The public names in use: the lines that the design promises, run as they stand.

Only what the design leaves open is filled in: a small picture in place of the measured one,
`pictures`, and the shells to simulate. Where it names attributes alone, `.sigma, .tail`, they are
asked for in full.
"""

import bz2
import json

import numpy as np
import pytest
from uncertainties import UFloat

import sevi_jax

SHELLS = """
shells = [
    {"radius": 24, "sigma": 1.5, "electrons": 4e4, "beta": {2: 1.0}},
    {"radius": 44, "sigma": 1.5, "electrons": 4e4, "beta": {2: -0.4}},
]
"""

FIT = """
import sevi_jax as sj

picture = sj.load("o2.txt.bz2")
fit = sj.fit(picture, shells=2, orders=(2, 4))
"""

OPTIONS = """
fitted = sj.fit(picture, shells="auto", orders=(2,), shape="skewed",
       free=("origin", "angle", "ellipse"), background="smooth", range=(0, 425),
       polarisation="vertical", positive=False, start=None, prior=None)
"""

MANY = """
fits = sj.fit_many(pictures, shells=2)
"""

RESULTS = """
fit.shells[0].radius
fit.shells[0].sigma, fit.shells[0].tail, fit.shells[0].electrons, fit.shells[0].beta[2]
fit.shells[1].radius - fit.shells[0].radius
fit.origin, fit.angle, fit.ellipse, fit.gain
fit.names, fit.values, fit.covariance
fit.converged, fit.reason, fit.p_value, fit.deviance_per_dof, fit.dispersion, fit.warnings
fit.mean
fit.to_dict(), fit.to_frame(), fit.save("a.json"), fit.plot(), fit.report("a.html")
"""

ENERGIES = """
calibration = sj.calibrate([(fit, {0: 0.0123, 1: 0.0456})])
fit.energies(calibration, photon_energy=2.7293)
calibration.c, calibration.d, calibration.covariance, calibration.p_value
calibration.save("cal.json")
loaded = sj.Calibration.load("cal.json")
"""

FREE_FORM = """
d = sj.invert(picture, orders=(2, 4))
d.r, d.intensity, d.intensity_error
d.harmonics[2], d.harmonics_error[2]
d.beta[2], d.beta_error[2]
d.band(0.95), d.covariance, d.p_value, d.warnings
d.spectrum(calibration), d.to_xarray(), d.plot(), d.save("d.csv")
"""

SIMULATE = """
simulated = sj.simulate(shells=shells, shape=(120, 120), seed=1)
"""


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """The names after the first block, which a picture in a packed text file serves."""
    folder = tmp_path_factory.mktemp("design")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = {"sj": sevi_jax}
        exec(SHELLS + SIMULATE, found)
        with bz2.open("o2.txt.bz2", "wt") as file:
            np.savetxt(file, found["simulated"].counts, fmt="%d")
        exec(FIT, found)
        yield found


def run(block, names):
    exec(block, names)
    return names


def test_fit(names):
    fit = run(RESULTS, names)["fit"]
    assert isinstance(fit, sevi_jax.Fit)
    assert isinstance(names["picture"], sevi_jax.Picture)
    assert fit.converged
    assert fit.mean.shape == (120, 120)
    # 5 errors: 1 of 10^6 correct programs would fail
    for shell, radius in zip(fit.shells, (24, 44), strict=True):
        assert isinstance(shell.radius, UFloat)
        assert abs(shell.radius.nominal_value - radius) < 5 * shell.radius.std_dev
        assert 0 < shell.radius.std_dev < 0.05
    difference = fit.shells[1].radius - fit.shells[0].radius
    place = [fit.names.index(f"radius_{k}") for k in (1, 2)]
    block = fit.covariance[np.ix_(place, place)]
    assert difference.std_dev == pytest.approx(
        np.sqrt(block[0, 0] + block[1, 1] - 2 * block[0, 1]), rel=1e-9
    )
    with open("a.json", encoding="utf-8") as file:
        assert len(json.load(file)["pictures"][0]["shells"]) == 2


def test_fit_with_every_option(names):
    assert len(run(OPTIONS, names)["fitted"].shells) == 2
    assert names["fitted"].ellipse is not None
    assert names["fitted"].shells[0].tail is not None


def test_array_will_do(names):
    fit = sevi_jax.fit(names["picture"].counts, shells=2, orders=(2, 4))
    radii = [[s.radius.nominal_value for s in f.shells] for f in (fit, names["fit"])]
    np.testing.assert_allclose(radii[0], radii[1], rtol=0, atol=1e-6)


def test_energies(names):
    run(ENERGIES, names)
    kinetic = [x.kinetic for x in names["fit"].energies(names["loaded"], photon_energy=2.7293)]
    binding = [x.binding for x in names["fit"].energies(names["loaded"], photon_energy=2.7293)]
    for one, other in zip(kinetic, binding, strict=True):
        assert (one + other).nominal_value == pytest.approx(2.7293, rel=1e-12)
    assert names["loaded"].c.nominal_value == pytest.approx(
        names["calibration"].c.nominal_value, rel=1e-12
    )


def test_simulated_picture_knows_its_truth(names):
    assert [shell.radius for shell in names["simulated"].truth.shells] == [24, 44]


def test_many(names):
    names["pictures"] = [
        sevi_jax.simulate(shells=names["shells"], shape=(120, 120), seed=seed) for seed in (2, 3)
    ]
    fits = run(MANY, names)["fits"]
    assert [len(fit.shells) for fit in fits] == [2, 2]


def test_free_form(names):
    pytest.importorskip("xarray")
    run(ENERGIES + FREE_FORM, names)
    d = names["d"]
    assert isinstance(d, sevi_jax.Distribution)
    assert d.r.shape == d.intensity.shape == d.intensity_error.shape
