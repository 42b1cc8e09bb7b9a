"""What the counts of a picture can tell: means and their Jacobian, Fisher information, the bound.

The counts n_i of a centred picture are Poisson numbers with means mu_i, and

    mu_i = b_i + sum_shells N (a_0i(R, sigma) + sum_l beta_l a_li(R, sigma)),

so all derivatives are projections of profiles: of the densities P_l each by itself, and of the
shell's own profile differentiated by R and by sigma. The Fisher information is J' diag(1/mu) J; its
inverse is the Cramer-Rao bound, the smallest covariance that an unbiased estimate can have. This
module knows no data: `fit` brings those in.

Everything inside is held per *place* of `PixelTable` (a sorted quadrant). A full picture is four
such quadrants with the same means: nothing is computed four times.
"""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.physics.expected import (
    PixelTable,
    pixel_table,
    project_profiles,
    shell_profile,
    unit_profiles,
)
from sevi_jax.physics.legendre import legendre_terms, order_weights, with_constant
from sevi_jax.physics.types import ImageSpec, ShellParams

BACKGROUND_TERMS = (0, 1, 6)
_SHIFT = 1e-5  # well above float32's rounding of sums of products


@flax.struct.dataclass
class PictureParams:
    """All that the means of a picture depend on; leading batch axes allowed.

    Attributes:
        shells: radius, sigma, yield (`electrons`, float32 here) and beta; ``[..., S(, L)]``.
        background: coefficients of `background_terms`, counts per stored pixel, ``[..., K]``.
    """

    shells: ShellParams
    background: jax.Array


@dataclasses.dataclass(frozen=True)
class FreeParameters:
    """Which parameters of a picture are free; hashable, so static under jit.

    R, sigma and the yield of every shell always are. All parameters in one row, the *row*, are
    per shell R, sigma, yield, beta_2 .. beta_2L, and then the background; the free ones keep that
    order. What is not free keeps the value that it is given.

    Attributes:
        orders: per shell the even orders whose beta is free, ascending.
        background: K, how many terms of the background are free: 0 (there is none), 1 (the same
            everywhere) or 6 (slowly varying).
    """

    orders: tuple[tuple[int, ...], ...]
    background: int = 0

    def __post_init__(self):
        if self.background not in BACKGROUND_TERMS:
            raise ValueError(f"background={self.background} must be one of {BACKGROUND_TERMS}")
        for orders in self.orders:
            if any(n < 2 or n % 2 for n in orders) or list(orders) != sorted(set(orders)):
                raise ValueError(f"orders={orders} must be even, at least 2, ascending")

    @property
    def shells(self) -> int:
        """S."""
        return len(self.orders)

    @property
    def num_orders(self) -> int:
        """L: half the largest order of any shell, at least 1."""
        return max([2, *(n for orders in self.orders for n in orders)]) // 2

    @property
    def per_shell(self) -> int:
        """Entries of the row per shell."""
        return 3 + self.num_orders

    @property
    def row_size(self) -> int:
        """D, the entries of the row."""
        return self.shells * self.per_shell + self.background

    @functools.cached_property
    def index(self) -> np.ndarray:
        """Place in the row of every free parameter, ``[P]``."""
        found = []
        for shell, orders in enumerate(self.orders):
            base = shell * self.per_shell
            found += [base, base + 1, base + 2, *(base + 2 + n // 2 for n in orders)]
        found += range(self.shells * self.per_shell, self.row_size)
        return np.array(found, np.int32)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the free parameters: R_1, sigma_1, yield_1, beta2_1, ..., background_1."""
        found = []
        for shell, orders in enumerate(self.orders):
            found += [f"{name}_{shell + 1}" for name in ("R", "sigma", "yield")]
            found += [f"beta{n}_{shell + 1}" for n in orders]
        return tuple(found + [f"background_{k + 1}" for k in range(self.background)])


def to_row(params: PictureParams, free: FreeParameters) -> jax.Array:
    """Puts all parameters in one row, ``[..., D]`` float32; betas are cut or padded to L."""
    shells, number = params.shells, free.num_orders
    beta = jnp.asarray(shells.beta, jnp.float32)[..., :number]
    beta = jnp.pad(beta, [(0, 0)] * (beta.ndim - 1) + [(0, number - beta.shape[-1])])
    three = [jnp.asarray(x).astype(jnp.float32) for x in (shells.radius, shells.sigma)]
    three.append(jnp.asarray(shells.electrons).astype(jnp.float32))
    rows = jnp.concatenate([jnp.stack(three, axis=-1), beta], axis=-1)
    rows = rows.reshape(*rows.shape[:-2], -1)
    background = jnp.asarray(params.background, jnp.float32)
    background = jnp.broadcast_to(background, (*rows.shape[:-1], free.background))
    return jnp.concatenate([rows, background], axis=-1)


def from_row(row: jax.Array, free: FreeParameters) -> PictureParams:
    """Takes a row ``[..., D]`` apart again."""
    end = free.shells * free.per_shell
    shells = row[..., :end].reshape(*row.shape[:-1], free.shells, free.per_shell)
    params = ShellParams(shells[..., 0], shells[..., 1], shells[..., 2], shells[..., 3:])
    return PictureParams(params, row[..., end:])


def background_terms(x: jax.Array, z: jax.Array, number: int) -> jax.Array:
    """Evaluates the terms of a background: the constant, then even polynomials of degree 2 and 4.

    Products of Legendre polynomials, P_i(x) P_k(z) with i + k <= 4, which hardly correlate over a
    square picture.

    Args:
        x: half-widths, ``[M]``.
        z: half-widths, ``[M]``.
        number: K, one of `BACKGROUND_TERMS`.

    Returns:
        ``[M, K]``, without unit.
    """
    if not number:
        return jnp.zeros((*x.shape, 0), jnp.float32)
    in_x, in_z = legendre_terms(x * x, 2), legendre_terms(z * z, 2)
    terms = [in_x[i] * in_z[k - i] for k in range(3) for i in range(k + 1)]
    return jnp.stack(terms[:number], axis=-1)


def place_means(
    row: jax.Array, free: FreeParameters, table: PixelTable, factor: float
) -> tuple[jax.Array, jax.Array]:
    """Computes the mean of one stored pixel at every place, and its derivatives.

    Args:
        row: all parameters, ``[D]``.
        free: which of them are free.
        table: of the same L.
        factor: on the table's integrals; 4 where a stored pixel is the sum of four.

    Returns:
        means ``[M]`` and Jacobian ``[M, P]`` by the free parameters.
    """
    params = from_row(row, free)
    shells = params.shells

    def columns(radius, sigma, electrons, beta):
        """Profiles by R, sigma, yield and beta, and the shell's own: ``[G, L + 1, 4 + L]``."""
        units = unit_profiles(radius, sigma, free.num_orders, table.points)
        own = jnp.einsum("glo,o->gl", units, with_constant(beta), precision="highest")
        by_shape = jax.jacfwd(shell_profile, argnums=(0, 1))(radius, sigma, beta, table.points)
        by_shape = electrons * jnp.stack(by_shape, axis=-1)
        return jnp.concatenate([by_shape, own[..., None], electrons * units[..., 1:]], axis=-1)

    # Barriers keep the compiler from computing a profile anew for every window that holds it.
    profiles = jax.lax.optimization_barrier(
        jax.vmap(columns)(shells.radius, shells.sigma, shells.electrons, shells.beta)
    )
    own = jnp.einsum("sgl,s->gl", profiles[..., 2], shells.electrons, precision="highest")
    wanted = free.index[: len(free.index) - free.background]
    profiles = jnp.moveaxis(profiles, 0, 2).reshape(*own.shape, -1)[..., wanted]
    profiles = jnp.concatenate([own[..., None], profiles], axis=-1)
    projected = project_profiles(jax.lax.optimization_barrier(profiles), table) * factor
    terms = background_terms(jnp.asarray(table.x), jnp.asarray(table.z), free.background)
    jacobian = jnp.concatenate([projected[:, 1:], terms], axis=-1)
    mean = projected[:, 0] + jnp.matmul(terms, params.background, precision="highest")
    return mean, jacobian


def fold_factor(image: ImageSpec) -> float:
    """How many pixels of the table one stored pixel is the sum of."""
    return 4.0 if image.fold else 1.0


def to_places(picture: jax.Array, table: PixelTable, image: ImageSpec) -> jax.Array:
    """Sorts a picture into the table's places, 0 where a place is empty.

    Args:
        picture: ``[side, side]``.
        table: of this picture's shape.
        image: shape of the picture.

    Returns:
        ``[Q, M]`` float32, Q = 1 for a folded picture and 4 (the quadrants) for a full one.
    """
    half = image.size // 2
    picture = jnp.asarray(picture).astype(jnp.float32)
    if image.fold:
        quadrants = [picture]
    else:
        rows = (picture[half:], picture[half - 1 :: -1])
        quadrants = [part for x in rows for part in (x[:, half:], x[:, half - 1 :: -1])]
    places = [jnp.where(table.filled, part.reshape(-1)[table.pixel], 0.0) for part in quadrants]
    return jnp.stack(places)


def mean_and_jacobian(
    params: PictureParams, free: FreeParameters, image: ImageSpec
) -> tuple[jax.Array, jax.Array]:
    """Computes the mean counts of one picture and their derivatives by all free parameters.

    Args:
        params: of one picture.
        free: which parameters are free.
        image: shape of the picture.

    Returns:
        means ``[side, side]`` and Jacobian ``[side * side, P]``, float32.
    """
    return _mean_and_jacobian(params, free, image, pixel_table(image, free.num_orders))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _mean_and_jacobian(params, free, image, table):
    mean, jacobian = place_means(to_row(params, free), free, table, fold_factor(image))
    half = image.size // 2
    both = jnp.concatenate([mean[:, None], jacobian], axis=-1)[table.place].reshape(half, half, -1)
    if not image.fold:
        both = jnp.concatenate([both[::-1], both])
        both = jnp.concatenate([both[:, ::-1], both], axis=1)
    return both[..., 0], both[..., 1:].reshape(image.side**2, -1)


# --- Prior


@flax.struct.dataclass
class GaussianPrior:
    """Normal approximation of a prior of the free parameters.

    Attributes:
        mean: ``[P]`` float32.
        precision: inverse of the covariance, ``[P, P]`` float32.
    """

    mean: jax.Array
    precision: jax.Array


# --- Information


@flax.struct.dataclass
class Information:
    """How well the free parameters of pictures can be known.

    Attributes:
        fisher: Fisher information, with the prior's precision where one was given ``[B, P, P]``.
        covariance: its inverse, the Cramer-Rao bound, ``[B, P, P]``.
        errors: square roots of its diagonal, ``[B, P]``.
        distance: expected distance (spec section 3) of an estimate with this covariance, ``[B]``.
    """

    fisher: jax.Array
    covariance: jax.Array
    errors: jax.Array
    distance: jax.Array


def information(
    params: PictureParams,
    free: FreeParameters,
    image: ImageSpec,
    mask: jax.Array | None = None,
    prior: GaussianPrior | None = None,
) -> Information:
    """Computes Fisher information, Cramer-Rao bound and the bound of the distance.

    Args:
        params: of the pictures, with a leading axis B.
        free: which parameters are free; the others count as known.
        image: shape of the pictures.
        mask: ``[side, side]``, 1 where a pixel is used and 0 where not; None uses all.
        prior: what is known beforehand; None is nothing.
    """
    table = pixel_table(image, free.num_orders)
    mask = jnp.ones((image.side, image.side), jnp.float32) if mask is None else jnp.asarray(mask)
    return _information(params, mask, prior, free, image, table)


@functools.partial(jax.jit, static_argnames=("free", "image"))
def _information(params, mask, prior, free, image, table):
    exposure = jnp.sum(to_places(mask, table, image), axis=0)

    def one(row):
        mean, jacobian = place_means(row, free, table, fold_factor(image))
        # no electrons are expected outside the outermost shell, nor is anything learned there
        floor = 1e-7 * jnp.sum(exposure * jnp.abs(mean)) / jnp.maximum(jnp.sum(exposure), 1.0)
        weight = exposure / jnp.maximum(mean, floor)
        added = (
            jnp.zeros((jacobian.shape[1],) * 2, jnp.float32) if prior is None else prior.precision
        )
        fisher = weighted_gram(jacobian, weight) + added
        covariance = factorise(jacobian, weight, added).inverse()
        errors = jnp.sqrt(jnp.diagonal(covariance))
        return Information(fisher, covariance, errors, expected_distance(covariance, free))

    # One picture after the other: batched LAPACK calls of jaxlib 0.10 wait inside the CPU's pool of
    # threads for helpers from the same pool, and two at once on two cores wait for ever.
    return jax.lax.map(one, to_row(params, free))


def weighted_gram(jacobian: jax.Array, weight: jax.Array) -> jax.Array:
    """J' diag(weight) J: ``[M, P]`` and ``[M]`` to ``[P, P]``."""
    return jnp.matmul((weight[:, None] * jacobian).T, jacobian, precision="highest")


@flax.struct.dataclass
class Factor:
    """A positive matrix F ``[P, P]`` as F = S^-1 L1 G L1' S^-1, S diagonal and L1 triangular.

    Attributes:
        scale: diagonal of S, ``[P]``: the first two are numbers of order 1, whatever the units.
        outer: L1.
        inner: G.
    """

    scale: jax.Array
    outer: jax.Array
    inner: jax.Array

    def solve(self, right: jax.Array, damping: jax.Array | float = 0.0) -> jax.Array:
        """Solves (F + damping * S^-2) x = right, ``[P]`` or ``[P, n]``; not finite if singular."""
        eye = jnp.eye(len(self.scale), dtype=self.outer.dtype)

        def outward(y, transposed=0):
            return jax.scipy.linalg.solve_triangular(self.outer, y, lower=True, trans=transposed)

        root = outward(eye)
        inner = self.inner + damping * jnp.matmul(root, root.T, precision="highest")
        shape = (-1, *[1] * (right.ndim - 1))
        scale = self.scale.reshape(shape)
        inside = jax.scipy.linalg.cho_solve(
            jax.scipy.linalg.cho_factor(inner, lower=True), outward(right * scale)
        )
        return outward(inside, 1) * scale

    def inverse(self) -> jax.Array:
        """F^-1, ``[P, P]``."""
        inverse = self.solve(jnp.eye(len(self.scale), dtype=self.outer.dtype))
        return (inverse + inverse.T) / 2


def factorise(jacobian: jax.Array, weight: jax.Array, added: jax.Array) -> Factor:
    """Factorises J' diag(weight) J + added, more exactly than its float32 sums would allow.

    Two shells within a sigma of each other make it so nearly singular (eigenvalues of 1e-7 of the
    diagonal) that its float32 sums are no longer positive. So, as in a Cholesky QR with a shift and
    a second pass (Fukaya et al. 2020, SIAM J. Sci. Comput. 42, A477): the factor of a slightly
    larger matrix turns the columns of J into nearly orthogonal ones, whose products are then summed
    anew.

    Args:
        jacobian: ``[M, P]``.
        weight: ``[M]``, not negative.
        added: ``[P, P]``, positive or zero: information that is not from the counts.
    """
    columns = jnp.sqrt(weight)[:, None] * jacobian
    diagonal = jnp.sum(columns * columns, axis=0) + jnp.diagonal(added)
    scale = jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1.0))
    columns, added = columns * scale, added * scale[:, None] * scale
    first = jnp.matmul(columns.T, columns, precision="highest") + added
    shift = _SHIFT * jnp.eye(len(scale), dtype=first.dtype)
    outer = jnp.linalg.cholesky(first + shift)

    def inward(matrix):
        return jax.scipy.linalg.solve_triangular(outer, matrix, lower=True)

    turned = inward(columns.T)
    inner = jnp.matmul(turned, turned.T, precision="highest") + inward(inward(added).T)
    return Factor(scale, outer, inner)


def expected_distance(covariance: jax.Array, free: FreeParameters) -> jax.Array:
    """Computes E sum_j sqrt(sum_i 2 / (4 i + 1) d_ij^2) of normal errors d with mean 0.

    Per shell the sum under the root is Q = sum_k v_k g_k^2 with independent standard normal g and
    v the eigenvalues of the weighted covariance. From ``sqrt(Q) = 1 / (2 sqrt(pi)) int_0^inf
    (1 - exp(-Q t)) t^(-3/2) dt`` and E exp(-t v g^2) = (1 + 2 t v)^(-1/2),

        E sqrt(Q) = 1 / (2 sqrt(pi)) int_0^inf (1 - prod_k (1 + 2 t v_k)^(-1/2)) t^(-3/2) dt.

    With t = e^u the trapezoidal rule of step 1 is exact to float32 (the integrand is analytic for
    |Im u| < pi), so no random numbers are needed.

    Args:
        covariance: of the free parameters, ``[P, P]``.
        free: which these are.

    Returns:
        Scalar. Orders that are not free count as known.
    """
    weights, total, first = order_weights(free.num_orders), jnp.float32(0.0), 0
    u = jnp.arange(-32, 33, dtype=jnp.float32)
    for orders in free.orders:
        if orders:
            part = slice(first + 3, first + 3 + len(orders))
            root = np.sqrt(weights[np.array(orders) // 2 - 1])
            values = jnp.linalg.eigvalsh(covariance[part, part] * root[:, None] * root)
            values = jnp.maximum(values, 0.0)
            size = jnp.sum(values)
            values = values / jnp.where(size > 0, size, 1.0)
            logarithm = jnp.sum(jnp.log1p(2 * jnp.exp(u)[:, None] * values), axis=1)
            integral = jnp.sum(-jnp.expm1(-0.5 * logarithm) * jnp.exp(-0.5 * u))
            total += jnp.sqrt(size) * integral / (2 * np.sqrt(np.pi).astype(np.float32))
        first += 3 + len(orders)
    return total
