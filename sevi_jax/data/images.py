"""Plain pictures of counts, from any usual format, checked; knows nothing of shells."""

import bz2
import gzip
import pathlib
import warnings
from collections.abc import Iterator

import numpy as np
import tifffile
from PIL import Image

from sevi_jax.data import fields
from sevi_jax.data.tables import check_file, find_dataset, open_file, read_dataset
from sevi_jax.errors import InputError

TEXT = {".txt": None, ".csv": ","}  # suffix: delimiter (None: any white space)
OPENERS = {".bz2": bz2.open, ".gz": gzip.open}
GREY_MODES = ("L", "I", "I;16", "I;16B")
SUFFIXES = ".npy, .npz, .txt, .csv (also .bz2, .gz), .tif, .tiff, .png or .h5"


def read_images(path: str | pathlib.Path) -> list[tuple[str, np.ndarray]]:
    """Reads every picture of a file: one array, a stack of them, or the image set of an HDF5 file.

    Array order is kept: the first axis is taken as x, the second as z (spec section 1).

    Args:
        path: ``.npy``, ``.npz`` (every array), ``.txt`` or ``.csv`` (also with ``.bz2`` or
            ``.gz``), TIFF (pages are a stack), PNG (grey, 8 or 16 bit), ``.h5`` (dataset
            ``images``).

    Returns:
        (name, counts ``[H, H]`` float64) per picture. The name is the file's, with ``:array`` for
        an ``.npz`` and ``[number]`` for a stack.

    Raises:
        InputError: unknown suffix, unreadable file, or an array that is not a square picture of
            finite, non-negative numbers (colour, one-dimensional, empty, objects, ...).
    """
    path = pathlib.Path(path)
    reader = _reader(path)
    check_file(path)
    try:
        arrays = list(reader(path))
    except InputError:
        raise
    except Exception as error:  # the decoders raise anything from SyntaxError to struct.error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: found unreadable data ({reason}), expected a picture") from None
    if not arrays:
        raise InputError(f"{path}: found no arrays, expected at least one picture")
    return [
        (path.name + name, counts)
        for suffix, array in arrays
        for name, counts in _pictures(f"{path}{suffix}", suffix, array)
    ]


def rebin(counts: np.ndarray, size: int, name: str = "picture") -> np.ndarray:
    """Sums whole blocks of pixels; the total is kept.

    Args:
        counts: ``[H, W]``.
        size: pixels per side of the result; H and W must be multiples of it.
        name: what messages call the picture.

    Returns:
        ``[size, size]``, of the type that `counts` has.

    Raises:
        InputError: `size` does not divide H and W.
    """
    height, width = counts.shape
    if size < 1 or height % size or width % size:
        raise InputError(
            f"{name}: found {height} x {width} pixels, expected a multiple of {size} x {size}"
        )
    blocks = counts.reshape(size, height // size, size, width // size)
    return blocks.sum(axis=(1, 3), dtype=counts.dtype)


def _reader(path: pathlib.Path):
    suffix = path.suffix.lower()
    readers = {
        ".npy": _read_numpy,
        ".npz": _read_numpy,
        ".txt": _read_text,
        ".csv": _read_text,
        ".tif": _read_tiff,
        ".tiff": _read_tiff,
        ".png": _read_png,
        ".h5": _read_image_set,
        ".hdf5": _read_image_set,
    }
    if suffix in OPENERS and _text_suffix(path) in TEXT:
        return _read_text
    if suffix not in readers:
        raise InputError(f"{path}: found suffix {suffix or 'none'}, expected {SUFFIXES}")
    return readers[suffix]


def _text_suffix(path: pathlib.Path) -> str:
    """The suffix below .bz2 or .gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return (["", *suffixes[:-1]] if suffixes[-1] in OPENERS else suffixes)[-1]


def _read_numpy(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    # Pickles run code when loaded; without them NumPy refuses object arrays.
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            yield "", loaded
        else:
            for name in loaded.files:
                yield f":{name}", loaded[name]


def _read_text(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    opener = OPENERS.get(path.suffix.lower(), open)
    with opener(path, "rt", encoding="utf-8-sig") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "no data": the check for empty says it
        yield "", np.loadtxt(file, delimiter=TEXT[_text_suffix(path)], ndmin=2)


def _read_tiff(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    with tifffile.TiffFile(path) as file:
        pages = list(file.pages)
        for number, page in enumerate(pages):
            array = page.asarray()
            if array.ndim != 2:
                raise InputError(
                    f"{path}, page {number}: found shape {array.shape}, expected [H, H] in grey"
                )
            yield f"[{number}]" if len(pages) > 1 else "", array


def _read_png(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    with Image.open(path, formats=("PNG",)) as image:
        if image.mode not in GREY_MODES:
            raise InputError(
                f"{path}: found a picture of mode {image.mode}, expected grey of 8 or 16 bits"
            )
        yield "", np.asarray(image)


def _read_image_set(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    with open_file(path) as file:
        yield "", read_dataset(find_dataset(file, fields.IMAGES))


def _pictures(place: str, suffix: str, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """One array's pictures, each checked; messages begin with `place`."""
    if array.dtype.kind not in "iuf":
        raise InputError(f"{place}: found values of type {array.dtype}, expected real numbers")
    if array.size == 0 or array.ndim not in (2, 3):
        raise InputError(
            f"{place}: found an array of shape {array.shape}, expected [H, H] or a stack [n, H, H]"
        )
    if array.shape[-1] != array.shape[-2]:
        raise InputError(
            f"{place}: found {array.shape[-2]} x {array.shape[-1]} pixels, expected a square "
            "picture (the detector is square)"
        )
    stack = array if array.ndim == 3 else array[None]
    for number, picture in enumerate(stack):
        index = f"[{number}]" if array.ndim == 3 else ""
        counts = picture.astype(np.float64)
        # NaN fails the comparison too.
        wrong = ~((counts >= 0) & (counts < np.inf))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise InputError(
                f"{place}{index}: found {counts[row, column]} in row {row}, column {column}, "
                "expected counts that are finite and not negative"
            )
        yield suffix + index, counts
