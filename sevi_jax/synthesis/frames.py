"""Camera frames: electron positions to the uint8 pictures that the camera stores.

Every electron makes a bright spot a few pixels wide; the spots of a frame add up (docs/course.md).
The module draws one frame; `jax.vmap` outside makes many. It knows nothing of shells.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

# Points per pixel and axis; they lie at 0, 1/5 .. 4/5 of a pixel and not in the middles of fifths,
# as in the original: a spot looks 0.1 pixel further towards + than it is.
SUBPIXELS = 5


@dataclasses.dataclass(frozen=True)
class SpotModel:
    """Distribution of the spots, normal in each parameter; the defaults are the original's.

    Attributes:
        amplitude_mean: mean peak height, grey levels.
        amplitude_sd: standard deviation of the peak height, grey levels.
        width_mean: mean of the spot's s, half-widths of the detector.
        width_sd: standard deviation of the spot's s, half-widths of the detector.
        correlation_sd: standard deviation of the spot's rho around 0, no unit.
    """

    amplitude_mean: float = 100.0
    amplitude_sd: float = 10.0
    width_mean: float = 0.015
    width_sd: float = 0.001
    correlation_sd: float = 0.1

    @property
    def largest_half_width(self) -> float:
        """Largest cut-off s sqrt(2 ln A) that is drawn, half-widths: both parameters 6 sd up.

        Fewer than one spot in 10^9 exceeds either; its cut-off is reduced to this value.
        """
        amplitude = self.amplitude_mean + 6 * self.amplitude_sd
        width = self.width_mean + 6 * self.width_sd
        return width * math.sqrt(2 * math.log(max(amplitude, 1.0)))


def draw_spots(
    key: jax.Array, n: int, model: SpotModel = SpotModel()
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws the shapes of n spots.

    Args:
        key: scalar typed key.
        n: number of spots N, static.
        model: distribution of the shapes.

    Returns:
        amplitude (grey levels, not below 0), width (s, half-widths, not below 0) and correlation
        (rho, within -1..1), each ``[N]`` float32.
    """
    normal = jax.random.normal(key, (3, n), jnp.float32)
    amplitude = jnp.maximum(model.amplitude_mean + model.amplitude_sd * normal[0], 0.0)
    width = jnp.maximum(model.width_mean + model.width_sd * normal[1], 0.0)
    correlation = jnp.clip(model.correlation_sd * normal[2], -1.0, 1.0)
    return amplitude, width, correlation


@functools.partial(jax.jit, static_argnames=("size", "model"))
def render_frame(
    positions: jax.Array,
    mask: jax.Array,
    amplitude: jax.Array,
    width: jax.Array,
    correlation: jax.Array,
    size: int,
    model: SpotModel = SpotModel(),
) -> jax.Array:
    """Draws one camera frame: the sum of all spots, rounded and clipped to 0..255.

    A spot is ``A exp(-(dx^2 + dz^2 + 2 rho dx dz) / (2 s^2))``, averaged over 5 x 5 points per
    pixel, on the pixels that touch the square of half-width ``s sqrt(2 ln A)`` around the electron
    (where the spot falls below 1); elsewhere 0. A spot with A <= 1 or s = 0 gives nothing; s is
    taken as a fifth of a pixel at least, the distance of the points. What lies outside the picture
    is cut off.

    One spot at a time is evaluated on a patch of static size, so memory does not depend on N.

    Args:
        positions: x and z of the electrons, ``[N, 2]`` float32, half-widths.
        mask: which entries are electrons, ``[N]`` bool.
        amplitude: A of each spot, ``[N]`` float32, grey levels.
        width: s of each spot, ``[N]`` float32, half-widths.
        correlation: rho of each spot, ``[N]`` float32.
        size: pixels along each side of the frame, static.
        model: gives the size of the patch (`SpotModel.largest_half_width`), static.

    Returns:
        Grey levels, ``[size, size]`` uint8; first axis x, second z.
    """
    frame = _sum_of_spots(positions, mask, amplitude, width, correlation, size, model)
    return jnp.clip(jnp.round(frame), 0, 255).astype(jnp.uint8)


def _sum_of_spots(positions, mask, amplitude, width, correlation, size, model):
    """Returns the frame before rounding, ``[size, size]`` float32."""
    pixels_per_unit = size / 2
    largest = model.largest_half_width * pixels_per_unit
    # Whole pixels that touch an interval of this length: at most ceil(length) + 1.
    patch = math.ceil(2 * largest) + 1
    amplitude = jnp.where(mask & (width > 0) & (amplitude > 1), amplitude, 0.0)
    half_width = width * jnp.sqrt(2 * jnp.log(jnp.maximum(amplitude, 1.0))) * pixels_per_unit
    half_width = jnp.minimum(half_width, largest)
    width = jnp.maximum(width * pixels_per_unit, 1 / SUBPIXELS)
    centre = jnp.where(mask[:, None], (positions + 1) * pixels_per_unit, 0.0)
    # The patch starts inside the frame; a margin takes what sticks out at its end.
    first = jnp.clip(jnp.floor(centre - half_width[:, None]), 0, size)

    def add_spot(canvas, spot):
        start = spot[-1].astype(jnp.int32)
        old = jax.lax.dynamic_slice(canvas, start, (patch, patch))
        return jax.lax.dynamic_update_slice(canvas, old + _spot_patch(patch, *spot), start), None

    canvas = jnp.zeros((size + patch,) * 2, jnp.float32)
    spots = (amplitude, width, correlation, half_width, centre, first)
    canvas, _ = jax.lax.scan(add_spot, canvas, spots)
    return canvas[:size, :size]


def _spot_patch(patch, amplitude, width, correlation, half_width, centre, first):
    """Returns one spot on the pixels from `first` on, ``[patch, patch]`` float32; all in pixels."""
    pixel = jnp.arange(patch, dtype=jnp.float32)
    last = jnp.ceil(centre + half_width) - 1
    inside = pixel <= (last - first)[:, None]
    x, z = (pixel - (centre - first)[:, None]) / width  # first points of the pixels
    step = jnp.arange(SUBPIXELS, dtype=jnp.float32) / SUBPIXELS / width
    a, b = step[:, None], step[None, :]  # to a pixel's other points, along both axes
    # (x + a) (z + b) = x z + x b + a z + a b, so that the sum over the points is a matrix product
    x, z = x[:, None, None], z[:, None, None]
    left = jnp.exp(-((x + a) ** 2) / 2 - correlation * (x + a) * b).reshape(patch, -1)
    right = jnp.exp(-((z + b) ** 2) / 2 - correlation * a * z).reshape(patch, -1)
    mean = jnp.matmul(left, right.T, precision="highest") / SUBPIXELS**2
    mean *= jnp.exp(-correlation * x[:, 0] * z[:, 0].T)
    return jnp.where(inside[0][:, None] & inside[1][None, :], amplitude * mean, 0.0)
