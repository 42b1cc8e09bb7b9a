"""A picture's record refuses what is no picture; blocks of its pixels are summed."""

import numpy as np
import pytest

from sevi_jax.data.picture import Picture, rebin
from sevi_jax.errors import InputError


def test_unused_pixels_are_masked_nan_or_without_efficiency():
    counts, mask, efficiency = np.ones((3, 4)), np.ones((3, 4), bool), np.ones((3, 4))
    counts[0, 1], mask[1, 2], efficiency[2, 3] = np.nan, False, 0
    used = Picture(counts, mask=mask, efficiency=efficiency).used
    assert np.argwhere(~used).tolist() == [[0, 1], [1, 2], [2, 3]]


def test_infinite_pixels_must_be_masked():
    counts, mask = np.ones((3, 4)), np.ones((3, 4), bool)
    counts[1, 2], mask[1, 2] = np.inf, False
    assert Picture(counts, mask=mask).used.sum() == 11
    with pytest.raises(InputError, match="infinite"):
        Picture(counts)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"counts": np.ones(9)}, "expected a picture"),
        ({"counts": np.ones((9, 1))}, "expected a picture"),
        ({"counts": np.full((3, 3), "a")}, "expected a picture"),
        ({"counts": np.ones((3, 3)), "off": np.ones((3, 4))}, "off has shape"),
        ({"counts": np.full((3, 3), np.nan)}, "no pixel is used"),
    ],
)
def test_what_is_no_picture_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Picture(**fields)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 12])
def test_rebin_sums_blocks(size):
    counts = np.random.default_rng(2).integers(0, 9, (12, 12)).astype(float)
    binned = rebin(counts, size)
    width = 12 // size
    assert binned.shape == (size, size)
    assert binned.sum() == counts.sum()
    assert binned[-1, 0] == counts[-width:, :width].sum()
    assert binned[0, -1] == counts[:width, -width:].sum()


@pytest.mark.parametrize("size", [0, 5, 24, -3])
def test_rebin_needs_a_divisor(size):
    with pytest.raises(InputError, match=f"a.txt: found 12 x 12 .* multiple of {size} x {size}"):
        rebin(np.ones((12, 12)), size, "a.txt")
