"""The names that users and the guide rely on, and what their import takes."""

import subprocess
import sys

import pytest

import sevi_jax

HEAVY = ("jax", "matplotlib", "scipy", "numpy", "h5py", "orbax", "tensorstore", "pandas")
# What neither reading a picture nor fitting it needs.
OF_NETWORKS = (
    "flax", "optax", "orbax", "tensorstore", "ml_collections", "tensorboardX", "matplotlib",
    "pandas", "scipy.stats", "tifffile", "imagecodecs", "PIL",
)  # fmt: skip


def loaded(names, statement):
    """Which of the modules a statement loads, in a process of its own."""
    code = f"import sys; {statement}; print(*(x for x in {names!r} if x in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_public_names():
    names = [
        "Calibration", "Distribution", "Fit", "Picture", "calibrate", "fit", "fit_many",
        "invert", "load", "load_all", "simulate",
    ]  # fmt: skip
    assert sorted(sevi_jax.__all__) == names
    assert set(names) <= set(dir(sevi_jax))
    for name in names:
        assert getattr(sevi_jax, name).__name__ == name
        assert callable(getattr(sevi_jax, name))
    with pytest.raises(AttributeError, match="has no attribute 'fits'"):
        _ = sevi_jax.fits


def test_import_is_light_and_silent():
    assert loaded(HEAVY, "import sevi_jax") == []


def test_a_fit_loads_nothing_of_networks_and_figures():
    assert loaded(OF_NETWORKS, "import sevi_jax; sevi_jax.load, sevi_jax.fit") == []


def test_predict_loads_nothing_of_networks_and_figures():
    statement = "from sevi_jax import predict; from sevi_jax.results import predicting, record, fit"
    assert loaded(OF_NETWORKS, statement) == []


def test_command_of_the_same_name_does_not_hide_a_function():
    code = "import sevi_jax, sevi_jax.calibrate; print(sevi_jax.calibrate.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "sevi_jax.results.calibration"
