"""Pictures and event positions written as text, in any dialect that can be told from the text.

A dialect is a separator and a decimal sign. The one is taken in which most of the first lines are
numbers, the same number of them in each; what comes before these lines is a header, what comes
behind is a footer, and both may hold words only. Anything between that does not fit is refused.
"""

import codecs
import collections
import csv
import dataclasses
import io
import re
from collections.abc import Iterator

import numpy as np

from sevi_jax.data.readers import columns
from sevi_jax.data.readers.source import Found, Source, check_picture, found_array
from sevi_jax.data.tables import one_line
from sevi_jax.errors import InputError

FREE_CHARACTERS = 1 << 26  # of the text of any file, or so many per byte of a packed one:
CHARACTERS_PER_BYTE = 64
SAMPLE_LINES, SAMPLE_CHARACTERS = 400, 300  # what a dialect is told from
FOOTER_LINES = 400
HEADER_NUMBERS = 4  # a header line may hold so many numbers alone, as "200 200"
_ROUNDED = 0.02  # of a step, by which rounded positions may be off
INDEX_ROWS = 8  # an index column is no shorter
LINE = 60  # characters of a bad line that a message shows

_SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars", " ": "white space"}
_COMMENTS = ("#", "%", "//")
_ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f]")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How numbers are written.

    Attributes:
        separator: between numbers; " " is any white space.
        decimal: "." or ",".
    """

    separator: str
    decimal: str

    def fits(self, line: str) -> bool:
        """Whether a line holds numbers only, as far as it is looked at."""
        if len(line) > SAMPLE_CHARACTERS:
            line = re.split(r"[\t;,| ][^\t;,| ]*$", line[:SAMPLE_CHARACTERS])[0]
        parts = self.split(line)
        return bool(parts) and all(_number(self.decimal).fullmatch(p) for p in parts)

    def split(self, line: str) -> list[str]:
        """The numbers of a line, without an empty last one."""
        if self.separator == " ":
            return line.split()
        parts = [part.strip() for part in line.strip(" ").split(self.separator)]
        return parts[:-1] if len(parts) > 1 and not parts[-1] else parts

    @property
    def words(self) -> str:
        """The dialect in words."""
        comma = ", decimal comma" if self.decimal == "," else ""
        return _SEPARATORS[self.separator] + comma


def is_text(head: bytes) -> bool:
    """Whether the first bytes of a file can be text."""
    if not head:
        return False
    try:
        return not _CONTROL.search(decoded(head)[0])
    except UnicodeDecodeError:
        return False


def decoded(content: bytes) -> tuple[str, str]:
    """The text, and its encoding where that is unusual."""
    for mark, encoding in _ENCODINGS.items():
        if content.startswith(mark):
            text = content.decode(encoding, "strict" if len(content) % 2 == 0 else "ignore")
            return text, {"utf-8-sig": ""}.get(encoding, encoding.upper())
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = content[first : 1 << 12 : 2]
        if len(zeros) > 1 and not zeros.strip(b"\0"):
            return content.decode(encoding, "ignore"), encoding.upper()
    try:
        return content.decode("utf-8"), ""
    except UnicodeDecodeError as error:
        if len(content) - error.start < 4 and error.reason == "unexpected end of data":
            return content[: error.start].decode("utf-8"), ""
        return content.decode("latin-1"), "Latin-1"


def read(source: Source) -> Iterator[Found]:
    """The picture in a text file, or a picture of the event positions that it lists."""
    most = max(FREE_CHARACTERS, CHARACTERS_PER_BYTE * source.budget.size)
    with source.open() as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise source.error(f"over {most} bytes of text", f"at most {most} in a file of this size")
    text, encoding = decoded(content)
    del content
    if control := _CONTROL.search(text):
        raise source.error(f"a byte {ord(control[0])} at {control.start()}", "text of numbers")
    table = _table(source.place, text)
    note = f"text, {table.words}" + (f", {encoding}" if encoding else "")
    for number, what in ((table.header, "header"), (table.footer, "footer")):
        if number:
            note += f", {number} {what} line{'s' if number > 1 else ''} skipped"
    yield _found(source, table, note)


@dataclasses.dataclass(frozen=True)
class _Table:
    """The numbers of a text ``[n, columns]``, names of the columns if there are any, the dialect
    in words, how many lines of header and footer were skipped, and how many pictures there are."""

    values: np.ndarray
    names: list[str]
    words: str
    header: int
    footer: int
    pictures: int = 1


def _found(source: Source, table: _Table, note: str) -> Found:
    """Says whether the numbers are a picture, pixels one by one, or events."""
    values = table.values
    height, width = values.shape
    named = table.names or [str(number) for number in range(width)]
    if (columns.positions(table.names) or source.options.columns) and not (
        width == 3 and _is_grid(values)
    ):
        events = columns.of_array(values, named)
        found = columns.counted(source.place, "", events, source.options, source.budget)
        return dataclasses.replace(found, note=f"{note}; {found.note}")
    if columns.is_list(values.shape, values.dtype):
        events = columns.of_array(values)
        found = columns.counted(source.place, "", events, source.options, source.budget)
        return dataclasses.replace(found, note=f"{note}; two columns: {found.note}")
    if width == 3 and _is_grid(values):
        across, down = columns.positions(named) or named[:2]
        i, k = (values[:, named.index(name)].astype(np.int64) for name in (down, across))
        if named.index(across) + named.index(down) != 1:
            raise source.error(f"columns {', '.join(named)}", "the value in the last one")
        picture = np.zeros((int(np.ptp(i)) + 1, int(np.ptp(k)) + 1))
        picture[i - i.min(), k - k.min()] = values[:, 2]
        order = "x, y, value" if named.index(across) == 0 else "row, column, value"
        return found_array("", picture, f"{note}; a line for every pixel ({order})")
    if width < 10 and height > 20 * width:
        raise source.error(
            f"{height} lines of {width} numbers",
            "a picture, or events: a header line with the names of their columns, as x,y,time, or "
            "columns=('0', '1') for the numbers of those of the position",
        )
    if table.pictures > 1:
        values = values.reshape(table.pictures, -1, width)
        check_picture(source.place, values.dtype, values.shape)
        return found_array(
            "", values, f"{note}, {table.pictures} pictures with blank lines between"
        )
    values, said = _without_index(values)
    check_picture(source.place, values.dtype, values.shape)
    _check_pairs(source, values)
    return found_array("", values, note + said)


def _check_pairs(source: Source, values: np.ndarray) -> None:
    """Refuses numbers of which every second one is 0, as 1,0 and 7,0 read with commas between."""
    if values.shape[1] % 2 == 0 and values.any() and not values[:, 1::2].any():
        raise source.error(
            "0 in every second column, which is ambiguous (decimal commas with commas between?)",
            "decimal points, or semicolons or tabs between the numbers",
        )


def _is_grid(values: np.ndarray) -> bool:
    """Whether a table of three columns holds every pixel of a picture once: x, y, value."""
    place = values[:, :2]
    if len(values) < 4 or not (np.isfinite(place).all() and (place == np.round(place)).all()):
        return False
    low, high = place.min(0), place.max(0)
    sides = high - low + 1
    if min(sides) < 2 or sides.prod() != len(values):
        return False
    pixel = (place[:, 0] - low[0]) * sides[1] + place[:, 1] - low[1]
    return len(np.unique(pixel)) == len(values)


def _without_index(values: np.ndarray) -> tuple[np.ndarray, str]:
    """The picture without a first column or row that only counts, and what was left out."""

    said = ""
    if _evenly(values[:, 0]) or _evenly(values[1:, 0]):
        if _evenly(values[0, 1:]):
            return values[1:, 1:], ", first row and first column are positions and skipped"
        return values[:, 1:], ", first column counts the rows and is skipped"
    if _evenly(values[0]):
        values, said = values[1:], ", first row counts the columns and is skipped"
    return values, said


def _table(place: str, text: str) -> _Table:
    """Finds the dialect and reads the numbers."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    quoted = ""
    if '"' in text:
        lines, quoted = _unquoted(lines)
    del text
    blank = [bool(not line.strip()) or line.lstrip().startswith(_COMMENTS) for line in lines]
    used = [number for number, empty in enumerate(blank) if not empty]
    if not used:
        raise InputError(f"{place}: found no numbers, expected the rows of a picture")
    dialect, width = _dialect(place, [lines[number] for number in used[:SAMPLE_LINES]])
    first, last = _body(place, lines, used, dialect, width)
    _check_thousands(place, dialect, [lines[n] for n in used[first : first + 20]])
    body = [lines[number] for number in used[first : last + 1]]
    values = _numbers(place, body, used[first : last + 1], dialect, width)
    names = _names(lines[: used[first]], dialect, width)
    words = dialect.words.replace(_SEPARATORS["\t"], quoted) if quoted else dialect.words
    header = sum(bool(line.strip()) for line in lines[: used[first]])
    pictures = _pictures(used[first : last + 1])
    return _Table(values, names, words, header, len(used) - 1 - last, pictures)


def _pictures(numbers: list[int]) -> int:
    """How many blocks of as many lines each there are, with other lines between."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-2) > 1)
    heights = np.diff(starts, append=len(numbers))
    several = len(heights) > 1 and heights[0] >= INDEX_ROWS and (heights == heights[0]).all()
    return len(heights) if several else 1


def _dialect(place: str, sample: list[str]) -> tuple[Dialect, int]:
    """The dialect in which most lines are as many numbers each, and how many."""
    best = None
    for separator in _SEPARATORS:
        for decimal in ".,":
            if separator == decimal:
                continue
            dialect = Dialect(separator, decimal)
            widths = collections.Counter(
                len(dialect.split(_uncommented(line))) for line in sample
                if dialect.fits(_uncommented(line))
            )  # fmt: skip
            for width, lines in widths.items():
                if width > 1 and (best is None or (lines, width) > (best[2], best[1])):
                    best = dialect, width, lines
    if best is None or best[0].separator == " ":
        _check_empty(place, sample)
    if best is None:
        raise InputError(
            f"{place}: found '{one_line(sample[0][:LINE])}', expected rows of numbers with tabs, "
            "semicolons, commas or white space between them"
        )
    return best[0], best[1]


def _check_empty(place: str, sample: list[str]) -> None:
    """Refuses lines that have as many fields each, some of which are empty."""
    for separator in "\t;,|":
        fields = [line.split(separator) for line in sample]
        if len(fields[0]) > 2 and {len(f) for f in fields} == {len(fields[0])}:
            for number, line in enumerate(fields):
                inner = [part.strip() for part in line[:-1]]
                if "" in inner and any(inner) and not re.search(r"[^\W\d]", "".join(inner)):
                    raise InputError(
                        f"{place}, row {number + 1}: found an empty field between "
                        f"{_SEPARATORS[separator]}, expected a number (NaN marks a pixel without)"
                    )


def _body(
    place: str, lines: list[str], used: list[int], dialect: Dialect, width: int
) -> tuple[int, int]:
    """The first and the last line of numbers, as places in `used`."""

    def is_row(at: int) -> bool:
        line = _uncommented(lines[used[at]])
        return dialect.fits(line) and len(dialect.split(line)) == width

    def check(at: int, most: int) -> None:
        """A line of numbers alone, but not as many, is a damaged row, not a header."""
        line = _uncommented(lines[used[at]])
        parts = dialect.split(line)
        fits = dialect.fits(line)
        if _is_axis(parts, dialect, width):
            return
        if not fits and len(parts) == width and not re.search(r"[^\W\d]", line):
            raise InputError(
                f"{place}, line {used[at] + 1}: found '{one_line(line[:LINE])}', expected {width} "
                f"numbers ({dialect.words}) as in most lines"
            )
        if fits and len(parts) > most:
            raise InputError(
                f"{place}, line {used[at] + 1}: found {len(parts)} numbers ({dialect.words}), "
                f"expected {width} as in most lines"
            )

    first = 0
    while not is_row(first):
        first += 1
    last, end = len(used) - 1, max(first, len(used) - 1 - FOOTER_LINES)
    while last > end and not is_row(last):
        last -= 1
    few = HEADER_NUMBERS if last - first >= INDEX_ROWS else 0
    for at in range(first):
        check(at, few)
    for at in range(last + 1, len(used)):
        check(at, 0)
    return first, last


def _is_axis(parts: list[str], dialect: Dialect, width: int) -> bool:
    """Whether a line above the picture numbers its columns, with or without a corner."""
    if len(parts) == width and not parts[0]:
        parts = parts[1:]
    if len(parts) != width - 1 or len(parts) < INDEX_ROWS:
        return False
    if not all(_NUMBERS[dialect.decimal].fullmatch(part) for part in parts):
        return False
    values = [re.sub("[dD]", "e", part.replace(",", ".")) for part in parts]
    return _evenly(np.array(values, np.float64))


def _evenly(line: np.ndarray) -> bool:
    """Whether numbers go up or down in equal steps, as no row of a picture does."""
    if len(line) < INDEX_ROWS or not np.isfinite(line).all():
        return False
    even = np.linspace(line[0], line[-1], len(line))
    return bool(np.abs(line - even).max() < _ROUNDED * abs(even[1] - even[0]))


def _check_thousands(place: str, dialect: Dialect, sample: list[str]) -> None:
    """Refuses 1,234 beside 999: it may be a thousand, or a little more than one."""
    if dialect.decimal != ",":
        return
    numbers = [number for line in sample for number in dialect.split(line)]
    with_comma = [number for number in numbers if "," in number]
    if with_comma and len(with_comma) < len(numbers) and all(map(_THOUSANDS.fullmatch, with_comma)):
        raise InputError(
            f"{place}: found {with_comma[0]}, which is ambiguous (a comma for thousands, or the "
            "decimal sign?), expected numbers without commas for thousands"
        )


def _numbers(
    place: str, body: list[str], numbers: list[int], dialect: Dialect, width: int
) -> np.ndarray:
    """The numbers ``[n, width]`` of lines that should all be rows."""
    separator = None if dialect.separator == " " else dialect.separator
    rows = (_uncommented(line) for line in body)
    if separator is not None:
        rows = (row.strip(" ").removesuffix(separator) for row in rows)
    if dialect.decimal == ",":
        rows = (row.replace(",", ".") for row in rows)
    if re.search(r"\d[dD][+-]?\d", body[0] + body[len(body) // 2]):
        rows = (re.sub(r"(?<=[\d.])[dD](?=[+-]?\d)", "e", row) for row in rows)
    try:
        values = np.loadtxt(rows, delimiter=separator, ndmin=2, comments=None)
        if values.shape == (len(body), width):
            return values
    except ValueError:
        pass
    for line, number in zip(body, numbers, strict=True):
        parts = dialect.split(_uncommented(line))
        wrong = [part for part in parts if not _number(dialect.decimal).fullmatch(part)]
        if wrong or len(parts) != width:
            found = f"'{one_line(wrong[0][:LINE])}'" if wrong else f"{len(parts)} numbers"
            raise InputError(
                f"{place}, line {number + 1}: found {found}, expected {width} numbers "
                f"({dialect.words})"
            )
    raise InputError(f"{place}: found unreadable data, expected rows of {width} numbers")


def _names(header: list[str], dialect: Dialect, width: int) -> list[str]:
    """Names of the columns, where the last line of the header has as many words."""
    for line in reversed(header):
        line = re.sub(r"\s+(?=[\[(])", "", line.strip().lstrip("#%/ "))  # "x [mm]" is one word
        if line:
            for separator in (dialect.separator, "\t", ",", ";", " "):
                names = Dialect(separator, ".").split(line)
                if len(names) == width:
                    return names
            return []
    return []


def _unquoted(lines: list[str]) -> tuple[list[str], str]:
    """Lines without quotes about their numbers, with tabs between, and what was between in words.

    A comma inside quotes is a decimal comma.
    """
    joined = "\n".join(lines[:SAMPLE_LINES])
    separator = max(",;\t", key=lambda s: joined.count(f'"{s}"'))
    if f'"{separator}"' not in joined:
        return [line.replace('"', "") for line in lines], ""
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=separator))
    except csv.Error:
        return lines, ""
    return ["\t".join(row) for row in rows], f"quoted, {_SEPARATORS[separator]}"


def _uncommented(line: str) -> str:
    return line.partition("#")[0] if "#" in line else line


def _number(decimal: str) -> re.Pattern[str]:
    return _NUMBERS[decimal]


_NUMBERS = {
    sign: re.compile(
        rf"[+-]?(?:(?:\d+(?:{re.escape(sign)}\d*)?|{re.escape(sign)}\d+)(?:[eEdD][+-]?\d+)?"
        rf"|[nN][aA][nN]|[iI][nN][fF])"
        if sign == "."
        else r"[+-]?(?:\d+(?:,\d+)?(?:[eEdD][+-]?\d+)?|[nN][aA][nN]|[iI][nN][fF])"
    )
    for sign in ".,"
}
