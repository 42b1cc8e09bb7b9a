"""A first guess of the origin: the point that a picture is most symmetric about."""

import numpy as np
from scipy.fft import next_fast_len
from scipy.ndimage import gaussian_filter

_BRIGHTEST = 99.9  # per cent of the pixels; brighter ones count as these do
_DARKEST = 5.0  # per cent of the pixels
_BRIGHT = 0.5  # of the mean brightness: an edge that is brighter may cut rings
_SMALL = 120  # pixels along a side are enough to see where rings are centred
_RING = 6  # pixels of a ring, at least
_NEAR = 12  # of these pixels: how far from an edge a centre is looked for
_STRIDE = 2  # of these pixels, near corners
_DESCENTS = 4  # places from which a better one is looked for
_AROUND = [(i, k) for i in (-1, 0, 1) for k in (-1, 0, 1) if i or k]
_NOISE = 0.4  # variance of the root of a count, at most: 1/4 of many electrons
_CLEARLY = 0.85  # of what is unexplained, and a likelihood ratio that leaves no doubt
_SURELY = 50.0
_SMOOTH = 0.04  # of a picture's side: what varies on longer scales than that is no ring
_RINGS_SAY = 400.0  # the same, of a picture without what is smooth; 350 by chance at most
_FAR = 2.0  # pixels: nearer the point that the whole picture is symmetric about is as good


def find_origin(counts: np.ndarray, exposure: np.ndarray) -> tuple[float, float]:
    """Finds the point that a picture is most symmetric about, to a fraction of a pixel.

    The correlation of the picture with itself turned by 180 degrees, of square roots (which even
    out Poisson noise) less their median, over the energy of the pixels that have a partner; half of
    the whole energy is added to that, because a few pixels may be symmetric by chance.

    Args:
        counts: ``[H, W]``, 0 or more.
        exposure: ``[H, W]``, 0 where a pixel is not used.

    Returns:
        (row, column) in pixels from the corner.
    """
    used = exposure > 0
    root = np.sqrt(np.maximum(np.where(used, counts / np.where(used, exposure, 1.0), 0.0), 0.0))
    root = np.minimum(root, np.percentile(root[used], _BRIGHTEST))
    cut = bool(bright_edges(counts, exposure))
    # where most of a picture is bright its dark parts, below the median, would match one another
    level = np.percentile(root[used], _DARKEST if cut else 50)
    return _most_symmetric(np.where(used, root - level, 0.0), used, cut or not used.all())


def find_ring_origin(
    counts: np.ndarray, exposure: np.ndarray, before: tuple[float, float]
) -> tuple[float, float] | None:
    """Finds what rings are symmetric about where something smooth and bright captures the origin.

    As `find_origin`, of the picture less itself smoothed. The point is taken where rings about it
    leave clearly less of that unexplained than rings about the point found before.

    Args:
        counts: ``[H, W]``, 0 or more.
        exposure: ``[H, W]``, 0 where a pixel is not used.
        before: what `find_origin` or `find_edge_origin` found, pixels from the corner.

    Returns:
        (row, column) in pixels from the corner, or None.
    """
    root, used = _roots(counts, exposure, 1)
    scale = _SMOOTH * max(counts.shape)
    smooth = gaussian_filter(root, scale) / np.maximum(gaussian_filter(used * 1.0, scale), 1e-9)
    sharp = np.where(used, root - smooth, 0.0)
    found = _most_symmetric(sharp, used, True)
    if np.hypot(found[0] - before[0], found[1] - before[1]) < _FAR:
        return None
    left, other = (_unexplained(sharp, used, place) for place in (found, before))
    surely = other > 0 and -np.log(max(left / other, 1e-12)) * used.sum() > _RINGS_SAY
    return found if surely else None


def _most_symmetric(root: np.ndarray, used: np.ndarray, cut: bool) -> tuple[float, float]:
    """The point that values about 0 are most symmetric about; `cut` where some have no partner."""
    shape = [int(next_fast_len(2 * pixels) or 0) for pixels in root.shape]
    of_root = np.fft.rfft2(root, shape)
    correlation = np.fft.irfft2(of_root**2, shape)
    total = float(np.sum(root * root))
    if not total > 0:
        return root.shape[0] / 2, root.shape[1] / 2
    if cut:
        of_square = np.fft.rfft2(root * root, shape) * np.fft.rfft2(used * 1.0, shape)
        energy = np.fft.irfft2(of_square, shape)
        correlation = correlation / (np.maximum(energy, 0.0) + 0.5 * total)
    peak = np.unravel_index(np.argmax(correlation), correlation.shape)
    place = []
    for axis in range(2):
        index = list(peak)
        values = []
        for step in (-1, 0, 1):
            index[axis] = (peak[axis] + step) % shape[axis]
            values.append(correlation[tuple(index)])
        left, top, right = values
        curvature = left - 2 * top + right
        shift = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
        # mirrored pixels i and k with i + k = p: 2 * origin = (i + 1/2) + (k + 1/2)
        place.append(float((peak[axis] + shift + 1) / 2))
    return place[0], place[1]


def find_edge_origin(
    counts: np.ndarray, exposure: np.ndarray, inside: tuple[float, float]
) -> tuple[float, float] | None:
    """Finds the centre of the rings of half a picture, or of a quadrant, on or near its edge.

    For each edge and corner that rings seem to reach, and for places near it on both sides: how
    much of the picture do rings about it leave unexplained, rings whose brightness goes as
    a + b cos 2t? A place is taken where that is far less than about the point inside that the
    picture is most symmetric about.

    Args:
        counts: ``[H, W]``.
        exposure: ``[H, W]``, 0 where a pixel is not used.
        inside: the point found inside, pixels from the corner.

    Returns:
        (row, column) in pixels from the corner, or None.
    """
    factor = max(1, -(-max(counts.shape) // _SMALL))
    edges = bright_edges(counts, exposure)
    if min(counts.shape) < 8 * factor or not edges:
        return None
    root, used = _roots(counts, exposure, factor)
    other = _unexplained(root, used, (inside[0] / factor, inside[1] / factor))
    if not other > _NOISE:
        return None
    best, left = _near_edges(root, used, edges, counts.shape[0] / factor, counts.shape[1] / factor)
    ratio = left / other
    if ratio > _CLEARLY or -np.log(max(ratio, 1e-12)) * used.sum() < _SURELY:
        return None
    return best[0] * factor, best[1] * factor


def _roots(counts: np.ndarray, exposure: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Roots of the counts of blocks of pixels, and which blocks are used."""
    height, width = (n // factor * factor for n in counts.shape)

    def summed(values):
        blocks = values[:height, :width].reshape(height // factor, factor, -1, factor)
        return blocks.sum(axis=(1, 3))

    used = summed(exposure) > 0.5 * factor**2
    root = np.sqrt(np.maximum(summed(counts), 0.0))
    root = np.where(used, np.minimum(root, np.percentile(root[used], _BRIGHTEST)), 0.0)
    return root, used


Place = tuple[float, float]


def _near_edges(
    root: np.ndarray, used: np.ndarray, edges: list[str], height: float, width: float
) -> tuple[Place, float]:
    """The place on or near an edge or a corner that leaves least unexplained, and that."""
    row, column = (_mirror(np.where(used, root - np.median(root[used]), 0.0), a) for a in (0, 1))
    rows = [(edge, end) for edge, end in (("top", 0.0), ("bottom", height)) if edge in edges]
    columns = [(edge, end) for edge, end in (("left", 0.0), ("right", width)) if edge in edges]
    moves = np.arange(-_NEAR, _NEAR + 1.0)
    tried: list[Place] = [(end + d, column) for _, end in rows for d in moves]
    tried += [(row, end + d) for _, end in columns for d in moves]
    for _, end in rows:
        for _, side in columns:
            tried += [(end + d, side + e) for d in moves[::_STRIDE] for e in moves[::_STRIDE]]
    left = [_unexplained(root, used, place) for place in tried]
    # the next best place may be that of a coarse step
    found = [_descended(root, used, tried[k], left[k]) for k in np.argsort(left)[:_DESCENTS]]
    return min(found, key=lambda x: x[1])


def _descended(
    root: np.ndarray, used: np.ndarray, place: Place, value: float
) -> tuple[Place, float]:
    """The place nearby that leaves least unexplained, to a quarter of a pixel."""
    step = float(_STRIDE)
    while step >= 0.25:
        around = [(place[0] + i * step, place[1] + k * step) for i, k in _AROUND]
        values = [_unexplained(root, used, one) for one in around]
        best = int(np.argmin(values))
        if values[best] < value:
            place, value = around[best], values[best]
        else:
            step /= 2
    return place, value


def bright_edges(counts: np.ndarray, exposure: np.ndarray) -> list[str]:
    """Names of the edges that rings seem to reach: as bright as the picture is on average."""
    every = slice(None)
    lines = {"top": (slice(0, 2), every), "bottom": (slice(-2, None), every),
             "left": (every, slice(0, 2)), "right": (every, slice(-2, None))}  # fmt: skip
    average = counts.sum() / max(exposure.sum(), 1e-300)
    return [
        name
        for name, line in lines.items()
        if exposure[line].sum() > 0
        and counts[line].sum() > _BRIGHT * average * exposure[line].sum()
    ]


def _mirror(values: np.ndarray, axis: int) -> float:
    """Where along an axis a picture is most like its mirror image, pixels from the corner."""
    length = int(next_fast_len(2 * values.shape[axis]) or 0)
    correlation = np.fft.irfft(np.fft.rfft(values, length, axis) ** 2, length, axis)
    return (int(np.argmax(correlation.sum(axis=1 - axis))) + 1) / 2


def _unexplained(root: np.ndarray, used: np.ndarray, place: tuple[float, float]) -> float:
    """Mean square of what rings about a point leave of the roots of counts."""
    row = np.arange(root.shape[0])[:, None] + 0.5 - place[0]
    column = np.arange(root.shape[1])[None] + 0.5 - place[1]
    distance = np.hypot(row, column)
    ring = distance.astype(int)[used]
    wave = ((row**2 - column**2) / np.maximum(distance, 1e-9) ** 2)[used]
    values = root[used]
    n, x, xx, y, xy, yy = (
        np.bincount(ring, weights)
        for weights in (None, wave, wave**2, values, wave * values, values**2)
    )
    many = n >= _RING
    n, x, xx, y, xy, yy = (v[many] for v in (n, x, xx, y, xy, yy))
    spread, slope = xx - x * x / n, xy - x * y / n
    left = yy - y * y / n - slope**2 / np.maximum(spread, 1e-9)
    return float(left.sum() / max((n - 2).sum(), 1.0))
