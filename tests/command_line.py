"""Runs the commands inside the test's process: flags, messages and exit status as a user has them.

A process of its own takes seconds to start; what only it can show (signals, what the interpreter
does at its end) is tested in one.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import runpy
import sys
import warnings
from unittest import mock

from absl import flags

import sevi_jax
from sevi_jax import commands

_BUILT_IN = set(flags.FLAGS)


@dataclasses.dataclass(frozen=True)
class Said:
    """What a command left: its exit status and what it wrote."""

    status: int
    out: str
    err: str


def command(module, *args, cwd, **environment):
    """Runs ``python -m sevi_jax.<module> args`` in a folder.

    Args:
        module: name of the command.
        args: flags.
        cwd: the working directory.
        environment: variables that are set meanwhile.
    """
    out, err = io.StringIO(), io.StringIO()
    before, folder = dict(os.environ), pathlib.Path.cwd()
    _forget_flags()
    try:
        os.chdir(cwd)
        os.environ |= environment
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "argv", [module, *map(str, args)]),
            mock.patch.object(commands, "_leave", _exit),
            mock.patch.object(commands.memory, "keep"),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", message=".*found in sys.modules.*")
            # ml_collections loads a configuration file in a way that Python 3.12 deprecates
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            runpy.run_module(f"sevi_jax.{module}", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code or 0
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(before)
        _forget_flags()
    return Said(status, out.getvalue(), err.getvalue())


def _exit(status=2):
    raise SystemExit(status)


def _forget_flags():
    sys.modules.pop("config_config", None)  # the configuration file of the command before
    sys.modules.pop("sevi_jax.picture_flags", None)  # it defines flags, anew for every command
    vars(sevi_jax).pop("picture_flags", None)
    for name in set(flags.FLAGS) - _BUILT_IN:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


def listing(folder):
    """Every file below a folder with its content; folders with None."""
    return {
        path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))
    }


def assert_refused(folder, message, module, *args, **environment):
    """Status 2, one line on stderr that says what and starts with the command; nothing written."""
    before = listing(folder)
    said = command(module, *args, cwd=folder, **environment)
    assert said.status == 2, said
    assert len(said.err.splitlines()) == 1, said.err
    assert said.err.startswith(f"sevi_jax.{module}: ")
    assert message in said.err, said.err
    assert listing(folder) == before
