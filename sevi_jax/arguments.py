"""Arguments of Python calls that are not what they must be: each gives an `InputError`."""

import math
import os
import pathlib
from collections.abc import Collection
from typing import Any

import numpy as np

from sevi_jax.errors import InputError


def number(name: str, value: Any, expected: str = "a finite number") -> float:
    """A finite number of an argument that may hold anything.

    Raises:
        InputError: it is none; naming the argument and what was expected.
    """
    is_number = isinstance(value, int | float | np.number) or (
        isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuf"
    )
    if not is_number or isinstance(value, np.complexfloating) or not math.isfinite(value):
        raise InputError(f"{name}={shown(value)}: expected {expected}")
    return float(value)


def whole(name: str, value: Any, expected: str = "a whole number") -> int:
    """A whole number of an argument that may hold anything; 2.0 is one, 2.5, True and "2" are not.

    Raises:
        InputError: it is none.
    """
    if isinstance(value, bool | np.bool_):
        raise InputError(f"{name}={shown(value)}: expected {expected}")
    found = number(name, value, expected)
    if found != int(found):
        raise InputError(f"{name}={shown(value)}: expected {expected}")
    return int(value)


def numbers(name: str, value: Any, count: int, expected: str) -> tuple[float, ...]:
    """So many finite numbers of an argument that may hold anything.

    Raises:
        InputError: it does not hold them.
    """
    listed = elements(name, value, expected)
    if len(listed) != count:
        raise InputError(f"{name}={shown(value)}: expected {expected}")
    try:
        return tuple(number(name, x) for x in listed)
    except InputError:
        raise InputError(f"{name}={shown(value)}: expected {expected}") from None


def elements(name: str, value: Any, expected: str) -> list[Any]:
    """The elements of an argument that must be a list or the like, but no text.

    Raises:
        InputError: it is a single value, a text or nothing.
    """
    try:
        if not isinstance(value, str | bytes):
            return list(value)
    except TypeError:
        pass
    raise InputError(f"{name}={shown(value)}: expected {expected}")


def truth(name: str, value: Any) -> bool:
    """True or False of an argument; a text such as "no" would count as true.

    Raises:
        InputError: it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name}={shown(value)}: expected True or False")
    return bool(value)


def target(path: Any, suffixes: Collection[str]) -> pathlib.Path:
    """The name of a file to write, of one of the suffixes that such a file has.

    Raises:
        InputError: it is no name, or has another suffix.
    """
    expected = " or ".join(suffixes)
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{shown(path)}: expected a name that ends in {expected}")
    path = pathlib.Path(path)
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: found suffix {path.suffix or 'none'}, expected {expected}")
    return path


def shown(value: Any) -> str:
    """A value on one line, not longer than a message bears."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
