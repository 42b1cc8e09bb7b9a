"""The mesh of devices and how arrays lie on it: pictures split along the batch, all else copied."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sevi_jax.config import Config
from sevi_jax.errors import InputError


def data_mesh(config: Config) -> Mesh:
    """Makes the mesh with the one axis ``"data"`` over `mesh.devices` devices (0: all).

    Raises:
        InputError: if there are fewer devices, or a batch does not divide among them.
    """
    available = jax.devices()
    wanted = config.mesh.devices or len(available)
    if wanted > len(available):
        raise InputError(
            f"mesh.devices={wanted} must be at most {len(available)}, the devices here"
        )
    for section in ("train", "eval"):
        batch = config[section].batch
        if batch % wanted:
            raise InputError(
                f"{section}.batch={batch} must be a multiple of the {wanted} devices (mesh.devices)"
            )
    return jax.make_mesh(
        (wanted,), ("data",), axis_types=(AxisType.Auto,), devices=available[:wanted]
    )


def copied(mesh: Mesh) -> NamedSharding:
    """Sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())
