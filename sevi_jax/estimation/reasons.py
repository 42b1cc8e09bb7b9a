"""What would fit a picture better: score tests of what was not free, and the other axis.

A parameter that was held has a score U = sum (n - m) g / Var, g the derivative of the means by it;
U^2 / sum(g^2 / Var) is at most by how much freeing it lowers the deviance: at most, because what
the free parameters could do for it is not taken off, which makes the test a cautious one. Where the
model does not describe the picture the statistic is divided by the dispersion.
"""

import dataclasses

import numpy as np

from sevi_jax.estimation.fitting import Fitted, limits_for
from sevi_jax.estimation.origin import bright_edges
from sevi_jax.estimation.scoring import Reason, search
from sevi_jax.model.picture_model import PictureModel, Values

_BEYOND_DOUBT = 30.0  # of a deviance: 5.5 standard errors
_DARK = 1e-2  # of the mean variance: what a pixel's is at least
_TURN = 0.01  # radians, of a numerical derivative
_MOVE = 0.1  # steps of the grid, likewise
_ITERATIONS = 25


def reasons(fitted: Fitted, mean: np.ndarray, dispersion: float, likely: bool) -> list[str]:
    """Says what would describe the picture better, beyond doubt.

    Args:
        fitted: the fit.
        mean: of every pixel, ``[H, W]``.
        dispersion: variance of the counts over the model's.
        likely: whether the model describes the picture; else the other axis is tried.

    Returns:
        Whole sentences.
    """
    if not np.isfinite(fitted.found.values.vector(fitted.model.model)).all():
        return []
    tests = _Tests(fitted, mean, dispersion)
    layout = fitted.model.model.layout
    found = []
    data = fitted.prepared.data
    if not likely and fitted.picture.origin is None:
        edges = bright_edges(data.counts, data.exposure)
        if edges:
            found.append(
                f"rings may be cut by an edge ({', '.join(edges)}): where their centre is not the "
                "one found, origin=ROW,COLUMN gives it; it may lie on an edge or outside"
            )
    if fitted.found.reason is not Reason.CONVERGED:
        return found  # scores say where the search stopped, not what would fit better
    if layout.background == 0 and (level := tests.background()) is not None:
        found.append(
            f"electrons lie where the shells have none, about {level:.2g} per pixel: "
            "background='constant' describes them"
        )
    if 2 not in layout.geometry:
        if not likely and _other_axis(fitted, dispersion):
            return [
                *found,
                "with the polarisation turned by 90 degrees the picture fits better beyond doubt: "
                "see polarisation",
            ]
        if (degrees := tests.angle()) is not None:
            found.append(
                f"with the polarisation turned by about {degrees:+.2g} degrees the picture fits "
                "better beyond doubt: free 'angle', or give polarisation"
            )
    if 3 not in layout.geometry and (size := tests.ellipse()) is not None:
        found.append(f"the rings are ellipses, by about {100 * size:.2g} %: free 'ellipse'")
    return found


class _Tests:
    """Score tests of one fit."""

    def __init__(self, fitted: Fitted, mean: np.ndarray, dispersion: float):
        data = fitted.prepared.data
        used = (data.exposure > 0) & np.isfinite(mean)
        variance = np.where(used, mean if data.noise is None else data.noise, 1.0)
        variance = np.maximum(variance, max(_DARK * float(variance[used].mean()), 1e-30))
        self.fitted, self.used = fitted, used
        self.weight = np.where(used, 1 / variance, 0.0)
        self.residual = np.where(used, data.counts - np.nan_to_num(mean), 0.0)
        self.threshold = _BEYOND_DOUBT * dispersion

    def _tested(self, columns: list[np.ndarray]) -> np.ndarray | None:
        """Linear estimates of parameters, where they are not 0 beyond doubt."""
        flat = np.stack([np.where(self.used, column, 0.0).ravel() for column in columns])
        weighted = flat * self.weight.ravel()
        score, information = weighted @ self.residual.ravel(), weighted @ flat.T
        estimate = np.linalg.lstsq(information, score, rcond=1e-9)[0]
        return estimate if float(score @ estimate) > self.threshold else None

    def _by_geometry(self, index: int, step: float) -> np.ndarray:
        """Numerical derivative of the means by an entry of the geometry."""
        values = self.fitted.found.values

        def moved(amount):
            geometry = np.array(values.geometry)
            geometry[index] += amount
            return self.fitted.model.mean(dataclasses.replace(values, geometry=geometry))

        return np.nan_to_num((moved(step) - moved(-step)) / (2 * step))

    def angle(self) -> float | None:
        """Degrees by which the polarisation is turned."""
        found = self._tested([self._by_geometry(2, _TURN)])
        return None if found is None else float(np.rad2deg(found[0]))

    def ellipse(self) -> float | None:
        """Size of the ellipse."""
        step = _MOVE * self.fitted.model.grid.step / self.fitted.prepared.data.half
        found = self._tested([self._by_geometry(index, step) for index in (3, 4)])
        return None if found is None else float(np.hypot(*found))

    def background(self) -> float | None:
        """Electrons per pixel of a constant background, if it is positive."""
        found = self._tested([self.fitted.prepared.data.exposure])
        return None if found is None or found[0] <= 0 else float(found[0])


def _other_axis(fitted: Fitted, dispersion: float) -> bool:
    """Whether the same model with the polarisation turned by 90 degrees fits better."""
    model, values = fitted.model.model, fitted.found.values
    if not any(shell.orders for shell in model.shells):
        return False
    geometry = np.array(values.geometry)
    geometry[2] += np.pi / 2
    shells = []
    for shell, v in zip(model.shells, values.shells, strict=True):
        neutral = np.array(v)
        neutral[shell.lengths + 1 :] = 0.0
        shells.append(neutral)
    turned: Values = dataclasses.replace(values, geometry=geometry, shells=tuple(shells))
    data = fitted.prepared.data
    found = search(
        PictureModel(data, model, turned), turned, limits_for(data), iterations=_ITERATIONS,
        tolerance=1.0,
    )  # fmt: skip
    better = fitted.found.evaluation.deviance - found.evaluation.deviance
    remaining = found.evaluation.deviance / fitted.goodness.expected
    return better > _BEYOND_DOUBT * max(1.0, min(remaining, dispersion))
