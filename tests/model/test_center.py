"""The pixels about the centre that are integrated exactly."""

import numpy as np
import pytest

from sevi_jax.model.center import SIDE, central


@pytest.mark.parametrize("origin", [(0, 0), (0.5, -2.5), (0.3, -7.2), (-3, 2.5), (1e-9, -1e-9)])
def test_central_block_has_its_size_wherever_the_origin_lies(origin):
    # of an even and an odd number of pixels: the origin may be a corner of pixels, or a middle
    rows, columns = np.arange(64) - 31.5, np.arange(65) - 32.0
    row, column = (x.ravel().astype(np.float32) for x in np.meshgrid(rows, columns, indexing="ij"))
    inside = central(row, column, np.array([*origin, 0.0]))
    assert inside.sum() == SIDE * SIDE
    assert np.abs(row[inside] - origin[0]).max() <= SIDE / 2
