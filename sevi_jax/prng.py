"""Random keys: every random number is a function of (seed, purpose, step) and of nothing else."""

import zlib

import jax


def root_key(seed: int) -> jax.Array:
    """Returns the root key of a run: a scalar typed key."""
    return jax.random.key(seed)


def stream_key(root: jax.Array, stream: str, step: int | jax.Array = 0) -> jax.Array:
    """Derives the key of one purpose at one step.

    Args:
        root: scalar typed key of the run (see `root_key`).
        stream: name of the purpose, for instance ``"train"`` or ``"eval"``; different names give
            independent streams.
        step: step number, may be traced.

    Returns:
        A scalar typed key.
    """
    return jax.random.fold_in(jax.random.fold_in(root, zlib.crc32(stream.encode())), step)
