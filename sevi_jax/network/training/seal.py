"""Checksums of a folder's files, kept in the folder: damage is found before anything is read.

TensorStore checks its own indices, but not the bytes of the arrays: flipped ones come back as other
numbers. And what fails half-way through a read leaves threads behind that complain on stderr. Knows
nothing of what the files hold.
"""

import json
import pathlib
import zlib

FILE_NAME = "checksums.json"
_BLOCK = 2**20


def seal(folder: pathlib.Path) -> None:
    """Writes size and CRC-32 of every file in the subfolders of a folder."""
    files = {
        path.relative_to(folder).as_posix(): _summary(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent != folder
    }
    text = json.dumps({"files": files, "own": _own(files)}, indent=0)
    (folder / FILE_NAME).write_text(text)


def damage(folder: pathlib.Path, parts: tuple[str, ...] = ("",)) -> str | None:
    """Compares the files of a sealed folder with their checksums.

    Args:
        folder: one that `seal` has seen.
        parts: with what the names of the files begin that are looked at: ``("network/",)``.

    Returns:
        What is wrong with the first damaged file; None where there is none.

    Raises:
        PermissionError: if a file may not be read, which says nothing of what it holds.
    """
    try:
        found = json.loads((folder / FILE_NAME).read_bytes())
        files = found["files"]
        if found["own"] != _own(files):
            return f"{FILE_NAME}: other bytes than were written"
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        return f"{FILE_NAME}: missing or not readable"
    for name, expected in files.items():
        if not name.startswith(parts):
            continue
        try:
            summary = _summary(folder / name)
        except PermissionError:
            raise
        except OSError as error:
            return f"{name}: {error.strerror}"
        if summary[0] != expected[0]:
            return f"{name}: {summary[0]} bytes instead of {expected[0]}"
        if summary != expected:
            return f"{name}: other bytes than were written"
    return None


def _summary(path: pathlib.Path) -> list[int]:
    """Size and CRC-32 of a file."""
    size = crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return [size, crc]


def _own(files: dict[str, list[int]]) -> int:
    """CRC-32 of the checksums themselves."""
    return zlib.crc32(json.dumps(files, sort_keys=True).encode())
