"""Fits and distributions as one HTML page with their figures inside, to send to a colleague."""

import base64
import html
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sevi_jax.data.outputs import GENERATOR
from sevi_jax.data.replacing import replacing
from sevi_jax.provenance import revision, versions

if TYPE_CHECKING:
    from sevi_jax.results.distribution import Distribution
    from sevi_jax.results.fit import Fit

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { border-bottom: 1px solid #ccc; padding: .2em .8em; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
.warning { background: #fff3cd; border-left: 4px solid #b58900; padding: .5em 1em; }
.note, footer { color: #666; font-size: 85%; }
footer { margin-top: 3em; }
"""
_INTRODUCTION = (
    "The likelihood of shells or of a density of any form was fitted to the counts. Every number "
    "is given with its standard error. The distribution of directions is I = (1 + Σ beta<sub>n"
    "</sub> P<sub>n</sub>(cos θ)) / 4π, the literature's convention. Points are (row, column) in "
    "pixels from the picture's corner; a half-width is half of its longer side."
)


def part(result: "Fit | Distribution", drawings: dict[str, bytes] | None = None) -> str:
    """The part of a page that shows one fit or distribution.

    Args:
        result: what is shown.
        drawings: its figures as PNG files, where they are drawn already.
    """
    if drawings is None:
        drawings = result.drawings()
    images = []
    for kind, data in drawings.items():
        encoded = base64.b64encode(data).decode("ascii")
        images.append(f'<p><img alt="{kind}" src="data:image/png;base64,{encoded}"></p>')
    return f"<h2>{html.escape(result.name)}</h2>{result._repr_html_()}{''.join(images)}"


def write_parts(path: str | pathlib.Path, parts: Iterable[str]) -> None:
    """Writes a page of parts; it appears whole or not at all."""
    made = ", ".join(f"{name} {version}" for name, version in versions().items())
    text = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"{GENERATOR}"
        f"<title>Velocity-map images</title><style>{_STYLE}</style></head><body>"
        f"<h1>Velocity-map images</h1><p>{_INTRODUCTION}</p>"
        + "".join(parts)
        + f"<footer>{html.escape(made)}; revision {html.escape(revision() or 'unknown')}</footer>"
        "</body></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="xmlcharrefreplace")


def write_page(path: str | pathlib.Path, results: Iterable["Fit | Distribution"]) -> None:
    """Writes a page of fits and distributions with all their figures."""
    write_parts(path, map(part, results))
