from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from mia_lightning.functional.folds import assign_folds
from mia_lightning.functional.groups import (
    FEWEST_GROUPS,
    as_codes,
    count_groups,
    draw_by_group,
    effective_groups,
    group_codes,
    place_in_group,
    too_few_groups,
    units,
)
from mia_lightning.functional.intervals import clopper_pearson, delong_difference, delong_interval, delong_variance


def clustered(
    groups: int, size: int, correlation: float, shift: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, sides and groups: so many groups a side, whose samples correlate."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(2 * groups), size)
    member = group < groups
    common = rng.normal(size=2 * groups)[group]
    return (
        np.sqrt(correlation) * common + np.sqrt(1 - correlation) * rng.normal(size=group.size) + shift * member,
        member,
        group,
    )


def obuchowski(scores: np.ndarray, member: np.ndarray, group: np.ndarray) -> float:
    """The variance of Obuchowski (1997), sample by sample and group by group, as her paper writes it."""
    first, second = np.flatnonzero(member), np.flatnonzero(~member)
    m, n = len(first), len(second)
    wins = {(i, j): 1.0 * (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]) for i in first for j in second}
    auc = sum(wins.values()) / (m * n)
    v10 = {i: sum(wins[i, j] for j in second) / n for i in first}
    v01 = {j: sum(wins[i, j] for i in first) / m for j in second}
    s10 = s01 = s11 = 0.0
    on_first, on_second = set(group[first].tolist()), set(group[second].tolist())
    for g in on_first | on_second:
        a = sum(v10[i] - auc for i in first if group[i] == g)
        b = sum(v01[j] - auc for j in second if group[j] == g)
        s10, s01, s11 = s10 + a * a, s01 + b * b, s11 + a * b
    i10, i01, total = len(on_first), len(on_second), len(on_first | on_second)
    s10, s01, s11 = s10 * i10 / (i10 - 1) / m, s01 * i01 / (i01 - 1) / n, s11 * total / (total - 1)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("on_both", [False, True])
def test_the_clustered_variance_is_that_of_a_double_loop(seed, on_both):
    rng = np.random.default_rng(seed)
    member = np.arange(60) < 25
    group = np.where(member, 0, 0 if on_both else 100) + rng.integers(0, 12, 60)
    scores = rng.integers(0, 9, 60) + 2.0 * member  # with ties
    assert bool(count_groups(member, as_codes(group, 60)).on_both.any()) == on_both
    auc, variance = delong_variance(scores, member, group)
    assert auc == pytest.approx(delong_variance(scores, member)[0])
    assert variance == pytest.approx(obuchowski(scores, member, group), rel=1e-12)


def test_the_clustered_variance_of_a_table_that_fits_on_paper():
    # Members 3, 5 in one group, 2, 4 in another; nonmembers 1, 2 in a third group, 4 in a fourth.
    scores, member = [3, 5, 2, 4, 1, 2, 4], [True] * 4 + [False] * 3
    group = ["a", "a", "b", "b", "c", "c", "d"]
    # V10: 2/3, 1, 1/2, 5/6, mean 3/4; by group +1/6, -1/6. V01: 1, 7/8, 3/8, mean 3/4; by group +3/8, -3/8.
    by_hand = 2 / 1 * 2 * (1 / 6) ** 2 / 4**2 + 2 / 1 * 2 * (3 / 8) ** 2 / 3**2
    assert delong_variance(scores, member, group) == (pytest.approx(0.75), pytest.approx(by_hand, rel=1e-12))


def test_groups_of_one_sample_change_nothing():
    scores, member, _ = clustered(30, 1, 0.0, 0.8, seed=1)
    alone = np.random.default_rng(0).permutation(60)
    assert delong_interval(scores, member, group=alone) == pytest.approx(delong_interval(scores, member), rel=1e-12)
    assert assign_folds(member, 5, 3, alone).tolist() == assign_folds(member, 5, 3).tolist()
    plain, other = delong_difference(scores, -scores, member), delong_difference(scores, -scores, member, group=alone)
    assert other == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_interval_holds_the_truth_as_often_as_it_says(shift):
    truth, draws, held = norm.cdf(shift / np.sqrt(2.0)), 500, np.zeros(2)
    for seed in range(draws):
        scores, member, group = clustered(40, 4, 0.7, shift, seed)
        for place, groups in enumerate((None, group)):
            _, low, high = delong_interval(scores, member, group=groups)
            held[place] += low <= truth <= high
    plain, grouped = held / draws
    assert plain < 0.82  # what counting samples would claim with 95 % confidence
    assert 0.92 <= grouped <= 0.98


def test_the_interval_of_a_difference_of_scores_holds_for_groups():
    draws, held = 300, np.zeros(2)
    for seed in range(draws):
        first, member, group = clustered(40, 4, 0.7, 0.5, seed)
        second, _, _ = clustered(40, 4, 0.7, 0.5, 10_000 + seed)
        for place, groups in enumerate((None, group)):
            _, low, high, p_value = delong_difference(first, second, member, group=groups)
            held[place] += low <= 0.0 <= high
            assert (p_value > 0.05) == (low <= 0.0 <= high)
    assert held[0] / draws < 0.85
    assert 0.92 <= held[1] / draws <= 0.98


def test_fewer_than_six_groups_on_a_side_have_no_interval():
    for groups in (1, 3, FEWEST_GROUPS - 1):
        scores, member, group = clustered(groups, 30, 0.7, 0.0, seed=groups)
        auc, low, high = delong_interval(scores, member, group=group)
        assert 0.0 < auc < 1.0
        assert np.isnan([low, high, *delong_difference(scores, -scores, member, group=group)[1:]]).all()
        assert too_few_groups(member, group)
    scores, member, group = clustered(FEWEST_GROUPS, 30, 0.7, 0.0, seed=0)
    assert np.isfinite(delong_interval(scores, member, group=group)).all()
    assert not too_few_groups(member, None)


def test_separated_sides_count_groups_as_the_trials_of_the_exact_bound():
    member = np.arange(80) < 40
    group = np.arange(80) // 5  # eight groups a side
    assert delong_interval(1.0 * member, member, group=group).low == clopper_pearson(8, 8).low
    assert delong_interval(1.0 * member, member).low == clopper_pearson(40, 40).low
    tied = delong_interval(np.zeros(80), member, group=group)
    assert tied[1:] == clopper_pearson(4, 8)[1:]


def test_folds_never_split_a_group_and_deal_each_kind_evenly():
    rng = np.random.default_rng(5)
    for seed in range(20):
        group = rng.integers(0, 40, 300)
        member = np.where(group < 10, rng.random(300) < 0.5, group < 25)  # ten groups on both sides
        fold = assign_folds(member, 5, seed, group)
        assert all(len(set(fold[group == g].tolist())) == 1 for g in range(40))
        counts = count_groups(member, group)
        for kind in (counts.on_both, counts.nonmembers == 0, counts.members == 0):
            count = np.bincount([fold[group == g][0] for g in np.flatnonzero(kind)], minlength=5)
            assert np.ptp(count) <= 1
    assert assign_folds(member, 5, 0, group).tolist() != assign_folds(member, 5, 1, group).tolist()


def test_large_groups_do_not_share_a_fold():
    group = np.repeat(np.arange(10), [50, 50, 50, 1, 1, 50, 50, 50, 1, 1])
    fold = assign_folds(group < 5, 3, 0, group)
    assert np.ptp(np.bincount(fold)) <= 2


def test_labels_of_any_kind_number_groups_alike():
    assert group_codes(["x", "y", "x"]).tolist() == as_codes([9, 2, 9], 3).tolist() == [0, 1, 0]
    assert group_codes(["", None, "x", ""]).tolist() == [0, 1, 2, 3]
    assert units([True, True, False], ["p", "p", "p"]) == (1, 1)
    with pytest.raises(ValueError, match=r"one group a sample, \(3,\), but got \(2,\)"):
        as_codes([1, 2], 3)


@pytest.mark.parametrize(
    ("labels", "codes"),
    [
        ([0, 1, 0, 2, 1], [0, 1, 0, 2, 1]),
        ([0, 2, 1], [0, 1, 2]),
        ([1, 0, 1], [0, 1, 0]),
        ([0, 1, -1], [0, 1, 2]),
        ([], []),
    ],
)
@pytest.mark.parametrize("kind", [np.int64, np.int16, np.float64])
def test_numbers_of_groups_are_kept_where_they_count_in_the_order_of_appearance(labels, codes, kind):
    found = as_codes(np.array(labels, dtype=kind), len(labels))
    assert (found.tolist(), found.dtype) == (codes, np.intp)


def test_a_draw_takes_whole_groups_where_these_are_many():
    names = [f"g{i // 4}" for i in np.random.default_rng(0).permutation(400)]
    chosen = draw_by_group(names, 100, seed=3)
    codes = group_codes(names)[chosen]
    assert set(np.bincount(codes)[np.unique(codes)]) == {4}
    assert len(chosen) == 100
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert draw_by_group(names, 100, seed=3).tolist() == chosen.tolist() != draw_by_group(names, 100, seed=4).tolist()


def test_a_draw_takes_some_of_every_group_where_these_are_large():
    names = [f"g{i % 10}" for i in range(1000)]
    chosen = draw_by_group(names, 95, seed=0)
    assert sorted(np.bincount(group_codes(names)[chosen]).tolist()) == [9] * 5 + [10] * 5
    assert place_in_group(np.array([2, 0, 2, 2])).tolist() == [0, 0, 1, 2]


def test_a_group_that_outweighs_the_others_leaves_no_interval():
    """Its samples alone decide, though there are twenty groups: 95 % intervals held the AUC in 40 % of draws."""
    rng = np.random.default_rng(0)
    missed, draws, sizes = 0, 100, np.array([57, *[1] * 19])
    group = np.repeat(np.arange(40), np.tile(sizes, 2))
    member = group < 20
    for _ in range(draws):
        scores = rng.normal(size=40)[group]
        variance = delong_variance(scores, member, group)[1]
        missed += abs(delong_variance(scores, member)[0] - 0.5) > 1.96 * np.sqrt(variance)
    assert missed > 0.3 * draws
    assert effective_groups(member, group) == pytest.approx((76**2 / (57**2 + 19),) * 2)
    assert too_few_groups(member, group)
    assert np.isnan(delong_interval(scores, member, group=group)[1:]).all()
    assert np.isnan(delong_difference(scores, -scores, member, group=group)[1:]).all()


def test_groups_of_like_sizes_count_as_they_are():
    group = np.repeat(np.arange(12), [2, 3, 4, 2, 3, 4] * 2)
    member = group < 6
    assert not too_few_groups(member, group)
    assert effective_groups(np.arange(24) < 12, np.arange(24) // 2) == (6.0, 6.0)
