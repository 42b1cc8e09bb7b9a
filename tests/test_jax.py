"""Checks the installed JAX for a defect that would make every number of this program suspect.

JAX 0.10.2 computes wrong values under jit on the CPU where a vmapped matrix-vector product is
followed by a sum (JAX issue 39103). No version is left out by its name: the defect itself is looked
for, in whatever version is installed, and the message of the failure says what to do.
"""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sevi_jax import commands, soundness
from sevi_jax.errors import InputError
from sevi_jax.soundness import remedy, squared_norms


# 0.10.2 is right up to n = 32 768; here its rows from number 32 768 on are wrong (1 and 8193).
@pytest.mark.parametrize("n", [32_769, 40_961])
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "argument"])
def test_vmapped_matrix_vector_product_then_sum(n, constant):
    matrix = np.eye(3, dtype=np.float32)
    vectors = np.zeros((n, 3), np.float32)
    vectors[:, 0] = np.arange(n)
    expected = ((vectors.astype(np.float64) @ matrix.astype(np.float64).T) ** 2).sum(axis=1)
    if constant:
        computed = jax.jit(lambda v: squared_norms(jnp.eye(3, dtype=jnp.float32), v))(vectors)
    else:
        computed = jax.jit(squared_norms)(matrix, vectors)
    # One rounding of the square: the defect is wrong in the third digit.
    np.testing.assert_allclose(np.asarray(computed), expected, rtol=3e-7, err_msg=remedy())


def test_commands_refuse_a_jax_with_the_defect(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.10.9")
    commands.require_sound_jax()

    def wrong_from_32768_on(matrix, vectors):
        return jnp.where(jnp.arange(len(vectors)) < 32_768, vectors[:, 0] ** 2, jnp.float32(1))

    monkeypatch.setattr(soundness, "squared_norms", wrong_from_32768_on)
    with pytest.raises(InputError, match=r"^JAX .* issue 39103.*pip install"):
        commands.require_sound_jax()
    # of a version without the defect nothing is asked
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.12.0.1")
    commands.require_sound_jax()
