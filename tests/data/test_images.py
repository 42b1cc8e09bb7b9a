"""Every picture format gives the same counts; whatever is no picture of counts is refused."""

import bz2
import gzip

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from sevi_jax.data.images import read_images, rebin
from sevi_jax.errors import InputError

COUNTS = np.random.default_rng(0).integers(0, 256, (6, 6))
STACK = np.random.default_rng(1).integers(0, 60000, (3, 6, 6))


def text(counts, delimiter=" "):
    return "\n".join(delimiter.join(str(count) for count in row) for row in counts) + "\n"


def save_npz(path):
    np.savez(path, first=COUNTS.astype(np.float32), stack=STACK)


def save_tiff(path):
    tifffile.imwrite(path, STACK.astype(np.uint16), photometric="minisblack")


def save_h5(path):
    with h5py.File(path, "w") as file:
        file["images"] = STACK.astype(np.uint32)


SINGLE = {
    "a.npy": lambda path: np.save(path, COUNTS),
    "a.txt": lambda path: path.write_text("# a comment\n" + text(COUNTS, "\t")),
    "bom.txt": lambda path: path.write_text(text(COUNTS), encoding="utf-8-sig"),
    "a.txt.bz2": lambda path: path.write_bytes(bz2.compress(text(COUNTS).encode())),
    "a.b.txt.gz": lambda path: path.write_bytes(gzip.compress(text(COUNTS).encode())),
    "a.csv": lambda path: path.write_text(text(COUNTS, ", ")),
    "a.csv.gz": lambda path: path.write_bytes(gzip.compress(text(COUNTS, ",").encode())),
    "a.tif": lambda path: tifffile.imwrite(path, COUNTS.astype(np.uint16)),
    "f.tiff": lambda path: tifffile.imwrite(path, COUNTS.astype(np.float32)),
    "a.png": lambda path: Image.fromarray(COUNTS.astype(np.uint8)).save(path),
}


@pytest.mark.parametrize("name", SINGLE)
def test_single_pictures(tmp_path, name):
    SINGLE[name](tmp_path / name)
    ((found, counts),) = read_images(tmp_path / name)
    assert found == name
    assert counts.dtype == np.float64
    np.testing.assert_array_equal(counts, COUNTS)


def test_suffix_in_capitals(tmp_path):
    SINGLE["a.npy"](tmp_path / "a.npy")
    (tmp_path / "a.npy").rename(tmp_path / "A.NPY")
    np.testing.assert_array_equal(read_images(tmp_path / "A.NPY")[0][1], COUNTS)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("s.npy", lambda path: np.save(path, STACK.astype(np.uint16))),
        (
            "s.tif",
            save_tiff,
        ),
        ("s.h5", save_h5),
    ],
)
def test_stacks(tmp_path, name, save):
    save(tmp_path / name)
    pictures = read_images(str(tmp_path / name))
    assert [found for found, _ in pictures] == [f"{name}[{number}]" for number in range(3)]
    np.testing.assert_array_equal([counts for _, counts in pictures], STACK)


def test_npz_gives_every_array(tmp_path):
    save_npz(tmp_path / "a.npz")
    pictures = dict(read_images(tmp_path / "a.npz"))
    assert list(pictures) == ["a.npz:first", *(f"a.npz:stack[{number}]" for number in range(3))]
    np.testing.assert_array_equal(pictures["a.npz:first"], COUNTS)
    np.testing.assert_array_equal(pictures["a.npz:stack[2]"], STACK[2])


def test_png_of_16_bits(tmp_path):
    Image.fromarray(STACK[0].astype(np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_images(tmp_path / "a.png")[0][1], STACK[0])


def with_value(value, place=(2, 3)):
    counts = COUNTS.astype(float)
    counts[place] = value
    return counts


RGB = np.zeros((6, 6, 3), np.uint8)
BAD = {
    "nan.npy": (lambda path: np.save(path, with_value(np.nan)), "found nan in row 2, column 3"),
    "inf.npy": (lambda path: np.save(path, with_value(np.inf)), "found inf in row 2"),
    "negative.npy": (lambda path: np.save(path, with_value(-1)), "found -1.0 in row 2"),
    "nan.txt": (lambda path: path.write_text("1 nan\n2 3\n"), "found nan in row 0, column 1"),
    "stack.npy": (lambda path: np.save(path, -STACK), "stack.npy[0]: found -"),
    "line.npy": (lambda path: np.save(path, np.ones(9)), "found an array of shape (9,)"),
    "scalar.npy": (lambda path: np.save(path, 3.0), "found an array of shape ()"),
    "four.npy": (lambda path: np.save(path, np.ones((1, 2, 3, 3))), "shape (1, 2, 3, 3)"),
    "empty.npy": (lambda path: np.save(path, np.ones((0, 0))), "shape (0, 0)"),
    "complex.npy": (lambda path: np.save(path, 1j * COUNTS), "type complex128"),
    "objects.npy": (
        lambda path: np.save(path, np.array([[{}]]), allow_pickle=True),
        "found unreadable data (Object arrays",
    ),
    "text.npy": (lambda path: path.write_text("1 2\n3 4\n"), "found unreadable data"),
    "none.npz": (lambda path: np.savez(path), "found no arrays"),
    "text.npz": (lambda path: path.write_text("1 2\n3 4\n"), "found unreadable data"),
    "key.npz": (lambda path: np.savez(path, a=COUNTS, b=np.ones(3)), "key.npz:b: found an array"),
    "words.txt": (lambda path: path.write_text("a b\nc d\n"), "found unreadable data"),
    "ragged.txt": (lambda path: path.write_text("1 2\n3\n"), "found unreadable data"),
    "row.txt": (lambda path: path.write_text("1 2 3\n"), "1 x 3 pixels"),
    "comments.txt": (lambda path: path.write_text("# nothing\n"), "found an array of shape (0"),
    "bytes.txt": (lambda path: path.write_bytes(bytes(range(256))), "found unreadable data"),
    "empty.txt": (lambda path: path.write_text(""), "found an empty file"),
    "no.txt.gz": (lambda path: path.write_text("1 2\n"), "found unreadable data"),
    "no.txt.bz2": (lambda path: path.write_text("1 2\n"), "found unreadable data"),
    "cut.txt.gz": (
        lambda path: path.write_bytes(gzip.compress(text(COUNTS).encode())[:40]),
        "found unreadable data",
    ),
    "missing.png": (lambda path: None, "found no such file"),
    "rgb.png": (lambda path: Image.fromarray(RGB).save(path), "found a picture of mode RGB"),
    "palette.png": (
        lambda path: Image.fromarray(RGB).convert("P").save(path),
        "found a picture of mode P",
    ),
    "no.png": (lambda path: path.write_text("1 2\n"), "found unreadable data"),
    "rgb.tif": (
        lambda path: tifffile.imwrite(path, RGB, photometric="rgb"),
        "rgb.tif, page 0: found shape (6, 6, 3)",
    ),
    "no.tif": (lambda path: path.write_text("1 2\n"), "found unreadable data"),
    "no.h5": (lambda path: path.write_text("1 2\n"), "not an HDF5 file"),
    "picture.jpg": (lambda path: path.write_text("x"), "found suffix .jpg, expected .npy"),
    "picture": (lambda path: path.write_text("x"), "found suffix none, expected .npy"),
    "a.npy.gz": (lambda path: path.write_text("x"), "found suffix .gz, expected .npy"),
    ".gz": (lambda path: path.write_text("x"), "found suffix none, expected .npy"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures(tmp_path, name):
    save, message = BAD[name]
    save(tmp_path / name)
    with pytest.raises(InputError) as error:
        read_images(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)
    assert message in str(error.value)


def test_other_h5_has_no_pictures(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["Truth"] = np.zeros(3)
    with pytest.raises(InputError, match="table images: found no such table"):
        read_images(tmp_path / "a.h5")


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
