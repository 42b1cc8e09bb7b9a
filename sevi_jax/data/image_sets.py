"""Image sets with their truth: pictures of counts and the shells that made each, block by block."""

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np

from sevi_jax.data import fields
from sevi_jax.data.tables import Table, find_dataset, has_dataset, open_file, read_blocks
from sevi_jax.errors import InputError

_PIXELS_AT_ONCE = 16 << 20


@dataclasses.dataclass(frozen=True)
class ImageSetPart:
    """Some pictures of an image set and their S shells, inner first.

    Attributes:
        ids: ImageId of each, ``[n]``.
        counts: ``[n, H, W]``, as stored.
        radius, sigma: half-widths of the detector, ``[n, S]``.
        electrons: ``[n, S]``.
        beta: the course's convention, ``[n, S, N]``.
    """

    ids: np.ndarray
    counts: np.ndarray
    radius: np.ndarray
    sigma: np.ndarray
    electrons: np.ndarray
    beta: np.ndarray


def has_truth(path: str | pathlib.Path) -> bool:
    """Whether an HDF5 file is an image set with its shells."""
    with open_file(path) as file:
        return has_dataset(file, fields.IMAGES) and has_dataset(file, fields.SHELLS)


def read_image_set(path: str | pathlib.Path) -> Iterator[ImageSetPart]:
    """Reads pictures and shells, as `writers.ImageSetWriter` writes them, in bounded memory.

    Raises:
        InputError: tables are missing or damaged, or do not belong to each other.
    """
    columns = (
        fields.IMAGE_ID.at(0),
        fields.SHELL_ID.at(1),
        fields.RADIUS.at(2),
        fields.SIGMA.at(3),
        fields.ELECTRONS.at(4),
        fields.BETA.at(5),
    )
    with open_file(path) as file:
        data = find_dataset(file, fields.IMAGES)
        if len(data.shape) != 3 or min(data.shape) < 1 or data.dtype.kind not in "iuf":
            raise InputError(
                f"{path}, table {fields.IMAGES}: found {data.dtype} of shape {data.shape}, "
                "expected counts [pictures, H, W]"
            )
        table = Table(file, fields.SHELLS, columns)
        truth = _sorted(table, len(data))
        block = max(1, _PIXELS_AT_ONCE // int(np.prod(data.shape[1:])))
        first = 0
        for counts in read_blocks(data, block):
            if not ((counts >= 0) & (counts < np.inf)).all():
                raise InputError(
                    f"{path}, table {fields.IMAGES}: found a value that is no count in pictures "
                    f"{first} to {first + len(counts) - 1}, expected numbers from 0"
                )
            part = slice(first, first + len(counts))
            shells = (truth[x.name][part] for x in columns[2:])
            yield ImageSetPart(np.arange(len(data))[part], counts, *shells)
            first += len(counts)


def _sorted(table: Table, pictures: int) -> dict[str, np.ndarray]:
    """The columns as ``[pictures, S, ...]``, inner shell first."""
    columns = table.read()
    for name, values in columns.items():
        if not np.isfinite(values).all():
            raise table.error(name, "a value that is not finite", "finite numbers")
    ids = columns[fields.IMAGE_ID.name].astype(np.int64)
    shells, rest = divmod(table.rows, pictures)
    order = np.lexsort((columns[fields.RADIUS.name], ids))
    if rest or not np.array_equal(ids[order], np.repeat(np.arange(pictures), shells)):
        raise table.error(
            fields.IMAGE_ID.name,
            f"{table.rows} rows with ImageId {ids.min()} to {ids.max()}",
            f"as many rows for each of the {pictures} pictures, 0 to {pictures - 1}",
        )
    return {
        name: values[order].reshape(pictures, shells, *values.shape[1:]).astype(np.float64)
        for name, values in columns.items()
    }
