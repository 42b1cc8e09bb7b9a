"""Pictures with known shells, from `train<num>.h5` files and image sets, to judge a network."""

import dataclasses
import pathlib
import sys
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from sevi_jax.data.events import EventCounts, Truth, count_electrons, file_kind, read_truth
from sevi_jax.data.fields import HDF5_SUFFIXES
from sevi_jax.data.image_sets import has_truth, read_image_set
from sevi_jax.data.picture import rebin
from sevi_jax.errors import InputError
from sevi_jax.physics.types import ShellParams

_AT_ONCE = 16  # pictures put together at a time


@dataclasses.dataclass(frozen=True)
class Cases:
    """Some pictures of one file and their shells, inner first.

    Attributes:
        file: the file.
        ids: distribution ids ``[n, S]``; sphere ids for a file of the first kind; for an image set
            the ImageId, for every shell.
        counts: ``[n, size, size]`` uint32.
        radius: ``[n, S]``, half-widths.
        beta: ``[n, S, N]``, all orders that the file has.
        sigma: ``[n, S]``, half-widths.
        electrons: counts of each shell, ``[n, S]``; NaN where the file does not say whose they are.
    """

    file: pathlib.Path
    ids: np.ndarray
    counts: np.ndarray
    radius: np.ndarray
    beta: np.ndarray
    sigma: np.ndarray
    electrons: np.ndarray

    @property
    def truth(self) -> ShellParams:
        """All that is known of the shells."""
        values = (self.radius, self.sigma, self.electrons, self.beta)
        radius, sigma, electrons, beta = (jnp.asarray(x, jnp.float32) for x in values)
        return ShellParams(radius, sigma, electrons, beta)


def choose_pairs(number: int, most: int, seed: int) -> np.ndarray:
    """Chooses pairs of different things: all of them, or `most` of them at random.

    Args:
        number: how many things there are.
        most: how many pairs at most.
        seed: of the choice.

    Returns:
        ``[pairs, 2]`` int.
    """
    first, second = np.triu_indices(number, 1)
    if len(first) > most:
        chosen = np.random.default_rng(seed).choice(len(first), most, replace=False)
        chosen.sort()
        first, second = first[chosen], second[chosen]
    return np.stack([first, second], axis=1)


def _combined(
    file: pathlib.Path, events: EventCounts, truth: Truth, members: np.ndarray
) -> Iterator[Cases]:
    """Adds up the pictures of the distributions in each row of `members` ``[n, S]`` (places)."""
    place = {identity: row for row, identity in enumerate(truth.ids.tolist())}
    rows = np.array([place[identity] for identity in events.ids.tolist()])
    for start in range(0, len(members), _AT_ONCE):
        part = members[start : start + _AT_ONCE]
        order = np.argsort(truth.radius[rows[part]], axis=1, kind="stable")
        part = np.take_along_axis(part, order, axis=1)
        yield Cases(
            file=file,
            ids=events.ids[part],
            counts=events.counts[part].sum(axis=1, dtype=np.uint32),
            radius=truth.radius[rows[part]],
            beta=truth.beta[rows[part]],
            sigma=truth.sigma[rows[part]],
            electrons=events.counts[part].sum(axis=(2, 3), dtype=np.float64),
        )


def is_paired(file: pathlib.Path) -> bool:
    """Whether a network for two shells takes pairs from a file."""
    return file.suffix.lower() in HDF5_SUFFIXES and file_kind(file) == "distributions"


def _of_image_set(file: pathlib.Path, shells: int, size: int) -> Iterator[Cases]:
    """The pictures of an image set."""
    for part in read_image_set(file):
        found = part.radius.shape[1]
        if found != shells:
            raise InputError(
                f"{file}: table Shells has {found} shells a picture, expected {shells} as the "
                "network of this run"
            )
        counts = [
            rebin(counts, size, f"{file}[{identity}]")
            for identity, counts in zip(part.ids, part.counts, strict=True)
        ]
        yield Cases(
            file=file,
            ids=np.repeat(part.ids[:, None], shells, axis=1),
            counts=np.stack(counts),
            radius=part.radius,
            beta=part.beta,
            sigma=part.sigma,
            electrons=part.electrons,
        )


def read_cases(
    file: pathlib.Path, shells: int, size: int, *, pairs: int, seed: int, progress: bool = True
) -> Iterator[Cases]:
    """Reads the pictures of a file that a network for `shells` shells can be judged on.

    One shell: every distribution of a file of the second kind. Two shells: pairs of distributions
    of a file of the second kind, all or `pairs` of them chosen by the seed, or the whole of a file
    of the first kind, from its DetectedElectrons. An image set gives each of its pictures.

    Args:
        file: a `train<num>.h5` of either kind, or an image set with its shells.
        shells: 1 or 2.
        size: pixels along each side of the pictures.
        pairs: pairs of distributions at most.
        seed: of their choice.
        progress: whether to show the progress of reading.

    Raises:
        InputError: if the file is of no such kind, or damaged.
    """
    kind = file_kind(file) if file.suffix.lower() in HDF5_SUFFIXES else "pictures"
    if kind == "images" and has_truth(file):
        yield from _of_image_set(file, shells, size)
        return
    if kind not in ("distributions", "pair"):
        raise InputError(
            f"{file}: no truth to compare with, expected an .h5 with the table "
            "DistributionParameters, Truth or Shells"
        )
    truth = read_truth(file)

    def groups() -> Iterator[EventCounts]:
        for events in count_electrons(file, size, progress=progress):
            if events.left_out:
                print(f"{file}: electrons left out: {events.left_out}", file=sys.stderr)
            yield events

    if kind == "pair":
        if len(truth.ids) != shells:
            raise InputError(
                f"{file}: table Truth has {len(truth.ids)} shells, expected {shells} "
                "as the network of this run"
            )
        for events in groups():
            radius, beta, sigma = (x[None] for x in (truth.radius, truth.beta, truth.sigma))
            unknown = np.full((1, len(truth.ids)), np.nan)
            yield Cases(file, truth.ids[None], events.counts, radius, beta, sigma, unknown)
        return
    if len(truth.ids) < shells:
        raise InputError(f"{file}: table DistributionParameters has 1 row, expected 2 to pair")
    for events in groups():
        number = len(events.ids)
        if shells == 1:
            members = np.arange(number)[:, None]
        else:
            # a large file comes in groups; each gives its share of the pairs
            share = max(1, round(pairs * number / len(truth.ids)))
            members = choose_pairs(number, share, seed)
        yield from _combined(file, events, truth, members)
