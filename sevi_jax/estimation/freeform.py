"""Distributions of any form: penalised likelihood with a smoothness that adapts to the radius.

The vector of the model holds I(r) and I(r) beta_n(r) at the nodes of `model.continuum`. They are
functions of what is smooth, the vector of the search: x = log I, so that intensities stay above 0,
and beta_n, which a weak barrier keeps where the density of directions is positive. Third
differences of x (0 for Gaussian rings) and second ones of beta_n are normal numbers whose variance
is a function of the radius. It is estimated from the counts by MacKay's fixed point (Neural
Computation 4, 415, 1992): the sum of their squares in a window over how many of them the counts
determine. Far below what the counts can see, log I is not drawn on by the rings beside: it is held,
weakly, at a fraction of that.

Every round evaluates all pixels once (deviance, score and Fisher information of the amplitudes),
makes a few steps of Newton's method on that quadratic form, and revises the variances.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.polynomial import legendre

from sevi_jax.estimation.scoring import Found, Limits, Reason, Scaled, Term, inside, reach_of_step
from sevi_jax.model.continuum import Continuum
from sevi_jax.model.picture_model import Evaluation, Model, PictureModel, Values, ideal_distance

ORDER_X, ORDER_BETA = 3, 2  # of the differences that are small
_WINDOW = 3  # nodes on each side that share a variance
_OWN = 3.0  # the window counts as so many numbers beside a node's own
_ALL = 3.0  # all nodes count as so many beside those of the window
_FIRST_SCALE = 0.3  # of the differences
_SMALLEST_SCALE, _LARGEST_SCALE = 1e-4, 20.0
_BARRIER = 0.05  # of the logarithm of the density of directions, per node
_ANGLES = 4  # per order, from 0 to pi
_WEAK_X, _WEAK_BETA = 1e-6, 1e-3  # precision of x and beta themselves
_UNSEEN = 5.0  # log I is held where I is below its error by so much
_HELD = 8.0  # scale of that, per node
_FIRST_ROUNDS = 3  # before variances are revised
_INNER = 2  # steps of Newton's method in a round
_UP, _DOWN = 2.0, 10.0  # most that x grows and falls in a step
_ROUNDS = 60
_SETTLED = 0.3  # change of the objective in a round, and 6 times that of the scales
_HALVINGS = 6
_HALF_WIDTHS = 2.355  # full width at half maximum of a normal density, in sigma


class Differences:
    """Differences of neighbouring values, normal with a variance that depends on the place.

    Args:
        count: K, values.
        order: of the differences.
        own: how many numbers the window counts as beside a node's own; infinity: the node's own
            number counts as one of the window alone.
        scale: their standard deviation to begin with.
    """

    def __init__(self, count: int, order: int, own: float, scale: float = _FIRST_SCALE):
        self.own = own
        self.weights = [(-1.0) ** (order - i) * math.comb(order, i) for i in range(order + 1)]
        self.count, self.number = count, count - order
        self.variance = np.full(self.number, scale**2)

    def of(self, values: np.ndarray) -> np.ndarray:
        """The differences, ``[K - order]``."""
        return sum(
            (w * values[i : i + self.number] for i, w in enumerate(self.weights)),
            start=np.zeros(self.number),
        )

    def precision(self) -> np.ndarray:
        """Of the values, ``[K, K]``."""
        found = np.zeros((self.count, self.count))
        k = np.arange(self.number)
        for i, v in enumerate(self.weights):
            for j, w in enumerate(self.weights):
                found[k + i, k + j] += v * w / self.variance
        return found

    def revise(self, values: np.ndarray, covariance: np.ndarray) -> float:
        """Estimates the variances anew; returns the root mean square of their logarithms' change.

        Args:
            values: ``[K]``.
            covariance: of the values, ``[K, K]``.
        """
        k = np.arange(self.number)
        left = sum(
            v * w * covariance[k + i, k + j]
            for i, v in enumerate(self.weights)
            for j, w in enumerate(self.weights)
        )
        square = self.of(values) ** 2
        known = np.clip(1 - left / self.variance, 1e-3, 1.0)
        window = np.ones(2 * _WINDOW + 1)
        near, near_known = (np.convolve(x, window, mode="same") for x in (square, known))
        near = (near + _ALL * square.sum() / known.sum()) / (near_known + _ALL)
        new = near
        if np.isfinite(self.own):
            new = (square + self.own * near) / (known + self.own)
        new = np.clip(new, _SMALLEST_SCALE**2, _LARGEST_SCALE**2)
        change = np.sqrt(np.mean(known * np.log(new / self.variance) ** 2))
        self.variance = new
        return float(change)


class Smooth:
    """What is known of a continuum besides the counts, and the map from x and beta to amplitudes.

    Args:
        model: with a continuum.
        held: log I where it is too small to be seen, ``[K]``.
        level: log I of an even distribution.
        added: terms on the deviance, of parameters beside the continuum.
    """

    def __init__(self, model: Model, held: np.ndarray, level: float, added: Sequence[Term] = ()):
        continuum = model.continuum
        assert continuum is not None
        self.held, self.level, self.added = held, level, added
        self.size, self.count = model.size, continuum.count
        first = model.beside.start
        self.x = slice(first, first + self.count)
        self.betas = [
            slice(first + i * self.count, first + (i + 1) * self.count)
            for i in range(1, 1 + len(continuum.orders))
        ]
        self.differences = [Differences(self.count, ORDER_X, _OWN)]
        self.differences += [Differences(self.count, ORDER_BETA, np.inf) for _ in self.betas]
        top = max(continuum.orders, default=0)
        cosine = np.cos(np.linspace(0.0, np.pi, _ANGLES * top + 1))
        values = [legendre.legval(cosine, np.eye(n + 1)[n]) for n in continuum.orders]
        self.directions = np.reshape(values, (len(values), -1))  # [L, A]

    @property
    def parts(self) -> list[slice]:
        """Where x and every beta lie in the vector."""
        return [self.x, *self.betas]

    def beta(self, vector: np.ndarray) -> np.ndarray:
        """beta_n at the nodes, ``[L, K]``."""
        return np.reshape([vector[part] for part in self.betas], (len(self.betas), self.count))

    def amplitudes(self, vector: np.ndarray) -> np.ndarray:
        """The vector of the model of a vector of the search."""
        found = np.array(vector)
        found[self.x] = np.exp(vector[self.x])
        for part in self.betas:
            found[part] = found[self.x] * vector[part]
        return found

    def pulled(self, vector: np.ndarray, score: np.ndarray, information: np.ndarray):
        """Score ``[P]`` and information ``[P, P]`` by the vector of the search, by the chain rule.

        With a = exp(x): d a / dx = a, d (a beta) / dx = a beta and d (a beta) / d beta = a.
        """
        scale = np.ones(self.size)
        for part in self.parts:
            scale[part] = np.exp(vector[self.x])
        found = score * scale
        for part in self.betas:
            found[self.x] += vector[part] * found[part]
        matrix = information * scale[:, None] * scale
        for part in self.betas:
            matrix[self.x] += vector[part][:, None] * matrix[part]
        for part in self.betas:
            matrix[:, self.x] += matrix[:, part] * vector[part]
        return found, matrix

    def pushed(self, vector: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """Covariance of the amplitudes from that of the vector of the search, ``[P, P]``."""
        found = np.array(covariance)
        for part in self.betas:
            found[part] += vector[part][:, None] * covariance[self.x]
        middle = np.array(found)
        for part in self.betas:
            found[:, part] += middle[:, self.x] * vector[part]
        scale = np.ones(self.size)
        for part in self.parts:
            scale[part] = np.exp(vector[self.x])
        return found * scale[:, None] * scale

    def penalty(self, vector: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Minus the logarithm of the prior, its negative slope ``[P]``, its curvature ``[P, P]``.

        The value is infinite where a density of directions is negative.
        """
        value = 0.0
        score, matrix = np.zeros(self.size), np.zeros((self.size, self.size))
        for part, differences in zip(self.parts, self.differences, strict=True):
            precision = differences.precision()
            own = vector[part] - (self.level if part is self.x else 0.0)
            weak = _WEAK_X if part is self.x else _WEAK_BETA
            precision[np.diag_indices(self.count)] += weak
            pull = precision @ own
            value += 0.5 * float(own @ pull)
            score[part] -= pull
            matrix[part, part] += precision
        below = np.minimum(vector[self.x] - self.held, 0.0) / _HELD
        value += 0.5 * float(below @ below)
        score[self.x] -= below / _HELD
        place = np.arange(self.x.start, self.x.stop)
        matrix[place, place] += (below < 0) / _HELD**2
        for term in self.added:
            amount, slope, curvature = term.evaluate(vector)
            value += 0.5 * amount
            score += slope
            matrix += curvature
        if self.betas:
            density = 1 + self.directions.T @ self.beta(vector)  # [A, K]
            if (density <= 0).any():
                return np.inf, score, matrix
            weight = 2 * _BARRIER / len(density)
            value -= weight * float(np.log(density).sum())
            slopes = weight * self.directions @ (1 / density)
            for i, part in enumerate(self.betas):
                score[part] += slopes[i]
                for j, other in enumerate(self.betas):
                    product = self.directions[i] * self.directions[j]
                    curvature = weight * product @ (1 / density**2)
                    matrix[
                        np.arange(part.start, part.stop), np.arange(other.start, other.stop)
                    ] += curvature
        return value, score, matrix

    def share(self, vector: np.ndarray, step: np.ndarray) -> float:
        """The share of a step that keeps x in reach and densities of directions positive."""
        along = step[self.x]
        share = 1 / max(1.0, along.max() / _UP, -along.min() / _DOWN)
        if self.betas:
            density = 1 + self.directions.T @ self.beta(vector)
            change = self.directions.T @ self.beta(step)
            falling = change < 0
            if falling.any():
                share = min(share, 0.9 * float((density[falling] / -change[falling]).min()))
        return share

    def revise(self, vector: np.ndarray, covariance: np.ndarray) -> float:
        """Estimates all variances anew; returns the largest change."""
        return max(
            differences.revise(vector[part], covariance[part, part])
            for part, differences in zip(self.parts, self.differences, strict=True)
        )


@dataclasses.dataclass(frozen=True)
class FoundFree:
    """Where a search ended.

    Attributes:
        found: values, evaluation and information (of the amplitudes, of the counts alone).
        covariance: of the vector of the model, ``[P, P]``; None where the counts and the prior do
            not determine it.
        known: how many parameters the prior, and not the counts, determines.
    """

    found: Found
    covariance: np.ndarray | None
    known: float


def search(
    picture: PictureModel, start: Values, limits: Limits, added: Sequence[Term] = ()
) -> FoundFree:
    """Searches the most likely distribution.

    Args:
        picture: data and model, which has a continuum.
        start: values to begin at; of the continuum they are not looked at.
        limits: of the shells beside it.
        added: terms on the deviance, of parameters beside the continuum.
    """
    model = picture.model
    smooth, vector = _begin(picture, start, added)

    def evaluate(vector):
        values = start.with_vector(smooth.amplitudes(vector), model)
        picture.ensure_sorted(values)
        return values, picture.evaluate(values)

    values, found = evaluate(vector)
    reason, count = Reason.ITERATIONS, 1
    for number in range(_ROUNDS):
        before = 0.5 * found.deviance + smooth.penalty(vector)[0]
        trial, precision = _stepped(smooth, vector, values, found, model, limits)
        inverse = precision.inverse()
        if inverse is None:
            reason = Reason.SINGULAR
            break
        tried = evaluate(trial)
        count += 1
        for _ in range(_HALVINGS):
            after = 0.5 * tried[1].deviance + smooth.penalty(trial)[0]
            if after < before + 0.1 * _SETTLED:
                break
            trial = 0.5 * (vector + trial)
            tried = evaluate(trial)
            count += 1
        vector, (values, found) = trial, tried
        if number < _FIRST_ROUNDS:
            continue
        changed = smooth.revise(vector, inverse)
        if abs(before - after) < _SETTLED and changed < _SETTLED / 6:
            reason = Reason.CONVERGED
            break
    _, information = smooth.pulled(vector, found.score, found.information)
    inverse = Scaled(information + smooth.penalty(vector)[2]).inverse()
    ended = Found(values, found, found.information, reason, count)
    if inverse is None:
        return FoundFree(ended, None, 0.0)
    known = model.size - float(np.sum(information * inverse))
    return FoundFree(ended, smooth.pushed(vector, inverse), known)


def rings(free: FoundFree, continuum: Continuum, number: int) -> list[np.ndarray]:
    """The rings that stand out most from what is beside them, inner first.

    Args:
        free: a search without shells.
        continuum: of its model.
        number: how many rings are wanted; fewer are returned where no more are seen.

    Returns:
        Of every ring R, sigma, electrons and electrons times beta_n, ``[3 + L]``.
    """
    from scipy.signal import find_peaks  # takes half a second to load

    if free.covariance is None:
        return []
    count, nodes = continuum.count, continuum.nodes
    values = free.found.values.continuum.reshape(-1, count)
    error = np.sqrt(np.diagonal(free.covariance)[-continuum.size :][:count])
    peaks, about = find_peaks(values[0], prominence=0.0, width=0.0)
    # the error of a sum over the ring grows as the root of its width, its height as the width
    weight = about["prominences"] / error[peaks] * np.sqrt(about["widths"])
    best = np.sort(np.argsort(-weight)[:number])
    found = []
    for i in best:
        place = peaks[i]
        width = max(float(about["widths"][i]), 1.0) * continuum.spacing
        sigma = width / _HALF_WIDTHS
        electrons = about["prominences"][i] * sigma * math.sqrt(2 * math.pi)
        near = slice(max(place - 1, 0), place + 2)
        own = values[1:, near].sum(axis=1) / values[0, near].sum()
        found.append(np.array([nodes[place], sigma, electrons, *(electrons * own)]))
    return found


def _begin(
    picture: PictureModel, start: Values, added: Sequence[Term]
) -> tuple[Smooth, np.ndarray]:
    """What is known of the continuum, and a first vector of the search."""
    model, data = picture.model, picture.data
    continuum = model.continuum
    assert continuum is not None
    nodes = continuum.nodes
    used = data.exposure.ravel() > 0
    row, column = (x[used] for x in data.middles)
    place = np.searchsorted(nodes, ideal_distance(row, column, start.geometry))
    place = np.clip(place, 0, len(nodes) - 1)
    counts = np.bincount(place, data.counts.ravel()[used], minlength=len(nodes))
    pixels = np.bincount(place, minlength=len(nodes))
    width = np.gradient(nodes)
    # electrons per pixel of distance, of whole rings
    whole = 2 * np.pi * np.maximum(nodes, 0.5) * width
    counts = counts * np.maximum(whole / np.maximum(pixels, 1), 1.0) / width
    window = np.ones(2 * _WINDOW + 1) / (2 * _WINDOW + 1)
    counts = np.maximum(np.convolve(counts, window, mode="same"), 1e-3)
    error = 1.5 * np.sqrt(np.maximum(counts, 1.0) / len(window))
    level = math.log(max(float(counts.mean()), 1e-3))
    smooth = Smooth(model, np.log(error / _UNSEEN), level, added)
    vector = start.vector(model).astype(np.float64)
    vector[smooth.x] = 0.5 * (np.log(counts) + level)
    for part in smooth.betas:
        vector[part] = 0.0
    return smooth, vector


def _stepped(
    smooth: Smooth,
    vector: np.ndarray,
    values: Values,
    found: Evaluation,
    model: Model,
    limits: Limits,
) -> tuple[np.ndarray, Scaled]:
    """A few steps of Newton's method with the counts as a quadratic form; its last matrix too."""
    at, new = smooth.amplitudes(vector), vector
    for _ in range(_INNER):
        slope = found.score - found.information @ (smooth.amplitudes(new) - at)
        score, information = smooth.pulled(new, slope, found.information)
        _, pull, curvature = smooth.penalty(new)
        precision = Scaled(information + curvature)
        step = precision.solve(score + pull)
        if step is None:
            break
        share = min(smooth.share(new, step), 1 / reach_of_step(new, step, model))
        new = new + share * step
        kept = inside(values.with_vector(new, model), model, limits)
        new = kept.vector(model)
    return new, precision
