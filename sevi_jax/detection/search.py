"""From bright places to electrons: how many spots there are, and where, on a batch of frames.

The spots of a frame are fitted in groups that overlap, one group after the other, each to what the
others leave of the frame (block Gauss-Seidel). Far from the solution most of the residual belongs
to spots that are still missing or misplaced elsewhere; so a group's noise is taken as large as its
last residual was, which leaves the shapes near their priors until the positions are right. Where a
good fit is not reached, a spot is split, added or taken away, if that lowers the objective by more
than a spot costs. Multi-emitter fitting of localisation microscopy works the same way (DAOSTORM:
Holden, Uphoff & Kapanidis, Nature Methods 8, 279, 2011), without priors of the shape.

The search runs on the host; all that is done per bin runs on the device in batches of fixed size.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sevi_jax.detection import grouping
from sevi_jax.detection.camera import BinnedFrames, draw_spots
from sevi_jax.detection.spots import (
    AMPLITUDE,
    PARAMS,
    Patches,
    SpotPrior,
    fit_spots,
    spot_values,
)

REACH = 11.5  # bins between two spots beyond which neither's fit sees the other
SPOT_BINS = 14  # side of the square on which a spot is drawn
LINK = 3.0  # s between spots that are fitted together if the group stays small
CONFLICT = 8.0  # bins between spots of groups that are not fitted at the same time
MOST, EXTENT = 12, 14.0  # spots and bins of a group
SPOT_COST = 30.0  # by how much another spot must lower the objective
GOOD = 1.3  # chi-square per bin of a good fit
DEAD = 0.2  # mean amplitudes below which a spot is dropped
DRAWN_AT_ONCE = 256


class Bucket(NamedTuple):
    """Groups of at most `spots` are fitted on patches of `bins`, `batch` at a time."""

    spots: int
    bins: int
    batch: int


BUCKETS = (
    Bucket(1, 12, 128),
    Bucket(2, 16, 64),
    Bucket(4, 16, 32),
    Bucket(8, 20, 16),
    Bucket(MOST, 24, 8),
)
PATCH_EDGE = 4.75  # bins of a patch around its spots


class Round(NamedTuple):
    """One pass over all spots.

    Attributes:
        noise: of the noise that the last residual suggests, the part that is taken.
        tightness: factor of the priors' standard deviations.
        iterations: of the fit of a group.
        trials: size of the groups that are changed afterwards: a spot is split, added or taken
            away; None for no change.
    """

    noise: float
    tightness: float
    iterations: int
    trials: Bucket | None


SMALL, MIDDLE, LARGE = Bucket(3, 12, 64), Bucket(4, 14, 64), Bucket(8, 20, 16)
ROUNDS = (
    *(Round(3.0, 0.3, 3, SMALL),) * 2,
    Round(3.0, 1.0, 3, MIDDLE),
    Round(1.0, 1.0, 3, MIDDLE),
    # Noise up and down again: what hangs in a wrong minimum comes loose.
    *(Round(3.0, 1.0, 3, LARGE), Round(1.0, 1.0, 3, LARGE)) * 3,
    Round(1.0, 1.0, 3, LARGE),
    Round(1.0, 1.0, 6, None),
)
MOVED, SHIFTED = 0.05, 0.2  # bins, and sd of the prior, that neighbours do not feel
TRIAL_ITERATIONS = 8
SHAKE = 0.25  # s: by how much the spots of a large group are moved
TRIAL_EDGE = 2.5  # bins of a patch around the middles of the spots that are changed
FIRST_NOISE = 3e3  # chi-square per bin where nothing is known yet
LARGEST_NOISE = 1e4


class Groups(NamedTuple):
    """Groups of spots, n of them, that are fitted on a patch each.

    Attributes:
        frame: where each lies, ``[n]``.
        middle: of its patch, bins, ``[n, 2]``.
        spots: as they are drawn now, ``[n, K, 5]``.
        mask: which entries are spots, ``[n, K]``.
        noise: inflation of the variance, ``[n]``.
    """

    frame: np.ndarray
    middle: np.ndarray
    spots: np.ndarray
    mask: np.ndarray
    noise: np.ndarray


class _Batch(NamedTuple):
    """What `_fit_patches` is given of B groups: as `Groups`, and from where the fit starts."""

    frame: np.ndarray
    corner: np.ndarray
    spots: np.ndarray
    mask: np.ndarray
    noise: np.ndarray
    start: np.ndarray
    start_mask: np.ndarray


@dataclasses.dataclass
class Spots:
    """All spots of a batch of frames, in the order of the frames; arrays ``[N]``.

    Attributes:
        frame: the frame of each, int32.
        params: ``[N, 5]`` float32, in bins from the corner of the padded frame.
        noise: chi-square per bin that the last fit left around it, float64.
        changed: step at which it last moved, int.
        fitted: step at which it was last fitted without inflated noise; -1 for never.
    """

    frame: np.ndarray
    params: np.ndarray
    noise: np.ndarray
    changed: np.ndarray
    fitted: np.ndarray

    @classmethod
    def new(cls, frame: np.ndarray, params: np.ndarray, noise: float, step: int) -> "Spots":
        """Spots that were not fitted yet."""
        count = len(frame)
        return cls(
            frame.astype(np.int32),
            params.astype(np.float32),
            np.full(count, noise),
            np.full(count, step),
            np.full(count, -1),
        )

    def take(self, index: np.ndarray) -> "Spots":
        """The spots of an index array or mask."""
        return Spots(*(value[index] for value in vars(self).values()))

    def joined(self, other: "Spots") -> "Spots":
        """Both, in the order of the frames."""
        both = [
            np.concatenate([mine, theirs])
            for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)
        ]
        order = np.argsort(both[0], kind="stable")
        return Spots(*(value[order] for value in both))


class Search:
    """The search on one batch of frames.

    Args:
        frames: the batch.
        frame: frame of each first candidate, ``[N]`` ascending.
        positions: of the candidates, ``[N, 2]``, in bins from the corner of the padded frames.
        prior: of the shapes.
        bin_pixels: pixels along each side of a bin.
    """

    def __init__(
        self,
        frames: BinnedFrames,
        frame: np.ndarray,
        positions: np.ndarray,
        prior: SpotPrior,
        bin_pixels: int,
    ):
        self._frames, self._bin_pixels = frames, bin_pixels
        self._prior = SpotPrior(*(np.asarray(value) for value in prior))
        self._random = np.random.default_rng(0)  # of the order of linking
        self._step = 0
        shape = np.broadcast_to(self._prior.mean, (len(frame), 3))
        params = np.concatenate([positions, shape], axis=1)
        self.spots = Spots.new(frame, params, FIRST_NOISE, self._step)
        self._model = jnp.zeros_like(frames.grey)
        self._draw(self.spots.frame, self.spots.params, 1.0)

    def run(self) -> Spots:
        """Goes through all rounds; returns the spots that are left."""
        for plan in ROUNDS:
            self.refine(plan)
            if plan.trials:
                self._restructure(plan, plan.trials)
            self._drop(self.spots.params[:, AMPLITUDE] < DEAD * self._prior.mean[0])
        return self.spots

    def refine(self, plan: Round) -> None:
        """Fits every spot near which something has changed since its last fit."""
        self._step += 1
        spots = self.spots
        pairs = grouping.near_pairs(spots.frame, spots.params[:, :2], REACH)
        newest = spots.changed.copy()
        np.maximum.at(newest, pairs.first, spots.changed[pairs.second])
        np.maximum.at(newest, pairs.second, spots.changed[pairs.first])
        active = newest >= spots.fitted
        if not active.any():
            return
        alone = np.ones(len(active), bool)
        alone[pairs.first] = alone[pairs.second] = False
        both = active[pairs.first] & active[pairs.second]
        pairs = grouping.Pairs(*(value[both] for value in pairs))
        linked = pairs.distance < LINK * self._prior.mean[1]
        linked = grouping.Pairs(*(value[linked] for value in pairs))
        # Other groups each time, so that no two neighbours are always fitted apart.
        order = linked.distance * self._random.uniform(0.5, 1.5, len(linked.distance))
        group = grouping.link(spots.params[:, :2], linked, order, MOST, EXTENT)
        touching = pairs.distance < CONFLICT
        colours = grouping.colour(group, grouping.Pairs(*(value[touching] for value in pairs)))
        noise = np.where(alone, 1.0, self._inflated(plan, spots.noise))
        for colour in range(colours.max() + 1):
            self._fit_groups(group, active & (colours == colour), noise, plan)

    def _inflated(self, plan: Round, noise: np.ndarray) -> np.ndarray:
        return np.clip(plan.noise * noise, 1.0, LARGEST_NOISE)

    def _fit_groups(
        self, group: np.ndarray, chosen: np.ndarray, noise: np.ndarray, plan: Round
    ) -> None:
        """Fits the groups of the chosen spots and takes the results."""
        index = np.flatnonzero(chosen)
        if not len(index):
            return
        index = index[np.argsort(group[index], kind="stable")]
        starts = np.flatnonzero(np.diff(group[index], prepend=-1))
        counts = np.diff(starts, append=len(index))
        places = self.spots.params[index, :2]
        low = np.minimum.reduceat(places, starts)
        high = np.maximum.reduceat(places, starts)
        largest = np.maximum.reduceat(noise[index], starts)
        extent = (high - low).max(axis=1) + 2 * PATCH_EDGE
        sizes = np.array([[bucket.spots, bucket.bins] for bucket in BUCKETS])
        fits = (counts[:, None] <= sizes[:, 0]) & (
            (extent[:, None] <= sizes[:, 1]) | (counts[:, None] == 1)
        )
        kind = np.where(fits.any(axis=1), fits.argmax(axis=1), len(BUCKETS) - 1)
        old = self.spots.params.copy()
        for number, bucket in enumerate(BUCKETS):
            which = np.flatnonzero(kind == number)
            if not len(which):
                continue
            slots = starts[which, None] + np.arange(bucket.spots)
            mask = np.arange(bucket.spots) < counts[which, None]
            members = np.where(mask, index[np.minimum(slots, len(index) - 1)], -1)
            frame = self.spots.frame[index[starts[which]]]
            middle = (low[which] + high[which]) / 2
            groups = Groups(frame, middle, old[members], mask, largest[which])
            fitted, _, left = self._fit(
                bucket, groups, groups.spots, mask, plan.tightness, plan.iterations
            )
            self._take(members[mask], fitted[mask], left, mask, largest[which])
        self._draw(self.spots.frame[index], old[index], -1.0)
        self._draw(self.spots.frame[index], self.spots.params[index], 1.0)

    def _take(
        self,
        members: np.ndarray,
        fitted: np.ndarray,
        left: np.ndarray,
        mask: np.ndarray,
        noise: np.ndarray,
    ) -> None:
        """Replaces the parameters of `members`, and notes whether they moved."""
        spots = self.spots
        tolerance = np.concatenate([[MOVED, MOVED], self._prior.sd * SHIFTED])
        moved = (np.abs(fitted - spots.params[members]) > tolerance).any(axis=1)
        spots.params[members] = fitted
        spots.noise[members] = np.broadcast_to(left[:, None, 3], mask.shape)[mask]
        spots.changed[members[moved]] = self._step
        is_final = np.broadcast_to(noise[:, None] < 2.0, mask.shape)[mask]
        spots.fitted[members] = np.where(is_final, self._step, -1)

    def _restructure(self, plan: Round, bucket: Bucket) -> None:
        """Splits, adds or takes away a spot wherever that lowers the objective enough."""
        spots = self.spots
        deviation = (((spots.params[:, 2:] - self._prior.mean) / self._prior.sd) ** 2).sum(axis=1)
        bad = np.flatnonzero((spots.noise > GOOD) | (deviation > 30))
        if not len(bad):
            return
        bad = bad[np.argsort(-deviation[bad], kind="stable")]
        seeds = bad[grouping.spread(spots.params[bad, :2], spots.frame[bad], float(bucket.bins))]
        members = self._with_nearest(seeds, bucket)
        mask = members >= 0
        groups = Groups(
            spots.frame[seeds],
            spots.params[seeds, :2],
            spots.params[members],
            mask,
            self._inflated(plan, spots.noise[seeds]),
        )
        best, value, left = self._fit(
            bucket, groups, groups.spots, mask, plan.tightness, plan.iterations
        )
        best_mask, cost = mask.copy(), value + SPOT_COST * mask.sum(axis=1)
        which, trials, trial_masks = self._trials(best, mask, value, left)
        if len(which):
            tried, value, _ = self._fit(
                bucket,
                Groups(*(part[which] for part in groups)),
                trials,
                trial_masks,
                plan.tightness,
                TRIAL_ITERATIONS,
            )
            value = value + SPOT_COST * trial_masks.sum(axis=1)
            order = np.lexsort((value, which))
            first = order[np.diff(which[order], prepend=-1) > 0]
            first = first[value[first] < cost[which[first]]]
            best[which[first]], best_mask[which[first]] = tried[first], trial_masks[first]
        self._replace(members, mask, best, best_mask, groups.frame, spots.noise[seeds])

    def _with_nearest(self, seeds: np.ndarray, bucket: Bucket) -> np.ndarray:
        """Each seed and the spots nearest to it, ``[n, K]``; -1 for none, one at least."""
        frame, places = self.spots.frame, self.spots.params[:, :2]
        first = np.searchsorted(frame, frame[seeds])
        count = np.searchsorted(frame, frame[seeds], side="right") - first
        other = np.arange(count.max())
        index = np.minimum(first[:, None] + other, len(frame) - 1)
        distance = np.abs(places[index] - places[seeds, None]).max(axis=2)
        distance[other >= count[:, None]] = np.inf
        nearest = np.argsort(distance, axis=1, kind="stable")[:, : bucket.spots - 1]
        near = np.take_along_axis(distance, nearest, axis=1) < bucket.bins / 2 - TRIAL_EDGE
        members = np.full((len(seeds), bucket.spots), -1)
        members[:, : nearest.shape[1]] = np.where(near, first[:, None] + nearest, -1)
        return members

    def _trials(
        self, spots: np.ndarray, mask: np.ndarray, value: np.ndarray, left: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Other configurations for each place: its number, the spots and their mask.

        `value` is the objective as it is, `left` what `_fit_patches` says of the residual.
        """
        mean = self._prior.mean
        rows, trials, masks = [np.zeros(0, int)], [np.zeros((0, *spots.shape[1:]))], [mask[:0]]

        def add(which, trial, trial_mask):
            rows.append(which)
            trials.append(trial)
            masks.append(trial_mask)

        amplitude = np.where(mask, spots[..., AMPLITUDE] / mean[0], np.nan)
        every = np.arange(len(spots))
        count = mask.sum(axis=1)
        brightest = np.nanargmax(amplitude, axis=1)
        pays = value > SPOT_COST  # another spot cannot lower the objective below 0
        split = np.flatnonzero(pays & (amplitude[every, brightest] > 1.15))
        # Large groups are tried again and again: something else each time.
        large = spots.shape[1] == LARGE.spots
        angles = self._random.uniform(0, np.pi, 1) if large else np.pi / 3 * np.arange(3)
        for angle in angles:
            half = 0.4 * mean[1] * np.array([np.cos(angle), np.sin(angle)])
            trial, trial_mask = spots[split].copy(), mask[split].copy()
            row, one, other = np.arange(len(split)), brightest[split], count[split]
            trial[row, one, AMPLITUDE] /= 2
            trial[row, one, AMPLITUDE + 1 :] = mean[1:]
            trial[row, other] = trial[row, one]
            trial[row, one, :2] += half
            trial[row, other, :2] -= half
            trial_mask[row, other] = True
            add(split, trial, trial_mask)
        light = np.flatnonzero(pays & (left[:, 2] > 0.3))
        trial, trial_mask = spots[light].copy(), mask[light].copy()
        row = np.arange(len(light))
        trial[row, count[light]] = np.concatenate(
            [left[light, :2], np.broadcast_to(mean, (len(light), 3))], axis=1
        )
        trial_mask[row, count[light]] = True
        add(light, trial, trial_mask)
        several = np.flatnonzero(count > 2)
        trial = spots[several].copy()
        if large:
            trial[..., :2] += self._random.normal(0, SHAKE * mean[1], trial[..., :2].shape)
        else:  # the mirror image of a triangle is another minimum
            places = np.where(mask[several, :, None], trial[..., :2], np.nan)
            trial[..., :2] = 2 * np.nanmean(places, axis=1, keepdims=True) - trial[..., :2]
        trial[..., AMPLITUDE:] = mean
        add(several, trial, mask[several])
        weakest = np.nanargmin(amplitude, axis=1)
        weak = np.flatnonzero((amplitude[every, weakest] < 0.8) & (count > 1))
        trial_mask = mask[weak].copy()
        trial_mask[np.arange(len(weak)), weakest[weak]] = False
        add(weak, spots[weak], trial_mask)
        return np.concatenate(rows), np.concatenate(trials), np.concatenate(masks)

    def _replace(self, members, mask, fitted, fitted_mask, frame, noise) -> None:
        """Puts fitted spots in the place of `members`; their number may differ."""
        same = (mask == fitted_mask).all(axis=1)
        rest = ~same
        spots = self.spots
        gone = members[mask]
        self._draw(spots.frame[gone], spots.params[gone], -1.0)
        index, values = members[same][mask[same]], fitted[same][mask[same]]
        spots.params[index] = values
        spots.changed[index] = self._step + 1
        dropped = np.zeros(len(spots.frame), bool)
        dropped[members[rest][mask[rest]]] = True
        each = np.broadcast_to(np.arange(len(frame))[:, None], fitted_mask.shape)
        each = each[rest][fitted_mask[rest]]
        new = Spots.new(frame[each], fitted[rest][fitted_mask[rest]], 1.0, self._step + 1)
        new.noise = noise[each].copy()
        self._draw(spots.frame[index], spots.params[index], 1.0)
        self._draw(new.frame, new.params, 1.0)
        self.spots = spots.take(~dropped).joined(new)

    def _drop(self, dropped: np.ndarray) -> None:
        """Takes spots away."""
        if dropped.any():
            self._draw(self.spots.frame[dropped], self.spots.params[dropped], -1.0)
            self.spots = self.spots.take(~dropped)

    def _fit(
        self,
        bucket: Bucket,
        groups: Groups,
        start: np.ndarray,
        mask: np.ndarray,
        tightness: float,
        iterations: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fits groups in batches of fixed size.

        Args:
            bucket: size of the batches.
            groups: n of them.
            start: the spots that are fitted instead of theirs, ``[n, K, 5]``.
            mask: which entries of `start` are spots, ``[n, K]``.
            tightness: of the prior.
            iterations: of the fit.

        Returns:
            The spots, ``[n, K, 5]``, the objective, ``[n]``, and what `_fit_patches` says of the
            residual, its place counted in the frame, ``[n, 4]``.
        """
        largest = self._frames.grey.shape[1] - bucket.bins
        corner = np.clip(np.rint(groups.middle - bucket.bins / 2), 0, largest).astype(np.int32)
        filler = np.array([0, 0, *self._prior.mean], np.float32)
        every = _Batch(
            groups.frame,
            corner,
            np.where(groups.mask[..., None], groups.spots, filler).astype(np.float32),
            groups.mask,
            groups.noise.astype(np.float32),
            np.where(mask[..., None], start, filler).astype(np.float32),
            mask,
        )
        prior = SpotPrior(self._prior.mean, self._prior.sd * np.float32(tightness))
        results = []
        for first in range(0, len(corner), bucket.batch):
            # the last group fills the last batch up
            rows = np.minimum(np.arange(first, first + bucket.batch), len(corner) - 1)
            part = _Batch(*(x[rows] for x in every))
            results.append(
                _fit_patches(
                    self._frames,
                    self._model,
                    part,
                    prior,
                    np.int32(iterations),
                    bucket.bins,
                    self._bin_pixels,
                )
            )
        spots, value, left = (
            np.concatenate(parts)[: len(corner)]
            for parts in zip(*jax.device_get(results), strict=True)
        )
        left[:, :2] += corner + 0.5
        return spots, value, left

    def _draw(self, frame: np.ndarray, params: np.ndarray, sign: float) -> None:
        """Adds spots to the model of the frames, or takes them away."""
        for first in range(0, len(frame), DRAWN_AT_ONCE):
            rows = slice(first, first + DRAWN_AT_ONCE)
            count = len(frame[rows])
            frames = np.zeros(DRAWN_AT_ONCE, np.int32)
            spots = np.ones((DRAWN_AT_ONCE, PARAMS), np.float32)
            signs = np.zeros(DRAWN_AT_ONCE, np.float32)
            frames[:count], spots[:count], signs[:count] = frame[rows], params[rows], sign
            self._model = draw_spots(self._model, frames, spots, signs, SPOT_BINS, self._bin_pixels)


@functools.partial(jax.jit, static_argnames=("bins", "bin_pixels"))
def _fit_patches(
    frames: BinnedFrames,
    model: jax.Array,
    batch: _Batch,
    prior: SpotPrior,
    iterations: jax.Array | np.int32,
    bins: int,
    bin_pixels: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Fits spots to patches of frames less the model of all other spots.

    Returns:
        The spots; the objective; bin, bin and grey level of the brightest residual, and chi-square
        per bin with the variance not inflated, ``[B, 4]``.
    """
    corner = jnp.asarray(batch.corner)

    def cut(array):
        return jax.vmap(
            lambda f, c: jax.lax.dynamic_slice(array, (f, c[0], c[1]), (1, bins, bins)).reshape(-1)
        )(batch.frame, corner)

    mine = spot_values(jnp.asarray(batch.spots), corner[:, None], bins, bin_pixels)
    mine = jnp.where(batch.mask[..., None], mine, 0.0).sum(axis=1)
    weight = cut(frames.weight) / batch.noise[:, None]
    patches = Patches(corner, cut(frames.grey) - cut(model) + mine, weight, cut(frames.saturated))
    spots, chi_square, penalty, left = fit_spots(
        patches, batch.start, batch.start_mask, prior, iterations, bin_pixels
    )
    per_bin = chi_square * batch.noise / bins**2
    return spots, chi_square + penalty, jnp.concatenate([left, per_bin[:, None]], axis=1)
