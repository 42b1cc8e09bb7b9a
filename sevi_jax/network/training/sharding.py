"""The mesh of devices and how arrays lie on it.

Pictures are split along the batch. All else is copied to every device, or, where memory needs it,
the large arrays of the state are split too (Rajbhandari et al. 2020, arXiv:1910.02054): XLA then
gathers the parameters for a step, and each device updates its own part of them.
"""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sevi_jax.config import Config
from sevi_jax.errors import InputError

# Elements from which an array is worth splitting: all but the small ones of a ResNet-18 of width 64
# (99 % of its parameters), and messages long enough to be no matter of latency.
SPLIT_FROM = 2**14


def data_mesh(config: Config) -> Mesh:
    """Makes the mesh with the one axis ``"data"`` over `mesh.devices` devices (0: all).

    Raises:
        InputError: if there are fewer devices, a batch does not divide among them, or there are
            several processes and some of their devices are left out.
    """
    available = jax.devices()
    wanted = config.mesh.devices or len(available)
    if wanted > len(available):
        raise InputError(
            f"mesh.devices={wanted} must be at most {len(available)}, the devices here"
        )
    if jax.process_count() > 1 and wanted != len(available):
        raise InputError(
            f"mesh.devices={wanted} must be 0 or {len(available)}, all devices of all "
            f"{jax.process_count()} processes"
        )
    for section in ("train", "eval"):
        batch = config[section].batch
        if batch % wanted:
            raise InputError(
                f"{section}.batch={batch} must be a multiple of the {wanted} devices (mesh.devices)"
            )
    return first_devices(wanted)


def first_devices(number: int) -> Mesh:
    """Makes the mesh over that many devices."""
    devices = jax.devices()[:number]
    return jax.make_mesh((number,), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def copied(mesh: Mesh) -> NamedSharding:
    """Sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def whole(mesh: Mesh, tree: Any) -> Any:
    """Arrays inside a jitted function, gathered on every device where they were split."""
    return jax.lax.with_sharding_constraint(tree, copied(mesh))


def split(mesh: Mesh, tree: Any) -> Any:
    """Shardings of arrays that are split over the devices where that is worth it.

    Args:
        mesh: as `data_mesh`.
        tree: arrays or their shapes.

    Returns:
        A sharding for each: an array of `SPLIT_FROM` elements is split along its longest axis that
        the number of devices divides, if there is one.
    """

    def of(leaf: Any) -> NamedSharding:
        axes = [axis for axis, length in enumerate(leaf.shape) if length % mesh.size == 0]
        if leaf.size < SPLIT_FROM or not axes:
            return copied(mesh)
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "data"))

    return jax.tree.map(of, tree)
