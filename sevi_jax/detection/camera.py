"""Camera frames as the fit sees them: binned, weighted, sharpened, and drawn again from spots."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.detection.spots import spot_values

WHITE = 255  # grey level at which the camera saturates
MARGIN = 20  # bins of weight 0 on all sides, so that every patch lies inside

_MODEL_SD = 0.05  # grey levels: of the binned spot model
_DARK = 1.5  # grey levels below which rounding and the spots' ends leave a bias
_DARK_SD = 0.3  # grey levels: that bias


class BinnedFrames(NamedTuple):
    """F frames of h x h bins with their margins, ``[F, h + 2 MARGIN, h + 2 MARGIN]``.

    Attributes:
        grey: mean grey level of each bin, float32.
        weight: 1 / variance of `grey`, 0 in the margin, float32.
        saturated: whether a pixel of the bin is white, so that `grey` is a lower bound, bool.
    """

    grey: jax.Array
    weight: jax.Array
    saturated: jax.Array


@functools.partial(jax.jit, static_argnames="bin_pixels")
def bin_frames(frames: jax.Array, bin_pixels: int) -> BinnedFrames:
    """Averages frames over bins of b x b pixels.

    Args:
        frames: ``[F, H, H]`` uint8.
        bin_pixels: b, static. Pixels beyond the last whole bin are left out.
    """
    count, size = len(frames), frames.shape[1] // bin_pixels
    whole = frames[:, : size * bin_pixels, : size * bin_pixels]
    rows = whole.reshape(count, size, bin_pixels, size * bin_pixels)
    # Sums of small integers, a slice at a time: five times as fast as XLA's own on the CPU.
    kind = jnp.uint16 if bin_pixels**2 * WHITE < 2**16 else jnp.uint32
    pixels = range(bin_pixels)
    sums = functools.reduce(jnp.add, [rows[:, :, i].astype(kind) for i in pixels])
    tops = functools.reduce(jnp.maximum, [rows[:, :, i] for i in pixels])
    shape = (count, size, size, bin_pixels)
    sums, tops = sums.reshape(shape), tops.reshape(shape)
    grey = functools.reduce(jnp.add, [sums[..., i] for i in pixels])
    white = functools.reduce(jnp.maximum, [tops[..., i] for i in pixels]) == WHITE
    grey = grey.astype(jnp.float32) / bin_pixels**2
    variance = jnp.where(grey < _DARK, _DARK_SD**2, 1 / (12 * bin_pixels**2) + _MODEL_SD**2)
    edge = ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN))
    return BinnedFrames(jnp.pad(grey, edge), jnp.pad(1 / variance, edge), jnp.pad(white, edge))


def sharpening(width: float, sharpened: float, noise: float = 1e-3) -> np.ndarray:
    """One axis of the filter that turns a spot of s = `width` bins into one of s = `sharpened`.

    Wiener's filter, even, normalised to a sum of 1; `noise` is the ratio of the spectra at which it
    stops.

    Returns:
        ``[2 n + 1]`` float32.
    """
    reach = int(np.ceil(4 * width))
    frequency = 2 * np.pi * np.fft.rfftfreq(256)
    blur, target = (np.exp(-((frequency * s) ** 2) / 2) for s in (width, sharpened))
    kernel = np.fft.irfft(target * blur / (blur**2 + noise))
    kernel = np.concatenate([kernel[-reach:], kernel[: reach + 1]])
    return (kernel / kernel.sum()).astype(np.float32)


@jax.jit
def sharpen(grey: jax.Array, kernel: jax.Array) -> jax.Array:
    """Filters frames ``[F, h, h]`` along both axes."""
    reach, size = len(kernel) // 2, grey.shape[1]
    padded = jnp.pad(grey, ((0, 0), (reach, reach), (reach, reach)))
    rows = jnp.zeros((len(grey), size, padded.shape[2]), jnp.float32)
    for i in range(len(kernel)):
        rows += kernel[i] * padded[:, i : i + size]
    columns = jnp.zeros_like(grey)
    for i in range(len(kernel)):
        columns += kernel[i] * rows[:, :, i : i + size]
    return columns


@functools.partial(jax.jit, static_argnames=("size", "bin_pixels"), donate_argnames="canvas")
def draw_spots(
    canvas: jax.Array,
    frame: jax.Array,
    spots: jax.Array,
    sign: jax.Array,
    size: int,
    bin_pixels: int,
) -> jax.Array:
    """Adds spots to frames.

    Args:
        canvas: ``[F, h, h]`` with margins.
        frame: which frame each belongs to, ``[N]``.
        spots: ``[N, 5]``, in bins from the corner of the canvas.
        sign: 1 adds a spot, -1 takes it away, 0 does nothing, ``[N]`` float32.
        size: bins of the square on which each is drawn, static.
        bin_pixels: pixels along each side of a bin, static.
    """
    corner = jnp.floor(spots[:, :2]).astype(jnp.int32) - size // 2
    corner = jnp.clip(corner, 0, canvas.shape[1] - size)
    values = spot_values(spots, corner, size, bin_pixels) * sign[:, None]
    values = values.reshape(-1, 1, size, size)
    place = jnp.concatenate([frame[:, None], corner], axis=1)

    # One after the other: XLA's scatter takes ten times as long on the CPU.
    def add(i, canvas):
        old = jax.lax.dynamic_slice(canvas, place[i], values.shape[1:])
        return jax.lax.dynamic_update_slice(canvas, old + values[i], place[i])

    return jax.lax.fori_loop(0, len(spots), add, canvas)
