"""MATLAB's files up to version 7 by SciPy; those of 7.3 are HDF5."""

import functools
import struct
from collections.abc import Iterator

import numpy as np
import scipy.io
import scipy.sparse

from sevi_jax.data.readers.source import Found, Source, check_picture, decoding, plain_shape
from sevi_jax.data.tables import listed, one_line

SIGNATURE = b"MATLAB 5.0 MAT-file"
_KINDS = {"double": "f8", "single": "f4", "logical": "u1", "sparse": "f8"} | {
    f"{sign}int{bits}": f"{sign[:1] or 'i'}{bits // 8}"
    for sign in ("", "u") for bits in (8, 16, 32, 64)
}  # fmt: skip


def is_version_4(head: bytes) -> bool:
    """Whether a file begins as MATLAB 4 wrote them, which have no signature."""
    if len(head) < 21:
        return False
    for order in "<>":
        kind, rows, columns, imaginary, name = struct.unpack(f"{order}5i", head[:20])
        big, form, zero, what = kind // 1000, kind // 10 % 10, kind // 100 % 10, kind % 10
        if big == (order == ">") and form < 6 and zero == 0 and what in (0, 2):
            sizes = min(rows, columns) >= 0 and rows * columns < 1 << 40
            if sizes and imaginary in (0, 1) and 1 < name < 64 and head[20:21].isalpha():
                return True
    return False


def read(source: Source) -> Iterator[Found]:
    """The one picture or stack among the variables, or the one that is asked for."""
    with decoding(source.place), source.open() as file:
        variables = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(file)}
    pictures = {
        name: (plain_shape(shape), kind)
        for name, (shape, kind) in variables.items()
        if kind in _KINDS and len(plain_shape(shape)) in (2, 3) and min(plain_shape(shape)[:2]) > 1
    }
    if source.member and source.member not in pictures:
        raise source.error(f"variables {listed(list(variables))}", f"a matrix {source.member}")
    chosen = [source.member] if source.member else list(pictures)
    if len(chosen) != 1:
        said = [f"{one_line(n)} {' x '.join(map(str, s))} {k}" for n, (s, k) in variables.items()]
        example = f", as {source.path.name}:{one_line(chosen[0])}" if chosen else ""
        raise source.error(
            f"variables {listed(said)}", f"one matrix, or the name of the one meant{example}"
        )
    (name,) = chosen
    shape, kind = pictures[name]
    is_stack = len(shape) == 3
    pictures_shape = (shape[2], *shape[:2]) if is_stack else shape  # MATLAB counts them last
    check_picture(source.place, np.dtype(_KINDS[kind]), pictures_shape)

    @functools.cache
    def whole() -> np.ndarray:
        with decoding(source.place), source.open() as file:
            # a function or an object in the file is given as an array, and nothing is run
            array = scipy.io.loadmat(file, variable_names=[name])[name]
            if scipy.sparse.issparse(array):
                array = array.toarray()
            array = np.asarray(array)
            check_picture(source.place, array.dtype, plain_shape(array.shape))
            return array.reshape(shape)

    def read_one(number: int | None) -> np.ndarray:
        return whole() if number is None else whole()[..., number]

    yield Found(f":{name}", pictures_shape, read_one, f"{kind} matrix {one_line(name)}")
