"""The same shuffles at every look: their null is that of a permutation, and who is left out changes nothing else."""

import numpy as np
import pytest
from scipy.stats import norm

from mia_lightning.functional.intervals import delong_variance
from mia_lightning.functional.look_shuffles import MOST_UNITS, SHUFFLES, LookShuffles, unit_keys
from mia_lightning.functional.p_values import exposed_p_value, permutation_p_value
from mia_lightning.functional.roc import roc_auc


def sides(each, size=1):
    member = np.arange(2 * each) < each
    position = np.arange(2 * each) % each
    return member, position, None if size == 1 else np.arange(2 * each) // size


def shuffles_of(member, position, group, seed=0):
    names = None if group is None else [f"group {code}" for code in group]
    return LookShuffles(member, group, unit_keys(member, position, names), seed)


def correlated(rng, group, count):
    own = rng.normal(size=count)
    return own if group is None else rng.normal(size=group.max() + 1)[group] + own


@pytest.mark.parametrize(
    ("each", "size"),
    [(30, 1), (40, 4), (MOST_UNITS, 1), (2 * MOST_UNITS, 3)],
    ids=["few", "groups", "many", "many groups"],
)
def test_the_null_is_that_of_a_permutation_test(each, size):
    member, position, group = sides(each, size)
    shuffles, rng = shuffles_of(member, position, group), np.random.default_rng(0)
    for shift in (0.0, 3.0 / np.sqrt(each)):
        score = correlated(rng, group, 2 * each) + shift * member
        statistic = shuffles.areas([score])[:, 0]
        ours = (statistic >= statistic[0]).mean()
        assert ours == pytest.approx(permutation_p_value(score, member, group=group), abs=0.04)


def test_groups_on_both_sides_are_shuffled_within():
    member, position, _ = sides(40)
    group = np.arange(80) % 20
    shuffles, rng = shuffles_of(member, position, group), np.random.default_rng(1)
    score = 5.0 * rng.normal(size=20)[group] + rng.normal(size=80) + 0.3 * member
    statistic = shuffles.areas([score])[:, 0]
    expected = permutation_p_value(score, member, group=group)
    assert (statistic >= statistic[0]).mean() == pytest.approx(expected, abs=0.04)
    many, places, _ = sides(2000)
    group = np.arange(4000) % 500
    score = 5.0 * rng.normal(size=500)[group] + rng.normal(size=4000) + 0.05 * many
    statistic = shuffles_of(many, places, group).areas([score])[:, 0]
    expected = permutation_p_value(score, many, group=group)
    assert (statistic >= statistic[0]).mean() == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("each", [100, 2 * MOST_UNITS])
def test_looks_are_joined_though_samples_are_missing(each):
    """Shuffle by shuffle, what a look shows hardly changes where a few samples are left out at the next."""
    member, position, _ = sides(each)
    score = np.random.default_rng(2).normal(size=2 * each)
    whole = shuffles_of(member, position, None).areas([score])[1:, 0]
    keep = np.ones(2 * each, bool)
    keep[[3, each + 5, each + 6]] = False
    part = shuffles_of(member[keep], position[keep], None).areas([score[keep]])[1:, 0]
    assert np.corrcoef(whole, part)[0, 1] > 0.95
    other = shuffles_of(member, position, None, seed=1).areas([score])[1:, 0]
    assert abs(np.corrcoef(whole, other)[0, 1]) < 0.1


@pytest.mark.parametrize("size", [1, 4])
def test_errors_of_two_looks_depend_on_each_other_as_the_areas_do(size):
    """Under a leak, too, where those of shuffles would not."""
    rng, errors = np.random.default_rng(3), []
    member, position, group = sides(100, size)
    for _ in range(300):
        first = correlated(rng, group, 200)
        second = 0.8 * first + 0.6 * correlated(rng, group, 200)
        errors.append([roc_auc(look + 1.5 * member, member) for look in (first, second)])
    drawn = shuffles_of(member, position, group).deviations([first + 1.5 * member, second + 1.5 * member])
    assert drawn.shape == (SHUFFLES, 2)
    assert drawn.std(axis=0) == pytest.approx([1.0, 1.0], abs=0.1)
    assert np.corrcoef(drawn.T)[0, 1] == pytest.approx(np.corrcoef(np.array(errors).T)[0, 1], abs=0.15)
    assert delong_variance(first + 1.5 * member, member, group)[1] > 0.0


def test_errors_of_few_groups_reach_as_far_out_as_normal_ones():
    """Signs of eight groups of one size add up to the square root of eight at the most."""
    member = np.arange(32) < 16
    group = np.arange(32) // 4
    drawn = shuffles_of(member, np.arange(32) % 16, group).deviations([np.repeat([1.0, 3.0, 0.0, 2.0] * 2, 4)])
    assert np.abs(drawn).max() > np.sqrt(8.0)
    assert np.mean(np.abs(drawn) > norm.isf(0.005)) == pytest.approx(0.01, abs=0.007)


def test_keys_know_sides_ids_and_groups():
    member = np.array([True, True, False])
    by_place = unit_keys(member, np.array([0, 1, 0])).samples
    assert len(set(by_place.tolist())) == 3
    by_id = unit_keys(member, np.array([0, 1, 0]), ids=["a", "b", "a"]).samples
    moved = unit_keys(member[[1, 0, 2]], np.array([5, 6, 7]), ids=["b", "a", "a"]).samples
    assert moved.tolist() == by_id[[1, 0, 2]].tolist()
    grouped = unit_keys(member, np.array([0, 1, 0]), ["x", "", "x"])
    assert grouped.groups[0] == grouped.groups[2]
    assert grouped.groups[1] == grouped.samples[1]


def test_a_constant_score_shows_nothing():
    for each in (20, 2 * MOST_UNITS):
        member, position, _ = sides(each)
        statistic = shuffles_of(member, position, None).areas([np.zeros(2 * each)])[:, 0]
        assert (statistic == statistic[0]).all()


@pytest.mark.parametrize(
    ("each", "size"),
    [(100, 1), (100, 4), (2 * MOST_UNITS, 1), (2 * MOST_UNITS, 3)],
    ids=["few", "groups", "many", "many groups"],
)
def test_the_most_exposed_are_tested_by_the_same_shuffles(each, size):
    member, position, group = sides(each, size)
    shuffles, rng = shuffles_of(member, position, group), np.random.default_rng(5)
    for count in (0, 3):
        score = rng.normal(size=2 * each)
        score[:count] += 6.0
        statistic = shuffles.exposures([score])[:, 0]
        expected = exposed_p_value(score, member, group=group)
        assert (statistic >= statistic[0]).mean() == pytest.approx(expected, abs=0.04)


def test_the_most_exposed_of_groups_on_both_sides():
    for each, groups in ((40, 20), (1000, 250)):
        member, position, _ = sides(each)
        group = np.arange(2 * each) % groups
        rng = np.random.default_rng(6)
        score = rng.normal(size=groups)[group] + rng.normal(size=2 * each) + 0.3 * member
        statistic = shuffles_of(member, position, group).exposures([score])[:, 0]
        expected = exposed_p_value(score, member, group=group)
        assert (statistic >= statistic[0]).mean() == pytest.approx(expected, abs=0.06)
