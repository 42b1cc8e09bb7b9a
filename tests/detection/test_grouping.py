import numpy as np

from sevi_jax.detection.grouping import Pairs, colour, link, near_pairs, one_to_one, spread


def crowd(seed=0, n=200, frames=3, side=60):
    rng = np.random.default_rng(seed)
    return np.sort(rng.integers(0, frames, n)), rng.uniform(0, side, (n, 2))


def test_pairs_are_all_that_are_near():
    frame, places = crowd()
    frame = frame + frame  # a frame without spots between
    pairs = near_pairs(frame, places, 5.0)
    expected = {
        (i, j)
        for i in range(len(frame))
        for j in range(i + 1, len(frame))
        if frame[i] == frame[j] and np.abs(places[i] - places[j]).max() <= 5
    }
    assert len(expected) > 100
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected
    apart = np.linalg.norm(places[pairs.first] - places[pairs.second], axis=1)
    np.testing.assert_allclose(pairs.distance, apart)


def test_no_spots_have_no_pairs():
    pairs = near_pairs(np.zeros(0, int), np.zeros((0, 2)), 5.0)
    assert len(pairs.first) == 0
    assert len(link(np.zeros((0, 2)), pairs, pairs.distance, 4, 9.0)) == 0


def test_groups_stay_small_and_hang_together():
    frame, places = crowd()
    pairs = near_pairs(frame, places, 6.0)
    group = link(places, pairs, pairs.distance, most=5, extent=9.0)
    for name in np.unique(group):
        members = np.flatnonzero(group == name)
        assert name in members
        assert len(members) <= 5
        assert (np.ptp(places[members], axis=0) <= 9).all()
        assert len(np.unique(frame[members])) == 1
        reached, edges = {members[0]}, set(zip(*pairs[:2], strict=True))
        for _ in members:
            reached |= {j for i in list(reached) for j in members if {(i, j), (j, i)} & edges}
        assert reached == set(members)
    assert len(np.unique(group)) < 120


def test_pairs_that_come_first_are_joined():
    places = np.array([[0.0, 0], [1, 0], [2, 0]])
    pairs = Pairs(np.array([0, 1]), np.array([1, 2]), np.ones(2))
    for order, expected in (([0, 1], [True, False]), ([1, 0], [False, True])):
        group = link(places, pairs, np.array(order), most=2, extent=9.0)
        assert [group[0] == group[1], group[1] == group[2]] == expected


def test_neighbours_have_different_colours():
    frame, places = crowd(1)
    pairs = near_pairs(frame, places, 4.0)
    group = link(places, pairs, pairs.distance, most=3, extent=5.0)
    colours = colour(group, pairs)
    other = group[pairs.first] != group[pairs.second]
    assert other.any()
    assert (colours[pairs.first] != colours[pairs.second])[other].all()
    assert (colours[pairs.first] == colours[pairs.second])[~other].all()
    assert colours.max() < 8


def test_spread_takes_the_first_and_leaves_out_its_neighbours():
    centres = np.array([[0.0, 0], [3, 3], [0, 9], [4, 0], [3, 3]])
    frame = np.array([0, 0, 0, 0, 1])
    np.testing.assert_array_equal(spread(centres, frame, 3.5), [0, 2, 3, 4])


def test_sets_are_paired_one_to_one_nearest_first():
    # 0 and 1 want the same partner: the nearer one gets it, the other one the next, if it is near
    distance = np.array([[1.0, 3.0], [0.5, 2.0], [9.0, 9.0]])
    assert one_to_one(distance, 4.0).tolist() == [[1, 0], [0, 1]]
    assert one_to_one(distance, 3.0).tolist() == [[1, 0]]
    assert one_to_one(np.zeros((0, 3)), 1.0).shape == (0, 2)
