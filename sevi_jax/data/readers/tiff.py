"""TIFF of every kind that tifffile and imagecodecs read: pages, and stacks of ImageJ."""

import functools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sevi_jax.data.readers.source import (
    FREE_PIXELS,
    Found,
    Source,
    check_picture,
    decoding,
    grey,
    listening,
)
from sevi_jax.data.tables import one_line
from sevi_jax.errors import InputError

if TYPE_CHECKING:  # loaded for a TIFF only
    import tifffile

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MOST_PAGES = 1 << 14
_LOSSY = ("JPEG", "OJPEG", "JPEG_LOSSY", "WEBP", "JPEGXR", "JPEG_2000_LOSSY", "LERC")
_PLAIN, _PALETTE = 1, 3  # of the tags Compression and PhotometricInterpretation
_REDUCED = 1  # bit of the tag NewSubfileType: a smaller copy of another page


def read(source: Source) -> Iterator[Found]:
    """The pictures in a TIFF: its pages, or the pictures of an ImageJ stack with fewer pages.

    tifffile passes over lost pages in silence, and makes zeros of missing strips: both are refused.
    """
    import tifffile

    with (
        listening("tifffile") as complaints,
        source.open() as stream,
        tifffile.TiffFile(stream) as file,
    ):
        pages = list(_pages(source, file))
        if complaints:
            raise source.error(complaints[0], "a whole TIFF")
        if not pages:
            raise source.error("no pages", "at least one picture")
        claimed = _claimed(file)
        if claimed > len(pages):
            yield _truncated_stack(source, file, claimed, len(pages))
            return
        yield from _of_pages(source, file, pages)
        if complaints:
            raise source.error(complaints[0], "a whole TIFF")


def _pages(source: Source, file: "tifffile.TiffFile") -> Iterator[Any]:
    """The pages, without smaller copies; one by one, for they may go round in a circle."""
    seen = set()
    pages: Any = file.pages
    for page in pages:
        if page.offset in seen or len(seen) == MOST_PAGES:
            raise source.error(
                "pages that go round in a circle" if page.offset in seen else "too many pages",
                f"at most {MOST_PAGES} pages",
            )
        seen.add(page.offset)
        if not page.subfiletype & _REDUCED:
            yield page


def _claimed(file: "tifffile.TiffFile") -> int:
    """How many pictures ImageJ says there are; it writes one page where they pass 4 GB."""
    described = file.imagej_metadata if file.is_imagej else None
    number = (described or {}).get("images", 1)
    return number if isinstance(number, int) else 1


def _truncated_stack(source: Source, file: "tifffile.TiffFile", claimed: int, pages: int) -> Found:
    """The stack of an ImageJ file that has fewer pages: they lie one behind the other."""
    page: Any = file.pages.first
    size = math.prod(page.shape) * (page.dtype.itemsize if page.dtype else 0)
    offset = page.dataoffsets[0] if page.dataoffsets else 0
    there = (file.filehandle.size - offset) // max(size, 1)
    if page.compression != 1 or len(page.shape) != 2 or pages != 1 or there < claimed:
        raise source.error(
            f"{min(max(pages, 1 if page.compression != 1 else there), claimed)} of the {claimed} "
            "pictures that ImageJ says the stack has",
            "all of them: save the stack again, or its pictures one by one",
        )
    check_picture(source.place, page.dtype, (claimed, *page.shape))

    def read(number: int | None) -> np.ndarray:
        file.filehandle.seek(offset + size * (number or 0))
        dtype = page.dtype.newbyteorder(file.byteorder)
        return np.frombuffer(file.filehandle.read(size), dtype).reshape(page.shape)

    note = f"{page.dtype.name} TIFF, stack of {claimed} pictures of ImageJ in one page"
    return Found("", (claimed, *page.shape), read, note)


def _of_pages(source: Source, file: "tifffile.TiffFile", pages: list[Any]) -> Iterator[Found]:
    """Pages as pictures, named by their numbers where there are several."""
    for number, page in enumerate(pages):
        place = f"{source.place}, page {number}"
        if page.dtype is None:
            raise InputError(f"{place}: found values of an unknown type, expected real numbers")
        colours = _colours(page)
        shape = tuple(page.shape)
        if colours:
            axes = sorted(range(3), key=lambda axis: shape[axis] == colours)[:2]
            plain = tuple(shape[axis] for axis in sorted(axes))
        else:
            plain = shape
        if len(plain) != 2:
            raise InputError(f"{place}: found shape {shape}, expected [H, W] in grey")
        check_picture(place, page.dtype, plain)
        read = functools.partial(_read, place, file, page)
        suffix = f"[{number}]" if len(pages) > 1 else ""
        yield Found(suffix, plain, read, _note(page, colours))


def _colours(page: Any) -> int:
    """How many channels a page has; 0 for grey."""
    return page.samplesperpixel if len(page.shape) == 3 and page.samplesperpixel in (2, 3, 4) else 0


def _note(page: Any, colours: int) -> str:
    plain = page.compression == _PLAIN
    packed = "NONE" if plain else one_line(getattr(page.compression, "name", "unknown"))
    note = f"{page.dtype.name} TIFF" + ("" if packed == "NONE" else f", {packed}")
    if packed in _LOSSY:
        note += " (loses detail: counts may have been changed)"
    if colours:
        note += f", grey saved in {colours} channels"
    if colours and page.dtype.itemsize == 1:
        note += "; what was above 255 is cut off, and 8 bits may have been scaled"
    return note


def _read(place: str, file: "tifffile.TiffFile", page: Any, _: int | None) -> np.ndarray:
    """The pixels of a page, ``[H, W]``."""
    with decoding(place):
        _check_strips(place, page)
        array = page.asarray()
        if page.photometric == _PALETTE and not file.is_imagej:
            _check_palette(place, page)
    if array.ndim == 3:
        last = array.shape[-1] == page.samplesperpixel and page.planarconfig == 1
        array = grey(place, array if last else np.moveaxis(array, 0, -1))
    return array


def _check_palette(place: str, page: Any) -> None:
    """Refuses false colours; in files of ImageJ, the numbers below the colours are the counts."""
    colours = np.asarray(page.colormap)
    if not (colours == np.sort(colours[:1], axis=1)).all():
        raise InputError(
            f"{place}: found false colours (a palette), expected grey: save the counts themselves"
        )


def _check_strips(place: str, page: Any) -> None:
    """Raises InputError where strips or tiles are missing, or are larger than any picture."""
    number = math.prod(page.chunked)
    if math.prod(page.chunks) > FREE_PIXELS:
        raise InputError(
            f"{place}: found strips or tiles of {math.prod(page.chunks)} pixels, expected at most "
            f"{FREE_PIXELS}"
        )
    strips = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(strips) != number or any(0 in strip for strip in strips):
        raise InputError(f"{place}: found strips without data, expected {number} strips or tiles")
