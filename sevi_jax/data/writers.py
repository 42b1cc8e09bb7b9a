"""Streaming writers of the course's files and of image sets; knows no physics."""

import contextlib
import pathlib
from typing import Self

import h5py
import numpy as np

from sevi_jax.data import fields
from sevi_jax.data.outputs import ATTRIBUTE, MADE_BY
from sevi_jax.data.replacing import replacing
from sevi_jax.errors import InputError

MAX_ELECTRONS = 2**31  # ElectronId is i4

# Chunks large enough that one costs nothing next to its bytes, small enough to be read in one go.
CHUNK_BYTES = 1 << 20
TRUTH_ROWS = 64  # a chunk of the small tables
# Lets a half-filled chunk wait in memory for the next call.
CACHE_BYTES = 4 << 20

# Electron tables are not compressed: the mantissas of drawn positions are noise. gzip level 1 with
# shuffle saved 38 % of the bytes and made writing 20 x and reading 12 x slower (one core, 24-byte
# rows: 1.3 against 29 million rows/s written, 26 against 300 read).
FRAME_FILTERS = {"compression": "gzip", "compression_opts": 1}
IMAGE_FILTERS = {"compression": "gzip", "compression_opts": 1, "shuffle": True}

DETECTED_COLUMNS = (
    (fields.ELECTRON_ID, "<i4", ()),
    (fields.X, "<f8", ()),
    (fields.Z, "<f8", ()),
)
GENERATED_COLUMNS = (
    (fields.ELECTRON_ID, "<i4", ()),
    (fields.EMISSION_RADIUS, "<f8", ()),
    (fields.COSINE, "<f8", ()),
)


class _Writer:
    """An HDF5 file under a temporary name; tables are made on first use and grow by appending.

    A context manager: the file appears under its own name when the block ends without exception.
    """

    def __init__(self, path: str | pathlib.Path):
        self._path = pathlib.Path(path)
        self._stack = contextlib.ExitStack()
        self._file: h5py.File | None = None
        self._tables: dict[str, h5py.Dataset] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(replacing(self._path))
            self._file = stack.enter_context(h5py.File(temporary, "w", rdcc_nbytes=CACHE_BYTES))
            self._file.attrs[ATTRIBUTE] = MADE_BY
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *details) -> None:
        self._stack.__exit__(*details)

    def _append(self, name: str, rows: np.ndarray, chunk: int | None = None, **filters) -> None:
        """Appends along the first axis; `chunk` is in rows, by default about CHUNK_BYTES."""
        if self._file is None:
            raise ValueError(f"{self._path}: used outside its with block")
        if name not in self._tables:
            row_bytes = rows.dtype.itemsize * int(np.prod(rows.shape[1:]))
            self._tables[name] = self._file.create_dataset(
                name,
                (0, *rows.shape[1:]),
                rows.dtype,
                maxshape=(None, *rows.shape[1:]),
                chunks=(chunk or max(1, CHUNK_BYTES // row_bytes), *rows.shape[1:]),
                **filters,
            )
            if fields.BETA.name in (rows.dtype.names or ()):
                self._tables[name].attrs["convention"] = fields.CONVENTION
        data = self._tables[name]
        start = len(data)
        data.resize(start + len(rows), axis=0)
        data[start:] = rows


class _ElectronWriter(_Writer):
    """Numbers electrons over the whole file and splits them into generated and detected."""

    def __init__(self, path: str | pathlib.Path):
        super().__init__(path)
        self._electrons = 0

    def _append_electrons(
        self,
        generated: tuple[fields.Field, str, np.ndarray | int],
        detected: tuple[fields.Field, str, np.ndarray] | None,
        columns: dict[str, np.ndarray],
        mask: np.ndarray,
    ) -> None:
        count = len(mask)
        if any(np.shape(column) != (count,) for column in columns.values()):
            shapes = {name: np.shape(column) for name, column in columns.items()}
            raise ValueError(f"columns {shapes} must all be [{count}] like the mask")
        if self._electrons + count > MAX_ELECTRONS:
            raise InputError(
                f"{self._path}, table {fields.GENERATED}, field {fields.ELECTRON_ID.name}: found "
                f"{self._electrons + count} electrons, expected at most {MAX_ELECTRONS} in a file"
            )
        electron = np.arange(self._electrons, self._electrons + count)
        self._electrons += count

        field, kind, values = generated
        rows = np.empty(count, fields.row_type((field, kind, ()), *GENERATED_COLUMNS))
        rows[field.name] = values
        rows[fields.ELECTRON_ID.name] = electron
        rows[fields.EMISSION_RADIUS.name] = columns["r"]
        rows[fields.COSINE.name] = columns["costheta"]
        self._append(fields.GENERATED, rows)

        seen = np.asarray(mask, bool)
        first = () if detected is None else ((detected[0], detected[1], ()),)
        rows = np.empty(int(seen.sum()), fields.row_type(*first, *DETECTED_COLUMNS))
        if detected is not None:
            rows[detected[0].name] = np.asarray(detected[2])[seen]
        rows[fields.ELECTRON_ID.name] = electron[seen]
        rows[fields.X.name] = np.asarray(columns["x"])[seen]
        rows[fields.Z.name] = np.asarray(columns["z"])[seen]
        self._append(fields.DETECTED, rows)


class DistributionsWriter(_ElectronWriter):
    """Writes a file of the second kind: many single-shell distributions and their electrons.

    Args:
        path: the file to write.
        orders: anisotropy parameters of a distribution, N.
    """

    def __init__(self, path: str | pathlib.Path, orders: int):
        super().__init__(path)
        self._type = fields.row_type(
            (fields.DISTRIBUTION_ID, "<i4", ()),
            (fields.RADIUS, "<f8", ()),
            (fields.SIGMA, "<f8", ()),
            (fields.BETA, "<f8", (orders,)),
        )
        self._known: set[int] = set()

    def add(self, distribution_id: int, radius: float, sigma: float, beta: np.ndarray) -> None:
        """Adds one distribution: lengths in half-widths of the detector, beta ``[N]``."""
        if distribution_id in self._known:
            raise ValueError(f"distribution_id={distribution_id} must be added only once")
        self._known.add(distribution_id)
        row = np.zeros(1, self._type)
        row[fields.DISTRIBUTION_ID.name] = distribution_id
        row[fields.RADIUS.name], row[fields.SIGMA.name] = radius, sigma
        row[fields.BETA.name] = _vector(beta, self._type[fields.BETA.name].shape)
        self._append(fields.DISTRIBUTIONS, row, chunk=TRUTH_ROWS)

    def electrons(
        self,
        distribution_id: int,
        r: np.ndarray,
        costheta: np.ndarray,
        x: np.ndarray,
        z: np.ndarray,
        detected: np.ndarray,
    ) -> None:
        """Appends generated electrons of one distribution, any number of times.

        Args:
            distribution_id: a distribution that was added.
            r, costheta: where each was emitted, ``[n]``.
            x, z: where each would hit the detector, ``[n]``.
            detected: which of them are recorded, ``[n]`` bool.
        """
        if distribution_id not in self._known:
            raise ValueError(f"distribution_id={distribution_id} must be added first")
        self._append_electrons(
            (fields.DISTRIBUTION_ID, "<i4", distribution_id),
            None,
            {"r": r, "costheta": costheta, "x": x, "z": z},
            detected,
        )


class PairWriter(_ElectronWriter):
    """Writes a file of the first kind (a pair of shells with camera frames), or only its frames.

    Each method may be left out: with `frames` alone the file is like ``finaltest.h5``.

    Args:
        path: the file to write.
        orders: anisotropy parameters of a shell, N.
    """

    def __init__(self, path: str | pathlib.Path, orders: int):
        super().__init__(path)
        self._orders = orders

    def truth(self, radius: np.ndarray, sigma: np.ndarray, beta: np.ndarray) -> None:
        """Writes the S shells, inner first: ``[S]``, ``[S]`` in half-widths, ``[S, N]``."""
        row_type = fields.row_type(
            (fields.SPHERE_ID, "u1", ()),
            (fields.RADIUS, "<f8", ()),
            (fields.SIGMA, "<f8", ()),
            (fields.BETA, "<f8", (self._orders,)),
        )
        rows = np.zeros(len(radius), row_type)
        rows[fields.SPHERE_ID.name] = np.arange(len(radius))
        rows[fields.RADIUS.name], rows[fields.SIGMA.name] = radius, sigma
        rows[fields.BETA.name] = _vector(beta, (len(radius), self._orders))
        self._append(fields.TRUTH, rows, chunk=TRUTH_ROWS)

    def frames(self, image_ids: np.ndarray, images: np.ndarray) -> None:
        """Appends camera frames: ids ``[n]``, grey values ``[n, H, W]`` uint8."""
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 3:
            raise ValueError(f"images {images.dtype}{images.shape} must be uint8 [n, H, W]")
        row_type = fields.row_type(
            (fields.IMAGE_ID, "<i4", ()), (fields.IMAGE, "u1", images.shape[1:])
        )
        rows = np.empty(len(images), row_type)
        rows[fields.IMAGE_ID.name], rows[fields.IMAGE.name] = image_ids, images
        # One frame per chunk: any frame is read without its neighbours.
        self._append(fields.FRAMES, rows, chunk=1, **FRAME_FILTERS)

    def electrons(
        self,
        sphere_id: np.ndarray,
        r: np.ndarray,
        costheta: np.ndarray,
        image_id: np.ndarray,
        x: np.ndarray,
        z: np.ndarray,
        detected: np.ndarray,
    ) -> None:
        """Appends generated electrons, any number of times.

        Args:
            sphere_id: the shell of each, 0 for the inner one, ``[n]``.
            r, costheta: where each was emitted, ``[n]``.
            image_id: the frame that shows it, ``[n]``.
            x, z: where each would hit the detector, ``[n]``.
            detected: which of them are recorded, ``[n]`` bool.
        """
        self._append_electrons(
            (fields.SPHERE_ID, "u1", sphere_id),
            (fields.IMAGE_ID, "<i4", image_id),
            {"r": r, "costheta": costheta, "x": x, "z": z},
            detected,
        )


class FoundElectronsWriter(_Writer):
    """Writes the electrons that were found on camera frames: an event file without truth."""

    def electrons(self, rows: np.ndarray) -> None:
        """Appends rows of the type `fields.FOUND_ELECTRON`, any number of times."""
        self._append(fields.DETECTED, rows)

    def blur(self, value: float) -> None:
        """Notes the standard deviation of the errors of x and of z, half-widths."""
        self._tables[fields.DETECTED].attrs[fields.BLUR] = value


class ImageSetWriter(_Writer):
    """Writes pictures of counts with the shells that made them.

    The dataset ``images`` is ``[n, H, W]`` uint32; the table ``Shells`` has a row per picture and
    shell, inner shell first: ImageId, ShellId, R, sigma_R, electrons, beta.

    Args:
        path: the file to write.
        orders: anisotropy parameters of a shell, N.
    """

    def __init__(self, path: str | pathlib.Path, orders: int):
        super().__init__(path)
        self._type = fields.row_type(
            (fields.IMAGE_ID, "<i4", ()),
            (fields.SHELL_ID, "u1", ()),
            (fields.RADIUS, "<f8", ()),
            (fields.SIGMA, "<f8", ()),
            (fields.ELECTRONS, "<i8", ()),
            (fields.BETA, "<f8", (orders,)),
        )
        self._images = 0

    def add(
        self,
        counts: np.ndarray,
        radius: np.ndarray,
        sigma: np.ndarray,
        electrons: np.ndarray,
        beta: np.ndarray,
    ) -> None:
        """Appends n pictures of S shells each.

        Args:
            counts: electrons per pixel, ``[n, H, W]``, whole numbers.
            radius, sigma: of each shell, half-widths of the detector, ``[n, S]``.
            electrons: of each shell, ``[n, S]``.
            beta: ``[n, S, N]``.
        """
        counts, radius = np.asarray(counts), np.asarray(radius)
        pictures, shells = radius.shape
        rows = np.zeros((pictures, shells), self._type)
        rows[fields.IMAGE_ID.name] = self._images + np.arange(pictures)[:, None]
        rows[fields.SHELL_ID.name] = np.arange(shells)
        rows[fields.RADIUS.name], rows[fields.SIGMA.name] = radius, sigma
        rows[fields.ELECTRONS.name] = electrons
        rows[fields.BETA.name] = _vector(beta, rows[fields.BETA.name].shape)
        with np.errstate(invalid="ignore"):  # a value that does not fit is reported below
            whole = counts.astype(np.uint32)
        if len(counts) != pictures or not np.array_equal(whole, counts):
            raise ValueError(
                f"counts {counts.dtype}{counts.shape} must be whole numbers, [{pictures}, H, W]"
            )
        self._append(fields.IMAGES, whole, chunk=1, **IMAGE_FILTERS)
        self._append(fields.SHELLS, rows.reshape(-1), chunk=TRUTH_ROWS)
        self._images += pictures


def _vector(beta: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Beta as it is; ValueError where NumPy would stretch another shape to fit."""
    if np.shape(beta) != shape:
        raise ValueError(f"beta {np.shape(beta)} must be {shape}")
    return np.asarray(beta)
