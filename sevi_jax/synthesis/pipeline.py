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


def draw_shells(key: jax.Array, spec: SynthesisSpec) -> tuple[ShellParams, jax.Array]:
    """Draws the shells of one picture; as `sample_shells`, with the exposure in the electrons.

    Args:
        key: scalar typed key.
        spec: how pictures are drawn.
    """
    params, attempts = sample_shells(key, spec.prior)
    if spec.exposure == (1.0, 1.0):
        return params, attempts
    low, high = np.log(spec.exposure).astype(np.float32)
    exposure_key = jax.random.fold_in(key, len(spec.prior))  # the shells take 0, 1, ...
    exposure = jnp.exp(jax.random.uniform(exposure_key, (), jnp.float32, low, high))
    electrons = jnp.round(params.electrons.astype(jnp.float32) * exposure)
    electrons = jnp.maximum(electrons, 1).astype(jnp.int32)
    return dataclasses.replace(params, electrons=electrons), attempts


def render(key: jax.Array, params: ShellParams, spec: SynthesisSpec) -> jax.Array:
    """Draws the counts of one picture from its shells, ``[side, side]`` int32."""
    if spec.renderer == "electrons":
        return render_electrons(key, params, spec.image, spec.chunk)
    return render_poisson(key, params, spec.image)


def draw_picture(key: jax.Array, spec: SynthesisSpec) -> Pictures:
    """Draws one picture and its shells; arrays without the batch axis."""
    shell_key, count_key = jax.random.split(key)
    params, attempts = draw_shells(shell_key, spec)
    return Pictures(render(count_key, params, spec), params, attempts)


def draw_pictures(key: jax.Array, number: int, spec: SynthesisSpec, mesh: Mesh) -> Pictures:
    """Draws a batch of pictures, each device its own part of it.

    The key is split over the whole batch, so the pictures do not depend on the number of devices.
    That is exact for the shells' parameters, because every device draws those of the whole batch:
    the last bits of a vectorised computation depend on its length. It is exact for the counts of
    ``"electrons"``, too. The counts of ``"poisson"`` are drawn about means that are computed for a
    device's pictures side by side; the means differ by rounding, and so, in about one pixel of
    10^5, the count by one.
    `shard_map` keeps every loop (redrawing, rejection, chunks) on its device: no collective.

    Args:
        key: scalar typed key.
        number: B, a multiple of the number of devices.
        spec: how pictures are drawn.
        mesh: mesh with the axis ``"data"``.

    Returns:
        The batch, sharded over ``"data"`` along the first axis.
    """

    def draw_local(keys: jax.Array, part: jax.Array) -> Pictures:
        shell_keys, count_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        drawn = jax.vmap(functools.partial(draw_shells, spec=spec))(shell_keys)
        # kept apart: fused with what follows, the parameters would depend on that
        drawn = jax.lax.optimization_barrier(drawn)
        size = number // mesh.size

        def of_device(x: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(x, part[0] * size, size)

        params, attempts = jax.tree.map(of_device, drawn)
        draw: Callable = functools.partial(render, spec=spec)
        if spec.renderer == "electrons":
            # one picture after the other: a picture keeps the device busy, and its counts in cache
            counts = jax.lax.map(lambda args: draw(*args), (of_device(count_keys), params))
        else:
            counts = jax.vmap(draw)(of_device(count_keys), params)
        return Pictures(counts, params, attempts)

    data, whole = PartitionSpec("data"), PartitionSpec()
    sharded = jax.shard_map(
        draw_local, mesh=mesh, in_specs=(whole, data), out_specs=data, check_vma=False
    )
    return sharded(jax.random.split(key, number), jnp.arange(mesh.size, dtype=jnp.int32))
