"""One process alone; several are in `test_distributed`."""

import pytest

from sevi_jax.errors import InputError
from sevi_jax.network.training import processes


def test_process_alone_is_the_first_and_decides():
    assert processes.is_first()
    assert [processes.from_first(lambda x=x: x) for x in (None, 0, 7)] == [None, 0, 7]


def test_error_of_a_process_alone_is_its_own():
    with pytest.raises(InputError, match="a: b"), processes.together():
        raise InputError("a: b")
    with pytest.raises(InputError, match="c"):
        processes.from_first(lambda: (_ for _ in ()).throw(InputError("c")))
