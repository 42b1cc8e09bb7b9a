"""The whole network: counts in, shell parameters out. Normalisation, input transform, ResNet, head.

The input transform and the scales of the head are made from the prior once (`network_constants`)
and kept with the parameters as the collection ``constants``, so that a trained network is complete.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.network.radial import ladder_radii, radial_matrix
from sevi_jax.network.resnet import ResNet
from sevi_jax.physics.types import ImageSpec
from sevi_jax.synthesis.prior import Prior, beta_moments
from sevi_jax.synthesis.raster import normalise


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """What network; hashable. Fields as in `config.default_config().model`, and what it is for."""

    depth: int
    width: int
    stem: str
    input: str
    ladder: int
    exposures: tuple[float, ...]
    head: str
    shape: bool
    dtype: str
    image: ImageSpec
    prior: Prior

    @property
    def shells(self) -> int:
        """Number of shells S."""
        return len(self.prior)

    @property
    def orders(self) -> int:
        """Number of orders L."""
        return len(self.prior[0].beta)


@flax.struct.dataclass
class Prediction:
    """Shell parameters of a batch of pictures, inner shell first.

    Attributes:
        beta: ``[B, S, L]``, the course's convention.
        radius: ``[B, S]``, half-widths; None where the network does not predict it.
        sigma: ``[B, S]``, half-widths; None likewise.
    """

    beta: jax.Array
    radius: jax.Array | None
    sigma: jax.Array | None


def _uniform_moments(low: float, high: float) -> tuple[float, float]:
    """Mean and standard deviation of a uniform number; the deviation of a fixed one counts as 1."""
    return (low + high) / 2, (high - low) / 12**0.5 or 1.0


def shape_scales(prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of radius (before sorting) and of sigma, ``[2, S]`` each."""
    radius = np.array([_uniform_moments(*shell.radius) for shell in prior], np.float32)
    sigma = np.array([_uniform_moments(*shell.sigma) for shell in prior], np.float32)
    return radius.T, sigma.T


def _constants(spec: NetworkSpec) -> dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]]:
    """Shape and maker of every array of the collection ``constants``."""
    constants: dict = {}
    if spec.input == "radial":
        rows, pixels = spec.ladder * (spec.orders + 1), spec.image.side**2
        constants["radial"] = (
            (len(spec.exposures), rows, pixels),
            lambda: np.stack(
                [radial_matrix(spec.image, spec.prior, spec.ladder, x) for x in spec.exposures]
            ),
        )
    if spec.head == "readout":
        constants["ladder"] = (spec.ladder,), lambda: ladder_radii(spec.prior, spec.ladder)
        constants["beta_rms"] = (spec.shells, spec.orders), lambda: beta_moments(spec.prior)[1]
    if spec.shape:
        constants["radius"] = (2, spec.shells), lambda: shape_scales(spec.prior)[0]
        constants["sigma"] = (2, spec.shells), lambda: shape_scales(spec.prior)[1]
    return constants


def network_constants(spec: NetworkSpec) -> dict[str, np.ndarray]:
    """Makes the collection ``constants`` that `ShellNetwork` reads; takes seconds for "radial"."""
    return {name: make() for name, (_, make) in _constants(spec).items()}


def constant_shapes(spec: NetworkSpec) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of `network_constants` at once."""
    return {
        name: jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, (shape, _) in _constants(spec).items()
    }


class ShellNetwork(nn.Module):
    """Normalisation, input transform, ResNet and head.

    Inputs: ``counts`` is the picture divided by its sum, ``sqrt`` its square root (which evens out
    Poisson noise), ``radial`` the linear inversion of `network.radial`, with the ladder of radii
    as the only spatial axis; the orders, for each noise level, are the channels, and the logarithm
    of the picture's sum is one more.

    Heads: ``linear`` is the original's, the last layer's numbers are the betas. ``readout`` (radial
    input only) uses them as weights along the ladders, one set per shell; weighted sums of these
    give yield and yield * beta, their ratio beta, which the network then corrects.

    Attributes:
        spec: what network.
    """

    spec: NetworkSpec

    @nn.compact
    def __call__(self, counts: jax.Array, train: bool) -> Prediction:
        """Applies the network.

        Args:
            counts: ``[B, side, side]``, any real type.
            train: whether BatchNorm uses the batch's statistics.

        Returns:
            The prediction, float32.
        """
        spec = self.spec
        numbers = {"betas": spec.shells * spec.orders}
        if spec.head == "readout":
            places = spec.ladder * len(spec.exposures)
            numbers = {"weights": spec.shells * places, "gain": numbers["betas"]} | numbers
        if spec.shape:
            numbers["shape"] = 2 * spec.shells
        features = self._features(counts)
        outputs = ResNet(
            depth=spec.depth,
            outputs=sum(numbers.values()),
            dtype=jnp.dtype(spec.dtype),
            stem=spec.stem,
            width=spec.width,
            name="resnet",
        )(features, train)
        cuts = np.cumsum(list(numbers.values()))[:-1]
        part = dict(zip(numbers, jnp.split(outputs, cuts, axis=-1), strict=True))
        batch = counts.shape[0]
        beta = part["betas"].reshape(batch, spec.shells, spec.orders)
        centre = None
        if spec.head == "readout":
            weights = jax.nn.softmax(part["weights"].reshape(batch, spec.shells, -1), axis=-1)
            beta, centre = self._read_out(features, weights, part["gain"].reshape(beta.shape), beta)
        if not spec.shape:
            return Prediction(beta, None, None)
        shift = part["shape"].reshape(batch, 2, spec.shells)
        (radius, radius_sd), (sigma, sigma_sd) = (
            self.get_variable("constants", name) for name in ("radius", "sigma")
        )
        if centre is not None:
            radius, radius_sd = centre, 0.03 * radius_sd  # of a correction
        return Prediction(beta, radius + radius_sd * shift[:, 0], sigma + sigma_sd * shift[:, 1])

    def _features(self, counts: jax.Array) -> jax.Array:
        """Input of the ResNet, ``[B, H, W, channels]``, of order 1."""
        spec = self.spec
        batch, height, width = counts.shape
        pictures = jax.vmap(normalise)(counts)
        if spec.input == "radial":
            matrix = self.get_variable("constants", "radial")
            flat = pictures.reshape(batch, -1) / 255
            # the exposures as rows of one matrix: as a third axis, the CPU would copy it first
            matrix = matrix.reshape(-1, flat.shape[1])
            ladders = jnp.matmul(flat, matrix.T, precision="highest")
            ladders = ladders.reshape(batch, -1, spec.ladder, 1, spec.orders + 1)
            ladders = jnp.moveaxis(ladders, 1, 3).reshape(batch, spec.ladder, 1, -1)
            total = jnp.sum(counts, axis=(1, 2)).astype(jnp.float32)
            strength = jnp.log10(jnp.maximum(total, 1)) - 5
            strength = jnp.broadcast_to(strength[:, None, None, None], (*ladders.shape[:3], 1))
            return jnp.concatenate([ladders, strength], axis=-1)
        mean_one = pictures[..., None] * (height * width / 255)
        return jnp.sqrt(mean_one) if spec.input == "sqrt" else mean_one

    def _read_out(
        self, features: jax.Array, weights: jax.Array, gain: jax.Array, shift: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Betas ``[B, S, L]`` and radii ``[B, S]`` from weighted sums of the ladder.

        The betas are corrected by factors and shifts that the network gives too.
        """
        rms = self.get_variable("constants", "beta_rms")
        ladder = jnp.tile(self.get_variable("constants", "ladder"), len(self.spec.exposures))
        terms = features[:, :, 0, :-1].reshape(*features.shape[:2], -1, self.spec.orders + 1)
        terms = jnp.moveaxis(terms, 2, 1).reshape(features.shape[0], len(ladder), -1)
        yields = weights * terms[:, None, :, 0]
        sums = jnp.einsum("bsk,bkl->bsl", weights, terms[..., 1:], precision="highest")
        # a shell has at least some twentieth of the electrons; below, the weights found none
        total = jnp.maximum(jnp.sum(yields, axis=-1), 0.05)
        middle = jnp.mean(ladder)  # moments about it, so that a clipped total costs little
        centre = middle + jnp.sum(yields * (ladder - middle), axis=-1) / total
        beta = rms * (sums / total[..., None] * (1 + 0.3 * gain) + 0.1 * shift)
        return beta, jnp.clip(centre, ladder[0], ladder[-1])
