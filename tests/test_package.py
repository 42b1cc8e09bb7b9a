"""What an installation promises: one program for all commands, and an import on every system."""

import os
import pathlib
import subprocess
import sys
import tomllib

import pytest

import sevi_jax
from sevi_jax import __main__ as program

ROOT = pathlib.Path(sevi_jax.__file__).parents[1]


def run(*arguments, cwd):
    line = [sys.executable, "-m", "sevi_jax", *arguments]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=600)


def test_help_names_every_command(tmp_path):
    done = run("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("predict", "calibrate", "train", "evaluate", "detect", "synthesize"):
        assert f"\n  {name} " in done.stdout
        assert name in program.COMMANDS
    assert run("--version", cwd=tmp_path).stdout == f"sevi_jax {sevi_jax.__version__}\n"


def test_command_is_the_module_of_its_name(tmp_path):
    line = [sys.executable, "-m", "sevi_jax.calibrate", "--help"]
    module = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    done = run("calibrate", "--help", cwd=tmp_path)
    assert done.stdout == module.stdout
    assert "--known" in done.stdout
    done = run("calibrate", "--known=1:1eV", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr == "sevi_jax.calibrate: --input=FILE is needed (several: --input=FILE,FILE)\n"
    )


def test_unknown_command_is_one_line(tmp_path):
    done = run("guess", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sevi-jax: 'guess' is no command; expected one of predict, ")
    assert done.stderr.count("\n") == 1


def test_the_program_itself_loads_nothing_heavy(tmp_path):
    code = (
        "import sys, sevi_jax.__main__ as program; program.usage(); "
        "print(sorted({'jax', 'matplotlib', 'scipy', 'numpy', 'orbax'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


# Of what only some systems have, all that the package could meet at its import.
ELSEWHERE = """
import builtins, importlib, pkgutil
ordinary = builtins.__import__
def elsewhere(name, globals=None, *rest, **more):
    here = (globals or {}).get("__name__", "").startswith("sevi_jax")
    if here and name in ("fcntl", "resource", "pwd", "grp", "termios"):
        raise ModuleNotFoundError(name)
    return ordinary(name, globals, *rest, **more)
builtins.__import__ = elsewhere
import ctypes
def none(*_):
    raise TypeError("no such library")
real, ctypes.CDLL = ctypes.CDLL, lambda name, *rest, **more: (
    none() if name is None else real(name, *rest, **more)
)
import sevi_jax
names = [info.name for info in pkgutil.walk_packages(sevi_jax.__path__, "sevi_jax.")]
from absl import flags
for name in names:
    if name.endswith("run_config"):  # a configuration file, which --config loads
        continue
    importlib.import_module(name)
    # commands have flags of the same names
    for module, defined in list(flags.FLAGS.flags_by_module_dict().items()):
        for flag in list(defined) if module.startswith("sevi_jax") else ():
            delattr(flags.FLAGS, flag.name)
from sevi_jax import memory
memory.keep()
memory.give_back()
print(len(names))
"""


def test_every_module_is_imported_without_what_only_linux_has(tmp_path):
    env = os.environ | {"XLA_FLAGS": ""}
    line = [sys.executable, "-c", ELSEWHERE]
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 80


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not a checkout")
def test_version_stands_in_one_place_and_the_citation_agrees():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    assert f"\nversion: {sevi_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {sevi_jax.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
    extras = set(project["optional-dependencies"])
    assert extras >= {"cuda12", "cuda13", "notebook", "fits", "sif", "compare"}
    assert (ROOT / "sevi_jax/py.typed").exists()
