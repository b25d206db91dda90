"""Lower bounds on epsilon of differential privacy, computed from the scores of an audit."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import ceil, floor, log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, expit, logit
from scipy.stats import beta, binom

from mia_lightning.functional.intervals import check_level, clopper_pearson
from mia_lightning.functional.roc import split_sides

SHARES = (0.02, 0.05, 0.1, 0.2, 0.5)  # fixed in advance: choosing them by results would invalidate the level


class EpsilonBound(NamedTuple):
    """A lower bound on epsilon and the choice that gave it.

    Attributes:
        epsilon: The bound, at least 0. 0 says that nothing was shown, not that training was private.
        delta: The delta it holds with.
        level: Confidence of the bound, whatever number of choices was tried.
        rule: What was guessed: ``"members"``, ``"nonmembers"``, ``"two-sided"``, or ``"none"`` where epsilon is 0.
        guesses: Number of samples guessed at.
        correct: Number of right guesses.
    """

    epsilon: float
    delta: float
    level: float
    rule: str
    guesses: int
    correct: int


def one_run_p_value(correct: int, guesses: int, samples: int, epsilon: float, delta: float = 0.0) -> float:
    """Upper bound on the chance of so many right guesses about one training run if it were (epsilon, delta)-private.

    Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023: with
    ``q = 1 / (1 + exp(-epsilon))`` and ``B`` binomial with ``guesses`` trials of chance ``q``, the p-value is
    ``P(B >= correct) + 2 * samples * delta * max over i of P(correct > B >= correct - i) / i``.

    Args:
        correct: Number of right guesses, 0 to ``guesses``.
        guesses: Number of samples guessed at; the others were abstained from.
        samples: Number of samples whose membership was randomised, guessed at or not.
        epsilon: The privacy loss supposed, at least 0.
        delta: The slack supposed, in [0, 1].

    Raises:
        ValueError: If counts, epsilon or delta are out of range.

    Example:
        >>> round(one_run_p_value(correct=9, guesses=10, samples=10, epsilon=0.0), 4)  # 11 of 1024 coin rows
        0.0107
    """
    check_counts(correct, guesses, samples)
    check_delta(delta)
    if not epsilon >= 0.0:
        raise ValueError(f"Expected epsilon >= 0, but got {epsilon}.")
    q = float(expit(epsilon))
    p_value = float(binom.sf(correct - 1, guesses, q))
    if delta > 0.0 and correct > 0:
        # Terms far from the mean are negligible: leaving them out keeps 200,000 guesses cheap.
        mean, reach = guesses * q, 12.0 * sqrt(guesses * q * (1.0 - q)) + 40.0
        highest = min(correct - 1, ceil(mean + reach))
        lowest = max(0, min(highest, floor(mean - reach)))
        at = np.arange(highest, lowest - 1, -1)
        sums = np.cumsum(binom.pmf(at, guesses, q))
        p_value += 2.0 * samples * delta * float((sums / (correct - at)).max())
    return min(p_value, 1.0)


def one_run_epsilon(correct: int, guesses: int, samples: int, *, delta: float = 0.0, level: float = 0.95) -> float:
    """Largest epsilon that so many right guesses about one training run rule out, at least 0.

    Inverts :func:`one_run_p_value` (Steinke, Nasr and Jagielski, NeurIPS 2023). Membership of the samples must have
    been assigned by independent fair coins, and the guesses must not have been chosen with it in view. Counts and delta
    as there; ``level`` is the confidence, in (0, 1).

    Raises:
        ValueError: If counts, delta or level are out of range.

    Example:
        >>> round(one_run_epsilon(correct=100, guesses=100, samples=100), 3)
        3.493
        >>> round(one_run_epsilon(correct=95, guesses=100, samples=1000, delta=1e-5), 3)
        2.165
    """
    check_counts(correct, guesses, samples)
    check_delta(delta)
    check_level(level)
    return _search_epsilon(correct, guesses, samples, delta, 1.0 - level, beyond=0.0)


def one_run_bound(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    delta: float = 0.0,
    level: float = 0.95,
    shares: Sequence[float] | None = None,
    seed: int = 0,
) -> EpsilonBound:
    """Lower bound on epsilon from the scores of one training run; the sound one.

    The highest scores are guessed to be members; in the two-sided choices as many of the lowest are guessed to be
    nonmembers; the rest is abstained from. Each share is tried both ways, and the best choice may be reported: its
    p-value (Steinke, Nasr and Jagielski, NeurIPS 2023) is held against a level that allows for all of them. Guesses
    of the smaller shares are among those of the larger, so that the numbers of right guesses swing together:
    :func:`joint_level` has the level from their joint distribution, each way with half of the error. At a delta above
    0 the chance that any guess is right by that slack, at most ``samples * delta``, comes off the error first. Where
    that would be more than a fifth of it, the error is split evenly over all choices instead, each with its own
    allowance for delta. Choices with so few guesses that they could never win are dropped. All of this is decided by
    delta and the number of samples.

    **Assumes** that independent fair coins decided which samples were trained on. Drawing exactly half of them, or
    using the splits that a data set came with, is not that, and then the number is an indication only. Samples may
    influence each other through the one model they share: the theorem allows it.

    Args:
        scores: (N,) numbers, higher = more likely member.
        member: (N,) booleans, True for members.
        delta: The slack that (epsilon, delta)-privacy is granted, in [0, 1].
        level: Confidence, in (0, 1).
        shares: Shares of the samples to guess at, each in (0, 1]; fix them before seeing results. By default
            :data:`SHARES` and, where delta is 0 or takes no more than a fifth of the error, all samples.
        seed: Samples of equal score are ordered by a coin with this seed, never by their place in the table, which
            may tell members from nonmembers.

    Raises:
        ValueError: If scores or flags do not fit, or delta, level or a share is out of range.

    Example:
        >>> bound = one_run_bound(range(200), [i >= 100 for i in range(200)])
        >>> round(bound.epsilon, 2), bound.rule, bound.guesses, bound.correct
        (3.65, 'two-sided', 200, 200)
    """
    if shares is None:
        shares = (*SHARES, 1.0) if _is_joint(np.size(scores), delta, level) else SHARES
    _check_settings(delta, level, shares)
    size = np.size(scores)
    choices = _guesses(size, shares, level)
    tails, slack = _tails(choices, size, delta, level)
    best = EpsilonBound(0.0, delta, level, "none", 0, 0)
    for (top, bottom), tail, right in zip(choices, tails, right_guesses(scores, member, choices, seed), strict=True):
        epsilon = _search_epsilon(right, top + bottom, size, slack, tail, beyond=best.epsilon)
        if epsilon > best.epsilon:
            best = EpsilonBound(epsilon, delta, level, "two-sided" if bottom else "members", top + bottom, right)
    return best


def right_guesses(scores: ArrayLike, member: ArrayLike, choices: Sequence[tuple[int, int]], seed: int = 0) -> list[int]:
    """Count the right guesses where so many of the highest scores are guessed members, of the lowest nonmembers.

    Args:
        scores: (N,) numbers, higher = more likely member.
        member: (N,) booleans, True for members.
        choices: Numbers of guesses at the top and at the bottom, together at most N.
        seed: Seed of the coin that orders samples of equal score.

    Raises:
        ValueError: If scores or flags do not fit.

    Example:
        >>> right_guesses([0.9, 0.8, 0.2, 0.1], [True, False, True, False], [(1, 1), (2, 2)])
        [2, 2]
    """
    split_sides(scores, member)
    s, m = np.asarray(scores, dtype=np.float64).ravel(), np.asarray(member, dtype=bool).ravel()
    shuffled = np.random.default_rng(seed).permutation(s.size)
    falling = m[shuffled[np.argsort(-s[shuffled], kind="stable")]]
    first = np.concatenate([[0], np.cumsum(falling)])  # members among the first
    return [int(first[top] + bottom - first[-1] + first[s.size - bottom]) for top, bottom in choices]


def _tails(choices: Sequence[tuple[int, int]], samples: int, delta: float, level: float) -> tuple[list[float], float]:
    """Level of each choice's p-value, and the delta that it still has to allow for itself."""
    if not choices or not _is_joint(samples, delta, level):
        return [(1.0 - level) / max(1, len(choices))] * len(choices), delta
    ways = [tuple(sorted({a + b for a, b in choices if bool(b) == two_sided})) for two_sided in (False, True)]
    part = (1.0 - level - samples * delta) / sum(map(bool, ways))
    levels = [joint_level(sizes, part) if sizes else 0.0 for sizes in ways]
    return [levels[bool(bottom)] for _, bottom in choices], 0.0


def _is_joint(samples: int, delta: float, level: float) -> bool:
    """Whether all choices are held against their joint distribution."""
    return samples * delta <= 0.2 * (1.0 - level)


_PRIVACY = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0)  # values of epsilon at which a joint level is computed
_SCALED = 500  # guesses from which the joint distribution is that of fewer, in the same proportions


def joint_level(sizes: Sequence[int], tail: float) -> float:
    """Level of the p-values of nested numbers of right guesses that holds for all of them together.

    Right guesses about an epsilon-private training are dominated by independent coins of chance
    ``q = 1 / (1 + exp(-epsilon))``, all at once: given the model and the membership of the samples before it, no
    sample's membership is guessed right more often (as in the proof of Steinke, Nasr and Jagielski, NeurIPS 2023). At
    a delta, each is guessed right by more than that with a chance of at most delta, and any of them with ``samples *
    delta``. The numbers of right guesses
    among nested sets are thus dominated by partial sums of these coins, whose joint distribution is computed step by
    step (:class:`NestedCounts`); the level is the largest at which any of their binomial p-values reaches it with a
    chance of at most ``tail``, at each of several values of epsilon, ties broken by a coin, without which it happens
    less often. Where there are more than 500
    guesses, as many in the same proportions take their place.

    Args:
        sizes: Numbers of guesses, ascending, each among the next.
        tail: Chance, in (0, 1), that any of them errs.

    Returns:
        The level, from ``tail / len(sizes)``, as if they had nothing in common, to ``tail``.

    Example:
        >>> round(joint_level([40, 100, 200, 500], 0.025), 4), joint_level([100], 0.025)
        (0.0072, 0.025)
    """
    largest = max(sizes)
    if largest > _SCALED:
        sizes = [max(1, round(size * _SCALED / largest)) for size in sizes]
    return _joint_level(tuple(sorted(set(sizes))), tail)


@lru_cache(maxsize=256)
def _joint_level(sizes: tuple[int, ...], tail: float) -> float:
    low, high = tail / len(sizes), tail
    if len(sizes) == 1:
        return tail
    counts = [NestedCounts(sizes, float(expit(epsilon))) for epsilon in _PRIVACY]
    for _ in range(12):
        middle = (low + high) / 2.0
        held = all(one.chance(middle) <= tail for one in counts)
        low, high = (middle, high) if held else (low, middle)
    return low


class NestedCounts:
    """Partial sums of independent coins: numbers of right guesses among nested sets of samples.

    Args:
        sizes: Numbers of coins, ascending, each among the next.
        q: Chance of each, in (0, 1).
    """

    def __init__(self, sizes: Sequence[int], q: float) -> None:
        self.steps: list[tuple[int, NDArray[np.float64], NDArray[np.float64]]] = []
        before = first = last = 0
        for size in sizes:
            more = size - before
            reach = 10.0 * sqrt(more * q * (1.0 - q)) + 40.0
            least, most = max(0, floor(more * q - reach)), min(more, ceil(more * q + reach))
            before, first, last = size, first + least, last + most
            p_values = _at_least(
                np.arange(first, last + 2), size, q
            )  # of each count from the first on, and of one more
            self.steps.append((first, -np.diff(_at_least(np.arange(least, most + 2), more, q)), p_values))

    def chance(self, level: float) -> float:
        """Chance that any of the counts has a binomial p-value that reaches a level.

        Counts are whole numbers, so that a p-value reaches most levels less often than it says. Here one coin, the same
        for all counts, sometimes lets the next lower count reach it, too, so that each does as often as it says.

        Example:
            >>> counts = NestedCounts([10, 20], 0.5)
            >>> round(counts.chance(0.05), 4), round(NestedCounts([10], 0.5).chance(0.05), 4)
            (0.0798, 0.05)
        """
        borders: list[int] = []  # the highest counts that do not reach it by themselves
        shares: list[float] = []  # and how often they may
        for first, _, p_values in self.steps:
            border = int((p_values > level).sum()) - 1
            above, below = (float(p_values[place]) if place >= 0 else 1.0 for place in (border + 1, border))
            borders.append(first + border)
            shares.append((level - above) / (below - above) if below > above else 0.0)
        cuts = sorted({0.0, 1.0, *shares})
        return sum(
            (high - low) * self._reaching([b - int(share >= high) for b, share in zip(borders, shares, strict=True)])
            for low, high in pairwise(cuts)
        )

    def _reaching(self, highest: Sequence[int]) -> float:
        """Chance that any count lies above the highest one that does not reach the level."""
        none = np.ones(1)
        for (first, more, _), border in zip(self.steps, highest, strict=True):
            none = np.convolve(none, more)
            none[max(0, border + 1 - first) :] = 0.0
        return 1.0 - float(none.sum())


def _at_least(counts: NDArray[np.intp], trials: int, q: float) -> NDArray[np.float64]:
    """Chance of at least so many successes."""
    inner = np.clip(counts, 1, trials)
    chances = betainc(inner, trials - inner + 1.0, q)
    return np.asarray(np.where(counts <= 0, 1.0, np.where(counts > trials, 0.0, chances)))


def threshold_bound(
    scores: ArrayLike, member: ArrayLike, *, delta: float = 0.0, level: float = 0.95, shares: Sequence[float] = SHARES
) -> EpsilonBound:
    """Lower bound on epsilon from the rates at thresholds; the customary one.

    (epsilon, delta)-privacy allows ``TPR <= exp(epsilon) * FPR + delta`` and ``TNR <= exp(epsilon) * FNR + delta``
    (Kairouz, Oh and Viswanath, 2015). Both rates of each threshold get Clopper-Pearson bounds, the confidence split
    over all of them; the two inequalities read the same two bounds, so trying both costs nothing more. Thresholds
    stand at fixed shares of the pooled scores from the top and from the bottom, blind to membership.

    **Assumes** independent fair coins for membership, and treats samples as independent trials. Samples that went
    through one training run are not independent: they share its weights. Prefer :func:`one_run_bound`, which does not
    need that; this one is exact where every sample had a training run of its own.

    Arguments and errors as for :func:`one_run_bound`; ``shares`` are those above, and below, the thresholds. The
    ``guesses`` are the samples on the side that won.

    Example:
        >>> bound = threshold_bound(range(200), [i >= 100 for i in range(200)])
        >>> round(bound.epsilon, 2), bound.rule, bound.guesses, bound.correct
        (2.8, 'members', 100, 100)
    """
    _check_settings(delta, level, shares)
    members, nonmembers = (np.sort(side) for side in split_sides(scores, member))
    pooled = np.sort(np.concatenate([members, nonmembers]))
    places = {round(share * pooled.size) for share in shares} | {round((1 - share) * pooled.size) for share in shares}
    thresholds = {float(pooled[place]) for place in places if 0 < place < pooled.size} - {float(pooled[0])}
    best = EpsilonBound(0.0, delta, level, "none", 0, 0)
    for threshold in sorted(thresholds):
        hits = members.size - int(np.searchsorted(members, threshold))
        alarms = nonmembers.size - int(np.searchsorted(nonmembers, threshold))
        one_sided = 1.0 - (1.0 - level) / len(thresholds)  # two-sided level whose either tail is the share of one bound
        tpr_low = clopper_pearson(hits, members.size, one_sided).low
        fpr_high = clopper_pearson(alarms, nonmembers.size, one_sided).high
        below = pooled.size - hits - alarms
        for rule, ratio, guesses, right in (
            ("members", (tpr_low - delta) / fpr_high, hits + alarms, hits),
            ("nonmembers", (1 - fpr_high - delta) / (1 - tpr_low), below, nonmembers.size - alarms),
        ):
            if ratio > np.exp(best.epsilon):
                best = EpsilonBound(log(ratio), delta, level, rule, guesses, right)
    return best


def _search_epsilon(correct: int, guesses: int, samples: int, delta: float, tail: float, beyond: float) -> float:
    """Largest epsilon with p-value below ``tail``; 0 where it does not exceed ``beyond``."""
    high = float(logit(beta.ppf(tail, correct, guesses - correct + 1))) if correct else 0.0  # delta = 0: closed form
    if high <= beyond:
        return 0.0
    if delta == 0.0:
        return high
    low = beyond
    if one_run_p_value(correct, guesses, samples, low, delta) >= tail:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2.0
        ruled_out = one_run_p_value(correct, guesses, samples, middle, delta) < tail
        low, high = (middle, high) if ruled_out else (low, middle)
    return low


def _guesses(samples: int, shares: Sequence[float], level: float) -> list[tuple[int, int]]:
    """How many of the highest and of the lowest scores each choice guesses at."""
    choices = [(min(round(share * samples / 2), samples // 2),) * 2 for share in shares]
    choices += [(round(share * samples), 0) for share in shares if share < 1.0]  # all of them: nothing is chosen
    return [choice for choice in dict.fromkeys(choices) if 0.5 ** sum(choice) < 1.0 - level]


def check_counts(correct: int, guesses: int, samples: int) -> None:
    """Raise ValueError for numbers of guesses that cannot be."""
    if not 0 <= correct <= guesses <= samples:
        raise ValueError(
            f"Expected 0 <= correct <= guesses <= samples, but got {correct} correct of {guesses} guesses "
            f"about {samples} samples."
        )


def check_delta(delta: float) -> None:
    """Raise ValueError for a delta outside of [0, 1]."""
    if not 0.0 <= delta <= 1.0:
        raise ValueError(f"Expected delta in [0, 1], but got {delta}.")


def _check_settings(delta: float, level: float, shares: Sequence[float]) -> None:
    check_delta(delta)
    check_level(level)
    if not shares or not all(0.0 < share <= 1.0 for share in shares):
        raise ValueError(f"Expected one or more shares in (0, 1], but got {tuple(shares)}.")
