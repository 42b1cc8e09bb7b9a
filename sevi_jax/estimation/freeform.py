"""Distributions of any form: penalised likelihood with a smoothness that adapts to the radius.

The vector of the model holds I(r) and I(r) beta_n(r) at the nodes of `model.continuum`. They are
functions of what is smooth, the vector of the search: x = log I, so that intensities stay above 0,
and beta_n, which a weak barrier keeps where the density of directions is positive. Third
differences of x (0 for Gaussian rings) and second ones of beta_n are normal numbers whose variance
is a function of the radius. It is estimated from the counts by MacKay's fixed point (Neural
Computation 4, 415, 1992): the sum of their squares in a window over how many of them the counts
determine. Where these are few, the usual variance of all of them counts beside the window, and for
beta_n the variance of x there, which is large where rings end. Far below what the counts can see,
log I is not drawn on by the rings beside: it is held, weakly, at a fraction of that; beside a
background also beyond the picture, where the two are much the same. Where I has
jumps that cubics do not follow, nodes are half a pixel apart, and the search goes on with these.

Every round evaluates all pixels once (deviance, score and Fisher information of the amplitudes),
makes a few steps of Newton's method on that quadratic form, and revises the variances.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.polynomial import legendre

from sevi_jax.estimation.scoring import Found, Limits, Reason, Scaled, Term, inside, reaches_of_step
from sevi_jax.model.continuum import Continuum
from sevi_jax.model.picture_model import Evaluation, Model, PictureModel, Values, ideal_distance

ORDER_X, ORDER_BETA = 3, 2  # of the differences that are small
_WINDOW = 3  # nodes on each side that share a variance
_ALL = 0.3  # a variance that all share counts as so many nodes beside those of the window
_LIKE = 1.0  # the same of beta's variances, taken as proportional to those of x
_NEAR = 2.0  # pixels about a node over which x's variances are taken for that
_FIRST_SCALE = 0.3  # of the differences
_STIFF_SCALE = 0.01  # the same beside shells, whose rings a looser continuum would take
_SMALLEST_SCALE, _LARGEST_SCALE = 1e-4, 20.0
_BARRIER = 0.05  # of the logarithm of the density of directions, per node
_ANGLE = 2  # its place in the geometry
_ANGLES = 4  # per order, from 0 to pi
_WEAK_X, _WEAK_BETA = 1e-6, 1e-3  # precision of x and beta themselves
_UNSEEN = 5.0  # log I is held where I is below its error by so much
_HELD = 8.0  # scale of that, per node
_INNER = 2  # steps of Newton's method in a round
_HOLD = 6  # rounds in which a constant background stays where it began
_FIRM = 1e9  # how much more precise it is made for that
_BROAD = 10  # nodes on each side over which a mean is a first background
_FILLED = 0.01  # share of the pixels that are in such a mean at least
_BEYOND = 3.0  # scale of log I beyond the picture, where a background would do as well
_TURN = 0.1  # most that the angle changes in a step, radians
_LEAST_DAMPING = 4e-3  # of a step beyond the picture or of the angle, over the square of its most
_FULL = 0.9  # of the way to where a density of directions is 0 at which a search begins at most
_UP, _DOWN = 2.0, 10.0  # most that x grows and falls in a step
_ROUNDS = 60
_DAMPINGS = (0.0, 1e-6, 1e-5, 1e-4)
_MISSED = 1.0  # errors of I by which cubics may miss it
_TOGETHER = 16  # intervals are halved in multiples of this
_SETTLED = 0.3  # change of the objective in a round, and 6 times that of the scales
_HALVINGS = 6
_HALF_WIDTHS = 2.355  # full width at half maximum of a normal density, in sigma
_ENDS = 3.0  # a ring ends so many sigma from its peak


class Differences:
    """Differences of neighbouring values, normal with a variance that depends on the place.

    Differences over nodes that are not evenly spaced are divided ones, times the power of the
    spacing that makes those of a random walk equally large everywhere; a pixel apart they are the
    plain ones.

    Args:
        nodes: where the values are, pixels, ``[K]``.
        order: of the differences.
    """

    def __init__(self, nodes: np.ndarray, order: int):
        self.order = order
        self.count, self.number = len(nodes), len(nodes) - order
        at = np.array([nodes[i : i + self.number] for i in range(order + 1)])  # [order + 1, N]
        spacing = (at[-1] - at[0]) / order
        self.middle = at.mean(axis=0)
        scale = math.factorial(order) * spacing ** (order - 0.5)
        plain = [(-1.0) ** (order - i) * math.comb(order, i) for i in range(order + 1)]
        even = np.isclose(np.diff(at, axis=0), 0.5).any(axis=0)
        self.weights = np.where(even, scale / _products_of(at), np.array(plain)[:, None])
        self.variance = np.full(self.number, _FIRST_SCALE**2)
        self.worth = np.ones(self.number)  # how many numbers each variance rests on
        self.shares = np.eye(self.number)  # of others' logarithms in that of each variance

    def of(self, values: np.ndarray) -> np.ndarray:
        """The differences, ``[K - order]``."""
        found = np.zeros(self.number)
        for i, w in enumerate(self.weights):
            found += w * values[i : i + self.number]
        return found

    def precision(self) -> np.ndarray:
        """Of the values, ``[K, K]``."""
        found = np.zeros((self.count, self.count))
        k = np.arange(self.number)
        for i, v in enumerate(self.weights):
            for j, w in enumerate(self.weights):
                found[k + i, k + j] += v * w / self.variance
        return found

    def spread(self, covariance: np.ndarray) -> np.ndarray:
        """Variances of the differences of values with a covariance ``[K, K]``."""
        found, k = np.zeros(self.number), np.arange(self.number)
        for i, v in enumerate(self.weights):
            for j, w in enumerate(self.weights):
                found += v * w * covariance[k + i, k + j]
        return found

    def revise(
        self,
        values: np.ndarray,
        covariance: np.ndarray,
        like: "Differences | None" = None,
        hidden: np.ndarray | None = None,
    ) -> float:
        """Estimates the variances anew; returns the root mean square of their logarithms' change.

        Args:
            values: ``[K]``.
            covariance: of the values, ``[K, K]``.
            like: others whose variances these are likely to be proportional to; all equal
                without.
            hidden: which of the differences tell nothing, ``[K - order]``: their variances are
                taken between those beside them.
        """
        seen = np.ones(self.number) if hidden is None or hidden.all() else ~hidden * 1.0
        square = seen * self.of(values) ** 2
        known = seen * np.clip(1 - self.spread(covariance) / self.variance, 1e-3, 1.0)
        window = np.ones(2 * _WINDOW + 1)
        near, near_known = (np.convolve(x, window, mode="same") for x in (square, known))
        if like is None:
            # a geometric mean, so that a few jumps do not make all differences likely
            ratio = np.log(np.maximum(near, 1e-30) / np.maximum(near_known, 1e-3))
            usual = np.exp(np.sum(near_known * ratio) / near_known.sum())
            weight = _ALL
        else:
            usual = like.variance_at(self.middle)
            usual = usual * np.sum(square / usual) / known.sum()
            weight = _LIKE
        self.worth = near_known + weight
        new = np.clip((near + weight * usual) / self.worth, _SMALLEST_SCALE**2, _LARGEST_SCALE**2)
        self.shares = _between(self.middle, seen > 0)
        new = np.exp(self.shares @ np.log(new))
        change = np.sqrt(np.mean(known * np.log(new / self.variance) ** 2))
        self.variance = new
        return float(change)

    def variance_at(self, r: np.ndarray) -> np.ndarray:
        """Geometric means of the variances over a few pixels about some radii."""
        near = np.abs(r[:, None] - self.middle) <= _NEAR
        near[np.arange(len(r)), np.abs(r[:, None] - self.middle).argmin(axis=1)] = True
        return np.exp(near @ np.log(self.variance) / near.sum(axis=1))

    def moved(self, values: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """How a vector moves as the variances do within their own errors, ``[P, N]``.

        A variance that rests on n numbers has a relative variance of 2 / n. The columns are
        independent; neighbouring variances share most of what they rest on.

        Args:
            values: ``[K]``.
            covariance: of the vector with the values, ``[P, K]``.
        """
        pull = self.of(values) / self.variance
        found = np.zeros((len(covariance), self.number))
        for i, w in enumerate(self.weights):
            found += covariance[:, i : i + self.number] * (w * pull)
        found = found @ self.shares * np.sqrt(2 / self.worth)
        k = np.arange(self.number)
        near = np.abs(k[:, None] - k) <= _WINDOW
        return found @ (near / np.sqrt(near.sum(axis=0)))


def _between(at: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """What makes values at all places from those that are seen, by straight lines, ``[N, N]``."""
    found = np.zeros((len(at), len(at)))
    place = np.flatnonzero(seen)
    above = np.clip(np.searchsorted(at[place], at), 1, max(len(place) - 1, 1))
    low, high = place[above - 1], place[np.minimum(above, len(place) - 1)]
    width = np.where(high > low, at[high] - at[low], 1.0)
    share = np.clip((at - at[low]) / width, 0.0, 1.0)
    k = np.arange(len(at))
    found[k, low] += 1 - share
    found[k, high] += share
    return found


def _products_of(at: np.ndarray) -> np.ndarray:
    """Products of the distances of every node from the others, ``[M, N]``."""
    found = np.ones_like(at)
    for i in range(len(at)):
        for j in range(len(at)):
            if i != j:
                found[i] *= at[i] - at[j]
    return found


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
        self.shells, self.starts = model.shells, model.starts
        first = model.beside.start
        self.x = slice(first, first + self.count)
        self.betas = [
            slice(first + i * self.count, first + (i + 1) * self.count)
            for i in range(1, 1 + len(continuum.orders))
        ]
        self.nodes = continuum.nodes
        layout = model.layout
        at = model.starts[-1] + len(layout.geometry)
        self.constant = at if layout.background else None  # where a constant background lies
        self.is_held = False  # whether that stays where it is
        self.beyond = self.nodes > continuum.inner * continuum.spacing
        turned = [model.starts[-1] + k for k, i in enumerate(layout.geometry) if i == _ANGLE]
        far = first + np.flatnonzero(self.beyond)
        self.loose = np.array([*far, *turned], int)  # what may run away in a step, and how far
        self.most = np.array([_UP] * len(far) + [_TURN] * len(turned))
        self.differences = [Differences(self.nodes, ORDER_X)]
        self.differences += [Differences(self.nodes, ORDER_BETA) for _ in self.betas]
        if model.shells:
            for differences in self.differences:
                differences.variance[:] = _STIFF_SCALE**2
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
        if self.constant is not None:
            far = np.where(self.beyond, vector[self.x] - self.held, 0.0) / _BEYOND
            value += 0.5 * float(far @ far)
            score[self.x] -= far / _BEYOND
            matrix[place, place] += self.beyond / _BEYOND**2
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
        along = step[self.x][~self.beyond]
        share = 1 / max(1.0, along.max() / _UP, -along.min() / _DOWN)
        if self.betas:
            density = 1 + self.directions.T @ self.beta(vector)
            change = self.directions.T @ self.beta(step)
            falling = change < 0
            if falling.any():
                share = min(share, 0.9 * float((density[falling] / -change[falling]).min()))
        return share

    def revise(self, vector: np.ndarray, covariance: np.ndarray) -> float:
        """Estimates all variances anew; returns the largest change.

        The continuum beneath a shell is taken as as smooth as beside it. Else it and the shell
        would both be free to be the ring: its variances would grow with what it takes of the
        ring, and let it take more.
        """
        first = self.differences[0]
        changes = []
        for part, differences in zip(self.parts, self.differences, strict=True):
            like = None if differences is first else first
            hidden = self.beneath(vector, differences.middle)
            changes.append(differences.revise(vector[part], covariance[part, part], like, hidden))
        return max(changes)

    def beneath(self, vector: np.ndarray, r: np.ndarray) -> np.ndarray:
        """Which radii lie beneath a shell, ``[len(r)]`` bool."""
        found = np.zeros(len(r), bool)
        for i, shell in enumerate(self.shells):
            place, *widths = vector[self.starts[i] : self.starts[i] + shell.lengths]
            found |= np.abs(r - place) < _ENDS * sum(abs(x) for x in widths)
        return found

    def with_errors_of_scales(self, vector: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """The covariance with what the variances' own errors add to it, ``[P, P]``.

        That is Kass and Steffey's first approximation (J. Am. Stat. Assoc. 84, 717, 1989). It
        matters where the prior pulls hard: on flanks that it may have smoothed too much.
        """
        found = np.array(covariance)
        for part, differences in zip(self.parts, self.differences, strict=True):
            half = differences.moved(vector[part], covariance[:, part])
            found += half @ half.T
        return found


@dataclasses.dataclass(frozen=True)
class FoundFree:
    """Where a search ended.

    Attributes:
        found: values, evaluation and information (of the amplitudes, of the counts alone).
        covariance: of the vector of the model, ``[P, P]``; None where the counts and the prior do
            not determine it.
        known: how many parameters the prior, and not the counts, determines.
        smooth: what is known of the continuum besides the counts.
        vector: of the search, ``[P]``.
    """

    found: Found
    covariance: np.ndarray | None
    known: float
    smooth: Smooth
    vector: np.ndarray


def search(
    picture: PictureModel,
    start: Values,
    limits: Limits,
    added: Sequence[Term] = (),
    earlier: FoundFree | None = None,
) -> FoundFree:
    """Searches the most likely distribution.

    Args:
        picture: data and model, which has a continuum.
        start: values to begin at; a continuum of zeros is taken from the counts.
        limits: of the shells beside it.
        added: terms on the deviance, of parameters beside the continuum.
        earlier: a search of the same picture with other nodes, to go on from.
    """
    model = picture.model
    if earlier is None:
        smooth, vector = _begin(picture, start, added)
    else:
        smooth, vector = _carried(earlier, model, start, added)

    def evaluate(vector):
        values = start.with_vector(smooth.amplitudes(vector), model)
        picture.ensure_sorted(values)
        return values, picture.evaluate(values)

    values, found = evaluate(vector)
    reason, count = Reason.ITERATIONS, 1
    for number in range(_ROUNDS):
        before = 0.5 * found.deviance + smooth.penalty(vector)[0]
        smooth.is_held = smooth.constant is not None and number < _HOLD
        trial, matrix = _stepped(smooth, vector, values, found, model, limits)
        inverse = _factorised(matrix).inverse()
        if inverse is None:
            reason = Reason.SINGULAR
            break
        tried = evaluate(trial)
        count += 1
        for _ in range(_HALVINGS):
            after = 0.5 * tried[1].deviance + smooth.penalty(trial)[0]
            if after < before + 0.5 * _SETTLED:
                break
            trial = 0.5 * (vector + trial)
            tried = evaluate(trial)
            count += 1
        vector, (values, found) = trial, tried
        changed = smooth.revise(vector, inverse)
        if not smooth.is_held and abs(before - after) < _SETTLED and changed < _SETTLED / 6:
            reason = Reason.CONVERGED
            break
    _, information = smooth.pulled(vector, found.score, found.information)
    inverse = _factorised(information + smooth.penalty(vector)[2]).inverse()
    ended = Found(values, found, found.information, reason, count)
    if inverse is None:
        return FoundFree(ended, None, 0.0, smooth, vector)
    known = model.size - float(np.sum(information * inverse))
    inverse = smooth.with_errors_of_scales(vector, inverse)
    return FoundFree(ended, smooth.pushed(vector, inverse), known, smooth, vector)


def refined(
    picture: PictureModel, free: FoundFree, limits: Limits, added: Sequence[Term] = ()
) -> tuple[PictureModel, FoundFree]:
    """The same search with nodes half a pixel apart about jumps of I, where there are any.

    Args:
        picture: data and model, which has a continuum.
        free: its search.
        limits: of the shells beside it.
        added: terms on the deviance, of the vector of the model; with some nodes stay.
    """
    model = picture.model
    assert model.continuum is not None
    if added or free.found.reason is not Reason.CONVERGED or free.covariance is None:
        return picture, free
    halved = jumps(free, model)
    if not halved:
        return picture, free
    continuum = dataclasses.replace(model.continuum, halved=halved)
    model = dataclasses.replace(model, continuum=continuum)
    start = dataclasses.replace(free.found.values, continuum=np.zeros(continuum.size))
    finer = PictureModel(picture.data, model, start)
    return finer, search(finer, start, limits, earlier=free)


def jumps(free: FoundFree, model: Model) -> tuple[int, ...]:
    """Intervals between nodes where cubics do not follow I to within its error.

    A cubic through four values misses the one between them by 3 / 128 of the fourth difference.
    """
    continuum = model.continuum
    assert continuum is not None
    assert free.covariance is not None
    if continuum.halved:
        return ()
    count = continuum.inner + 2  # nodes that are evenly spaced
    first = model.beside.start
    intensity = free.found.values.continuum[:count]
    error = np.sqrt(np.diagonal(free.covariance)[first : first + count])
    missed = 3 / 128 * np.abs(np.diff(intensity, 4)) / error[2:-2]
    need = np.zeros(count - 1)
    for i in range(6):  # the intervals about the middle node, three on each side
        own = need[i : i + len(missed)]
        np.maximum(own, missed[: len(own)], out=own)
    number = int(np.sum(need > _MISSED))
    # few different numbers of nodes: programs are compiled for each
    number = min(-(-number // _TOGETHER) * _TOGETHER, len(need))
    return tuple(int(i) for i in np.sort(np.argsort(-need)[:number]))


def rings(
    free: FoundFree, continuum: Continuum, number: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """The rings that stand out most from what is beside them, inner first, and what is left.

    Beneath a ring what is left is a straight line in log I, and one in beta_n, between its ends.

    Args:
        free: a search without shells.
        continuum: of its model.
        number: how many rings are wanted; fewer are returned where no more are seen.

    Returns:
        Of every ring R, sigma, electrons and electrons times beta_n, ``[3 + L]``; of what is left
        I and I beta_n at the nodes, ``[(1 + L) K]``.
    """
    from scipy.signal import find_peaks  # takes half a second to load

    if free.covariance is None:
        return [], np.array(free.found.values.continuum)
    count, nodes = continuum.count, continuum.nodes
    values = free.found.values.continuum.reshape(-1, count)
    error = np.sqrt(np.diagonal(free.covariance)[-continuum.size :][:count])
    peaks, about = find_peaks(values[0], prominence=0.0, width=0.0)
    # the error of a sum over the ring grows as the root of its width, its height as the width
    weight = about["prominences"] / error[peaks] * np.sqrt(about["widths"])
    best = np.sort(np.argsort(-weight)[:number])
    widths = np.maximum(about["widths"][best], 1.0) * continuum.spacing / _HALF_WIDTHS
    peaks = peaks[best]
    away = np.abs(nodes - nodes[peaks][:, None]) > _ENDS * widths[:, None]  # [R, K]
    outside = away.all(axis=0)
    left = np.exp(np.interp(nodes, nodes[outside], np.log(values[0][outside])))
    left = np.concatenate([[left], np.zeros_like(values[1:])])
    for own, old in zip(left[1:], values[1:] / values[0], strict=True):
        own[:] = left[0] * np.interp(nodes, nodes[outside], old[outside])
    found = []
    for place, width in zip(peaks, widths, strict=True):
        # those beside it have their own share of what stands out
        nearest = np.abs(nodes - nodes[place]) == np.abs(nodes - nodes[peaks][:, None]).min(axis=0)
        own = nearest & (np.abs(nodes - nodes[place]) <= _ENDS * width)
        above = np.sum((values - left)[:, own], axis=1) * continuum.spacing
        height = values[0, place] - left[0, place]
        if height <= 0 or above[0] <= 0:  # no more than a shoulder: all of it is the ring's
            height, above = values[0, place], values[:, place] * width * math.sqrt(2 * math.pi)
        sigma = np.clip(above[0] / height / math.sqrt(2 * math.pi), 0.3 * width, width)
        found.append(np.array([nodes[place], sigma, *above]))
    return found, left.ravel()


def step_within_reach(smooth: Smooth, matrix: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """Newton's step, damped in what would run away: log I beyond the picture, and the angle.

    They may be known so badly, the angle as long as all beta_n are 0, that the step is far outside
    of where the form holds. To cut it off there alone would spoil the rest of the step.

    Args:
        smooth: says what may run away, and how far each may go.
        matrix: of the form, ``[P, P]``.
        right: its negative slope, ``[P]``.

    Returns:
        The step ``[P]``; None where the matrix is not positive.
    """
    step = _factorised(matrix).solve(right)
    place, most = smooth.loose, smooth.most
    damping = np.full(len(place), 0.1 * _LEAST_DAMPING)
    damped = np.array(matrix)
    while step is not None and (too_far := np.abs(step[place]) > most).any():
        damping = np.where(too_far, 10 * damping, damping)
        added = np.where(too_far, damping / most**2, 0.0)
        damped[place, place] += added
        step = _factorised(damped).solve(right)
    return step


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
    flat = fewest_per_pixel(counts, pixels)
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
    if smooth.constant is not None:
        # what is left where the fewest counts are, and the continuum above it
        vector[smooth.constant] = flat
        counts = np.maximum(counts - flat * whole / width, 0.1 * counts)
    if start.continuum.any():
        # beside shells the counts are not the continuum's alone
        values = start.continuum.reshape(-1, len(nodes))
        intensity = np.maximum(values[0], np.exp(smooth.held))
        vector[smooth.x] = np.log(intensity)
        beta = values[1:] / intensity
        density = 1 + smooth.directions.T @ beta
        beta /= np.maximum(1.0, (1 - density.min(axis=0, initial=1.0)) / _FULL)
        for part, own in zip(smooth.betas, beta, strict=True):
            vector[part] = own
    else:
        vector[smooth.x] = 0.5 * (np.log(counts) + level)
        for part in smooth.betas:
            vector[part] = 0.0
    return smooth, vector


def fewest_per_pixel(counts: np.ndarray, pixels: np.ndarray) -> float:
    """The fewest counts per pixel in rings that are so broad that noise does not make them few.

    A background that begins too low is hardly found: I that rises to the picture's rim, and ends
    there, looks like it.

    Args:
        counts: sums in narrow rings, ``[K]``.
        pixels: how many there are in each, ``[K]``.
    """
    window, total = np.ones(2 * _BROAD + 1), pixels.sum()
    counts, pixels = (np.convolve(x, window)[_BROAD:-_BROAD] for x in (counts, pixels))
    filled = pixels >= min(max(_FILLED * total, 1), pixels.max())
    return float((counts[filled] / pixels[filled]).min())


def _factorised(matrix: np.ndarray) -> Scaled:
    """A precision, with so much more on its diagonal as rounding may have taken.

    The information is a sum in single precision, and orders above 2 are hardly told from one
    another near the centre.
    """
    for damping in _DAMPINGS:
        found = Scaled(matrix, damping)
        if found.factor is not None:
            break
    return found


def _carried(
    earlier: FoundFree, model: Model, start: Values, added: Sequence[Term]
) -> tuple[Smooth, np.ndarray]:
    """The same as `_begin` from a search with other nodes."""
    continuum, old = model.continuum, earlier.smooth
    assert continuum is not None
    nodes, at = continuum.nodes, old.nodes
    smooth = Smooth(model, np.interp(nodes, at, old.held), old.level, added)
    vector = start.vector(model).astype(np.float64)
    for part, own in zip(smooth.parts, old.parts, strict=True):
        vector[part] = np.interp(nodes, at, earlier.vector[own])
    for new, own in zip(smooth.differences, old.differences, strict=True):
        new.variance = np.exp(np.interp(new.middle, own.middle, np.log(own.variance)))
    return smooth, vector


def _stepped(
    smooth: Smooth,
    vector: np.ndarray,
    values: Values,
    found: Evaluation,
    model: Model,
    limits: Limits,
) -> tuple[np.ndarray, np.ndarray]:
    """A few steps of Newton's method with the counts as a quadratic form; its last matrix too.

    Each lowers that form with the penalty, so that what they are together does too.
    """
    at, new = smooth.amplitudes(vector), vector

    def objective(trial):
        change = smooth.amplitudes(trial) - at
        form = 0.5 * change @ found.information @ change - found.score @ change
        return float(form) + smooth.penalty(trial)[0]

    now = objective(new)
    for _ in range(_INNER):
        slope = found.score - found.information @ (smooth.amplitudes(new) - at)
        score, information = smooth.pulled(new, slope, found.information)
        _, pull, curvature = smooth.penalty(new)
        if smooth.is_held and smooth.constant is not None:
            information[smooth.constant, smooth.constant] *= _FIRM
        matrix = information + curvature
        step = step_within_reach(smooth, matrix, score + pull)
        if step is None:
            break
        share = min(smooth.share(new, step), 1 / reaches_of_step(new, step, model).max())
        for _ in range(_HALVINGS):
            trial = new + share * step
            if smooth.constant is not None and vector[smooth.constant] >= 0:
                # a negative one and a higher continuum are much the same for a step too long
                trial[smooth.constant] = max(trial[smooth.constant], 0.0)
            trial = inside(values.with_vector(trial, model), model, limits).vector(model)
            after = objective(trial)
            if after <= now:
                new, now = trial, after
                break
            share *= 0.5
    return new, matrix
