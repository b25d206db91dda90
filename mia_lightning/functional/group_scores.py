"""Scores of whole groups of samples, such as patients: how exposed each is, and the chance of that for a nonmember.

A group is judged by the mean of its samples' scores, and by the highest of them. Both allow for its size: the mean of
ten varies less than that of two, and a group of ten has ten chances of a high score.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from mia_lightning.functional.groups import Codes, as_codes
from mia_lightning.functional.roc import Floats, split_sides


class GroupScores(NamedTuple):
    """Groups with their scores, G of them; a group with samples on both sides is there twice, once a side.

    Attributes:
        codes: Number of each group, (G,), as passed; members' first, each side in the order of its first sample.
        member: Whether it is of the members, (G,).
        size: Number of its samples, (G,).
        mean: Mean of its samples' standardised scores, over the spread that means of so many have, (G,).
        extreme: How high its highest score is for so many samples: the logarithm of the chance that all of as many
            drawn from both sides are lower, (G,), at most 0.
        p_value: Chance that a group of nonmembers is as high in one of both, (G,), conformal.
    """

    codes: Codes
    member: NDArray[np.bool_]
    size: NDArray[np.intp]
    mean: Floats
    extreme: Floats
    p_value: Floats


def group_scores(scores: ArrayLike, member: ArrayLike, group: ArrayLike) -> GroupScores:
    """Score groups, and hold them against the groups of nonmembers.

    Whatever is estimated of samples (centre, scale, correlation within groups, ranks) is estimated of both sides
    together, and each group has one statistic: the better of its ranks by mean and by extreme among the nonmembers'
    groups and itself. So its p-value, ``(1 + number of nonmembers' groups that are as high) / (groups of nonmembers +
    1)``, allows for there being two of them, and is valid in finite samples where a group and those of the nonmembers,
    their sizes included, are exchangeable (conformal inference of hierarchical data: Lee, Barber and Willett, 2023). A
    nonmembers' group stands against the others.

    Args:
        scores: (N,) finite numbers, higher = more likely member.
        member: (N,) True for members; each side needs one.
        group: (N,) group of each sample.

    Raises:
        ValueError: If a side is empty, or a score is not finite.

    Example:
        >>> found = group_scores([3.0, 2.0, 0.1, 0.2, 0.0, 0.3], [True] * 2 + [False] * 4, [0, 0, 1, 1, 2, 2])
        >>> found.size.tolist(), found.p_value.round(3).tolist()
        ([2, 2, 2], [0.333, 1.0, 1.0])
    """
    split_sides(scores, member)
    s, m = np.asarray(scores, dtype=np.float64).ravel(), np.asarray(member, dtype=bool).ravel()
    labels = as_codes(group, s.size)
    of_side = as_codes(2 * labels + ~m, s.size)
    _, first = np.unique(of_side, return_index=True)
    order = np.lexsort((first, ~m[first]))
    place = np.empty(order.size, dtype=np.intp)
    place[order] = np.arange(order.size)
    codes = place[of_side]
    first = first[order]
    size = np.bincount(codes)
    mean = _means(_standardised(s), codes, size)
    extreme = _extremes(s, codes, size)
    return GroupScores(labels[first], m[first], size, mean, extreme, _p_values(mean, extreme, m[first]))


def _p_values(mean: Floats, extreme: Floats, member: NDArray[np.bool_]) -> Floats:
    """Rank each member's group among the nonmembers' groups and itself by the better of its two ranks there.

    Ranks are 1 for the highest, ties are given the last of theirs. With a group added to the nonmembers', their ranks
    below it move by one: those that are as good as its best rank T are those that were at most T - 1, and those at T in
    the ranking in which the group itself is worse than T.
    """
    known = ~member
    first, second = (rankdata(-column[known], method="max").astype(np.intp) for column in (mean, extreme))
    best = np.minimum(first, second)
    count = best.size
    up_to = np.cumsum(np.bincount(best, minlength=count + 2))
    at_first = np.bincount(first[second >= first], minlength=count + 2)  # by no other rank at T or better
    at_second = np.bincount(second[first >= second], minlength=count + 2)
    own = np.minimum(*(1 + _higher(column, known, "left") for column in (mean, extreme)))
    above_first, above_second = (_higher(column, known, "right") for column in (mean, extreme))
    as_high = up_to[own - 1] + np.where(above_first >= own, at_first[own], 0)
    as_high += np.where(above_second >= own, at_second[own], 0)
    p_values = (1.0 + as_high) / (count + 1.0)
    p_values[known] = up_to[best] / count
    return np.asarray(p_values, dtype=np.float64)


def _higher(column: Floats, known: NDArray[np.bool_], side: Literal["left", "right"]) -> NDArray[np.intp]:
    """Number of known values that are as high (``left``) or higher (``right``), (G,)."""
    ordered = np.sort(column[known])
    return np.asarray(ordered.size - np.searchsorted(ordered, column, side=side), dtype=np.intp)


def _standardised(scores: Floats) -> Floats:
    """By the median of both sides and the median deviation from it; by the standard deviation where that is 0."""
    deviation = scores - np.median(scores)
    scale = np.median(np.abs(deviation)) or scores.std() or 1.0
    return np.asarray(deviation / scale, dtype=np.float64)


def _means(values: Floats, codes: Codes, size: NDArray[np.intp]) -> Floats:
    """Mean of each group over the standard deviation of a mean of so many, relative to that of a single sample."""
    mean = np.bincount(codes, values) / size
    share = correlation_within(values, codes)
    return np.asarray(mean / np.sqrt(share + (1.0 - share) / size), dtype=np.float64)


def correlation_within(values: ArrayLike, group: ArrayLike) -> float:
    """Intraclass correlation of values, by the mean squares between and within groups (analysis of variance).

    Args:
        values: (N,) numbers.
        group: (N,) group of each.

    Returns:
        The correlation, in [0, 1]; negative estimates are 0, and so it is where no group has two values.

    Example:
        >>> correlation_within([1.0, 1.0, 2.0, 2.0], [0, 0, 1, 1]), correlation_within([1.0, 2.0], [0, 1])
        (1.0, 0.0)
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    codes = as_codes(group, x.size)
    size = np.bincount(codes)
    groups, inside = size.size, x.size - size.size
    if groups < 2 or inside == 0:
        return 0.0
    means = np.bincount(codes, x) / size
    within = float(((x - means[codes]) ** 2).sum()) / inside
    between = float((size * (means - x.mean()) ** 2).sum()) / (groups - 1)
    typical = (x.size - float((size.astype(np.float64) ** 2).sum()) / x.size) / (groups - 1)
    total = between + (typical - 1.0) * within
    return float(np.clip((between - within) / total, 0.0, 1.0)) if total > 0.0 else 0.0


def _extremes(scores: Floats, codes: Codes, size: NDArray[np.intp]) -> Floats:
    """Logarithm of the share of lower scores, to the power of the group's size."""
    share = rankdata(scores, method="max") / (scores.size + 1.0)
    highest = np.zeros(size.size)
    np.maximum.at(highest, codes, share)
    return np.asarray(size * np.log(highest), dtype=np.float64)
