"""Pictures with known shells from event files: single, paired, in groups; what is refused."""

import functools
import itertools

import h5py
import numpy as np
import pytest
import small

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
