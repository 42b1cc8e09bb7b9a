"""A file of camera frames to a file of electrons, in bounded memory; knows no shells."""

import collections
import contextlib
import dataclasses
import os
import pathlib
import pickle
import queue
import subprocess
import sys
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np
from tqdm import tqdm

import sevi_jax
from sevi_jax import memory
from sevi_jax.cores import cores
from sevi_jax.data import fields
from sevi_jax.data.frame_files import FoundElectrons, FrameTable, check_event_path, open_frames
from sevi_jax.detection.blur import position_blur
from sevi_jax.detection.detector import Detections, Detector, estimate_model
from sevi_jax.errors import InputError
from sevi_jax.synthesis.frames import SpotModel

PIXELS_AT_ONCE = 32 << 20  # of a block of frames
MOST_AT_ONCE = 256  # frames of a block
THREADS = 3  # that search blocks at the same time where there is one process
PROCESSES = 2
BLOCKS_WORTH_IT = 4  # for each further process, which takes some seconds to start


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `detect_file` did.

    Attributes:
        frames: of the input.
        electrons: found.
        resumed: frames that an earlier run had done.
        repeated: frames whose ImageId an earlier frame of the file has.
        missing: numbers between the smallest and the largest ImageId that no frame has.
        glaring: frames with a white area larger than electrons make, which was left out.
        model: the spots' shapes as estimated from the file.
        blur: standard deviation of the errors of x and of z, half-widths; see `detection.blur`.
    """

    frames: int
    electrons: int
    resumed: int
    repeated: int
    missing: int
    glaring: int
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
        if self.missing:
            rows.append(
                f"warning: {self.missing} ImageIds between the first and last have no frame"
            )
        if self.glaring:
            rows.append(
                f"warning: {self.glaring} frames have a white area larger than electrons make; "
                "nothing was looked for there"
            )
        return "\n".join(rows)


def detect_file(
    path: str | pathlib.Path,
    output: str | pathlib.Path,
    progress: bool = True,
    processes: int | None = None,
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
        processes: that search at the same time, each on a core of its own and with 0.6 GiB; None
            for two where there are two cores. One on a GPU. The result does not depend on it.

    Raises:
        InputError: the input is not such a file, or the output cannot be written.
    """
    path, output = pathlib.Path(path), pathlib.Path(output)
    check_event_path(output)
    processes = _processes(processes)
    with (
        open_frames(path) as table,
        FoundElectrons(output, _identity(path, table)) as found,
        contextlib.ExitStack() as stack,
    ):
        resumed, notes = found.progress.frames, found.progress.notes
        batch = max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // table.size**2))
        batch = table.block_frames(batch)
        firsts = range(resumed, table.number, batch)
        beside = min(processes - 1, len(firsts) // BLOCKS_WORTH_IT)
        # these load JAX while the spots' shapes are estimated
        others = [stack.enter_context(_SearchBeside(path, batch)) for _ in range(beside)]
        model = _model(table, found, batch)
        detector = Detector(table.size, model, batch)
        # Threads of one process wait for each other's Python; a GPU takes only one process.
        here = [_Search(table, detector, batch) for _ in range(1 if others else THREADS)]
        for other in others:
            other.begin(model)
        blocks = stack.enter_context(contextlib.closing(_searched(firsts, [*here, *others])))
        with tqdm(total=table.number, initial=resumed, unit=" frames", desc=path.name,
                  disable=not progress, smoothing=0.05) as bar:  # fmt: skip
            for ids, detections in blocks:
                if "blur" not in notes:  # while the next blocks are searched
                    notes["blur"] = position_blur(detector, detections, len(ids))
                _record(found, ids, detections)
                bar.update(len(ids))
        electrons, ids, blur = found.progress.electrons, notes["ids"], notes["blur"]
        glaring = notes.get("glaring", 0)
        found.finish(blur)
        different = len(set(ids))
        repeated, missing = len(ids) - different, max(ids) - min(ids) + 1 - different
        return Summary(table.number, electrons, resumed, repeated, missing, glaring, model, blur)


def _processes(asked: int | None) -> int:
    """How many processes search; `asked` is None where nobody said."""
    if jax.default_backend() == "cpu":
        return min(PROCESSES, cores()) if asked is None else asked
    if asked is not None and asked > 1:
        raise InputError(f"--processes={asked}: a {jax.default_backend()} takes one process")
    return 1


def _record(found: FoundElectrons, ids: np.ndarray, detections: Detections) -> None:
    """Keeps what was found on the frames of a block, whose ImageIds are `ids`."""
    found.add(
        ids[detections.frame],
        {
            fields.X: detections.positions[:, 0],
            fields.Z: detections.positions[:, 1],
            fields.AMPLITUDE: detections.amplitude,
            fields.RESIDUAL: detections.residual,
        },
    )
    notes = found.progress.notes
    notes["ids"] += ids.tolist()
    notes["glaring"] = notes.get("glaring", 0) + detections.glaring
    found.record(len(ids))


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
        _, frames = table.read_into(table.buffer(batch), 0)
        notes |= {"model": dataclasses.asdict(estimate_model(frames)), "ids": []}
    return SpotModel(**notes["model"])


def _searched(
    firsts: range, searches: list[Callable[[int], tuple[np.ndarray, Detections]]]
) -> Generator[tuple[np.ndarray, Detections]]:
    """Yields (ImageId of each frame, electrons) of the blocks that begin with frames `firsts`.

    Some are ahead, each search in a thread. Where the file cannot be read any further, what was
    read before is yielded first.
    """
    free = queue.SimpleQueue()
    for search in searches:
        free.put(search)

    def searched(first: int) -> tuple[np.ndarray, Detections]:
        search = free.get()
        try:
            return search(first)
        finally:
            free.put(search)

    with ThreadPoolExecutor(len(searches)) as threads:
        waiting: collections.deque[Future[tuple[np.ndarray, Detections]]] = collections.deque()
        try:
            for first in firsts:
                if len(waiting) > len(searches):
                    yield waiting.popleft().result()
                waiting.append(threads.submit(searched, first))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for coming in waiting:
                coming.cancel()


class _Search:
    """Searches blocks in this process, one at a time.

    Args:
        table: an open file of frames.
        detector: for its frames.
        batch: frames of a block.
    """

    def __init__(self, table: FrameTable, detector: Detector, batch: int):
        self._table, self._detector = table, detector
        # Used again and again: the system takes longer to give new memory than a copy takes. JAX
        # takes frames as they are if they begin at a multiple of 64.
        self._rows = table.buffer(batch)
        count = batch * table.size**2
        raw = np.empty(count + 64, np.uint8)
        self._frames = raw[-raw.ctypes.data % 64 :][:count].reshape(batch, table.size, table.size)

    def __call__(self, first: int) -> tuple[np.ndarray, Detections]:
        """ImageId of each frame and electrons of the block that begins with frame `first`."""
        ids, frames = self._table.read_into(self._rows, first)
        block = self._frames[: len(frames)]
        block[:] = frames
        return ids, self._detector.detect(block)


class _SearchBeside:
    """As `_Search`, in a process of its own that reads the file itself; a context manager.

    It ends when this one does, however that may be: its input ends.

    Args:
        path: file of frames.
        batch: frames of a block.
    """

    def __init__(self, path: pathlib.Path, batch: int):
        self._path = path
        self._batch = batch
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "_SearchBeside":
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ
            | {
                "JAX_PLATFORMS": "cpu",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                # one core: its threads and those of this process would wait for each other
                "PJRT_NPROC": "1",
                "NPROC": "1",
            },
            start_new_session=True,  # Ctrl-C is for this process
        )
        return self

    def begin(self, model: SpotModel) -> None:
        """Says what the spots look like; before the first block."""
        self._send((self._path, model, self._batch))

    def __exit__(self, *unused) -> None:
        assert self._process
        self._process.kill()
        self._process.communicate()

    def __call__(self, first: int) -> tuple[np.ndarray, Detections]:
        assert self._process
        assert self._process.stdout
        self._send(first)
        try:
            answer = pickle.load(self._process.stdout)
        except EOFError:
            raise self._ended() from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _send(self, what: object) -> None:
        assert self._process
        assert self._process.stdin
        try:
            pickle.dump(what, self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _ended(self) -> InputError:
        assert self._process
        return InputError(
            f"{self._path}: a process that searched it has ended (status {self._process.wait()}), "
            "perhaps for want of memory; the same command goes on from there"
        )


def serve() -> None:
    """Searches blocks for `_SearchBeside`, asked and answered through standard input and output."""
    memory.keep()
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything else prints is no answer
    path, model, batch = pickle.load(asked)
    with open_frames(path) as table:
        search = _Search(table, Detector(table.size, model, batch), batch)
        while True:
            try:
                first = pickle.load(asked)
            except EOFError:
                return
            try:
                answer = search(first)
            except InputError as error:
                answer = error
            pickle.dump(answer, answers)
            answers.flush()
