"""One set of shuffles of membership for all looks at a training, which need not be kept.

Each shuffle belongs to a key for every sample, or group, that is computed from its name or place: shuffle 7 makes the
same of it at each look, in each process and after a resume, whoever else is left out.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from mia_lightning.functional.group_shuffles import Bools, GroupShuffles
from mia_lightning.functional.groups import Codes, as_codes
from mia_lightning.functional.p_values import highest, surprise_of_hits
from mia_lightning.functional.roc import Floats

SHUFFLES = 1999
"""Shuffles beside the observed membership."""

MOST_UNITS = 2048
"""Groups (samples, without groups) up to which they are shuffled; beyond, the normal limit takes their place."""

_BUCKETS = 1024  # coordinates that the random signs of any number of units are drawn for
_COST_WITHIN = 8  # of shuffling a sample within a group, compared with a whole group
_ROWS = 128  # shuffles that are worked on at a time

Keys = NDArray[np.uint64]
"""A number for each sample, (N,), that stays the same at all looks and is as good as random."""


class UnitKeys(NamedTuple):
    """Keys of the samples and of their groups, (N,) each; without groups they are the same."""

    samples: Keys
    groups: Keys


def unit_keys(
    member: NDArray[np.bool_],
    position: NDArray[np.int64],
    groups: Sequence[str | None] | None = None,
    ids: Sequence[str] | None = None,
) -> UnitKeys:
    """Make the keys of samples from their side and id (or place in its data set), those of groups from their names.

    All are (N,); a sample without a group is one of its own.

    Example:
        >>> keys = unit_keys(np.array([True, False]), np.array([0, 0]), ["anna", ""])
        >>> bool(keys.samples[1] == keys.groups[1]), bool(keys.samples[0] == keys.groups[0])
        (True, False)
    """
    own = position.astype(np.uint64) if ids is None else np.array([_checksum(name) for name in ids], dtype=np.uint64)
    samples = _mixed(np.uint64(2) * own + member.astype(np.uint64))
    if groups is None:
        return UnitKeys(samples, samples)
    known = {name: _checksum(name) for name in set(groups) if name}
    of_groups = _mixed(np.array([known.get(name or "", 0) for name in groups], dtype=np.uint64))
    return UnitKeys(samples, np.where([bool(name) for name in groups], of_groups, samples))


class LookShuffles:
    """The shuffles of one look's samples.

    Args:
        member: True for members, (N,).
        group: Number of each sample's group, (N,); None: each sample is one of its own.
        keys: Their keys.
        seed: Seed of the shuffles.
    """

    def __init__(self, member: NDArray[np.bool_], group: Codes | None, keys: UnitKeys, seed: int) -> None:
        codes = np.arange(member.size) if group is None else as_codes(group, member.size)
        self._of = GroupShuffles(member, codes)
        self._keys, self._seed = keys, seed
        self._drawn: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None  # who is a member, in bits
        self._factors: NDArray[np.float32] | None = None  # of the coordinates, for bands
        self._codes = codes
        self._large = self._of.pure_count + _COST_WITHIN * self._of.mixed.size > MOST_UNITS

    def fits(self, member: NDArray[np.bool_], group: Codes | None, keys: UnitKeys, seed: int) -> bool:
        """Whether these are the shuffles of such samples."""
        codes = np.arange(member.size) if group is None else group
        return (
            seed == self._seed
            and np.array_equal(member, self._of.sides)
            and np.array_equal(codes, self._codes)
            and np.array_equal(keys.samples, self._keys.samples)
            and np.array_equal(keys.groups, self._keys.groups)
        )

    def areas(self, scores: Sequence[Floats]) -> Floats:
        """How much members outscore nonmembers in standard deviations: as observed, then by each shuffle.

        Each column, (1 + SHUFFLES), is of one of the scores, (N,).
        """
        ranks = [rankdata(score) for score in scores]
        columns = self._limits(ranks) if self._large else self._areas(ranks)
        scale = columns.std(axis=0)
        return np.asarray((columns - columns.mean(axis=0)) / np.where(scale > 0.0, scale, 1.0), dtype=np.float64)

    def exposures(self, scores: Sequence[Floats]) -> Floats:
        """How many of the highest scores are members', as observed and by each shuffle, (1 + SHUFFLES, scores).

        The statistic is that of :func:`~mia_lightning.functional.p_values.exposed_p_value`.
        """
        share, columns = float(self._of.sides.mean()), []
        for score in scores:
            top, last_of_tie = highest(score)
            hits = np.cumsum(np.concatenate([self._of.sides[None, top], self._labels(top)]), axis=1)
            found = np.zeros(len(hits))
            for place in np.flatnonzero(last_of_tie).tolist():
                np.maximum(found, surprise_of_hits(place + 1, share)[hits[:, place]], out=found)
            columns.append(found)
        return np.stack(columns, axis=1)

    def _labels(self, rows: NDArray[np.intp]) -> Bools:
        """Membership of some samples by each shuffle, (SHUFFLES, rows); of many, each unit's is a coin of its own."""
        of = self._of
        pure = of.pure[rows]
        if not self._large:
            place = np.full(of.sides.size, -1, dtype=np.intp)
            place[of.mixed] = np.arange(of.mixed.size)
            groups, samples = self._memberships()
            labels = np.empty((SHUFFLES, rows.size), dtype=bool)
            labels[:, pure >= 0] = _bits(groups, of.pure_count)[:, pure[pure >= 0]]
            labels[:, pure < 0] = _bits(samples, of.mixed.size)[:, place[rows[pure < 0]]]
            return labels
        keys = np.where(pure >= 0, self._keys.groups[rows], self._keys.samples[rows])
        within = np.bincount(self._codes, of.sides) / np.bincount(self._codes)
        chances = np.where(pure >= 0, of.chosen_count / max(1, of.pure_count), within[self._codes[rows]])
        salts = _salts(self._seed, 0, SHUFFLES)
        return np.asarray(_mixed(salts[:, None] ^ keys) < chances * 2.0**64)

    def deviations(self, scores: Sequence[Floats]) -> Floats:
        """Errors of each score's area under the ROC, in standard errors, as they would be drawn, (SHUFFLES, scores).

        The components of DeLong's and Obuchowski's variances get random factors, unit by unit and the same at each look
        (the wild bootstrap): so the errors of several looks depend on each other as those of the areas do, whether or
        not there is memorization. The factors are normal, since signs of a few dozen units add up to less far out.
        """
        member, columns = self._of.sides, []
        for score in scores:
            parts = np.empty(member.size)
            for side, sign in ((member, 1.0), (~member, -1.0)):
                beaten = _share_below(score[side], score[~side])
                parts[side] = sign * (beaten - beaten.mean()) / beaten.size
            columns.append(_sketch(parts, self._keys.groups))
        if self._factors is None:
            draws = np.random.default_rng([self._seed, 4])
            self._factors = draws.standard_normal((SHUFFLES, _BUCKETS), dtype=np.float32)
        table = _of_length_one(columns)
        rows = [self._factors[start : start + _ROWS].astype(np.float64) @ table for start in range(0, SHUFFLES, _ROWS)]
        return np.concatenate(rows)

    def _areas(self, ranks: Sequence[Floats]) -> Floats:
        """Areas under the ROC by shuffles, (1 + SHUFFLES, scores)."""
        of, total = self._of, self._of.sides.size
        pure = of.pure >= 0
        tables = [
            np.bincount(of.pure[pure], values[pure], minlength=of.pure_count) for values in (*ranks, np.ones(total))
        ]
        sums, within = np.stack(tables, axis=1), np.stack([*ranks, np.ones(total)], axis=1)[of.mixed]
        observed = np.array([[values[of.sides].sum() for values in ranks] + [float(of.sides.sum())]])
        groups, samples = self._memberships()
        rows = [observed]
        for start in range(0, SHUFFLES, _ROWS):
            part = _unpacked(groups[start : start + _ROWS], of.pure_count) @ sums
            if of.mixed.size:
                part = part + _unpacked(samples[start : start + _ROWS], of.mixed.size) @ within
            rows.append(part)
        rank_sums = np.concatenate(rows)
        members = rank_sums[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            areas = (rank_sums[:, :-1] - members * (members + 1.0) / 2.0) / (members * (total - members))
        # Equal areas of unequal sides differ by rounding. A shuffle that leaves a side empty shows nothing.
        return np.where(np.isfinite(areas), np.round(areas, 12), 0.5)

    def _memberships(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Which groups on one side are members, and which samples of the others, by each shuffle, in bits."""
        if self._drawn is None:
            of, groups, samples = self._of, [], []
            keys, of_mixed = self._keys.groups[of.one_of], self._keys.samples[of.mixed]
            codes, labels = of.codes[of.mixed], of.sides[of.mixed]
            for start in range(0, SHUFFLES, _ROWS):
                salts = _salts(self._seed, start, min(start + _ROWS, SHUFFLES))
                if 0 < of.chosen_count < of.pure_count:
                    drawn = _mixed(salts[:, None] ^ keys)
                    border = np.partition(drawn, of.chosen_count - 1, axis=1)[:, of.chosen_count - 1, None]
                    chosen = drawn <= border
                else:
                    chosen = np.full((salts.size, of.pure_count), of.chosen_count > 0)
                groups.append(np.packbits(chosen, axis=1))
                order = np.argsort(codes + _mixed(salts[:, None] ^ of_mixed) / 2.0**64, axis=1)
                chosen = np.empty(order.shape, dtype=bool)
                np.put_along_axis(chosen, order, np.broadcast_to(labels, order.shape), axis=1)
                samples.append(np.packbits(chosen, axis=1))
            self._drawn = np.concatenate(groups), np.concatenate(samples)
        return self._drawn

    def _limits(self, ranks: Sequence[Floats]) -> Floats:
        """Normal limit of the members' sums of ranks, in standard deviations, (1 + SHUFFLES, scores)."""
        of, columns, observed = self._of, [], []
        keys = np.concatenate([self._keys.groups[of.one_of], self._keys.samples[of.mixed]])
        for values in ranks:
            centred = values - values.mean()
            mean, *parts = of.normal_limit(centred)
            every = np.concatenate(parts)
            deviation = float(np.sqrt((every**2).sum()))
            observed.append((float(centred[of.sides].sum()) - mean) / deviation if deviation > 1e-6 else 0.0)
            columns.append(_sketch(every, keys))
        return np.concatenate([np.array([observed]), self._signed(columns)])

    def _signed(self, sketches: Sequence[Floats]) -> Floats:
        """Random signs of the coordinates of some sketches, added up, in standard deviations, (SHUFFLES, sketches)."""
        table = _of_length_one(sketches)
        words = np.random.PCG64([self._seed, 2]).random_raw(SHUFFLES * _BUCKETS // 64)
        bits = words.astype("<u8").view(np.uint8).reshape(SHUFFLES, -1)
        rows = [
            2.0 * (_unpacked(bits[start : start + _ROWS], _BUCKETS) @ table) - table.sum(axis=0)
            for start in range(0, SHUFFLES, _ROWS)
        ]
        return np.concatenate(rows)


def _share_below(scores: Floats, others: Floats) -> Floats:
    """Share of the others that each score exceeds, ties counting half; faster than by ranks where there are many."""
    ordered = np.sort(others)
    order = np.argsort(scores)
    found = np.searchsorted(ordered, scores[order], side="left") + np.searchsorted(ordered, scores[order], side="right")
    shares = np.empty(scores.size)
    shares[order] = found / (2.0 * others.size)
    return shares


def _bits(packed: NDArray[np.uint8], width: int) -> Bools:
    return np.unpackbits(packed, axis=1, count=width).view(bool)


def _unpacked(packed: NDArray[np.uint8], width: int) -> Floats:
    return np.unpackbits(packed, axis=1, count=width).astype(np.float64)


def _sketch(parts: Floats, keys: Keys) -> Floats:
    """Add the parts of units up in a few coordinates, with signs, by their keys: inner products stay about the same."""
    signs = np.where(keys >> np.uint64(63), 1.0, -1.0)
    places = (keys % np.uint64(_BUCKETS)).astype(np.intp)
    return np.asarray(np.bincount(places, signs * parts, minlength=_BUCKETS), dtype=np.float64)


def _of_length_one(sketches: Sequence[Floats]) -> Floats:
    """Sketches as columns, each divided by its length, (buckets, sketches)."""
    table = np.stack(sketches, axis=1)
    length = np.sqrt((table**2).sum(axis=0))
    return np.asarray(table / np.where(length > 0.0, length, 1.0))


def _checksum(name: str) -> int:
    text = name.encode("utf-8", "surrogatepass")
    return zlib.crc32(text) << 32 | zlib.crc32(text, 0x9E3779B9)


def _salts(seed: int, start: int, stop: int) -> Keys:
    """A number for each shuffle, to be mixed into the keys."""
    return _mixed(np.arange(start, stop, dtype=np.uint64) + np.uint64(np.random.PCG64([seed, 3]).random_raw()))


def _mixed(numbers: NDArray[np.uint64]) -> Keys:
    """Spread whole numbers over 64 bits (the finaliser of SplitMix64)."""
    x = numbers + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)
