from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mia_lightning.functional import group_shuffles
from mia_lightning.functional.classifier import cross_fitted_logits, permutation_test
from mia_lightning.functional.group_shuffles import GroupShuffles, grouped_p_value
from mia_lightning.functional.p_values import (
    collection_p_value,
    conformal_p_values,
    member_p_values,
    permutation_p_value,
)
from mia_lightning.functional.roc import roc_auc


def clustered(groups: int, size: int, seed: int, on_both: int = 0, correlation: float = 0.7):
    """Scores that know nothing of membership; the last groups of each side have samples on both."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(2 * groups), size)
    member = group < groups
    mixed = np.isin(group, np.arange(on_both))
    member[mixed] = np.arange(int(mixed.sum())) % size < size // 2
    scores = np.sqrt(correlation) * rng.normal(size=2 * groups)[group]
    return scores + np.sqrt(1 - correlation) * rng.normal(size=group.size), member, group


def test_every_shuffle_keeps_groups_together_and_counts_as_they_are():
    _, member, group = clustered(6, 4, seed=0, on_both=2)
    shuffles = GroupShuffles(member, group)
    drawn = np.concatenate([*shuffles.samples(200, seed=1)])
    assert drawn.shape == (200, 48)
    for g in range(2, 12):
        assert (drawn[:, group == g].all(1) | ~drawn[:, group == g].any(1)).all()
    for g in range(2):
        assert (drawn[:, group == g].sum(1) == member[group == g].sum()).all()
    pure = drawn[:, (group >= 2)]
    assert (pure.sum(1) == member[group >= 2].sum()).all()
    assert len({row.tobytes() for row in drawn}) > 190
    assert (drawn.mean(0)[group < 2] > 0.3).all()


def test_the_p_value_is_the_share_of_all_ways_to_choose_the_member_groups():
    scores, member, group = clustered(4, 3, seed=3)
    scores = scores + 0.5 * member
    observed = roc_auc(scores, member)
    ways = [roc_auc(scores, np.isin(group, chosen)) >= observed - 1e-12 for chosen in combinations(range(8), 4)]
    p_value = grouped_p_value(scores, member, group, permutations=20_000)
    assert p_value == pytest.approx(np.mean(ways), abs=0.015)
    assert p_value == permutation_p_value(scores, member, permutations=20_000, group=group)


@pytest.mark.parametrize("on_both", [0, 6, 20])
def test_permuted_groups_keep_the_level(on_both):
    plain, grouped = [], []
    for seed in range(400):
        scores, member, group = clustered(20, 4, seed, on_both)
        plain.append(permutation_p_value(scores, member, permutations=99, seed=seed) <= 0.05)
        grouped.append(permutation_p_value(scores, member, permutations=99, seed=seed, group=group) <= 0.05)
    assert 0.02 <= np.mean(grouped) <= 0.085
    if not on_both:
        assert np.mean(plain) > 0.1


def test_the_normal_limit_of_many_groups_is_that_of_the_permutations(monkeypatch):
    for on_both in (0, 30, 60):
        for seed in range(5):
            scores, member, group = clustered(60, 4, seed, on_both)
            scores = scores + 0.15 * member
            exact = grouped_p_value(scores, member, group, permutations=4999)
            with monkeypatch.context() as patch:
                patch.setattr(group_shuffles, "_LARGE", 10)
                limit = grouped_p_value(scores, member, group)
            assert limit == pytest.approx(exact, abs=0.03)


def test_tied_scores_say_nothing():
    _, member, group = clustered(8, 3, seed=0)
    assert grouped_p_value(np.zeros(48), member, group, permutations=99) == 1.0


def by_groups(scores: np.ndarray, member: np.ndarray, group: np.ndarray) -> list[float]:
    """Conformal p-values of a table, one sample at a time."""
    values = []
    for i in range(len(scores)):
        others = [g for g in np.unique(group[~member]) if g != group[i]]
        shares = [np.mean(scores[~member & (group == g)] >= scores[i]) for g in others]
        values.append((1 + sum(shares)) / (1 + len(others)))
    return values


@pytest.mark.parametrize("on_both", [0, 3])
def test_conformal_p_values_count_the_groups_of_nonmembers(on_both):
    scores, member, group = clustered(7, 3, seed=2, on_both=on_both)
    scores = scores.round(1)  # with ties
    np.testing.assert_allclose(member_p_values(scores, member, group), by_groups(scores, member, group))
    if not on_both:
        against = conformal_p_values(scores[member], scores[~member], group[~member])
        np.testing.assert_allclose(against, member_p_values(scores, member, group)[member])
    alone = np.arange(scores.size)
    np.testing.assert_allclose(member_p_values(scores, member, alone), member_p_values(scores, member))


def test_conformal_p_values_of_new_groups_are_valid():
    plain, grouped = [], []
    for seed in range(400):
        scores, member, group = clustered(12, 20, seed, correlation=0.99)
        one = np.flatnonzero(member)[0]
        plain.append(member_p_values(scores, member)[one])
        grouped.append(member_p_values(scores, member, group)[one])
    assert np.mean(np.array(plain) <= 0.01) > 0.03  # three times too often
    for level in (0.02, 0.08, 0.2, 0.5):
        assert np.mean(np.array(grouped) <= level) <= level + 0.04


def test_a_collection_in_groups_keeps_its_level_and_its_power():
    rejected = np.zeros((2, 2))
    for seed in range(200):
        scores, member, group = clustered(15, 4, seed)
        for row, shift in enumerate((0.0, 1.5)):
            moved = scores + shift * member
            sides, groups = (moved[member], moved[~member]), (group[member], group[~member])
            rejected[row, 0] += collection_p_value(*sides, permutations=99, seed=seed) <= 0.05
            rejected[row, 1] += collection_p_value(*sides, permutations=99, seed=seed, groups=groups) <= 0.05
    assert rejected[0, 0] / 200 > 0.1
    assert 0.01 <= rejected[0, 1] / 200 <= 0.09
    assert rejected[1, 1] / 200 > 0.8


def test_the_classifier_is_not_taken_in_by_groups_that_are_alike():
    """A feature that is common to the samples of a group tells their side, if others of the group may be fitted on."""
    found = np.zeros(2)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(24), 8)
        member = group < 12
        features = rng.normal(size=(24, 3))[group] + 0.1 * rng.normal(size=(192, 3))
        for place, groups in enumerate((None, group)):
            test = permutation_test(features, member, permutations=39, seed=seed, group=groups)
            found[place] += test.p_value <= 0.05
    assert found[0] > 25
    assert found[1] <= 6


def test_the_classifier_scores_no_sample_by_a_fit_on_its_group():
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(20), 5)
    member, features = group < 10, rng.normal(size=(100, 2))
    logits = cross_fitted_logits(features, member, seed=3, group=group)
    changed = features.copy()
    changed[group == 4, 0] += 100.0 * (np.arange(5) > 0)  # all of a group but its first sample
    again = cross_fitted_logits(changed, member, seed=3, group=group)
    first = np.flatnonzero(group == 4)[0]
    assert again[first] == logits[first]
    assert (again[group != 4] != logits[group != 4]).any()


def test_a_test_of_many_samples_draws_from_all_groups():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(16), 200)
    member = group < 8
    features = rng.normal(size=(3200, 1)) + 0.5 * rng.normal(size=(16, 1))[group]
    test = permutation_test(features, member, permutations=19, most=100, group=group)
    assert 0.0 < test.p_value <= 1.0
    assert np.isnan(permutation_test(features, group < 3, permutations=19, most=100, group=group).auc)
    assert np.isfinite(test.logits).all()
