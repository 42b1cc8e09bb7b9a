"""Imports inside the package point one way only: `MAY_IMPORT` says which."""

import ast
import pathlib

import pytest

import sevi_jax

COMMANDS = {"calibrate", "detect", "train", "evaluate", "invert", "predict", "synthesize"}
COMMANDS |= {"__main__", "commands", "picture_flags"}
FIRST = {
    "errors",
    "arguments",
    "locks",
    "cores",
    "config",
    "prng",
    "memory",
    "provenance",
    "physics",
    "data",
}
# What a unit may import besides itself; two halves stand on one physics and meet at the results.
MAY_IMPORT = {
    "errors": set(),
    "arguments": {"errors"},
    "prng": set(),
    "memory": set(),
    "locks": {"errors"},
    "cores": set(),
    "soundness": {"errors"},
    "provenance": set(),
    "config": {"errors"},
    "run_config": {"errors", "config"},
    "physics": {"errors"},
    "data": {"errors", "arguments", "locks"},
    "synthesis": {"errors", "arguments", "prng", "physics", "data"},
    "network": FIRST - {"data"} | {"synthesis"},
    "detection": FIRST - {"config"} | {"synthesis"},
    "model": {"errors", "physics"},
    "estimation": {"errors", "arguments", "physics", "data", "model"},
}
RESULTS = FIRST | {"synthesis", "network", "detection", "model", "estimation"}
MAY_IMPORT[""] = {"data", "synthesis", "results"}  # of the public names, for type checkers
MAY_IMPORT |= {"results": RESULTS, "simulation": RESULTS}
MAY_IMPORT |= {
    command: RESULTS | {"results", "simulation", "soundness"} | COMMANDS for command in COMMANDS
}
# Libraries that only these modules (and what lies below them) may import.
OWNERS = {
    "h5py": {"data"},
    "tifffile": {"data.readers"},
    "imagecodecs": {"data.readers"},
    "matplotlib": {"results.figures"},
    "ml_collections": {"config", "network.training", "network.run"} | COMMANDS,
    "orbax": {"network.training.checkpoint"},
    "tensorboardX": {"network.training.metrics"},
}


def imported_names(source, module, is_package=False):
    """Absolute dotted names of all that a module imports, inside functions too.

    Args:
        source: text of the module.
        module: its dotted name, for instance ``"sevi_jax.data.frames"``.
        is_package: whether it is an ``__init__.py``, for relative imports.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join(parts + ([node.module] if node.module else []))
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def violations(source, module, is_package=False):
    """Returns one line for every import of a module that the layers forbid."""
    inside = module.removeprefix("sevi_jax").removeprefix(".")
    unit = inside.split(".")[0]
    if unit and unit not in MAY_IMPORT:
        return [f"{module} belongs to no layer: give it a place in tests/test_layers.py"]
    found = []
    for name in sorted(imported_names(source, module, is_package)):
        top, _, rest = name.partition(".")
        if top == "sevi_jax":
            target = rest.split(".")[0]
            if target.startswith("__") or target in ("", unit):
                continue
            # the package's own __init__ has no unit
            if target not in MAY_IMPORT.get(unit, set()):
                found.append(f"{module} must not import {name}")
        elif top in OWNERS and not any(
            f"{inside}.".startswith(f"{owner}.") for owner in OWNERS[top]
        ):
            found.append(f"{module} must not import {name}: only {sorted(OWNERS[top])} may")
    return found


def modules():
    root = pathlib.Path(sevi_jax.__file__).parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield path, ".".join(parts[:-1] if is_package else parts), is_package


def test_imports_point_only_to_earlier_layers():
    found = []
    count = 0
    for path, module, is_package in modules():
        found += violations(path.read_text(encoding="utf-8"), module, is_package)
        count += 1
    assert count > 5
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sevi_jax.synthesis.prior", "import sevi_jax.network.training.step"),
        ("sevi_jax.synthesis.prior", "from sevi_jax import network"),
        ("sevi_jax.synthesis.prior", "from ..network import resnet"),
        (
            "sevi_jax.synthesis.prior",
            "def f():\n    from sevi_jax.estimation import origin",
        ),
        ("sevi_jax.errors", "from sevi_jax.physics import types"),
        ("sevi_jax.physics.legendre", "from sevi_jax.synthesis import prior"),
        ("sevi_jax.network.losses", "from ..results import report"),
        ("sevi_jax.network.training.loop", "from sevi_jax.estimation import fitting"),
        ("sevi_jax.network.training.loop", "import sevi_jax.data.events as events"),
        ("sevi_jax.estimation.fitting", "from sevi_jax.network import losses"),
        ("sevi_jax.estimation.fitting", "from sevi_jax.synthesis import electrons"),
        ("sevi_jax.results.report", "from sevi_jax.train import main"),
        ("sevi_jax.data.events", "from sevi_jax.physics.types import ShellParams"),
        ("sevi_jax.data.events", "from sevi_jax.results.figures import training"),
        ("sevi_jax.results.predict", "import h5py"),
        ("sevi_jax.network.training.loop", "import orbax.checkpoint as ocp"),
        ("sevi_jax.network.training.checkpoints", "from orbax import checkpoint"),
        ("sevi_jax.network.training.loop", "from tensorboardX import SummaryWriter"),
        ("sevi_jax.results.report", "from matplotlib.figure import Figure"),
        ("sevi_jax.synthesis.prior", "import ml_collections"),
        ("sevi_jax.network.resnet", "from ml_collections import config_dict"),
        ("sevi_jax.elsewhere", "import numpy"),
        ("sevi_jax.network.training.loop", "import sevi_jax.elsewhere"),
    ],
)
def test_backward_edge_is_found(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize("source", ["from .network import losses", "from . import commands"])
def test_backward_edge_of_the_package_itself_is_found(source):
    assert len(violations(source, "sevi_jax", is_package=True)) == 1


def test_relative_import_of_a_package_is_resolved():
    assert imported_names("from . import a", "p.q", is_package=True) == {"p.q.a"}
    assert imported_names("from . import a", "p.q") == {"p.a"}
    assert imported_names("from ..r import a", "p.q.s") == {"p.r.a"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sevi_jax.config", "from sevi_jax.errors import InputError\nimport ml_collections"),
        ("sevi_jax.synthesis.prior", "from sevi_jax.physics import types\nimport numpy, jax"),
        ("sevi_jax.synthesis.prior", "from . import types"),
        ("sevi_jax.network.training.loop", "from sevi_jax import __version__, synthesis, prng"),
        ("sevi_jax.network.training.checkpoint", "import orbax.checkpoint as ocp"),
        ("sevi_jax.network.training.metrics", "import tensorboardX"),
        ("sevi_jax.results.report", "from sevi_jax import data, network, estimation"),
        ("sevi_jax.data.events", "import h5py\nfrom sevi_jax.errors import InputError"),
        ("sevi_jax.results.figures.training", "from matplotlib.figure import Figure"),
        ("sevi_jax.train", "from sevi_jax import commands, data, results"),
    ],
)
def test_forward_edge_is_allowed(module, source):
    assert violations(source, module) == []
