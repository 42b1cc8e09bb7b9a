"""From keys to pictures: the only place that puts the stages of the synthesis together."""

import dataclasses
import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from sevi_jax.physics.expected import expected_counts
from sevi_jax.physics.types import ImageSpec, ShellParams
from sevi_jax.synthesis.electrons import angle_table, draw_electrons
from sevi_jax.synthesis.poisson import sample_poisson
from sevi_jax.synthesis.prior import Prior, sample_shells
from sevi_jax.synthesis.raster import add_positions

RENDERERS = ("electrons", "poisson")


@dataclasses.dataclass(frozen=True)
class SynthesisSpec:
    """How pictures are drawn; hashable, so static under jit.

    Attributes:
        prior: one entry per shell, inner shell first.
        image: shape of the picture.
        renderer: ``"electrons"`` draws and counts every electron; ``"poisson"`` draws Poisson
            numbers around the expected counts (the number of electrons then fluctuates too).
        chunk: electrons drawn at a time; memory grows with this and not with their number.
        exposure: (low, high) of a factor on the electron numbers of all shells of a picture,
            log-uniform; (1, 1) keeps the prior's numbers.
    """

    prior: Prior
    image: ImageSpec
    renderer: str = "electrons"
    chunk: int = 2**18
    exposure: tuple[float, float] = (1.0, 1.0)


@flax.struct.dataclass
class Pictures:
    """A batch of pictures and what they were drawn from.

    Attributes:
        counts: ``[B, side, side]`` int32.
        params: the shells, arrays ``[B, S]`` and ``[B, S, L]``.
        attempts: beta vectors drawn per shell until the density was positive, ``[B, S]`` int32.
    """

    counts: jax.Array
    params: ShellParams
    attempts: jax.Array


def render_electrons(
    key: jax.Array, params: ShellParams, image: ImageSpec, chunk: int
) -> jax.Array:
    """Draws every electron of one picture and counts them in pixels.

    Args:
        key: scalar typed key.
        params: shells of one picture, arrays ``[S]`` and ``[S, L]``.
        image: shape of the picture.
        chunk: electrons drawn at a time.

    Returns:
        ``[side, side]`` int32; electrons outside the detector are left out.
    """
    counts = jnp.zeros(image.side * image.side, jnp.int32)
    number = jnp.arange(chunk, dtype=jnp.int32)
    for shell in range(params.radius.shape[-1]):
        shell_key = jax.random.fold_in(key, shell)
        table = angle_table(params.beta[shell])
        radius, sigma, electrons = (
            x[shell] for x in (params.radius, params.sigma, params.electrons)
        )

        def add_chunk(i, counts, *, key=shell_key, table=table, shell=(radius, sigma, electrons)):
            radius, sigma, electrons = shell
            _, _, x, z = draw_electrons(jax.random.fold_in(key, i), radius, sigma, table, chunk)
            return add_positions(counts, x, z, number < electrons - i * chunk, image)

        counts = jax.lax.fori_loop(0, (electrons + chunk - 1) // chunk, add_chunk, counts)
    return counts.reshape(image.side, image.side)


def render_poisson(key: jax.Array, params: ShellParams, image: ImageSpec) -> jax.Array:
    """Draws Poisson counts around the expected counts of one picture; as `render_electrons`."""
    return sample_poisson(key, jnp.maximum(expected_counts(params, image), 0.0))


def draw_picture(key: jax.Array, spec: SynthesisSpec) -> Pictures:
    """Draws one picture and its shells; arrays without the batch axis."""
    shell_key, count_key = jax.random.split(key)
    params, attempts = sample_shells(shell_key, spec.prior)
    if spec.exposure != (1.0, 1.0):
        low, high = np.log(spec.exposure).astype(np.float32)
        exposure_key = jax.random.fold_in(key, 2)
        exposure = jnp.exp(jax.random.uniform(exposure_key, (), jnp.float32, low, high))
        electrons = jnp.round(params.electrons.astype(jnp.float32) * exposure)
        electrons = jnp.maximum(electrons, 1).astype(jnp.int32)
        params = dataclasses.replace(params, electrons=electrons)
    if spec.renderer == "electrons":
        counts = render_electrons(count_key, params, spec.image, spec.chunk)
    else:
        counts = render_poisson(count_key, params, spec.image)
    return Pictures(counts, params, attempts)


def draw_pictures(key: jax.Array, number: int, spec: SynthesisSpec, mesh: Mesh) -> Pictures:
    """Draws a batch of pictures, each device its own part of it.

    The key is split over the whole batch, so the pictures do not depend on the number of devices:
    bit for bit for ``"electrons"``; to the last bit of the shells' parameters for ``"poisson"``,
    whose pictures are computed side by side, in vectors of another length.
    `shard_map` keeps every loop (redrawing, rejection, chunks) on its device: no collective.

    Args:
        key: scalar typed key.
        number: B, a multiple of the number of devices.
        spec: how pictures are drawn.
        mesh: mesh with the axis ``"data"``.

    Returns:
        The batch, sharded over ``"data"`` along the first axis.
    """
    draw: Callable = functools.partial(draw_picture, spec=spec)
    if spec.renderer == "electrons":
        # one picture after the other: a picture keeps the device busy, and its counts in cache
        draw_local = functools.partial(jax.lax.map, draw)
    else:
        draw_local = jax.vmap(draw)
    data = PartitionSpec("data")
    sharded = jax.shard_map(draw_local, mesh=mesh, in_specs=data, out_specs=data, check_vma=False)
    return sharded(jax.random.split(key, number))
