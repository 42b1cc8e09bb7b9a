"""What a fit says, for people: the answer's numbers, a table, warnings, figures."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.estimation.measure import Measured, Request, measure
from sevi_jax.estimation.placing import mean_rings
from sevi_jax.network.run import Run
from sevi_jax.physics.legendre import density_nodes
from sevi_jax.results import plots
from sevi_jax.results.answer import network_start
from sevi_jax.results.training_prior import map_prior

_NEGATIVE = 3.0  # a density is called negative so many standard errors below 0
_UNLIKELY = 1e-3  # p-value below which the model does not describe the picture


def _betas(measured: Measured, shell: int) -> tuple[np.ndarray, np.ndarray]:
    """Betas ``[L]`` of a shell and their covariance ``[L, L]``, scaled by the overdispersion."""
    free, fit = measured.free, measured.sharp
    part = slice(shell * free.per_shell + 3, (shell + 1) * free.per_shell)
    covariance = np.asarray(fit.covariance[0], np.float64)[part, part] * measured.dispersion
    return np.asarray(fit.params.shells.beta[0, shell], np.float64), covariance


def fit_picture(
    name: str,
    counts: np.ndarray,
    mask: np.ndarray | None,
    request: Request,
    run: Run | None,
    use_prior: bool,
    stem: pathlib.Path,
) -> tuple[dict[str, Any], list[pathlib.Path]]:
    """Fits one picture, prints its table and draws its figures.

    Args:
        name: of the picture.
        counts: ``[H, W]``.
        mask: pixels used, ``[H, W]`` bool; None uses all.
        request: what is fitted.
        run: network to start from; None starts from the picture.
        use_prior: whether the prior of the run counts.
        stem: of the figures.

    Returns:
        the answer, and its figures.
    """
    start = None if run is None else network_start(run, name, counts)
    prior = map_prior(run.synthesis.prior, request.free) if run is not None and use_prior else None
    found = measure(counts, request, mask, start, prior)
    said = answer(name, found)
    print(table(said))
    figures = write_figures(stem, found)
    print("  figures: " + ", ".join(map(str, figures)))
    return said, figures


def answer(name: str, measured: Measured) -> dict[str, Any]:
    """Puts a fit in the form that `data.answers.write_answer` takes.

    Lengths in half-widths of the picture, and in its pixels. Every error is a standard error,
    scaled by the overdispersion. `yield` is the number of electrons of the shell in this picture,
    `yield_error` how well that number is known (the fit's error without the shell's own Poisson
    fluctuation: Var - N, since the number itself, if it were known, would be the efficient estimate
    of its mean); `counting_error` is that fluctuation: for the mean yield add both in quadrature.
    A known blur of the positions is taken off.
    """
    fit, place = measured.sharp, measured.placement
    scale, pixels = np.sqrt(measured.dispersion), place.unit * measured.rebinned
    params, errors = (
        [
            np.asarray(x[0], np.float64)
            for x in (p.shells.radius, p.shells.sigma, p.shells.electrons)
        ]
        for p in (fit.params, fit.errors)
    )
    shells = []
    for shell in range(measured.free.shells):
        radius, sigma, electrons = (float(x[shell]) for x in params)
        radius_error, sigma_error, total_error = (float(x[shell] * scale) for x in errors)
        beta, covariance = _betas(measured, shell)
        poisson = electrons * measured.dispersion
        shells.append(
            {
                "R": radius * place.half_widths,
                "R_error": radius_error * place.half_widths,
                "R_pixels": radius * pixels,
                "R_pixels_error": radius_error * pixels,
                "sigma": sigma * place.half_widths,
                "sigma_error": sigma_error * place.half_widths,
                "yield": electrons,
                "yield_error": float(np.sqrt(max(total_error**2 - poisson, 1e-4 * poisson))),
                "counting_error": float(np.sqrt(poisson)),
                "beta": beta.tolist(),
                "beta_error": np.sqrt(np.diagonal(covariance)).tolist(),
            }
        )
    origin = [x * measured.rebinned for x in place.origin]
    return {
        "file": name,
        "electrons": float(measured.counts[measured.mask].sum()),
        "origin_pixels": origin,
        "origin_error_pixels": (measured.origin_error * measured.rebinned).tolist(),
        "converged": bool(fit.converged[0]),
        "reason": fit.reasons()[0],
        "deviance_per_dof": measured.deviance / measured.degrees_of_freedom,
        "p_value": measured.p_value,
        "dispersion": measured.dispersion,
        "blur": measured.blur,
        "shells": shells,
        "warnings": warnings(measured),
    }


def warnings(measured: Measured) -> list[str]:
    """Says in words what is not right with a fit; empty if nothing is."""
    found = []
    if not measured.fit.converged[0]:
        found.append(f"not converged: {measured.fit.reasons()[0]}")
    if not measured.p_value >= _UNLIKELY:
        found.append(
            f"the model does not describe this picture (p = {measured.p_value:.1g}); errors are "
            f"scaled by {np.sqrt(measured.dispersion):.3g}, see the residual"
        )
    widths = np.asarray(measured.fit.params.shells.sigma[0]) * measured.placement.half_widths
    for shell in np.flatnonzero(widths**2 <= 1.01 * measured.blur**2):
        found.append(
            f"shell {shell + 1} is no wider ({widths[shell]:.5f} half-widths) than the known blur "
            f"({measured.blur:.5f}): its sigma is not known"
        )
    nodes = density_nodes(measured.free.num_orders).astype(np.float64)
    for shell in range(measured.free.shells):
        beta, covariance = _betas(measured, shell)
        density = 0.5 + nodes[:, 1:] @ beta
        error = np.sqrt(np.einsum("ki,ij,kj->k", nodes[:, 1:], covariance, nodes[:, 1:]))
        worst = int(np.argmin(density + _NEGATIVE * error))
        if density[worst] + _NEGATIVE * error[worst] < 0:
            theta = 90 * worst / (len(nodes) - 1)
            found.append(
                f"the density of shell {shell + 1} is negative: {density[worst]:.4f} "
                f"± {error[worst]:.4f} at {theta:.0f}° from the polarisation "
                "(--positive forbids it)"
            )
    return found


def table(found: dict[str, Any]) -> str:
    """Formats one answer for the terminal."""

    def pair(value: float, error: float, digits: int = 5) -> str:
        return f"{value:.{digits}f} ± {error:.{digits}f}"

    origin = ", ".join(
        f"{x:.2f}" if np.isnan(e) else f"{x:.3f} ± {e:.3f}"
        for x, e in zip(found["origin_pixels"], found["origin_error_pixels"], strict=True)
    )
    lines = [f"{found['file']}: {found['electrons']:.0f} counts, origin at pixel {origin}"]
    for number, shell in enumerate(found["shells"]):
        lines.append(
            f"  shell {number + 1}: R {pair(shell['R'], shell['R_error'])} half-widths "
            f"({pair(shell['R_pixels'], shell['R_pixels_error'], 3)} pixels), "
            f"sigma {pair(shell['sigma'], shell['sigma_error'])}"
        )
        lines.append(
            f"    yield {shell['yield']:.0f} ± {shell['yield_error']:.0f} "
            f"(counting: ± {shell['counting_error']:.0f})"
        )
        for i, (beta, error) in enumerate(zip(shell["beta"], shell["beta_error"], strict=True)):
            if error > 0:
                lines.append(
                    f"    beta_{2 * i + 2:<2} {pair(beta, error)}   "
                    f"literature {pair(2 * beta, 2 * error)}"
                )
    lines.append(
        f"  deviance per degree of freedom {found['deviance_per_dof']:.4f}, "
        f"p = {found['p_value']:.3g}; {found['reason']}"
    )
    lines += [f"  WARNING: {text}" for text in found["warnings"]]
    return "\n".join(lines)


def write_figures(stem: pathlib.Path, measured: Measured) -> list[pathlib.Path]:
    """Draws picture, fit and residual; rings about the origin; densities with bands; betas.

    Files ``<stem>_<what>.png``.
    """
    half = max(measured.counts.shape) / 2
    x_edges, z_edges = (edges / half for edges in measured.placement.edges())
    shells = measured.fit.params.shells
    radius = np.asarray(shells.radius[0], np.float64) * measured.placement.half_widths
    number = range(measured.free.shells)
    beta, covariance = (
        np.stack(x) for x in zip(*(_betas(measured, s) for s in number), strict=True)
    )
    error = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [
        stem.with_name(f"{stem.name}_{what}.png") for what in ("fit", "rings", "densities", "betas")
    ]
    plots.fit_picture(
        paths[0], measured.counts, measured.mean, x_edges, z_edges, radius, measured.mask
    )
    _draw_rings(paths[1], measured)
    plots.densities(paths[2], beta, covariance)
    plots.beta_values(paths[3], beta, error, measured.free.orders, radius=radius)
    return paths


def _draw_rings(path: pathlib.Path, measured: Measured) -> None:
    """Draws the radial profile, in rings one pixel wide, as far as any pixel is used."""
    place = measured.placement
    ring = place.distances()[measured.mask].astype(int)
    pixels = np.bincount(ring)
    counts, mean = (np.bincount(ring, y[measured.mask]) for y in (measured.counts, measured.mean))
    params = jax.tree.map(lambda x: jnp.asarray(x[0]), measured.fit.params)
    shells = mean_rings(params, place, len(pixels)) * pixels
    background = mean - shells.sum(0) if measured.free.background else np.zeros(len(pixels))
    scale = place.half_widths / place.unit
    radius = np.asarray(params.shells.radius, np.float64) * place.half_widths
    edges = np.arange(len(pixels) + 1) * scale
    plots.radial_profile(path, edges, counts, mean, shells, background, radius)
