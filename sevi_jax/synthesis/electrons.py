"""Draws electron positions on the detector from shell parameters, chunk by chunk.

cos(theta) comes from an alias table over equal cells of |cos(theta)|: the cell masses are exact
Legendre integrals, and inside a cell the density is the straight line between its edges. An
inverse-CDF table would be steep, and so coarse, where the density is near zero; this one is not.
"""

import functools
import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.physics.legendre import legendre_integrals, legendre_values, with_constant

_CELL_BITS = 9  # 512 cells in |cos(theta)|


@flax.struct.dataclass
class AngleTable:
    """Alias table of |cos(theta)| of one shell; K cells of width 1 / K.

    Attributes:
        keep: probability to stay in the cell that was picked, ``[K]``.
        alias: cell taken otherwise, ``[K]`` int32.
        left: density at the cell's lower edge over its sum at both edges, ``[K]``.
    """

    keep: jax.Array
    alias: jax.Array
    left: jax.Array


@functools.cache
def _cell_tables(num_orders: int) -> tuple[np.ndarray, np.ndarray]:
    """Legendre integrals over cells ``[K, L + 1]``, values at their edges ``[K + 1, L + 1]``."""
    edges = np.linspace(0, 1, 2**_CELL_BITS + 1)
    masses = legendre_integrals(edges, num_orders)
    return masses.astype(np.float32), legendre_values(edges, num_orders).astype(np.float32)


def angle_table(beta: jax.Array) -> AngleTable:
    """Builds the alias table of one shell's |cos(theta)|.

    Alias tables (Walker 1977) are usually filled one cell after the other. Here all at once: in the
    order of cells, the deficits D of the light cells (mass < 1/K) and the surpluses S of the heavy
    ones are summed up; a light cell takes its alias from the heavy cell whose surplus interval
    holds the start of its deficit, and a heavy cell used up by the deficit that crosses its end is
    topped up by the next heavy cell (Hübschle-Schneider and Sanders 2019).

    Args:
        beta: ``[L]``; the density must be nowhere negative (rounding is clipped).

    Returns:
        The table.
    """
    integrals, edge_values = _cell_tables(beta.shape[-1])
    coefficients = with_constant(beta)
    cells = integrals.shape[0]
    mass = jnp.maximum(jnp.matmul(integrals, coefficients, precision="highest"), 0.0)
    mass = mass * (cells / jnp.sum(mass))
    edge = jnp.maximum(jnp.matmul(edge_values, coefficients, precision="highest"), 0.0)
    total = edge[:-1] + edge[1:]
    left = jnp.where(total > 0, edge[:-1] / jnp.where(total > 0, total, 1.0), 0.5)

    is_light = mass < 1
    number = jnp.arange(cells, dtype=jnp.int32)
    deficit = jnp.cumsum(jnp.where(is_light, 1 - mass, 0.0))
    surplus = jnp.cumsum(jnp.where(is_light, 0.0, mass - 1))
    # place of every cell among its own kind, and the cells of each kind packed to the front
    heavy_rank = jnp.cumsum(~is_light, dtype=jnp.int32)
    num_heavy = heavy_rank[-1]
    heavies = jnp.zeros(cells, jnp.int32).at[
        jnp.where(is_light, cells, heavy_rank - 1)
    ].set(number, mode="drop")  # fmt: skip

    def heavy_at(rank):
        return heavies[jnp.clip(rank, 0, jnp.maximum(num_heavy - 1, 0))]

    # surplus is constant over light cells, so the search may run over all cells at once
    before = deficit - jnp.where(is_light, 1 - mass, 0.0)
    host = jnp.searchsorted(surplus, before, side="right").astype(jnp.int32)
    light_alias = heavy_at(heavy_rank[jnp.clip(host, 0, cells - 1)] - 1)
    crossing = jnp.searchsorted(deficit, surplus, side="left")
    is_crossed = crossing < cells
    residual = 1 + surplus - deficit[jnp.clip(crossing, 0, cells - 1)]
    heavy_keep = jnp.where(is_crossed, jnp.clip(residual, 0.0, 1.0), 1.0)
    return AngleTable(
        keep=jnp.where(is_light, mass, heavy_keep),
        alias=jnp.where(is_light, light_alias, heavy_at(heavy_rank)),
        left=left,
    )


def _unit(bits: jax.Array, num_bits: int) -> jax.Array:
    """Turns the low `num_bits` bits into the middle of one of 2^num_bits steps in (0, 1)."""
    low = bits & jnp.uint32(2**num_bits - 1)
    return (low.astype(jnp.float32) + 0.5) * jnp.float32(2.0**-num_bits)


def draw_abs_cosine(pick: jax.Array, within: jax.Array, table: AngleTable) -> jax.Array:
    """Draws |cos(theta)| from the density of a shell.

    Args:
        pick: random bits, uint32 ``[N]``, for the cell.
        within: uniform numbers in (0, 1), ``[N]``, for the place in the cell.
        table: the shell's `angle_table`.

    Returns:
        ``[N]`` float32 in [0, 1].
    """
    cells = table.keep.shape[0]
    cell = (pick >> (32 - _CELL_BITS)).astype(jnp.int32)
    stays = _unit(pick, 32 - _CELL_BITS) < table.keep[cell]
    cell = jnp.where(stays, cell, table.alias[cell])
    left = table.left[cell]
    right = 1 - left
    # inverse CDF of a straight line that is `left` at 0 and `right` at 1, free of cancellation
    root = jnp.sqrt(left * left + within * (right * right - left * left))
    place = within / jnp.maximum(left + root, 1e-12)
    return (cell.astype(jnp.float32) + place) * jnp.float32(1 / cells)


def draw_electrons(
    key: jax.Array, radius: jax.Array, sigma: jax.Array, table: AngleTable, number: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Draws electrons of one shell and where they meet the detector (docs/course.md).

    Args:
        key: scalar typed key.
        radius: mean radius, scalar, half-widths.
        sigma: standard deviation of the radius, scalar, half-widths.
        table: the shell's `angle_table`.
        number: N, static.

    Returns:
        r, cos(theta), x and z, each ``[N]`` float32; lengths in half-widths. x and z may lie
        outside the detector.
    """
    pick_key, angle_key, radius_key = jax.random.split(key, 3)
    pick = jax.random.bits(pick_key, (number,), jnp.uint32)
    angle = jax.random.bits(angle_key, (number,), jnp.uint32)
    # one word for three: 20 bits of phi, 11 bits for the place in a cell that is 1/512 wide, one
    # for the sign of z. The steps, 2^-20, are far below a pixel.
    phi_unit = _unit(angle >> 12, 20)
    cosine = draw_abs_cosine(pick, _unit(angle >> 1, 11), table)
    upward = (angle & 1) == 1
    r = radius + sigma * jax.random.normal(radius_key, (number,), jnp.float32)
    sine = jnp.sqrt((1 - cosine) * (1 + cosine))
    x = r * sine * _cos_pi(phi_unit)
    signed = jnp.where(upward, cosine, -cosine)
    return r, signed, x, r * signed


def _cos_pi(unit: jax.Array) -> jax.Array:
    """cos(pi u) for u in (0, 1): phi in (0, pi) is enough, since y is lost.

    The Taylor series of the sine about u = 1/2, to the 11th power: error below 6e-8, and several
    times faster on the CPU than a cosine that must reduce any argument.
    """
    angle = jnp.float32(np.pi) * (0.5 - unit)
    square = angle * angle
    value = jnp.float32(-1 / math.factorial(11))
    for power in (9, 7, 5, 3, 1):
        sign = 1 if power % 4 == 1 else -1
        value = jnp.float32(sign / math.factorial(power)) + square * value
    return angle * value
