"""Plain pictures drawn by NumPy, electron by electron, about an origin between the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sevi_jax.errors import InputError
from sevi_jax.estimation.information import (
    FreeParameters,
    GaussianPrior,
    PictureParams,
    to_row,
)
from sevi_jax.estimation.measure import Request, measure
from sevi_jax.estimation.placing import (
    Placement,
    find_origin,
    fold_places,
    mean_picture,
    mean_rings,
    rebin_about,
)
from sevi_jax.physics.expected import expected_counts, project_profiles, shell_profile
from sevi_jax.physics.types import ImageSpec, ShellParams
from sevi_jax.results import fitted

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
    found = mean_picture(params, placement)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4 * exact.max())


def test_means_of_rings_are_those_of_the_picture():
    # the closed form of the average over angles, against the sum over pixels; a pixel counts in the
    # ring that its middle is in, which blurs sharp edges
    placement = Placement((400, 400), (200.0, 200.0))
    shells = ShellParams(*(jnp.array([x], jnp.float32) for x in (0.5, 0.02, 1e6, [0.5, -0.2])))
    params = PictureParams(shells, jnp.zeros(0))
    mean = mean_picture(params, placement)
    x = np.arange(400) - 199.5
    ring = np.hypot(x[:, None], x).astype(int)
    average = np.bincount(ring.ravel(), mean.ravel()) / np.bincount(ring.ravel())
    found = mean_rings(params, placement, 190)
    assert found.shape == (1, 190)
    np.testing.assert_allclose(found[0, 10:], average[10:190], atol=0.01 * average.max())


@pytest.mark.parametrize("origin", [ORIGIN, (73.5, 82.0)])
def test_folding_loses_nothing_and_keeps_every_pixel_its_place(origin):
    # the table's folded means against the sum of the means of all pixels, which share no code but
    # the profile; masked pixels count in neither
    placement = Placement(SHAPE, origin)
    free = FreeParameters(((2,), (2,)))
    params = some_params(free, placement.unit)
    mean = mean_picture(params, placement)
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
    assert len(paths) == 4
    assert all(path.stat().st_size > 1000 for path in paths)


def test_a_tilt_is_flagged():
    # folded, a tilt of 15 degrees is no more than a blur; the unfolded picture shows it
    request = Request(((2,), (2,)), background=1, origin=ORIGIN)
    tilted = measure(picture(2, background=0.3, tilt=np.deg2rad(15)), request)
    assert tilted.p_value < 1e-6
    assert tilted.dispersion > 1
    assert any("does not describe" in text for text in fitted.warnings(tilted))


def test_pixels_out_of_range_are_not_fitted():
    # a dark rim, as beyond the edge of a round detector, and a bright blob in the middle
    counts = picture(5)
    x, z = np.ogrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(x + 0.5 - ORIGIN[0], z + 0.5 - ORIGIN[1])
    counts[distance > 62] = 0.0
    counts[distance < 6] = 1000.0
    request = Request(((2,), (2,)), origin=ORIGIN, reach=(8.0, 60.0))
    found = measure(counts, request)
    assert bool(found.fit.converged[0])
    assert found.p_value > 1e-3
    assert found.mask.sum() == ((distance >= 8) & (distance <= 60)).sum()
    radius = np.asarray(found.fit.params.shells.radius[0]) * found.placement.unit
    error = np.asarray(found.fit.errors.shells.radius[0]) * found.placement.unit
    assert (np.abs(radius - RADIUS) < 4 * error).all()
    with pytest.raises(InputError, match="no pixel"):
        measure(counts, Request(((2,),), origin=ORIGIN, reach=(300.0, 400.0)))


def test_known_blur_is_taken_off():
    # every electron moved by a normal error of 2 pixels along each axis: wider than the rings. The
    # shells from before come back within their errors; without the correction sigma is 1.5 to 2
    # times too large
    rng, blur = np.random.default_rng(12), 2.0
    counts, edges = np.zeros(SHAPE), [np.arange(n + 1) for n in SHAPE]
    for shell in zip(RADIUS, SIGMA, NUMBER, BETA, strict=True):
        moved = [v + rng.normal(0, blur, v.size) for v in positions(rng, *shell)]
        counts += np.histogram2d(moved[0] + ORIGIN[0], moved[1] + ORIGIN[1], edges)[0]
    request = Request(((2,), (2,)), origin=ORIGIN, blur=2 * blur / SHAPE[1])
    found = measure(counts, request)
    unit = found.placement.unit
    params, errors = found.sharp.params.shells, found.sharp.errors.shells
    for got, error, true, scale in (
        (params.radius, errors.radius, RADIUS, unit),
        (params.sigma, errors.sigma, SIGMA, unit),
        (params.beta[..., 0], errors.beta[..., 0], BETA, 1.0),
    ):
        pulls = (np.asarray(got[0]) * scale - true) / (np.asarray(error[0]) * scale)
        assert (np.abs(pulls) < 4).all(), pulls
    assert (np.asarray(found.fit.params.shells.sigma[0]) * unit > 1.3 * np.array(SIGMA)).all()
    assert found.p_value > 1e-3
    said = fitted.answer("a", found)
    assert said["shells"][0]["sigma"] == pytest.approx(2 * float(params.sigma[0, 0]) * unit / 160)


def test_a_prior_in_half_widths_pulls_as_far_as_it_should():
    # beta_2 of both shells and R_1, each known as well from the prior as from the counts: the
    # estimate is the middle of both
    counts, request = picture(6), Request(((2,), (2,)), origin=ORIGIN)
    free, plain = request.free, measure(picture(6), Request(((2,), (2,)), origin=ORIGIN))
    half_width = SHAPE[1] / 2
    unit = np.where([n[0] in "Rs" for n in free.names], plain.placement.unit / half_width, 1.0)
    row = to_row(plain.fit.params, free)[0] * unit
    error = np.sqrt(np.diagonal(plain.fit.covariance[0])) * unit
    for name in ("beta2_1", "R_1"):
        place = free.names.index(name)
        mean, precision = np.zeros((2, len(row)), np.float32)
        mean[place], precision[place] = row[place] + 3 * error[place], error[place] ** -2
        prior = GaussianPrior(jnp.asarray(mean), jnp.asarray(np.diag(precision)))
        found = measure(counts, request, start=None, prior=prior)
        moved = to_row(found.fit.params, free)[0] * unit
        assert float(moved[place] - row[place]) == pytest.approx(1.5 * error[place], rel=0.1)


def test_deviance_is_foretold_where_the_means_are_tiny():
    # rings in a dark picture with a background that is fitted: most pixels expect next to nothing,
    # and fitted means fall below it. 25 pictures; their mean deviance within 4 of its standard
    # errors (false alarms: 1 in 16 000)
    rng, off = np.random.default_rng(8), []
    request = Request(((2,), (2,)), 1, ORIGIN)
    start = some_params(request.free, SHAPE[1] / 2)
    for _ in range(25):
        counts = np.zeros(SHAPE)
        for shell in zip(RADIUS, SIGMA, (3000, 6000), BETA, strict=True):
            x, z = positions(rng, *shell)
            edges = [np.arange(n + 1) for n in SHAPE]
            counts += np.histogram2d(x + ORIGIN[0], z + ORIGIN[1], edges)[0]
        found = measure(counts, request, start=start)
        off.append(found.deviance - found.expected_deviance)
    assert abs(np.mean(off)) < 4 * np.std(off, ddof=1) / 5


def test_origin_outside_is_refused():
    with pytest.raises(InputError, match="outside the picture of 150 x 160"):
        measure(np.ones(SHAPE), Request(((2,),), origin=(200.0, 3.0)))
