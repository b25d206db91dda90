"""What is known of a threshold by few nonmembers: the rates behind it, and bounds that hold for the population."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom, norm

from mia_lightning.functional.intervals import clopper_pearson
from mia_lightning.functional.operating_point import (
    _order_statistics,
    fewest_nonmembers,
    melded_tpr,
    population_fpr,
    tpr_interval,
)
from mia_lightning.functional.roc import tpr_at_fpr


@pytest.mark.parametrize(("fpr", "least"), [(0.01, 99), (0.001, 999), (0.05, 19), (0.1, 9), (0.03, 33)])
def test_the_fewest_nonmembers_are_those_whose_highest_has_the_rate_above_it_on_average(fpr, least):
    assert fewest_nonmembers(fpr) == least
    assert 1 / (least + 1) <= fpr + 1e-12 < 1 / least


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.1])
def test_rates_without_a_number_of_nonmembers_are_refused(fpr):
    with pytest.raises(ValueError, match=rf"false-positive rate in \(0, 1\), but got {fpr}"):
        fewest_nonmembers(fpr)


@pytest.mark.parametrize(
    ("nonmembers", "fpr", "allowed"), [(48, 0.01, 0), (99, 0.01, 0), (150, 0.01, 1), (2500, 0.01, 25)]
)
def test_the_rate_in_the_population_is_that_of_many_draws(nonmembers, fpr, allowed):
    mean, low, high = population_fpr(nonmembers, fpr)
    assert mean == (allowed + 1) / (nonmembers + 1)
    assert (low, high) == pytest.approx(beta.ppf([0.025, 0.975], allowed + 1, nonmembers - allowed))
    drawn = np.random.default_rng(0).random((4000, nonmembers))
    rates = 1 - np.partition(drawn, nonmembers - 1 - allowed)[:, nonmembers - 1 - allowed]
    assert rates.mean() == pytest.approx(mean, rel=0.05)
    assert ((low < rates) & (rates < high)).mean() == pytest.approx(0.95, abs=0.015)


def test_groups_count_in_place_of_the_nonmembers_behind_a_rate():
    assert population_fpr(480, 0.0, clusters=48) == population_fpr(48, 0.0)
    assert population_fpr(500, 0.01, clusters=100) == pytest.approx(population_fpr(100, 0.01))
    assert population_fpr(480, 0.01, clusters=48).high > population_fpr(480, 0.01).high


SHAPES = {
    "normal": (norm.isf(0.01), lambda rng, n: rng.normal(size=n), lambda rng, n: rng.normal(1.5, 1.0, n)),
    "heavy tail": (
        0.01**-0.5,
        lambda rng, n: rng.pareto(2.0, n) + 1.0,
        lambda rng, n: 3.0 * (rng.pareto(2.0, n) + 1.0),
    ),
    "few exposed": (
        norm.isf(0.01),
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: rng.normal(size=n) + 4.0 * (rng.random(n) < 0.1),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [99, 150, 500])
def test_the_bounds_hold_the_rate_of_the_population(shape, size):
    """Clopper and Pearson's alone, at the threshold that was found, hold it in 42 to 93 % of such draws."""
    threshold, nonmembers, members = SHAPES[shape]
    rng = np.random.default_rng(1)
    truth = float((members(rng, 200_000) > threshold).mean())
    held, plain = 0, 0
    member = np.arange(2 * size) < size
    for _ in range(150):
        scores = np.concatenate([members(rng, size), nonmembers(rng, size)])
        rate, low, high = tpr_interval(scores, member, 0.01)
        assert low <= rate <= high
        held += low <= truth <= high
        alone = clopper_pearson(rate * size, size)
        plain += alone.low <= truth <= alone.high
    assert held / 150 >= 0.95
    assert plain < held


def test_the_lower_bound_begins_where_the_highest_nonmember_has_the_rate_above_it_for_sure():
    def low(size: int) -> float:
        member = np.arange(2 * size) < size
        return tpr_interval(10.0 * member + np.arange(2 * size) / size, member, 0.01).low

    assert low(436) == 0.0
    assert low(437) == pytest.approx(clopper_pearson(437, 437, 0.975).low)


@pytest.mark.parametrize("count", [1, 2, 30, 99, 436, 437, 5000])
@pytest.mark.parametrize("fpr", [0.001, 0.01, 0.3])
@pytest.mark.parametrize("tail", [0.0125, 0.0005])
def test_places_of_thresholds_are_those_that_a_look_at_all_of_them_finds(count, fpr, tail):
    places = np.arange(count)
    below = places[beta.sf(fpr, places + 1.0, count - places) <= tail]
    above = places[beta.cdf(fpr, places + 1.0, count - places) <= tail]
    expected = (below[-1] if below.size else None), (above[0] if above.size else None)
    assert _order_statistics(count, fpr, tail) == expected


@pytest.mark.parametrize("size", [120, 480])
def test_ties_widen_the_bounds_and_never_narrow_them(size):
    rng = np.random.default_rng(0)
    member = np.arange(2 * size) < size
    scores = rng.normal(size=2 * size) + member
    rate, low, high = tpr_interval(scores.round(0), member, 0.01)
    assert low <= rate <= high
    assert rate == tpr_at_fpr(scores.round(0), member, 0.01)[0]
    assert tpr_interval(np.zeros(2 * size), member, 0.01)[1:] == (0.0, 1.0)


def test_at_no_false_positive_the_threshold_is_taken_as_given():
    scores, member = np.arange(60.0), np.arange(60) >= 20
    assert tpr_interval(scores, member, 0.0) == clopper_pearson(40, 40)


def test_groups_of_equal_samples_have_the_bounds_of_one_sample_each():
    rng = np.random.default_rng(3)
    member = np.arange(1000) < 500
    scores = rng.normal(size=1000) + 2.0 * member
    alone = tpr_interval(scores, member, 0.01)
    group = np.repeat(np.arange(1000), 4)
    fourfold = tpr_interval(np.repeat(scores, 4), np.repeat(member, 4), 0.01, group=group)
    assert fourfold == pytest.approx(alone)
    plain = tpr_interval(np.repeat(scores, 4), np.repeat(member, 4), 0.01)
    assert fourfold.low < plain.low
    assert fourfold.high > plain.high
    few = np.where(np.repeat(member, 4), group % 500 // 100, 1000 + group % 500 // 100)
    assert np.isnan(tpr_interval(np.repeat(scores, 4), np.repeat(member, 4), 0.01, group=few)[1:]).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [99, 500])
def test_the_melded_interval_holds_the_rate_of_the_population_and_is_narrower(shape, size):
    threshold, nonmembers, members = SHAPES[shape]
    rng = np.random.default_rng(2)
    truth = float((members(rng, 200_000) > threshold).mean())
    member, found = np.arange(2 * size) < size, []
    for _ in range(200):
        scores = np.concatenate([members(rng, size), nonmembers(rng, size)])
        estimate, low, high = melded_tpr(scores, member, 0.01)
        assert 0.0 <= low <= estimate <= high <= 1.0
        proven = tpr_interval(scores, member, 0.01)
        found.append((low <= truth <= high, estimate - truth, high - low, proven.high - proven.low))
    held, bias, width, proven_width = np.mean(found, axis=0)
    assert held >= 0.95
    assert abs(bias) < 0.04 + 0.4 * (size == 99)  # of 99 nonmembers the highest has anything above it
    assert width < 0.95 * proven_width


def test_the_melded_interval_by_hand():
    """Three nonmembers, a rate of one half: each number of them above the threshold by its own chance."""
    scores, member = [1.0, 2.0, 3.0, 0.5, 2.5, 4.0], [False] * 3 + [True] * 3
    chance = binom.pmf(range(4), 3, 0.5)
    # Above the threshold is at least nobody where no nonmember is, and anybody where all nonmembers are.
    assert melded_tpr(scores, member, 0.5, level=0.95)[1:] == (0.0, 1.0)
    _, low, high = melded_tpr(scores, member, 0.5, level=0.6)
    # One is above the highest nonmember, 3; two are above the next, 2, and above the last, 1.
    assert chance @ [1.0, *beta.cdf(low, [1, 2, 2], [3, 2, 2])] == pytest.approx(0.2)
    assert chance @ [*beta.cdf(high, [2, 3, 3], [2, 1, 1]), 0.0] == pytest.approx(0.8)


def test_the_melded_interval_is_clopper_and_pearsons_where_nonmembers_are_many():
    rng = np.random.default_rng(0)
    nonmembers = norm.isf((np.arange(400_000) + 0.5) / 400_000)
    members = rng.normal(1.0, 1.0, 60)
    scores, member = np.r_[members, nonmembers], np.arange(400_060) < 60
    hits = int((members > norm.isf(0.1)).sum())
    assert melded_tpr(scores, member, 0.1)[1:] == pytest.approx(clopper_pearson(hits, 60)[1:], abs=1e-3)


def test_the_melded_interval_is_that_of_the_threshold_where_members_are_many():
    members = norm.isf((np.arange(400_000) + 0.5) / 400_000) + 1.0
    nonmembers = np.random.default_rng(0).normal(size=300)
    scores, member = np.r_[members, nonmembers], np.arange(400_300) < 400_000
    falling = np.sort(nonmembers)[::-1]
    few, many = (int(binom.ppf(share, 300, 0.1)) for share in (0.025, 0.975))
    low, high = norm.sf(falling[few - 1] - 1.0), norm.sf(falling[many] - 1.0)
    assert melded_tpr(scores, member, 0.1)[1:] == pytest.approx((low, high), abs=3e-3)


def test_few_nonmembers_leave_bounds_and_no_estimate():
    member = np.arange(96) < 48
    estimate, low, high = melded_tpr(np.arange(96.0)[::-1] - 100.0 * member, member, 0.01)  # members are all lower
    assert np.isnan(estimate)
    assert low == 0.0
    assert 0.0 < high < 0.2
    assert np.isnan(melded_tpr(np.zeros(96), member, 0.001)[0])
    assert melded_tpr(np.zeros(96), member, 0.001)[1:] == (0.0, 1.0)
    with pytest.raises(ValueError, match=r"false-positive rate in \(0, 1\), but got 0.0"):
        melded_tpr(np.zeros(96), member, 0.0)


@pytest.mark.parametrize("levels", [1, 3, 30])
def test_the_melded_estimate_of_ties_is_that_of_a_fair_coin(levels):
    rng = np.random.default_rng(levels)
    member = np.arange(260) < 60
    tied = rng.integers(0, levels, 260).astype(float)
    coins = [melded_tpr(tied + 1e-3 * rng.random(260), member, 0.02)[0] for _ in range(100)]
    estimate, low, high = melded_tpr(tied, member, 0.02)
    assert low <= estimate <= high
    assert estimate == pytest.approx(np.mean(coins), abs=0.01)


def test_groups_of_equal_samples_have_the_melded_interval_of_one_sample_each():
    rng = np.random.default_rng(3)
    member = np.arange(1000) < 500
    scores = rng.normal(size=1000) + 2.0 * member
    group = np.repeat(np.arange(1000), 4)
    fourfold = melded_tpr(np.repeat(scores, 4), np.repeat(member, 4), 0.01, group=group)
    assert fourfold == pytest.approx(melded_tpr(scores, member, 0.01))
    few = np.where(np.repeat(member, 4), group % 500 // 100, 1000 + group % 500 // 100)
    assert np.isnan(melded_tpr(np.repeat(scores, 4), np.repeat(member, 4), 0.01, group=few)).all()
