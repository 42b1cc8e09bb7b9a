"""Which spots overlap or belong together, and which are fitted together; knows only positions."""

from typing import NamedTuple

import numpy as np


class Pairs(NamedTuple):
    """Pairs of spots of the same frame.

    Attributes:
        first, second: numbers of the spots, ``[M]`` int; each pair once.
        distance: ``[M]`` float, unit of the positions.
    """

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray


def near_pairs(frame: np.ndarray, positions: np.ndarray, reach: float) -> Pairs:
    """Finds all pairs that are at most `reach` apart along either axis.

    Args:
        frame: frame of each spot, ``[N]`` int, ascending.
        positions: ``[N, 2]``.
        reach: same unit.
    """
    bounds = np.flatnonzero(np.diff(frame, prepend=-1, append=-1))
    first, second = [np.zeros(0, int)], [np.zeros(0, int)]
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        x, z = positions[start:stop].T
        near = (np.abs(x[:, None] - x) <= reach) & (np.abs(z[:, None] - z) <= reach)
        i, j = np.nonzero(np.triu(near, 1))
        first.append(i + start)
        second.append(j + start)
    i, j = np.concatenate(first), np.concatenate(second)
    return Pairs(i, j, np.hypot(*(positions[i] - positions[j]).T))


def one_to_one(distance: np.ndarray, reach: float) -> np.ndarray:
    """Pairs two sets, nearest first, as long as they are less than `reach` apart.

    Args:
        distance: between their members, ``[N, M]``.
        reach: same unit.

    Returns:
        Numbers in both sets, ``[pairs, 2]``; every number stands in one pair at most.
    """
    distance, pairs = np.array(distance), []
    while distance.size and distance.min() < reach:
        i, j = np.unravel_index(np.argmin(distance), distance.shape)
        pairs.append((i, j))
        distance[i], distance[:, j] = np.inf, np.inf
    return np.array(pairs, int).reshape(-1, 2)


def link(
    positions: np.ndarray, pairs: Pairs, order: np.ndarray, most: int, extent: float
) -> np.ndarray:
    """Joins pairs to groups, one pair after the other, while the groups stay small.

    Args:
        positions: ``[N, 2]``.
        pairs: pairs that may be joined.
        order: pairs with small numbers are joined first, ``[M]``.
        most: largest number of spots in a group.
        extent: largest extent of a group along either axis, unit of the positions.

    Returns:
        Group of each spot, ``[N]``: the number of one of its spots.
    """
    count = len(positions)
    group, members = list(range(count)), [[i] for i in range(count)]
    box = [(x, x, z, z) for x, z in positions.tolist()]
    sequence = np.argsort(order, kind="stable")
    first, second = pairs.first[sequence].tolist(), pairs.second[sequence].tolist()
    for i, j in zip(first, second, strict=True):
        a, b = group[i], group[j]
        if a == b or len(members[a]) + len(members[b]) > most:
            continue
        (x0, x1, z0, z1), (u0, u1, w0, w1) = box[a], box[b]
        joined = min(x0, u0), max(x1, u1), min(z0, w0), max(z1, w1)
        if joined[1] - joined[0] > extent or joined[3] - joined[2] > extent:
            continue
        for k in members[b]:
            group[k] = a
        members[a] += members[b]
        box[a] = joined
    return np.array(group, int)


def colour(group: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Gives groups that a pair connects different colours, few in all.

    Returns:
        Colour of each spot's group, ``[N]``, from 0.
    """
    neighbours: dict[int, set[int]] = {}
    for a, b in zip(group[pairs.first].tolist(), group[pairs.second].tolist(), strict=True):
        if a != b:
            neighbours.setdefault(a, set()).add(b)
            neighbours.setdefault(b, set()).add(a)
    colours: dict[int, int] = {}
    for a, others in neighbours.items():
        taken = {colours.get(other) for other in others}
        colours[a] = next(c for c in range(len(taken) + 1) if c not in taken)
    return np.array([colours.get(a, 0) for a in group.tolist()], int)


def spread(centres: np.ndarray, frame: np.ndarray, distance: float) -> np.ndarray:
    """Chooses from the first on, leaving out what lies near one chosen before.

    Args:
        centres: ``[N, 2]``, best first.
        frame: ``[N]``; only spots of one frame are near each other.
        distance: along both axes, unit of the centres.

    Returns:
        Numbers of the chosen, ascending.
    """
    chosen: list[int] = []
    by_frame: dict[int, list[tuple[float, float]]] = {}
    for i, (f, (x, z)) in enumerate(zip(frame.tolist(), centres.tolist(), strict=True)):
        known = by_frame.setdefault(f, [])
        if all(abs(x - u) > distance or abs(z - w) > distance for u, w in known):
            known.append((x, z))
            chosen.append(i)
    return np.array(chosen, int)
