"""Camera frames in, found electrons out, block by block; knows not how they are found.

What was found is kept in a folder beside the output until the last frame is done, so that a run
that was interrupted goes on: rows in a plain file, which are only appended, and a record that says
how many of them count, after how many frames, of which input. The record is replaced as a whole
after every block.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, Self

import h5py
import numpy as np

from sevi_jax.data import fields
from sevi_jax.data.outputs import check_output
from sevi_jax.data.replacing import replacing
from sevi_jax.data.tables import Table, open_file
from sevi_jax.data.writers import FoundElectronsWriter
from sevi_jax.errors import InputError
from sevi_jax.locks import locked

SIZES = (64, 4096)  # pixels along each side of a frame
MAX_ELECTRONS = 2**31  # ElectronId is i4
ROWS_AT_ONCE = 1 << 16

_ROWS, _RECORD = "electrons.bin", "record.json"


class FrameTable:
    """The frames of an open file.

    Args:
        file: an HDF5 file with the table FinalImage.

    Attributes:
        number: of frames.
        size: pixels along each side.

    Raises:
        InputError: there is no such table, it is empty, or its pictures are not square uint8
            pictures of a size in `SIZES`.
    """

    def __init__(self, file: h5py.File):
        self._table = Table(file, fields.FRAMES, (fields.IMAGE_ID.at(0), fields.IMAGE.at(1)))
        self.number = self._table.rows
        dtype = self._table.dtype_of(fields.IMAGE)
        shape = dtype.shape
        if dtype.base != np.uint8 or shape[0] != shape[1] or not SIZES[0] <= shape[0] <= SIZES[1]:
            raise self._table.error(
                fields.IMAGE.name,
                f"{dtype.base}[{','.join(map(str, shape))}]",
                f"square frames of {SIZES[0]} to {SIZES[1]} pixels a side, uint8",
            )
        self.size = shape[0]

    def block_frames(self, frames: int) -> int:
        """Frames of a block of about so many: whole chunks of the file, none read twice."""
        return self._table.block_rows(frames * self._table.row_bytes)

    def buffer(self, frames: int) -> np.ndarray:
        """Memory for `read_into`."""
        return self._table.buffer(frames)

    def read_into(self, buffer: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads as many frames from `first` on as `buffer` holds, or there are.

        Returns:
            ImageId, ``[n]`` int64, and the frames, ``[n, size, size]`` uint8, a view of `buffer`.

        Raises:
            InputError: the file cannot be read there, or a number has more than 32 bits.
        """
        block = self._table.read_into(buffer, first)
        ids = block[fields.IMAGE_ID.name].astype(np.int64)
        if ids.min() < -(2**31) or ids.max() >= 2**31:
            row = first + int(np.abs(ids).argmax())
            raise self._table.error(
                fields.IMAGE_ID.name, f"{ids[row - first]} in row {row}", "a number of 32 bits"
            )
        return ids, block[fields.IMAGE.name]


@contextlib.contextmanager
def open_frames(path: str | pathlib.Path) -> Iterator[FrameTable]:
    """Opens the frames of a file; InputError as for `FrameTable` and `tables.open_file`."""
    with open_file(path) as file:
        yield FrameTable(file)


def check_event_path(path: str | pathlib.Path) -> None:
    """Raises InputError unless the name is that of an event file."""
    suffix = pathlib.Path(path).suffix
    if suffix.lower() not in fields.HDF5_SUFFIXES:
        raise InputError(f"{path}: found suffix {suffix or 'none'}, expected .h5")


@dataclasses.dataclass
class Progress:
    """How far a run has come.

    Attributes:
        frames: of the input that are done.
        electrons: found on them.
        notes: whatever the caller wants to know when it goes on; JSON.
    """

    frames: int = 0
    electrons: int = 0
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)


class FoundElectrons:
    """Electrons found so far, kept beside the output until they are complete.

    Args:
        output: the event file to write, .h5.
        belongs_to: what the result depends on, JSON; a folder with other words is begun anew.

    Attributes:
        progress: what the folder holds.
    """

    def __init__(self, output: str | pathlib.Path, belongs_to: dict[str, Any]):
        self._output = pathlib.Path(output)
        self._folder = self._output.with_name(f"{self._output.name}.partial")
        self._belongs_to = belongs_to
        self.progress = Progress()

    def __enter__(self) -> Self:
        check_output(self._output)
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(locked(self._folder, self._output, "is writing it"))
                self._rows = stack.enter_context(open(self._folder / _ROWS, "a+b"))
                self._lock = stack.pop_all()
        except OSError as error:
            raise InputError(
                f"{self._output}: found {error.strerror} for {error.filename}, expected a writable "
                "folder"
            ) from None
        self.progress = self._recorded()
        self._rows.truncate(self.progress.electrons * fields.FOUND_ELECTRON.itemsize)
        return self

    def __exit__(self, *details) -> None:
        self._rows.close()
        if not self.progress.frames:
            for name in (_ROWS, _RECORD):
                (self._folder / name).unlink(missing_ok=True)
        self._lock.close()
        if not self.progress.frames:
            with contextlib.suppress(OSError):  # where it holds anything of somebody else's
                self._folder.rmdir()

    def add(self, image_ids: np.ndarray, columns: dict[fields.Field, np.ndarray]) -> None:
        """Appends electrons; they count from the next `record` on.

        Args:
            image_ids: frame of each, ``[n]``.
            columns: x, z, amplitude and residual, ``[n]`` each.

        Raises:
            InputError: there would be more electrons than ElectronId can number.
        """
        count, first = len(image_ids), self.progress.electrons
        if first + count > MAX_ELECTRONS:
            raise InputError(
                f"{self._output}, table {fields.DETECTED}: found {first + count} electrons, "
                f"expected at most {MAX_ELECTRONS} in a file"
            )
        rows = np.empty(count, fields.FOUND_ELECTRON)
        rows[fields.IMAGE_ID.name] = image_ids
        rows[fields.ELECTRON_ID.name] = np.arange(first, first + count)
        for field, values in columns.items():
            rows[field.name] = values
        self._rows.write(rows.tobytes())
        self.progress.electrons += count

    def record(self, frames: int) -> None:
        """Says that so many more frames are done, and all that was added counts."""
        self._rows.flush()
        os.fsync(self._rows.fileno())
        self.progress.frames += frames
        record = {"belongs_to": self._belongs_to, **dataclasses.asdict(self.progress)}
        with replacing(self._folder / _RECORD, is_checked=False) as temporary:
            temporary.write_text(json.dumps(record))

    def finish(self, blur: float) -> None:
        """Writes the output; the folder is deleted.

        Args:
            blur: standard deviation of the errors of x and of z, half-widths.
        """
        self._rows.seek(0)
        with FoundElectronsWriter(self._output) as writer:
            writer.electrons(np.zeros(0, fields.FOUND_ELECTRON))
            writer.blur(blur)
            while data := self._rows.read(ROWS_AT_ONCE * fields.FOUND_ELECTRON.itemsize):
                writer.electrons(np.frombuffer(data, fields.FOUND_ELECTRON))
        self.progress = Progress()

    def _recorded(self) -> Progress:
        """What the folder holds of this input; nothing where it is damaged or of another one."""
        try:
            record = json.loads((self._folder / _RECORD).read_text())
            belongs_to = record.pop("belongs_to")
            progress = Progress(**record)
            size = progress.electrons * fields.FOUND_ELECTRON.itemsize
            if belongs_to == self._belongs_to and os.fstat(self._rows.fileno()).st_size >= size:
                return progress
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return Progress()
