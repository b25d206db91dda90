"""Scores of groups: against brute force, uniform where nothing was memorised, and stronger than those of samples."""

import numpy as np
import pytest
from scipy.stats import f_oneway

from mia_lightning.functional.group_scores import correlation_within, group_scores
from mia_lightning.functional.p_values import benjamini_hochberg
from mia_lightning.functional.roc import tpr_at_fpr


def drawn(rng, groups, sizes, correlation, shift=0.0):
    """Scores of `groups` groups a side; the members' are shifted."""
    size = rng.choice(sizes, 2 * groups)
    code = np.repeat(np.arange(2 * groups), size)
    member = code < groups
    of_group, own = rng.normal(size=2 * groups)[code], rng.normal(size=code.size)
    return np.sqrt(correlation) * of_group + np.sqrt(1 - correlation) * own + shift * member, member, code


def brute_force(first, second, member):
    """Rank each group in the set of the nonmembers' groups and itself, one set at a time."""
    known, p_values = np.flatnonzero(~member), []
    for group in range(len(member)):
        rows = np.append(known, group) if member[group] else known
        ranks = [np.array([(column[rows] >= column[row]).sum() for row in rows]) for column in (first, second)]
        best = np.minimum(*ranks)
        own = best[-1] if member[group] else best[list(known).index(group)]
        p_values.append((best <= own).mean())
    return np.array(p_values)


@pytest.mark.parametrize("values", [3, 50])  # many ties, and few
def test_p_values_are_those_of_brute_force(values):
    rng = np.random.default_rng(values)
    for _ in range(150):
        groups = int(rng.integers(2, 9))
        scores, member, code = drawn(rng, groups, [1, 2, 4], 0.3)
        found = group_scores(np.round(scores * values / 10), member, code)
        assert np.allclose(found.p_value, brute_force(found.mean, found.extreme, found.member))


def test_columns_by_hand():
    scores = [4.0, 0.0, 1.0, 1.0, 3.0]
    found = group_scores(scores, [True, True, False, False, False], [7, 7, 5, 5, 9])
    assert found.codes.tolist() == [0, 1, 2]
    assert found.member.tolist() == [True, False, False]
    assert found.size.tolist() == [2, 2, 1]
    share = correlation_within((np.array(scores) - 1.0) / 1.0, [0, 0, 1, 1, 2])
    spread = np.sqrt(share + (1 - share) / np.array([2, 2, 1]))
    assert np.allclose(found.mean, np.array([1.0, 0.0, 2.0]) / spread)
    assert np.allclose(found.extreme, np.array([2, 2, 1]) * np.log(np.array([5, 3, 4]) / 6))


def test_the_correlation_is_that_of_the_analysis_of_variance():
    rng = np.random.default_rng(0)
    values, code = rng.normal(size=40) + np.repeat(rng.normal(size=10), 4), np.repeat(np.arange(10), 4)
    ratio = f_oneway(*values.reshape(10, 4)).statistic
    assert correlation_within(values, code) == pytest.approx((ratio - 1) / (ratio + 3))
    assert correlation_within(np.ones(4), [0, 0, 1, 1]) == 0.0


def test_a_group_on_both_sides_is_one_of_either():
    found = group_scores([1.0, 2.0, 0.0, 3.0], [True, False, False, False], ["a", "a", "b", "c"])
    assert found.codes.tolist() == [0, 0, 1, 2]
    assert found.member.tolist() == [True, False, False, False]


@pytest.mark.parametrize(("sizes", "correlation"), [([5], 0.3), ([1, 3, 10], 0.0), ([1, 3, 10], 0.7)])
def test_p_values_are_uniform_or_conservative_where_nothing_was_memorised(sizes, correlation):
    rng = np.random.default_rng(0)
    p_values, false_flags = [], []
    for _ in range(250):
        found = group_scores(*drawn(rng, 30, sizes, correlation))
        p_values.append(found.p_value[found.member])
        false_flags.append(benjamini_hochberg(p_values[-1], 0.1).any())
    means = np.mean([[(p <= level).mean() for level in (0.1, 0.25, 0.5)] for p in p_values], axis=0)
    errors = np.std([[(p <= level).mean() for level in (0.1, 0.25, 0.5)] for p in p_values], axis=0) / np.sqrt(250)
    assert (means <= np.array([0.1, 0.25, 0.5]) + 3 * errors).all()
    assert np.mean(false_flags) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 250)


def test_false_discoveries_stay_below_their_rate_beside_true_ones():
    rng, share = np.random.default_rng(1), []
    for _ in range(150):
        scores, member, code = drawn(rng, 60, [5], 0.3)
        exposed = code < 20  # a third of the members' groups
        found = group_scores(scores + 3.0 * exposed, member, code)
        flags = benjamini_hochberg(found.p_value[found.member], 0.1)
        share.append((flags & (found.codes[found.member] >= 20)).sum() / max(1, flags.sum()))
        assert found.member[:60].all()
    assert np.mean(share) <= 0.1 + 3 * np.std(share) / np.sqrt(150)


@pytest.mark.parametrize(("correlation", "times"), [(0.0, 3.0), (0.3, 1.5)])
def test_groups_are_found_more_often_than_their_samples(correlation, times):
    rng, of_groups, of_samples = np.random.default_rng(0), [], []
    for _ in range(8):
        scores, member, code = drawn(rng, 200, [5], correlation, shift=1.0)
        found = group_scores(scores, member, code)
        of_groups.append(tpr_at_fpr(found.mean, found.member, 0.01)[0])
        of_samples.append(tpr_at_fpr(scores, member, 0.01)[0])
    assert np.mean(of_groups) >= times * np.mean(of_samples)


def test_one_leaking_sample_among_many_is_found_by_the_extreme():
    rng = np.random.default_rng(0)
    scores, member, code = drawn(rng, 60, [10], 0.3)
    first = np.flatnonzero(np.r_[True, code[1:] != code[:-1]] & member)
    scores[first] += 5.0
    found = group_scores(scores, member, code)
    mean, extreme = (tpr_at_fpr(column, found.member, 0.05)[0] for column in (found.mean, found.extreme))
    assert extreme > 2 * mean
    assert (found.p_value[found.member] <= 0.05).mean() > mean


def test_an_empty_side_is_refused():
    with pytest.raises(ValueError, match="nonmember"):
        group_scores([1.0, 2.0], [True, True], [0, 1])
