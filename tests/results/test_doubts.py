"""A network's answer is doubted where picture or shells are unlike those of its training."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import small

from sevi_jax.data.picture import Picture
from sevi_jax.network.network import Prediction
from sevi_jax.network.run import _inner_first, load_run
from sevi_jax.physics.types import ImageSpec
from sevi_jax.results import network_answers
from sevi_jax.results.doubts import UNEXPLAINED, _mean_deviation, doubts, unexplained

SIZE = 64
RADIUS, SIGMA = (0.5, 0.75), 0.01
BETA = np.array([[0.3], [-0.2]])


def positions(rng, number, radius, beta_2, sigma=SIGMA):
    """Electrons of one shell by rejection in float64, ``[n, 2]``."""
    cosine = rng.uniform(-1, 1, 4 * number)
    density = 0.5 + beta_2 * (1.5 * cosine**2 - 0.5)
    cosine = cosine[rng.uniform(0, 0.5 + abs(beta_2), 4 * number) < density][:number]
    assert len(cosine) == number
    r, phi = rng.normal(radius, sigma, number), rng.uniform(0, 2 * np.pi, number)
    return np.stack([r * np.sqrt(1 - cosine**2) * np.cos(phi), r * cosine], axis=1)


def picture(radii, number=20_000, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    betas = np.resize(BETA[:, 0], len(radii))
    parts = [positions(rng, number, *shell) for shell in zip(radii, betas, strict=True)]
    return small.histogram(np.concatenate(parts) + np.array([shift, 0.0]), SIZE)


def prediction(radius=RADIUS, beta=BETA, sigma=SIGMA):
    shells = np.array(radius, np.float32), np.full(2, sigma, np.float32)
    return Prediction(np.array(beta, np.float32), *shells)


@pytest.fixture(scope="module")
def run():
    """A run that was trained on two shells of 20 000 electrons, 64 x 64; it is not applied."""
    config = small.small_config(prior__electrons=(19_000, 21_000), image__size=SIZE)
    made = load_run(small.trained_run())
    from sevi_jax.network.training.specs import network_from, synthesis_from

    return dataclasses.replace(
        made, config=config, network=network_from(config), synthesis=synthesis_from(config)
    )


def test_nothing_is_doubted_where_all_is_as_in_training(run):
    for seed in range(5):
        assert doubts(run, picture(RADIUS, seed=seed), prediction()) == []


def test_right_shells_leave_nothing_unexplained_and_wrong_ones_much():
    """Within 5 errors of counting (one false alarm in a million; folding makes it no larger)."""
    image = ImageSpec(SIZE, fold=True)
    share, error = unexplained(image, picture(RADIUS), prediction())
    assert abs(share) < 5 * error < 0.05
    # one of two equal shells is where there is nothing; the other one covers a part of it
    share, error = unexplained(image, picture(RADIUS), prediction((0.35, 0.75)))
    assert UNEXPLAINED + 5 * error < share < 0.5


def test_mean_deviation_is_that_of_poisson_numbers():
    number = np.arange(400)
    for mean in (1e-9, 0.3, 1.0, 4.5, 97.0):
        logarithm = np.concatenate([[0], np.cumsum(np.log(number[1:]))])
        chance = np.exp(number * np.log(mean) - mean - logarithm)
        assert _mean_deviation(np.array(mean)) == pytest.approx(
            float((np.abs(number - mean) * chance).sum()), rel=1e-9
        )


@pytest.mark.parametrize(
    ("counts", "made", "words"),
    [
        (picture(np.linspace(0.2, 0.85, 17), 2400), prediction(), "are not explained by these"),
        (np.random.default_rng(0).poisson(9.0, (SIZE, SIZE)), prediction(), "are not explained"),
        (picture(RADIUS, shift=0.05), prediction(), "is off the middle, by +0.05"),
        (picture(RADIUS, 900), prediction(), "1800 counts, but the network was trained on"),
        (picture(RADIUS, 60_000), prediction(), "120000 counts, but the network was trained on"),
        (picture(RADIUS), prediction((0.5, 0.93)), "shell 2: R = 0.9300 lies outside 0.3 to 0.9"),
        (picture(RADIUS), prediction((0.12, 0.75)), "shell 1: R = 0.1200 lies outside 0.3 to 0.9"),
        # 1/2 + beta P_2 is least where P_2 is -1/2 or 1
        (picture(RADIUS), prediction(beta=[[1.2], [-0.2]]), "shell 1: the density of cos(theta) is "
         "negative, -0.1000 at cos(theta) = 0.00"),
        (picture(RADIUS), prediction(beta=[[0.3], [-0.6]]), "shell 2: the density of cos(theta) is "
         "negative, -0.1000 at cos(theta) = 1.00"),
    ],
)  # fmt: skip
def test_what_is_unlike_training_is_said(run, counts, made, words):
    found = doubts(run, counts, made)
    assert any(words in text for text in found), found


def test_network_without_radii_is_doubted_for_what_is_known(run):
    made = Prediction(BETA.astype(np.float32), None, None)
    assert doubts(run, picture(RADIUS), made) == []
    (found,) = doubts(run, picture(RADIUS, shift=0.05), made)
    assert "off the middle" in found


def test_answers_carry_and_show_their_doubts():
    run = load_run(small.trained_run())
    counts = np.random.default_rng(9).poisson(4.0, (1, 32, 32)).astype(np.uint32)
    # a picture has rows along z, networks have it along the second axis
    found = network_answers.predict_record(run, Picture(counts[0].T))
    assert found["warnings"] == doubts(
        run, counts[0], Prediction(*(x[0] for x in vars(run.predict(counts)).values()))
    )
    assert len(found["warnings"]) >= 1
    for text in found["warnings"]:
        assert f"  WARNING: {text}" in network_answers.text(found)


def test_shells_are_sorted_by_radius_with_all_that_is_theirs():
    rng = np.random.default_rng(0)
    radius = np.array([[0.7, 0.4], [0.3, 0.8]], np.float32)
    beta, sigma = rng.normal(size=(2, 2, 3)), rng.normal(size=(2, 2))
    found = _inner_first(Prediction(beta, radius, sigma))
    np.testing.assert_array_equal(found.radius, np.array([[0.4, 0.7], [0.3, 0.8]], np.float32))
    np.testing.assert_array_equal(found.beta, [beta[0][::-1], beta[1]])
    np.testing.assert_array_equal(found.sigma, [sigma[0][::-1], sigma[1]])
    alone = _inner_first(Prediction(beta, radius, None))
    assert alone.sigma is None
    unknown = Prediction(jnp.asarray(beta, jnp.float32), None, None)
    assert _inner_first(unknown) is unknown
