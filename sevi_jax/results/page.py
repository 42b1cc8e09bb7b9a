"""An answer as one HTML page with its figures inside, to send to a colleague."""

import base64
import html
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from sevi_jax.data.outputs import GENERATOR
from sevi_jax.data.replacing import replacing
from sevi_jax.provenance import revision, versions

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { border-bottom: 1px solid #ccc; padding: .2em .8em; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
.warning { background: #fff3cd; border-left: 4px solid #b58900; padding: .5em 1em; }
footer { color: #666; font-size: 85%; margin-top: 3em; }
"""


def _plus_minus(value: float, error: float) -> str:
    """A number and its error, to two digits of the error."""
    if not (math.isfinite(value) and error > 0 and math.isfinite(error)):
        return f"{value:.6g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _row(name: str, cells: Sequence[str], tag: str = "td") -> str:
    cells = [html.escape(name), *cells]
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _shells(shells: Sequence[Mapping[str, Any]]) -> str:
    """The table of all shells of a picture."""
    rows = [_row("shell", [str(i + 1) for i in range(len(shells))], "th")]
    for name, key in (
        ("R (half-widths)", "R"),
        ("R (pixels)", "R_pixels"),
        ("sigma (half-widths)", "sigma"),
        ("yield (electrons)", "yield"),
    ):
        rows.append(_row(name, [_plus_minus(s[key], s[f"{key}_error"]) for s in shells]))
    rows.append(_row("counting error of the yield", [f"{s['counting_error']:.0f}" for s in shells]))
    for scale, name in ((1.0, "beta_{}"), (2.0, "beta_{}, literature")):
        for i in range(max(len(s["beta"]) for s in shells)):
            cells = [
                _plus_minus(scale * s["beta"][i], scale * s["beta_error"][i])
                if s["beta_error"][i] > 0
                else "–"
                for s in shells
            ]
            if any(cell != "–" for cell in cells):
                rows.append(_row(name.format(2 * i + 2), cells))
    return "<table>" + "".join(rows) + "</table>"


def _figure(path: pathlib.Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<p><img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}"></p>'


def write_page(
    path: pathlib.Path,
    answers: Sequence[Mapping[str, Any]],
    figures: Sequence[Sequence[pathlib.Path]],
) -> None:
    """Writes the page; it appears whole or not at all.

    Args:
        path: of the page.
        answers: of fits, as `fitted.answer` gives them.
        figures: PNG files of each.
    """
    parts = []
    for answer, drawn in zip(answers, figures, strict=True):
        origin = ", ".join(f"{x:.2f}" for x in answer["origin_pixels"])
        parts.append(f"<h2>{html.escape(str(answer['file']))}</h2>")
        parts.append(
            f"<p>{answer['electrons']:.0f} electrons; origin at pixel ({origin}) from the corner. "
            f"Deviance per degree of freedom {answer['deviance_per_dof']:.4f}, "
            f"p = {answer['p_value']:.3g}; {html.escape(answer['reason'])}.</p>"
        )
        parts += [f'<p class="warning">{html.escape(text)}</p>' for text in answer["warnings"]]
        parts.append(_shells(answer["shells"]))
        parts += [_figure(figure) for figure in drawn]
    made = ", ".join(f"{name} {version}" for name, version in versions().items())
    text = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"{GENERATOR}"
        f"<title>Velocity-map image: fitted shells</title><style>{_STYLE}</style></head><body>"
        "<h1>Shells in velocity-map images</h1>"
        "<p>A Poisson likelihood of shells with normally distributed radii was fitted to the "
        "counts. Every number is given with its standard error. The density of c = cos θ is "
        "1/2 + Σ beta<sub>n</sub> P<sub>n</sub>(c); the literature's "
        "(1/4π)(1 + Σ beta<sub>n</sub> P<sub>n</sub>) has twice these beta. Lengths are in "
        "half-widths of the detector.</p>"
        + "".join(parts)
        + f"<footer>{html.escape(made)}; revision {html.escape(revision() or 'unknown')}</footer>"
        "</body></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
