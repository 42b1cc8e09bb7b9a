"""From a user's files to the shells in each picture, by a trained network."""

import dataclasses
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.data.events import count_electrons, file_kind, read_truth
from sevi_jax.data.load import load_all
from sevi_jax.data.picture import Picture, rebin
from sevi_jax.data.readers.hdf5 import is_hdf5
from sevi_jax.errors import InputError
from sevi_jax.estimation.information import PictureParams
from sevi_jax.network.run import Run
from sevi_jax.physics.types import ShellParams
from sevi_jax.results.doubts import doubts

EVENT_SIZE = 512  # pixels along each side in which events are counted for a fit


def _from_events(
    path: pathlib.Path, kind: str, shells: int, size: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Counts of the pictures in an event file, ``[size, size]``, with names."""
    if kind == "frames":
        raise InputError(
            f"{path}: camera frames without electron positions, expected the table "
            "DetectedElectrons, or a picture of counts"
        )
    if kind == "distributions" and shells != 1:
        raise InputError(
            f"{path}: every distribution is a single shell, expected pictures of {shells} "
            "shells; `sevi_jax.evaluate` pairs them"
        )
    if kind == "pair":
        found = len(read_truth(path).ids)
        if found != shells:
            raise InputError(f"{path}: table Truth has {found} shells, expected {shells}")
    for events in count_electrons(path, size):
        if events.left_out:
            print(f"{path}: electrons left out: {events.left_out}", file=sys.stderr)
        for identity, counts in zip(events.ids, events.counts, strict=True):
            name = f"{path}[{identity}]" if kind == "distributions" else str(path)
            yield name, counts


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        transpose: whether the first axis of plain pictures is z (the polarisation), not x.
        quarter_turns: by which plain pictures are turned, from the first axis to the second, before
            that.
        mask: a picture, 0 where a pixel is not used, of the shape of the pictures in the file.
    """

    transpose: bool = False
    quarter_turns: int = 0
    mask: pathlib.Path | None = None

    def turned(self, picture: np.ndarray) -> np.ndarray:
        """The picture with x along its first axis."""
        picture = np.rot90(picture, self.quarter_turns)
        return picture.T if self.transpose else picture

    def read_mask(self) -> np.ndarray | None:
        """Reads the mask, as it lies in its file, bool.

        Raises:
            InputError: if the file holds not exactly one picture.
        """
        if self.mask is None:
            return None
        pictures = load_all(self.mask)
        if len(pictures) != 1:
            raise InputError(f"{self.mask}: found {len(pictures)} pictures, expected one mask")
        return pictures[0].counts != 0


AS_STORED = Reading()


def kind_of(path: pathlib.Path) -> str:
    """What an input holds: `data.events.file_kind` of event files, ``"images"`` of any other."""
    if not path.is_file() or not is_hdf5(path):
        return "images"
    try:
        return file_kind(path)
    except InputError:  # another program's; `load_all` says what is wrong with it
        return "images"


def read_pictures(
    path: pathlib.Path, shells: int, size: int | None, reading: Reading = AS_STORED
) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Reads a user's file as full pictures of counts.

    Args:
        path: an event file of any kind, or pictures in any format of `data.load`.
        shells: how many are expected; an event file that says otherwise is refused.
        size: pixels along each side; larger pictures are summed up in blocks. None leaves plain
            pictures as they are and counts events in `EVENT_SIZE`.
        reading: orientation and mask (which needs `size` None).

    Yields:
        Name, counts ``[H, W]``, first axis x, and mask ``[H, W]`` bool or None.

    Raises:
        InputError: naming the file, what was found and what was expected.
    """
    mask = reading.read_mask()
    kind = kind_of(path)
    is_plain = kind == "images"
    if is_plain:
        pictures = map(_plain, load_all(path))
    else:
        events = _from_events(path, kind, shells, size or EVENT_SIZE)
        pictures = ((name, counts, None) for name, counts in events)
    for name, counts, used in pictures:
        if mask is not None and mask.shape != counts.shape:
            raise InputError(
                f"{reading.mask}: found {mask.shape[0]} x {mask.shape[1]} pixels, expected "
                f"{counts.shape[0]} x {counts.shape[1]} as {name} has"
            )
        if is_plain and size is not None:
            counts, used = rebin(counts, size, name), None
        if mask is not None:
            used = mask if used is None else used & mask
        seen = counts if used is None else counts[used]
        if (is_plain or used is not None) and not seen.sum() > 0:
            raise InputError(f"{name}: a picture without counts, expected electrons")
        if is_plain:
            yield name, reading.turned(counts), None if used is None else reading.turned(used)
        else:
            yield name, counts, used


def _plain(picture: Picture) -> tuple[str, np.ndarray, np.ndarray | None]:
    """Name, counts (0 where a pixel is not used) and mask, None where all pixels are used."""
    if picture.noise == "normal":
        raise InputError(f"{picture.name}: found values below 0, expected counts")
    used = picture.used
    counts = np.where(used, picture.counts, 0.0)
    return picture.name, counts, None if used.all() else used


def predict_pictures(run: Run, names: list[str], counts: np.ndarray) -> list[dict[str, Any]]:
    """Predicts pictures ``[n, size, size]`` and returns what `data.answers.write_answer` takes.

    What speaks against an answer is in its ``warnings``.
    """
    prediction = run.predict(counts)
    answers = []
    for i, name in enumerate(names):
        shells = [
            {
                "R": None if prediction.radius is None else float(prediction.radius[i, s]),
                "sigma": None if prediction.sigma is None else float(prediction.sigma[i, s]),
                "beta": prediction.beta[i, s].tolist(),
            }
            for s in range(run.network.shells)
        ]
        electrons = float(counts[i].sum(dtype=np.float64))
        single = jax.tree.map(lambda x: x[i], prediction)  # noqa: B023
        warnings = doubts(run, counts[i], single)
        answers.append(
            {"file": name, "electrons": electrons, "warnings": warnings, "shells": shells}
        )
    return answers


def table(answer: dict[str, Any]) -> str:
    """Formats the answer of one picture for the terminal: both conventions of beta, warnings."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.5f}"

    shells = answer["shells"]
    lines = [f"{answer['file']}: {answer['electrons']:.0f} counts"]
    lines.append("  shell   " + " ".join(f"{place + 1:>21}" for place in range(len(shells))))
    for name in ("R", "sigma"):
        lines.append(f"  {name:<7} " + " ".join(f"{number(s[name]):>21}" for s in shells))
    for i in range(len(shells[0]["beta"])):
        betas = (f"{s['beta'][i]:>10.5f} {2 * s['beta'][i]:>10.5f}" for s in shells)
        lines.append(f"  beta_{2 * i + 2:<2} " + " ".join(betas))
    lines.append("  R, sigma in half-widths; beta: density 1/2 + sum beta P, then the literature's")
    lines += [f"  WARNING: {text}" for text in answer.get("warnings", ())]
    return "\n".join(lines)


def network_start(run: Run, name: str, counts: np.ndarray) -> PictureParams | None:
    """Start values of a fit from a network, in half-widths; None where it predicts no radii."""
    prediction = run.predict(rebin(counts, run.network.image.size, name)[None])
    if prediction.radius is None or prediction.sigma is None:
        return None
    yields = np.full(run.network.shells, counts.sum() / run.network.shells, np.float32)
    shells = ShellParams(
        jnp.asarray(prediction.radius[0]),
        jnp.asarray(prediction.sigma[0]),
        jnp.asarray(yields),
        jnp.asarray(prediction.beta[0]),
    )
    return PictureParams(shells, jnp.zeros(1))
