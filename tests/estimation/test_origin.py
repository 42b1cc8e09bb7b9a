"""Centres of rings in parts of pictures."""

import numpy as np
import pytest

from sevi_jax.data.picture import Picture
from sevi_jax.estimation.origin import (
    bright_edges,
    find_edge_origin,
    find_origin,
    find_ring_origin,
)
from sevi_jax.results.fit import fit
from sevi_jax.synthesis.spectrometer import simulate

SHELLS = [
    {"radius": 30.0, "sigma": 1.5, "electrons": 5e4, "beta": {2: 1.2}},
    {"radius": 45.0, "sigma": 2.0, "electrons": 5e4, "beta": {2: -0.6}},
]


@pytest.fixture(scope="module")
def counts():
    return simulate(SHELLS, (120, 120), 4).counts


PARTS = {
    "right": (np.s_[:, 60:], (60, 0)),
    "left": (np.s_[:, :60], (60, 60)),
    "bottom": (np.s_[60:], (0, 60)),
    "top": (np.s_[:60], (60, 60)),
    "quadrant": (np.s_[:60, 60:], (60, 0)),
}


@pytest.mark.parametrize("part", PARTS)
def test_the_centre_of_a_part_lies_on_its_edge(counts, part):
    cut, centre = PARTS[part]
    values = counts[cut]
    exposure = np.ones(values.shape)
    found = find_edge_origin(values, exposure, find_origin(values, exposure))
    assert found == pytest.approx(centre, abs=1.0)


@pytest.mark.parametrize("beyond", [-15, -7, 6, 13])
@pytest.mark.parametrize("part", ["left", "top", "corner"])
def test_a_centre_near_an_edge_or_outside_is_found(counts, part, beyond):
    """From where a fit finds the centre itself; rings are 1.5 pixels wide."""
    first = 60 - beyond
    cut = {"left": np.s_[:, first:], "top": np.s_[first:], "corner": np.s_[first:, first:]}[part]
    centre = {"left": (60, beyond), "top": (beyond, 60), "corner": (beyond, beyond)}[part]
    values = counts[cut]
    exposure = np.ones(values.shape)
    inside = find_origin(values, exposure)
    found = find_edge_origin(values, exposure, inside) or inside
    assert found == pytest.approx(centre, abs=6.0)


@pytest.mark.parametrize("cut", [np.s_[:], np.s_[25:95, 25:95], np.s_[:, 40:], np.s_[30:, 20:]])
def test_a_centre_inside_stays(counts, cut):
    values = counts[cut]
    exposure = np.ones(values.shape)
    assert find_edge_origin(values, exposure, find_origin(values, exposure)) is None


def test_edges_that_cut_rings_are_named(counts):
    assert bright_edges(counts, np.ones(counts.shape)) == []
    assert bright_edges(counts[:, 60:], np.ones((120, 60))) == ["left"]
    assert bright_edges(counts[60:, :60], np.ones((60, 60))) == ["top", "right"]


def test_half_a_picture_is_recognised(counts):
    """Pulls beyond 4.5: 5e-5 of correct programs."""
    found = fit(Picture(counts[:, 60:]), shells=2)
    pairs = [(found.origin[0], 60), (found.origin[1], 0)]
    pairs += [
        (shell.radius, true["radius"]) for shell, true in zip(found.shells, SHELLS, strict=True)
    ]
    pairs += [
        (shell.beta[2], true["beta"][2]) for shell, true in zip(found.shells, SHELLS, strict=True)
    ]
    assert all(abs(value.n - true) < 4.5 * value.s for value, true in pairs)
    assert any("part of a picture" in note for note in found.notes)
    assert found.p_value > 1e-4


@pytest.mark.parametrize("row", [-8.0, 0.0])
def test_a_given_centre_may_lie_outside(counts, row):
    found = fit(Picture(counts[60 - int(row) :], origin=(row, 60.0)), shells=2)
    assert not found.warnings
    for shell, true in zip(found.shells, SHELLS, strict=True):
        assert abs(shell.radius.n - true["radius"]) < 4.5 * shell.radius.s
    assert not any("part of a picture" in note for note in found.notes)


def sloping(row, column):
    """A background that is brighter than the rings, and brightest at an edge."""
    return 0.2 + 4.8 * row / 120 + 0 * column


def test_a_steep_background_does_not_capture_the_origin():
    weak = [shell | {"electrons": 5e3} for shell in SHELLS]
    picture = simulate(weak, (120, 120), 6, origin=(55.4, 63.2), background=sloping)
    exposure = np.ones(picture.shape)
    before = find_origin(picture.counts, exposure)
    assert abs(before[0] - 55.4) > 10
    found = find_ring_origin(picture.counts, exposure, before)
    assert found is not None
    np.testing.assert_allclose(found, (55.4, 63.2), atol=1)
    fitted = fit(picture, shells=2, background="smooth")
    row, column = fitted.origin
    assert abs(row.nominal_value - 55.4) < 4 * row.std_dev < 1
    assert abs(column.nominal_value - 63.2) < 4 * column.std_dev < 1
    assert fitted.converged


@pytest.mark.parametrize("seed", range(5))
def test_without_rings_the_point_found_before_stays(seed):
    counts = np.random.default_rng(seed).poisson(sloping(*np.mgrid[:120, :120]))
    exposure = np.ones(counts.shape)
    assert find_ring_origin(counts, exposure, find_origin(counts, exposure)) is None
