"""No private name of another library is imported, used or patched: the next release may lack it."""

import ast
import pathlib

import pytest

import sevi_jax

# os._exit is documented in spite of its name
DOCUMENTED = {"_exit"}
ROOT = pathlib.Path(sevi_jax.__file__).parent


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def private_uses(source):
    """Lines in which a private part of another package is imported, or an attribute of one used."""
    tree = ast.parse(source)
    found, modules = [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            for alias in node.names:
                modules[alias.asname or alias.name.split(".")[0]] = alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            for alias in node.names:
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        else:
            continue
        others = [name for name in names if name.split(".")[0] != "sevi_jax"]
        found += [node.lineno for name in others if any(map(is_private, name.split(".")))]
    foreign = {x for x, name in modules.items() if name.split(".")[0] != "sevi_jax"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            base = node.value
            while isinstance(base, ast.Attribute):
                base = base.value
            if isinstance(base, ast.Name) and base.id in foreign:
                found.append(node.lineno)
    return sorted(found)


def test_no_private_name_of_another_library():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted(ROOT.rglob("*.py"))
        for line in private_uses(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ("import jax._src.core", 1),
        ("from jax._src import core", 1),
        ("from numpy import _core", 1),
        ("import jax.numpy as jnp\njnp.lax._thing()", 1),
        ("import os\nos._exit(0)", 0),
        ("import jax.numpy as jnp\njnp.sum(1)", 0),
        ("from sevi_jax.physics import series\nseries._gauss('normal')", 0),
        ("class A:\n    def f(self):\n        return self._x", 0),
    ],
)
def test_private_names_are_found(source, number):
    assert len(private_uses(source)) == number
