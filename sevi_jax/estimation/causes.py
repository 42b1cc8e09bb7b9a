"""Why a model does not describe a picture: causes with their size, from score tests and refits.

Causes compete: rings that are ellipses also look like a missing order or a second shell. In every
round the score says what each held block of parameters would gain; the best few are fitted, and the
one that explains most by chance least is a cause, if that is beyond doubt at the scatter that is
left. Then the others are asked again beside it. Single pixels are looked at first, because one hot
pixel spoils a fit; gains are looked at last, because everything that is missed scatters.
"""

import dataclasses
import math

import numpy as np

from sevi_jax.data.hot import Defects, find_defects
from sevi_jax.errors import InputError
from sevi_jax.estimation import held
from sevi_jax.estimation.dispersion import Residual, Scatter, overdispersion, scatter
from sevi_jax.estimation.fitting import Fitted, fit_picture, limits_for, rebinned, scaled
from sevi_jax.estimation.held import State, log_chance
from sevi_jax.estimation.residuals import residual_of
from sevi_jax.estimation.scoring import Reason
from sevi_jax.estimation.spot import find_spot
from sevi_jax.estimation.wording import (
    Cause,
    Demand,
    defects_in_words,
    gain_in_words,
    in_words,
    spot_in_words,
)
from sevi_jax.model import geometry as geo
from sevi_jax.model.means import BACKGROUNDS
from sevi_jax.model.picture_model import Data, Model, PictureModel, Values, ideal_distance

# Probability that a good picture gets a cause of one kind; there are about ten kinds.
FALSE_ALARM = 1e-4
_LARGEST = 512  # pixels a side that are looked at
_ROUNDS = 6
_FITTED = 4  # blocks that are fitted in a round
_WORTH = 0.15  # of the largest gain: below it a block is not fitted
_ITERATIONS = 12
_LEAST_SHELL = 30.0  # electrons of a missing shell
_SPOILED = 2.0  # times the scatter, by what a spot in the centre adds to it
_GAIN_DOUBT = 5.0  # errors by which the scatter differs from 1
_GAIN_LEAST = 0.02  # least difference of a gain from 1 that is worth a word


@dataclasses.dataclass(frozen=True)
class _Block:
    """Parameters that are freed together; `vector` of a shell that is new or becomes skewed."""

    kind: str
    names: tuple[str, ...]
    shell: int | None = None
    vector: np.ndarray | None = None
    tried: int = 1


@dataclasses.dataclass(frozen=True)
class _Look:
    """A picture that is looked into.

    Attributes:
        data: counts, perhaps of fewer pixels than were fitted.
        factor: pixels of the picture in one of these, along a side.
        orders: n that the fit had.
    """

    data: Data
    factor: int
    orders: tuple[int, ...]


def find_causes(fitted: Fitted) -> tuple[Cause, ...]:
    """Finds the causes for which a fit does not describe its picture.

    Of 1000 pictures that are as the model says about one gets a cause.

    Args:
        fitted: the fit; what it held is tried.

    Returns:
        The causes that are beyond doubt, in the order they were found; often the largest first.
        Of a fit that did not converge only a spot in the centre and single pixels: its score says
        where it stopped, not what is missing.
    """
    found = []
    if not fitted.model.model.shells:
        return ()
    apart = _without_spot(fitted)
    if apart is not None:
        fitted, cause = apart
        found.append(cause)
    defects = _defects(fitted)
    if defects is not None:
        found += defects_in_words(defects)
        fitted = _without(fitted, defects)
    if fitted.found.reason is not Reason.CONVERGED:
        return tuple(found)
    look, start = _first_state(fitted)
    state = start
    blocks: list[_Block] = []
    left = _scatter_left(state)
    while len(blocks) < _ROUNDS:
        better = _best(look, state, blocks, left)
        if better is None:
            break
        block, state, left = better
        blocks.append(block)
    found += _described(look, state, blocks, start.values)
    return (*found, *_gain_causes(fitted, state))


# The picture and the state of its model


def _without_spot(fitted: Fitted) -> tuple[Fitted, Cause] | None:
    """The fit without a bright spot in the centre, where that describes the rest far better."""
    data, request = fitted.prepared.data, fitted.request
    before = overdispersion(residual_of(fitted.model, fitted.found.values), fitted.model.model.size)
    if before < _SPOILED:
        return None
    spot = find_spot(data.counts, data.exposure, fitted.origin)
    low, high = request.range or (0.0, float(np.hypot(*data.counts.shape)))
    if spot is None or spot.radius <= low + 1:
        return None
    request = dataclasses.replace(request, range=(spot.radius, high))
    try:
        apart = fit_picture(fitted.picture, request)
    except InputError:  # nothing else is there
        return None
    if apart.found.reason is not Reason.CONVERGED:
        return None
    after = overdispersion(residual_of(apart.model, apart.found.values), apart.model.model.size)
    if after > before / _SPOILED:
        return None
    return apart, spot_in_words(spot, high)


def _defects(fitted: Fitted) -> Defects | None:
    """Hot and dead pixels among those that were fitted; None where there are none."""
    data = fitted.prepared.data
    found = find_defects(data.counts, data.exposure > 0, normal=fitted.prepared.normal)
    return found if (found.hot | found.dead).any() else None


def _without(fitted: Fitted, defects: Defects) -> Fitted:
    """The same fit without some pixels."""
    mask = fitted.picture.used & ~(defects.hot | defects.dead)
    picture = dataclasses.replace(fitted.picture, mask=mask)
    return fit_picture(picture, fitted.request)


def _first_state(fitted: Fitted) -> tuple[_Look, State]:
    data, values = fitted.prepared.data, fitted.found.values
    narrow = fitted.model.model
    factor = max(1, -(-max(data.counts.shape) // _LARGEST))
    small = rebinned(data, factor)
    if factor > 1:
        lost = np.array([n - n // factor * factor for n in data.counts.shape])
        values = scaled(values, narrow, 1 / factor, lost / 2 / factor)
    small = PictureModel(small, narrow, values).quick(values).data
    model, wide = held.widened(narrow, values)
    free = frozenset(narrow.names)
    look = _Look(small, factor, tuple(sorted({n for s in narrow.shells for n in s.orders})))
    return look, _settle(look, model, wide, free)


def _settle(look: _Look, model: Model, values: Values, free: frozenset[str]) -> State:
    return held.settled(look.data, model, values, free, limits_for(look.data), _ITERATIONS)


def _residual(state: State) -> Residual:
    return residual_of(state.picture, state.values)


def _scatter_left(state: State) -> Scatter:
    return scatter(_residual(state), len(state.free))


# Which block is next


def _best(
    look: _Look, state: State, chosen: list[_Block], left: Scatter
) -> tuple[_Block, State, Scatter] | None:
    """The block that explains most, and the state with it; None if none is beyond doubt."""
    candidates = _candidates(look, state, chosen, left.value)
    best = None
    for block in candidates:
        tried = _tried(look, state, block)
        if tried is None:
            continue
        lower = state.evaluation.deviance - tried.evaluation.deviance
        if best is None or lower - 2 * len(block.names) > best[2] - 2 * len(best[0].names):
            best = (block, tried, lower)
    if best is None:
        return None
    block, tried, lower = best
    unit = overdispersion(_residual(tried), len(tried.free))
    after = _scatter_left(tried)
    unit = unit if unit > 1 else min(after.value + 2 * after.error, 1.0)
    if log_chance(lower / unit, len(block.names)) + math.log(block.tried) > math.log(FALSE_ALARM):
        return None
    return block, tried, after


def _candidates(look: _Look, state: State, chosen: list[_Block], unit: float) -> list[_Block]:
    """Blocks whose score asks for them, those of the largest gain first."""
    model, data = state.model, look.data
    blocks = _held_blocks(state, look)
    tails = [i for i, s in enumerate(model.shells) if s.shape == "normal"]
    row, column = data.middles
    used = data.exposure.ravel() > 0
    reach = float(ideal_distance(row, column, state.values.geometry)[used].max())
    thin, series = held.thin_shells(state, reach)
    columns = [held.tail_column(state, i) for i in tails] + series
    evaluation = held.evaluate_with(state, columns)
    free = state.index(state.free)
    found = []
    for block in blocks:
        lower, estimate, number = held.gain(evaluation, free, state.index(block.names))
        if block.kind == "background" and estimate[0] < 0:
            continue
        found.append((log_chance(lower / unit, number), lower, block))
    for k, shell in enumerate(tails):
        place = np.array([model.size + k])
        lower, estimate, number = held.gain(evaluation, free, place)
        block = _tail_block(state, shell, float(estimate[0]), len(tails))
        found.append((log_chance(lower / unit, number), lower, block))
    if not any(block.kind == "shell" for block in chosen[-1:]):
        rings = [
            (held.gain(evaluation, free, model.size + len(tails) + 2 * k + np.arange(2)), thin[k])
            for k in range(len(thin))
        ]
        rings = [(x, where) for x, where in rings if x[1][0] > 0]
        if rings:
            (lower, amounts, number), where = max(rings, key=lambda x: x[0][0])
            block = _shell_block(state, where, amounts, len(thin))
            found.append((log_chance(lower / unit, number) + math.log(len(thin)), lower, block))
    # the score is only a first look: what it nearly asks for is fitted too
    found = [x for x in found if x[0] < math.log(30 * FALSE_ALARM)]
    found.sort(key=lambda x: x[0])
    most = max((x[1] for x in found), default=0.0)
    asked = [block for _, lower, block in found if lower >= _WORTH * most][:_FITTED]
    # the score says nothing of an axis that is 90 degrees off: there the gain is even
    if asked and not chosen and "angle" not in state.free and look.orders:
        asked.append(_Block("axis", ("angle",)))
    return asked


def _held_blocks(state: State, look: _Look) -> list[_Block]:
    """Blocks of parameters that the widened model has and that are held."""
    geometry = {
        "origin": geo.NAMES[:2], "tilt": geo.NAMES[2:3], "ellipse": geo.NAMES[3:5],
        "harmonics 3": geo.NAMES[5:7], "harmonics 4": geo.NAMES[7:9],
    }  # fmt: skip
    smooth = tuple(f"background_{k}" for k in range(BACKGROUNDS["smooth"]))
    efficiency = tuple(n for n in state.model.names if n.startswith("efficiency_"))
    blocks = [_Block(kind, names) for kind, names in geometry.items()]
    blocks += [
        _Block("background", smooth[:1]),
        _Block("smooth background", smooth),
        _Block("top and bottom", efficiency[:1]),
        _Block("left and right", efficiency[1:2]),
        _Block("efficiency", efficiency),
    ]
    orders = state.model.shells[0].orders
    for n in orders:
        names = [f"beta{n}_{i + 1}" for i in range(len(state.model.shells))]
        blocks.append(_Block(f"order {n}", tuple(names)))
    left = []
    for block in blocks:
        names = tuple(n for n in block.names if n not in state.free)
        if names:
            left.append(dataclasses.replace(block, names=names))
    return left


def _other_axis(state: State) -> Values:
    """The same values with the polarisation turned by 90 degrees, of shells without direction."""
    geometry, shells = np.array(state.values.geometry), []
    geometry[2] += np.pi / 2
    for shell, vector in zip(state.model.shells, state.values.shells, strict=True):
        neutral = np.array(vector)
        neutral[shell.lengths + 1 :] = 0.0
        shells.append(neutral)
    return dataclasses.replace(state.values, geometry=geometry, shells=tuple(shells))


def _tail_block(state: State, shell: int, amount: float, tried: int) -> _Block:
    """A tail of the third cumulant that the score asks for."""
    size = min(max(held.TRIED_TAIL * abs(amount) ** (1 / 3), 0.4), 1.2)
    vector = held.with_tail(state.values.shells[shell], math.copysign(size, amount))
    return _Block("tail", (f"tail_{shell + 1}",), shell, vector, tried)


def _shell_block(state: State, where: np.ndarray, amounts: np.ndarray, tried: int) -> _Block:
    """A new shell at the place of the ladder that gains most."""
    shell = state.model.shells[0]
    number = len(state.model.shells) + 1
    orders = dict.fromkeys(shell.orders, 0.0)
    orders[2] = float(np.clip(amounts[1], -0.9 * amounts[0], 1.9 * amounts[0]))
    vector = np.array([*where, amounts[0], *orders.values()])
    first = {int(n[4:-2]) for n in state.free if n.startswith("beta") and n.endswith("_1")}
    names = ["radius", "sigma", "electrons", *(f"beta{n}" for n in sorted(first))]
    return _Block("shell", tuple(f"{n}_{number}" for n in names), number - 1, vector, tried)


def _tried(look: _Look, state: State, block: _Block) -> State | None:
    """The state with a block free, or None where that is no answer."""
    free = state.free | set(block.names)
    if block.kind == "axis":
        found = _settle(look, state.model, _other_axis(state), free)
        turn = found.values.geometry[2] - state.values.geometry[2]
        return found if abs(math.cos(turn)) < math.sqrt(0.5) else None
    if block.kind == "tail":
        assert block.shell is not None
        assert block.vector is not None
        model, values = held.with_shape(state, block.shell, block.vector)
        return _settle(look, model, values, free)
    if block.kind == "shell":
        assert block.vector is not None
        found = _settle(look, *held.with_shell(state, block.vector), free)
        return found if found.values.shells[-1][2] > _LEAST_SHELL else None
    found = _settle(look, state.model, state.values, free)
    if block.kind == "background" and found.values.background[0] <= 0:
        return None
    return found


# What remains beyond doubt


def _described(look: _Look, state: State, blocks: list[_Block], held_at: Values) -> list[Cause]:
    """Causes of blocks, those that remain beyond doubt beside one another."""
    covariance = state.covariance() * overdispersion(_residual(state), len(state.free))
    vector, start = state.values.vector(state.model), _by_name(state.model, held_at)
    found, orders = [], look.orders
    for block in blocks:
        # that a shell is there is said by its number of electrons
        names = [f"electrons_{_number(block)}"] if block.kind == "shell" else list(block.names)
        index = np.array([state.model.names.index(name) for name in names])
        own = covariance[np.ix_(index, index)]
        change = vector[index] - np.array([start.get(name, 0.0) for name in names])
        inner = np.linalg.pinv(own, hermitian=True)
        chance = log_chance(float(change @ inner @ change), len(index))
        if chance > math.log(FALSE_ALARM):
            continue
        demand = Demand(
            block.kind, tuple(names), change, own, state.values, state.model, look.factor,
            look.data.counts, orders, _number(block), chance,
        )  # fmt: skip
        found.append(in_words(demand))
        if block.kind.startswith("order"):  # the next missing order is said with this one
            orders = tuple(sorted({*orders, int(block.kind.split()[1])}))
    return found


def _number(block: _Block) -> int | None:
    return None if block.shell is None else block.shell + 1


def _by_name(model: Model, values: Values) -> dict[str, float]:
    """Values of the columns of their own; those of shells are 0 where held."""
    vector = dataclasses.replace(
        values, shells=tuple(np.zeros(shell.size) for shell in model.shells)
    ).vector(model)
    return dict(zip(model.names, vector, strict=True))


def _gain_causes(fitted: Fitted, state: State) -> list[Cause]:
    """A variance that is not the mean, where the gain was given; else the fit has estimated it."""
    if fitted.prepared.normal or fitted.prepared.noise.estimated:
        return []
    residual = _residual(state)
    value = scatter(residual, len(state.free))
    if abs(value.value - 1) < max(_GAIN_DOUBT * value.error, _GAIN_LEAST):
        return []
    # square / variance = g + b variance: a gain has b = 0, what is missed has not
    used = residual.variance > 0
    variance = residual.variance[used]
    ratio, weight = residual.off[used] ** 2 / variance, 1 / (2 + 1 / variance)
    columns = np.stack([np.ones_like(variance), variance], axis=1)
    inverse = np.linalg.pinv(columns.T @ (weight[:, None] * columns))
    both = inverse @ (columns.T @ (weight * ratio))
    off = weight * (ratio - columns @ both)
    spread = inverse @ (columns.T @ (off[:, None] ** 2 * columns)) @ inverse
    if both[1] > _GAIN_DOUBT * np.sqrt(spread[1, 1]):
        return []
    gain = fitted.prepared.gain * value.value
    error = fitted.prepared.gain * value.error
    return [gain_in_words(gain, error, abs(value.value - 1) / value.error)]
