"""A fitted model with what was held beside what was free: what would a freed parameter gain?

The model of a fit is widened by all parameters that were held. One evaluation at the fitted values
gives score U and information I of everything. Freeing a block b beside the free parameters f lowers
the deviance by about (Rao's score test)

    U_b' S^-1 U_b,   S = I_bb - I_bf I_ff^-1 I_fb,

with U_f = 0, and S^-1 U_b is the first estimate of the block. All searches run in the widened model
with the other parameters held, so that nothing is compiled for a block.
"""

import dataclasses

import numpy as np
import scipy.special

from sevi_jax.estimation.scoring import Limits, search
from sevi_jax.model import geometry as geo
from sevi_jax.model.components import Shell, modes_of, shell_series
from sevi_jax.model.means import BACKGROUNDS
from sevi_jax.model.picture_model import Data, Evaluation, Model, PictureModel, Values

_LARGEST_ORDER = 24
_SINGULAR = 1e-5  # share of a direction's information that must be left beside the free ones
TRIED_TAIL = 0.7  # of sigma
_TAIL_STEP = 0.5  # of sigma, between the shells of a third difference
_TOLERANCE = 0.1  # of a search in the widened model, in squared standard errors


@dataclasses.dataclass(frozen=True)
class State:
    """A widened model where some parameters are free.

    Attributes:
        picture: data and model.
        free: names of what is free.
        values: of everything.
        evaluation: there, of everything.
    """

    picture: PictureModel
    free: frozenset[str]
    values: Values
    evaluation: Evaluation

    @property
    def model(self) -> Model:
        """The widened model."""
        return self.picture.model

    def index(self, names) -> np.ndarray:
        """Places of names in the vector."""
        places = {name: i for i, name in enumerate(self.model.names)}
        return np.array(sorted(places[name] for name in names), int)

    def covariance(self) -> np.ndarray:
        """Covariance of the free ones, ``[P, P]`` of the whole vector; 0 where held."""
        index = self.index(self.free)
        found = np.zeros((self.model.size, self.model.size))
        inner = self.evaluation.information[np.ix_(index, index)]
        found[np.ix_(index, index)] = _inverse(inner)
        return found


class _Held:
    """What `scoring.search` needs of a picture, with some parameters held."""

    def __init__(self, picture: PictureModel, held: np.ndarray):
        self.picture, self.held = picture, held
        self.model, self.size = picture.model, picture.size
        self.last: Evaluation | None = None

    def ensure_sorted(self, values: Values) -> None:
        """As the picture does."""
        self.picture.ensure_sorted(values)

    def evaluate(self, values: Values) -> Evaluation:
        """The score and the information have nothing in the rows of what is held."""
        found = self.picture.evaluate(values)
        score, information = found.score.copy(), found.information.copy()
        score[self.held] = 0.0
        information[self.held] = 0.0
        information[:, self.held] = 0.0
        information[self.held, self.held] = 1.0
        return Evaluation(found.deviance, score, information)


def widened(model: Model, values: Values) -> tuple[Model, Values]:
    """Adds all parameters that a fit may have held; their values are what the fit held them at.

    Each shell gets the orders 1 to 3 and the even order after its highest one.
    """
    orders = sorted({n for shell in model.shells for n in shell.orders})
    even = max((n for n in orders if n % 2 == 0), default=0) + 2
    more = sorted({*orders, 1, 2, 3, min(even, _LARGEST_ORDER)})
    shells, vectors = [], []
    for shell, vector in zip(model.shells, values.shells, strict=True):
        own = dict(zip(shell.orders, vector[shell.lengths + 1 :], strict=True))
        shells.append(Shell(tuple(more), shell.shape))
        amplitudes = [own.get(n, 0.0) for n in more]
        vectors.append(np.array([*vector[: shell.lengths + 1], *amplitudes]))
    layout = dataclasses.replace(
        model.layout,
        modes=modes_of(tuple(shells)),
        geometry=tuple(range(len(geo.NAMES))),
        background=BACKGROUNDS["smooth"],
        efficiency=True,
    )
    return Model(tuple(shells), layout), dataclasses.replace(values, shells=tuple(vectors))


def settled(
    data: Data, model: Model, values: Values, free: frozenset[str], limits: Limits, iterations: int
) -> State:
    """Searches the most likely values of what is free, the rest held; pixels are blurs."""
    picture = PictureModel(data, model, values, exact=False)
    held = np.array([name not in free for name in model.names])
    found = search(_Held(picture, held), values, limits, [], iterations, _TOLERANCE)
    picture.ensure_sorted(found.values)
    return State(picture, free, found.values, picture.evaluate(found.values))


def gain(
    evaluation: Evaluation, free: np.ndarray, block: np.ndarray
) -> tuple[float, np.ndarray, int]:
    """What freeing a block would lower the deviance by.

    Args:
        evaluation: of a vector, ``[P]``.
        free: places in it of what is free.
        block: places of what is freed.

    Returns:
        the gain, the first estimate of the block's change, and how many directions of the block
        the free ones do not take the place of.
    """
    information, score = evaluation.information, evaluation.score
    own = information[np.ix_(block, block)]
    cross = information[np.ix_(block, free)]
    solved = cross @ _inverse(information[np.ix_(free, free)])
    left = own - solved @ cross.T
    pull = score[block] - solved @ score[free]
    scale = np.sqrt(np.maximum(np.diagonal(own), 1e-300))
    value, vector = np.linalg.eigh(left / np.outer(scale, scale))
    keep = value > _SINGULAR
    along = vector[:, keep].T @ (pull / scale)
    estimate = (vector[:, keep] @ (along / value[keep])) / scale
    return float(np.sum(along**2 / value[keep])), estimate, int(keep.sum())


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric matrix without the directions that it does not determine."""
    if not len(matrix):
        return np.zeros((0, 0))
    scale = 1 / np.sqrt(np.maximum(np.diagonal(matrix), 1e-300))
    value, vector = np.linalg.eigh(matrix * scale[:, None] * scale)
    keep = value > 1e-7
    inner = (vector[:, keep] / value[keep]) @ vector[:, keep].T
    return inner * scale[:, None] * scale


def evaluate_with(state: State, columns: list) -> Evaluation:
    """Evaluates a state with more series that could be added, at an amount of 0 each.

    Args:
        state: the model.
        columns: of series on the grid ``[G, M, k]``, any number.

    Returns:
        The evaluation of the vector with the amounts at its end.
    """
    return state.picture.evaluate(state.values, columns)


def tail_column(state: State, number: int) -> np.ndarray:
    """Series that a tail of `TRIED_TAIL` outwards adds to a normal shell, ``[G, M, 1]``.

    At first order a tail moves a shell, at second it widens it, and both are free as it is: what a
    tail shows in is the third cumulant, 2 tau^3. The density then changes by -2 tau^3 / 6 times its
    third derivative by r, which is a third difference of shells at four radii.
    """
    shell, vector = state.model.shells[number], state.values.shells[number]
    step = _TAIL_STEP * vector[1]
    third = np.zeros(())
    for places, weight in ((2, 1.0), (1, -2.0), (-1, 2.0), (-2, -1.0)):
        moved = np.array(vector)
        moved[0] += places * step
        third = third + weight * shell_series(shell, moved, state.picture.grid)[0]
    tail = with_tail(vector, TRIED_TAIL)[2]
    return (tail**3 / 3 / (2 * step**3) * third)[..., None]


def with_tail(vector: np.ndarray, tail: float) -> np.ndarray:
    """A normal shell's vector with a tail of so many sigma, of the same mean and variance."""
    sigma = vector[1] / np.sqrt(1 + tail * tail)
    return np.array([vector[0] - tail * sigma, sigma, tail * sigma, *vector[2:]])


def with_shape(state: State, number: int, vector: np.ndarray) -> tuple[Model, Values]:
    """The same model where a shell is skewed, with the vector given for it."""
    shells, vectors = list(state.model.shells), list(state.values.shells)
    shells[number] = Shell(shells[number].orders, "skewed")
    vectors[number] = vector
    return (
        Model(tuple(shells), state.model.layout),
        dataclasses.replace(state.values, shells=tuple(vectors)),
    )


def with_shell(state: State, vector: np.ndarray) -> tuple[Model, Values]:
    """The same model with one more normal shell."""
    shell = Shell(state.model.shells[0].orders, "normal")
    return (
        Model((*state.model.shells, shell), state.model.layout),
        dataclasses.replace(state.values, shells=(*state.values.shells, vector)),
    )


def thin_shells(state: State, reach: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Shells of one electron that could be missing.

    Args:
        state: for its grid.
        reach: largest distance of a pixel that is used.

    Returns:
        R and sigma ``[K, 2]``, and the series of the orders 0 and 2 of each, ``[G, M, 2]``.
    """
    shell = Shell(state.model.shells[0].orders, "normal")
    narrow = max(1.0, min(v[1] for v in state.values.shells), reach / 120)
    place = shell.lengths
    second = 1 + shell.orders.index(2)
    radii, series = [], []
    for sigma in (narrow, 2.5 * narrow, 6 * narrow):
        for radius in np.arange(0.5 * sigma, reach, 1.5 * sigma):
            vector = np.zeros(shell.size)
            vector[:2], vector[place] = (radius, sigma), 1.0
            slopes = shell_series(shell, vector, state.picture.grid)[1]
            radii.append((radius, sigma))
            series.append(slopes[..., [place, place + second]])
    return np.array(radii), series


def log_chance(value: float, number: int) -> float:
    """Logarithm of the probability that chi-square of so many degrees of freedom is larger."""
    if number == 0 or value <= 0:
        return 0.0
    half, shape = 0.5 * value, 0.5 * number
    chance = float(scipy.special.gammaincc(shape, half))
    if chance > 1e-200:
        return float(np.log(chance))
    # the first terms of the asymptotic series
    more = 1 + (shape - 1) / half
    return float(-half + (shape - 1) * np.log(half) - scipy.special.gammaln(shape) + np.log(more))
