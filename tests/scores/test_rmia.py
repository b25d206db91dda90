import re

import numpy as np
import pytest
from scipy.special import expit, logit

from mia_lightning.functional.roc import roc_auc, tpr_at_fpr
from mia_lightning.scores.reference_statistics import ReferenceStatistics
from mia_lightning.scores.rmia import OFFLINE_A, rmia_offline, rmia_online

BOTH = pytest.mark.parametrize("likelihood", ["confidence", "inverse_error"])
ATTACKS = pytest.mark.parametrize("attack", [rmia_online, rmia_offline])


def ratios(stats, likelihood, a=None):
    """Likelihood ratios of each sample, one by one; online unless ``a`` is given. No side may be empty."""
    level = expit if likelihood == "confidence" else np.exp
    found = []
    for n in range(stats.samples):
        inside = level(stats.references[stats.included[:, n], n])
        outside = level(stats.references[~stats.included[:, n], n])
        trained_on = inside.mean() if a is None else a * outside.mean() + 1 - a
        found.append(level(stats.target[n]) / ((trained_on + outside.mean()) / 2))
    return np.array(found)


def shares(ratio, population, gamma):
    """For each sample the number of population samples, itself aside, that it beats by more than gamma."""
    return np.array(
        [sum(ratio[x] / ratio[z] > gamma for z in np.flatnonzero(population) if z != x) for x in range(ratio.size)]
    )


@BOTH
@pytest.mark.parametrize("gamma", [1.0, 1.1, 2.0])
def test_scores_are_those_of_a_double_loop(world, likelihood, gamma):
    stats, member = world(0, samples=60)
    online = rmia_online(stats, ~member, likelihood=likelihood, gamma=gamma)
    offline = rmia_offline(stats, ~member, likelihood=likelihood, gamma=gamma)
    a = OFFLINE_A if likelihood == "confidence" else 1.0
    for score, ratio in ((online, ratios(stats, likelihood)), (offline, ratios(stats, likelihood, a))):
        beaten = shares(ratio, ~member, gamma)
        rank = 1 + np.argsort(np.argsort(ratio))
        assert score == pytest.approx((beaten + rank / 61) / 31, rel=1e-9)
        assert np.abs(score - beaten / (30 - ~member)).max() <= 2 / 31  # the share, but for the split of ties


def test_the_offline_weight_moves_between_a_half_and_the_plain_mean(world):
    stats, member = world(1, samples=60)
    for a in (0.0, 0.5, 1.0):
        score = rmia_offline(stats, ~member, likelihood="confidence", a=a)
        assert (np.argsort(score) == np.argsort(ratios(stats, "confidence", a))).all()


@BOTH
@pytest.mark.parametrize("gamma", [1.0, 1.5, 4.0])
def test_the_order_is_that_of_the_ratio_for_every_gamma(world, likelihood, gamma):
    stats, member = world(2)
    score = rmia_online(stats, ~member, likelihood=likelihood, gamma=gamma)
    assert (np.argsort(score) == np.argsort(ratios(stats, likelihood))).all()
    assert ((score > 0.0) & (score < 1.0)).all()


def test_plain_shares_would_tie_the_surest_members(world):
    stats, member = world(3, noise=0.1)
    score = rmia_online(stats, ~member, likelihood="inverse_error")
    beaten = shares(ratios(stats, "inverse_error"), ~member, 1.0)
    assert tpr_at_fpr(beaten / (60 - ~member), member, 0.01)[0] < 0.6
    assert tpr_at_fpr(score, member, 0.01)[0] > 0.9


def test_equal_ratios_get_equal_scores_on_both_sides():
    stats = ReferenceStatistics(np.zeros(8), np.zeros((2, 8)), [[True] * 8, [False] * 8])
    member = np.arange(8) < 4
    for gamma in (1.0, 2.0):
        assert np.unique(rmia_online(stats, ~member, likelihood="inverse_error", gamma=gamma)).size == 1
        assert np.unique(rmia_offline(stats, ~member, likelihood="confidence", gamma=gamma)).size == 1


def test_samples_without_a_side_borrow_the_mean_ratio_of_the_sides():
    log2 = np.log(2.0)
    references = log2 * np.array([[3.0, 4.0, 6.0, 1.0], [1.0, 2.0, 6.0, 1.0]])
    stats = ReferenceStatistics(np.zeros(4), references, [[1, 1, 1, 0], [0, 0, 1, 0]])
    inside, outside = 2.0 ** np.array([3, 4, 6, 3]), 2.0 ** np.array([1, 2, 4, 1])  # training means four times as much
    population = np.ones(4, dtype=bool)
    beaten = shares(2.0 / (inside + outside), population, 1.0)
    online = rmia_online(stats, population, likelihood="inverse_error")
    assert np.floor(online * 5).tolist() == beaten.tolist() == [2, 1, 0, 2]
    beaten = shares(1.0 / outside, population, 1.0)
    offline = rmia_offline(stats, population, likelihood="inverse_error")
    assert np.floor(offline * 5).tolist() == beaten.tolist() == [2, 1, 0, 2]


def test_a_borrowed_confidence_stays_a_probability():
    # Training lifts 0.1 to 0.9 and hardly moves the last sample: three times 0.5 would stand for the second.
    references = logit(np.array([[0.9, 0.5, 0.8], [0.1, 0.5, 0.8]]))
    stats = ReferenceStatistics(logit([0.45, 0.72, 0.72]), references, [[1, 0, 1], [0, 0, 0]])
    score = rmia_online(stats, [True] * 3, likelihood="confidence")
    # Ratios 0.45 / 0.5, 0.72 / ((1 + 0.5) / 2) and 0.72 / 0.8; uncapped the second would be 0.72 / ((1.5 + 0.5) / 2).
    assert score[1] > max(score[0], score[2])


@BOTH
def test_extreme_statistics_neither_overflow_nor_vanish(likelihood):
    stats = ReferenceStatistics([900.0, -900.0, 0.0], [[800.0, -800.0, 1.0]], np.zeros((1, 3), dtype=bool))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        score = rmia_offline(stats, [False, True, True], likelihood=likelihood, a=1.0)
    assert np.isfinite(score).all()
    if likelihood == "inverse_error":
        assert (np.argsort(score) == [1, 2, 0]).all()


@ATTACKS
@BOTH
def test_it_finds_members_that_the_statistic_alone_does_not(world, attack, likelihood):
    areas = []
    for seed in range(10):
        stats, member = world(seed)
        score = attack(stats, ~member, likelihood=likelihood)
        areas.append((roc_auc(stats.target, member), roc_auc(score, member)))
    plain, attacked = np.mean(areas, axis=0)
    assert plain < 0.75
    assert attacked > plain + 0.08


@ATTACKS
@BOTH
def test_where_nothing_is_memorised_the_interval_covers_chance(world, covers_chance, attack, likelihood):
    covered, above = 0, 0
    for seed in range(200):
        stats, member = world(seed, references=4, balanced=False, honest=True)
        score = attack(stats, ~member, likelihood=likelihood, gamma=1.0 + seed % 2)
        covered += covers_chance(score, member)
        above += roc_auc(score, member) > 0.5
    assert 0.91 <= covered / 200 <= 0.985
    assert 77 <= above <= 123  # leaving a sample out of its own population favours neither side


def test_what_is_out_of_range_is_refused_in_words(world):
    stats, member = world(4)
    refused = [
        ({"population": ~member[:-1]}, "Expected population of shape (120,), but got (119,)."),
        (
            {"population": member & ~member},
            "Expected at least 2 samples in the population (nonmembers to compare with)",
        ),
        ({"population": np.arange(120) == 0}, "but got 1 of 120."),
        ({"gamma": 0.5}, "Expected a gamma of at least 1, but got 0.5."),
        ({"gamma": float("inf")}, "Expected a gamma of at least 1, but got inf."),
        ({"likelihood": "logit"}, "Unknown likelihood 'logit'; choose one of confidence, inverse_error."),
        ({"a": 1.5}, "Expected a in [0, 1], but got 1.5."),
        (
            {"a": 0.5, "likelihood": "inverse_error"},
            "no probability that could be mixed with 1: leave a at 1, not 0.5.",
        ),
    ]
    for wrong, words in refused:
        with pytest.raises(ValueError, match=re.escape(words)):
            rmia_offline(stats, **{"population": ~member, "likelihood": "confidence"} | wrong)
    never = ReferenceStatistics(stats.target, stats.references, np.zeros((4, 120), dtype=bool))
    with pytest.raises(ValueError, match="None of the reference models was trained on any of the 120 samples"):
        rmia_online(never, ~member, likelihood="confidence")
    assert np.isfinite(rmia_offline(never, ~member, likelihood="confidence")).all()
