"""Formats whose libraries are extras: FITS (astropy) and Andor's SIF (sif_parser)."""

import functools
import importlib
import io
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from sevi_jax.data.readers import columns
from sevi_jax.data.readers.source import (
    Found,
    Source,
    check_picture,
    decoding,
    found_array,
    plain_shape,
)
from sevi_jax.data.tables import one_line

FITS_SIGNATURE = b"SIMPLE  ="
SIF_SIGNATURE = b"Andor Technology Multi-Channel File"


def read_fits(source: Source) -> Iterator[Found]:
    """The pictures in a FITS file, and its tables of events; rows in the order of the file."""
    fits = _library(source, "astropy.io.fits", "fits", "a FITS file")
    found = 0
    with decoding(source.place), source.open() as stream:
        file = stack = fits.open(stream, memmap=False, lazy_load_hdus=True)
        for number, unit in enumerate(stack):
            name = one_line(unit.name or "") or str(number)
            if source.member not in ("", name, str(number)):
                continue
            suffix = f":{name}" if source.member or number else ""
            shape = plain_shape(tuple(unit.shape)) if unit.is_image else ()
            if len(shape) in (2, 3):
                check_picture(source.place, _fits_type(unit), shape)
                yield Found(suffix, shape, _fits_reader(unit, shape), f"FITS image {name}")
                found += 1
            elif not unit.is_image and columns.positions(unit.columns.names):
                source.budget.take(source.place, (unit.header["NAXIS2"], len(unit.columns)))
                table = columns.of_array(np.asarray(unit.data))
                yield columns.counted(source.place, suffix, table, source.options, source.budget)
                found += 1
        file.close()
    if not found:
        raise source.error("a FITS file without pictures", "one image, or a table with x and y")


def read_sif(source: Source) -> Iterator[Found]:
    """The pictures of Andor's cameras."""
    library = _library(source, "sif_parser", "sif", "a file of Andor's cameras")
    if source.content is not None:
        raise source.error("a packed SIF", "it unpacked")
    with decoding(source.place), _Whole(io.FileIO(source.path)) as stream:
        array = library.np_open(stream, lazy="memmap")[0]
    shape = plain_shape(array.shape)
    check_picture(source.place, array.dtype, shape)
    yield found_array("", array.reshape(shape), "Andor SIF")


class _Whole(io.BufferedReader):
    """A file whose end is an error: sif_parser would look for more for ever."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data:
            raise EOFError("the file ends too early")
        return data

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line:
            raise EOFError("the file ends too early")
        return line


def _fits_type(unit) -> np.dtype:
    """Some type of the right kind; FITS scales integers when they are read."""
    return np.dtype(np.float64 if unit.header["BITPIX"] < 0 else np.int64)


def _fits_reader(unit, shape: tuple[int, ...]):
    whole = functools.cache(lambda: np.asarray(unit.data).reshape(shape))
    return lambda number: whole() if number is None else whole()[number]


def _library(source: Source, module: str, extra: str, what: str) -> ModuleType:
    """Imports the library of a format."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise source.error(
            f"{what}, for which {module.partition('.')[0]} is not installed",
            f"it: pip install 'sevi_jax[{extra}]'",
        ) from None
