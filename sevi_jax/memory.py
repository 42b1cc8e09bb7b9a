"""What glibc's malloc is told, so that a process does not grow for hours; elsewhere nothing."""

import contextlib
import ctypes
import os


def keep_together() -> None:
    """Lets malloc share two heaps among all threads; before they start.

    It would give each of a few dozen threads of XLA and TensorStore a heap of its own, up to eight
    per core; what they free in turn then fits nowhere, and a process grows for hours. The
    environment's MALLOC_ARENA_MAX stands instead where it is set.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with _another_malloc():
            ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX


def give_back() -> None:
    """Gives the system what is free; now and then, for it must be asked for anew.

    Else it depends on the order of what is taken and freed for how long a heap still grows.
    """
    with _another_malloc():
        ctypes.CDLL(None).malloc_trim(0)


def _another_malloc() -> contextlib.AbstractContextManager:
    """Leaves out what another system's malloc does not know."""
    return contextlib.suppress(OSError, AttributeError, TypeError)
