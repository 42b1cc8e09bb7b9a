"""Small configurations, runs and event files that several test modules share.

What takes seconds to compile is made once per process. Runs are for reading: tests that change one
copy it.
"""

import atexit
import contextlib
import copy
import functools
import pathlib
import shutil
import tempfile

import h5py
import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.config import default_config, validate
from sevi_jax.network.training import loop
from sevi_jax.network.training.checkpoint import Checkpoints

STEPS = 6


def small_config(**changes):
    """Six steps on two cores in a second, after half a minute of compilation.

    Args:
        changes: other values, dots written as two underscores: ``train__steps=2``.

    Returns:
        Two shells of some thousand electrons, 32 x 32 folded, ResNet-18 of width 4 with the
        read-out head, R and sigma too, on one device.
    """
    values = {
        "prior__electrons": (2000, 4000),
        "image__size": 32,
        "image__fold": True,
        "synthesis__chunk": 2048,
        "model__depth": 18,
        "model__width": 4,
        "model__stem": "small",
        "model__input": "radial",
        "model__ladder": 8,
        "model__head": "readout",
        "model__shape": True,
        "loss__shape_weight": 0.1,
        "train__batch": 4,
        "train__steps": STEPS,
        "train__warmup": 0.2,
        "train__log_every": 1,
        "train__eval_every": 2,
        "eval__pictures": 8,
        "eval__batch": 4,
        "eval__statistics_batches": 2,
        "mesh__devices": 1,
    }
    return changed(default_config(), **values | changes)


def single_config(**changes):
    """A network for one shell with the original's head, on the square root of full pictures."""
    values = {
        "shells": 1,
        "image__fold": False,
        "model__input": "sqrt",
        "model__head": "linear",
        "model__shape": False,
        "loss__shape_weight": 0.0,
    }
    return small_config(**values | changes)


def changed(config, **changes):
    """The configuration with other values; a new one."""
    config = copy.deepcopy(config)
    flat = {name.replace("__", "."): value for name, value in changes.items()}
    with config.ignore_type():
        config.update_from_flattened_dict(flat)
    validate(config)
    return config


@contextlib.contextmanager
def quick_compilation():
    """Compiles with few optimisations: a third less time, and the pictures here are tiny."""
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, True)
    try:
        yield
    finally:
        jax.config.update(name, before)


_copied = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


class _Trainer(loop.Trainer):
    """Makes the state of step 0 once and gives copies, since steps donate it."""

    def initial_state(self):
        return _copied(self._first)

    @functools.cached_property
    def _first(self):
        return super().initial_state()


@functools.cache
def _shared_trainer():
    return _Trainer(small_config())


def trainer(config=None):
    """The trainer of `small_config()`, compiled once per process.

    Args:
        config: if given, the trainer says that it is for this one: for what the loop alone reads.
    """
    made = copy.copy(_shared_trainer())
    _shared_trainer()._first  # noqa: B018
    made.__dict__["_first"] = _shared_trainer()._first
    made.config = config or made.config
    return made


@functools.cache
def abstract_state():
    return _shared_trainer().abstract_state()


def read_state(workdir, step):
    """The whole state of a checkpoint of `small_config()`, as NumPy arrays."""
    with Checkpoints(workdir, keep=9) as checkpoints:
        return jax.device_get(checkpoints.restore(step, abstract_state(), trainer().mesh))


def assert_same_bits(one, other):
    """Both trees have the same arrays, bit for bit."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    paths = jax.tree.leaves_with_path(one)
    for (path, x), y in zip(paths, jax.tree.leaves(other), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype, jax.tree_util.keystr(path)
        assert x.tobytes() == y.tobytes(), jax.tree_util.keystr(path)


def _folder():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sevi_jax_tests_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def train(workdir, config=None, init_from=None, trained_by=None):
    """`loop.train` with the shared trainer (or another), so that nothing is compiled again."""
    original = loop.Trainer
    loop.Trainer = lambda config: trained_by or trainer(config)
    try:
        return loop.train(config or small_config(), workdir, init_from)
    finally:
        loop.Trainer = original


@functools.cache
def trained_run():
    """Folder of a finished, uninterrupted run of `small_config()`; for reading only."""
    workdir = _folder() / "run"
    assert train(workdir)
    return workdir


def random_state(config, seed=0):
    """A state with parameters of some size, without compiling anything."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        values = rng.normal(0, 0.1, leaf.shape).astype(leaf.dtype)
        return np.abs(values) + 1 if "var" in jax.tree_util.keystr(path) else values

    state = loop.Trainer(config).abstract_state()
    return jax.tree.map_with_path(fill, state)


@functools.cache
def single_run():
    """Folder of a run of `single_config()` with random parameters; for reading only."""
    workdir = _folder() / "single"
    workdir.mkdir()
    config = single_config()
    loop.save_config(workdir, config)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(1, jax.device_put(random_state(config)), 0.5)
        checkpoints.wait()
    return workdir


def rows(**columns):
    """A compound table from its columns."""
    columns = {name: np.asarray(values) for name, values in columns.items()}
    kinds = [(name, column.dtype, column.shape[1:]) for name, column in columns.items()]
    table = np.zeros(len(next(iter(columns.values()))), kinds)
    for name, column in columns.items():
        table[name] = column
    return table


def write_distributions(path, radius, beta, positions, ids=None):
    """Writes a file of the second kind with h5py alone.

    Args:
        path: to write.
        radius: ``[D]``.
        beta: ``[D, N]``.
        positions: per distribution ``[n, 2]``, x and z of each detected electron.
        ids: ``[D]``; 0, 1, ... if not given.
    """
    ids = np.arange(len(radius)) if ids is None else np.asarray(ids)
    owner = np.repeat(ids, [len(xz) for xz in positions])
    electron = np.arange(len(owner))
    xz = np.concatenate(positions)
    with h5py.File(path, "w") as file:
        file["DistributionParameters"] = rows(
            DistributionId=ids.astype("i4"),
            R=np.asarray(radius, float),
            sigma_R=np.full(len(ids), 0.007),
            beta=np.asarray(beta, float),
        )
        file["GeneratedElectrons"] = rows(
            DistributionId=owner.astype("i4"),
            ElectronId=electron.astype("i4"),
            r=np.ones(len(owner)),
            costheta=np.zeros(len(owner)),
        )
        file["DetectedElectrons"] = rows(ElectronId=electron.astype("i4"), x=xz[:, 0], z=xz[:, 1])
    return path


def write_pair(path, radius, beta, positions):
    """Writes a file of the first kind, without its frames: ``[S]``, ``[S, N]``, ``[n, 2]``."""
    electron = np.arange(len(positions), dtype="i4")
    with h5py.File(path, "w") as file:
        file["Truth"] = rows(
            SphereId=np.arange(len(radius), dtype="u1"),
            R=np.asarray(radius, float),
            sigma_R=np.full(len(radius), 0.007),
            beta=np.asarray(beta, float),
        )
        file["DetectedElectrons"] = rows(
            ImageId=np.zeros(len(electron), "i4"),
            ElectronId=electron,
            x=positions[:, 0],
            z=positions[:, 1],
        )
    return path


def histogram(positions, size=32):
    """Electrons per pixel of the detector, by NumPy's histogram."""
    edges = np.linspace(-1, 1, size + 1)
    return np.histogram2d(positions[:, 0], positions[:, 1], [edges, edges])[0].astype(int)
