"""From the detector to the ideal picture: origin, angle of the polarisation, bent rings.

An ideal picture is round, about (0, 0), with the polarisation along z. A point of it at (z, x)
pixels is turned by the angle alpha, stretched by the linear map [[1 + a, b], [b, 1 - a]] on (rows,
columns), moved outwards by the factor 1 + sum_m (a_m cos m t' + b_m sin m t'), m = 3, 4, with t'
its angle on the detector from axis 0 towards axis 1, and shifted to the origin. To first order the
linear map is the harmonic m = 2 of such a factor, s -> s (1 + a cos 2t' + b sin 2t'), together with
the turn of directions that a linear stray field brings (Gascooke, Gibson, Lawrance, J. Chem. Phys.
147, 013924, 2017, have the factor alone). Means of the picture bend, its counts stay.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Order of the vector that everything here takes: pixels, pixels, radians, and ratios.
NAMES = (
    "origin_row", "origin_column", "angle", "cos2", "sin2", "cos3", "sin3", "cos4", "sin4",
)  # fmt: skip
GROUPS = {"origin": (0, 1), "angle": (2,), "ellipse": (3, 4), "harmonics": (5, 6, 7, 8)}


def directions(indices: tuple[int, ...]) -> np.ndarray:
    """Unit vectors along some of `NAMES`, ``[C, 9]``."""
    return np.eye(len(NAMES), dtype=np.float32)[list(indices)]


def to_ideal(
    row: jax.Array, column: jax.Array, geometry: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Maps points of the detector to the ideal picture.

    Args:
        row: pixels, any shape.
        column: pixels, the same shape.
        geometry: values of `NAMES`, ``[9]``; NumPy or JAX.

    Returns:
        z and x, pixels, and the logarithm of the ideal area over the detector's.
    """
    g = geometry
    r, c = row - g[0], column - g[1]
    inverse = 1 / jnp.sqrt(jnp.maximum(r * r + c * c, 1e-12))
    u, v = r * inverse, c * inverse
    cos2, sin2 = u * u - v * v, 2 * u * v
    cos3, sin3 = u * cos2 - v * sin2, v * cos2 + u * sin2
    cos4, sin4 = cos2 * cos2 - sin2 * sin2, 2 * sin2 * cos2
    growth = 1 + g[5] * cos3 + g[6] * sin3 + g[7] * cos4 + g[8] * sin4
    determinant = 1 - g[3] * g[3] - g[4] * g[4]
    scale = 1 / (growth * determinant)
    along, across = ((1 - g[3]) * r - g[4] * c) * scale, ((1 + g[3]) * c - g[4] * r) * scale
    cosine, sine = jnp.cos(g[2]), jnp.sin(g[2])
    z, x = cosine * along + sine * across, cosine * across - sine * along
    return z, x, -2 * jnp.log(growth) - jnp.log(determinant)
