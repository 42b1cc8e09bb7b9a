"""Whether the installed JAX computes what this program needs correctly; knows one defect so far."""

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.errors import InputError

_VECTORS = 40_961  # the defect begins beyond 32 768


def squared_norms(matrix: jax.Array, vectors: jax.Array) -> jax.Array:
    """Returns |matrix @ v|^2 of every row v, ``[N]``: under jit product and sum are fused.

    JAX 0.10.2 computes wrong values here on the CPU (JAX issue 39103): rows from number 32 768 on.

    Args:
        matrix: ``[M, K]``.
        vectors: ``[N, K]``.
    """
    return jax.vmap(lambda vector: jnp.sum((matrix @ vector) ** 2))(vectors)


def require_sound_jax() -> None:
    """Checks JAX for the defect of `squared_norms`; takes 0.1 s.

    Raises:
        InputError: naming the defect and the remedy.
    """
    vectors = np.zeros((_VECTORS, 3), np.float32)
    vectors[:, 0] = np.arange(_VECTORS)
    found = jax.jit(squared_norms)(np.eye(3, dtype=np.float32), vectors)
    if not np.allclose(found, vectors[:, 0].astype(np.float64) ** 2, rtol=1e-5):
        raise InputError(remedy())


def remedy() -> str:
    """Says on one line what is wrong with the installed JAX and what to do."""
    return (
        f"JAX {jax.__version__} computes wrong numbers on this machine (JAX issue 39103); install "
        "another version: pip install -c constraints.txt jax, or jax==0.10.1 on Python 3.11"
    )
