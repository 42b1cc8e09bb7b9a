"""Metrics of a run on disk: JSON lines and TensorBoard; the only importer of tensorboardX."""

import json
import os
import pathlib
from typing import Any

from tensorboardX import SummaryWriter

FILE_NAME = "metrics.jsonl"


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the metrics of a run, oldest first; a last line cut off by a kill is left out."""
    path = workdir / FILE_NAME
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
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
        self._path = workdir / FILE_NAME
        kept = [row for row in read_metrics(workdir) if row["step"] <= step]
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        os.replace(temporary, self._path)
        self._file = self._path.open("a")
        self._board = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=step + 1, write_to_disk=True
        )

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Appends one line, and the same to TensorBoard."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *unused) -> None:
        self._file.close()
        self._board.close()
