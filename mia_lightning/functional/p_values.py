"""P-values for membership of single samples, of collections and of whole audits, and their corrections."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr
from scipy.stats import false_discovery_control, norm, rankdata

from mia_lightning.functional.group_shuffles import GroupShuffles, grouped_p_value
from mia_lightning.functional.groups import Codes, as_codes, count_groups
from mia_lightning.functional.roc import Floats, split_sides
from mia_lightning.functional.subsets import random_subsets

_LARGE = 5_000  # samples from which a full set of permutations would take seconds
_EXPOSED_SHARE, _EXPOSED = 0.1, (10, 500)  # of the highest scores, and how many of them at least and at most


def conformal_p_values(scores: ArrayLike, reference: ArrayLike, group: ArrayLike | None = None) -> Floats:
    """Chance that a nonmember would score as high, one p-value a sample.

    ``(1 + number of reference scores >= score) / (n + 1)``: valid in finite samples if a nonmember is exchangeable
    with the reference. P-values that share a reference are positively dependent (PRDS), so Benjamini-Hochberg and
    Simes hold for them (Bates, Candes, Lei, Romano and Sesia, "Testing for outliers with conformal p-values", Annals
    of Statistics 2023).

    Args:
        scores: (N,) numbers, higher = more likely member.
        reference: (n,) scores of known nonmembers, none of which the score was fitted on.
        group: (n,) groups of the reference, none of which a sample is of. They count in place of the nonmembers, each
            with the share of its samples that score as high: ``(1 + sum of shares) / (groups + 1)`` (Lee, Barber and
            Willett, "Distribution-free inference with hierarchical data", 2023).

    Returns:
        (N,) p-values in [1 / (n + 1), 1], low = unlike a nonmember. Ties count against membership. A ValueError if
        there is no score or no reference, or one is not finite.

    Example:
        >>> conformal_p_values([0.9, 0.3, 0.1], reference=[0.1, 0.2, 0.3]).tolist()
        [0.25, 0.5, 1.0]
    """
    if group is not None:
        s, known = _finite(scores, "sample"), _finite(reference, "reference")
        codes = as_codes(group, known.size)
        return (1.0 + _shares_at_least(s, known, codes)) / (2.0 + int(codes.max()))
    s, ordered = _finite(scores, "sample"), np.sort(_finite(reference, "reference"))
    below = np.searchsorted(ordered, s, side="left")
    return np.asarray((1.0 + ordered.size - below) / (1.0 + ordered.size), dtype=np.float64)


def member_p_values(scores: ArrayLike, member: ArrayLike, group: ArrayLike | None = None) -> Floats:
    """Conformal p-values of a whole audit table, so that both sides read alike.

    Members stand against all nonmembers, each nonmember against the *other* nonmembers. The nonmembers' p-values are
    uniform by construction and serve for comparison; only the members' go into tests.

    Where samples come in groups, (N,), the nonmembers' groups count as in :func:`conformal_p_values`, and no sample
    stands against its own group.

    Arguments and errors are those of :func:`~mia_lightning.functional.roc.split_sides`.

    Returns:
        (N,) p-values in (0, 1] in the order of the samples. Ties count against membership.

    Example:
        >>> member_p_values([0.9, 0.1, 0.2], [True, False, False]).round(3).tolist()
        [0.333, 1.0, 0.5]
    """
    _, nonmembers = split_sides(scores, member)
    s, m = np.asarray(scores, dtype=np.float64).ravel(), np.asarray(member, dtype=bool).ravel()
    if group is not None:
        return _grouped_p_values(s, m, as_codes(group, s.size))
    at_least = nonmembers.size - np.searchsorted(np.sort(nonmembers), s, side="left")
    # A nonmember's own score is among the nonmembers': it is the 1 of the numerator, and the reference is one smaller.
    return np.asarray((m + at_least) / (m + float(nonmembers.size)), dtype=np.float64)


def _shares_at_least(scores: Floats, reference: Floats, codes: Codes) -> Floats:
    """For each score, the sum over groups of the share of the group's reference that reaches it."""
    order = np.argsort(reference, kind="stable")
    weights = 1.0 / np.bincount(codes)[codes[order]]
    above = np.concatenate([np.cumsum(weights[::-1])[::-1], [0.0]])
    return np.asarray(above[np.searchsorted(reference[order], scores, side="left")], dtype=np.float64)


def _grouped_p_values(scores: Floats, member: NDArray[np.bool_], codes: Codes) -> Floats:
    of_nonmembers = count_groups(member, codes).nonmembers
    shares = _shares_at_least(scores, scores[~member], as_codes(codes[~member], int((~member).sum())))
    # The share of the sample's own group, by one sorted column of (group, place of the score).
    _, place = np.unique(scores, return_inverse=True)
    width = int(place.max()) + 1
    keys = codes * width + place.reshape(-1)
    ordered = np.sort(keys[~member])
    reaching = np.searchsorted(ordered, (codes + 1) * width) - np.searchsorted(ordered, keys)
    own = of_nonmembers[codes]
    others = (of_nonmembers > 0).sum() - (own > 0)
    share = np.maximum(0.0, shares - reaching / np.maximum(own, 1))
    return np.asarray(np.minimum(1.0, (1.0 + share) / (1.0 + others)), dtype=np.float64)


def q_values(p_values: ArrayLike) -> Floats:
    """False-discovery rate at which each sample would just be called a member (Benjamini and Hochberg, 1995).

    Args:
        p_values: (N,) p-values, independent or positively dependent as conformal ones are.

    Returns:
        (N,) adjusted p-values in [0, 1]; a ValueError if there is none or one is outside [0, 1].

    Example:
        >>> q_values([0.01, 0.04, 0.03, 0.5]).round(4).tolist()
        [0.04, 0.0533, 0.0533, 0.5]
    """
    return np.asarray(false_discovery_control(_p_values(p_values)), dtype=np.float64)


def benjamini_hochberg(p_values: ArrayLike, rate: float = 0.1, group: ArrayLike | None = None) -> NDArray[np.bool_]:
    """Samples that may be called members while at most a share ``rate`` of the calls is expected to be false.

    P-values, and their errors, are those of :func:`q_values`; a rate outside (0, 1) is a ValueError, too.

    Where samples come in groups, (N,), a group counts once, however many samples it has: groups are called by their
    Simes p-values, at most a share ``rate`` of them falsely, and within those that are called the samples by
    Benjamini-Hochberg at the rate times the share of groups that are called (Benjamini and Bogomolov, "Selective
    inference on multiple families of hypotheses", JRSS B 2014): the share of false calls in a group, averaged over the
    groups that are called, is at most ``rate``, too. With one sample a group it is the plain procedure.

    Returns:
        (N,) booleans, True where membership is called.

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.5], rate=0.1).tolist()
        [True, True, True, False]
    """
    if not 0.0 < rate < 1.0:
        raise ValueError(f"Expected a false-discovery rate in (0, 1), but got {rate}.")
    # Conformal p-values are fractions that land on the line exactly: rounding must not push them over it.
    if group is None:
        return q_values(p_values) <= rate * (1.0 + 1e-12)
    p = _p_values(p_values)
    codes = as_codes(group, p.size)
    order = np.lexsort((p, codes))
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    size = np.bincount(codes)
    rank = 1 + np.arange(p.size) - np.repeat(starts, size)
    steps = p[order] * np.repeat(size, size) / rank
    called = q_values(np.minimum.reduceat(steps, starts)) <= rate * (1.0 + 1e-12)
    within = rate * called.mean() * (1.0 + 1e-12)
    last = np.maximum.reduceat(np.where(steps <= within, rank, 0), starts)
    flags = np.empty(p.size, dtype=bool)
    flags[order] = rank <= np.repeat(np.where(called, last, 0), size)
    return flags


def fewest_flags(members: int, nonmembers: int, rate: float = 0.1) -> int:
    """Smallest number of members that :func:`benjamini_hochberg` can call by conformal p-values; it calls none or more.

    No p-value is below ``1 / (nonmembers + 1)``, and k calls among m members need p-values of at most ``rate * k / m``:
    hence ``ceil(m / (rate * (nonmembers + 1)))`` members must stand above all nonmembers at once, or more of them above
    all but a few.

    Args:
        members: Number of members, or of their groups, that are tested, at least 1.
        nonmembers: Number of nonmembers, or of their groups, that they stand against.
        rate: The false-discovery rate, in (0, 1).

    Returns:
        The number; above ``members`` where no flag is possible, whatever the scores.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> fewest_flags(48, 48), fewest_flags(500, 48), fewest_flags(5, 5)
        (10, 103, 9)
    """
    if members < 1 or nonmembers < 0 or not 0.0 < rate < 1.0:
        raise ValueError(
            "Expected at least one member, no negative number of nonmembers and a false-discovery rate in (0, 1), but "
            f"got {members} members, {nonmembers} nonmembers and {rate}."
        )
    return max(1, math.ceil(members / (rate * (nonmembers + 1.0)) * (1.0 - 1e-12)))


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values for the number of tests, such as one an audited epoch or a pair of runs (Holm, 1979).

    SciPy controls the false discovery rate only; this controls the chance of any false call, whatever the dependence of
    the p-values, (N,). Errors as for :func:`q_values`.

    Returns:
        (N,) adjusted p-values in [0, 1]: calling those <= 0.05 errs anywhere in at most 5 % of all audits.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    p = _p_values(p_values)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return adjusted


def simes_p_value(p_values: ArrayLike) -> float:
    """One p-value for "none of these is a member" (Simes, 1986): the least of their :func:`q_values`.

    It is never below 1 / (n + 1) for conformal p-values with a reference of n.

    Example:
        >>> simes_p_value([0.01, 0.04, 0.03, 0.5])
        0.04
    """
    return float(q_values(p_values).min())


def permutation_p_value(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    permutations: int = 9999,
    seed: int = 0,
    group: ArrayLike | None = None,
) -> float:
    """Chance of an area under the ROC as large if scores knew nothing of membership; one-sided.

    Up to 5,000 samples membership is shuffled ``permutations`` times: ``(1 + number of areas >= the observed) / (1 +
    permutations)``, exact under exchangeability. Above, the normal limit of the same distribution with correction
    for ties and continuity (Mann and Whitney, 1947) takes its place. Samples that come in groups, (N,), are shuffled as
    :func:`~mia_lightning.functional.group_shuffles.grouped_p_value` says.

    The shuffles follow the seed; the p-value, in (0, 1], cannot fall below 1 / (1 + permutations), and is 1 where all
    scores are tied.

    Raises:
        ValueError: If (N,) scores do not fit (N,) flags, a side is empty, or there is no permutation.

    Example:
        >>> permutation_p_value(range(40), [i >= 20 for i in range(40)])
        0.0001
    """
    if group is not None:
        return grouped_p_value(scores, member, group, permutations=permutations, seed=seed)
    members, nonmembers = split_sides(scores, member)
    n, total = members.size, members.size + nonmembers.size
    ranks = rankdata(np.concatenate([members, nonmembers]))
    observed = ranks[:n].sum()
    if total > _LARGE:
        spread = np.sqrt(ranks.var(ddof=1) * n * (total - n) / total)
        return float(norm.sf((observed - n * ranks.mean() - 0.5) / spread)) if spread > 0.0 else 1.0
    # Midranks are halves of whole numbers: their sums are exact in any order and tied sums compare as equal.
    as_large = sum(int((chosen @ ranks >= observed).sum()) for chosen in random_subsets(total, n, permutations, seed))
    return (1.0 + as_large) / (1.0 + permutations)


def exposed_p_value(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    permutations: int = 9999,
    seed: int = 0,
    group: ArrayLike | None = None,
) -> float:
    """Chance that so many of the highest scores would be members' if scores knew nothing of membership; one-sided.

    Where a model memorised a few samples, the area under the ROC hardly moves, but they stand at the top. The statistic
    is higher criticism in the form of Berk and Jones (1979): of the ``k`` highest scores, for each ``k`` up to a tenth
    of all (10 at least, 500 at most), how unlikely the number of members among them is, ``k`` times the relative
    entropy of their share to that of all samples; the largest of these. Membership is shuffled as for
    :func:`permutation_p_value`, so the p-value is exact under exchangeability, and unlike :func:`simes_p_value` it may
    fall far below 1 / (n + 1).

    Args:
        scores: (N,) numbers, higher = more likely member.
        member: (N,) booleans, True for members.
        permutations: Number of shuffles; the p-value cannot fall below 1 / (1 + permutations).
        seed: Seed of the shuffles.
        group: Group of each sample, (N,): groups are shuffled as wholes, and within those on both sides the samples.

    Returns:
        The p-value in (0, 1]; 1 where the highest scores are tied beyond those that are looked at.

    Raises:
        ValueError: If scores do not fit the flags, a side is empty, or there is no permutation.

    Example:
        >>> scores = np.random.default_rng(1).normal(size=1000)
        >>> member = np.arange(1000) < 500
        >>> scores[:25] += 10.0  # 5 % of the members
        >>> permutation_p_value(scores, member) > 0.03, exposed_p_value(scores, member)
        (True, 0.0001)
    """
    split_sides(scores, member)
    if permutations < 1:
        raise ValueError(f"Expected one or more permutations, but got {permutations}.")
    s, sides = np.asarray(scores, dtype=np.float64).ravel(), np.asarray(member, dtype=bool).ravel()
    codes = np.arange(s.size, dtype=np.intp) if group is None else as_codes(group, s.size)
    top, last_of_tie = highest(s)
    share = float(sides.mean())
    hits, found = np.zeros(1 + permutations, dtype=np.intp), np.zeros(1 + permutations)
    labels = _labels_of(codes[top], sides, codes, permutations, np.random.default_rng([seed, 2]))
    for place, (own, shuffled) in enumerate(zip(sides[top], labels, strict=True)):
        hits[0] += own
        hits[1:] += shuffled
        if last_of_tie[place]:
            np.maximum(found, surprise_of_hits(place + 1, share)[hits], out=found)
    return float(np.mean(found >= found[0]))


def highest(scores: Floats) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The samples that :func:`exposed_p_value` looks at, highest first, and which of them are the last of a tie."""
    falling = np.argsort(-scores, kind="stable")
    most = min(scores.size - 1, max(_EXPOSED[0], min(_EXPOSED[1], round(_EXPOSED_SHARE * scores.size))))
    top = falling[:most]
    return top, scores[top] > scores[falling[1 : most + 1]]


def _labels_of(
    top: Codes, member: NDArray[np.bool_], codes: Codes, permutations: int, rng: np.random.Generator
) -> Iterator[NDArray[np.bool_]]:
    """Shuffled membership of some samples, given by their groups, one after the other, (permutations,) each.

    Drawn without replacement: groups on one side out of all such groups, samples of the others out of their group's.
    """
    counts = count_groups(member, codes)
    mixed, size = counts.on_both, counts.members + counts.nonmembers
    groups_left = int((~mixed).sum())
    members_left = np.full(permutations, int((counts.members[~mixed] > 0).sum()))
    drawn: dict[int, NDArray[np.bool_]] = {}
    left: dict[int, tuple[int, NDArray[np.intp]]] = {}
    for code in top.tolist():
        if mixed[code]:
            samples, members = left.get(code, (int(size[code]), np.full(permutations, counts.members[code])))
            label = rng.random(permutations) * samples < members
            left[code] = samples - 1, members - label
        elif (label := drawn.get(code, np.empty(0, dtype=bool))).size == 0:
            label = rng.random(permutations) * groups_left < members_left
            groups_left, members_left, drawn[code] = groups_left - 1, members_left - label, label
        yield label


def surprise_of_hits(count: int, share: float) -> Floats:
    """How unlikely 0, 1, ... members among ``count`` samples are, where ``share`` of all are: 0 for no more of them."""
    hits = np.arange(count + 1.0)
    entropy = rel_entr(hits / count, share) + rel_entr(1.0 - hits / count, 1.0 - share)
    return np.asarray(np.where(hits > share * count, count * entropy, 0.0), dtype=np.float64)


def collection_p_value(
    suspects: ArrayLike,
    reference: ArrayLike,
    *,
    permutations: int = 9999,
    seed: int = 0,
    groups: tuple[ArrayLike, ArrayLike] | None = None,
) -> float:
    """One p-value, in (0, 1], for a whole collection: were any of these samples trained on?

    The statistic is Fisher's, the sum of ``-log p`` over the conformal p-values of the suspects. Who is suspect and
    who is reference is shuffled and the p-values computed anew, which is exact if nonmember suspects are exchangeable
    with the reference. Plain Fisher would be wrong: the p-values share their reference and swing together. Simes
    would be right but blunt: it cannot fall below ``1 / (n + 1)``, however many suspects stand out.

    Args:
        suspects: (m,) scores of the samples in question, higher = more likely member.
        reference: (n,) scores of known nonmembers, drawn as the suspects were.
        permutations: Number of shuffles; the p-value cannot fall below 1 / (1 + permutations). Above 5,000 samples
            they are reduced to about 50,000,000 / samples, but not below 999: fewer is coarser, never wrong.
        seed: Seed of the shuffles.
        groups: Groups of the suspects, (m,), and of the reference, (n,), in the same labels: they are shuffled as
            wholes (:class:`~mia_lightning.functional.group_shuffles.GroupShuffles`), and each p-value is taken less
            its mean, one, so that a group counts by what it shows and not by its size.

    Raises:
        ValueError: If a side is empty, a score is not finite, or there is no permutation.

    Example:
        >>> collection_p_value(suspects=range(5, 25), reference=range(20))
        0.0093
    """
    s, r = _finite(suspects, "suspect"), _finite(reference, "reference")
    total = s.size + r.size
    turned = -np.concatenate([s, r])
    falling = np.argsort(turned, kind="stable")
    last_tied = np.searchsorted(turned[falling], turned[falling], side="right") - 1
    if groups is not None:
        labels = np.concatenate([np.asarray(one).ravel() for one in groups])
        return _collection_of_groups(falling, last_tied, s.size, labels, permutations, seed)
    surprise = -np.log(np.arange(1, r.size + 2) / (r.size + 1))  # of a sample that 0, 1, ... references reach

    def fisher(suspect: NDArray[np.bool_]) -> Floats:
        reached = np.cumsum(~suspect, axis=1, dtype=np.int32)[:, last_tied]
        return np.asarray((surprise[reached] * suspect).sum(axis=1), dtype=np.float64)

    if total > _LARGE:
        permutations = min(permutations, max(999, 10_000 * _LARGE // total))
    observed = fisher((falling < s.size)[None])[0] * (1.0 - 1e-12)  # sums of logarithms that tie differ by rounding
    as_large = sum(
        int((fisher(chosen) >= observed).sum()) for chosen in random_subsets(total, s.size, permutations, seed)
    )
    return (1.0 + as_large) / (1.0 + permutations)


def _collection_of_groups(
    falling: NDArray[np.intp],
    last_tied: NDArray[np.intp],
    suspects: int,
    labels: NDArray[np.generic],
    permutations: int,
    seed: int,
) -> float:
    """The p-value of :func:`collection_p_value` where samples come in groups."""
    first = np.arange(falling.size) < suspects
    shuffles = GroupShuffles(first, labels)

    def fisher(suspect: NDArray[np.bool_]) -> Floats:
        here = suspect[:, falling]
        reached = np.cumsum(~here, axis=1, dtype=np.int32)[:, last_tied]
        references = falling.size - suspect.sum(axis=1, keepdims=True)
        surprise = np.log1p(references) - np.log1p(reached)
        return np.asarray(((surprise - 1.0) * here).sum(axis=1), dtype=np.float64)

    if falling.size > _LARGE:
        permutations = min(permutations, max(999, 10_000 * _LARGE // falling.size))
    observed = fisher(first[None])[0]
    least = observed - 1e-12 * max(1.0, abs(observed))
    drawn = shuffles.samples(shuffles.affordable(permutations), seed)
    counts = [(int((fisher(chosen) >= least).sum()), len(chosen)) for chosen in drawn]
    return (1.0 + sum(count for count, _ in counts)) / (1.0 + sum(rows for _, rows in counts))


def _finite(values: ArrayLike, side: str) -> Floats:
    found = np.asarray(values, dtype=np.float64).ravel()
    if found.size == 0 or not np.isfinite(found).all():
        bad = int((~np.isfinite(found)).sum())
        raise ValueError(f"Expected one or more finite {side} scores, but got {found.size}, {bad} NaN or infinite.")
    return found


def _p_values(values: ArrayLike) -> Floats:
    p = np.asarray(values, dtype=np.float64).ravel()
    if p.size == 0 or not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError(f"Expected one or more p-values in [0, 1], but got {p.tolist()[:5]} (the first of {p.size}).")
    return p
