"""CONTRIBUTING says where things are: the places are there, and the ways to add are named."""

import pathlib
import re

import pytest

import sevi_jax

ROOT = pathlib.Path(sevi_jax.__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_file_that_is_named_exists():
    named = set(re.findall(r"`((?:sevi_jax|tests|scripts|configs)/[\w/.]*)`", TEXT))
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_script_is_listed():
    text = (ROOT / "scripts/README.md").read_text()
    scripts = {
        path.name for path in (ROOT / "scripts").rglob("*.*") if path.suffix in (".py", ".sh")
    }
    assert set(re.findall(r"`(\w+\.(?:py|sh))`", text.replace("`docs/", ""))) >= scripts
    commands = re.findall(r"(?:python|bash|sbatch) (?:-m )?(scripts[\w./]+)", text)
    paths = [name if "/" in name else name.replace(".", "/") + ".py" for name in commands]
    assert [name for name in paths if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    "what", ["loss", "network", "prior family", "radial shape", "format", "figure"]
)
def test_it_says_where_to_add(what):
    table = TEXT.partition("## Where to add")[2].partition("## ")[0]
    assert re.search(rf"^\| an? {what}\b", table, re.MULTILINE)


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("sevi_jax/config.py", ["LOSSES"]),
        ("sevi_jax/network/losses.py", ["def beta_loss"]),
        ("sevi_jax/network/network.py", ["class ShellNetwork", "def _constants"]),
        ("sevi_jax/synthesis/prior.py", ["class ShellPrior"]),
        ("sevi_jax/network/training/loop.py", ["MAY_CHANGE", "def _steps"]),
        ("sevi_jax/network/training/step.py", ["def make_train_step"]),
        ("sevi_jax/physics/shapes.py", ["SHAPES"]),
        ("sevi_jax/model/components.py", ["class Shell"]),
        ("sevi_jax/results/report.py", ["_FIGURES"]),
        ("sevi_jax/commands.py", ["def guarding", "def refuse", "STOPPED"]),
    ],
)
def test_names_that_it_gives_are_there(file, names):
    text = (ROOT / file).read_text()
    for name in names:
        assert name in text


def test_kinds_of_loss_are_listed_once():
    """Elsewhere their names stand one by one, where something is done with them."""
    lists = [
        path.name
        for path in (ROOT / "sevi_jax").rglob("*.py")
        if re.search(r'\(\s*"squared",\s*"distance"', path.read_text())
    ]
    assert lists == ["config.py"]
