"""One program for all commands: ``sevi-jax predict ...`` is ``python -m sevi_jax.predict ...``."""

import importlib.util
import runpy
import sys

import sevi_jax

# In the order of the help. A command is loaded when it is called, and JAX by those that need it.
COMMANDS = {
    "predict": "shells, errors and figures of measured pictures and event files",
    "invert": "a distribution of the radius of any form, without shells",
    "calibrate": "radii to energies, by rings of known energy",
    "train": "a network, on pictures that are drawn while it learns",
    "evaluate": "a trained network on files whose answer is known",
    "detect": "the electrons on camera frames",
    "synthesize": "files of simulated measurements",
}


def available() -> dict[str, str]:
    """Returns the commands and what they are for."""
    return {
        name: purpose
        for name, purpose in COMMANDS.items()
        if importlib.util.find_spec(f"sevi_jax.{name}") is not None
    }


def usage() -> str:
    """Returns the help."""
    commands = available()
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {purpose}" for name, purpose in commands.items()]
    return "\n".join(
        [
            (sevi_jax.__doc__ or "").strip(),
            "",
            "  sevi-jax COMMAND --FLAG=VALUE ...",
            "  sevi-jax COMMAND --help",
            "  sevi-jax --version",
            "",
            "Commands:",
            *lines,
        ]
    )


def main() -> int:
    """Runs a command, which ends the process; returns the exit status of what is none."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("--help", "-h", "-help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("--version", "-version"):
        print(f"sevi_jax {sevi_jax.__version__}")
        return 0
    name = arguments[0]
    if name not in available():
        names = ", ".join(available())
        print(f"sevi-jax: {name!r} is no command; expected one of {names}", file=sys.stderr)
        return 2
    sys.argv = [name, *arguments[1:]]
    runpy.run_module(f"sevi_jax.{name}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
