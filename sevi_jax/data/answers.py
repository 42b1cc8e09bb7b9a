"""Answer files: the shells found in each picture, as JSON or the course's table."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

import sevi_jax
from sevi_jax.data import fields
from sevi_jax.data.outputs import ATTRIBUTE, MADE_BY
from sevi_jax.data.replacing import replacing
from sevi_jax.errors import InputError

ORDERS = 12
PICTURE_ID = fields.Field("PictureId", integer=True)
PICTURES = "Pictures"  # dataset of file names, one per PictureId
ERRORS = "AnswerErrors"  # of fits, row by row as the table Answer
ERROR_KEYS = ("R_error", "sigma", "sigma_error", "yield", "yield_error", "counting_error")

JSON_SUFFIXES = (".json",)


def check_answer_path(path: str | pathlib.Path) -> None:
    """Raises InputError unless answers may have such a suffix; to be called before long work."""
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in JSON_SUFFIXES + fields.HDF5_SUFFIXES:
        raise InputError(f"{path}: found suffix {suffix or 'none'}, expected .json or .h5")


def write_json(path: str | pathlib.Path, document: Mapping[str, Any]) -> None:
    """Writes a document; the file appears whole or not at all.

    Numbers that are not finite become null. A list of plain values takes one line.

    Args:
        path: a name that ends in ``.json``.
        document: ``{"convention": ..., "pictures": [...]}``.

    Raises:
        InputError: another suffix.
    """
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in JSON_SUFFIXES:
        raise InputError(f"{path}: found suffix {suffix or 'none'}, expected .json")
    with replacing(path) as temporary:
        text = _json(_plain(document)) + "\n"
        # a name with bytes that are no UTF-8 becomes an escape of JSON
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_table(
    path: str | pathlib.Path,
    pictures: Sequence[Mapping[str, Any]],
    source: Mapping[str, Any] | None = None,
) -> None:
    """Writes the course's answer file; it appears whole or not at all.

    The table ``Answer`` has SphereId, R, beta[12], inner shell first, R as NaN where unknown and
    shorter betas padded with zeros. For several pictures it gets a leading field PictureId (0, 1,
    ...). The dataset ``Pictures`` holds their file names in that order. The convention of beta is
    the table's attribute. Of fits a second table, ``AnswerErrors``, has the same rows: PictureId,
    SphereId, R_error, sigma, sigma_error, yield, yield_error, counting_error, beta_error[12].

    Args:
        path: a name that ends in ``.h5`` or ``.hdf5``.
        pictures: per picture ``{"file": name, "shells": [{"R", "sigma", "beta"}, ...]}``, inner
            shell first, R and sigma None where unknown: half-widths, and the course's beta.

    Raises:
        InputError: unknown suffix, or the file cannot be written.
        ValueError: no pictures, or more than 12 betas.
    """
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in fields.HDF5_SUFFIXES:
        raise InputError(f"{path}: found suffix {suffix or 'none'}, expected .h5")
    if not pictures:
        raise ValueError("pictures must hold at least one picture")
    source = {"versions": {"sevi_jax": sevi_jax.__version__}} | dict(source or {})
    with replacing(path) as temporary:
        _write_table(temporary, pictures, source)


def _write_table(
    path: pathlib.Path, pictures: Sequence[Mapping[str, Any]], source: Mapping[str, Any]
) -> None:
    columns = [
        (fields.SPHERE_ID, "u1", ()),
        (fields.RADIUS, "<f8", ()),
        (fields.BETA, "<f8", (ORDERS,)),
    ]
    if len(pictures) > 1:
        columns.insert(0, (PICTURE_ID, "<i4", ()))
    rows = np.zeros(sum(len(picture["shells"]) for picture in pictures), fields.row_type(*columns))
    shells = [
        (number, sphere, shell)
        for number, picture in enumerate(pictures)
        for sphere, shell in enumerate(picture["shells"])
    ]
    for row, (number, sphere, shell) in zip(rows, shells, strict=True):
        beta = shell["beta"]
        if len(beta) > ORDERS:
            raise ValueError(f"beta has {len(beta)} numbers, must have at most {ORDERS}")
        if len(pictures) > 1:
            row[PICTURE_ID.name] = number
        row[fields.SPHERE_ID.name] = sphere
        row[fields.RADIUS.name] = np.nan if shell["R"] is None else shell["R"]
        row[fields.BETA.name][: len(beta)] = beta
    with h5py.File(path, "w") as file:
        file.attrs[ATTRIBUTE] = MADE_BY
        file[fields.ANSWER] = rows
        file[fields.ANSWER].attrs["convention"] = fields.CONVENTION
        for name, value in source.items():
            plain = value if isinstance(value, str | int | float) else json.dumps(_plain(value))
            file[fields.ANSWER].attrs[name] = plain
        if all("beta_error" in shell for _, _, shell in shells):
            file[ERRORS] = _error_rows(rows, [shell for _, _, shell in shells])
        names = [str(picture["file"]).encode("utf-8", "surrogateescape") for picture in pictures]
        # of a fixed length: that of any length lies in a heap that HDF5 does not check
        length = max(map(len, names)) or 1
        file.create_dataset(PICTURES, data=names, dtype=h5py.string_dtype("utf-8", length))


def _error_rows(rows: np.ndarray, shells: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The rows of the table of errors for those of the answer."""
    names = [name for name in rows.dtype.names or () if name.endswith("Id")]
    kinds = [(name, rows.dtype[name]) for name in names] + [(key, "<f8") for key in ERROR_KEYS]
    found = np.zeros(len(rows), np.dtype([*kinds, ("beta_error", "<f8", (ORDERS,))]))
    for name in names:
        found[name] = rows[name]
    for row, shell in zip(found, shells, strict=True):
        for key in ERROR_KEYS:
            row[key] = shell[key]
        row["beta_error"][: len(shell["beta_error"])] = shell["beta_error"]
    return found


def _plain(value: Any) -> Any:
    """The same in JSON's own types: arrays as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _json(value: Any, indent: str = "") -> str:
    """JSON, indented down to lists of plain values."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        rows = [f"{json.dumps(key)}: {_json(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner + row for row in rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        rows = [_json(item, inner) for item in value]
        return "[\n" + ",\n".join(inner + row for row in rows) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
