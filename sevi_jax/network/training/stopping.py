"""Ctrl-C and SIGTERM: noted, and answered by all processes after the same step."""

import signal
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sevi_jax.network.training.sharding import copied


class StopRequests:
    """Notes signals while it is entered; a second Ctrl-C acts at once.

    Args:
        mesh: devices of all processes.
    """

    def __init__(self, mesh: Mesh):
        self._sharding = NamedSharding(mesh, PartitionSpec("data"))
        self._number = 0  # of the first signal that came to this process
        self._largest = jax.jit(jnp.max, out_shardings=copied(mesh))

    def ask(self) -> Callable[[], str | None]:
        """Asks all processes, once a step, before the step; returns what gives the answer.

        The answer is the name of a signal, or None; the same on all processes. With several it
        counts what came before the question, which goes to the devices ahead of the step: whoever
        waits for the answer waits for the step before, not for this one.
        """
        if jax.process_count() == 1:
            return lambda: _name(self._number)
        local = np.full(jax.local_device_count(), self._number, np.int32)
        answer = self._largest(jax.make_array_from_process_local_data(self._sharding, local))
        return lambda: _name(int(answer))

    def _note(self, number: int, _frame: Any) -> None:
        if self._number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._number = self._number or number

    def __enter__(self) -> "StopRequests":
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._previous = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *unused) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def _name(number: int) -> str | None:
    return signal.Signals(number).name if number else None
