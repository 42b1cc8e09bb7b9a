"""A density of any form against the closed form of shells, the number of electrons and drawings."""

import numpy as np
import pytest
import scipy.stats

from sevi_jax.model.components import Grid, Shell, shell_series
from sevi_jax.model.continuum import Continuum
from sevi_jax.model.means import Layout
from sevi_jax.model.picture_model import Data, Model, PictureModel, Values
from sevi_jax.physics.series import modes_for


def _coefficients(continuum, density, betas):
    """Of splines that are nearest to a density, and to it times every beta."""
    r = np.linspace(0.02, continuum.reach * 1.3, 4000)
    columns = continuum.values_at(r)
    own = [np.linalg.lstsq(columns, density(r) * b, rcond=None)[0] for b in (1.0, *betas)]
    return np.concatenate(own)


def test_means_over_pixels_are_integrals_of_the_splines():
    continuum = Continuum(20.0, 1.0, (2,), halved=(0, 7, 8, 9, 15))
    r = np.arange(1.0, 20)
    step = 1e-3
    offset = np.arange(-0.5 + step / 2, 0.5, step)
    expected = np.mean([continuum.values_at(r + x) for x in offset], axis=0)
    np.testing.assert_allclose(continuum.means_at(r), expected, atol=1e-6)


def test_halved_intervals_have_a_node_in_their_middle():
    plain, halved = Continuum(20.0), Continuum(20.0, halved=(0, 7))
    assert set(halved.nodes) - set(plain.nodes) == {-0.5, 6.5}
    assert halved.size == plain.size + 4
    # both hold parabolas exactly
    r = np.linspace(0.0, 18.0, 50)
    np.testing.assert_allclose(halved.values_at(r) @ halved.nodes**2, r**2, atol=1e-9)


@pytest.mark.parametrize("orders", [(2, 4), (1, 2)])
def test_series_is_that_of_a_shell(orders):
    # two ways to one density: splines with Gauss's rule between knots, and `physics.series`
    continuum = Continuum(90.0, 1.0, orders, halved=(48, 49, 53))
    grid = Grid(modes_for(continuum.orders), 0.5, 512, 1 / 12)
    betas = (0.9, 0.3)
    values = _coefficients(continuum, scipy.stats.norm(50.0, 3.0).pdf, betas)
    found = continuum.columns(grid) @ values.astype(np.float32)
    shell = np.array([50.0, 3.0, 1.0, *betas])
    expected = shell_series(Shell(orders), shell, grid)[0]
    # rows 0 and 1 are at -h and 0, which only the central pixels would use; cubics between nodes
    # a third of sigma apart are right to (1/3)^4 3 / 128 of the peak
    np.testing.assert_allclose(found[2:], expected[2:], rtol=0, atol=2e-4 * expected.max())


def test_means_add_up_to_the_electrons_also_at_the_centre():
    continuum = Continuum(120.0, 1.0, (2,))
    values = _coefficients(continuum, lambda r: 1e4 * np.exp(-r / 6) * (r / 6) ** 2 / 12, (1.5,))
    model = Model((), Layout(modes_for(continuum.orders)), continuum)
    geometry = np.zeros(9)
    geometry[:2] = 0.3, -0.4
    every, ones = Values((), geometry, continuum=values), np.ones((160, 160))
    mean = PictureModel(Data(ones, ones), model, every).mean(every)
    # P(r > 80) of this gamma density is 1.7e-4
    assert values[: continuum.count] @ continuum.integrals() == pytest.approx(1e4, rel=1e-4)
    assert mean.sum() == pytest.approx(1e4, rel=4e-4)
    assert (mean > 0).all()
    # the density f / r^2 is finite at the centre, and so are the pixels there
    middle = mean[74:86, 74:86]
    assert middle.max() < 2 * np.median(middle)
