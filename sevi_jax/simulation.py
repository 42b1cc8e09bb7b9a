"""Simulated measurements as files: electrons of single shells, camera frames, pictures.

The random numbers come from the same physics as the training pictures, but from other streams: a
file of the same seed shares no electron with them. Everything is drawn on the device in batches of
fixed size and streamed to the file, so memory does not grow with the file.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from sevi_jax.config import Config
from sevi_jax.data.fields import HDF5_SUFFIXES
from sevi_jax.data.writers import (
    MAX_ELECTRONS,
    DistributionsWriter,
    ImageSetWriter,
    PairWriter,
)
from sevi_jax.errors import InputError
from sevi_jax.network.training.sharding import data_mesh
from sevi_jax.network.training.specs import prior_from, synthesis_from
from sevi_jax.physics.types import ShellParams
from sevi_jax.prng import root_key, stream_key
from sevi_jax.synthesis.electrons import AngleTable, angle_table, draw_electrons
from sevi_jax.synthesis.frames import draw_spots, render_frame
from sevi_jax.synthesis.pipeline import SynthesisSpec, draw_pictures
from sevi_jax.synthesis.prior import Prior, sample_shells

DETECTED = 0.6  # fraction of the electrons that the detector records: docs/course.md
PER_FRAME = 86.0  # detected electrons of a camera frame, on average
FRAME_SIZE = 1024  # pixels
NUMBERS = {"distributions": 4, "frames": 100, "images": 16}  # how many, unless said otherwise
# Options that only some kinds know.
OPTIONS = {
    "distributions": ("electrons", "detected"),
    "frames": ("detected", "per_frame", "frame_size", "no_truth"),
    "images": (),
}


@dataclasses.dataclass(frozen=True)
class FrameSpec:
    """How camera frames are drawn.

    Attributes:
        per_frame: mean number of detected electrons.
        detected: chance of each electron to be recorded, whatever its place.
        size: pixels along each side.
        truth: False writes the frames alone.
    """

    per_frame: float = PER_FRAME
    detected: float = DETECTED
    size: int = FRAME_SIZE
    truth: bool = True


_FRAMES_AT_ONCE = 16
_SPOT_STEP = 16  # spots of a batch are rounded up to this, so that few shapes are compiled


def simulate(
    config: Config,
    kind: str,
    output: str | pathlib.Path,
    *,
    seed: int | None = None,
    number: int | None = None,
    progress: bool = True,
    **options: Any,
) -> str:
    """Writes one file; the same arguments give the same file.

    Args:
        config: a valid configuration; gives the prior, and for images also the size and renderer.
        kind: ``"distributions"``, ``"frames"`` or ``"images"``.
        output: the file; one that exists is replaced when the new one is complete.
        seed: None: the configuration's.
        number: distributions, frames or pictures; None: `NUMBERS`.
        progress: show a progress bar on stderr.
        **options: those of `OPTIONS`; None counts as not given.

    Returns:
        One line that says what the file holds.

    Raises:
        InputError: an argument breaks a rule, or the file cannot be written.
    """
    _require(kind in NUMBERS, "kind", kind, f"one of {', '.join(NUMBERS)}")
    suffix = pathlib.Path(output).suffix.lower()
    _require(suffix in HDF5_SUFFIXES, "output", output, "a name that ends in .h5 or .hdf5")
    options = {name: value for name, value in options.items() if value is not None}
    for name in options:
        kinds = [other for other, names in OPTIONS.items() if name in names]
        if kind not in kinds:
            raise InputError(f"--{name} goes with --kind={' and '.join(kinds)}, not with {kind}")
    number = NUMBERS[kind] if number is None else number
    seed = int(config.seed if seed is None else seed)
    _require(1 <= number < 2**31, "number", number, "from 1 to 2^31 - 1")
    _require(0 <= seed < 2**32, "seed", seed, "from 0 to 2^32 - 1")
    root, prior = root_key(seed), prior_from(config)
    if kind == "images":
        spec, mesh = synthesis_from(config), data_mesh(config)
        write_images(output, spec, root, mesh, number, config.eval.batch, progress)
        return f"{output}: {number} pictures of {spec.image.size} x {spec.image.size} pixels"

    detected = options.get("detected", DETECTED)
    _require(0 < detected <= 1, "detected", detected, "above 0 and at most 1")
    if kind == "frames":
        per_frame = options.get("per_frame", PER_FRAME)
        size = options.get("frame_size", FRAME_SIZE)
        _require(0 < per_frame <= 10_000, "per_frame", per_frame, "above 0 and at most 10000")
        _require(16 <= size <= 8192, "frame_size", size, "from 16 to 8192")
        spec = FrameSpec(per_frame, detected, size, not options.get("no_truth", False))
        seen = write_frames(output, prior, root, number, spec, progress)
        return f"{output}: {number} frames of {size} x {size} pixels with {seen} electrons"
    if "electrons" in options:
        prior = tuple(
            dataclasses.replace(shell, electrons=_electrons_range(options["electrons"]))
            for shell in prior
        )
    generated, seen = write_distributions(
        output, prior, root, number, detected, config.synthesis.chunk, progress
    )
    return f"{output}: {number} distributions, {generated} electrons, {seen} of them detected"


def write_distributions(
    path: str | pathlib.Path,
    prior: Prior,
    root: jax.Array,
    number: int,
    detected: float = DETECTED,
    chunk: int = 2**18,
    progress: bool = True,
) -> tuple[int, int]:
    """Writes a file of the second kind (docs/course.md): single shells and their electrons.

    Distribution d is one shell of the prior's entry ``d mod S``; it depends on the root key, d and
    `chunk`, not on `number`.

    Args:
        path: the file.
        prior: S entries; `electrons` is the number generated per distribution.
        root: scalar typed key.
        number: of distributions.
        detected: chance of each electron to be recorded, whatever its place.
        chunk: electrons drawn at a time.
        progress: show a progress bar on stderr.

    Returns:
        Electrons generated and electrons detected.

    Raises:
        InputError: there would be more electrons than the file format can number.
    """
    shells = [_single_shell(root, d, prior[d % len(prior)]) for d in range(number)]
    total = sum(int(shell.electrons) for shell in shells)
    if total > MAX_ELECTRONS:
        raise InputError(
            f"--number={number} gives {total} electrons, expected at most {MAX_ELECTRONS} in a file"
        )
    seen = 0
    with DistributionsWriter(path, orders=len(prior[0].beta)) as writer, _bar(
        path, total, " electrons", progress
    ) as bar:  # fmt: skip
        for d, shell in enumerate(shells):
            writer.add(d, float(shell.radius), float(shell.sigma), _double(shell.beta))
        for d, count, columns in _one_ahead(_chunks(root, shells, detected, chunk)):
            r, cosine, x, z, mask = (np.asarray(column)[:count] for column in columns)
            writer.electrons(d, r, cosine, x, z, mask)
            seen += int(mask.sum())
            bar.update(count)
    return total, seen


def write_frames(
    path: str | pathlib.Path,
    prior: Prior,
    root: jax.Array,
    number: int,
    spec: FrameSpec = FrameSpec(),
    progress: bool = True,
) -> int:
    """Writes a file of the first kind (docs/course.md): the shells of one picture in camera frames.

    Every frame holds a Poisson number of detected electrons; each belongs to a shell with the share
    that the shell has in the prior's numbers of electrons. Frame i depends on the root key, i and
    the two rates, not on `number`.

    Args:
        path: the file.
        prior: one entry per shell.
        root: scalar typed key.
        number: of frames.
        spec: how they are drawn.
        progress: show a progress bar on stderr.

    Returns:
        Electrons detected.
    """
    sample = jax.jit(sample_shells, static_argnames="prior")
    params, _ = sample(stream_key(root, "simulated pair"), prior)
    generated = spec.per_frame / spec.detected
    slots = math.ceil(generated + 10 * math.sqrt(generated) + 10)  # exceeded once in 10^17
    batch = min(_FRAMES_AT_ONCE, number)
    seen = 0
    with PairWriter(path, orders=len(prior[0].beta)) as writer, _bar(
        path, number, " frames", progress
    ) as bar:  # fmt: skip
        if spec.truth:
            writer.truth(*map(_double, (params.radius, params.sigma, params.beta)))
        for start in range(0, number, batch):
            image_id = np.arange(start, start + batch)
            events = jax.device_get(
                _draw_frames(root, image_id, params, generated, spec.detected, slots)
            )
            keep = min(batch, number - start)
            writer.frames(image_id[:keep], _render_frames(events, spec.size)[:keep])
            real = events.real & (image_id < number)[:, None]
            seen += int((events.detected & real).sum())
            if spec.truth:
                image = np.broadcast_to(image_id[:, None], real.shape)
                writer.electrons(events.shell[real], events.r[real], events.cosine[real],
                                 image[real], events.x[real], events.z[real],
                                 events.detected[real])  # fmt: skip
            bar.update(keep)
    return seen


def write_images(
    path: str | pathlib.Path,
    spec: SynthesisSpec,
    root: jax.Array,
    mesh: Mesh,
    number: int,
    batch: int,
    progress: bool = True,
) -> None:
    """Writes an image set as the prior has it: full pictures of the prior's electron numbers.

    A specification that folds pictures or weakens them is for training.

    Args:
        path: the file.
        spec: how pictures are drawn.
        root: scalar typed key.
        mesh: mesh with the axis ``"data"``.
        number: of pictures.
        batch: pictures drawn at a time, a multiple of the number of devices.
        progress: show a progress bar on stderr.
    """
    image = dataclasses.replace(spec.image, fold=False)
    full = dataclasses.replace(spec, image=image, exposure=(1.0, 1.0))
    draw = jax.jit(functools.partial(draw_pictures, number=batch, spec=full, mesh=mesh))
    batches = (
        (min(batch, number - start), draw(stream_key(root, "simulated images", start // batch)))
        for start in range(0, number, batch)
    )
    with ImageSetWriter(path, orders=len(spec.prior[0].beta)) as writer, _bar(
        path, number, " pictures", progress
    ) as bar:  # fmt: skip
        for keep, pictures in _one_ahead(batches):
            counts, params = jax.device_get((pictures.counts, pictures.params))
            shells = (params.radius, params.sigma, params.electrons, params.beta)
            writer.add(counts[:keep], *(_double(column)[:keep] for column in shells))
            bar.update(keep)


@functools.partial(jax.jit, static_argnames="prior")
def _draw_shell(root: jax.Array, distribution: jax.Array, prior: Prior) -> ShellParams:
    """The shell of one distribution, arrays ``[1]`` and ``[1, L]``."""
    return sample_shells(stream_key(root, "simulated shell", distribution), prior)[0]


def _single_shell(root: jax.Array, distribution: int, shell) -> ShellParams:
    """The shell of one distribution on the host, without the axis of shells."""
    params = jax.device_get(_draw_shell(root, np.int32(distribution), (shell,)))
    return jax.tree.map(lambda column: column[0], params)


@functools.partial(jax.jit, static_argnames="chunk")
def _draw_chunk(
    root: jax.Array,
    place: tuple[jax.Array, jax.Array],
    shell: ShellParams,
    table: AngleTable,
    detected: jax.Array,
    chunk: int,
) -> tuple[jax.Array, ...]:
    """r, cos(theta), x, z and whether it is detected, each ``[chunk]``.

    `place` is the number of the distribution and that of the chunk in it.
    """
    key = stream_key(root, "simulated electrons", place[0])
    electron_key, detector_key = jax.random.split(jax.random.fold_in(key, place[1]))
    columns = draw_electrons(electron_key, shell.radius, shell.sigma, table, chunk)
    return (*columns, jax.random.uniform(detector_key, (chunk,), jnp.float32) < detected)


def _chunks(
    root: jax.Array, shells: list[ShellParams], detected: float, chunk: int
) -> Iterator[tuple[int, int, tuple[jax.Array, ...]]]:
    """Starts the chunks one after the other: distribution, valid rows, columns."""
    build = jax.jit(angle_table)
    for d, shell in enumerate(shells):
        table, electrons = build(shell.beta), int(shell.electrons)
        for i, start in enumerate(range(0, electrons, chunk)):
            place = (np.int32(d), np.int32(i))
            columns = _draw_chunk(root, place, shell, table, np.float32(detected), chunk)
            yield d, min(chunk, electrons - start), columns


@flax.struct.dataclass
class _Events:
    """Generated electrons of B frames and their spots, each ``[B, N]``; `real` marks the filled."""

    shell: Any
    r: Any
    cosine: Any
    x: Any
    z: Any
    spot: tuple[Any, Any, Any]
    real: Any
    detected: Any


@functools.partial(jax.jit, static_argnames="slots")
def _draw_frames(
    root: jax.Array,
    image_id: jax.Array,
    params: ShellParams,
    generated: float,
    detected: float,
    slots: int,
) -> _Events:
    """Draws the electrons of frames: `image_id` ``[B]``, `slots` is N."""
    tables = jax.vmap(angle_table)(params.beta)
    weight = jnp.log(params.electrons.astype(jnp.float32))

    def draw(number):
        keys = jax.random.split(stream_key(root, "simulated frames", number), 5)
        count = jax.random.poisson(keys[0], generated, dtype=jnp.int32)
        shell = jax.random.categorical(keys[1], weight, shape=(slots,))
        electron_keys = jax.random.split(keys[2], len(weight))
        of_shell = jax.vmap(functools.partial(draw_electrons, number=slots))
        columns = of_shell(electron_keys, params.radius, params.sigma, tables)
        r, cosine, x, z = (column[shell, jnp.arange(slots)] for column in columns)
        real = jnp.arange(slots) < count
        seen = real & (jax.random.uniform(keys[3], (slots,), jnp.float32) < detected)
        return _Events(shell, r, cosine, x, z, draw_spots(keys[4], slots), real, seen)

    return jax.vmap(draw)(image_id)


def _render_frames(events: _Events, size: int) -> np.ndarray:
    """Draws the frames ``[B, size, size]`` uint8 from events on the host.

    A spot costs the same whether it is there or not, so the detected ones are moved to the front
    and only as many as the fullest frame needs are drawn.
    """
    most = int(events.detected.sum(1).max())
    spots = max(_SPOT_STEP, -(-most // _SPOT_STEP) * _SPOT_STEP)
    spots = min(spots, events.detected.shape[1])
    order = np.argsort(~events.detected, axis=1, kind="stable")[:, :spots]

    def front(column: np.ndarray) -> np.ndarray:
        return np.take_along_axis(column, order, axis=1)

    positions = np.stack([front(events.x), front(events.z)], axis=-1)
    shapes = map(front, events.spot)
    return np.asarray(_frame_renderer(size)(positions, front(events.detected), *shapes))


@functools.cache
def _frame_renderer(size: int) -> Callable[..., jax.Array]:
    return jax.jit(jax.vmap(functools.partial(render_frame, size=size)))


def _one_ahead(items: Iterable) -> Iterator:
    """Asks for the next item before it hands one out: the device draws while the file grows."""
    iterator = iter(items)
    for current in iterator:
        for following in iterator:
            yield current
            current = following
        yield current


def _double(column) -> np.ndarray:
    """The value as it was drawn, in the type of the files."""
    return np.asarray(column, np.float64)


def _bar(path: str | pathlib.Path, total: int, unit: str, progress: bool) -> tqdm:
    name = pathlib.Path(path).name
    return tqdm(desc=name, total=total, unit=unit, unit_scale=True, disable=not progress)


def _electrons_range(text: str) -> tuple[int, int]:
    """Reads ``"LOW,HIGH"`` or one number."""
    rule = "one whole number or LOW,HIGH, with 0 < LOW <= HIGH < 2^30"
    try:
        numbers = [int(part) for part in str(text).split(",")]
    except ValueError:
        numbers = []
    ok = len(numbers) in (1, 2) and 0 < numbers[0] <= numbers[-1] < 2**30
    _require(ok, "electrons", text, rule)
    return numbers[0], numbers[-1]


def _require(ok: bool, flag: str, value: Any, rule: str) -> None:
    if not ok:
        raise InputError(f"--{flag}={value} must be {rule}")
