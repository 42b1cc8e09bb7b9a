"""Several processes that train one network, on one machine or many, and how they agree.

All run the same program on the same data; the first one (number 0) alone writes and speaks. What it
alone can know is decided there and told to the others, and what may fail on one alone ends in the
same way on all. A process that runs alone is the first of one. Knows nothing of what is trained.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from sevi_jax.errors import InputError

JOIN_SECONDS = 300
# So long a process that ends waits for the others to end too; the first one draws figures then.
LEAVE_SECONDS = 120


class Agreed(Exception):
    """An error that all processes raise at the same place."""


class FailedElsewhere(Exception):
    """Another process has failed at the same place, and says why."""


def join(
    coordinator: str | None = None,
    number: int | None = None,
    index: int | None = None,
    seconds: float = JOIN_SECONDS,
) -> None:
    """Joins the other processes; before anything else that JAX does.

    Args:
        coordinator: ``host:port``, where the first process listens; None, with the next two: the
            cluster says (SLURM, Open MPI and others that `jax.distributed` knows).
        number: how many processes there are.
        index: which of them this is, from 0.
        seconds: how long to wait for the others. If they do not come, this process says so and ends
            with status 2 at once, for JAX would abort it.

    Raises:
        InputError: if it is not known who the others are, or the port is in use.
    """
    where = "the cluster's coordinator" if coordinator is None else f"--coordinator={coordinator}"

    def give_up() -> None:
        text = f"sevi_jax.train: {where}: not all processes came together in {seconds:g} s"
        print(text, file=sys.stderr, flush=True)
        os._exit(2)

    # JAX's own answer to SIGTERM would replace the loop's
    jax.config.update("jax_enable_preemption_service", False)
    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            coordinator,
            number,
            index,
            initialization_timeout=2 * round(seconds) + 10,
            shutdown_timeout_seconds=LEAVE_SECONDS,
        )
        jax.devices()  # where all tell each other of their devices
    except ValueError as error:
        raise InputError(
            f"--distributed: no cluster found ({error}); --coordinator=HOST:PORT, --num_processes "
            "and --process_id say who the others are"
        ) from error
    except RuntimeError as error:
        raise InputError(f"{where}: {str(error).splitlines()[0]}") from error
    finally:
        timer.cancel()


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return jax.process_index() == 0


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Ends on every process as it ends on the one that fails, which is the only one to say why.

    What is done inside must not wait for other processes.

    Raises:
        FailedElsewhere: on the others.
    """
    error = None
    try:
        yield
    except Exception as found:
        error = found
    if jax.process_count() > 1:
        failed = multihost_utils.process_allgather(np.bool_(error is not None))
        if failed.any() and failed.argmax() != jax.process_index():
            raise FailedElsewhere from error
    if error is not None:
        raise error


def from_first(decide: Callable[[], int | None]) -> int | None:
    """Returns what the first process decides: None or a number from 0.

    Raises:
        FailedElsewhere: if it fails there; there, its error.
    """
    found = None
    with together():
        if is_first():
            found = decide()
    if jax.process_count() > 1:
        told = int(multihost_utils.broadcast_one_to_all(np.int32(-1 if found is None else found)))
        found = None if told < 0 else told
    return found
