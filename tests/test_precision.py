"""Float32, in which everything is computed, against float64: what rounding does to the numbers.

Two kinds of float64: the formulas in NumPy, and the program's twin (`twin`), the same source with
the word float64 for float32, whose difference is rounding alone. The tests of the parts compare
with float64 too: densities (test_legendre), drawn angles (test_electrons), pixels (test_expected),
the loss (test_losses), the information (test_information).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import twin

from sevi_jax.config import LOSSES
from sevi_jax.network import losses
from sevi_jax.network.network import network_constants
from sevi_jax.network.training.specs import network_from
from sevi_jax.physics.types import ImageSpec
from sevi_jax.synthesis.electrons import angle_table, draw_electrons
from sevi_jax.synthesis.raster import add_positions

PRIOR_LIKE = np.array(
    [0.65, 0.8, 0.55, 0.33, 0.2, 0.12, 0.06, 0.03, 0.012, 0.006, 0.002, 0.0007], np.float32
)

# --- Synthesis


def test_places_of_electrons_and_their_pixels():
    number, radius, sigma = 1_000_000, np.float32(0.8), np.float32(0.007)
    key, image = jax.random.key(0), ImageSpec(1024)

    @jax.jit
    def draw(key):
        table = angle_table(jnp.asarray(PRIOR_LIKE))
        r, cosine, x, z = draw_electrons(key, radius, sigma, table, number)
        counts = jnp.zeros(image.side**2, jnp.int32)
        return r, cosine, x, z, add_positions(counts, x, z, jnp.ones(number, bool), image)

    r, cosine, x, z, counts = (np.asarray(v) for v in draw(key))
    # the random numbers are the input: the normal one, and the 20 bits of phi
    _, angle_key, radius_key = jax.random.split(key, 3)
    normal = np.asarray(jax.random.normal(radius_key, (number,), jnp.float32), np.float64)
    bits = np.asarray(jax.random.bits(angle_key, (number,), jnp.uint32))
    exact_r = float(radius) + float(sigma) * normal
    across = np.cos(np.pi * ((bits >> 12) + 0.5) / 2**20)
    cosine = cosine.astype(np.float64)
    exact_x, exact_z = exact_r * np.sqrt(1 - cosine**2) * across, exact_r * cosine
    for drawn, exact in ((r, exact_r), (x, exact_x), (z, exact_z)):
        assert np.abs(drawn - exact).max() < 3e-7  # half-widths; a pixel is 2e-3
    # as an electron crosses an edge if that lies within the rounding: one in ten thousand
    edges = np.linspace(-1, 1, image.size + 1)
    exact_counts = np.histogram2d(exact_x, exact_z, [edges, edges])[0].ravel()
    assert counts.sum() == exact_counts.sum()
    assert np.abs(counts - exact_counts).sum() / 2 < 2e-4 * number


# --- Loss


@pytest.mark.parametrize("kind", LOSSES)
def test_gradient_of_the_loss(kind):
    rng = np.random.default_rng(0)
    true = rng.normal(size=(32, 2, 12)).astype(np.float32)
    # as near to the truth as the network comes, and as far as it begins
    for size in (1e-3, 1.0):
        predicted = (true + size * rng.normal(size=true.shape)).astype(np.float32)
        found = jax.jit(jax.grad(losses.beta_loss), static_argnums=2)(predicted, true, kind)
        off = predicted.astype(np.float64) - true
        exact = 2 * off * 2 / (4 * np.arange(1, 13) + 1)
        if kind == "distance":
            square = (off**2 * 2 / (4 * np.arange(1, 13) + 1)).sum(-1, keepdims=True)
            exact /= 2 * np.sqrt(square + 1e-10)
        np.testing.assert_allclose(found, exact / 32, rtol=2e-6, atol=1e-7 * np.abs(exact).max())


# --- Two shells of 12 orders, 64 x 64 folded.

IMAGE = ImageSpec(64, fold=True)
SHELL = 15  # parameters of one: R, sigma, yield, 12 betas
# Far apart with the electrons of the prior, near each other, and with a hundredth of the electrons.
RADIUS = np.array([[0.45, 0.7], [0.6, 0.63], [0.45, 0.7]])
SIGMA = np.array([[0.0055, 0.0085], [0.008, 0.006], [0.0055, 0.0085]])
ELECTRONS = np.array([[2.2e6, 1.9e6], [2.2e6, 1.9e6], [2.2e4, 1.9e4]])


def exact_shell(radius, sigma, electrons, beta):
    """Means of one shell in the pixels of the folded picture, and their derivatives; float64.

    The course's density, rho = 1/pi int_0^inf f(r) / r^2 I(z / r) dy, r^2 = x^2 + y^2 +
    z^2, by Gauss's rule along y and over every pixel: no table, no interpolation, no series.

    Returns:
        ``[32 * 32]`` and ``[32 * 32, SHELL]``.
    """
    node, weight = np.polynomial.legendre.leggauss(10)
    width = 2 / IMAGE.size
    line = ((np.arange(IMAGE.side) + 0.5)[:, None] + node / 2).ravel() * width
    x, z = (v.ravel() for v in np.meshgrid(line, line, indexing="ij"))
    along, along_weight = np.polynomial.legendre.leggauss(40)
    square = x * x + z * z
    near, far = np.maximum(radius - 7 * sigma, 0), radius + 7 * sigma
    start, stop = (np.sqrt(np.maximum(v * v - square, 0)) for v in (near, far))
    columns = np.zeros((x.size, SHELL + 1))
    inside = np.flatnonzero(stop > 0)
    for part in np.array_split(inside, 20):
        half = (stop - start)[part, None] / 2
        y = start[part, None] + half * (1 + along)
        r = np.sqrt(square[part, None] + y * y)
        off = (r - radius) / sigma
        density = np.exp(-off * off / 2) / (np.sqrt(2 * np.pi) * sigma)
        density *= half * along_weight / (np.pi * r * r)
        cosine = z[part, None] / r
        # Bonnet's recurrence, summed along y order by order
        series, below, this = np.full(r.shape, 0.5), np.ones(r.shape), cosine
        for n in range(1, 25):
            if n % 2 == 0:
                columns[part, 3 + n // 2] = (density * this).sum(1)
                series += beta[n // 2 - 1] * this
            below, this = this, ((2 * n + 1) * cosine * this - n * below) / (n + 1)
        values = density * series
        columns[part, 0] = values.sum(1)
        columns[part, 1] = (values * off).sum(1) / sigma
        columns[part, 2] = (values * (off * off - 1)).sum(1) / sigma
    # over the pixel, times its area and the four quadrants
    columns = columns.reshape(IMAGE.side, 10, IMAGE.side, 10, -1)
    pixels = np.einsum("iajbk,a,b->ijk", columns, weight, weight) * width**2
    pixels = pixels.reshape(IMAGE.side**2, -1)
    own = pixels[:, 0].copy()
    pixels[:, 1:] *= electrons
    pixels[:, 3] = own
    return electrons * own, pixels[:, 1:]


def exact_picture(row):
    """Means ``[32 * 32]`` of both shells, and their derivatives ``[32 * 32, 30]``."""
    shells = [exact_shell(*v[:3], v[3:]) for v in np.reshape(row, (2, SHELL))]
    return shells[0][0] + shells[1][0], np.hstack([v[1] for v in shells])


def exact_fit(counts, row):
    """Maximum likelihood by Fisher scoring: row, errors, and the deviance."""
    for _ in range(2):
        mean, jacobian = exact_picture(row)
        seen = mean > 0
        assert counts.sum() == counts[seen].sum()
        jacobian = jacobian[seen]
        covariance = np.linalg.inv((jacobian / mean[seen, None]).T @ jacobian)
        step = covariance @ (jacobian.T @ (counts[seen] / mean[seen] - 1))
        row = row + step
    errors = np.sqrt(np.diag(covariance))
    assert np.abs(step / errors).max() < 1e-3
    filled = counts > 0
    logs = counts[filled] * np.log(counts[filled] / mean[filled])
    return row, errors, 2 * (logs.sum() - counts.sum() + mean.sum())


@pytest.fixture(scope="module")
def inputs():
    """What the program's and the twin's numbers are made from; all drawn by NumPy."""
    rng = np.random.default_rng(0)
    beta = PRIOR_LIKE * rng.uniform(0.6, 1, (3, 2, 1))
    three = np.stack([RADIUS, SIGMA, ELECTRONS], -1)
    rows = np.concatenate([three, beta], -1).reshape(3, -1).astype(np.float32)
    counts = np.array([rng.poisson(exact_picture(row.astype(float))[0]) for row in rows])
    off = np.array([0.002, 5e-4, 1e5] + [0.02] * 12)
    start = rows + np.tile(off, 2) * [[1.0], [0.5], [0.5]]
    start[2, [2, 17]] = rows[2, [2, 17]]

    config = twin.network_config()
    spec = network_from(config)
    r = np.concatenate([rng.normal(radius, 0.007, (16, 4000)) for radius in (0.45, 0.7)], axis=1)
    cosine, phi = rng.uniform(-1, 1, r.shape), rng.uniform(0, 2 * np.pi, r.shape)
    places = np.stack([r * np.sqrt(1 - cosine**2) * np.cos(phi), r * cosine], -1)
    half = config.image.size // 2
    training = [small.histogram(np.abs(xz), config.image.size)[half:, half:] for xz in places]
    return {
        "beta": PRIOR_LIKE,
        "pick": rng.integers(0, 2**32, 1_000_000, dtype=np.uint32),
        "within": rng.uniform(size=1_000_000).astype(np.float32),
        "rows": rows,
        "counts": counts.reshape(3, IMAGE.side, IMAGE.side).astype(np.float32),
        "start": start.astype(np.float32),
        "training counts": np.array(training, np.int32),
        "training beta": rng.normal(0.2, 0.2, (16, 2, 12)).astype(np.float32),
        **{f"constant {name}": np.asarray(v) for name, v in network_constants(spec).items()},
    }


@pytest.fixture(scope="module")
def numbers(inputs):
    """The program's numbers."""
    return {name: np.asarray(values) for name, values in twin.numbers(inputs).items()}


@pytest.fixture(scope="module")
def twins(inputs, tmp_path_factory):
    """The twin's."""
    return twin.in_float64(tmp_path_factory.mktemp("twin"), inputs)


def test_angles_from_the_same_random_numbers(numbers, twins):
    off = np.abs(numbers["cosine"] - twins["cosine"])
    # another cell is taken by one electron in a million
    assert np.mean(off > 3e-7) < 1e-5
    assert off.max() < 0.01  # and that cell is the next one


def test_means_and_derivatives(inputs, numbers, twins):
    for i, row in enumerate(inputs["rows"].astype(float)):
        exact, jacobian = exact_picture(row)
        mean, twin_mean = (x["means"][i].ravel() for x in (numbers, twins))
        assert np.abs(mean - twin_mean).max() < 3e-6 * exact.max()
        assert np.abs(mean - exact).max() < 5e-5 * exact.max()
        # pixels five sigma wide: what R and sigma move from one end to the other cancels
        limit = np.full(2 * SHELL, 2e-3)
        limit[[0, SHELL]], limit[[1, SHELL + 1]] = 5e-3, 1e-2
        scale = np.abs(jacobian).max(0)
        for other, factor in ((jacobian, 1.0), (twins["jacobians"][i], 0.3)):
            off = np.abs(numbers["jacobians"][i] - other).max(0) / scale
            assert (off < factor * limit).all(), off
    fine = twins["fine means"]
    assert np.abs(numbers["fine means"] - fine).max() < 1e-5 * fine.max()


def test_fit(inputs, numbers, twins):
    assert numbers["converged"].all()
    assert twins["converged"].all()
    off = np.abs(numbers["estimates"] - twins["estimates"]) / twins["errors"]
    assert off.max() < 0.05
    np.testing.assert_allclose(numbers["errors"], twins["errors"], rtol=1e-3)
    np.testing.assert_allclose(numbers["deviance"], twins["deviance"], rtol=0, atol=0.05)
    np.testing.assert_allclose(numbers["p_value"], twins["p_value"], rtol=0, atol=1e-3)


def test_fit_is_that_of_the_exact_means(inputs, numbers):
    for counts, *found in zip(
        inputs["counts"].reshape(3, -1).astype(float),
        *(numbers[name] for name in ("estimates", "errors", "deviance")),
        strict=True,
    ):
        row, errors, deviance = exact_fit(counts, found[0].astype(float))
        assert (np.abs(found[0] - row) / errors).max() < 0.1
        np.testing.assert_allclose(found[1], errors, rtol=0.01)
        # an empty pixel of mean 0 is given 1e-7 of the mean count: 1.8 of all of them
        assert found[2] == pytest.approx(deviance, abs=2.5)


def test_loss_of_a_network_and_its_gradient(numbers, twins):
    assert numbers["loss"] == pytest.approx(float(twins["loss"]), rel=1e-5)
    off = np.linalg.norm(numbers["gradient"] - twins["gradient"])
    assert off < 1e-3 * np.linalg.norm(twins["gradient"])
