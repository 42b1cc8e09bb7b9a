"""Warnings that say what would fit better; a correct test warns of one good picture in 1e7."""

import dataclasses

import pytest

from sevi_jax.estimation.scoring import Reason
from sevi_jax.results.fit import Fit, fit
from sevi_jax.synthesis.spectrometer import simulate

SHAPE = (120, 120)
SHELL = {"radius": 38.0, "sigma": 2.0, "electrons": 8e4, "beta": {2: 1.0}}


def warnings(beta=1.0, polarisation=None, **conditions):
    found = fit(
        simulate([SHELL | {"beta": {2: beta}}], SHAPE, 1, **conditions), polarisation=polarisation
    )
    return found.warnings


@pytest.mark.parametrize("beta", [1.0, -0.7, 0.0])
def test_nothing_is_said_of_a_good_picture(beta):
    assert warnings(beta) == ()


@pytest.mark.parametrize(("angle", "said"), [(4.0, "+"), (-4.0, "-")])
def test_a_turned_polarisation_is_said(angle, said):
    found = [text for text in warnings(angle=angle) if "turned by about" in text]
    assert len(found) == 1
    degrees = float(found[0].split("about ")[1].split()[0])
    assert degrees == pytest.approx(angle, abs=1.2)


@pytest.mark.parametrize("beta", [1.5, -0.7])
def test_the_other_axis_is_said(beta):
    found = warnings(beta, polarisation="horizontal")
    assert any("turned by 90 degrees" in text for text in found)


def test_ellipses_are_said():
    found = warnings(ellipse=(0.008, 0.006))
    said = [text for text in found if "ellipses" in text]
    assert len(said) == 1
    assert float(said[0].split("about ")[1].split()[0]) == pytest.approx(1.0, abs=0.4)
    assert not any("turned" in text for text in found)


def test_a_background_is_said():
    found = warnings(background=0.02)
    assert any("background='constant'" in text for text in found)


def test_what_is_free_is_not_said():
    picture = simulate([SHELL], SHAPE, 1, angle=4.0, ellipse=(0.008, 0.006), background=0.02)
    found = fit(picture, free=("origin", "angle", "ellipse"), background="constant")
    assert found.warnings == ()


def test_of_a_fit_that_did_not_converge_nothing_is_said():
    found = fit(simulate([SHELL], SHAPE, 1, angle=4.0, ellipse=(0.008, 0.006)))
    fitted = found.fitted
    stopped = dataclasses.replace(fitted.found, reason=Reason.ITERATIONS)
    stopped = Fit(dataclasses.replace(fitted, found=stopped))
    assert not any("turned" in text or "ellipses" in text for text in stopped.warnings)
    assert any("not converged" in text for text in stopped.warnings)
