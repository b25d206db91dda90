"""Lower bounds on the privacy loss of mechanisms whose trade-off curve is known: Gaussian differential privacy."""

from collections.abc import Callable, Sequence
from math import exp, inf
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtr, ndtri

from mia_lightning.functional.intervals import check_level
from mia_lightning.functional.privacy import check_counts, check_delta, right_guesses

Floor = Callable[[float], float]
"""The smallest chance that an event may have once one sample's membership is flipped, by its chance before: convex and
rising, the inverse of 1 - f for a trade-off function f."""

CHOICES = ((0.05, 0.05), (0.25, 0.25), (0.05, 0.0))
"""Shares of the samples guessed to be members and nonmembers; fixed in advance."""


class GaussianBound(NamedTuple):
    """A lower bound on the mu of Gaussian differential privacy and the choice that gave it.

    Attributes:
        mu: The bound, at least 0: distance of the two unit normal distributions that are no harder to tell apart than
            two trainings that differ in one sample. 0 says that nothing was shown.
        epsilon: The epsilon that a training of this mu has at ``delta``; infinite where delta is 0 and mu is not.
        delta: The delta of it.
        level: Confidence of the bound, whatever number of choices was tried.
        rule: What was guessed: ``"members"``, ``"two-sided"``, or ``"none"`` where mu is 0.
        guesses: Number of samples guessed at.
        correct: Number of right guesses.
    """

    mu: float
    epsilon: float
    delta: float
    level: float
    rule: str
    guesses: int
    correct: int


def gaussian_floor(mu: float) -> Floor:
    """The floor of Gaussian differential privacy: ``Phi(Phi^-1(chance) - mu)`` (Dong, Roth and Su, JRSS B 2022).

    Example:
        >>> round(gaussian_floor(1.0)(0.5), 4)
        0.1587
    """
    return lambda chance: float(ndtr(ndtri(chance) - mu))


def pure_floor(epsilon: float) -> Floor:
    """The floor of (epsilon, 0)-differential privacy.

    Example:
        >>> round(pure_floor(1.0)(0.5), 4), round(pure_floor(1.0)(0.9), 4)
        (0.1839, 0.7282)
    """
    return lambda chance: max(exp(-epsilon) * chance, 1.0 - exp(epsilon) * (1.0 - chance))


def is_ruled_out(correct: int, guesses: int, samples: int, floor: Floor, tail: float) -> bool:
    """Whether so many right guesses about one training run have a chance below ``tail`` under a trade-off function.

    Mahloujifar, Melis and Chaudhuri, "Auditing f-Differential Privacy in One Run" (arXiv 2410.22235), for membership
    (an alphabet of two). Let ``R_i`` be the chance that at least i guesses are right and a sample drawn at random is
    among those guessed right, and ``W_i`` that it is among those guessed wrong. Flipping the membership of a sample
    that is guessed right makes one right guess less, so that ``W_(i-1) >= floor(R_i)``. Were the chance of ``correct``
    or more as high as ``tail``, this would give lower bounds on ``W_i`` and ``R_i`` for fewer and fewer right guesses,
    lowest where exactly ``correct`` have that chance; where they sum up to more than ``guesses / samples``, it cannot
    be as high.

    Args:
        correct: Number of right guesses, 0 to ``guesses``.
        guesses: Number of samples guessed at; the others were abstained from.
        samples: Number of samples whose membership was randomised, guessed at or not.
        floor: The supposed privacy.
        tail: A chance in (0, 1).

    Raises:
        ValueError: If counts or the chance are out of range.

    Example:
        >>> is_ruled_out(90, 100, 100, gaussian_floor(0.5), 0.05), is_ruled_out(90, 100, 100, gaussian_floor(2.0), 0.05)
        (True, False)
    """
    check_counts(correct, guesses, samples)
    check_level(tail)
    right, wrong = tail * correct / samples, tail * (guesses - correct) / samples
    for i in range(correct - 1, -1, -1):
        least = floor(right)
        if least <= wrong:  # neither will ever change
            return False
        right += i / (guesses - i) * (least - wrong)
        wrong = least
        if right + wrong > guesses / samples:
            return True
    return False


def one_run_mu(correct: int, guesses: int, samples: int, *, level: float = 0.95) -> float:
    """Largest mu of Gaussian differential privacy that so many right guesses about one training run rule out.

    Membership of the samples must have been assigned by independent fair coins, the guesses must not have been chosen
    with it in view, and their number must have been fixed in advance. Counts as for :func:`is_ruled_out`; ``level`` is
    the confidence, in (0, 1).

    Raises:
        ValueError: If counts or level are out of range.

    Example:
        >>> round(one_run_mu(correct=95, guesses=100, samples=1000), 3)
        0.787
    """
    check_level(level)
    tail = 1.0 - level

    def out(mu: float) -> bool:
        return is_ruled_out(correct, guesses, samples, gaussian_floor(mu), tail)

    low, high = 0.0, 1.0
    if not out(low):
        return 0.0
    while out(high):
        low, high = high, 2.0 * high
    for _ in range(30):
        middle = (low + high) / 2.0
        low, high = (middle, high) if out(middle) else (low, middle)
    return low


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon for which mu-Gaussian differential privacy is (epsilon, delta)-differential privacy.

    Dong, Roth and Su (JRSS B 2022), Corollary 1: ``delta = Phi(mu / 2 - epsilon / mu) - exp(epsilon) * Phi(-mu / 2 -
    epsilon / mu)``.

    Args:
        mu: At least 0.
        delta: In [0, 1]. At 0 no epsilon does, and it is infinite, where mu is above 0.

    Raises:
        ValueError: If mu or delta is out of range.

    Example:
        >>> round(gaussian_epsilon(1.0, 1e-5), 3), gaussian_epsilon(1.0, 0.0), gaussian_epsilon(0.0, 0.0)
        (4.377, inf, 0.0)
    """
    check_delta(delta)
    if not mu >= 0.0:
        raise ValueError(f"Expected mu >= 0, but got {mu}.")

    def slack(epsilon: float) -> float:
        return float(ndtr(mu / 2.0 - epsilon / mu) - np.exp(epsilon + log_ndtr(-mu / 2.0 - epsilon / mu)))

    if mu == 0.0 or slack(0.0) <= delta:
        return 0.0
    if delta == 0.0:
        return inf
    low, high = 0.0, mu * (mu / 2.0 - float(ndtri(delta)))  # there the first term alone is delta
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if slack(middle) > delta else (low, middle)
    return low


def gaussian_one_run_bound(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    delta: float = 0.0,
    level: float = 0.95,
    choices: Sequence[tuple[float, float]] = CHOICES,
    seed: int = 0,
) -> GaussianBound:
    """Lower bound on epsilon from the scores of one training run, for trainings that are Gaussian-private.

    The highest scores are guessed to be members and the lowest nonmembers, as
    :func:`~mia_lightning.functional.privacy.one_run_bound` does, in each of a few numbers that are fixed in advance;
    the error is split evenly over those that could win. The largest mu that is ruled out becomes an epsilon at the
    delta. This is a larger one than :func:`~mia_lightning.functional.privacy.one_run_bound` finds, since every other
    trade-off curve of the same epsilon and delta is left out of account.

    **Assumes** what that function does (an independent fair coin for each sample) **and** that two trainings that
    differ in one sample are as hard to tell apart as two normal distributions, for some mu. The Gaussian mechanism is,
    and so is DP-SGD, approximately: many steps with clipped gradients and noise. Of a training without a known
    mechanism nothing is known of its trade-off curve, and only the other bound is one.

    Args:
        scores: (N,) numbers, higher = more likely member.
        member: (N,) booleans, True for members.
        delta: The delta at which epsilon is reported, in [0, 1].
        level: Confidence, in (0, 1).
        choices: Shares of the samples guessed to be members, and nonmembers, together in (0, 1]; fix them before seeing
            results.
        seed: Samples of equal score are ordered by a coin with this seed.

    Raises:
        ValueError: If scores or flags do not fit, or delta, level or a share is out of range.

    Example:
        >>> bound = gaussian_one_run_bound(range(200), [i >= 100 for i in range(200)], delta=1e-5)
        >>> round(bound.mu, 2), round(bound.epsilon, 2), bound.rule, bound.guesses, bound.correct
        (1.3, 5.92, 'two-sided', 100, 100)
    """
    check_delta(delta)
    check_level(level)
    if not choices or not all(min(choice) >= 0.0 and 0.0 < sum(choice) <= 1.0 for choice in choices):
        raise ValueError(f"Expected pairs of shares that sum up to a number in (0, 1], but got {tuple(choices)}.")
    samples = np.size(scores)
    counts = list(dict.fromkeys((int(top * samples), int(bottom * samples)) for top, bottom in choices))
    counts = [choice for choice in counts if 0.5 ** sum(choice) < 1.0 - level]
    best = GaussianBound(0.0, 0.0, delta, level, "none", 0, 0)
    for (top, bottom), right in zip(counts, right_guesses(scores, member, counts, seed), strict=True):
        mu = one_run_mu(right, top + bottom, samples, level=1.0 - (1.0 - level) / len(counts))
        if mu > best.mu:
            rule = "two-sided" if top and bottom else "members" if top else "nonmembers"
            best = GaussianBound(mu, gaussian_epsilon(mu, delta), delta, level, rule, top + bottom, right)
    return best
