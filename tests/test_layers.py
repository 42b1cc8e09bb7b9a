"""Data flows one way through the package: imports point only to earlier layers."""

import ast
import pathlib

import pytest

import sevi_jax

COMMANDS = {"detect", "train", "evaluate", "predict", "synthesize", "commands"}
# A module may import its own layer and earlier ones.
LAYERS = [
    {"errors", "config", "prng", "memory"},
    {"synthesis"},
    {"detection"},
    {"models", "losses"},
    {"training"},
    {"inference", "simulation"},
    COMMANDS,
]
# Files and figures stand beside the chain: they know only the errors, and only its end knows them.
SIDE = {"data", "plots"}
SIDE_MAY_IMPORT = {"errors"}
MAY_IMPORT_SIDE = {"inference", "simulation"} | COMMANDS
# Libraries that only these modules (and what lies below them) may import.
OWNERS = {
    "h5py": {"data"},
    "matplotlib": {"plots"},
    "ml_collections": {"config", "training", "inference"} | COMMANDS,
    "orbax": {"training.checkpoint"},
    "tensorstore": {"training.checkpoint"},
    "tensorboardX": {"training.metrics"},
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


def layer_of(unit):
    return next((i for i, layer in enumerate(LAYERS) if unit in layer), None)


def violations(source, module, is_package=False):
    """Returns one line for every import of a module that the layers forbid."""
    inside = module.removeprefix("sevi_jax").removeprefix(".")
    unit = inside.split(".")[0]
    if unit and layer_of(unit) is None and unit not in SIDE:
        return [f"{module} belongs to no layer: give it a place in tests/test_layers.py"]
    found = []
    for name in sorted(imported_names(source, module, is_package)):
        top, _, rest = name.partition(".")
        if top == "sevi_jax":
            target = rest.split(".")[0]
            if target.startswith("__") or target in ("", unit):
                continue
            if not _allowed(unit, target):
                found.append(f"{module} must not import {name}")
        elif top in OWNERS and not any(
            f"{inside}.".startswith(f"{owner}.") for owner in OWNERS[top]
        ):
            found.append(f"{module} must not import {name}: only {sorted(OWNERS[top])} may")
    return found


def _allowed(unit, target):
    if unit in SIDE:
        return target in SIDE_MAY_IMPORT
    if target in SIDE:
        return unit in MAY_IMPORT_SIDE
    layer = layer_of(target)
    # The package's own __init__ (no unit) counts as the first layer.
    return layer is not None and layer <= (layer_of(unit) or 0)


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
        ("sevi_jax.synthesis.prior", "import sevi_jax.training.step"),
        ("sevi_jax.synthesis.prior", "from sevi_jax import losses"),
        ("sevi_jax.synthesis.prior", "from ..models import resnet"),
        ("sevi_jax.synthesis.prior", "def f():\n    from sevi_jax.inference.fit import fit"),
        ("sevi_jax.errors", "from sevi_jax.synthesis import types"),
        ("sevi_jax.losses", "from .training import step"),
        ("sevi_jax.training.loop", "from sevi_jax.inference import report"),
        ("sevi_jax.training.loop", "from sevi_jax import plots"),
        ("sevi_jax.training.loop", "import sevi_jax.data.events as events"),
        ("sevi_jax.inference.report", "from sevi_jax.train import main"),
        ("sevi_jax.data.events", "from sevi_jax.synthesis.types import ShellParams"),
        ("sevi_jax.data.events", "from sevi_jax import plots"),
        ("sevi_jax.plots", "from sevi_jax import config"),
        ("sevi_jax.inference.predict", "import h5py"),
        ("sevi_jax.training.loop", "import orbax.checkpoint as ocp"),
        ("sevi_jax.training.checkpoints", "from orbax import checkpoint"),
        ("sevi_jax.training.loop", "from tensorboardX import SummaryWriter"),
        ("sevi_jax.inference.report", "from matplotlib.figure import Figure"),
        ("sevi_jax.synthesis.prior", "import ml_collections"),
        ("sevi_jax.models.resnet", "from ml_collections import config_dict"),
        ("sevi_jax.elsewhere", "import numpy"),
        ("sevi_jax.training.loop", "import sevi_jax.elsewhere"),
    ],
)
def test_backward_edge_is_found(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize("source", ["from .training import step", "from . import plots"])
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
        ("sevi_jax.synthesis.prior", "from sevi_jax.synthesis import types\nimport numpy, jax"),
        ("sevi_jax.synthesis.prior", "from . import types"),
        ("sevi_jax.training.loop", "from sevi_jax import __version__, losses, models, prng"),
        ("sevi_jax.training.checkpoint", "import orbax.checkpoint as ocp"),
        ("sevi_jax.training.metrics", "import tensorboardX"),
        ("sevi_jax.inference.report", "from sevi_jax import data, plots, training"),
        ("sevi_jax.data.events", "import h5py\nfrom sevi_jax.errors import InputError"),
        ("sevi_jax.plots", "from matplotlib.figure import Figure"),
        ("sevi_jax.train", "from sevi_jax import commands, data, plots, inference"),
    ],
)
def test_forward_edge_is_allowed(module, source):
    assert violations(source, module) == []
