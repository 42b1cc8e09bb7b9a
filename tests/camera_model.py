"""Camera frames of known electrons by NumPy in float64, from the definition in docs/course.md."""

import numpy as np

FIFTHS = np.arange(5) / 5


def draw_shapes(rng, n, width=0.015):
    """Amplitude, s in half-widths and rho of n spots."""
    amplitude = np.maximum(rng.normal(100, 10, n), 0)
    return amplitude, rng.normal(width, width / 15, n), np.clip(rng.normal(0, 0.1, n), -1, 1)


def frame_of(places, shapes, size, scale):
    """Draws a frame.

    Args:
        places: x and z in pixels from the corner, ``[N, 2]``.
        shapes: as of `draw_shapes`.
        size: pixels along each side.
        scale: pixels of a half-width (512 for a camera of 1024 pixels).

    Returns:
        ``[size, size]`` uint8.
    """
    picture = np.zeros((size, size))
    for (x, z), amplitude, width, rho in zip(places, *shapes, strict=True):
        if amplitude <= 1:
            continue
        s = width * scale
        reach = s * np.sqrt(2 * np.log(amplitude))
        ranges = [
            np.arange(max(int(np.floor(c - reach)), 0), min(int(np.ceil(c + reach)), size))
            for c in (x, z)
        ]
        dx, dz = (
            ((pixels[:, None] + FIFTHS).ravel() - c) / s
            for pixels, c in zip(ranges, (x, z), strict=True)
        )
        exponent = dx[:, None] ** 2 + dz**2 + 2 * rho * dx[:, None] * dz
        points = amplitude * np.exp(-exponent / 2)
        mean = points.reshape(len(ranges[0]), 5, len(ranges[1]), 5).mean(axis=(1, 3))
        picture[np.ix_(*ranges)] += mean
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def match(found, true, radius):
    """Pairs found and true places, nearest pairs first; each is used once.

    Returns:
        Their numbers, ``[M, 2]``: of `found`, of `true`.
    """
    distance = np.hypot(*(found[:, None] - true[None]).transpose(2, 0, 1))
    pairs = []
    while distance.size and distance.min() < radius:
        i, j = np.unravel_index(distance.argmin(), distance.shape)
        pairs.append((i, j))
        distance[i], distance[:, j] = np.inf, np.inf
    return np.array(pairs, int).reshape(-1, 2)
