"""Plain pictures of counts, from any usual format, checked; knows nothing of shells.

Whatever is wrong with a file becomes one ``InputError`` line. The decoders are not trusted: what a
file declares is checked before they are asked for it, and what they would pass over in silence
(lost pages, missing strips, wrong checksums) is refused.
"""

import bz2
import contextlib
import gzip
import logging
import math
import pathlib
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np
import tifffile
from PIL import Image

from sevi_jax.data import fields
from sevi_jax.data.tables import check_file, find_dataset, one_line, open_file, read_dataset
from sevi_jax.errors import InputError

TEXT = {".txt": None, ".csv": ","}  # suffix: delimiter (None: any white space)
OPENERS = {".bz2": bz2.open, ".gz": gzip.open}
GREY_MODES = ("L", "I", "I;16", "I;16B")
SUFFIXES = ".npy, .npz, .txt, .csv (also .bz2, .gz), .tif, .tiff, .png or .h5"

# A file may hold this many pixels, or so many per byte of its size. A packed picture of a thousand
# electrons has 85 pixels in a byte, nothing but zeros 258 (uint32) to 1032 (uint8).
FREE_PIXELS = 4096 * 4096
PIXELS_PER_BYTE = 128
PICTURE_PIXELS = 4096  # what the smallest pictures count as, for they take time too
# Limits on text, before it is known to be numbers.
LINES = 1 << 16
LINE_CHARACTERS = 1 << 20
PIXEL_CHARACTERS = 16  # so many characters, comments for instance, count as a pixel
ZIP_START = b"PK"
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DEFLATE = (8, 32946)  # the two numbers that TIFF has for it
LZMA = 34925


def read_images(path: str | pathlib.Path) -> list[tuple[str, np.ndarray]]:
    """Reads every picture of a file: one array, a stack of them, or the image set of an HDF5 file.

    Array order is kept: the first axis is taken as x, the second as z (spec section 1).

    Args:
        path: ``.npy``, ``.npz`` (every array), ``.txt`` or ``.csv`` (also with ``.bz2`` or
            ``.gz``), TIFF (pages are a stack), PNG (grey, 8 or 16 bit), ``.h5`` (dataset
            ``images``).

    Returns:
        (name, counts ``[H, W]`` float64) per picture. The name is the file's, with ``:array`` for
        an ``.npz`` and ``[number]`` for a stack.

    Raises:
        InputError: unknown suffix, unreadable file, or an array that is not a picture of
            finite, non-negative numbers (colour, one-dimensional, empty, objects, ...).
    """
    path = pathlib.Path(path)
    reader = _reader(path)
    check_file(path)
    with warnings.catch_warnings(), _decoding(str(path)):
        warnings.simplefilter("ignore")  # of the decoders: what matters is refused
        arrays = list(reader(path, _Allowance(path)))
    if not arrays:
        raise InputError(f"{path}: found no arrays, expected at least one picture")
    return [
        (path.name + name, counts)
        for suffix, array in arrays
        for name, counts in _pictures(_place(path, suffix), suffix, array)
    ]


def rebin(counts: np.ndarray, size: int, name: str = "picture") -> np.ndarray:
    """Sums whole blocks of pixels; the total is kept.

    Args:
        counts: ``[H, W]``, square.
        size: pixels per side of the result; H must be a multiple of it.
        name: what messages call the picture.

    Returns:
        ``[size, size]``, of the type that `counts` has.

    Raises:
        InputError: the picture is not square, or `size` does not divide H.
    """
    height, width = counts.shape
    if height != width:
        raise InputError(
            f"{name}: found {height} x {width} pixels, expected a square picture (only a fit that "
            "starts from the picture itself takes others)"
        )
    if size < 1 or height % size:
        raise InputError(
            f"{name}: found {height} x {width} pixels, expected a multiple of {size} x {size}"
        )
    blocks = counts.reshape(size, height // size, size, -1)
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


def _place(path: pathlib.Path, suffix: str) -> str:
    """What messages call an array of the file."""
    table = f", table {fields.IMAGES}" if path.suffix.lower() in fields.HDF5_SUFFIXES else ""
    return f"{path}{one_line(suffix)}{table}"


@contextlib.contextmanager
def _decoding(place: str) -> Iterator[None]:
    """Turns what a decoder raises into an InputError: that is anything, even SyntaxError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = one_line(str(error)) or type(error).__name__
        raise InputError(f"{place}: found unreadable data ({reason}), expected a picture") from None


class _Allowance:
    """How many pixels a file may still hold; keeps a small file from filling the memory."""

    def __init__(self, path: pathlib.Path):
        self._size = path.stat().st_size
        self.pixels = max(FREE_PIXELS, PIXELS_PER_BYTE * self._size)

    def take(self, place: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        """Raises InputError for what is no picture or stack, or is too large for its file."""
        if dtype.kind not in "iuf":
            raise InputError(f"{place}: found values of type {dtype}, expected real numbers")
        if 0 in shape or len(shape) not in (2, 3) or min(shape) < 0:
            raise InputError(
                f"{place}: found an array of shape {shape}, expected [H, W] or a stack [n, H, W]"
            )
        if min(shape[-2:]) < 2:
            raise InputError(
                f"{place}: found {shape[-2]} x {shape[-1]} pixels, expected at least 2 x 2"
            )
        self.pixels -= math.prod(shape[:-2]) * max(math.prod(shape[-2:]), PICTURE_PIXELS)
        if self.pixels < 0:
            raise self.exceeded(place, " x ".join(map(str, shape)))

    def exceeded(self, place: str, found: str) -> InputError:
        """The error that says so."""
        return InputError(
            f"{place}: found {found} pixels in a file of {self._size} bytes, expected at most "
            f"{FREE_PIXELS} pixels, or {PIXELS_PER_BYTE} in a byte"
        )


# Every reader yields (suffix of the name, array) and takes what it will decode from the allowance
# before it does.


def _read_numpy(path: pathlib.Path, allowance: _Allowance) -> Iterator[tuple[str, np.ndarray]]:
    with path.open("rb") as file:
        if file.read(len(ZIP_START)) != ZIP_START:
            file.seek(0)
            yield "", _read_array(str(path), file, allowance)
            return
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                suffix = f":{member.filename.removesuffix('.npy')}"
                place = _place(path, suffix)
                if member.compress_type not in ZIP_METHODS:
                    raise InputError(
                        f"{place}: found compression {member.compress_type}, expected deflate"
                    )
                with _decoding(place), archive.open(member) as stream:
                    yield suffix, _read_array(place, stream, allowance)


def _read_array(place: str, file: IO[bytes], allowance: _Allowance) -> np.ndarray:
    """One array in NumPy's format, and nothing behind it."""
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read_header:  # 3.0 is for tables with Greek names
        raise InputError(f"{place}: found format {version}, expected an array of numbers")
    shape, _, dtype = read_header[version](file)
    if not dtype.hasobject:  # below, NumPy says why it takes no objects
        allowance.take(place, dtype, shape)
    file.seek(0)
    # Pickles run code when loaded; without them NumPy refuses object arrays.
    array = np.lib.format.read_array(file, allow_pickle=False)
    # In an archive, this compares the checksum as well.
    if file.read(1):
        raise InputError(f"{place}: found bytes behind the array, expected one array")
    return array


def _read_text(path: pathlib.Path, allowance: _Allowance) -> Iterator[tuple[str, np.ndarray]]:
    opener = OPENERS.get(path.suffix.lower(), open)
    delimiter = TEXT[_text_suffix(path)]
    with opener(path, "rt", encoding="utf-8-sig") as file:
        lines = _lines(path, file, delimiter, allowance)
        array = np.loadtxt(lines, delimiter=delimiter, ndmin=2)
    allowance.take(str(path), array.dtype, array.shape)
    yield "", array


def _lines(
    path: pathlib.Path, file: IO[str], delimiter: str | None, allowance: _Allowance
) -> Iterator[str]:
    """The lines, as long as they can be those of a picture that the file may hold."""
    width = pixels = characters = 0
    for number, line in enumerate(iter(lambda: file.readline(LINE_CHARACTERS), "")):
        if len(line) == LINE_CHARACTERS or number == LINES:
            raise InputError(
                f"{path}: found more than {LINES} lines, or one of more than {LINE_CHARACTERS} "
                "characters, expected the rows of a picture"
            )
        values = line.partition("#")[0]
        if values.strip():
            width = width or len(values.split(delimiter))  # of every row, or loadtxt refuses it
            pixels += width
        characters += len(line)
        if max(pixels, characters // PIXEL_CHARACTERS) > allowance.pixels:
            raise allowance.exceeded(str(path), f"over {allowance.pixels}")
        yield line


def _read_tiff(path: pathlib.Path, allowance: _Allowance) -> Iterator[tuple[str, np.ndarray]]:
    arrays = []
    with _listening("tifffile") as complaints, tifffile.TiffFile(path) as file:
        # One by one: a list of pages may go round in a circle.
        for number, page in enumerate(file.pages):
            place = f"{path}, page {number}"
            if len(page.shape) != 2:
                raise InputError(f"{place}: found shape {page.shape}, expected [H, H] in grey")
            if page.dtype is None:
                raise InputError(f"{place}: found values of an unknown type, expected real numbers")
            allowance.take(place, page.dtype, page.shape)
            with _decoding(place):
                _check_strips(place, file, page, page.dtype.itemsize)
                arrays.append(page.asarray())
        if complaints:
            raise InputError(f"{path}: found {complaints[0]}, expected a whole TIFF")
    for number, array in enumerate(arrays):
        yield f"[{number}]" if len(arrays) > 1 else "", array


def _check_strips(
    place: str,
    file: tifffile.TiffFile,
    page: tifffile.TiffPage | tifffile.TiffFrame,
    pixel_bytes: int,
) -> None:
    """Raises InputError where strips or tiles are missing, or inflate to more than their pixels.

    tifffile makes zeros of the missing ones, and inflates the others whatever comes out.
    """
    number = math.prod(page.chunked)
    if math.prod(page.chunks) > FREE_PIXELS:
        raise InputError(
            f"{place}: found strips or tiles of {math.prod(page.chunks)} pixels, expected at most "
            f"{FREE_PIXELS}"
        )
    strips = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(strips) != number or any(0 in strip for strip in strips):
        raise InputError(f"{place}: found strips without data, expected {number} strips or tiles")
    if page.compression == LZMA:
        raise InputError(f"{place}: found LZMA compression, expected deflate or none")
    if page.compression in DEFLATE:
        limit = math.prod(page.chunks) * pixel_bytes
        for offset, size in strips:
            file.filehandle.seek(offset)
            inflated = zlib.decompressobj().decompress(file.filehandle.read(size), limit + 1)
            if len(inflated) > limit:
                raise InputError(f"{place}: found a strip of over {limit} bytes, expected {limit}")


@contextlib.contextmanager
def _listening(name: str) -> Iterator[list[str]]:
    """Gives the list of errors that a library logs meanwhile, and keeps them off the terminal."""
    complaints = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                complaints.append(one_line(record.getMessage()))

    logger, listener = logging.getLogger(name), Listener()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(listener)
    try:
        yield complaints
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagate


def _read_png(path: pathlib.Path, allowance: _Allowance) -> Iterator[tuple[str, np.ndarray]]:
    with Image.open(path, formats=("PNG",)) as image:
        if image.mode not in GREY_MODES:
            raise InputError(
                f"{path}: found a picture of mode {image.mode}, expected grey of 8 or 16 bits"
            )
        allowance.take(str(path), np.dtype(np.uint16), image.size[::-1])
        image.verify()  # the checksums, which reading passes over
    with Image.open(path, formats=("PNG",)) as image:
        yield "", np.asarray(image)


def _read_image_set(path: pathlib.Path, allowance: _Allowance) -> Iterator[tuple[str, np.ndarray]]:
    with open_file(path) as file:
        data = find_dataset(file, fields.IMAGES)
        allowance.take(_place(path, ""), data.dtype, data.shape or ())
        yield "", read_dataset(data)


def _pictures(place: str, suffix: str, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """One array's pictures, each checked; messages begin with `place`."""
    stack = array if array.ndim == 3 else array[None]
    for number, picture in enumerate(stack):
        index = f"[{number}]" if array.ndim == 3 else ""
        counts = picture.astype(np.float64, copy=False)
        # NaN fails the comparison too.
        wrong = ~((counts >= 0) & (counts < np.inf))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise InputError(
                f"{place}{index}: found {counts[row, column]} in row {row}, column {column}, "
                "expected counts that are finite and not negative"
            )
        yield suffix + index, counts
