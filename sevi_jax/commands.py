"""What the command lines share: flags, help, and one line and status 2 for a user's mistake."""

import contextlib
import importlib.metadata
import io
import itertools
import os
import pathlib
import re
import socket
import sys
from collections.abc import Callable, Sequence

from absl import flags
from ml_collections import config_flags

from sevi_jax import memory
from sevi_jax.config import Config, validate
from sevi_jax.data.parts import parts_of
from sevi_jax.errors import InputError

FLAGS = flags.FLAGS

# XLA (jaxlib 0.10) logs as an error that preferences of its own are no features of the processor,
# whenever it takes a program from the cache; real errors are raised. Read when jaxlib is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def define_config() -> None:
    """Defines ``--config=FILE`` and with it ``--config.KEY=VALUE``."""
    config_flags.DEFINE_config_file(
        "config", None, "Configuration file; --config.train.steps=500 and the like change one key."
    )


def get_config() -> Config:
    """Returns the configuration given by the flags.

    Raises:
        InputError: if there is none, or it breaks a rule.
    """
    if FLAGS.config is None:
        raise InputError("--config=FILE is needed, for instance --config=configs/quick.py")
    validate(FLAGS.config)
    return FLAGS.config


def config_name() -> str:
    """Returns the name of the configuration file, without its ending."""
    path = config_flags.get_config_filename(FLAGS["config"])
    return pathlib.Path(path.partition(":")[0]).stem


def paths(values: Sequence[str], flag: str) -> list[pathlib.Path]:
    """Returns the files given by a list flag.

    Raises:
        InputError: if there is none, or one does not exist.
    """
    if not values:
        raise InputError(f"--{flag}=FILE is needed (several: --{flag}=FILE,FILE)")
    found = [pathlib.Path(value) for value in values]
    for path in found:
        if not parts_of(path)[0].exists():
            raise InputError(f"{path}: no such file (--{flag})")
    return found


def _config_file(argv: Sequence[str]) -> str | None:
    """Returns what stands behind ``--config``; None where it is not there or lacks its value."""
    for arg, after in itertools.zip_longest(argv[1:], argv[2:]):
        name, equals, value = arg.lstrip("-").partition("=")
        if arg.startswith("-") and name == "config":
            return value if equals else after
    return None


def _reason(error: Exception) -> str:
    """Says on one line what is wrong; only the last line of a traceback inside a message counts."""
    lines = str(error).strip().splitlines() or [""]
    text = lines[-1].strip() if "Traceback" in str(error) else " ".join(str(error).split())
    expected = isinstance(error, flags.Error | ValueError)
    return (text if expected else f"{type(error).__name__}: {text}")[:500]


def workdir(value: str | None) -> pathlib.Path:
    """Returns the folder of an existing run given by ``--workdir``.

    Raises:
        InputError: if none is given, or there is no such folder.
    """
    if not value:
        raise InputError("--workdir=FOLDER is needed, the folder of a run")
    path = pathlib.Path(value)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder (--workdir)")
    return path


def _parse(argv: Sequence[str]) -> None:
    """Parses flags; every mistake becomes an `InputError` of one line."""
    path = _config_file(argv) if "config" in FLAGS else None
    if path is not None and not pathlib.Path(path.partition(":")[0]).is_file():
        raise InputError(f"--config={path}: no such file")
    try:
        # a configuration file with a mistake may print
        with contextlib.redirect_stderr(io.StringIO()):
            rest = FLAGS(list(argv))
    except (KeyError, AttributeError) as error:
        # ml_collections gives the key in quotes, and sometimes a guess, in more than one wrapping
        key, guess = (re.search(rule, str(error)) for rule in (r"\w+", r"Did you mean [^?]*\?"))
        for arg in argv[1:]:
            name = arg.lstrip("-").partition("=")[0]
            if name.startswith("config.") and key and key[0] in name.split("."):
                hint = f". {guess[0]}" if guess else ""
                raise InputError(f"--{name}: no such key in the configuration{hint}") from error
        raise InputError(f"--config={path}: {_reason(error)}") from error
    except flags.Error as error:
        inside = f"--config={path}: " if "Traceback" in str(error) else ""
        raise InputError(inside + _reason(error)) from error
    except Exception as error:  # the configuration file is a program: it may raise anything
        raise InputError(f"--config={path}: {_reason(error)}") from error
    if rest[1:]:
        raise InputError(f"{rest[1]!r} is not a flag; flags look like --name=value")


def keep_compiled_programs() -> None:
    """Lets JAX keep compiled programs in the user's cache folder: a second start is quicker.

    The variable JAX_COMPILATION_CACHE_DIR names another folder, or, empty, none. Every machine has
    its own: programs may use what its processor alone can do.
    """
    # JAX by itself keeps what took a second; a start compiles many small programs
    _set_option("jax_persistent_cache_min_compile_time_secs", 0.1)
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = pathlib.Path(cache).expanduser() / "sevi_jax" / socket.gethostname()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # there is no home, or a folder cannot be made
        return
    if not os.access(folder, os.W_OK):
        return
    _set_option("jax_compilation_cache_dir", str(folder))


def _set_option(name: str, value: str | float) -> None:
    """Sets an option of JAX, loaded or not, unless its variable of the environment is there."""
    if name.upper() in os.environ:
        return
    os.environ[name.upper()] = str(value)
    if "jax" in sys.modules:
        import jax

        jax.config.update(name, value)


def require_sound_jax() -> None:
    """Refuses a JAX that computes wrong numbers; from 0.11 on, none is known that does.

    Raises:
        InputError: naming the defect and the remedy.
    """
    # JAX takes a second to load, which mistakes in flags shall not wait for
    if tuple(map(int, importlib.metadata.version("jax").split(".")[:2])) >= (0, 11):
        return
    from sevi_jax import soundness

    soundness.require_sound_jax()


def run(
    main: Callable[[], int | None], module: str, document: str | None, checks_jax: bool = True
) -> None:
    """Runs a command line and exits.

    Exit status: what `main` returns (None: 0); 2 with one line on stderr for a mistake of the
    user's, and for a disk that is full, read-only or somebody else's; 130 after Ctrl-C.

    Args:
        main: the command, after the flags are parsed.
        module: ``sevi_jax.train`` and the like, for the help.
        document: docstring of the command, which the help shows first.
        checks_jax: whether to call `require_sound_jax` before `main`; one that joins several
            processes does so itself, since nothing may be computed before it.
    """
    if any(arg in ("--help", "-h", "-help", "--helpfull") for arg in sys.argv[1:]):
        print(f"{(document or '').strip()}\n\nFlags:")
        # a flag belongs to the module that defined it, and the program itself goes by argv[0]
        own = [FLAGS.get_flags_for_module(name) for name in (__name__, sys.argv[0])]
        for flag in (*own[0], *own[1]):
            default = "" if flag.default in (None, "", []) else f" (default: {flag.default})"
            print(f"  --{flag.name}\n      {flag.help}{default}")
        sys.exit(0)
    memory.keep()
    keep_compiled_programs()
    try:
        _parse(sys.argv)
        if checks_jax:
            require_sound_jax()
        sys.exit(main())
    except InputError as error:
        print(f"{module}: {error}", file=sys.stderr)
        _leave()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{module}: {where}{error.strerror or _reason(error)}", file=sys.stderr)
        _leave()
    except KeyboardInterrupt:
        print(f"{module}: interrupted", file=sys.stderr)
        _leave(130)  # as shells say it of SIGINT


def _leave(status: int = 2) -> None:
    """Ends without what the interpreter does at its end.

    HDF5 crashes there after a file that could not be closed, and Orbax waits there for a checkpoint
    that other processes do not finish any more.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if "jax" in sys.modules:  # then it is no mistake in the flags
        import jax

        with contextlib.suppress(Exception):
            jax.distributed.shutdown()  # waits for the others, should there be some, to end too
    os._exit(status)
