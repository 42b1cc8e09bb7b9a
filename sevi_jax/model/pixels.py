"""Pixels of a picture sorted by their distance from the centre into blocks; knows no shell.

The distances of the ideal picture are cut into cells of width h, the step of the grid that the
series of `physics.series` is known on. A block holds up to `LANES` pixels of one cell: to all of
them the series is a cubic through the same four points of the grid. A chunk is a number of blocks;
programs are compiled for a chunk, so pictures of all sizes share them.
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

LANES = 64
CHUNK_BLOCKS = 512


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Chunk:
    """Blocks of pixels; K blocks.

    Attributes:
        row, column: middles of the pixels, from the middle of the picture, ``[K, LANES]`` float32.
        counts: electrons, ``[K, LANES]`` float32.
        exposure: efficiency of the pixel, 0 where a lane is empty, ``[K, LANES]`` float32.
        off: mean counts without the light, ``[K, LANES]`` float32, or None.
        noise: variance of the counts where it is not their mean, ``[K, LANES]`` float32, or None.
        cell: of every block, ``[K]`` int32: distances in [cell h, cell h + h], or up to several h
            (`Layout.cells`).
    """

    row: jax.Array
    column: jax.Array
    counts: jax.Array
    exposure: jax.Array
    off: jax.Array | None
    noise: jax.Array | None
    cell: jax.Array


@dataclasses.dataclass(frozen=True)
class Sorted:
    """A picture in chunks.

    Attributes:
        chunks: on the device.
        cell: of every block of all chunks, ``[N]``, ascending but for the empty ones at the end.
        blocks: how many blocks are not empty.
        place: flat index of the pixel that lies in every lane, -1 where none, ``[N, LANES]``.
        step: h, pixels.
        points: G of the grid, ``(g - 1) h``.
    """

    chunks: list[Chunk]
    cell: np.ndarray
    blocks: int
    place: np.ndarray
    step: float
    points: int


class Pixels(NamedTuple):
    """Pixels in any order, arrays ``[N]``; what they are stands in `Chunk`."""

    row: np.ndarray
    column: np.ndarray
    counts: np.ndarray
    exposure: np.ndarray
    off: np.ndarray | None
    noise: np.ndarray | None

    def at(self, index: np.ndarray) -> "Pixels":
        """Some of them."""
        return Pixels(*(None if x is None else x[index] for x in self))  # pyright: ignore


def sort_pixels(
    distance: np.ndarray,
    pixels: Pixels,
    step: float,
    points: int,
    start: float = 0.0,
    cells: int = 1,
    chunk_blocks: int = CHUNK_BLOCKS,
) -> Sorted:
    """Sorts pixels by distance.

    Args:
        distance: of every pixel in the ideal picture, pixels, ``[N]``.
        pixels: the same pixels.
        step: h.
        points: G; pixels beyond the grid lie in its last cell, where the series is 0.
        start: where the grid begins, pixels.
        cells: steps of the grid in the cell of a block; it then has more points of the grid.
        chunk_blocks: blocks in a chunk.
    """
    cell = np.minimum(((distance - start) * (1 / step)).astype(np.int64), points - 4)
    cell = cell // cells * cells
    order = np.argsort(cell.astype(np.uint16 if points < 2**16 else np.int64), kind="stable")
    number = np.bincount(cell, minlength=points)
    blocks_of = -(-number // LANES)
    first_block = np.cumsum(blocks_of) - blocks_of
    first_pixel = np.cumsum(number) - number
    sorted_cell = cell[order]
    rank = np.arange(len(order)) - first_pixel[sorted_cell]
    lane = first_block[sorted_cell] * LANES + rank
    blocks = int(blocks_of.sum())
    chunks, total = [], -(-blocks // chunk_blocks) * chunk_blocks

    def spread(values, empty=0.0):
        found = np.full(total * LANES, empty, np.float32)
        found[lane] = values[order]
        return found.reshape(total // chunk_blocks, chunk_blocks, LANES)

    cell_of = np.repeat(np.arange(points), blocks_of).astype(np.int32)
    cell_of = np.append(cell_of, np.full(total - blocks, points - 4, np.int32))
    place = np.full(total * LANES, -1, np.int64)
    place[lane] = order
    # an empty lane lies far out, where nothing is
    far = start + (points + 4) * step
    arrays = [spread(pixels.row, far), spread(pixels.column, far)]
    arrays += [None if a is None else spread(a) for a in pixels[2:]]
    for i, c in enumerate(cell_of.reshape(total // chunk_blocks, chunk_blocks)):
        parts = [None if a is None else jax.numpy.asarray(a[i]) for a in arrays]
        chunks.append(Chunk(*parts, jax.numpy.asarray(c)))  # pyright: ignore
    return Sorted(chunks, cell_of, blocks, place.reshape(-1, LANES), step, points)
