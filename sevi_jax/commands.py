"""What the command lines share: flags, help, and one line and status 2 for a user's mistake."""

import contextlib
import importlib.metadata
import io
import math
import os
import pathlib
import re
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from absl import flags

import sevi_jax
from sevi_jax import memory
from sevi_jax.data import outputs
from sevi_jax.data.parts import parts_of
from sevi_jax.errors import InputError

if TYPE_CHECKING:
    from sevi_jax.config import Config

# ml_collections takes a quarter of a second to load, and fits have no use for it: it is imported
# where a configuration is meant.

FLAGS = flags.FLAGS

# XLA (jaxlib 0.10) logs as an error that preferences of its own are no features of the processor,
# whenever it takes a program from the cache; real errors are raised. Read when jaxlib is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


# Exit status of a training that a signal stopped: the same command goes on (EX_TEMPFAIL of
# sysexits.h). scripts/slurm.sh requeues at it.
STOPPED = 75

_RUN_CONFIG = pathlib.Path(sevi_jax.__file__).with_name("run_config.py")
# Where the configurations of the program lie: in a wheel, and in a checkout.
_SHIPPED = [pathlib.Path(sevi_jax.__file__).parents[n] / "configs" for n in (0, 1)]


def define_config() -> None:
    """Defines ``--config=FILE`` and with it ``--config.KEY=VALUE``."""
    from ml_collections import config_flags

    config_flags.DEFINE_config_file(
        "config",
        None,
        "Configuration file, a .py or the config.json of a run, or a name as quick of one that is "
        "shipped; --config.train.steps=500 and the like change one key.",
    )


def define_overwrite() -> flags.FlagHolder:
    """Defines ``--overwrite``, for `guarding`."""
    return flags.DEFINE_bool(
        "overwrite", False, "Replace files that are no earlier results, too; never an input."
    )


def guarding(
    inputs: Iterable[pathlib.Path | None], overwrite: bool, workdir: pathlib.Path | None = None
) -> contextlib.AbstractContextManager[None]:
    """Keeps this process from writing over files that the command reads, or that are foreign.

    Args:
        inputs: files that the command reads; the configuration file is one more.
        overwrite: what ``--overwrite`` says.
        workdir: folder of a run that is read.
    """
    read = [parts_of(path)[0] for path in inputs if path is not None]
    if workdir is not None:
        read += [workdir / name for name in ("config.json", "metrics.jsonl", "checkpoints")]
    if "config" in FLAGS and FLAGS["config"].present:
        read.append(config_path())
    return outputs.guarding(read, overwrite)


def is_given(name: str) -> bool:
    """Whether a flag stands on the command line."""
    return FLAGS[name].present > 0


def refuse(names: Iterable[str], reason: str) -> None:
    """Raises InputError for the first of the flags that is given, since it would do nothing.

    Args:
        names: of flags.
        reason: what it goes with, as ``"goes with --fit"``.
    """
    for name in names:
        if is_given(name):
            raise InputError(f"--{name} {reason}")


def refuse_keys(useful: Sequence[str]) -> None:
    """Raises InputError for a key of the configuration that is changed and has no effect.

    Args:
        useful: keys that have one, or the sections of such keys.
    """
    from ml_collections import config_flags

    for key in config_flags.get_override_values(FLAGS["config"]):
        if not any(key == name or key.startswith(f"{name}.") for name in useful):
            raise InputError(f"--config.{key} has no effect here")


def get_config() -> "Config":
    """Returns the configuration given by the flags.

    Raises:
        InputError: if there is none, or it breaks a rule.
    """
    if not is_given("config"):
        names = ", ".join(sorted(_shipped_configs()))
        raise InputError(f"--config=FILE is needed, or one of the program's own: {names}")
    from ml_collections import ConfigDict

    from sevi_jax.config import fields, validate, value_of

    if not isinstance(FLAGS.config, ConfigDict):
        raise InputError(
            f"--config={config_path()}: get_config() returned {type(FLAGS.config).__name__}, "
            "expected what sevi_jax.config.default_config() makes"
        )
    for field in fields():
        if value_of(FLAGS.config, field) is None:
            raise InputError(
                f"--config={config_path()}: found no key {field}, expected what "
                "sevi_jax.config.default_config() makes"
            )
    validate(FLAGS.config)
    return FLAGS.config


def config_path() -> pathlib.Path:
    """Returns the configuration file."""
    from ml_collections import config_flags

    path, _, argument = config_flags.get_config_filename(FLAGS["config"]).partition(":")
    return pathlib.Path(argument if pathlib.Path(path) == _RUN_CONFIG else path)


def config_name() -> str:
    """Returns the name of the configuration file, without its ending; of a run, its folder's."""
    path = config_path()
    return path.absolute().parent.name if path.suffix == ".json" else path.stem


def paths(values: Sequence[str], flag: str) -> list[pathlib.Path]:
    """Returns the files given by a list flag.

    Raises:
        InputError: if there is none, or one does not exist.
    """
    if not values:
        raise InputError(f"--{flag}=FILE is needed (several: --{flag}=FILE,FILE)")
    if not all(values):
        raise InputError(f"--{flag}={','.join(values)}: a name is empty")
    found = [pathlib.Path(value) for value in values]
    for path in found:
        if not parts_of(path)[0].exists():
            raise InputError(f"{path}: no such file (--{flag})")
    return found


def _config_place(argv: Sequence[str]) -> int | None:
    """Returns the place of ``--config`` in the command line; None where it is not there."""
    for place, arg in enumerate(argv[1:], 1):
        if arg == "--":
            return None
        if arg.startswith("-") and arg.lstrip("-").partition("=")[0] == "config":
            return place
    return None


def _shipped_configs() -> dict[str, pathlib.Path]:
    """The configurations that the program ships, by name."""
    return {path.stem: path for folder in _SHIPPED for path in folder.glob("*.py")}


def _config_file(argv: list[str]) -> str | None:
    """Returns what stands behind ``--config``; None where it is not there or lacks its value.

    Where no file is meant, ``quick`` and ``configs/quick.py`` name one that the program ships. That
    one, and the configuration of a run, take the form in `argv` that ml_collections reads.
    """
    place = _config_place(argv)
    if place is None:
        return None
    name, equals, path = argv[place].partition("=")
    if not equals:
        path = argv[place + 1] if place + 1 < len(argv) else None
    if not path:
        return path
    given = path
    if not pathlib.Path(path.partition(":")[0]).is_file():
        shipped = re.fullmatch(r"(?:configs[/\\])?(\w+)(?:\.py)?", path)
        path = str(_shipped_configs().get(shipped[1], path)) if shipped else path
    file = f"{_RUN_CONFIG}:{path}" if _is_run_config(path) else path
    if file != given:
        argv[place : place + (1 if equals else 2)] = [f"{name}={file}"]
    return path


def _is_run_config(path: str) -> bool:
    return pathlib.Path(path).suffix == ".json" and pathlib.Path(path).is_file()


def _reason(error: Exception) -> str:
    """Says on one line what is wrong; only the last line of a traceback inside a message counts."""
    lines = str(error).strip().splitlines() or [""]
    text = lines[-1].strip() if "Traceback" in str(error) else " ".join(str(error).split())
    expected = isinstance(error, flags.Error | ValueError)
    return (text if expected else f"{type(error).__name__}: {text}")[:500]


def workdir(value: str | None, flag: str = "workdir") -> pathlib.Path:
    """Returns the folder of an existing run given by a flag.

    Raises:
        InputError: if none is given, or there is no such folder.
    """
    if not value:
        raise InputError(f"--{flag}=FOLDER is needed, the folder of a run")
    path = pathlib.Path(value)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder (--{flag})")
    return path


def _parse(argv: Sequence[str]) -> None:
    """Parses flags; every mistake becomes an `InputError` of one line."""
    argv = list(argv)
    path = _config_file(argv) if "config" in FLAGS else None
    if path is not None and not pathlib.Path(path.partition(":")[0]).is_file():
        raise InputError(f"--config={path}: no such file")
    try:
        # a configuration file with a mistake may print
        with contextlib.redirect_stderr(io.StringIO()):
            rest = FLAGS(argv)
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
    keys = [arg.lstrip("-").partition("=")[0] for arg in argv[1:] if arg.startswith("-")]
    for name in FLAGS:
        flag = FLAGS[name]
        # ml_collections counts the parts of a key of the configuration
        times = keys.count(name) if name.partition(".")[0] == "config" else flag.present
        if times > 1:
            several = "; several files are one flag, --input=a,b" if name == "input" else ""
            raise InputError(f"--{name} is given {times} times{several}")
        if flag.present and flag.value in ("", []):
            raise InputError(f"--{name}=: a value is expected")
        # that lies in no range and in every one
        if flag.present and isinstance(flag.value, float) and not math.isfinite(flag.value):
            raise InputError(f"--{name}={flag.value}: a finite number is expected")


def keep_compiled_programs() -> None:
    """Lets JAX keep compiled programs in the user's cache folder: a second start is quicker.

    The variable JAX_COMPILATION_CACHE_DIR names another folder, or, empty, none. Every machine has
    its own: programs may use what its processor alone can do.
    """
    # JAX by itself keeps what took a second; a fit compiles a dozen small programs, which together
    # take 0.3 s of every start
    _set_option("jax_persistent_cache_min_compile_time_secs", 0.0)
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
    main: Callable[[], int | None],
    module: str,
    document: str | None,
    describe: Callable[[], str] | None = None,
    checks_jax: bool = True,
) -> None:
    """Runs a command line and exits.

    Exit status: what `main` returns (None: 0); 2 with one line on stderr for a mistake of the
    user's, and for what the machine refuses: a disk that is full, read-only or somebody else's, too
    little memory, a device that is not there; 130 after Ctrl-C.

    Args:
        main: the command, after the flags are parsed.
        module: ``sevi_jax.train`` and the like, for the help.
        document: docstring of the command, which the help shows first.
        describe: gives what the help shows last.
        checks_jax: whether to call `require_sound_jax` before `main`; one that joins several
            processes does so itself, since nothing may be computed before it.
    """
    for stream in (sys.stdout, sys.stderr):  # a name or a sign that the terminal has not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    memory.keep()
    keep_compiled_programs()
    try:
        if any(arg in ("--help", "-h", "-help", "--helpfull") for arg in sys.argv[1:]):
            _print_help(document, describe)
            sys.exit(0)
        _parse(sys.argv)
        if checks_jax:
            require_sound_jax()
        status = main()
        if sys.stdout:  # what nobody reads any more is noticed here, not at the interpreter's end
            sys.stdout.flush()
        sys.exit(status)
    except KeyboardInterrupt:
        print(f"{module}: interrupted", file=sys.stderr)
        _leave(130)  # as shells say it of SIGINT
    except Exception as error:
        reason = _mistake(error)
        if reason is None:
            raise
        print(f"{module}: {reason}", file=sys.stderr)
        _leave()


def _print_help(document: str | None, describe: Callable[[], str] | None) -> None:
    """Prints docstring, flags with defaults, and what `describe` gives."""
    print(f"{(document or '').strip()}\n\nFlags:")
    # a flag belongs to the module that defined it, and the program itself goes by argv[0]
    own = [*FLAGS.get_flags_for_module(__name__), *FLAGS.get_key_flags_for_module(sys.argv[0])]
    for flag in {flag.name: flag for flag in own}.values():
        default = "" if flag.default in (None, "", []) else f" (default: {flag.default})"
        print(f"  --{flag.name}\n      {flag.help}{default}")
    if describe:
        print(describe())
    sys.stdout.flush()


def _mistake(error: Exception) -> str | None:
    """What an error says of the user's input or machine, on one line; None: the program's fault."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or _reason(error)}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return f"out of memory ({_reason(error)[:200]}); a smaller batch or picture takes less"
    try:
        import jax

        jax.devices()
    except Exception as cause:  # anything, by what is installed
        wanted = os.environ.get("JAX_PLATFORMS")
        named = f"JAX_PLATFORMS={wanted}: " if wanted else ""
        return f"{named}JAX does not start here ({_reason(cause) or type(cause).__name__})"
    return None


def _leave(status: int = 2) -> None:
    """Ends without what the interpreter does at its end.

    HDF5 crashes there after a file that could not be closed, and Orbax waits there for a checkpoint
    that other processes do not finish any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream:
            with contextlib.suppress(OSError):  # nobody reads it any more
                stream.flush()
    if "jax" in sys.modules:  # then it is no mistake in the flags
        import jax

        with contextlib.suppress(Exception):
            jax.distributed.shutdown()  # waits for the others, should there be some, to end too
    os._exit(status)
