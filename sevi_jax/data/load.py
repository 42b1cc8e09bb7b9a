"""Any file to pictures of counts: by what is in it, not by what it is called."""

import bz2
import dataclasses
import functools
import gzip
import lzma
import math
import pathlib
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from sevi_jax.data.hot import without_defects
from sevi_jax.data.parts import parts_of
from sevi_jax.data.picture import Picture
from sevi_jax.data.readers import arrays, extras, hdf5, matlab, pixels, text, tiff
from sevi_jax.data.readers.source import Budget, Found, Options, Source, decoding
from sevi_jax.data.tables import check_file, one_line
from sevi_jax.data.values import meaning
from sevi_jax.errors import InputError

HEAD = 4096  # bytes that tell what a file is
_PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_ZIP = b"PK\x03\x04"
_EMPTY_ZIP = b"PK\x05\x06"
_FREE_UNPACKED = 1 << 27  # bytes that any packed file may hold, or so many for each of its own
_UNPACKED_PER_BYTE = 64
# What is known, but holds no counts.
_REFUSED = {
    b"\xff\xd8\xff": ("a JPEG, whose compression changes counts", "TIFF, PNG or text"),
    b"GIF8": ("a GIF", "TIFF, PNG or text"),
    b"%PDF": ("a PDF", "the picture itself"),
    b"\xd0\xcf\x11\xe0": ("a document of Excel or Word", "text, saved as CSV"),
}

Reader = Callable[[Source], Iterator[Found]]
T = TypeVar("T")


def load(path: str | pathlib.Path, **options: Any) -> Picture:
    """Reads the one picture of a file.

    Args:
        path: as in `load_all`.
        options: those of `load_all`.

    Raises:
        InputError: as in `load_all`, or the file holds several pictures.
    """
    pictures = load_all(path, **options)
    if len(pictures) != 1:
        names = ", ".join(one_line(picture.name) for picture in pictures[:3])
        raise InputError(
            f"{path}: found {len(pictures)} pictures ({names}{', ...' * (len(pictures) > 3)}), "
            f"expected one: load_all takes all, load('{path}[0]') the first"
        )
    return pictures[0]


def load_all(
    path: str | pathlib.Path,
    *,
    off: str | pathlib.Path | np.ndarray | None = None,
    mask: str | pathlib.Path | np.ndarray | None = None,
    efficiency: str | pathlib.Path | np.ndarray | None = None,
    offset: float = 0.0,
    keep_hot: bool = False,
    **options: Any,
) -> list[Picture]:
    """Reads every picture of a file.

    Args:
        path: text of any dialect, .npy, .npz, TIFF, PNG, BMP, HDF5 (this program's event files and
            image sets, any dataset, columns of event positions), MATLAB, FITS or SIF; text and
            pictures also packed by gzip, bzip2, xz or zip. ``file.h5:/group/dataset``,
            ``file.npz:name`` and ``file.mat:name`` name one array of a file, ``file.tif[3]`` one
            picture of a stack.
        off: picture taken without the light: an array, or a file of one picture.
        mask: picture that is 0 where a pixel is not used, likewise.
        efficiency: relative efficiency of every pixel, likewise.
        offset: what the camera adds to every pixel, in the units of the values.
        keep_hot: whether hot and dead pixels are kept; else they are masked and listed in `notes`.
        options: those of `data.readers.source.Options`: size, pixel, gate, columns, most_pixels.

    Returns:
        The pictures, in the order of the file. `notes` says what was understood.

    Raises:
        InputError: one line with the file, what was found and what was expected.
    """
    reading = _options(options)
    known = {
        "off": None if off is None else _one(off, reading),
        "mask": None if mask is None else _one(mask, reading) != 0,
        "efficiency": None if efficiency is None else _one(efficiency, reading),
    }
    if known["off"] is not None and offset:
        known["off"] = known["off"] - offset
    path = pathlib.Path(path)
    pictures = []
    for place, name, found, values in _arrays(path, reading):
        if not found.of_columns:
            _refuse_columns(place, reading)
        picture = _picture(place, name, found, values, known, offset)
        pictures.append(picture if keep_hot else without_defects(picture))
    return pictures


def _picture(
    place: str,
    name: str,
    found: Found,
    values: np.ndarray,
    known: Mapping[str, Any],
    offset: float,
) -> Picture:
    """A picture of counts from the values in a file."""
    meant = meaning(place, values)
    counts, noise, notes = meant.counts, meant.noise, meant.notes
    if offset:
        highest = float(np.nanmax(counts))
        if not math.isfinite(offset) or offset >= highest:
            raise InputError(
                f"{place}: offset={offset:g}: expected a number below the highest value, "
                f"{highest:g}"
            )
        counts = counts - offset
        notes = (*(note for note in notes if "offset=" not in note), f"{offset:g} is taken off")
        # noise below the offset is the camera's, and is no difference of pictures
        if noise is None and (counts < 0).any():
            noise = "normal"
            notes = (*notes, "values are below 0 then: the noise is normal and is estimated")
    height, width = counts.shape
    first = f"{height} x {width}, {found.note}"
    fields = {**{k: v for k, v in known.items() if v is not None}, **found.known}
    return Picture(counts, name=name, noise=noise, notes=(first, *notes), **fields)


def _arrays(path: pathlib.Path, options: Options) -> Iterator[tuple[str, str, Found, np.ndarray]]:
    """Place for messages, name, what was found, and values ``[H, W]`` of every picture."""
    file, member, number = parts_of(path)
    check_file(file)
    source = Source(
        str(path), file, member, options, Budget(file.stat().st_size, options.most_pixels)
    )
    seen = 0
    readers = _quietly(source.place, lambda: _reader(source))
    while (found := _quietly(source.place, lambda: next(readers, None))) is not None:
        is_stack = len(found.shape) == 3
        before, seen = seen, seen + (found.shape[0] if is_stack else 1)
        wanted = range(before, seen) if number is None else (number,)
        if not before <= wanted[0] < seen:
            continue
        shape = found.shape if number is None else found.shape[-2:]
        source.budget.take(f"{source.place}{one_line(found.suffix)}", shape)
        for i in wanted:
            k = i - before if is_stack else None
            suffix = found.suffix + ("" if k is None else f"[{k}]")
            place = source.place if number is not None else f"{source.place}{one_line(suffix)}"
            values = _quietly(place, functools.partial(found.read, k))
            yield place, f"{file.name}{suffix}", found, values
    if number is not None and number >= seen:
        raise source.error(f"{seen} pictures", f"one of number {number} (the first is 0)")
    if not seen:
        raise source.error("no pictures", "at least one")


def _quietly(place: str, call: Callable[[], T]) -> T:
    """Calls a decoder; its warnings are not shown, for what matters is refused."""
    with warnings.catch_warnings(), decoding(place):
        warnings.simplefilter("ignore")
        return call()


def _reader(source: Source) -> Iterator[Found]:
    """Reads a file by what is in it."""
    head = source.head(HEAD)
    for signature, opener in _PACKED.items():
        if head.startswith(signature) and source.content is None:
            return _reader(_unpacked(source, opener))
    if head.startswith((_ZIP, _EMPTY_ZIP)):
        return _zipped(source)
    if source.content is None and hdf5.is_hdf5(source.path):
        return hdf5.read(source)
    if head.startswith(hdf5.SIGNATURE):
        raise source.error("a packed HDF5 file", "it unpacked (HDF5 has compression of its own)")
    for signature, (found, expected) in _REFUSED.items():
        if head.startswith(signature):
            raise source.error(found, expected)
    reader = _by_signature(head)
    if reader is None:
        raise source.error(
            f"an unknown kind of file (it begins with {one_line(repr(head[:8])[2:-1])})",
            "text, .npy, .npz, TIFF, PNG, BMP, HDF5, MATLAB, FITS or SIF",
        )
    if source.member and reader not in (extras.read_fits, matlab.read):
        raise source.error(f"'{one_line(source.member)}' behind the name", "the name of a file")
    return reader(source)


def _by_signature(head: bytes) -> Reader | None:
    readers: list[tuple[bytes, Reader]] = [
        (arrays.SIGNATURE, arrays.read),
        *((signature, tiff.read) for signature in tiff.SIGNATURES),
        (pixels.PNG_SIGNATURE, pixels.read_png),
        (matlab.SIGNATURE, matlab.read),
        (extras.FITS_SIGNATURE, extras.read_fits),
        (extras.SIF_SIGNATURE, extras.read_sif),
    ]
    for signature, reader in readers:
        if head.startswith(signature):
            return reader
    if matlab.is_version_4(head):
        return matlab.read
    if text.is_text(head):
        return text.read
    return pixels.read_bmp if head.startswith(pixels.BMP_SIGNATURE) else None


def _unpacked(source: Source, opener: Callable[..., Any]) -> Source:
    """The same file without its compression."""
    with source.path.open("rb") as packed, opener(packed, "rb") as file:
        return _with_content(source, file)


def _with_content(source: Source, file: Any) -> Source:
    """The source with what a stream gives for content, which must not be too much."""
    most = max(_FREE_UNPACKED, _UNPACKED_PER_BYTE * source.budget.size)
    parts, size = [], 0
    while part := file.read(1 << 22):
        parts.append(part)
        size += len(part)
        if size > most:
            raise source.error(
                f"a file of {source.budget.size} bytes that unpacks to over {most}",
                f"at most {most} bytes",
            )
    return dataclasses.replace(source, content=b"".join(parts))


def _zipped(source: Source) -> Iterator[Found]:
    """What is in a zip: NumPy's arrays (.npz), or one other file."""
    with source.open() as file, zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if "[Content_Types].xml" in names:
            raise source.error("a workbook of Excel", "text: save it as CSV")
        if len(names) != 1 or names[0].endswith(".npy") or source.content is not None:
            return arrays.read_archive(source)
        if archive.infolist()[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise source.error("an unusual compression in a zip", "deflate")
        with archive.open(names[0]) as member:
            return _reader(_with_content(source, member))


def _one(value: str | pathlib.Path | np.ndarray, options: Options) -> np.ndarray:
    """The values ``[H, W]`` of an array, or of the one picture of a file."""
    if isinstance(value, np.ndarray):
        return value
    found = [values for *_, values in _arrays(pathlib.Path(value), options)]
    if len(found) != 1:
        raise InputError(f"{value}: found {len(found)} pictures, expected one")
    return found[0].astype(np.float64)


def _refuse_columns(place: str, options: Options) -> None:
    """Raises InputError where options of event columns are given for what has none."""
    given = {"gate": options.gate, "pixel": options.pixel, "columns": options.columns}
    for name, value in given.items():
        if value:
            raise InputError(
                f"{place}: {name} is for columns of event positions, but this is a picture: "
                f"leave {name} out"
            )


def _options(options: Mapping[str, Any]) -> Options:
    """Options of reading; gates also as text, ``tof:1.1e-6,1.3e-6``."""
    options = dict(options)
    gate = options.get("gate")
    if isinstance(gate, str):
        options["gate"] = dict(map(parse_gate, gate.split(";")))
    elif gate is None:
        options.pop("gate", None)
    return Options(**options)


def parse_gate(text: str) -> tuple[str, tuple[float, float]]:
    """A gate, ``COLUMN:LOW,HIGH``.

    Raises:
        InputError: for anything else.
    """
    name, _, bounds = text.rpartition(":")
    try:
        low, high = (float(bound) for bound in bounds.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not name or not low <= high:
        raise InputError(f"gate={text}: expected COLUMN:LOW,HIGH, as tof:1.1e-6,1.3e-6")
    return name.strip(), (low, high)
