"""Parts of files as users name them, ``file.h5:/name`` and ``file.tif[3]``; opens nothing."""

import pathlib
import re


def parts_of(path: pathlib.Path) -> tuple[pathlib.Path, str, int | None]:
    """File, name of an array in it, and number of a picture: ``file.h5:/name[3]``.

    A file that is really called so goes first; where no file is found, the path itself is returned.
    """
    text = str(path)
    if path.exists():
        return path, "", None
    number = None
    if match := re.fullmatch(r"(.+)\[(\d{1,9})\]", text):
        text, number = match[1], int(match[2])
        if pathlib.Path(text).exists():
            return pathlib.Path(text), "", number
    for colon in reversed([match.start() for match in re.finditer(":", text)]):
        if pathlib.Path(text[:colon]).is_file():
            return pathlib.Path(text[:colon]), text[colon + 1 :], number
    return path, "", None
