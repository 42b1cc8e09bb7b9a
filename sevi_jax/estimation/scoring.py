"""Damped Fisher scoring: from a start to the most likely vector of a model of a picture.

Newton's method with the Fisher information in place of the second derivative, damped as by
Levenberg and Marquardt in its metric. The vector holds N beta_n, in which the means are linear.
A step is kept only where the objective falls. The device computes deviance, gradient and
information (`model.picture_model`); the small systems are solved here, in double precision.
"""

import dataclasses
import enum
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import scipy.linalg

from sevi_jax.model.components import Shell
from sevi_jax.model.picture_model import Evaluation, Model, Values

_DAMPING = 1e-3  # of the first step, relative to the diagonal of the information
_LARGEST_DAMPING = 1e7
_SETTLED = 0.05  # a step of a fifth of an error that does not help is the end
_ROUNDING, _LARGEST_ROUNDING = 1e-6, 0.25  # of the deviance, and that of half an error
# A step of all parameters by less than one error in all is the end where neither it helped nor
# shorter ones, down to those that rounding hides: the score has rounding, too.
_NEARLY_SETTLED = 1.0
_SMALLEST_TAIL = 2e-3  # of sigma
_AT_END = 1e-9  # of an end of a range: so close to it a parameter lies there
_GEOMETRY_STEP = 1.0  # most that the origin moves in a step, in the smallest width of a shell


class Counts(Protocol):
    """Data with a model of them, such as `model.picture_model.PictureModel`."""

    model: Model
    size: int

    def ensure_sorted(self, values: Values) -> None:
        """Called before values whose geometry may differ."""

    def evaluate(self, values: Values) -> Evaluation:
        """Deviance, score and information."""
        ...


class Reason(enum.Enum):
    """How a search ended."""

    CONVERGED = "converged"
    ITERATIONS = "still improving after the last iteration allowed"
    STUCK = "no step lowers the deviance"
    BOUND = "a radius, width, tail or yield lies at the end of its range"
    SINGULAR = "the counts do not determine all free parameters"


@dataclasses.dataclass(frozen=True)
class Quadratic:
    """A Gaussian prior, ``(v - mean)' precision (v - mean)`` on the deviance.

    Attributes:
        mean: of the vector, ``[P]``.
        precision: ``[P, P]``; zeros leave an entry free.
    """

    mean: np.ndarray
    precision: np.ndarray

    def evaluate(self, vector: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Its value, half its negative slope and half its curvature."""
        off = vector - self.mean
        pull = self.precision @ off
        return float(off @ pull), -pull, self.precision


class Term(Protocol):
    """What is added to the deviance, such as `Quadratic` or `positivity.Positivity`."""

    def evaluate(self, vector: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Its value, half its negative slope and half its curvature."""
        ...


@dataclasses.dataclass(frozen=True)
class Limits:
    """Ranges of the parameters of shells.

    Attributes:
        radius: (low, high), pixels.
        sigma: (low, high), pixels.
        electrons: (low, high).
        tail: most of |tau| over sigma.
    """

    radius: tuple[float, float]
    sigma: tuple[float, float]
    electrons: tuple[float, float]
    tail: float = 5.0


@dataclasses.dataclass(frozen=True)
class Found:
    """Where a search ended.

    Attributes:
        values: of everything.
        evaluation: there, of the counts alone.
        information: with what the added terms know, ``[P, P]``.
        reason: why it ended.
        evaluations: how many it took.
    """

    values: Values
    evaluation: Evaluation
    information: np.ndarray
    reason: Reason
    evaluations: int


class Scaled:
    """A symmetric positive matrix, scaled to a diagonal of ones and factorised."""

    def __init__(self, matrix: np.ndarray, damping: float = 0.0):
        diagonal = np.diagonal(matrix)
        self.scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        scaled = matrix * self.scale[:, None] * self.scale
        scaled[np.diag_indices_from(scaled)] = np.where(diagonal > 0, 1.0, 0.0) + damping
        try:
            self.factor = scipy.linalg.cho_factor(scaled, lower=True)
        except (np.linalg.LinAlgError, ValueError):
            self.factor = None

    def solve(self, right: np.ndarray) -> np.ndarray | None:
        """The solution, or None where the matrix is not positive."""
        if self.factor is None:
            return None
        scale = self.scale if right.ndim == 1 else self.scale[:, None]
        return scipy.linalg.cho_solve(self.factor, right * scale) * scale

    def inverse(self) -> np.ndarray | None:
        """The inverse, or None where the matrix is not positive."""
        if self.factor is None:
            return None
        (invert,) = scipy.linalg.get_lapack_funcs(("potri",), (self.factor[0],))
        lower = np.tril(invert(self.factor[0], lower=True)[0])
        found = lower + np.tril(lower, -1).T
        return found * self.scale[:, None] * self.scale


def search(
    picture: Counts,
    start: Values,
    limits: Limits,
    added: Sequence[Term] | None = None,
    iterations: int = 60,
    tolerance: float = 1e-3,
) -> Found:
    """Searches the most likely values.

    Args:
        picture: data and model.
        start: values to begin at.
        limits: of the shells.
        added: terms on the deviance with a method ``evaluate(vector)`` as `Quadratic` has it.
        iterations: most evaluations.
        tolerance: converged where the next undamped step would lower the objective by less: it is
            the step's squared length in standard errors.
    """
    model = picture.model
    noise = 1e-6 * np.sqrt(picture.size)
    values = inside(start, model, limits)
    found, objective, score, information = _evaluated(picture, values, added or ())
    damping, count, reason = _DAMPING, 1, Reason.ITERATIONS
    while count < iterations:
        open_ = _open_directions(values, score, model, limits)
        undamped = _step(information, score, open_)
        gain = np.inf if undamped is None else float(score @ undamped)
        if gain < tolerance + noise:
            reason = Reason.CONVERGED
            break
        step = _step(information, score, open_, damping)
        if step is None:
            damping = max(8 * damping, _DAMPING)
            if damping > _LARGEST_DAMPING:
                reason = Reason.SINGULAR
                break
            continue
        trial, expected = _stepped(values, step, score, information, model, limits)
        tried = _evaluated(picture, trial, added or ())
        count += 1
        change = objective - tried[1]
        # where rounding hides what is expected of a step, it is kept if it does no harm
        lost = noise if 1e-3 * noise < expected < 10 * noise else 0.0
        if np.isfinite(tried[1]) and change > -lost:
            ratio = change / max(expected, 1e-12)
            values = trial
            found, objective, score, information = tried
            damping = damping / 8 if ratio > 0.5 else damping * (2 if ratio < 0.25 else 1)
            damping = max(damping, 1e-9)
        else:
            damping = max(8 * damping, _DAMPING)
            # what is left to gain drowns in rounding, which is that of the means in large counts
            rounding = min(_ROUNDING * abs(objective), _LARGEST_ROUNDING)
            is_hidden = gain < _NEARLY_SETTLED and expected < rounding
            if gain < max(_SETTLED, rounding) or is_hidden:
                reason = Reason.CONVERGED
                break
            if damping > _LARGEST_DAMPING:
                reason = Reason.STUCK
                break
    if reason in (Reason.CONVERGED, Reason.STUCK) and _at_limits(values, model, limits):
        reason = Reason.BOUND
    return Found(values, found, information, reason, count)


def _evaluated(picture: Counts, values: Values, added: Sequence[Term]):
    """The data's part of the objective, and objective, score and information of all parts."""
    picture.ensure_sorted(values)
    found = picture.evaluate(values)
    objective, score, information = found.deviance, found.score, found.information
    vector = values.vector(picture.model)
    for term in added:
        value, slope, curvature = term.evaluate(vector)
        objective, score = objective + value, score + slope
        information = information + curvature
    return found, objective, score, information


def _step(
    information: np.ndarray, score: np.ndarray, open_: np.ndarray | None, damping: float = 0.0
) -> np.ndarray | None:
    """The step of the linear approximation along open directions, or None where it has none."""
    if open_ is None:
        return Scaled(information, damping).solve(score)
    found = Scaled(open_.T @ information @ open_, damping).solve(open_.T @ score)
    return None if found is None else open_ @ found


def _open_directions(
    values: Values, score: np.ndarray, model: Model, limits: Limits
) -> np.ndarray | None:
    """Directions that parameters may move in, ``[P, F]``; None where none is held.

    A parameter of a shell is held that lies at an end of its range and would go on. A tail at its
    end, which is in proportion to sigma, goes with sigma.
    """
    closed, found = [], np.eye(len(score))
    for i, shell in enumerate(model.shells):
        for place, value, low, high in _ranges(shell, values.shells[i], limits):
            own = model.starts[i] + place
            side = int(_is_at(value, high)) - int(_is_at(value, low))
            if side * score[own] > 0:
                closed.append(own)
                if shell.lengths == 3 and place == 2:
                    found[own, own - 1] = side * limits.tail
    return np.delete(found, closed, axis=1) if closed else None


def _ranges(
    shell: Shell, vector: np.ndarray, limits: Limits
) -> list[tuple[int, float, float, float]]:
    """Place, value, lowest and highest value of what of a shell has a range."""
    found = [(0, vector[0], *limits.radius), (1, vector[1], *limits.sigma)]
    if shell.lengths == 3:
        most = limits.tail * vector[1]
        found.append((2, vector[2], -most, most))
    place = shell.lengths
    return [*found, (place, vector[place], *limits.electrons)]


def _is_at(value: float, end: float) -> bool:
    return abs(value - end) <= _AT_END * abs(end)


def _stepped(
    values: Values,
    step: np.ndarray,
    score: np.ndarray,
    information: np.ndarray,
    model: Model,
    limits: Limits,
) -> tuple[Values, float]:
    """Takes a step as far as the linear approximation reaches; also what it is expected to gain.

    One shell that runs away does not hold up the others: each may go as far as itself reaches,
    where that promises more than all of them going by the same share.
    """
    vector = values.vector(model)
    each = reaches_of_step(vector, step, model)
    moves = [(step / x, x) for x in (each, each.max())]
    gains = [2 * float(score @ m) - float(m @ information @ m) for m, _ in moves]
    best = int(np.argmax(gains))
    moved = values.with_vector(vector + moves[best][0], model)
    return inside(moved, model, limits), gains[best]


def reaches_of_step(vector: np.ndarray, step: np.ndarray, model: Model) -> np.ndarray:
    """How many times each entry's step is longer than the linear approximation reaches, ``[P]``.

    At least 1, and the same for all entries of a shell and for all beside the shells. A radius
    moves by at most a sigma, a sigma by a factor of 2, the origin by the smallest width.
    """
    reaches, widths, half = np.ones(len(vector)), [], 1.0
    for i, shell in enumerate(model.shells):
        part, own = vector[model.part(i)], step[model.part(i)]
        sigma = part[1] + (abs(part[2]) if shell.lengths == 3 else 0.0)
        widths.append(sigma)
        half = max(half, part[0])
        reach = [1.0, abs(own[0]) / sigma, 2 * abs(own[1]) / part[1]]
        if shell.lengths == 3:
            reach.append(abs(own[2]) / sigma)
        reach.append(0.25 * abs(own[shell.lengths]) / max(part[shell.lengths], 1e-9))
        reaches[model.part(i)] = max(reach)
    width = max(min(widths, default=1.0), 1.0)
    beside = reaches[model.starts[-1] :]
    for k, index in enumerate(model.layout.geometry):
        own = abs(step[model.starts[-1] + k])
        reach = own * (1.0 if index < 2 else half / 2) / (_GEOMETRY_STEP * width)
        beside[:] = np.maximum(beside, reach)
    return reaches


def inside(values: Values, model: Model, limits: Limits) -> Values:
    """Puts the parameters of shells into their ranges; N beta_n keep their beta_n."""
    shells = []
    for shell, old in zip(model.shells, values.shells, strict=True):
        new = np.array(old, np.float64)
        new[0] = np.clip(new[0], *limits.radius)
        new[1] = np.clip(new[1], *limits.sigma)
        if shell.lengths == 3:
            new[2] = np.clip(new[2], -limits.tail * new[1], limits.tail * new[1])
            # at 0 exactly the density has no derivative by tau for the device
            least = _SMALLEST_TAIL * new[1]
            new[2] = new[2] if abs(new[2]) > least else math.copysign(least, new[2])
        place = shell.lengths
        new[place] = np.clip(new[place], *limits.electrons)
        shells.append(new)
    geometry = np.array(values.geometry)
    geometry[3:] = np.clip(geometry[3:], -0.3, 0.3)
    return dataclasses.replace(values, shells=tuple(shells), geometry=geometry)


def _at_limits(values: Values, model: Model, limits: Limits) -> bool:
    """Whether a parameter of a shell lies at an end of its range."""
    return any(
        _is_at(value, low) or _is_at(value, high)
        for shell, vector in zip(model.shells, values.shells, strict=True)
        for _, value, low, high in _ranges(shell, vector, limits)
    )


def foreseen(found: Found) -> float:
    """The deviance that a search seems to end at."""
    score = found.evaluation.score
    step = Scaled(found.information).solve(score)
    return found.evaluation.deviance - (0.0 if step is None else float(score @ step))


def covariance(found: Found) -> np.ndarray | None:
    """Covariance of the vector, ``[P, P]``, or None where the counts do not determine it."""
    return Scaled(found.information).inverse()
