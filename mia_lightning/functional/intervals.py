"""Confidence intervals for the area under the ROC and for rates."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import beta, norm, rankdata
from scipy.stats import t as student

from mia_lightning.functional.groups import Codes, as_codes, clustered_variance, too_few_groups, units
from mia_lightning.functional.roc import Floats, split_sides

HIGH = 0.75
"""Area under the ROC from which DeLong's interval needs another beside it; below, it holds as often as it says."""


class Interval(NamedTuple):
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float


def clopper_pearson(successes: float, trials: float, level: float = 0.95) -> Interval:
    """Exact binomial interval for a rate (Clopper and Pearson, 1934).

    Not ``scipy.stats.binomtest``: that takes whole numbers of successes only, and ties make fractions of them.

    Args:
        successes: Number of successes, 0 to ``trials``. Fractions (a fair coin's mean) interpolate.
        trials: Number of trials, at least 1.
        level: Confidence, in (0, 1), of the two-sided interval, which is never a point.

    Raises:
        ValueError: If the counts or the level are out of range.

    Example:
        >>> rate, low, high = clopper_pearson(0, 20)
        >>> rate, low, round(high, 4)
        (0.0, 0.0, 0.1684)
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"Expected 0 <= successes <= trials and trials >= 1, but got {successes} of {trials}.")
    check_level(level)
    tail = (1.0 - level) / 2.0
    low = 0.0 if successes <= 0 else float(beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes >= trials else float(beta.ppf(1.0 - tail, successes + 1, trials - successes))
    return Interval(successes / trials, low, high)


def delong_variance(scores: ArrayLike, member: ArrayLike, group: ArrayLike | None = None) -> tuple[float, float]:
    """Area under the ROC and its variance after DeLong, DeLong and Clarke-Pearson (1988).

    Computed from midranks (Sun and Xu, 2014), in O(N log N). Of samples in groups it is the variance after Obuchowski
    (1997, :func:`~mia_lightning.functional.groups.clustered_variance`). Arguments and errors as for
    :func:`delong_interval`.

    Returns:
        The area and the variance of its estimate (NaN where a side has one sample, or group, only).

    Example:
        >>> auc, variance = delong_variance([0.2, 0.4, 0.3, 0.9], [False, False, True, True])
        >>> auc, round(variance, 4)
        (0.75, 0.125)
    """
    members, nonmembers = split_sides(scores, member)
    at_members, at_nonmembers = placements(members, nonmembers)
    if members.size < 2 or nonmembers.size < 2:
        return float(at_members.mean()), float("nan")
    if group is not None:
        return float(at_members.mean()), clustered_variance(at_members, at_nonmembers, *_by_side(group, member))
    variance = at_members.var(ddof=1) / members.size + at_nonmembers.var(ddof=1) / nonmembers.size
    return float(at_members.mean()), float(variance)


def placements(members: Floats, nonmembers: Floats) -> tuple[Floats, Floats]:
    """Share of the other side that each sample beats, ties counting half: the components of DeLong's variance.

    For each member it is the share of nonmembers below, (n,), for each nonmember that of members above, (k,).
    """
    n, k = members.size, nonmembers.size
    ranks = rankdata(np.concatenate([members, nonmembers]))
    at_members = (ranks[:n] - rankdata(members)) / k
    at_nonmembers = 1.0 - (ranks[n:] - rankdata(nonmembers)) / n
    return at_members, at_nonmembers


def delong_interval(
    scores: ArrayLike, member: ArrayLike, level: float = 0.95, group: ArrayLike | None = None
) -> Interval:
    """Confidence interval for the area under the ROC that never collapses to a point.

    DeLong's variance on the logit scale, which keeps the interval inside (0, 1). From an area of :data:`HIGH` on (or
    below 1 - :data:`HIGH`) it rests on the few samples that are out of order and is often too short: there the interval
    covers that of :func:`newcombe_interval`, too. Where the variance vanishes or cannot be estimated (area 0 or 1, all
    scores tied, one sample on a side) the exact binomial bound on the smaller side takes its place: the area counts as
    that side's rate of success.

    Of samples in groups the variance is Obuchowski's, and Newcombe's interval counts as many samples as would be worth
    as much if they were independent: the samples by the ratio of the two variances, but no fewer than the groups.

    Scores and flags are those of :func:`~mia_lightning.functional.roc.split_sides`.

    Raises:
        ValueError: If the confidence level is not in (0, 1) or a side is empty.

    Example:
        >>> auc, low, high = delong_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [False] * 3 + [True] * 3)
        >>> auc, round(low, 3), high
        (1.0, 0.292, 1.0)
    """
    check_level(level)
    members, nonmembers = split_sides(scores, member)
    auc, variance = delong_variance(scores, member, group)
    if too_few_groups(member, group):
        return Interval(auc, math.nan, math.nan)
    if not variance > 0.0 or auc in (0.0, 1.0):
        smaller = min(members.size, nonmembers.size) if group is None else min(units(member, group))
        return Interval(auc, *clopper_pearson(auc * smaller, smaller, level)[1:])
    half = norm.ppf(0.5 + level / 2.0) * np.sqrt(variance) / (auc * (1.0 - auc))
    low, high = float(expit(logit(auc) - half)), float(expit(logit(auc) + half))
    if max(auc, 1.0 - auc) >= HIGH:
        sizes = _independent_samples(scores, member, group, variance)
        other = newcombe_interval(auc, *sizes, level)
        low, high = min(low, other.low), max(high, other.high)
    return Interval(auc, low, high)


def _independent_samples(
    scores: ArrayLike, member: ArrayLike, group: ArrayLike | None, variance: float
) -> tuple[float, float]:
    """How many independent samples each side is worth."""
    members, nonmembers = units(member, None)
    if group is None:
        return members, nonmembers
    least = units(member, group)
    effect = max(1.0, variance / delong_variance(scores, member)[1])
    return max(members / effect, least[0]), max(nonmembers / effect, least[1])


def newcombe_interval(auc: float, members: float, nonmembers: float, level: float = 0.95) -> Interval:
    """Confidence interval for the area under the ROC by a variance that depends on the area alone.

    Method 5 of Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2",
    Statistics in Medicine 2006: the areas ``a`` that the estimate is no more than z standard errors away from, with
    the variance of Hanley and McNeil (Radiology 1982) at ``a`` for scores of exponential distribution, the m members
    and n nonmembers taken to be their mean N within it: ``a (1 - a) (1 + (N - 1) ((1 - a) / (2 - a) + a / (1 + a))) /
    (m n)``. It stays wide where one sample out of order, or none, leaves DeLong's variance nearly nothing.

    Args:
        auc: The area, in [0, 1].
        members: Number of members, at least 1; groups may make fractions of it.
        nonmembers: Number of nonmembers, likewise.
        level: Confidence, in (0, 1).

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> auc, low, high = newcombe_interval(0.985, 48, 48)
        >>> round(low, 3), round(high, 3)
        (0.932, 0.997)
    """
    check_level(level)
    if not 0.0 <= auc <= 1.0 or members < 1 or nonmembers < 1:
        raise ValueError(
            "Expected an area in [0, 1] and at least one sample a side, but got "
            f"{auc} of {members} members and {nonmembers} nonmembers."
        )
    z, size = float(norm.ppf(0.5 + level / 2.0)), (members + nonmembers) / 2.0

    def beyond(area: float) -> float:
        mixed = (1.0 - area) / (2.0 - area) + area / (1.0 + area)
        variance = area * (1.0 - area) * (1.0 + (size - 1.0) * mixed) / (members * nonmembers)
        return (area - auc) ** 2 - z**2 * variance

    inside = min(max(auc, 1e-12), 1.0 - 1e-12)  # at 0 and at 1 the variance is 0, which is a root, but no limit
    low = 0.0 if auc == 0.0 else float(brentq(beyond, 0.0, inside))
    high = 1.0 if auc == 1.0 else float(brentq(beyond, inside, 1.0))
    return Interval(auc, low, high)


class Difference(NamedTuple):
    """A difference of two areas under the ROC with its interval and a two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float


def delong_difference(
    scores_a: ArrayLike, scores_b: ArrayLike, member: ArrayLike, level: float = 0.95, group: ArrayLike | None = None
) -> Difference:
    """Compare two scores of the same samples by their areas under the ROC.

    The paired test of DeLong, DeLong and Clarke-Pearson (1988): the variance of the difference of the structural
    components, which holds their covariance. Where that variance vanishes (all samples of a side differ alike, as
    when both scores rank alike or separate perfectly) or cannot be estimated (one sample on a side), the exact
    binomial bound takes its place: none of the ``n`` samples of the smaller side departed from the difference ``d``
    observed, so at most a share ``u = 1 - ((1 - level) / 2) ** (1 / n)`` would, by anything up to 1 either way. The
    interval ``(1 - u) * d - u`` to ``(1 - u) * d + u`` never collapses to a point, not even for a score compared with
    itself, and the p-value is the one at which it begins to hold 0.

    Scores, (N,) each, are of the same samples in the same order; their scales need not agree. The level is in (0, 1).
    Groups are those of :func:`delong_interval`: they count in place of the samples.

    Returns:
        Area of ``scores_a`` minus area of ``scores_b``, its interval within [-1, 1], and the two-sided p-value for
        equal areas; with too few groups interval and p-value are NaN.

    Raises:
        ValueError: If the level is out of range, lengths differ, a score is not finite, or a side is empty.

    Example:
        >>> member = [False] * 4 + [True] * 4
        >>> a, b = [1, 2, 3, 5, 4, 6, 7, 8], [3, 6, 1, 5, 2, 4, 8, 7]
        >>> difference, low, high, p_value = delong_difference(a, b, member)
        >>> difference, round(low, 3), round(high, 3), round(p_value, 3)
        (0.25, -0.096, 0.596, 0.157)
    """
    check_level(level)
    sides_a, sides_b = split_sides(scores_a, member), split_sides(scores_b, member)
    at_members, at_nonmembers = (a - b for a, b in zip(placements(*sides_a), placements(*sides_b), strict=True))
    n, k = at_members.size, at_nonmembers.size
    difference = float(at_members.mean())
    if too_few_groups(member, group):
        return Difference(difference, math.nan, math.nan, math.nan)
    smaller, variance = min(n, k), math.nan
    if group is not None:
        smaller = min(units(member, group))
        variance = clustered_variance(at_members, at_nonmembers, *_by_side(group, member))
    # Components are multiples of 1 / 2k and 1 / 2n: whatever differs by less is rounding.
    constant = np.ptp(at_members) < 0.25 / k and np.ptp(at_nonmembers) < 0.25 / n
    if constant or smaller < 2 or variance <= 0.0:
        others = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / smaller)
        centre = (1.0 - others) * difference
        # The interval touches 0 where others = |d| / (1 + |d|); solved for 1 - level.
        p_value = min(1.0, 2.0 * (1.0 + abs(difference)) ** -smaller)
        return Difference(difference, max(centre - others, -1.0), min(centre + others, 1.0), p_value)
    if group is None:
        variance = float(at_members.var(ddof=1) / n + at_nonmembers.var(ddof=1) / k)
    deviation = float(np.sqrt(variance))
    half = float(norm.ppf(0.5 + level / 2.0)) * deviation
    p_value = 2.0 * float(norm.sf(abs(difference) / deviation))
    return Difference(difference, max(difference - half, -1.0), min(difference + half, 1.0), p_value)


def paired_interval(
    scores_a: ArrayLike, scores_b: ArrayLike, member: ArrayLike, level: float = 0.95, group: ArrayLike | None = None
) -> Interval:
    """Difference of two areas under the ROC of the same samples, with an interval that holds for high areas, too.

    The interval of :func:`delong_difference` where both areas lie below :data:`HIGH` (and above 1 - :data:`HIGH`). Else
    it covers the one, too, that is made of the intervals of both areas and their correlation (Zou and Donner,
    Statistics in Medicine 2008): it keeps their lack of symmetry, which a few samples out of order make. The
    correlation is that of DeLong's components, 0 where one of them has no variance.

    Arguments and errors are those of :func:`delong_difference`.

    Example:
        >>> member = [False] * 4 + [True] * 4
        >>> a, b = [1, 2, 3, 4, 5, 6, 7, 8], [3, 6, 1, 5, 2, 4, 8, 7]
        >>> difference, low, high = paired_interval(a, b, member)
        >>> round(difference, 3), round(low, 3), round(high, 3)
        (0.312, -0.342, 0.776)
    """
    plain = delong_difference(scores_a, scores_b, member, level, group)
    a, b = (delong_interval(scores, member, level, group) for scores in (scores_a, scores_b))
    if math.isnan(plain.low) or max(a.estimate, b.estimate, 1.0 - a.estimate, 1.0 - b.estimate) < HIGH:
        return Interval(plain.difference, plain.low, plain.high)
    share = 2.0 * _correlation(scores_a, scores_b, member, group)

    def apart(first: float, second: float) -> float:
        return math.sqrt(max(0.0, first**2 + second**2 - share * first * second))

    low = plain.difference - apart(a.estimate - a.low, b.high - b.estimate)
    high = plain.difference + apart(a.high - a.estimate, b.estimate - b.low)
    return Interval(plain.difference, min(low, plain.low), max(high, plain.high))


def _correlation(scores_a: ArrayLike, scores_b: ArrayLike, member: ArrayLike, group: ArrayLike | None) -> float:
    """Correlation of two estimated areas, by the variances of both and of their difference."""
    parts = [placements(*split_sides(scores, member)) for scores in (scores_a, scores_b)]
    if min(side.size for side in parts[0]) < 2:
        return 0.0
    (a_members, a_nonmembers), (b_members, b_nonmembers) = parts
    three = [*parts, (a_members - b_members, a_nonmembers - b_nonmembers)]
    if group is None:
        of_a, of_b, of_difference = (float(sum(side.var(ddof=1) / side.size for side in sides)) for sides in three)
    else:
        codes = _by_side(group, member)
        of_a, of_b, of_difference = (clustered_variance(first, second, *codes) for first, second in three)
    if not of_a * of_b > 0.0:
        return 0.0
    return min(1.0, max(-1.0, (of_a + of_b - of_difference) / (2.0 * math.sqrt(of_a * of_b))))


def _by_side(group: ArrayLike, member: ArrayLike) -> tuple[Codes, Codes]:
    """The groups of members and those of nonmembers, in the same numbers."""
    sides = np.asarray(member, dtype=bool).ravel()
    codes = as_codes(group, sides.size)
    return codes[sides], codes[~sides]


def independent_difference(a: Interval, b: Interval) -> tuple[float, float, float]:
    """Compare two estimates, at one level, of samples that have nothing to do with each other.

    The interval of the difference is made of both intervals (Zou and Donner, 2008; Newcombe's hybrid score method): it
    keeps their lack of symmetry, and never collapses to a point where they do not.

    Returns:
        ``a`` minus ``b``, and the lower and upper bound of that difference.

    Example:
        >>> difference, low, high = independent_difference(Interval(0.9, 0.8, 0.95), Interval(0.6, 0.5, 0.7))
        >>> round(difference, 2), round(low, 3), round(high, 3)
        (0.3, 0.159, 0.412)
    """
    difference = a.estimate - b.estimate
    low = difference - math.hypot(a.estimate - a.low, b.high - b.estimate)
    high = difference + math.hypot(a.high - a.estimate, b.estimate - b.low)
    return difference, low, high


def student_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of independent repetitions, such as trainings with other seeds, with Student's t interval.

    Args:
        values: One number a repetition, (n,), n at least 1.
        level: Confidence level.

    Returns:
        The mean and its bounds. They are NaN with one repetition, and where all give the same number: what has not
        varied so far, as areas of 1, need not stay so, and an interval is no point.

    Raises:
        ValueError: If there is no number, one is not finite, or the level lies outside (0, 1).

    Example:
        >>> [round(bound, 3) for bound in student_interval([0.70, 0.74, 0.78])]
        [0.74, 0.641, 0.839]
        >>> student_interval([0.7])
        Interval(estimate=0.7, low=nan, high=nan)
    """
    check_level(level)
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0 or not np.isfinite(numbers).all():
        raise ValueError(f"Expected one finite number a repetition, (n,) with n >= 1, but got {values!r}.")
    mean = float(numbers.mean())
    if numbers.size < 2 or np.ptp(numbers) <= 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, math.nan, math.nan)
    half = float(student.ppf(0.5 + level / 2.0, numbers.size - 1) * numbers.std(ddof=1) / math.sqrt(numbers.size))
    return Interval(mean, mean - half, mean + half)


def check_level(level: float) -> None:
    """Raise ValueError for a confidence level outside (0, 1)."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"Expected a confidence level in (0, 1), but got {level}.")


def half_width_at_chance(auc: float, high: float) -> float:
    """Half the width, on the logit scale, of the interval that the same samples give at an AUC of 0.5 or above.

    An AUC below 0.5 by chance has no tighter an upper bound than 0.5 itself.

    Args:
        auc: Area under the ROC.
        high: Upper end of its interval.

    Returns:
        The half width; infinite at an AUC or an upper end of 0 or 1.

    Example:
        >>> round(half_width_at_chance(0.5, 0.6), 3), round(half_width_at_chance(0.4, 0.5), 3)
        (0.405, 0.389)
    """
    if not 0.0 < auc < 1.0 or not high < 1.0:
        return math.inf
    half = float(logit(high) - logit(auc))
    return half if auc >= 0.5 else half * auc * (1.0 - auc) / 0.25


def upper_bound_at_chance(auc: float, high: float) -> float:
    """Upper bound that the same samples would give if the AUC were 0.5, where it is lower; else its own.

    Example:
        >>> round(upper_bound_at_chance(0.55, 0.62), 3), round(upper_bound_at_chance(0.4, 0.5), 3)
        (0.62, 0.596)
    """
    return float(expit(half_width_at_chance(auc, high) + logit(max(auc, 0.5))))
