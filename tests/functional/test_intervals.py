from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from mia_lightning.functional.intervals import clopper_pearson, delong_interval, delong_variance
from mia_lightning.functional.roc import roc_auc


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 20), (20, 20), (3, 20), (50, 97), (1, 512)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_binomial_interval_is_that_of_scipy(successes, trials, level):
    expected = binomtest(successes, trials).proportion_ci(level, method="exact")
    found = clopper_pearson(successes, trials, level)
    assert found == pytest.approx((successes / trials, expected.low, expected.high), abs=1e-12)


def test_fractional_successes_lie_between_their_neighbours():
    lower, middle, upper = (clopper_pearson(s, 10) for s in (3, 3.5, 4))
    assert lower.low < middle.low < upper.low
    assert lower.high < middle.high < upper.high


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match=f"0 <= successes <= trials and trials >= 1, but got {successes} of {trials}"):
        clopper_pearson(successes, trials)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_impossible_confidence_is_refused(level):
    with pytest.raises(ValueError, match=rf"confidence level in \(0, 1\), but got {level}"):
        clopper_pearson(1, 2, level)
    with pytest.raises(ValueError, match=rf"confidence level in \(0, 1\), but got {level}"):
        delong_interval([1.0, 2.0], [True, False], level)


def two_sides(members: int, nonmembers: int, shift: float = 0.8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    member = np.arange(members + nonmembers) < members
    scores = np.random.default_rng(seed).normal(size=member.size) + shift * member
    return scores.round(1), member  # rounding makes ties


@pytest.mark.parametrize(("members", "nonmembers"), [(40, 25), (2, 30), (7, 2)])
def test_variance_is_that_of_the_double_loop(members, nonmembers):
    scores, member = two_sides(members, nonmembers)
    wins = np.array([[float(a > b) + 0.5 * float(a == b) for b in scores[~member]] for a in scores[member]])
    expected = wins.mean(1).var(ddof=1) / members + wins.mean(0).var(ddof=1) / nonmembers
    assert delong_variance(scores, member) == pytest.approx((wins.mean(), expected), abs=1e-14)


def test_variance_is_that_of_a_bootstrap():
    scores, member = two_sides(80, 60)
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(1500):
        rows = np.r_[rng.integers(0, 80, 80), 80 + rng.integers(0, 60, 60)]
        draws.append(roc_auc(scores[rows], member[rows]))
    assert delong_variance(scores, member)[1] == pytest.approx(np.var(draws), rel=0.12)


def test_variance_of_a_lone_sample_is_unknown():
    auc, variance = delong_variance([1.0, 2.0, 0.0], [True, False, False])
    assert auc == 0.5
    assert np.isnan(variance)


@pytest.mark.parametrize(
    ("members", "nonmembers"),
    [
        ([2.0, 3.0], [0.0, 1.0]),
        ([0.0, 1.0], [2.0, 3.0]),
        ([1.0] * 9, [1.0] * 5),
        ([1.0], [0.0]),
        ([1.0], [1.0]),
        ([2.0], [1.0, 3.0, 4.0]),
        ([1.0, 2.0, 4.0], [3.0]),
    ],
)
def test_interval_never_collapses_and_holds_the_estimate(members, nonmembers):
    scores, member = np.r_[members, nonmembers], np.arange(len(members) + len(nonmembers)) < len(members)
    auc, low, high = delong_interval(scores, member)
    assert auc == roc_auc(scores, member)
    assert 0.0 <= low <= auc <= high <= 1.0
    assert high - low > 0.2


def test_perfect_separation_gives_the_exact_bound_of_the_smaller_side():
    scores, member = np.arange(30.0), np.arange(30) >= 10
    assert delong_interval(scores, member) == pytest.approx((1.0, 0.025 ** (1 / 10), 1.0))
    assert delong_interval(-scores, member) == pytest.approx((0.0, 0.0, 1 - 0.025 ** (1 / 10)))


def test_turning_the_scores_turns_the_interval():
    scores, member = two_sides(30, 40)
    auc, low, high = delong_interval(scores, member)
    assert delong_interval(-scores, member) == pytest.approx((1 - auc, 1 - high, 1 - low), abs=1e-12)


def test_more_confidence_and_fewer_samples_widen_the_interval():
    def width(size: int, level: float) -> float:
        _, low, high = delong_interval(*two_sides(size, size), level)
        return high - low

    assert width(50, 0.8) < width(50, 0.95) < width(50, 0.99)
    assert width(400, 0.95) < width(50, 0.95)


@pytest.mark.parametrize("size", [12, 60])
def test_interval_covers_chance_as_often_as_it_says(size):
    covered = 0
    for seed in range(200):
        _, low, high = delong_interval(*two_sides(size, size, shift=0.0, seed=seed))
        covered += low <= 0.5 <= high
    assert 0.91 <= covered / 200 <= 0.985
