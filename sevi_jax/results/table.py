"""Numbers of fits for people: rows that the terminal, the page and notebooks share."""

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from uncertainties import UFloat

from sevi_jax.errors import InputError
from sevi_jax.physics.convention import LITERATURE_FORMULA, half_width
from sevi_jax.results.shell import FittedShell

if TYPE_CHECKING:
    from sevi_jax.results.fit import Fit

_SHELLS_BESIDE = 4  # so many columns fit a terminal
_NO_VALUE = "–"
_OWN_ROWS = ("origin_row", "origin_column", "angle", "cos2", "sin2")


class Row(NamedTuple):
    """One quantity of all shells; None where a shell does not have it."""

    name: str
    values: tuple[UFloat | float | None, ...]

    @property
    def cells(self) -> list[str]:
        """The values in words."""
        return [_NO_VALUE if v is None else plus_minus(v) for v in self.values]


def plus_minus(value: UFloat | float) -> str:
    """A number and its error, to two digits of the error; a number without error to six digits."""
    if isinstance(value, float | int):
        return f"{value:.6g}"
    number, error = value.nominal_value, value.std_dev
    if not (math.isfinite(number) and error > 0 and math.isfinite(error)):
        said = f"{number:.6g}"
        return said if error == 0 else f"{said} ± ?"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{number:.{digits}f} ± {error:.{digits}f}"


def shell_rows(shells: Sequence[FittedShell], shape: tuple[int, int]) -> list[Row]:
    """The quantities of shells: lengths in pixels and in half-widths, the literature's beta."""
    unit = half_width(shape)
    rows = []
    for name in ("radius", "sigma", "tail"):
        values = tuple(getattr(shell, name) for shell in shells)
        if any(v is not None for v in values):
            rows.append(Row(f"{name} (pixels)", values))
            rows.append(
                Row(f"{name} (half-widths)", tuple(None if v is None else v / unit for v in values))
            )
    rows.append(Row("electrons", tuple(shell.electrons for shell in shells)))
    counting = tuple(float(round(shell.counting_error)) for shell in shells)
    rows.append(Row("their counting error", counting))
    for order in sorted({n for shell in shells for n in shell.beta}):
        rows.append(Row(f"beta_{order}", tuple(shell.beta.get(order) for shell in shells)))
    return rows


def other_parameters(fit: "Fit") -> dict[str, UFloat]:
    """What was free besides shells, origin, angle and ellipse."""
    count = sum(
        len(shell.beta) + 3 + (shell.tail is not None) for shell in fit.shells
    )  # shells come first in the vector
    others = list(fit.parameters.items())[count:]
    return {name: value for name, value in others if name not in _OWN_ROWS}


def headline(fit: "Fit") -> str:
    """Electrons, origin and polarisation."""
    row, column = (plus_minus(x) for x in fit.origin)
    text = (
        f"{fit.electrons:.0f} electrons; origin at row {row}, column {column} pixels from the "
        f"corner; polarisation {plus_minus(fit.angle)}° from axis 0"
    )
    if fit.ellipse is not None:
        cosine, sine = (plus_minus(x) for x in fit.ellipse)
        text += f"; ellipse cos2 {cosine}, sin2 {sine}"
    if fit.gain != 1:
        text += f"; gain {fit.gain:.5g}"
    return text


def verdict(fit: "Fit") -> str:
    """How well it fits."""
    return (
        f"deviance per degree of freedom {fit.deviance_per_dof:.4f}, p = {fit.p_value:.3g}; "
        f"{fit.reason}"
    )


def text_table(fit: "Fit") -> str:
    """All numbers of a fit for the terminal."""
    lines = [f"{fit.name}: {headline(fit)}"]
    rows = shell_rows(fit.shells, fit.shape)
    width = max((len(row.name) for row in rows), default=0)
    for first in range(0, len(fit.shells), _SHELLS_BESIDE):
        group = range(first, min(first + _SHELLS_BESIDE, len(fit.shells)))
        cells = [[row.cells[i] for i in group] for row in rows]
        cells.insert(0, [f"shell {i + 1}" for i in group])
        widths = [max(len(line[k]) for line in cells) for k in range(len(group))]
        for name, line in zip(["", *(row.name for row in rows)], cells, strict=True):
            if all(cell == _NO_VALUE for cell in line):
                continue
            beside = "  ".join(f"{cell:>{n}}" for cell, n in zip(line, widths, strict=True))
            lines.append(f"  {name:<{width}}  {beside}".rstrip())
    lines += [f"  {name} {plus_minus(x)}" for name, x in other_parameters(fit).items()]
    lines.append(f"  {verdict(fit)}")
    lines.append(f"  errors are standard errors; beta: {LITERATURE_FORMULA}")
    lines += [f"  WARNING: {text}" for text in fit.warnings]
    lines += [f"  note: {text}" for text in fit.notes]
    return "\n".join(lines)


def html_table(fit: "Fit") -> str:
    """The same as HTML, without a page around it."""

    def line(cells: Sequence[str], tag: str) -> str:
        return (
            "<tr>"
            + "".join(f"<{tag}>{html.escape(cell, quote=False)}</{tag}>" for cell in cells)
            + "</tr>"
        )

    rows = [line(["", *(f"shell {i + 1}" for i in range(len(fit.shells)))], "th")]
    rows += [line([row.name, *row.cells], "td") for row in shell_rows(fit.shells, fit.shape)]
    parts = [f"<p>{html.escape(headline(fit))}.<br>{html.escape(verdict(fit))}.</p>"]
    parts += [f'<p class="warning">{html.escape(text)}</p>' for text in fit.warnings]
    parts.append("<table>" + "".join(rows) + "</table>")
    others = other_parameters(fit)
    if others:
        rows = [line([name, plus_minus(x)], "td") for name, x in others.items()]
        parts.append("<table>" + "".join(rows) + "</table>")
    if fit.notes:
        parts.append(f'<p class="note">{html.escape("; ".join(fit.notes))}</p>')
    return "".join(parts)


def frame(fit: "Fit") -> Any:
    """The shells as a pandas DataFrame, one row each; errors in columns of their own.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InputError(
            "to_frame() needs pandas, which is not installed: pip install 'sevi_jax[notebook]'"
        ) from None
    columns: dict[str, list[float]] = {}

    def add(name: str, values: Sequence[UFloat | None]) -> None:
        columns[name] = [math.nan if v is None else v.nominal_value for v in values]
        columns[f"{name}_error"] = [math.nan if v is None else v.std_dev for v in values]

    for name in ("radius", "sigma", "tail", "electrons"):
        values = [getattr(shell, name) for shell in fit.shells]
        if any(v is not None for v in values):
            add(name, values)
    columns["counting_error"] = [shell.counting_error for shell in fit.shells]
    for order in sorted({n for shell in fit.shells for n in shell.beta}):
        add(f"beta_{order}", [shell.beta.get(order) for shell in fit.shells])
    index = pandas.RangeIndex(1, 1 + len(fit.shells), name="shell")
    return pandas.DataFrame(columns, index=index)
