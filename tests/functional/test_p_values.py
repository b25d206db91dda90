from __future__ import annotations

from itertools import combinations, combinations_with_replacement

import numpy as np
import pytest
from scipy.stats import chisquare, false_discovery_control, kstest, mannwhitneyu

from mia_lightning.functional.p_values import (
    benjamini_hochberg,
    collection_p_value,
    conformal_p_values,
    exposed_p_value,
    fewest_flags,
    holm,
    member_p_values,
    permutation_p_value,
    q_values,
    simes_p_value,
)
from mia_lightning.functional.roc import roc_auc


def table(members: int, nonmembers: int, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    member = np.random.default_rng(1000 + seed).permutation(members + nonmembers) < members
    return np.random.default_rng(seed).normal(size=member.size) + shift * member, member


def counted(score: float, reference: np.ndarray) -> float:
    return (1 + sum(r >= score for r in reference)) / (len(reference) + 1)


def test_conformal_p_values_count_the_reference_ties_included():
    rng = np.random.default_rng(0)
    scores, reference = rng.integers(0, 9, 40), rng.integers(0, 9, 25)
    assert conformal_p_values(scores, reference).tolist() == [counted(s, reference) for s in scores]


def test_members_face_all_nonmembers_and_each_nonmember_the_others():
    rng = np.random.default_rng(1)
    scores, member = rng.integers(0, 12, 50), rng.random(50) < 0.5
    nonmembers = np.flatnonzero(~member)
    expected = [counted(s, scores[nonmembers[nonmembers != i]]) for i, s in enumerate(scores)]
    assert member_p_values(scores, member).tolist() == expected


def test_p_values_of_nonmembers_are_flat_without_ties():
    scores, member = table(10, 25)
    assert sorted(member_p_values(scores, member)[~member]) == pytest.approx(np.arange(1, 26) / 25)


def test_under_the_null_a_conformal_p_value_is_uniform_on_its_grid():
    draws = [conformal_p_values([s[0]], s[1:])[0] for s in np.random.default_rng(0).normal(size=(4000, 20))]
    places = np.round(np.array(draws) * 20).astype(int)
    assert places.min() == 1
    assert chisquare(np.bincount(places, minlength=21)[1:]).pvalue > 0.01


def test_under_the_null_ties_only_make_p_values_larger():
    rows = np.random.default_rng(0).integers(0, 4, size=(2000, 20))
    draws = np.array([conformal_p_values([s[0]], s[1:])[0] for s in rows])
    for rate in (0.05, 0.1, 0.3, 0.5):
        assert (draws <= rate).mean() <= rate + 2.5 * np.sqrt(rate * (1 - rate) / 2000)


@pytest.mark.parametrize("seed", range(4))
def test_q_values_are_those_of_scipy(seed):
    p = np.random.default_rng(seed).random(37).round(1 + seed) ** 2
    assert q_values(p) == pytest.approx(false_discovery_control(p, method="bh"), abs=1e-14)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.4])
def test_calls_are_those_of_the_step_up_rule(rate):
    p = np.random.default_rng(3).beta(0.4, 1.0, 60)
    passing = [i for i in range(60) if np.sort(p)[i] <= rate * (i + 1) / 60]
    assert benjamini_hochberg(p, rate).sum() == max(passing) + 1
    assert p[benjamini_hochberg(p, rate)].max() < p[~benjamini_hochberg(p, rate)].min()


@pytest.mark.parametrize(("numerator", "grid"), [(7, 86), (14, 172)])
def test_a_p_value_on_the_line_is_called_in_spite_of_rounding(numerator, grid):
    # 7 / 86 = 0.1 * 35 / 43, but 7 / 86 * (43 / 35) > 0.1 in floating point
    p = np.r_[np.full(35, numerator / grid), np.ones(8)]
    assert q_values(p).min() > 0.1
    assert benjamini_hochberg(p, 0.1).sum() == 35


def test_false_discoveries_stay_within_the_rate_when_p_values_share_a_reference():
    shares = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        p = conformal_p_values(rng.normal(size=60) + 3.0 * (np.arange(60) < 15), rng.normal(size=80))
        called = benjamini_hochberg(p, 0.2)
        shares.append(called[15:].sum() / max(called.sum(), 1))
    assert 0.05 < np.mean(shares) <= 0.2


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    p = np.random.default_rng(0).random(20) ** 3
    order = np.argsort(p)
    called = 0
    while called < 20 and p[order[called]] <= 0.05 / (20 - called):
        called += 1
    assert 0 < called < 20
    assert set(np.flatnonzero(holm(p) <= 0.05)) == set(order[:called])


def test_holm_is_monotone_and_never_above_one():
    assert holm([0.04]).tolist() == [0.04]
    assert holm([0.03, 0.01, 0.04]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]


def test_simes_is_the_least_scaled_p_value():
    p = np.random.default_rng(0).random(15)
    assert simes_p_value(p) == pytest.approx(min(15 * v / (i + 1) for i, v in enumerate(sorted(p))))
    assert simes_p_value(conformal_p_values(np.full(500, 9.0), np.zeros(20))) == pytest.approx(1 / 21)


def all_relabelings(scores: np.ndarray, members: int, statistic) -> float:
    """Exact one-sided permutation p-value; the first ``members`` scores are those seen."""
    values = []
    for chosen in combinations(range(scores.size), members):
        flags = np.isin(np.arange(scores.size), chosen)
        values.append(statistic(scores, flags))
    return float(np.mean(np.array(values) >= values[0] - 1e-9))


@pytest.mark.parametrize("members", [3, 6])
def test_permutations_agree_with_all_relabelings(members):
    scores = np.array([4.0, 3.0, 5.0, 2.0, 4.0, 1.0, 2.0, 3.0, 0.0, 1.0])
    exact = all_relabelings(scores, members, roc_auc)
    found = permutation_p_value(scores, np.arange(10) < members, permutations=20_000, seed=3)
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def sum_of_surprises(scores: np.ndarray, suspect: np.ndarray) -> float:
    return -float(np.log(conformal_p_values(scores[suspect], scores[~suspect])).sum())


@pytest.mark.parametrize("suspects", [2, 4, 7])
def test_collection_agrees_with_all_relabelings(suspects):
    scores = np.array([4.0, 3.0, 5.0, 2.0, 4.0, 1.0, 2.0, 3.0, 0.0, 1.0])
    exact = all_relabelings(scores, suspects, sum_of_surprises)
    found = collection_p_value(scores[:suspects], scores[suspects:], permutations=20_000, seed=3)
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def test_collections_that_tie_are_seen_as_ties_in_spite_of_rounding():
    # one of the 56 choices has the same p-values in another order, and a sum that is smaller by rounding
    scores = np.array([8.0, 5.0, 3.0, 7.0, 6.0, 4.0, 2.0, 1.0])
    assert all_relabelings(scores, 3, sum_of_surprises) == 15 / 56
    assert collection_p_value(scores[:3], scores[3:], permutations=40_000) == pytest.approx(15 / 56, abs=0.009)


def collection(scores: np.ndarray, member: np.ndarray, **settings: int) -> float:
    return collection_p_value(scores[member], scores[~member], **settings)


@pytest.mark.parametrize("test", [permutation_p_value, collection])
@pytest.mark.parametrize(("members", "nonmembers"), [(20, 30), (40, 8)])
def test_tests_keep_their_level_under_the_null(test, members, nonmembers):
    p = [test(*table(members, nonmembers, seed=seed), permutations=199, seed=seed) for seed in range(400)]
    assert kstest(p, "uniform").pvalue > 0.01
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.08


@pytest.mark.parametrize("test", [permutation_p_value, collection])
def test_tests_see_members_only_where_they_score_higher(test):
    scores, member = table(40, 40, shift=1.5)
    assert test(scores, member) == 1 / 10_000
    assert test(-scores, member) > 0.99
    assert test(np.zeros(80), member) == 1.0


@pytest.mark.parametrize("test", [permutation_p_value, collection])
def test_monotone_transforms_and_repetition_change_nothing(test):
    scores, member = table(30, 40, shift=0.4)
    scores = scores.round(1)
    first = test(scores, member, permutations=500)
    assert test(np.exp(scores), member, permutations=500) == first
    assert test(scores, member, permutations=500) == first
    assert test(scores, member, permutations=500, seed=1) != first


@pytest.mark.parametrize("shift", [0.0, 0.04, -0.1])
@pytest.mark.parametrize("decimals", [1, 8])
def test_a_large_audit_gets_the_normal_limit_of_scipy(shift, decimals):
    scores, member = table(2600, 2500, shift)
    scores = scores.round(decimals)
    expected = mannwhitneyu(scores[member], scores[~member], alternative="greater", method="asymptotic").pvalue
    assert permutation_p_value(scores, member) == pytest.approx(expected, rel=1e-9)
    assert permutation_p_value(np.zeros(5100), member) == 1.0


def test_permutations_come_close_to_the_normal_limit():
    scores, member = table(150, 150, shift=0.2)
    expected = mannwhitneyu(scores[member], scores[~member], alternative="greater").pvalue
    assert permutation_p_value(scores, member) == pytest.approx(expected, abs=0.01)


def test_a_large_collection_is_shuffled_less_often():
    scores, member = table(4000, 8500, shift=1.0)
    assert collection(scores, member) == 1 / 4001
    assert collection(scores, member, permutations=99) == 1 / 100


def test_many_weak_suspects_outweigh_what_simes_can_show():
    scores, member = table(200, 50, shift=1.2)
    p = conformal_p_values(scores[member], scores[~member])
    assert collection(scores, member) < 1e-3 < simes_p_value(p)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conformal_p_values([], [1.0]), "one or more finite sample scores, but got 0, 0 NaN or infinite"),
        (lambda: conformal_p_values([1.0], [np.nan, 2.0]), "finite reference scores, but got 2, 1 NaN or infinite"),
        (lambda: collection_p_value([np.inf], [1.0]), "finite suspect scores, but got 1, 1 NaN or infinite"),
        (lambda: collection_p_value([1.0], []), "finite reference scores, but got 0"),
        (lambda: collection_p_value([1.0], [2.0], permutations=0), "one or more permutations, but got 0"),
        (lambda: permutation_p_value([1.0, 2.0], [True, False], permutations=-1), "permutations, but got -1"),
        (lambda: permutation_p_value([1.0], [True]), "needs both sides, but got 1 members and 0 nonmembers"),
        (lambda: member_p_values([1.0, 2.0], [True]), "one membership flag a score, but got 2 scores and 1 flags"),
        (lambda: q_values([]), r"one or more p-values in \[0, 1\], but got \[\] \(the first of 0\)"),
        (lambda: holm([0.5, np.nan]), r"but got \[0.5, nan\] \(the first of 2\)"),
        (lambda: simes_p_value([1.5]), r"but got \[1.5\] \(the first of 1\)"),
        (lambda: benjamini_hochberg([0.5], rate=1.0), r"false-discovery rate in \(0, 1\), but got 1.0"),
    ],
)
def test_errors_say_what_was_found(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("members", "nonmembers"), [(1, 9), (3, 7), (4, 12), (7, 5), (2, 30), (9, 0)])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.25, 0.4])
def test_the_fewest_flags_are_those_of_all_ways_to_stand_above_nonmembers(members, nonmembers, rate):
    """Every table of members that each stand above some of the nonmembers, tried one by one."""
    tables = combinations_with_replacement(range(1, nonmembers + 2), members)
    reached = (np.array(ranks) / (nonmembers + 1) for ranks in tables)
    flags = {int(benjamini_hochberg(p_values, rate).sum()) for p_values in reached} - {0}
    least = fewest_flags(members, nonmembers, rate)
    assert min(flags, default=members + 1) == min(least, members + 1)
    for count in range(members + 1):  # so many above all nonmembers, the others below all
        p_values = np.where(np.arange(members) < count, 1 / (nonmembers + 1), 1.0)
        assert bool(benjamini_hochberg(p_values, rate).any()) == (count >= least)


@pytest.mark.parametrize("numbers", [(0, 5, 0.1), (5, -1, 0.1), (5, 5, 0.0), (5, 5, 1.0)])
def test_flags_of_nobody_are_refused(numbers):
    with pytest.raises(ValueError, match="at least one member, no negative number of nonmembers"):
        fewest_flags(*numbers)


@pytest.mark.parametrize("groups", ["none", "one side", "both sides"])
def test_under_the_null_so_many_members_at_the_top_are_as_rare_as_they_say(groups):
    rng = np.random.default_rng(0)
    codes = np.arange(160) // 4
    member = codes < 20 if groups == "one side" else rng.random(160) < 0.4
    found = []
    for _ in range(400):
        alike = 0.0 if groups == "none" else 1.5 * rng.normal(size=40)[codes]
        scores = (alike + rng.normal(size=160)).round(1)  # with ties
        found.append(exposed_p_value(scores, member, permutations=199, group=None if groups == "none" else codes))
    for rate in (0.05, 0.1, 0.3):
        assert np.mean(np.array(found) <= rate) <= rate + 3 * np.sqrt(rate * (1 - rate) / 400)
    assert np.mean(np.array(found) <= 0.3) > 0.1


def test_few_members_far_out_are_seen_where_simes_and_the_area_see_nothing():
    scores, member = np.random.default_rng(0).normal(size=1000), np.arange(1000) < 500
    scores[:25] += 10.0
    assert 2 * exposed_p_value(scores, member) <= 0.001
    assert 2 * simes_p_value(member_p_values(scores, member)[member]) > 0.05
    assert exposed_p_value(-scores, member) > 0.05
    assert exposed_p_value(scores, member, seed=1) == exposed_p_value(scores, member, seed=1)
    assert exposed_p_value(np.exp(scores), member) == exposed_p_value(scores, member)


def test_ties_and_few_samples_have_a_p_value_too():
    assert exposed_p_value(np.zeros(50), np.arange(50) < 25) == 1.0
    assert exposed_p_value([1.0, 0.0], [True, False], permutations=999) == pytest.approx(0.5, abs=0.1)
    grouped = exposed_p_value(np.arange(8.0)[::-1], np.arange(8) < 4, group=np.arange(8) // 4, permutations=999)
    assert grouped == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match="one or more permutations"):
        exposed_p_value([1.0, 0.0], [True, False], permutations=0)


def test_a_group_counts_once_in_flags():
    # One group of 90 samples that stands out among 20 groups: by samples it would be flagged, being so many.
    group = np.concatenate([np.zeros(90, dtype=int), np.arange(1, 20)])
    p = np.concatenate([np.full(90, 0.05), np.linspace(0.2, 1.0, 19)])
    assert benjamini_hochberg(p, 0.1).sum() == 90
    assert not benjamini_hochberg(p, 0.1, group).any()
    p[:90] = 0.004
    assert benjamini_hochberg(p, 0.1, group).tolist() == (group == 0).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_flags_of_groups_are_those_of_two_plain_steps(seed):
    rng = np.random.default_rng(seed)
    group, p = rng.integers(0, 12, 60), rng.random(60) ** 3
    simes = {g: float(q_values(p[group == g]).min()) for g in np.unique(group)}
    called = [g for g, one in zip(simes, benjamini_hochberg(list(simes.values()), 0.2), strict=True) if one]
    expected = np.zeros(60, dtype=bool)
    for g in called:
        expected[group == g] = benjamini_hochberg(p[group == g], 0.2 * len(called) / len(simes))
    assert benjamini_hochberg(p, 0.2, group).tolist() == expected.tolist()
    assert all(expected[group == g].any() for g in called)
    assert benjamini_hochberg(p, 0.2, np.arange(60)).tolist() == benjamini_hochberg(p, 0.2).tolist()
