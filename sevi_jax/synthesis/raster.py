"""Counts on the detector: positions to pixels, folding, normalisation. One picture; vmap outside.

First array axis is x, second is z. A full picture ``[size, size]`` covers [-1, 1] x [-1, 1]; a
folded one ``[size / 2, size / 2]`` holds the sum of the four quadrants with index 0 at the centre.
"""

import jax
import jax.numpy as jnp

from sevi_jax.physics.types import ImageSpec


def add_positions(
    counts: jax.Array, x: jax.Array, z: jax.Array, mask: jax.Array, spec: ImageSpec
) -> jax.Array:
    """Adds electrons to a picture by scatter-add.

    Electrons outside the detector, -1 <= x < 1 and -1 <= z < 1, are left out.

    Args:
        counts: ``[side * side]`` int32, the picture so far, flattened.
        x: positions ``[N]``, half-widths.
        z: positions ``[N]``, half-widths.
        mask: ``[N]`` bool; False leaves an electron out.
        spec: shape of the picture.

    Returns:
        ``[side * side]`` int32.
    """
    half = spec.size // 2

    def pixel(position):
        # position + 1 rounds to 2 just below 1
        index = jnp.floor((position + 1) * half).astype(jnp.int32)
        index = jnp.minimum(index, spec.size - 1)
        if spec.fold:
            return jnp.where(index >= half, index - half, half - 1 - index)
        return index

    inside = mask & (x >= -1) & (x < 1) & (z >= -1) & (z < 1)
    # one past the end is dropped; a negative index would count from the end
    flat = jnp.where(inside, pixel(x) * spec.side + pixel(z), spec.side * spec.side)
    return counts.at[flat].add(1, mode="drop")


def fold_counts(counts: jax.Array) -> jax.Array:
    """Folds a centred picture onto one quadrant: ``[..., H, W]`` to ``[..., H / 2, W / 2]``.

    x -> -x and z -> -z leave the density unchanged, so the sum of the four quadrants loses nothing.
    """
    half_x, half_z = counts.shape[-2] // 2, counts.shape[-1] // 2
    counts = counts[..., half_x:, :] + counts[..., half_x - 1 :: -1, :]
    return counts[..., half_z:] + counts[..., half_z - 1 :: -1]


def normalise(counts: jax.Array) -> jax.Array:
    """Divides counts by their sum, times 255 (docs/course.md); a picture without counts stays 0.

    Args:
        counts: ``[H, W]``, any real type.

    Returns:
        ``[H, W]`` float32.
    """
    counts = counts.astype(jnp.float32)
    return counts * (255 / jnp.maximum(jnp.sum(counts), 1.0))
