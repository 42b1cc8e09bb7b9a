"""Fits of many pictures side by side; knows no file format and no likelihood."""

import contextlib
import inspect
import pathlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from sevi_jax.cores import cores
from sevi_jax.data.load import load
from sevi_jax.data.picture import Picture
from sevi_jax.errors import InputError
from sevi_jax.estimation import fitting
from sevi_jax.results import fit as one
from sevi_jax.results.fit import Fit


class BadPictures(InputError):
    """Some pictures of many could not be fitted; the others were.

    Attributes:
        fits: in the order of the pictures, None for those that could not be fitted.
        reasons: number of the picture, from 0, to what is wrong with it.
    """

    def __init__(self, fits: list[Fit | None], reasons: dict[int, str]):
        self.fits, self.reasons = fits, reasons
        number, reason = next(iter(reasons.items()))
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        super().__init__(
            f"{len(reasons)} of {len(fits)} pictures could not be fitted: number {number}: "
            f"{reason}{more}; the others are in .fits of this error"
        )


def fit_many(
    pictures: Iterable[Picture | np.ndarray | str | pathlib.Path],
    progress: Callable[[int, int], object] | None = None,
    **options: Any,
) -> list[Fit]:
    """Fits many pictures, each by itself.

    Pictures of one shape share what is compiled. On CPUs one thread per core fits, on several GPUs
    one per GPU; the first picture is fitted alone, so that nothing is compiled twice. Files are
    read when their turn comes.

    Args:
        pictures: a `Picture`, an array of counts ``[H, W]`` or a file with one picture each.
        progress: called with the number of pictures that are done, and of all.
        **options: the other arguments of `fit`, the same for all pictures: ``shells=2``.

    Returns:
        The fits, in the order of the pictures. One that did not converge says so itself.

    Raises:
        InputError: an option is not what is expected; nothing is fitted then.
        BadPictures: at the end, where pictures could not be read or fitted. Its ``fits`` hold the
            others.
    """
    _check(options)
    waiting = list(pictures)
    fits: list[Fit | None] = [None] * len(waiting)
    errors: dict[int, Exception] = {}
    done = 0

    def fitted(number: int) -> None:
        picture = waiting[number]
        if isinstance(picture, str | pathlib.Path):
            picture = load(picture)
        with _device(number):
            fits[number] = one.fit(picture, **options)

    def attempt(number: int) -> None:
        try:
            fitted(number)
        except Exception as error:  # whatever it is, the other pictures are not lost for it
            errors[number] = error

    def count() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(waiting))

    for number in range(min(1, len(waiting))):
        attempt(number)
        count()
    with ThreadPoolExecutor(_workers()) as pool:
        for _ in pool.map(attempt, range(1, len(waiting))):
            count()
    if errors:
        found = dict(sorted(errors.items()))
        unforeseen = [error for error in found.values() if not isinstance(error, InputError)]
        reasons = {number: _said(error) for number, error in found.items()}
        raise BadPictures(fits, reasons) from (unforeseen[0] if unforeseen else None)
    return [found for found in fits if found is not None]


def _said(error: Exception) -> str:
    """What is wrong, with the kind of an error that is none of the user's."""
    known = isinstance(error, InputError)
    return str(error) if known else f"{type(error).__name__}: {error}"


def _check(options: dict[str, Any]) -> None:
    """Refuses options that would fail for every picture."""
    try:
        given = inspect.signature(one.fit).bind(None, **options)
    except TypeError as error:
        raise InputError(f"fit_many: {error}") from None
    given.apply_defaults()
    known = given.arguments
    names = ("shells", "orders", "shape", "free", "background", "range", "positive")
    fitting.request_of(*(known[name] for name in names))
    if known["polarisation"] is not None:
        fitting.angle_of(known["polarisation"])


def _gpus() -> list[Any]:
    import jax

    return [] if jax.default_backend() == "cpu" else jax.local_devices()


def _workers() -> int:
    """How many pictures are fitted at a time."""
    if gpus := _gpus():
        return len(gpus)
    return cores()


def _device(number: int) -> contextlib.AbstractContextManager[Any]:
    """The device of a picture: GPUs take turns."""
    gpus = _gpus()
    if len(gpus) < 2:
        return contextlib.nullcontext()
    import jax

    return jax.default_device(gpus[number % len(gpus)])
