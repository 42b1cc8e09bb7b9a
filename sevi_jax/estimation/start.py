"""Starting values of a fit from the picture itself: finds shells one by one; needs no network.

All in weighted least squares with weights taken from the counts, which (unlike the Poisson
likelihood) bears rings that the model does not have yet. For every shell that is wanted:

1. The model so far leaves a residual. Thin shells of a ladder of radii and widths are tried in it:
   of each the quadratic form U' G^-1 U says by how much it would lower the sum of squares if its
   yield and betas were free, U its score and G its information after everything that the present
   shells could explain (changes of their R, sigma, yield and betas) is projected out. So a ring
   that is merely a little wide or misplaced does not call for a second one.
2. The best thin shell joins the model, and all shells are fitted again (`fit.search`). Where it
   lies beside a shell, that shell may be two that overlap: it is also tried to split that one, and
   what fits better stays.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.estimation.fit import FitSpec, search
from sevi_jax.estimation.information import (
    PictureParams,
    from_row,
    place_means,
    to_row,
)
from sevi_jax.physics.expected import PixelTable, project_profiles, unit_profiles
from sevi_jax.physics.types import ShellParams

_TRIED_ORDERS = 2  # 2 and 4: what the thin shells of the ladder may have
_RADIUS_STEP = 0.0125
_SIGMAS = (0.006, 0.02)
_LARGEST_SIGMA = 0.025  # a shell does not widen to cover several
_MISFIT = 0.05  # of the counts of a ring that its shape may differ by
_ITERATIONS = 6
_BESIDE = 3.0  # a thin shell is beside another within so many times the sum of their sigmas


@dataclasses.dataclass(frozen=True)
class Ladder:
    """The thin shells that are tried; hashable.

    Attributes:
        radius: (low, high), half-widths.
    """

    radius: tuple[float, float]

    def shells(self) -> tuple[np.ndarray, np.ndarray]:
        """Radius and sigma of each, ``[C]`` float32."""
        low, high = self.radius
        radii = np.arange(low, high + _RADIUS_STEP / 2, _RADIUS_STEP).astype(np.float32)
        radius, sigma = np.meshgrid(radii, np.asarray(_SIGMAS, np.float32))
        keep = radius > 2 * sigma
        return radius[keep], sigma[keep]


@functools.partial(jax.jit, static_argnames=("ladder", "orders", "num_orders", "factor"))
def ladder_columns(
    table: PixelTable, ladder: Ladder, orders: int, num_orders: int, factor: float
) -> jax.Array:
    """Computes the counts of every thin shell and order, ``[orders + 1, C, M]``.

    For one electron of density 1/2, and for P_2, P_4, ... each by itself.

    Args:
        table: of L = `num_orders`.
        ladder: which shells.
        orders: how many of the orders.
        num_orders: L.
        factor: as in `fit.fit_places`.
    """

    def columns(shell):
        units = unit_profiles(shell[0], shell[1], num_orders, table.points)[..., : orders + 1]
        counts = project_profiles(units, table) * factor
        return counts.at[:, 0].multiply(0.5).T

    radius, sigma = ladder.shells()
    found = jax.lax.map(columns, (jnp.asarray(radius), jnp.asarray(sigma)))
    return jnp.moveaxis(found, 1, 0)


def find_shells(
    counts: jax.Array,
    used: jax.Array,
    spec: FitSpec,
    table: PixelTable,
    factor: float = 1.0,
    ladder: Ladder | None = None,
    guess: PictureParams | None = None,
) -> PictureParams:
    """Finds starting values for `fit.fit_places`.

    Args:
        counts: ``[B, Q, M]``.
        used: ``[B, Q, M]``.
        spec: how they will be fitted.
        table: as in `fit.fit_places`.
        factor: as in `fit.fit_places`.
        ladder: radii where shells are looked for; by default those that the fit allows.
        guess: other starting values ``[B, S]``, taken where they turn out to be better.

    Returns:
        Parameters ``[B, S]``.
    """
    if ladder is None:
        low, high = spec.radius
        ladder = Ladder((max(low, 0.03), min(high, 1.1)))
    orders = min(_TRIED_ORDERS, spec.free.num_orders)
    columns = ladder_columns(table, ladder, orders, spec.free.num_orders, factor)
    rows = None if guess is None else to_row(guess, spec.free)
    return _find(counts, used, rows, columns, table, spec, factor, ladder)


@functools.partial(jax.jit, static_argnames=("spec", "factor", "ladder"))
def _find(counts, used, guess, columns, table, spec, factor, ladder):
    one = functools.partial(
        _find_one, columns=columns, table=table, spec=spec, factor=factor, ladder=ladder
    )
    return jax.lax.map(lambda x: one(*x), (jnp.sum(counts, axis=1), jnp.sum(used, axis=1), guess))


def _find_one(folded, exposure, guess, columns, table, spec, factor, ladder) -> PictureParams:
    """Finds the shells of one picture, ``[M]`` and ``[M]``; `guess` is a row or None."""
    free = spec.free
    total, pixels = jnp.sum(folded), jnp.maximum(jnp.sum(exposure), 1.0)
    per_pixel = total / pixels
    # the variance of a count is about the count; one more where it may be zero by chance
    variance = folded + 1 + 0.1 * exposure * per_pixel
    weight = jnp.where(exposure > 0, 1 / variance, 0.0)
    # where to look next must not depend on how the strongest rings differ from normal ones
    lenient = jnp.where(exposure > 0, 1 / (variance + (_MISFIT * folded) ** 2), 0.0)
    shell_of = np.array([int(name.rpartition("_")[2]) - 1 for name in free.names])
    shell_of[len(shell_of) - free.background :] = -1
    radius, sigma = (jnp.asarray(x) for x in ladder.shells())
    narrow = (spec.sigma[0], min(spec.sigma[1], _LARGEST_SIGMA))
    quick = dataclasses.replace(
        spec, iterations=_ITERATIONS, tolerance=3.0, positive=False, sigma=narrow
    )

    def refine(row, active):
        """Fits the shells that are active; returns row, sum of squares, residual, Jacobian."""
        fixed = ~active[shell_of] & (shell_of >= 0)
        row = search(folded, exposure, row, fixed, None, quick, factor, table, weight)[0]
        mean, jacobian = place_means(row, free, table, factor)
        residual = folded - exposure * mean
        return row, jnp.sum(weight * residual**2), residual, jacobian

    def put(row, place, values):
        return jax.lax.dynamic_update_slice(row, values, (place * free.per_shell,))

    def split(row, place, old):
        """Replaces the shell `old` by two that look like it together, in its place and `place`."""
        values = jax.lax.dynamic_slice(row, (old * free.per_shell,), (free.per_shell,))
        half = jnp.array([0.0, -0.2, -0.5]) * jnp.stack([0.0, values[1], values[2]])
        shift = jnp.zeros_like(values).at[:3].set(half).at[0].add(-0.6 * values[1])
        row = put(row, old, values + shift)
        return put(row, place, values + shift.at[0].multiply(-1.0))

    def add(place, state):
        row, active, residual, jacobian = state
        known = active[shell_of] | (shell_of < 0)
        gain, amounts = _gains(residual, jacobian, exposure, lenient, known, columns)
        best = jnp.argmax(gain)
        electrons = jnp.clip(amounts[best, 0], 1e-4 * total, total)
        beta = jnp.clip(amounts[best, 1:] / electrons, -1.0, 2.0)
        beta = jnp.zeros(free.num_orders).at[: beta.size].set(beta)
        values = jnp.concatenate([jnp.stack([radius[best], sigma[best], electrons]), beta])
        # a gain beside a shell may mean that it is two
        present = from_row(row, free).shells
        apart = jnp.abs(present.radius - radius[best]) / (present.sigma + sigma[best])
        apart = jnp.where(active, apart, jnp.inf)
        nearest = jnp.argmin(apart)
        active = active.at[place].set(True)
        attempts = jnp.stack([put(row, place, values), split(row, place, nearest)])
        number = jnp.where(apart[nearest] < _BESIDE, 2, 1)
        least = jnp.float32(jnp.inf)
        if guess is not None:  # behind the last shell, where `active` has no place to set
            is_over = place == free.shells
            attempts = jnp.where(is_over, guess, attempts)
            number = jnp.where(is_over, 1, number)
            least = jnp.where(is_over, jnp.sum(weight * residual**2), least)

        def attempt(i, best):
            tried = refine(attempts[i], active)
            return jax.tree.map(lambda x, y: jnp.where(tried[1] < best[1], x, y), tried, best)

        # one loop, and not two calls: half the time to compile
        none = (row, least, residual, jacobian)
        row, _, residual, jacobian = jax.lax.fori_loop(0, number, attempt, none)
        return row, active, residual, jacobian

    def every(value):
        return jnp.full(free.shells, value, jnp.float32)

    shells = ShellParams(
        every(0.5), every(0.01), every(0.0), jnp.zeros((free.shells, free.num_orders))
    )
    background = jnp.zeros(free.background).at[:1].set(0.1 * per_pixel)
    row = to_row(PictureParams(shells, background), free)
    state = (
        row,
        jnp.zeros(free.shells, bool),
        folded,
        jnp.zeros((folded.size, len(free.index)), jnp.float32),
    )
    rounds = free.shells + (guess is not None)
    row = jax.lax.fori_loop(0, rounds, add, state)[0]
    return from_row(row, free)


def _gains(residual, jacobian, exposure, weight, active, columns):
    """What every thin shell would lower the sum of squares by, ``[C]``, and its amounts.

    Args:
        residual: ``[M]``.
        jacobian: of the present model, ``[M, P]``.
        exposure: ``[M]``.
        weight: ``[M]``.
        active: which of its columns count, ``[P]``.
        columns: ``[orders + 1, C, M]``.

    Returns:
        gains ``[C]``, -inf where the yield would be negative; yield and yield * beta
        ``[C, orders + 1]``.
    """
    jacobian = jnp.where(active, jacobian, 0.0) * exposure[:, None]
    weighted = jacobian * weight[:, None]
    fisher = weighted.T @ jacobian
    diagonal = jnp.diagonal(fisher)
    scale = jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1.0))
    fisher = fisher * scale[:, None] * scale + jnp.diag(jnp.where(diagonal > 0, 1e-5, 1.0))
    cross = jnp.einsum("ocm,mp->cop", columns, weighted * (exposure[:, None] * scale))
    score = jnp.einsum("ocm,m->co", columns, residual * weight * exposure)
    factor = jax.scipy.linalg.cho_factor(fisher)
    number = columns.shape[0]
    flat = cross.reshape(-1, cross.shape[-1])
    solved = jax.scipy.linalg.cho_solve(factor, flat.T).T.reshape(cross.shape)
    old_score = (residual * weight * exposure) @ (jacobian * 1.0) * scale
    score -= jnp.einsum("cop,p->co", solved, old_score)
    both = weight * exposure**2
    rows = [[None] * number for _ in range(number)]
    for i in range(number):
        for j in range(i, number):
            rows[i][j] = rows[j][i] = jnp.sum(columns[i] * columns[j] * both, axis=-1)
    own = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    left = own - jnp.einsum("cop,cqp->coq", solved, cross)
    ridge = 1e-3 * jnp.diagonal(own, axis1=1, axis2=2)
    amounts = _solve_small(left + ridge[:, :, None] * jnp.eye(number), score)
    gain = jnp.sum(amounts * score, axis=-1)
    return jnp.where(amounts[:, 0] > 0, gain, -jnp.inf), amounts


def _solve_small(matrices: jax.Array, right: jax.Array) -> jax.Array:
    """Solves positive systems ``[C, n, n]`` of tiny n by elimination, without LAPACK's batches."""
    n = right.shape[-1]
    m = jnp.concatenate([matrices, right[..., None]], axis=-1)
    for i in range(n):
        m = m.at[:, i].divide(m[:, i, i, None])
        for j in range(n):
            if j != i:
                m = m.at[:, j].add(-m[:, j, i, None] * m[:, i])
    return m[..., n]
