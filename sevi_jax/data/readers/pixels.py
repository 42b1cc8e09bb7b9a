"""PNG and BMP, decoded by imagecodecs: grey of 1 to 16 bits, also where it was saved in colours."""

import functools
import struct
from collections.abc import Iterator

import numpy as np

from sevi_jax.data.readers.source import Found, Source, check_picture, decoding, grey

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BMP_SIGNATURE = b"BM"
_COLOURS = {0: "grey", 2: "grey saved as RGB", 3: "grey saved with a palette",
            4: "grey with alpha", 6: "grey saved as RGBA"}  # fmt: skip
_CUT = "what was above 255 is cut off, and 8 bits may have been scaled"


def read_png(source: Source) -> Iterator[Found]:
    """The picture in a PNG."""
    head = source.head(33)
    if len(head) < 33 or head[12:16] != b"IHDR":
        raise source.error("a PNG without a header", "a whole PNG")
    width, height, bits, colour = struct.unpack(">IIBB", head[16:26])
    _check_frames(source)
    note = f"{bits}-bit PNG, {_COLOURS.get(colour, 'unknown colours')}"
    yield _found(source, (height, width), bits, note)


def read_bmp(source: Source) -> Iterator[Found]:
    """The picture in a BMP."""
    head = source.head(30)
    if len(head) < 30:
        raise source.error("a BMP without a header", "a whole BMP")
    width, height, _, bits = struct.unpack("<iiHH", head[18:30])
    yield _found(source, (abs(height), width), 8, f"{bits}-bit BMP, grey")


def _found(source: Source, shape: tuple[int, int], bits: int, note: str) -> Found:
    check_picture(source.place, np.dtype(np.uint16), shape)
    if bits == 8:
        note += f"; {_CUT}"
    import imagecodecs  # loaded for a PNG or BMP only

    decode = imagecodecs.png_decode if "PNG" in note else imagecodecs.bmp_decode

    @functools.cache
    def read(_: int | None) -> np.ndarray:
        with source.open() as file, decoding(source.place):
            array = np.asarray(decode(file.read()))
        if array.ndim == 3:
            array = array[..., 0] if array.shape[-1] == 1 else grey(source.place, array)
        if array.shape != shape:
            raise source.error(f"{array.shape} pixels", f"{shape} as its header says")
        # the decoder spreads fewer bits over 0..255
        return array // (255 // (2**bits - 1)) if bits < 8 and "palette" not in note else array

    return Found("", shape, read, note)


def _check_frames(source: Source) -> None:
    """Refuses an animation, of which the decoder gives the first picture."""
    with source.open() as file:
        if b"acTL" in file.read(4096):
            raise source.error("an animated PNG", "one picture, or a TIFF of several pages")
