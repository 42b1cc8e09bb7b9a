"""A file of camera frames to a file of electrons, in bounded memory; knows no shells."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

import sevi_jax
from sevi_jax.data import fields
from sevi_jax.data.frame_files import FoundElectrons, FrameTable, check_event_path, open_frames
from sevi_jax.detection.blur import position_blur
from sevi_jax.detection.detector import Detections, Detector, estimate_model
from sevi_jax.errors import InputError
from sevi_jax.synthesis.frames import SpotModel

PIXELS_AT_ONCE = 32 << 20  # of a block of frames
MOST_AT_ONCE = 256  # frames of a block
WORKERS = 2  # blocks that are searched at the same time


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `detect_file` did.

    Attributes:
        frames: of the input.
        electrons: found.
        resumed: frames that an earlier run had done.
        repeated: frames whose ImageId an earlier frame of the file has.
        model: the spots' shapes as estimated from the file.
        blur: standard deviation of the errors of x and of z, half-widths; see `detection.blur`.
    """

    frames: int
    electrons: int
    resumed: int
    repeated: int
    model: SpotModel
    blur: float

    def __str__(self) -> str:
        rows = [
            f"{self.frames} frames with {self.electrons} electrons, "
            f"{self.electrons / self.frames:.1f} a frame",
            f"spots: amplitude {self.model.amplitude_mean:.1f} ± {self.model.amplitude_sd:.1f}, "
            f"width {self.model.width_mean:.5f} ± {self.model.width_sd:.5f}",
            f"positions: ± {self.blur:.5f} half-widths along each axis, on frames drawn likewise",
        ]
        if self.resumed:
            rows.insert(0, f"{self.resumed} frames were done before")
        if self.repeated:
            rows.append(f"warning: {self.repeated} frames have the ImageId of an earlier frame")
        return "\n".join(rows)


def detect_file(
    path: str | pathlib.Path, output: str | pathlib.Path, progress: bool = True
) -> Summary:
    """Finds the electrons on all frames of a file.

    A run that was interrupted goes on where it stopped, from ``<output>.partial/`` beside the
    output. An output that exists is replaced when the new one is complete.

    Args:
        path: HDF5 file with the table FinalImage: ImageId, Image (square, uint8).
        output: event file to write, .h5: table DetectedElectrons with ImageId, ElectronId, x, z
            (half-widths of the detector), amplitude (grey levels) and residual (chi-square per bin
            around the electron; far above 1: do not trust it), with the attribute blur.
        progress: show frames per second and the time left on stderr.

    Raises:
        InputError: the input is not such a file, or the output cannot be written.
    """
    path, output = pathlib.Path(path), pathlib.Path(output)
    check_event_path(output)
    with open_frames(path) as table, FoundElectrons(output, _identity(path, table)) as found:
        resumed = found.progress.frames
        batch = max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // table.size**2))
        model = _model(table, found, batch)
        detector = Detector(table.size, model, batch)
        blur = _blur(table, found, detector, batch)
        with tqdm(total=table.number, initial=resumed, unit=" frames", desc=path.name,
                  disable=not progress, smoothing=0.05) as bar:  # fmt: skip
            for ids, detections in _detected(table, detector, batch, resumed):
                found.add(
                    ids[detections.frame],
                    {
                        fields.X: detections.positions[:, 0],
                        fields.Z: detections.positions[:, 1],
                        fields.AMPLITUDE: detections.amplitude,
                        fields.RESIDUAL: detections.residual,
                    },
                )
                found.progress.notes["ids"] += ids.tolist()
                found.record(len(ids))
                bar.update(len(ids))
        done = found.progress
        found.finish(blur)
        ids = done.notes["ids"]
        return Summary(table.number, done.electrons, resumed, len(ids) - len(set(ids)), model, blur)


def _identity(path: pathlib.Path, table: FrameTable) -> dict:
    """What the result depends on."""
    status = os.stat(path)
    return {
        "input": str(path.resolve()),
        "bytes": status.st_size,
        "modified": status.st_mtime_ns,
        "frames": table.number,
        "size": table.size,
        "version": sevi_jax.__version__,
    }


def _model(table: FrameTable, found: FoundElectrons, batch: int) -> SpotModel:
    """The spots' shapes: as recorded by the run that began, else from the first block."""
    notes = found.progress.notes
    if "model" not in notes:
        _, frames = next(table.blocks(batch))
        notes |= {"model": dataclasses.asdict(estimate_model(frames)), "ids": []}
    return SpotModel(**notes["model"])


def _blur(table: FrameTable, found: FoundElectrons, detector: Detector, batch: int) -> float:
    """The errors of positions: as recorded by the run that began, else from the first block."""
    notes = found.progress.notes
    if "blur" not in notes:
        _, frames = next(table.blocks(batch))
        notes["blur"] = position_blur(detector, detector.detect(frames), len(frames))
    return notes["blur"]


def _detected(
    table: FrameTable, detector: Detector, batch: int, start: int
) -> Iterator[tuple[np.ndarray, Detections]]:
    """Yields (ImageId of each frame, electrons) block after block; some are ahead in threads.

    Where the file cannot be read any further, what was read before is yielded first.
    """
    waiting: collections.deque[tuple[np.ndarray, Future[Detections]]] = collections.deque()
    blocks = table.blocks(batch, start)
    failure = None
    with ThreadPoolExecutor(WORKERS) as workers:
        while True:
            try:
                ids, frames = next(blocks)
            except StopIteration:
                break
            except InputError as error:
                failure = error
                break
            waiting.append((ids, workers.submit(detector.detect, frames.copy())))
            if len(waiting) > WORKERS:
                ids, coming = waiting.popleft()
                yield ids, coming.result()
        while waiting:
            ids, coming = waiting.popleft()
            yield ids, coming.result()
    if failure:
        raise failure
