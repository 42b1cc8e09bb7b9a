"""A distribution in words, for the terminal and for pages."""

import html
from typing import TYPE_CHECKING

import numpy as np

from sevi_jax.physics.convention import LITERATURE_FORMULA
from sevi_jax.results.table import headline, plus_minus, verdict

if TYPE_CHECKING:
    from sevi_jax.results.distribution import Distribution


def lines(found: "Distribution") -> list[str]:
    """What there is to say of a distribution, without warnings and notes."""
    total = f"electrons of all radii {plus_minus(found.total)}"
    mean = ", ".join(f"beta_{n} {plus_minus(x)}" for n, x in found.mean_beta.items())
    said = [total + (f"; of all together {mean}" if mean else "")]
    known = found.r[found.is_known]
    if len(known):
        peak = found.r[np.argmax(found.intensity)]
        said.append(
            f"I(r) is known from r = {known[0]:g} to {known[-1]:g} pixels, largest at {peak:g}; "
            f"{len(found.r)} radii"
        )
    return said


def text(found: "Distribution") -> str:
    """The main numbers of a distribution for the terminal."""
    said = [f"{found.name}: {headline(found.fit)}"]
    said += [f"  {line}" for line in lines(found)]
    said.append(f"  {verdict(found.fit)}")
    said.append(f"  bands are pointwise; beta: {LITERATURE_FORMULA}")
    said += [f"  WARNING: {warning}" for warning in found.warnings]
    said += [f"  note: {note}" for note in found.notes]
    return "\n".join(said)


def html_text(found: "Distribution") -> str:
    """The same as HTML, without a page around it."""
    said = [headline(found.fit), *lines(found), verdict(found.fit)]
    parts = ["<p>" + "<br>".join(html.escape(line) for line in said) + ".</p>"]
    parts += [f'<p class="warning">{html.escape(line)}</p>' for line in found.warnings]
    if found.notes:
        parts.append(f'<p class="note">{html.escape("; ".join(found.notes))}</p>')
    return "".join(parts)
