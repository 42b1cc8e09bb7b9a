"""What a trained network says of a picture: an answer of its own, or the start of a fit."""

from typing import Any

import jax
import numpy as np

from sevi_jax.data.picture import Picture, rebin
from sevi_jax.errors import InputError
from sevi_jax.estimation.fitting import first_geometry
from sevi_jax.estimation.preparing import prepare
from sevi_jax.model.components import Shell
from sevi_jax.model.picture_model import Values
from sevi_jax.network.run import Run
from sevi_jax.physics.convention import (
    COURSE_ORDERS,
    half_width,
    to_literature,
)
from sevi_jax.results.doubts import doubts

_FIRST_TAIL = 0.3  # of sigma, where a fit of skewed shells begins


def counts_for(run: Run, picture: Picture) -> np.ndarray:
    """A picture as networks take it: ``[size, size]``, the polarisation along the second axis.

    Raises:
        InputError: it is not square, its polarisation lies aslant, pixels are masked, or there are
            values below 0.
    """
    if picture.noise == "normal":
        raise InputError(f"{picture.name}: found values below 0, expected counts")
    counts = np.where(picture.used, picture.counts, 0.0)
    if picture.gain is not None:
        counts = counts / picture.gain
    angle = picture.polarisation % 180
    if angle not in (0.0, 90.0):
        raise InputError(
            f"{picture.name}: polarisation {picture.polarisation:g} degrees, but a network takes "
            "pictures whose polarisation is vertical or horizontal"
        )
    counts = rebin(counts, run.network.image.size, picture.name)
    counts = counts.T if angle == 0 else counts
    if not counts.sum() > 0:
        raise InputError(f"{picture.name}: a picture without counts, expected electrons")
    return counts


def predict_record(run: Run, picture: Picture) -> dict[str, Any]:
    """The record of a picture by a network: no errors, and None for what it does not predict."""
    counts = counts_for(run, picture)
    prediction, unit = run.predict(counts[None]), half_width(picture.shape)
    shells = []
    for number in range(run.network.shells):
        lengths = {}
        for name, values in (("R", prediction.radius), ("sigma", prediction.sigma)):
            value = None if values is None else float(values[0, number])
            lengths[f"{name}_pixels"] = None if value is None else value * unit
            lengths[name] = value
        beta = to_literature(np.asarray(prediction.beta[0, number], np.float64))
        orders = list(COURSE_ORDERS[: len(beta)])
        shells.append({**lengths, "orders": orders, "beta": beta.tolist()})
    return {
        "file": picture.name,
        "shape": list(picture.shape),
        "electrons": float(counts.sum(dtype=np.float64)),
        "warnings": doubts(run, counts, jax.tree.map(lambda x: x[0], prediction)),
        "notes": list(picture.notes),
        "shells": shells,
    }


def text(record: dict[str, Any]) -> str:
    """The record of a prediction for the terminal."""

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.5f}"

    shells = record["shells"]
    rows = [("", [f"shell {i + 1}" for i in range(len(shells))])]
    for name, key in (
        ("radius (pixels)", "R_pixels"),
        ("radius (half-widths)", "R"),
        ("sigma (pixels)", "sigma_pixels"),
        ("sigma (half-widths)", "sigma"),
    ):
        rows.append((name, [number(shell[key]) for shell in shells]))
    for i, order in enumerate(shells[0]["orders"]):
        rows.append((f"beta_{order}", [number(shell["beta"][i]) for shell in shells]))
    lines = [f"{record['file']}: {record['electrons']:.0f} electrons"]
    lines += [f"  {name:<20}" + "".join(f"{cell:>12}" for cell in cells) for name, cells in rows]
    lines.append(
        "  by the network, without errors; beta: I = (1 + sum beta_n P_n(cos theta)) / 4 pi"
    )
    lines += [f"  WARNING: {warning}" for warning in record["warnings"]]
    return "\n".join(lines)


def network_start(run: Run, picture: Picture, shells: tuple[Shell, ...]) -> Values | None:
    """Start of a fit from a network; None where it predicts no radii.

    Args:
        run: the network.
        picture: square; its origin is looked for where it is not known.
        shells: what will be fitted, inner first, as many as the network has.
    """
    counts = counts_for(run, picture)
    prediction, unit = run.predict(counts[None]), half_width(picture.shape)
    if prediction.radius is None or prediction.sigma is None:
        return None
    electrons = float(counts.sum()) / len(shells)
    found = []
    for number, shell in enumerate(shells):
        sigma = float(prediction.sigma[0, number]) * unit
        lengths = [float(prediction.radius[0, number]) * unit, sigma, _FIRST_TAIL * sigma]
        own = to_literature(np.asarray(prediction.beta[0, number], np.float64))
        beta = dict(zip(COURSE_ORDERS, own, strict=False))
        amplitudes = [electrons * beta.get(n, 0.0) for n in shell.orders]
        found.append(np.array([*lengths[: shell.lengths], electrons, *amplitudes]))
    geometry, _ = first_geometry(picture, prepare(picture), None)
    return Values(tuple(found), geometry)
