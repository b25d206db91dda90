"""Shuffles of membership that keep groups of samples together, and permutation p-values made of them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from mia_lightning.functional.groups import Codes, as_codes, count_groups
from mia_lightning.functional.roc import Floats, split_sides
from mia_lightning.functional.subsets import random_subsets

Bools = NDArray[np.bool_]

_LARGE = 5_000  # units from which a full set of permutations would take seconds
_SORTED = 5_000_000  # random keys that are sorted in all, where groups stand on both sides
_CHUNK = 1 << 17  # flags held at a time


class GroupShuffles:
    """Memberships that would be as likely as the observed one if scores knew nothing of it.

    Groups that stand on one side change sides as a whole, as many of them being members as are. Within a group that
    stands on both sides the members are drawn anew, as many as they are.

    Args:
        member: True for members, (N,).
        group: Group of each sample, (N,).
    """

    def __init__(self, member: ArrayLike, group: ArrayLike) -> None:
        self.sides = np.asarray(member, dtype=bool).ravel()
        self.codes: Codes = as_codes(group, self.sides.size)
        counts = count_groups(self.sides, self.codes)
        self.on_both = counts.on_both
        pure = np.flatnonzero(~self.on_both)
        self.chosen_count = int((counts.members[pure] > 0).sum())
        self.pure_count = pure.size
        place = np.full(counts.members.size, -1, dtype=np.intp)
        place[pure] = np.arange(pure.size)
        self.pure = place[self.codes]  # which pure group each sample is of; -1: of none
        mixed = np.flatnonzero(self.pure < 0)
        self.mixed = mixed[np.argsort(self.codes[mixed], kind="stable")]  # samples, group by group
        self.one_of = np.zeros(pure.size, dtype=np.intp)  # a sample of each pure group
        self.one_of[self.pure[self.pure >= 0]] = np.flatnonzero(self.pure >= 0)

    def groups(self, permutations: int, seed: int) -> Iterator[Bools]:
        """Draw which of the groups on one side are members, (rows, G), some rows at a time."""
        if 0 < self.chosen_count < self.pure_count:
            yield from random_subsets(self.pure_count, self.chosen_count, permutations, seed)
            return
        rows = max(1, _CHUNK // max(1, self.pure_count, self.mixed.size))
        for start in range(0, permutations, rows):
            yield np.full((min(rows, permutations - start), self.pure_count), self.chosen_count > 0)

    def within(self, rows: int, rng: np.random.Generator) -> Bools:
        """Draw the members among the samples of the groups on both sides, in the order of ``mixed``, (rows, M)."""
        codes, labels = self.codes[self.mixed], self.sides[self.mixed]
        drawn = np.empty((rows, codes.size), dtype=bool)
        order = np.argsort(codes + rng.random((rows, codes.size)), axis=1)
        np.put_along_axis(drawn, order, np.broadcast_to(labels, order.shape), axis=1)
        return drawn

    def samples(self, permutations: int, seed: int) -> Iterator[Bools]:
        """Draw memberships of the samples, (rows, N), some rows at a time."""
        rng = np.random.default_rng([seed, 1])
        for chosen in self.groups(permutations, seed):
            most = max(1, _CHUNK // self.sides.size)
            for start in range(0, len(chosen), most):
                part = chosen[start : start + most]
                labels = part[:, self.pure] if self.pure_count else np.zeros((len(part), self.sides.size), dtype=bool)
                if self.mixed.size:
                    labels[:, self.mixed] = self.within(len(part), rng)
                yield labels

    def normal_limit(self, values: Floats) -> tuple[float, Floats, Floats]:
        """Distribution of the members' sum of values, (N,), over all shuffles where these are many.

        Returns:
            Its mean, and what its variance is the sum of the squares of: what the groups on one side add to the
            deviation, (G,), and what the samples of the others do, in the order of ``mixed``, (M,).
        """
        mean, of_groups, of_samples = 0.0, np.zeros(self.pure_count), np.zeros(self.mixed.size)
        pure = self.pure >= 0
        if 0 < self.chosen_count < self.pure_count:
            share = self.chosen_count / self.pure_count
            sums = np.bincount(self.pure[pure], values[pure], minlength=self.pure_count)
            mean += share * float(sums.sum())
            scale = share * (1.0 - share) * self.pure_count / (self.pure_count - 1)
            of_groups = np.sqrt(scale) * (sums - sums.mean())
        else:
            mean += float(values[pure & self.sides].sum())
        if self.mixed.size:
            codes = as_codes(self.codes[self.mixed], self.mixed.size)
            size = np.bincount(codes)
            shares = np.bincount(codes, self.sides[self.mixed]) / size
            means = np.bincount(codes, values[self.mixed]) / size
            mean += float((shares * means * size).sum())
            scales = np.sqrt(shares * (1.0 - shares) * size / (size - 1))
            of_samples = scales[codes] * (values[self.mixed] - means[codes])
        return mean, of_groups, of_samples

    def affordable(self, permutations: int) -> int:
        """Fewer permutations where each takes long, but not below 999: fewer is coarser, never wrong."""
        most = max(999, _SORTED // self.mixed.size) if self.mixed.size else permutations
        return min(permutations, most)


def grouped_p_value(
    scores: ArrayLike, member: ArrayLike, group: ArrayLike, *, permutations: int = 9999, seed: int = 0
) -> float:
    """Chance of an area under the ROC as large if scores knew nothing of membership, groups staying together.

    See :class:`GroupShuffles`. From 5,000 groups on the normal limit of the same distribution takes its place.

    Args:
        scores: (N,) numbers, higher = more likely member.
        member: (N,) booleans, True for members.
        group: Group of each sample, (N,).
        permutations: Number of shuffles.
        seed: Seed of the shuffles.

    Returns:
        The one-sided p-value, in (0, 1].

    Raises:
        ValueError: If lengths do not fit, a side is empty, or there is no permutation.

    Example:
        >>> grouped_p_value(range(40), [i >= 20 for i in range(40)], [i // 4 for i in range(40)])
        0.0039
    """
    split_sides(scores, member)
    shuffles = GroupShuffles(member, group)
    ranks = rankdata(np.asarray(scores, dtype=np.float64).ravel())
    if shuffles.pure_count + shuffles.mixed.size > _LARGE:
        # Centred ranks order memberships as the area does, whatever the number of members.
        centred = ranks - ranks.mean()
        mean, *parts = shuffles.normal_limit(centred)
        variance = float(sum((part**2).sum() for part in parts))
        deviation = float(centred[shuffles.sides].sum()) - mean
        return float(norm.sf(deviation / np.sqrt(variance))) if variance > 1e-12 else 1.0
    permutations = shuffles.affordable(permutations)
    total, pure = ranks.size, shuffles.pure >= 0
    sums = np.bincount(shuffles.pure[pure], ranks[pure], minlength=shuffles.pure_count).astype(np.float64)
    sizes = np.bincount(shuffles.pure[pure], minlength=shuffles.pure_count).astype(np.float64)
    of_mixed, mixed_members = ranks[shuffles.mixed], int(shuffles.sides[shuffles.mixed].sum())

    def areas(rank_sums: Floats, members: Floats) -> Floats:
        return (rank_sums - members * (members + 1.0) / 2.0) / (members * (total - members))

    observed = areas(np.array([ranks[shuffles.sides].sum()]), np.array([float(shuffles.sides.sum())]))[0]
    least = observed - 1e-12 * abs(observed)  # equal areas of unequal sides differ by rounding
    rng, as_large = np.random.default_rng([seed, 1]), 0
    for chosen in shuffles.groups(permutations, seed):
        rank_sums = chosen @ sums
        if shuffles.mixed.size:
            rank_sums = rank_sums + shuffles.within(len(chosen), rng) @ of_mixed
        as_large += int((areas(rank_sums, chosen @ sizes + mixed_members) >= least).sum())
    return (1.0 + as_large) / (1.0 + permutations)
