"""What glibc's malloc is told: to be quick, and not to grow for hours; elsewhere nothing."""

import contextlib
import ctypes
import os

# by the name in the environment: the number in malloc.h, and the value
_OPTIONS = {
    "MALLOC_ARENA_MAX": (-8, 1),
    "MALLOC_MMAP_MAX_": (-4, 0),
    "MALLOC_TRIM_THRESHOLD_": (-1, -1),  # never by itself
}


def keep() -> None:
    """Lets malloc keep what is freed, in one heap for all threads; before they start.

    It would ask the system for the hundreds of MiB of every step anew, page by page, which was an
    eighth of the step (docs/performance.md); and it would give each of a few dozen threads of XLA
    and TensorStore a heap of its own, up to eight per core: what they free in turn then fits
    nowhere, and a process grows for hours. What the environment says of malloc stands instead.
    """
    with _another_malloc():
        malloc = ctypes.CDLL(None)
        for name, option in _OPTIONS.items():
            if name not in os.environ:
                malloc.mallopt(*option)


def give_back() -> None:
    """Gives the system what is free; now and then, for it must be asked for anew.

    Else it depends on the order of what is taken and freed for how long the heap still grows.
    """
    with _another_malloc():
        ctypes.CDLL(None).malloc_trim(0)


def _another_malloc() -> contextlib.AbstractContextManager:
    """Leaves out what another system's malloc does not know."""
    return contextlib.suppress(OSError, AttributeError, TypeError)
