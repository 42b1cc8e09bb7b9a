"""The one place where trials and benchmarks meet the program: fits, means and files.

Simulated pictures do not come from here: they are drawn by `sevi_jax.synthesis.spectrometer`,
which knows nothing of the model.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import uncertainties

from scripts.trials import judging
from sevi_jax.data.picture import Picture
from sevi_jax.synthesis.spectrometer import Truth


def fit(picture: Picture, **options: Any) -> Any:
    """Fits a picture as `sevi_jax.fit` does; returns a `Fit`."""
    from sevi_jax.results.fit import fit as fit_picture

    return fit_picture(picture, **options)


def load_all(path: pathlib.Path) -> list[Picture]:
    """Loads every picture of a file."""
    from sevi_jax.data import load

    return load.load_all(path)


def means(truth: Truth) -> np.ndarray:
    """Returns the model's mean of every pixel, ``[H, W]`` float64, of the shells drawn."""
    from sevi_jax.model.components import Shell, modes_of
    from sevi_jax.model.means import Layout
    from sevi_jax.model.picture_model import Data, Model, PictureModel, Values

    shells, values = [], []
    for shell in truth.shells:
        orders = tuple(sorted(shell.beta))
        shells.append(Shell(orders, "skewed" if shell.tail else "normal"))
        lengths = [shell.radius, shell.sigma, *([shell.tail] if shell.tail else [])]
        amplitudes = shell.electrons * np.array([1.0, *(shell.beta[n] for n in orders)])
        values.append(np.concatenate([lengths, amplitudes]))
    assert truth.origin is not None
    middle = np.subtract(truth.origin, np.array(truth.shape) / 2)
    bends = (*truth.ellipse, *truth.third, *truth.fourth)
    exposure = np.ones(truth.shape) if truth.efficiency is None else truth.efficiency
    data = Data(np.zeros(truth.shape), exposure, variance=1 / 12 + truth.blur**2)
    everything = Values(tuple(values), np.array([*middle, np.radians(truth.angle), *bends]))
    model = Model(tuple(shells), Layout(modes_of(tuple(shells))))
    return np.nan_to_num(PictureModel(data, model, everything).mean(everything))


def parameters(found: Any, truth: Truth) -> list[tuple[str, float, Any]]:
    """Pairs everything that a fit has found with its truth.

    Args:
        found: a `Fit` of as many shells as there are.
        truth: what the picture was drawn from.

    Returns:
        (name, true value, value with its error) of every parameter that was free. Names are a kind
        and, where it belongs to a shell, the shell's number: ``radius 1``.
    """
    pairs = []
    # sorted with the numbers drawn, which are not there for files whose truth is known in the mean
    drawn = truth.drawn or (None,) * len(truth.shells)
    shells = sorted(zip(truth.shells, drawn, strict=True), key=lambda pair: pair[0].radius)
    for number, (shell, (true, count)) in enumerate(zip(found.shells, shells, strict=True), 1):
        for name in ("radius", "sigma", "tail"):
            pairs.append((f"{name} {number}", getattr(true, name), getattr(shell, name)))
        # A fit states the number of electrons in the picture, not its mean.
        if count is None:
            mean = shell.electrons + uncertainties.ufloat(0.0, shell.counting_error)
            pairs.append((f"electrons {number}", true.electrons, mean))
        else:
            pairs.append((f"electrons {number}", count, shell.electrons))
        for order, value in shell.beta.items():
            pairs.append((f"beta_{order} {number}", true.beta.get(order, 0.0), value))
    assert truth.origin is not None
    pairs += zip(("row", "column"), truth.origin, found.origin, strict=True)
    pairs.append(("angle", truth.angle, found.angle))
    if found.ellipse is not None:
        pairs += zip(("cos2", "sin2"), truth.ellipse, found.ellipse, strict=True)
    if found.gain_error:
        pairs.append(("gain", truth.gain, uncertainties.ufloat(found.gain, found.gain_error)))
    if truth.scatter:  # an amount that must not be negative has no normal error at 0
        pairs.append(("scatter", truth.scatter, found.scatter))
    if truth.off_scale is not None:
        pairs.append(("off_scale", truth.off_scale, found.off_scale))
    return [pair for pair in pairs if _error(pair[2]) > 0]


def _error(value: Any) -> float:
    """Standard error; 0 of what was not free."""
    return 0.0 if value is None else float(getattr(value, "std_dev", 0.0))


def row(found: Any, truth: Truth, seconds: float) -> dict[str, Any]:
    """Returns the row of a fit for `judging.summarise`."""
    result = {
        "p_value": found.p_value,
        "converged": bool(found.converged),
        "reason": str(found.reason),
        "warnings": [str(warning) for warning in found.warnings],
        "shells": len(found.shells),
        "true_shells": len(truth.shells),
        "seconds": seconds,
    }
    if result["shells"] != result["true_shells"]:
        return result
    pairs = parameters(found, truth)
    result["names"] = [name for name, _, _ in pairs]
    result["true"] = [float(true) for _, true, _ in pairs]
    result["values"] = [float(value.nominal_value) for _, _, value in pairs]
    result["errors"] = [_error(value) for _, _, value in pairs]
    shells = sorted(truth.shells, key=lambda shell: shell.radius)
    betas = [(shell.beta, true.beta) for shell, true in zip(found.shells, shells, strict=True)]
    result.update(_distance(betas))
    return result


def _distance(betas: Sequence[tuple[Mapping[int, Any], Mapping[int, float]]]) -> dict[str, float]:
    orders = [tuple(value) for value, _ in betas]
    values = [np.array([v.nominal_value for v in value.values()]) for value, _ in betas]
    true = [np.array([t.get(n, 0.0) for n in value]) for value, t in betas]
    covariances = [
        np.array(uncertainties.covariance_matrix(list(value.values()))) for value, _ in betas
    ]
    return {
        "distance": judging.angular_distance(orders, values, true),
        "bound": judging.expected_distance(orders, covariances),
    }
