"""A network's parameters in half precision, in files that are small enough to send.

`gpu_report.py` writes them and `restore_run.py` reads them. The kernels of the convolutions, which
are nearly all of a network, are float16: a relative rounding of 5e-4 at most. All else is float32.
Every file is an .npz; the first one holds a description too, and all hold a number that is the
same for the files of one set.
"""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

LARGEST_FILE = 15_500_000  # bytes of the arrays in a file; the headers come on top
_SET, _DESCRIPTION = "set of files", "description"


def write_parameters(
    folder: pathlib.Path,
    variables: dict[str, Any],
    description: dict[str, Any],
    largest_file: int = LARGEST_FILE,
) -> list[pathlib.Path]:
    """Writes ``parameters_0.npz``, ``parameters_1.npz``, ... into a folder.

    All files are complete before the first takes its name, so a set that is there is replaced
    within milliseconds.

    Args:
        folder: an existing one.
        variables: ``params`` and ``batch_stats`` of a network.
        description: what JSON can hold: the configuration and what is known of the network.
        largest_file: bytes of the arrays in a file, at most.
    """
    parts: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for path, leaf in jax.tree.leaves_with_path(jax.device_get(variables)):
        array = np.asarray(leaf, np.float16 if np.ndim(leaf) == 4 else np.float32)
        if parts[-1] and size + array.nbytes > largest_file:
            parts.append({})
            size = 0
        size += array.nbytes
        parts[-1][_name(path)] = array
    number = np.frombuffer(os.urandom(8), np.uint64)
    description = description | {"files": len(parts)}
    parts[0][_DESCRIPTION] = np.frombuffer(json.dumps(description).encode(), np.uint8)
    paths = [folder / f"parameters_{i}.npz" for i in range(len(parts))]
    temporaries = [path.with_suffix(".tmp") for path in paths]
    for temporary, part in zip(temporaries, parts, strict=True):
        with temporary.open("wb") as file:
            np.savez(file, **{_SET: number} | part)  # pyright: ignore[reportArgumentType]
    for temporary, path in zip(temporaries, paths, strict=True):
        os.replace(temporary, path)
    return paths


def read_parameters(paths: Sequence[pathlib.Path]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads a set of files: arrays by name, float32, and the description.

    Raises:
        ValueError: in one line, if the files are no whole set.
    """
    arrays: dict[str, np.ndarray] = {}
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path}: not a file of parameters ({error})") from error
        number = found.pop(_SET, None)
        if number is None:
            raise ValueError(f"{path}: not a file of parameters")
        if arrays and number != arrays[_SET]:
            raise ValueError(f"{path}: of another set of parameters than {paths[0]}")
        arrays |= found | {_SET: number}
    if _DESCRIPTION not in arrays:
        raise ValueError("parameters_0.npz is missing")
    description = json.loads(arrays.pop(_DESCRIPTION).tobytes())
    if len(set(paths)) != description["files"]:
        raise ValueError(f"{len(set(paths))} files of parameters, expected {description['files']}")
    del arrays[_SET]
    return {name: array.astype(np.float32) for name, array in arrays.items()}, description


def put_into(like: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Makes a tree of the arrays that `read_parameters` gave.

    Args:
        like: ``params`` and ``batch_stats``, arrays or their shapes.
        arrays: by name.

    Raises:
        ValueError: in one line, if they do not fit.
    """
    wanted = {_name(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(like)}
    given = {name: array.shape for name, array in arrays.items()}
    if wanted != given:
        names = sorted(name for name in wanted | given if wanted.get(name) != given.get(name))
        raise ValueError(
            f"{names[0]}: shape {given.get(names[0])} in the files, {wanted.get(names[0])} in the "
            "network"
        )
    return jax.tree.map_with_path(lambda path, _: arrays[_name(path)], like)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
