"""The trial of fits itself, with a fit that is made up: the truth plus errors that are known."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import uncertainties

from scripts.trials import adapter, fit_cases


def invented(picture, rng, wrong=0.0):
    """A `Fit` of the right parameters with errors of 0.1 % or 0.01, and `wrong` errors added."""

    def value(true):
        error = 0.001 * abs(true) + 0.01
        return uncertainties.ufloat(true + error * (rng.standard_normal() + wrong), error)

    truth = picture.truth
    shells = [
        SimpleNamespace(
            radius=value(shell.radius),
            sigma=value(shell.sigma),
            tail=value(shell.tail) if shell.tail else None,
            electrons=value(drawn),
            beta={order: value(b) for order, b in shell.beta.items()},
        )
        for shell, drawn in zip(truth.shells, truth.drawn, strict=True)
    ]
    return SimpleNamespace(
        shells=shells,
        origin=tuple(map(value, truth.origin)),
        angle=value(truth.angle) if truth.angle else None,
        ellipse=tuple(map(value, truth.ellipse)) if any(truth.ellipse) else None,
        gain=truth.gain,
        gain_error=0.0,
        scatter=value(truth.scatter) if truth.scatter else None,
        off_scale=value(truth.off_scale) if truth.off_scale else None,
        p_value=rng.random(),
        converged=True,
        reason="",
        warnings=(),
    )


def run(monkeypatch, folder, *flags, wrong=0.0):
    rng = np.random.default_rng(0)
    asked = []

    def fit(picture, **options):
        asked.append(options)
        return invented(picture, rng, wrong)

    monkeypatch.setattr(adapter, "fit", fit)
    monkeypatch.setattr(fit_cases, "ELECTRONS", 100.0)
    monkeypatch.setattr(sys, "argv", ["fit_cases", f"--output={folder}", *flags])
    fit_cases.main()
    return asked, json.loads((folder / "summary.json").read_text())["cases"]


def test_right_errors_are_found_right(monkeypatch, tmp_path, capsys):
    _, found = run(monkeypatch, tmp_path, "--pictures=20")
    pooled = found["all together"]
    assert pooled["pictures"] == pooled["good"] == 20 * 11
    part = pooled["coverage"]
    # 4.5 standard errors: false alarms once in 1e5
    assert abs(part["68"] - 0.6827) < 4.5 * part["68_error"]
    assert abs(part["95"] - 0.95) < 4.5 * part["95_error"]
    assert abs(part["mean_pull"]) < 4.5 / np.sqrt(part["parameters"])
    assert abs(pooled["distance"]["over_bound"] - 1) < 4.5 * pooled["distance"]["error"] + 0.02
    assert pooled["uniformity"] > 1e-5
    assert {"radius", "sigma", "electrons", "beta_2", "row", "column"} < set(pooled["kinds"])
    assert "angle" in found["tilt"]["kinds"]
    assert {"cos2", "sin2"} < set(found["ellipse"]["kinds"])
    assert "tail" in found["skewed"]["kinds"]
    assert {"beta_1", "beta_3"} < set(found["odd"]["kinds"])
    assert "| all together | 220 |" in capsys.readouterr().out


def test_wrong_errors_are_found_wrong(monkeypatch, tmp_path):
    _, found = run(monkeypatch, tmp_path, "--pictures=20", "--case=tilt", wrong=1.0)
    part = found["tilt"]["coverage"]
    # within 1 of a normal number of mean 1: 0.477
    assert part["68"] == pytest.approx(0.477, abs=4.5 * part["68_error"])
    assert found["tilt"]["distance"]["over_bound"] > 1.15


def test_a_trial_goes_on_and_draws_the_same(monkeypatch, tmp_path):
    flags = ("--case=odd", "--any_revision")
    first, _ = run(monkeypatch, tmp_path, "--pictures=3", *flags)
    more, found = run(monkeypatch, tmp_path, "--pictures=5", *flags)
    assert (len(first), len(more)) == (3, 2)
    assert found["odd"]["pictures"] == 5
    assert first[0]["orders"] == (1, 2, 3)
    assert fit_cases.settings("odd", 4)[:2] == fit_cases.settings("odd", 4)[:2]
    assert fit_cases.settings("odd", 4)[0] != fit_cases.settings("odd", 3)[0]


def test_difference_has_the_shells_alone(monkeypatch):
    monkeypatch.setattr(fit_cases, "ELECTRONS", 1e5)
    pictures = []

    def fit(picture, **options):
        pictures.append(picture)
        return invented(picture, np.random.default_rng(0))

    monkeypatch.setattr(adapter, "fit", fit)
    for case in ("difference", "on_and_off"):
        fit_cases.one_fit(case, 0)
    assert pictures[0].off is None
    assert pictures[1].off is not None
    # the corners hold the background; 2 x 2 x 20 x 20 pixels of at most 7 + 2 * 7 in the mean
    corners = [
        picture.counts[np.ix_(*[[*range(20), *range(180, 200)]] * 2)] for picture in pictures
    ]
    assert abs(corners[0].mean()) < 4.5 * np.sqrt(21 / 1600)
    assert corners[1].mean() > 1


def test_electrons_are_those_drawn_or_else_their_mean_with_its_own_error():
    shell = {"radius": 20, "sigma": 1, "electrons": 900}
    truth = fit_cases.simulate([shell], (50, 50), 3).truth
    stated = SimpleNamespace(
        radius=uncertainties.ufloat(20, 0.1),
        sigma=uncertainties.ufloat(1, 0.1),
        tail=None,
        electrons=uncertainties.ufloat(910, 40),
        beta={},
        counting_error=30.0,
    )
    found = SimpleNamespace(
        shells=[stated], origin=(25.0, 25.0), angle=None, ellipse=None, gain_error=0.0,
        scatter=None, off_scale=None,
    )  # fmt: skip

    def electrons(truth):
        pairs = {name: (true, value) for name, true, value in adapter.parameters(found, truth)}
        return pairs["electrons 1"]

    assert electrons(truth) == (truth.drawn[0], stated.electrons)
    mean, value = electrons(dataclasses.replace(truth, drawn=()))
    assert mean == 900
    assert value.std_dev == pytest.approx(50)


def test_a_crash_is_a_fit_that_did_not_converge(monkeypatch):
    monkeypatch.setattr(fit_cases, "ELECTRONS", 100.0)

    def fit(picture, **options):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(adapter, "fit", fit)
    row = fit_cases.one_fit("tilt", 0)
    assert not row["converged"]
    assert row["reason"] == "ZeroDivisionError: oh"
