"""Plain pictures drawn by NumPy, electron by electron, about an origin between the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sevi_jax.errors import InputError
from sevi_jax.inference import fitted
from sevi_jax.inference.information import FreeParameters, PictureParams
from sevi_jax.inference.measure import Request, measure
from sevi_jax.inference.placing import (
    Placement,
    find_origin,
    fold_places,
    mean_picture,
    rebin_about,
)
from sevi_jax.synthesis.expected import expected_counts, project_profiles, shell_profile
from sevi_jax.synthesis.raster import ImageSpec
from sevi_jax.synthesis.types import ShellParams

SHAPE, ORIGIN = (150, 160), (73.3, 81.85)
RADIUS, SIGMA, NUMBER, BETA = (30.0, 55.0), (1.2, 1.5), (30_000, 60_000), (0.6, -0.4)  # pixels


def positions(rng, radius, sigma, number, beta):
    """x and z of electrons, by rejection."""
    c = rng.uniform(-1, 1, 4 * number)
    density = 0.5 + beta * (1.5 * c**2 - 0.5)
    c = c[rng.uniform(0, 0.5 + max(beta, -beta / 2), c.size) < density][:number]
    assert c.size == number
    r = rng.normal(radius, sigma, number)
    return r * np.sqrt(1 - c**2) * np.cos(rng.uniform(0, 2 * np.pi, number)), r * c


def picture(seed, background=0.0, tilt=0.0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(background, SHAPE).astype(float)
    for shell in zip(RADIUS, SIGMA, NUMBER, BETA, strict=True):
        x, z = positions(rng, *shell)
        x, z = x * np.cos(tilt) - z * np.sin(tilt), x * np.sin(tilt) + z * np.cos(tilt)
        edges = [np.arange(n + 1) for n in SHAPE]
        counts += np.histogram2d(x + ORIGIN[0], z + ORIGIN[1], edges)[0]
    return counts


def test_origin_is_found_to_a_fraction_of_a_pixel():
    np.testing.assert_allclose(find_origin(picture(0)), ORIGIN, atol=0.25)


def test_rebinning_keeps_counts_and_origin():
    counts = np.random.default_rng(0).poisson(3.0, (20, 12)).astype(float)
    found, origin = rebin_about(counts, (9.0, 5.0), 4)
    assert found.shape == (5, 3)
    assert found.sum() == counts.sum()
    assert found[1, 2] == counts[4:8, 8:12].sum()
    assert origin == (2.25, 1.25)


def some_params(free, unit):
    shells = ShellParams(
        jnp.asarray(RADIUS, jnp.float32) / unit,
        jnp.asarray(SIGMA, jnp.float32) / unit,
        jnp.asarray(NUMBER, jnp.float32),
        jnp.asarray(BETA, jnp.float32)[:, None],
    )
    return PictureParams(shells, jnp.full(free.background, 0.5, jnp.float32))


def test_centred_means_are_the_expected_counts():
    placement = Placement((128, 128), (64.0, 64.0))
    free = FreeParameters(((2,), (2,)))
    params = some_params(free, placement.unit)
    exact = np.asarray(expected_counts(params.shells, ImageSpec(128)), float)
    found = mean_picture(params, free, placement)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4 * exact.max())


@pytest.mark.parametrize("origin", [ORIGIN, (73.5, 82.0)])
def test_folding_loses_nothing_and_keeps_every_pixel_its_place(origin):
    # the table's folded means against the sum of the means of all pixels, which share no code but
    # the profile; masked pixels count in neither
    placement = Placement(SHAPE, origin)
    free = FreeParameters(((2,), (2,)))
    params = some_params(free, placement.unit)
    mean = mean_picture(params, free, placement)
    mask = np.ones(SHAPE, bool)
    mask[40:60, 100:120] = False
    table, folded, number = fold_places(mean, mask, placement, 1)
    assert folded.sum() == pytest.approx(mean[mask].sum(), rel=1e-5)
    assert number.sum() == mask.sum()
    shells = params.shells
    profile = sum(
        shells.electrons[i] * shell_profile(shells.radius[i], shells.sigma[i], shells.beta[i])
        for i in range(2)
    )
    table = jax.tree.map(jnp.asarray, table)
    projected = np.asarray(project_profiles(profile[:, :, None], table))[:, 0]
    filled = np.asarray(table.filled)
    np.testing.assert_allclose(
        (projected * number)[filled], folded[filled], rtol=0, atol=2e-4 * folded.max()
    )


@pytest.fixture(scope="module")
def found():
    return measure(picture(1, background=0.3), Request(((2,), (2,)), background=1))


def test_shells_are_found_about_the_origin(found):
    said = fitted.answer("a.npy", found)
    assert said["converged"], said["reason"]
    assert said["warnings"] == []
    assert said["p_value"] > 1e-4  # false-alarm rate of this line
    off = np.subtract(said["origin_pixels"], ORIGIN) / said["origin_error_pixels"]
    assert np.abs(off).max() < 5
    assert max(said["origin_error_pixels"]) < 0.05
    for i, shell in enumerate(said["shells"]):
        pulls = [
            (shell["R_pixels"] - RADIUS[i]) / shell["R_pixels_error"],
            (shell["yield"] - NUMBER[i]) / shell["yield_error"],
            (shell["beta"][0] - BETA[i]) / shell["beta_error"][0],
            (shell["sigma"] * 80 - SIGMA[i]) / (shell["sigma_error"] * 80),
        ]
        # 10 numbers within 4.5 standard errors: false-alarm rate 1e-4
        assert np.abs(pulls).max() < 4.5
        assert shell["R"] == pytest.approx(shell["R_pixels"] / 80)
    assert "literature" in fitted.table(said)


def test_figures_are_drawn(found, tmp_path):
    paths = fitted.write_figures(tmp_path / "new" / "a", found)
    assert len(paths) == 3
    assert all(path.stat().st_size > 1000 for path in paths)


def test_a_tilt_is_flagged():
    # folded, a tilt of 15 degrees is no more than a blur; the unfolded picture shows it
    request = Request(((2,), (2,)), background=1, origin=ORIGIN)
    tilted = measure(picture(2, background=0.3, tilt=np.deg2rad(15)), request)
    assert tilted.p_value < 1e-6
    assert tilted.dispersion > 1
    assert any("does not describe" in text for text in fitted.warnings(tilted))


def test_origin_outside_is_refused():
    with pytest.raises(InputError, match="outside the picture of 150 x 160"):
        measure(np.ones(SHAPE), Request(((2,),), origin=(200.0, 3.0)))
