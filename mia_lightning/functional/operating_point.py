"""What is known of a threshold that lets few nonmembers pass, and of the members that pass it, in the population.

Such a threshold is the (k + 1)-th highest of n nonmembers' scores. The share of all nonmembers above it, which nobody
sees, is a Beta(k + 1, n - k) variable whatever the scores' distribution; its mean is (k + 1) / (n + 1).
"""

import math
from bisect import bisect_left, bisect_right
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import betainc
from scipy.stats import beta, binom

from mia_lightning.functional.groups import too_few_groups, units
from mia_lightning.functional.intervals import Interval, check_level, clopper_pearson
from mia_lightning.functional.roc import Floats, allowed_false_positives, split_sides, tpr_at_fpr

NOMINAL_RATES = (0.01, 0.001, 0.0)
"""Nominal false-positive rates that are reported; 0: no nonmember at all."""


def fewest_nonmembers(fpr: float) -> int:
    """Nonmembers, or groups of them, from which a false-positive rate can be estimated at all: 1 / fpr - 1.

    With fewer, a threshold above all nonmembers lets more than that share of further nonmembers pass on average.

    Example:
        >>> fewest_nonmembers(0.01), fewest_nonmembers(0.001), fewest_nonmembers(0.5)
        (99, 999, 1)
    """
    if not 0.0 < fpr < 1.0:
        raise ValueError(f"Expected a false-positive rate in (0, 1), but got {fpr}.")
    return max(1, math.ceil(1.0 / fpr - 1.0 - 1e-9))


def population_fpr(nonmembers: int, fpr: float, level: float = 0.95, *, clusters: int | None = None) -> Interval:
    """False-positive rate in the population behind a nominal one: its mean, and the limits that it has.

    Args:
        nonmembers: Number of nonmembers, at least 1, of whom ``floor(fpr * nonmembers)`` may pass.
        fpr: The nominal rate, in [0, 1).
        level: Confidence, in (0, 1), of the two-sided interval.
        clusters: Number of the nonmembers' groups, which count in their place.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> [round(rate, 4) for rate in population_fpr(48, 0.01)]  # no nonmember passes
        [0.0204, 0.0005, 0.074]
        >>> [round(rate, 4) for rate in population_fpr(150, 0.01)]  # one of them does
        [0.0132, 0.0016, 0.0366]
    """
    check_level(level)
    share = allowed_false_positives(nonmembers, fpr) / nonmembers
    count = nonmembers if clusters is None else clusters
    allowed = share * count
    tail = (1.0 - level) / 2.0
    low, high = (float(beta.ppf(at, allowed + 1.0, count - allowed)) for at in (tail, 1.0 - tail))
    return Interval((allowed + 1.0) / (count + 1.0), low, high)


def tpr_interval(
    scores: ArrayLike, member: ArrayLike, fpr: float, level: float = 0.95, group: ArrayLike | None = None
) -> Interval:
    """True-positive rate at a false-positive rate of the population, with bounds that know how little of it is known.

    The lower bound is that of Clopper and Pearson for the members above a threshold whose false-positive rate is at
    most ``fpr``, the upper one that for those at or above a threshold whose rate is at least ``fpr``; each threshold is
    an order statistic of the nonmembers that is on its side but for half of the bound's error, and the other half is
    the binomial bound's. Whatever the distributions, both hold together at the level. The lower bound is 0 where the
    highest nonmember could well have more than ``fpr`` above it: with fewer than 437 nonmembers at 1 %, at 95 %.

    At a rate of 0 there is no such rate in the population: the threshold is then taken as given, and the bounds are
    Clopper and Pearson's for the members that further samples would have above it.

    Args:
        scores: (N,) numbers, higher = more likely member.
        member: (N,) booleans, True for members.
        fpr: Nominal false-positive rate, in [0, 1).
        level: Confidence, in (0, 1).
        group: Group of each sample, (N,): groups count in place of samples, and with too few there are no bounds.

    Returns:
        The rate of :func:`~mia_lightning.functional.roc.tpr_at_fpr` and its bounds.

    Example:
        >>> scores, member = [*range(1000), *range(900, 1000)], [False] * 1000 + [True] * 100
        >>> rate, low, high = tpr_interval(scores, member, fpr=0.01)
        >>> round(rate, 3), round(low, 3), round(high, 3)
        (0.105, 0.005, 0.294)
    """
    check_level(level)
    rate, _ = tpr_at_fpr(scores, member, fpr)
    if too_few_groups(member, group):
        return Interval(rate, math.nan, math.nan)
    members, nonmembers = split_sides(scores, member)
    member_units, nonmember_units = units(member, group)
    if fpr == 0.0:
        return clopper_pearson(rate * member_units, member_units, level)._replace(estimate=rate)
    surely_below, surely_above = _order_statistics(nonmember_units, fpr, (1.0 - level) / 4.0)
    within = 1.0 - (1.0 - level) / 2.0  # two-sided: a quarter of the error on either side
    falling = np.sort(nonmembers)[::-1]
    low, high = 0.0, 1.0
    if surely_below is not None:
        above = float((members > _threshold(falling, surely_below, nonmember_units)).mean())
        low = clopper_pearson(above * member_units, member_units, within).low
    if surely_above is not None:
        reaching = float((members >= _threshold(falling, surely_above, nonmember_units)).mean())
        high = clopper_pearson(reaching * member_units, member_units, within).high
    return Interval(rate, min(low, rate), max(high, rate))


def melded_tpr(
    scores: ArrayLike, member: ArrayLike, fpr: float, level: float = 0.95, group: ArrayLike | None = None
) -> Interval:
    """True-positive rate at a false-positive rate of the population, and its melded interval.

    Of n nonmembers, K lie above the threshold whose rate in the population is ``fpr``, and K is binomial; nobody sees
    it. For each K the members above that threshold are as many as lie above the K-th highest nonmember, at least, and
    as lie above the next, at most: Clopper and Pearson's bounds of both, averaged as distributions over K, are the
    interval, and the middle of these distributions is the estimate. So melded confidence intervals combine two samples
    (Fay, Proschan and Brittain, Biometrics 2015). It is exact where either side is so large that only the other is
    uncertain; in between that is no theorem, but simulations find at least its level (``benchmarks/README.md``). It is
    up to a third narrower than :func:`tpr_interval`, whose bounds are proven for all sizes. A bootstrap of both sides
    holds the rate too seldom where nonmembers are few: its thresholds are never above the highest nonmember.

    Args:
        scores: (N,) numbers, higher = more likely member.
        member: (N,) booleans, True for members.
        fpr: False-positive rate in the population, in (0, 1).
        level: Confidence, in (0, 1).
        group: Group of each sample, (N,): groups count in place of samples, and with too few there are no bounds.

    Returns:
        The estimate and its bounds, in [0, 1]. Of ties the estimate is that of a fair coin, and the bounds allow for
        any order. The estimate is NaN with fewer than :func:`fewest_nonmembers`; bounds are then wide, and say what
        can be said.

    Raises:
        ValueError: If a side is empty, or a number is out of range.

    Example:
        >>> scores, member = [*range(1000), *range(900, 1000)], [False] * 1000 + [True] * 100
        >>> [round(rate, 3) for rate in melded_tpr(scores, member, fpr=0.01)]
        [0.1, 0.021, 0.216]
        >>> [round(rate, 3) for rate in melded_tpr([1.0, 2.0, 3.0, 4.0], [False, False, True, True], fpr=0.01)]
        [nan, 0.0, 1.0]
    """
    check_level(level)
    members, nonmembers = split_sides(scores, member)
    member_units, nonmember_units = units(member, group)
    fewest = fewest_nonmembers(fpr)
    above, weight = _passing(nonmember_units, fpr)
    falling, rising = np.sort(nonmembers)[::-1], np.sort(members)
    places = [np.clip(k * falling.size // nonmember_units, 0, falling.size - 1) for k in (above - 1, above)]
    (least, least_by_coin, _), (_, most_by_coin, most) = (_shares_above(rising, falling, place) for place in places)

    def mixtures(least: Floats, most: Floats) -> tuple[_Mixture, _Mixture]:
        low, high = np.where(above > 0, least, 0.0), np.where(above < nonmember_units, most, 1.0)
        return (
            _Mixture(low * member_units, member_units + 1.0 - low * member_units, weight),
            _Mixture(high * member_units + 1.0, member_units - high * member_units, weight),
        )

    middle, (falls, rises) = math.nan, mixtures(least, most)  # ties are no evidence for either bound
    if nonmember_units >= fewest:
        middle = sum(mixture.quantile(0.5) for mixture in mixtures(least_by_coin, most_by_coin)) / 2.0
    if too_few_groups(member, group):
        return Interval(middle, math.nan, math.nan)
    tail = (1.0 - level) / 2.0
    return Interval(middle, falls.quantile(tail), rises.quantile(1.0 - tail))


def _shares_above(rising: Floats, falling: Floats, places: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
    """Shares of members above the nonmembers at some places, from 0: without ties, by a coin, and with them.

    Of t members and b nonmembers that tie, t i / (b + 1) members stand above the i-th nonmember on average.
    """
    scores, ascending = falling[places], falling[::-1]
    strictly, reaching = (1.0 - np.searchsorted(rising, scores, side=side) / rising.size for side in ("right", "left"))
    higher, alike = (falling.size - np.searchsorted(ascending, scores, side=side) for side in ("right", "left"))
    by_coin = strictly + (reaching - strictly) * (places - higher + 1.0) / (alike - higher + 1.0)
    return strictly, by_coin, reaching


class _Mixture(NamedTuple):
    """Mixture of beta distributions; with a first parameter of 0 one is a point at 0, with a second of 0 one at 1."""

    first: Floats
    second: Floats
    weight: Floats

    def quantile(self, share: float) -> float:
        """Where it has that share below it."""

        def excess(at: float) -> float:
            return float(self.weight @ self._below(at)) - share

        if excess(0.0) >= 0.0:
            return 0.0
        return 1.0 if excess(1.0 - 1e-12) <= 0.0 else float(brentq(excess, 0.0, 1.0 - 1e-12, xtol=1e-12))

    def _below(self, at: float) -> Floats:
        low, high = self.first <= 0.0, self.second <= 0.0
        inside = betainc(np.where(low, 1.0, self.first), np.where(high, 1.0, self.second), at)
        return np.asarray(np.where(low, 1.0, np.where(high, 0.0, inside)), dtype=np.float64)


@lru_cache(maxsize=256)
def _passing(count: int, fpr: float) -> tuple[NDArray[np.intp], Floats]:
    """How many of so many nonmembers may lie above a threshold of that rate, and how likely each number is."""
    low, high = (int(binom.ppf(share, count, fpr)) for share in (1e-9, 1.0 - 1e-9))
    numbers = np.arange(low, high + 1)
    weight = binom.pmf(numbers, count, fpr)
    return numbers, weight / weight.sum()


def _threshold(falling: Floats, place: int, count: int) -> float:
    """The order statistic of that place, from 0; of groups, the sample at that share of all samples."""
    return float(falling[min(place * falling.size // count, falling.size - 1)])


@lru_cache(maxsize=256)
def _order_statistics(count: int, fpr: float, tail: float) -> tuple[int | None, int | None]:
    """Places of the order statistics, from the top, whose share above is at most, and at least, ``fpr`` but for a tail.

    None where there is no such: too few nonmembers.
    """
    # Both shares change in one direction with the place: a few of them are looked at, not all of 100,000.
    below = bisect_right(range(count), tail, key=lambda place: float(beta.sf(fpr, place + 1.0, count - place)))
    above = bisect_left(range(count), -tail, key=lambda place: -float(beta.cdf(fpr, place + 1.0, count - place)))
    return below - 1 if below else None, above if above < count else None
