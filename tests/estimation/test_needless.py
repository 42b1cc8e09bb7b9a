"""Shells that the likelihood does not pay for are joined or left out; others stay."""

import numpy as np
import pytest

from sevi_jax.estimation.fitting import geometry_at, limits_for
from sevi_jax.estimation.needless import without_needless
from sevi_jax.estimation.preparing import prepare
from sevi_jax.estimation.scoring import Reason, search
from sevi_jax.model.components import Shell, modes_of
from sevi_jax.model.means import Layout
from sevi_jax.model.picture_model import Model, PictureModel, Values
from sevi_jax.synthesis.spectrometer import simulate

RINGS = [
    {"radius": 30.0, "sigma": 1.5, "electrons": 5e4, "beta": {2: 1.0}},
    {"radius": 35.0, "sigma": 1.5, "electrons": 5e4, "beta": {2: -0.5}},
]


def left(rings, *starts):
    """Radii that are left of shells that begin as (radius, sigma, electrons)."""
    data = prepare(simulate(rings, (100, 100), 5)).data
    shells = (Shell((2,)),) * len(starts)
    values = Values(
        tuple(np.array([*start, 0.0]) for start in starts), geometry_at((50, 50), (100, 100), 0.0)
    )
    picture = PictureModel(data, Model(shells, Layout(modes_of(shells))), values)
    limits = limits_for(data)
    picture, found = without_needless(picture, search(picture, values, limits), limits, [])
    assert len(picture.model.shells) == len(found.values.shells)
    assert found.reason is Reason.CONVERGED
    return [v[0] for v in found.values.shells]


def test_two_that_are_one_ring_are_joined():
    found = left(RINGS[:1], (29.5, 1.2, 2e4), (30.6, 1.4, 3e4))
    assert found == pytest.approx([30.0], abs=0.1)


def test_a_shell_of_no_electrons_is_left_out():
    found = left(RINGS[:1], (20.0, 8.0, 100.0), (30.0, 1.5, 5e4))
    assert found == pytest.approx([30.0], abs=0.1)


def test_rings_that_overlap_stay():
    found = left(RINGS, (30.2, 1.4, 5e4), (34.9, 1.6, 5e4))
    assert found == pytest.approx([30.0, 35.0], abs=0.15)
