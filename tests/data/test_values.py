"""What the values of a picture mean: masks, differences, wrapped integers, a camera's offset.

Pictures are drawn with fixed seeds; where a statement rests on chance, its rate is given.
"""

import numpy as np
import pytest

from sevi_jax.data.load import load
from sevi_jax.data.values import meaning, pedestal
from sevi_jax.errors import InputError

ROW, COLUMN = np.indices((100, 110))
DISTANCE = np.hypot(ROW - 48.2, COLUMN - 55.7)
RING = 40 * np.exp(-(((DISTANCE - 30) / 2) ** 2) / 2) + 3 * (DISTANCE < 30)


def drawn(mean, seed=0):
    return np.random.default_rng(seed).poisson(mean)


def test_counts_are_left_as_they_are():
    counts = drawn(RING)
    found = meaning("a", counts.astype(">u2"))
    np.testing.assert_array_equal(found.counts, counts)
    assert (found.noise, found.offset, found.notes) == (None, None, ())


def test_nan_is_masked_and_infinity_refused(tmp_path):
    counts = drawn(RING).astype("f4")
    counts[DISTANCE > 45] = np.nan
    np.save(tmp_path / "a.npy", counts)
    picture = load(tmp_path / "a.npy")
    np.testing.assert_array_equal(picture.used, DISTANCE <= 45)
    assert f"{(DISTANCE > 45).sum()} pixels are NaN and left out" in picture.notes
    counts[3, 4] = np.inf
    with pytest.raises(InputError, match="a: found inf in row 3, column 4, expected finite counts"):
        meaning("a", counts)


def test_marks_in_blocks_are_masked():
    counts = drawn(RING)
    counts[:, 40:44], counts[20:23, 70:74] = -1, -2
    found = meaning("a", counts)
    assert found.noise is None
    assert np.isnan(found.counts).sum() == 4 * 100 + 12
    assert found.notes == ("412 pixels hold -2 and -1, in blocks: a mark, and left out",)


@pytest.mark.parametrize("background", [0.002, 0.05, 3.0])
def test_differences_have_normal_noise(background):
    on, off = drawn(RING + background), drawn(np.full(RING.shape, background), 1)
    found = meaning("a", on - off)
    assert found.noise == "normal"
    assert f"{(on < off).sum()} pixels are below 0" in found.notes[0]


def test_rounding_below_0_is_no_difference():
    found = meaning("a", np.where(DISTANCE > 40, -1e-14, RING))
    assert found.noise is None
    assert found.counts.min() == 0


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("background", [0.02, 3.0])
def test_wrapped_differences_are_refused(tmp_path, kind, background):
    on, off = drawn(RING + background), drawn(np.full(RING.shape, background), 1)
    wrapped = on.astype(kind) - off.astype(kind)
    assert (wrapped > 200).sum() >= (off > on).sum() > 0
    np.save(tmp_path / "a.npy", wrapped)
    with pytest.raises(InputError, match=r"a\.npy: found \d+ pixels just below \d+: a difference"):
        load(tmp_path / "a.npy")
    if kind in ("u2", "u4"):  # in a wider type, too
        with pytest.raises(InputError, match="a difference of unsigned integers"):
            meaning("a", wrapped.astype(float))


def test_saturated_and_hot_pixels_and_masks_are_not_wrapped():
    bright = np.minimum(drawn(90_000 * np.exp(-((DISTANCE / 20) ** 2))), 65535).astype("u2")
    hot = drawn(RING).astype("u2")
    hot[3, ::10] = 65535
    dim = np.minimum(drawn(8 * RING), 255).astype("u1")
    for values in (bright, hot, dim, np.where(DISTANCE < 40, 255, 0).astype("u1")):
        np.testing.assert_array_equal(meaning("a", values).counts, values)


@pytest.mark.parametrize("gain", [8.0, 60.0])
@pytest.mark.parametrize("level", [100, 1000])
def test_offset_of_a_camera_is_told(gain, level):
    noise = np.random.default_rng(2).normal(0, 3, RING.shape)
    values = np.round(level + noise + gain * drawn(RING * (DISTANCE > 20))).astype("u2")
    found = meaning("a", values)
    assert found.offset == pytest.approx(level, abs=1)
    assert f"a camera's offset (offset={found.offset:.6g} takes it off)" in found.notes[0]


@pytest.mark.parametrize("gain", [1.0, 37.0, 1 / 163])
@pytest.mark.parametrize("background", [0.0, 5.0, 30.0, 300.0])
def test_backgrounds_of_electrons_are_no_offset(gain, background):
    # of 1600 such pictures with rings of 0.8 to 3 pixels, 4 were taken for a camera's
    for seed in range(3):
        assert pedestal(gain * drawn(RING + background, seed)) is None


def test_offset_is_taken_off_the_picture_and_its_off_picture(tmp_path):
    values, off = drawn(RING) + 100, drawn(0 * RING + 1, 1) + 100
    np.save(tmp_path / "a.npy", values)
    picture = load(tmp_path / "a.npy", off=off, offset=100)
    np.testing.assert_array_equal(picture.counts, values - 100)
    np.testing.assert_array_equal(picture.off, off - 100)
    assert picture.noise is None
    assert picture.notes[1:] == ("100 is taken off",)
    assert load(tmp_path / "a.npy", offset=101).noise == "normal"


def test_off_picture_mask_and_efficiency_come_from_files(tmp_path):
    mask = DISTANCE < 40
    for name, values in (("on", drawn(RING)), ("off", drawn(RING, 1)), ("mask", 255 * mask)):
        np.save(tmp_path / f"{name}.npy", values.astype("u1"))
    (tmp_path / "flat.txt").write_text("\n".join(" ".join(f"{v:.3f}" for v in r) for r in RING + 1))
    paths = {name: tmp_path / f"{name}.npy" for name in ("off", "mask")}
    picture = load(tmp_path / "on.npy", **paths, efficiency=tmp_path / "flat.txt")
    np.testing.assert_array_equal(picture.off, drawn(RING, 1))
    np.testing.assert_array_equal(picture.mask, mask)
    np.testing.assert_allclose(picture.efficiency, RING + 1, atol=1e-3)
    np.save(tmp_path / "mask.npy", mask[1:])
    with pytest.raises(InputError, match="mask has shape"):
        load(tmp_path / "on.npy", **paths)
