"""Metrics of a run on disk: JSON lines and TensorBoard; the only importer of tensorboardX."""

import json
import os
import pathlib
import sys
import time
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2

FILE_NAME = "metrics.jsonl"
BOARD = "tensorboard"
_events: Any = event_pb2  # generated code, whose names no type checker sees
_summaries: Any = summary_pb2


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the metrics of a run, oldest first.

    A last line cut off by a kill is left out; so is any other that is no longer what was written,
    and that is said on stderr.
    """
    path = workdir / FILE_NAME
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    rows = []
    for number, line in enumerate(lines[:-1], start=1):
        row = _row(line)
        if row is None:
            print(f"{path}: line {number} is damaged and left out", file=sys.stderr)
        else:
            rows.append(row)
    return rows


class MetricsWriter:
    """Appends metrics of a run; a context manager.

    Each line of ``metrics.jsonl`` is an object with ``kind`` ("train" or "eval"), ``step`` and
    numbers. What a killed run wrote after its last checkpoint is taken out when the run goes on,
    because those steps come again.

    Args:
        workdir: folder of the run.
        step: steps done in the checkpoint from which the run goes on.
    """

    def __init__(self, workdir: pathlib.Path, step: int):
        path = workdir / FILE_NAME
        kept = [row for row in read_metrics(workdir) if row["step"] <= step]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        os.replace(temporary, path)
        (workdir / BOARD).mkdir(exist_ok=True)
        # Not tensorboardX's SummaryWriter: its thread dies when the disk is full, and the queue to
        # it then blocks for ever. The process in the name: two may start in one second.
        self._board = EventsWriter(str(workdir / BOARD / "events"), f".{os.getpid()}")
        # TensorBoard hides what came after this step before
        restart = _events.SessionLog(status=_events.SessionLog.START)
        self._write_event(step=step + 1, session_log=restart)
        self._file = path.open("a")

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Appends one line, and the same to TensorBoard."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._file.flush()
        value = _summaries.Summary.Value
        scalars = [value(tag=f"{kind}/{name}", simple_value=x) for name, x in values.items()]
        self._write_event(step=step, summary=_summaries.Summary(value=scalars))

    def sync(self) -> None:
        """Waits until the lines are on disk, to be called before a checkpoint of their steps."""
        os.fsync(self._file.fileno())

    def _write_event(self, **fields: Any) -> None:
        self._board.write_event(_events.Event(wall_time=time.time(), **fields))
        self._board.flush()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *unused) -> None:
        try:
            self._file.close()
        finally:
            self._board.close()


class NoMetrics:
    """Stands for `MetricsWriter` in all but the first of several processes: writes nothing."""

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Does nothing."""

    def sync(self) -> None:
        """Does nothing."""

    def __enter__(self) -> "NoMetrics":
        return self

    def __exit__(self, *unused) -> None:
        pass


def _row(line: bytes) -> dict[str, Any] | None:
    """The object on a line; None if it is not one that `MetricsWriter` wrote."""
    try:
        row = json.loads(line)
        is_whole = isinstance(row["kind"], str) and isinstance(row["step"], int)
    except (ValueError, KeyError, TypeError):
        return None
    return row if is_whole else None
