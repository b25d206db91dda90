from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from mia_lightning.functional.combination import DIFFICULTY_WEIGHT, surprise, surprise_score
from mia_lightning.functional.intervals import (
    HIGH,
    clopper_pearson,
    delong_difference,
    delong_interval,
    delong_variance,
    newcombe_interval,
    paired_interval,
)
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


def paired(
    members: int, nonmembers: int, shift_a: float, shift_b: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two scores of the same samples that share half of their noise, with ties."""
    rng = np.random.default_rng(seed)
    member = np.arange(members + nonmembers) < members
    common, own = rng.normal(size=member.size), rng.normal(size=(2, member.size))
    a, b = common + own[0] + shift_a * member, 10.0 * (common + own[1] + shift_b * member)
    return a.round(1), b.round(0), member


def win_table(scores: np.ndarray, member: np.ndarray) -> np.ndarray:
    return np.array([[float(p > q) + 0.5 * float(p == q) for q in scores[~member]] for p in scores[member]])


@pytest.mark.parametrize(("members", "nonmembers"), [(40, 25), (2, 30), (12, 2)])
def test_difference_is_that_of_the_covariance_of_all_pairs(members, nonmembers):
    a, b, member = paired(members, nonmembers, 1.0, 0.3)
    wins = [win_table(scores, member) for scores in (a, b)]
    by_members = np.cov(np.stack([w.mean(1) for w in wins])) / members
    by_nonmembers = np.cov(np.stack([w.mean(0) for w in wins])) / nonmembers
    contrast = np.array([1.0, -1.0])
    deviation = np.sqrt(contrast @ (by_members + by_nonmembers) @ contrast)
    gap = wins[0].mean() - wins[1].mean()
    expected = (gap, gap - norm.ppf(0.95) * deviation, gap + norm.ppf(0.95) * deviation)
    found = delong_difference(a, b, member, level=0.9)
    assert found[:3] == pytest.approx(np.clip(expected, -1.0, 1.0), abs=1e-12)
    assert found.p_value == pytest.approx(2.0 * norm.cdf(-abs(gap) / deviation), abs=1e-12)


def test_difference_varies_as_in_a_bootstrap():
    a, b, member = paired(90, 70, 1.2, 0.4)
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(1500):
        rows = np.r_[rng.integers(0, 90, 90), 90 + rng.integers(0, 70, 70)]
        draws.append(roc_auc(a[rows], member[rows]) - roc_auc(b[rows], member[rows]))
    _, low, high, _ = delong_difference(a, b, member)
    assert high - low == pytest.approx(2 * norm.ppf(0.975) * np.std(draws), rel=0.06)


def test_equal_areas_are_told_apart_as_rarely_as_the_level_says():
    found = [delong_difference(*paired(60, 50, 0.8, 0.8, seed=seed)) for seed in range(300)]
    assert 0.02 <= np.mean([p < 0.05 for *_, p in found]) <= 0.085
    assert all((p < 0.05) == (low > 0.0 or high < 0.0) for _, low, high, p in found)


def test_swapping_the_scores_turns_the_difference():
    a, b, member = paired(20, 30, 1.0, 0.2)
    difference, low, high, p_value = delong_difference(a, b, member)
    assert difference == pytest.approx(roc_auc(a, member) - roc_auc(b, member), abs=1e-12)
    assert delong_difference(b, a, member) == pytest.approx((-difference, -high, -low, p_value), abs=1e-12)


@pytest.mark.parametrize(
    "scores_b", [np.arange(30.0), np.exp(np.arange(30.0)), np.arange(30.0) + 100 * (np.arange(30) > 9)]
)
def test_scores_that_rank_both_sides_alike_differ_by_nothing_within_the_exact_bound(scores_b):
    member = np.arange(30) >= 10
    share = 1 - 0.025 ** (1 / 10)
    assert delong_difference(np.arange(30.0), scores_b, member) == pytest.approx((0.0, -share, share, 1.0))


def test_a_perfect_score_beats_its_mirror_image_by_the_exact_bound():
    scores, member = np.arange(16.0), np.arange(16) >= 9
    share = 1 - 0.025 ** (1 / 7)  # 7 members are the smaller side
    assert delong_difference(scores, -scores, member) == pytest.approx((1.0, 1 - 2 * share, 1.0, 2 * 0.5**7))


@pytest.mark.parametrize(("members", "nonmembers"), [(3, 3), (7, 12), (11, 6)])
def test_a_constant_difference_is_seen_through_rounding_and_agrees_with_its_p_value(members, nonmembers):
    member = np.arange(members + nonmembers) < members
    perfect, tied = 1.0 * member, np.zeros(member.size)
    difference, low, high, p_value = delong_difference(perfect, tied, member)
    assert (difference, p_value) == pytest.approx((0.5, min(1.0, 2 * 1.5 ** -min(members, nonmembers))))
    assert low < difference < high
    if p_value < 1.0:  # at the confidence that the p-value leaves, the interval just touches 0
        assert delong_difference(perfect, tied, member, level=1.0 - p_value).low == pytest.approx(0.0, abs=1e-12)


def test_one_sample_on_a_side_shows_no_difference():
    difference, low, high, p_value = delong_difference([5.0, 1.0, 2.0, 3.0], [1.5, 1.0, 2.0, 3.0], [True] + [False] * 3)
    assert difference == pytest.approx(2 / 3)
    assert (low, high, p_value) == pytest.approx((2 / 3 * 0.025 - 0.975, 2 / 3 * 0.025 + 0.975, 1.0))


def test_two_scores_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="one membership flag a score, but got 3 scores and 2 flags"):
        delong_difference([1.0, 2.0], [1.0, 2.0, 3.0], [True, False])
    with pytest.raises(ValueError, match=r"confidence level in \(0, 1\), but got 1.5"):
        delong_difference([1.0, 2.0], [1.0, 2.0], [True, False], level=1.5)


@pytest.mark.parametrize("auc", [0.0, 0.2, 0.6, 0.9, 0.985, 0.9999, 1.0])
@pytest.mark.parametrize(("members", "nonmembers"), [(20, 20), (48, 150), (500, 20)])
def test_newcombes_limits_are_a_score_interval_by_the_variance_of_hanley_and_mcneil(auc, members, nonmembers):
    found = newcombe_interval(auc, members, nonmembers, level=0.9)
    size = (members + nonmembers) / 2
    for limit in {found.low, found.high} - {0.0, 1.0}:
        best, worst = limit / (2 - limit), 2 * limit**2 / (1 + limit)
        spread = limit * (1 - limit) + (size - 1) * (best - limit**2 + worst - limit**2)
        assert abs(limit - auc) == pytest.approx(norm.ppf(0.95) * np.sqrt(spread / (members * nonmembers)), rel=1e-5)
    assert found.low < auc or auc == found.low == 0.0
    assert found.high > auc or auc == found.high == 1.0
    turned = newcombe_interval(1 - auc, members, nonmembers, level=0.9)
    assert turned == pytest.approx((1 - auc, 1 - found.high, 1 - found.low), abs=1e-9)


@pytest.mark.parametrize("sizes", [(1.5, 20, 20), (0.9, 0, 20), (0.9, 20, 0.5)])
def test_areas_and_sizes_out_of_range_are_refused(sizes):
    with pytest.raises(ValueError, match=r"an area in \[0, 1\] and at least one sample a side"):
        newcombe_interval(*sizes)


def test_below_a_high_area_the_interval_is_that_of_delong_alone():
    for shift, alone in ((0.0, True), (0.5, True), (2.5, False)):
        scores, member = two_sides(60, 40, shift)
        auc, variance = delong_variance(scores, member)
        half = norm.ppf(0.975) * np.sqrt(variance) / (auc * (1 - auc))
        logit = np.log(auc / (1 - auc))
        plain = 1 / (1 + np.exp(half - logit)), 1 / (1 + np.exp(-half - logit))
        found = delong_interval(scores, member)
        assert (max(auc, 1 - auc) < HIGH) == alone
        assert (found[1:] == pytest.approx(plain, abs=1e-12)) == alone
        assert found.low <= plain[0] + 1e-12
        assert found.high >= plain[1] - 1e-12


@pytest.mark.parametrize(("members", "nonmembers"), [(20, 20), (20, 500), (500, 20), (48, 150), (500, 48)])
@pytest.mark.parametrize("auc", [0.8, 0.95, 0.985])
def test_interval_covers_high_areas_as_often_as_it_says(auc, members, nonmembers):
    """DeLong's alone covers 0.985 in 84 % of draws with 20 members and 500 nonmembers."""
    rng = np.random.default_rng(11)
    member = np.arange(members + nonmembers) < members
    covered = 0
    for _ in range(150):
        scores = rng.normal(size=member.size) + np.sqrt(2) * norm.ppf(auc) * member
        _, low, high = delong_interval(scores, member)
        covered += low <= auc <= high
    assert covered / 150 >= 0.94


def test_intervals_of_groups_are_no_shorter_than_those_of_their_variance_and_of_independent_samples():
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(80), 4)
    member = group < 40
    common = rng.normal(size=80)[group] * 0.8 + 2.5 * member
    scores = common + 0.6 * rng.normal(size=320)
    auc, variance = delong_variance(scores, member, group)
    half = norm.ppf(0.975) * np.sqrt(variance) / (auc * (1 - auc))
    logit = np.log(auc / (1 - auc))
    found = delong_interval(scores, member, group=group)
    assert auc > HIGH
    assert found.low <= 1 / (1 + np.exp(half - logit))
    assert found.high >= 1 / (1 + np.exp(-half - logit))
    assert found.low < delong_interval(scores, member).low
    alone = delong_interval(scores[::4], member[::4])
    fourfold = delong_interval(np.repeat(scores[::4], 4), member, group=group)
    assert fourfold == pytest.approx(alone, abs=1e-9)


def test_below_high_areas_a_paired_interval_is_that_of_delong():
    a, b, member = paired(60, 50, 0.6, 0.2)
    assert paired_interval(a, b, member) == delong_difference(a, b, member)[:3]
    group = np.arange(110) // 2
    assert paired_interval(a, b, member, group=group) == delong_difference(a, b, member, group=group)[:3]


@pytest.mark.parametrize("grouped", [False, True])
def test_at_high_areas_a_paired_interval_is_made_of_both_intervals_and_their_correlation(grouped):
    a, b, member = paired(80, 60, 3.0, 1.5)
    group = np.arange(140) // 2 if grouped else None
    found = paired_interval(a, b, member, group=group)
    plain = delong_difference(a, b, member, group=group)
    of_a, of_b = delong_interval(a, member, group=group), delong_interval(b, member, group=group)
    variances = [delong_variance(scores, member, group)[1] for scores in (a, b)]
    spread = (plain.high - plain.low) / 2 / norm.ppf(0.975)
    correlation = (sum(variances) - spread**2) / 2 / np.sqrt(np.prod(variances))
    assert 0.1 < correlation < 0.9
    down, up = of_a.estimate - of_a.low, of_b.high - of_b.estimate
    low = plain.difference - np.sqrt(down**2 + up**2 - 2 * correlation * down * up)
    assert found.low == pytest.approx(min(low, plain.low))
    assert found.high >= plain.high
    turned = paired_interval(b, a, member, group=group)
    assert turned == pytest.approx((-found.estimate, -found.high, -found.low))


def test_paired_intervals_of_scores_without_variance_are_no_points():
    member = np.arange(12) < 6
    for a, b in ((1.0 * member, 1.0 * member), (1.0 * member, np.zeros(12)), (np.arange(12.0), 1.0 * member)):
        difference, low, high = paired_interval(a, b, member)
        assert low < difference or low == -1.0
        assert high > difference or high == 1.0
        assert -1.0 <= low <= high <= 1.0
    assert np.isfinite(paired_interval([3.0, 1.0, 2.0], [1.0, 0.0, 3.0], [True, False, False])).all()
    few = paired_interval(np.arange(12.0), 1.0 * member, member, group=np.arange(12) // 3)
    assert np.isnan(few[1:]).all()


@pytest.mark.parametrize(
    ("members", "nonmembers"),
    [pytest.param(20, 20, marks=pytest.mark.slow), pytest.param(48, 48, marks=pytest.mark.slow), (150, 20)],
)
def test_a_paired_interval_covers_a_gain_near_the_top_as_often_as_it_says(members, nonmembers):
    """Of a fitted score beside one of its parts; DeLong's alone holds it in 87 to 90 % of draws."""
    rng = np.random.default_rng(4)
    member = np.arange(members + nonmembers) < members
    shift = norm.ppf(0.985)
    endless = np.arange(200_000) < 100_000
    first, second = np.random.default_rng(0).normal(size=(2, endless.size)) - shift * endless
    truth = roc_auc(surprise(-second) - DIFFICULTY_WEIGHT * first, endless) - norm.cdf(shift / np.sqrt(2))
    held, plain = 0, 0
    for _ in range(150):
        first, second = rng.normal(size=(2, member.size)) - shift * member
        combined = surprise_score([second], [first], member, seed=0)
        found, alone = (f(combined, -first, member) for f in (paired_interval, delong_difference))
        held += found[1] <= truth <= found[2]
        plain += alone.low <= truth <= alone.high
    assert held / 150 >= 0.94
    assert plain <= held
