"""Pictures with known shells from event files: single, paired, in groups; what is refused."""

import functools
import itertools

import h5py
import numpy as np
import pytest
import small

from sevi_jax.data.writers import ImageSetWriter
from sevi_jax.errors import InputError
from sevi_jax.results import cases

IDS = np.array([7, 3, 12, 0, 5])
RADIUS = np.array([0.5, 0.8, 0.3, 0.6, 0.4])
BETA = np.random.default_rng(0).normal(size=(5, 14))
POSITIONS = [np.random.default_rng(i).uniform(-1, 1, (200 + i, 2)) for i in range(5)]
PLACE = {identity: place for place, identity in enumerate(IDS.tolist())}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    path = tmp_path_factory.mktemp("cases") / "train10.h5"
    return small.write_distributions(path, RADIUS, BETA, POSITIONS, IDS)


def read(path, shells, pairs=256, seed=0):
    """All cases of a file put together: ids, counts, radius, beta."""
    parts = list(cases.read_cases(path, shells, 32, pairs=pairs, seed=seed, progress=False))
    assert all(part.file == path for part in parts)
    return [
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("ids", "counts", "radius", "beta")
    ]


def assert_true_to_the_file(ids, counts, radius, beta):
    for case in range(len(ids)):
        places = [PLACE[identity] for identity in ids[case].tolist()]
        np.testing.assert_array_equal(radius[case], RADIUS[places])
        np.testing.assert_array_equal(beta[case], BETA[places])
        expected = sum(small.histogram(POSITIONS[place]) for place in places)
        np.testing.assert_array_equal(counts[case], expected)


def test_one_shell_takes_each_distribution(distributions):
    ids, *rest = read(distributions, 1)
    assert ids.tolist() == IDS[:, None].tolist()
    assert_true_to_the_file(ids, *rest)


def test_two_shells_take_every_pair_inner_first(distributions):
    ids, counts, radius, beta = read(distributions, 2)
    pairs = {frozenset(pair) for pair in itertools.combinations(IDS.tolist(), 2)}
    assert len(ids) == len(pairs) == 10
    assert {frozenset(pair) for pair in ids.tolist()} == pairs
    assert (radius[:, 0] < radius[:, 1]).all()
    assert_true_to_the_file(ids, counts, radius, beta)


def test_choice_of_pairs_is_the_seeds(distributions):
    chosen = [read(distributions, 2, pairs=4, seed=seed)[0].tolist() for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    for ids in chosen:
        assert len({frozenset(pair) for pair in ids}) == 4
        assert all(len(set(pair)) == 2 for pair in ids)


def test_large_file_gives_pairs_within_each_group(distributions, monkeypatch):
    # room for four pictures: two are counted at a time, since the last group is still held
    limited = functools.partial(cases.count_electrons, memory_limit=4 * 4 * 32 * 32)
    monkeypatch.setattr(cases, "count_electrons", limited)
    ids, counts, radius, beta = read(distributions, 2)
    groups = [{7, 3}, {12, 0}, {5}]
    assert [set(pair) for pair in ids.tolist()] == groups[:2]
    assert_true_to_the_file(ids, counts, radius, beta)
    single = read(distributions, 1)
    assert single[0].tolist() == IDS[:, None].tolist()
    assert_true_to_the_file(*single)


def test_more_pairs_than_are_put_together_at_a_time(distributions, monkeypatch):
    whole = read(distributions, 2)
    monkeypatch.setattr(cases, "_AT_ONCE", 3)
    parts = list(cases.read_cases(distributions, 2, 32, pairs=256, seed=0, progress=False))
    assert [len(part.ids) for part in parts] == [3, 3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([part.counts for part in parts]), whole[1])


@pytest.mark.parametrize("number", [2, 3, 40])
def test_chosen_pairs_are_of_different_things_and_none_comes_twice(number):
    every = number * (number - 1) // 2
    for most in (1, every // 2 + 1, every, 10_000):
        pairs = cases.choose_pairs(number, most, seed=0)
        assert pairs.shape == (min(most, every), 2)
        assert len(np.unique(np.sort(pairs, axis=1), axis=0)) == len(pairs)
        assert (pairs[:, 0] != pairs[:, 1]).all()
        assert pairs.min() >= 0
        assert pairs.max() < number


def test_every_pair_is_chosen_as_often():
    # 4 of 10 pairs, 2000 seeds: each pair 800 times, standard deviation 22; false alarm 6e-6
    times = np.zeros((5, 5))
    for seed in range(2000):
        first, second = cases.choose_pairs(5, 4, seed).T
        times[first, second] += 1
    assert np.abs(times[np.triu_indices(5, 1)] - 800).max() < 5 * 22


def test_file_of_a_pair_is_one_picture_inner_shell_first(tmp_path):
    positions = np.concatenate(POSITIONS[:2])
    path = small.write_pair(tmp_path / "train0.h5", RADIUS[[1, 0]], BETA[[1, 0]], positions)
    ids, counts, radius, beta = read(path, 2)
    assert ids.tolist() == [[1, 0]]  # sphere 1 is the inner one in this file
    np.testing.assert_array_equal(radius, [RADIUS[[0, 1]]])
    np.testing.assert_array_equal(beta, [BETA[[0, 1]]])
    np.testing.assert_array_equal(counts, small.histogram(positions)[None])


def test_files_that_do_not_fit_the_network_are_refused(distributions, tmp_path):
    pair = small.write_pair(tmp_path / "train0.h5", RADIUS[:2], BETA[:2], POSITIONS[0])
    with pytest.raises(InputError, match=r"train0\.h5: table Truth has 2 shells, expected 1"):
        read(pair, 1)
    one = small.write_pair(tmp_path / "one.h5", RADIUS[:1], BETA[:1], POSITIONS[0])
    with pytest.raises(InputError, match=r"one\.h5: table Truth has 1 shells, expected 2"):
        read(one, 2)
    lonely = small.write_distributions(tmp_path / "lonely.h5", RADIUS[:1], BETA[:1], POSITIONS[:1])
    with pytest.raises(InputError, match=r"lonely\.h5: .* has 1 row, expected 2 to pair"):
        read(lonely, 2)
    assert len(read(lonely, 1)[0]) == 1


def test_file_without_truth_is_refused(tmp_path):
    path = tmp_path / "electrons.h5"
    small.write_pair(path, RADIUS[:2], BETA[:2], POSITIONS[0])
    with h5py.File(path, "a") as file:
        del file["Truth"]
    with pytest.raises(InputError, match=r"electrons\.h5: no truth to compare with"):
        read(path, 2)


def image_set(path, radius=((0.7, 0.4), (0.3, 0.6), (0.5, 0.8)), size=64, **changes):
    """Three pictures of two shells, not sorted by radius, nor by number; by h5py alone."""
    rng = np.random.default_rng(3)
    radius = np.array(radius)
    pictures, shells = radius.shape
    columns = {
        "ImageId": np.repeat(np.arange(pictures, dtype="i4")[::-1], shells),
        "ShellId": np.tile(np.arange(shells, dtype="u1"), pictures),
        "R": radius[::-1].ravel(),
        "sigma_R": 0.01 * radius[::-1].ravel(),
        "electrons": rng.integers(100, 200, radius.size),
        "beta": radius[::-1].ravel()[:, None] * np.arange(1, 15),
    } | changes
    with h5py.File(path, "w") as file:
        file["images"] = rng.poisson(2.0, (pictures, size, size)).astype("u4")
        file["Shells"] = small.rows(**columns)
    return path


def test_image_set_gives_its_pictures_with_their_shells_inner_first(tmp_path):
    path = image_set(tmp_path / "images.h5")
    ids, counts, radius, beta = read(path, 2)
    assert ids.tolist() == [[0, 0], [1, 1], [2, 2]]
    np.testing.assert_allclose(radius, [[0.4, 0.7], [0.3, 0.6], [0.5, 0.8]])
    np.testing.assert_allclose(beta, radius[..., None] * np.arange(1, 15))
    with h5py.File(path) as file:
        images = file["images"][:]
    # a network for 32 pixels sees blocks of 2 x 2
    np.testing.assert_array_equal(counts, images.reshape(3, 32, 2, 32, 2).sum(axis=(2, 4)))


def test_image_set_that_was_written_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    radius = np.sort(rng.uniform(0.3, 0.9, (5, 2)), axis=1)
    shells = radius, rng.uniform(0.005, 0.009, (5, 2)), rng.integers(1, 9, (5, 2))
    counts, beta = rng.poisson(1.0, (5, 32, 32)), rng.normal(size=(5, 2, 3))
    with ImageSetWriter(tmp_path / "a.h5", orders=3) as writer:
        writer.add(counts, *shells, beta)
    (part,) = cases.read_cases(tmp_path / "a.h5", 2, 32, pairs=1, seed=0)
    found = (part.counts, part.radius, part.sigma, part.electrons, part.beta)
    for one, other in zip(found, (counts, *shells, beta), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("changes", "shells", "message"),
    [
        ({}, 1, "table Shells has 2 shells a picture, expected 1 as the network of this run"),
        ({"ImageId": np.array([0, 0, 1, 1, 3, 3], "i4")}, 2, "field ImageId: found 6 rows with Im"),
        ({"ImageId": np.array([0, 0, 0, 1, 2, 2], "i4")}, 2, "as many rows for each of the 3 pict"),
        ({"R": [0.1, 0.2, 0.3, np.nan, 0.4, 0.5]}, 2, "field R: found a value that is not finite"),
        ({"size": 48}, 2, "found 48 x 48 pixels, expected a multiple of 32 x 32"),
    ],
)
def test_image_set_that_does_not_fit_is_refused(tmp_path, changes, shells, message):
    path = image_set(tmp_path / "images.h5", **changes)
    with pytest.raises(InputError) as error:
        read(path, shells)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_image_set_without_shells_and_plain_pictures_have_no_truth(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = np.ones((2, 32, 32))
    np.save(tmp_path / "b.npy", np.ones((32, 32)))
    for name in ("a.h5", "b.npy"):
        with pytest.raises(InputError, match=f"{name}: no truth to compare with"):
            read(tmp_path / name, 2)
