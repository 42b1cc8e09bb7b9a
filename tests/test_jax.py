"""Checks the installed JAX for a defect that would make every number of this program suspect.

JAX 0.10.2 computes wrong values under jit on the CPU where a vmapped matrix-vector product is
followed by a sum (JAX issue 39103). pyproject.toml leaves that version out; this test catches the
defect if it comes back in a version that the range admits.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


def squared_norms(matrix: jax.Array, vectors: jax.Array) -> jax.Array:
    """Returns |matrix @ v|^2 of every row v: the product and the sum are fused under jit."""
    return jax.vmap(lambda vector: jnp.sum((matrix @ vector) ** 2))(vectors)


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
    np.testing.assert_allclose(np.asarray(computed), expected, rtol=3e-7)
