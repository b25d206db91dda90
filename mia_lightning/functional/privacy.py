"""Lower bounds on epsilon of differential privacy, computed from the scores of an audit."""

from collections.abc import Sequence
from math import ceil, floor, log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
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
    _check_counts(correct, guesses, samples, delta)
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
    _check_counts(correct, guesses, samples, delta)
    check_level(level)
    return _search_epsilon(correct, guesses, samples, delta, 1.0 - level, beyond=0.0)


def one_run_bound(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    delta: float = 0.0,
    level: float = 0.95,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> EpsilonBound:
    """Lower bound on epsilon from the scores of one training run; the sound one.

    The highest scores are guessed to be members; in the two-sided choices as many of the lowest are guessed to be
    nonmembers; the rest is abstained from. Each share is tried both ways with the confidence split evenly over all
    choices, so the best of them may be reported (Steinke, Nasr and Jagielski, NeurIPS 2023). Choices with so few
    guesses that they could never win are dropped, which only the number of samples decides.

    **Assumes** that independent fair coins decided which samples were trained on. Drawing exactly half of them, or
    using the splits that a data set came with, is not that, and then the number is an indication only. Samples may
    influence each other through the one model they share: the theorem allows it.

    Args:
        scores: (N,) numbers, higher = more likely member.
        member: (N,) booleans, True for members.
        delta: The slack that (epsilon, delta)-privacy is granted, in [0, 1].
        level: Confidence, in (0, 1).
        shares: Shares of the samples to guess at, each in (0, 1]; fix them before seeing results.
        seed: Samples of equal score are ordered by a coin with this seed, never by their place in the table, which
            may tell members from nonmembers.

    Raises:
        ValueError: If scores or flags do not fit, or delta, level or a share is out of range.

    Example:
        >>> bound = one_run_bound(range(200), [i >= 100 for i in range(200)])
        >>> round(bound.epsilon, 2), bound.rule, bound.guesses, bound.correct
        (2.96, 'two-sided', 100, 100)
    """
    _check_settings(delta, level, shares)
    split_sides(scores, member)
    s, m = np.asarray(scores, dtype=np.float64).ravel(), np.asarray(member, dtype=bool).ravel()
    shuffled = np.random.default_rng(seed).permutation(s.size)
    falling = m[shuffled[np.argsort(-s[shuffled], kind="stable")]]
    members_among_first = np.concatenate([[0], np.cumsum(falling)])
    choices = _guesses(s.size, shares, level)
    best = EpsilonBound(0.0, delta, level, "none", 0, 0)
    for top, bottom in choices:
        right = int(members_among_first[top] + bottom - m.sum() + members_among_first[s.size - bottom])
        tail = (1.0 - level) / len(choices)
        epsilon = _search_epsilon(right, top + bottom, s.size, delta, tail, beyond=best.epsilon)
        if epsilon > best.epsilon:
            best = EpsilonBound(epsilon, delta, level, "two-sided" if bottom else "members", top + bottom, right)
    return best


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
    choices = [(round(share * samples / 2),) * 2 for share in shares if round(share * samples / 2) * 2 <= samples]
    choices += [(round(share * samples), 0) for share in shares]
    return [choice for choice in dict.fromkeys(choices) if 0.5 ** sum(choice) < 1.0 - level]


def _check_counts(correct: int, guesses: int, samples: int, delta: float) -> None:
    if not 0 <= correct <= guesses <= samples:
        raise ValueError(
            f"Expected 0 <= correct <= guesses <= samples, but got {correct} correct of {guesses} guesses "
            f"about {samples} samples."
        )
    _check_delta(delta)


def _check_delta(delta: float) -> None:
    if not 0.0 <= delta <= 1.0:
        raise ValueError(f"Expected delta in [0, 1], but got {delta}.")


def _check_settings(delta: float, level: float, shares: Sequence[float]) -> None:
    _check_delta(delta)
    check_level(level)
    if not shares or not all(0.0 < share <= 1.0 for share in shares):
        raise ValueError(f"Expected one or more shares in (0, 1], but got {tuple(shares)}.")
