"""The mean of a picture by quadrature in float64: slow, plain, and by no algorithm of the program.

The density at a point of the detector is the integral over the line of sight y of

    f(r) / (4 pi r^2) (1 + sum beta_n P_n(z / r)),   r^2 = s^2 + y^2, z = s cos(t - angle),

and a bent picture is that of the point which was bent to here, times the Jacobian of the bend. The
mean of a pixel is a sum over Gauss's nodes inside it. Blur and background are not in it.
"""

import numpy as np
from numpy.polynomial import legendre
from scipy import stats

# Of a slow shell the density goes as 1 / s near the origin: squares closer than two of their sides
# to it are cut into four, so often.
CUTS = 14


def radial_density(shell):
    """f(r) of a `TrueShell`, cut at 0 and normalised, from SciPy."""
    radius, sigma, tail = shell.radius, shell.sigma, shell.tail
    if not tail:
        return stats.truncnorm(-radius / sigma, np.inf, radius, sigma).pdf
    whole = stats.exponnorm(abs(tail) / sigma, radius, sigma)
    if tail > 0:
        return lambda r: whole.pdf(r) / whole.sf(0)
    return lambda r: whole.pdf(2 * radius - r) / whole.cdf(2 * radius)


def sphere_density(shell, along, across, nodes=100):
    """Density of one electron on the detector, per pixel^2, of offsets from the origin, ``[N]``."""
    s = np.hypot(along, across)
    f = radial_density(shell)
    tail = 25 * abs(shell.tail)
    low = shell.radius - 8 * shell.sigma - (tail if shell.tail < 0 else 0)
    high = shell.radius + 8 * shell.sigma + (tail if shell.tail > 0 else 0)
    # y = s sinh u, so that r = s cosh u and dy = r du, over the part of the line in the shell
    begin, end = (np.arccosh(np.maximum(x / s, 1)) for x in (low, high))
    node, weight = legendre.leggauss(nodes)
    half = 0.5 * (end - begin)
    r = s[:, None] * np.cosh((begin + half)[:, None] + half[:, None] * node)
    coefficients = np.zeros(25)
    coefficients[0] = 1
    for order, value in shell.beta.items():
        coefficients[order] = value
    angular = legendre.legval(along[:, None] / r, coefficients)
    # both halves of the line
    return 2 * half * ((f(r) * angular / (4 * np.pi * r)) @ weight)


def unbend(rows, columns, truth):
    """Where offsets came from before they were bent, and the Jacobian of that, ``[N]``."""
    t = np.arctan2(columns, rows)
    stretch = np.ones_like(t)
    for order, (a, b) in ((3, truth.third), (4, truth.fourth)):
        stretch += a * np.cos(order * t) + b * np.sin(order * t)
    a, b = truth.ellipse
    matrix = np.linalg.inv([[1 + a, b], [b, 1 - a]])
    first, second = matrix @ np.stack([rows / stretch, columns / stretch])
    # s -> s / h(t) at a fixed t has the Jacobian 1 / h^2
    return first, second, abs(np.linalg.det(matrix)) / stretch**2


def density(truth, rows, columns):
    """Mean counts per pixel^2 at points from the picture's corner, ``[N]``."""
    rows, columns, jacobian = unbend(rows - truth.origin[0], columns - truth.origin[1], truth)
    angle = np.radians(truth.angle)
    along = np.cos(angle) * rows + np.sin(angle) * columns
    across = np.cos(angle) * columns - np.sin(angle) * rows
    shells = (shell.electrons * sphere_density(shell, along, across) for shell in truth.shells)
    return jacobian * sum(shells)


def squares(truth):
    """Cuts the pixels: corners and sides of squares, and the pixel of each, ``[N]`` each."""
    rows, columns = (x.ravel().astype(float) for x in np.mgrid[: truth.shape[0], : truth.shape[1]])
    side, pixel = np.ones(rows.size), np.arange(rows.size)
    for _ in range(CUTS):
        middle = rows + side / 2 - truth.origin[0], columns + side / 2 - truth.origin[1]
        cut = np.hypot(*middle) < 2 * side
        half = side[cut] / 2
        corners = [(rows[cut] + i * half, columns[cut] + k * half) for i in (0, 1) for k in (0, 1)]
        rows, columns = (
            np.concatenate([old[~cut], *new])
            for old, new in zip((rows, columns), zip(*corners, strict=True), strict=True)
        )
        side = np.concatenate([side[~cut], *[half] * 4])
        pixel = np.concatenate([pixel[~cut], *[pixel[cut]] * 4])
    return rows, columns, side, pixel


def mean(truth, nodes=3):
    """Mean counts of every pixel ``[H, W]`` of what a picture was drawn from.

    Args:
        truth: a `sevi_jax.synthesis.spectrometer.Truth`.
        nodes: of Gauss's rule along each side of a pixel.
    """
    rows, columns, side, pixel = squares(truth)
    node, weight = legendre.leggauss(nodes)
    node, weight = (node + 1) / 2, weight / 2
    total = np.zeros(truth.shape[0] * truth.shape[1])
    for dx, wx in zip(node, weight, strict=True):
        for dy, wy in zip(node, weight, strict=True):
            values = density(truth, rows + dx * side, columns + dy * side) * side**2
            total += wx * wy * np.bincount(pixel, values, total.size)
    total = total.reshape(truth.shape)
    return total if truth.efficiency is None else total * truth.efficiency
