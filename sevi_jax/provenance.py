"""Which program made something: versions and the revision of the source."""

import functools
import os
import pathlib
import platform
import subprocess

import jax
import jaxlib.version
import numpy as np

import sevi_jax

_PACKAGE = pathlib.Path(sevi_jax.__file__).parent


@functools.cache
def revision() -> str | None:
    """Returns the git revision of the package's checkout, with ``-dirty`` if it was changed.

    None where there is no git, or the package is not a tracked part of a checkout: installed into
    an environment inside somebody else's repository, it is of no revision of that.
    """

    def git(*args: str) -> str:
        # a git hook's own variables would name another repository
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        line = ["git", "--no-optional-locks", "-C", str(_PACKAGE), *args]
        return subprocess.run(
            line, env=env, capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):
            return None
        return git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """Returns the versions of this program and of what its numbers depend on."""
    return {
        "sevi_jax": sevi_jax.__version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.version.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
