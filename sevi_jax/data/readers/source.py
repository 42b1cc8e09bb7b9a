"""A file that is being read, what was found in it, and how much it may hold; knows no format.

Whatever is wrong with a file becomes one ``InputError`` line. Decoders are asked only for what the
budget allows, so that no small file fills the memory.
"""

import contextlib
import dataclasses
import io
import logging
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np

from sevi_jax.data.tables import one_line
from sevi_jax.errors import InputError

# A file may hold this many pixels (512 MiB as counts), or so many per byte of its size. A packed
# picture of a thousand electrons has 85 pixels in a byte, nothing but zeros 258 (uint32) to 1032
# (uint8).
FREE_PIXELS = 1 << 26
PIXELS_PER_BYTE = 128
PICTURE_PIXELS = 1 << 14  # what the smallest pictures count as, for they take time too
MEMORY_SHARE = 0.5  # of the memory that is free, for the counts of one file
CHANNELS = (3, 4)


@dataclasses.dataclass(frozen=True)
class Options:
    """How files of event positions are counted, and how much a file may hold.

    Attributes:
        size: pixels along each side of a picture of this program's own event files.
        pixel: width of a pixel in the units of foreign event positions; None is chosen and said.
        gate: by name of a column, the lowest and highest value of the events that are counted.
        columns: names of the columns of the position across and down; None finds them.
        most_pixels: a file may hold so many pixels, whatever its size.
    """

    size: int = 512
    pixel: float | None = None
    gate: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    columns: tuple[str, str] | None = None
    most_pixels: int = FREE_PIXELS


@dataclasses.dataclass(frozen=True)
class Found:
    """A picture or a stack of pictures in a file, not yet read.

    Attributes:
        suffix: what follows the file's name in the name of the picture, as ``:array`` or ``[3]``.
        shape: ``(H, W)`` or ``(n, H, W)``.
        read: gives picture i of a stack, or the one picture (i is None), ``[H, W]``.
        note: what was understood of the file, in a few words.
        known: fields of `data.picture.Picture` that the file tells.
        of_columns: whether it was counted from columns of event positions.
    """

    suffix: str
    shape: tuple[int, ...]
    read: Callable[[int | None], np.ndarray]
    note: str
    known: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    of_columns: bool = False


class Budget:
    """How many pixels a file may still hold.

    Args:
        size: bytes of the file.
        most_pixels: pixels that any file may hold.
    """

    def __init__(self, size: int, most_pixels: int):
        self.size = size
        self.pixels = self._all = max(most_pixels, PIXELS_PER_BYTE * size)

    def take(self, place: str, shape: tuple[int, ...]) -> None:
        """Raises InputError for what is too large for its file, or for the memory."""
        pixels = math.prod(shape[:-2]) * max(math.prod(shape[-2:]), PICTURE_PIXELS)
        self.pixels -= pixels
        found = " x ".join(map(str, shape))
        if self.pixels < 0:
            raise InputError(
                f"{place}: found {found} pixels in a file of {self.size} bytes, expected at most "
                f"{self._all} pixels (load(..., most_pixels=NUMBER) allows more)"
            )
        free = _free_memory()
        if 8 * math.prod(shape) > MEMORY_SHARE * free:
            raise InputError(
                f"{place}: found {found} pixels, which need {8 * math.prod(shape) / 2**30:.1f} GiB "
                f"where {free / 2**30:.1f} GiB are free: name one picture, as FILE[0]"
            )


@dataclasses.dataclass(frozen=True)
class Source:
    """A file that is being read.

    Attributes:
        place: what messages begin with: the file as the user named it.
        path: of the file.
        member: which array or dataset of the file is asked for; "" is not said.
        options: how it is read.
        budget: what it may still hold.
        content: of the file once unpacked; None reads it from the disk.
    """

    place: str
    path: pathlib.Path
    member: str
    options: Options
    budget: Budget
    content: bytes | None = None

    def open(self) -> IO[bytes]:
        """Opens the (unpacked) file."""
        return self.path.open("rb") if self.content is None else io.BytesIO(self.content)

    def head(self, size: int) -> bytes:
        """The first bytes."""
        with self.open() as file:
            return file.read(size)

    def error(self, found: str, expected: str) -> InputError:
        """The error that says what is wrong with the file."""
        return InputError(f"{self.place}: found {found}, expected {expected}")


def found_array(suffix: str, array: np.ndarray, note: str, **known: Any) -> Found:
    """A picture ``[H, W]`` or a stack ``[n, H, W]`` that lies in memory already."""

    def read(number: int | None) -> np.ndarray:
        return array if number is None else array[number]

    return Found(suffix, array.shape, read, note, known)


def check_picture(place: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Raises InputError for what is no picture and no stack of pictures of real numbers."""
    if dtype.kind not in "biuf":
        raise InputError(f"{place}: found values of type {dtype}, expected real numbers")
    if 0 in shape or len(shape) not in (2, 3) or min(shape) < 0:
        raise InputError(
            f"{place}: found an array of shape {shape}, expected [H, W] or a stack [n, H, W]"
        )
    if min(shape[-2:]) < 2:
        raise InputError(
            f"{place}: found {shape[-2]} x {shape[-1]} pixels, expected at least 2 x 2"
        )


def plain_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without axes of length 1, as long as two axes are left."""
    while len(shape) > 2 and 1 in shape:
        at = shape.index(1)
        shape = shape[:at] + shape[at + 1 :]
    return shape


def is_colour(shape: tuple[int, ...]) -> bool:
    """Whether an array is one picture with channels behind, not a stack of narrow pictures."""
    return len(shape) == 3 and shape[-1] in CHANNELS and min(shape[:2]) > max(CHANNELS)


def grey(place: str, array: np.ndarray) -> np.ndarray:
    """The counts ``[H, W]`` of a grey picture that has channels behind.

    Args:
        place: what messages begin with.
        array: ``[H, W, 2]`` (grey, alpha), ``[H, W, 3]`` or ``[H, W, 4]`` (alpha last).

    Raises:
        InputError: the channels differ, or the picture is transparent in places.
    """
    colours = array.shape[-1] - (array.shape[-1] in (2, 4))
    first = array[..., 0]
    if any((array[..., i] != first).any() for i in range(1, colours)):
        raise InputError(
            f"{place}: found false colours (red, green and blue differ), from which no counts can "
            "be told, expected grey: save the counts themselves, not the picture on the screen"
        )
    if colours < array.shape[-1] and (array[..., -1] != array[0, 0, -1]).any():
        raise InputError(
            f"{place}: found a picture that is transparent in places, expected grey without alpha"
        )
    return np.ascontiguousarray(first)


@contextlib.contextmanager
def decoding(place: str) -> Iterator[None]:
    """Turns what a decoder raises into an InputError: that is anything, even SyntaxError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = one_line(str(error)) or type(error).__name__
        raise InputError(f"{place}: found unreadable data ({reason}), expected a picture") from None


@contextlib.contextmanager
def listening(name: str) -> Iterator[list[str]]:
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


def _free_memory() -> int:
    """Bytes of memory that are free, or those of the machine where that is not known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = pathlib.Path("/proc/meminfo").read_text()
        return int(text.partition("MemAvailable:")[2].split()[0]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 33
