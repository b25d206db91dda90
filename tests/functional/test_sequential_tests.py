"""Levels and bands over looks: exact where they can be counted, and no more false findings than they may."""

import math

import numpy as np
import pytest
from scipy.stats import norm, t

from mia_lightning.functional.error_spending import Spending
from mia_lightning.functional.sequential_tests import band_width, corrected_levels, level_of, widened_for_few

SHUFFLES = 400


def slow_levels(statistic, earlier, spent):
    """The definition, number by number: the largest count that the findings of a border still reach."""
    total = statistic.size
    levels = []
    for one in statistic:
        above = statistic >= one
        fits = [
            number
            for number in range(1, total + 1)
            if (above | ((earlier < 1.0) & (earlier < number / (spent * total) * (1.0 - 1e-7)))).sum() >= number
        ]
        levels.append(min(1.0, max(fits) / (spent * total)))
    return np.array(levels)


@pytest.mark.parametrize("correlation", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("rounded", [False, True])
def test_levels_are_those_of_their_definition(correlation, rounded):
    rng, spending, levels = np.random.default_rng(0), Spending(), np.ones(60, np.float32)
    state = rng.normal(size=60)
    for left in range(6, 0, -1):
        spending = spending.after(left)
        statistic = np.round(state, 0) if rounded else state
        found = corrected_levels(statistic, levels, spending.spent)
        np.testing.assert_allclose(found, slow_levels(statistic, levels, spending.spent), rtol=1e-5)
        levels = np.minimum(levels, found)
        state = correlation * state + np.sqrt(1 - correlation**2) * rng.normal(size=60)


def test_one_look_is_a_permutation_test_in_which_ties_count_against():
    statistic = np.array([2.0, 3.0, 2.0, 1.0, 0.0])
    assert corrected_levels(statistic, np.ones(5, np.float32), 1.0) == pytest.approx([0.6, 0.2, 0.6, 0.8, 1.0])


@pytest.mark.parametrize("correlation", [0.0, 0.8, 1.0])
def test_findings_up_to_each_look_are_as_many_as_are_spent(correlation):
    rng, spending, levels = np.random.default_rng(1), Spending(), np.ones(SHUFFLES, np.float32)
    state = rng.normal(size=SHUFFLES)
    for left in range(10, 0, -1):
        spending = spending.after(left)
        levels = np.minimum(levels, corrected_levels(state, levels, spending.spent))
        for level in (0.01, 0.05, 0.2, 0.8):
            findings = int((levels <= level).sum())
            assert findings <= level * spending.spent * SHUFFLES + 1e-3
            # A level must do for all above it, too, which costs the smallest a few of their shuffles.
            assert level < 0.05 or findings >= 0.95 * level * spending.spent * SHUFFLES - 2.0
        state = correlation * state + np.sqrt(1 - correlation**2) * rng.normal(size=SHUFFLES)


def test_what_looks_have_in_common_is_gained():
    """Looks that see the same cost no more than one; independent ones cost about what Bonferroni takes."""
    rng, chances = np.random.default_rng(2), {}
    for correlation in (0.0, 1.0):
        spending, levels = Spending(), np.ones(2000, np.float32)
        state = rng.normal(size=2000)
        for left in range(20, 0, -1):
            spending = spending.after(left)
            found = corrected_levels(state, levels, spending.spent)
            levels = np.minimum(levels, found)
            chances[correlation] = (found <= 0.05).mean()
            state = correlation * state + np.sqrt(1 - correlation**2) * rng.normal(size=2000)
    assert chances[1.0] == pytest.approx(0.05 * 0.95, abs=0.001)
    assert chances[0.0] == pytest.approx(0.05 / 20, abs=0.0015)


def test_bands_hold_at_all_looks_together():
    rng, spending = np.random.default_rng(3), Spending()
    draws, others = rng.normal(size=2000), rng.normal(size=20000)
    outside, missed, widths = np.zeros(2000, bool), np.zeros(20000, bool), []
    for left in range(20, 0, -1):
        before, spending = spending, spending.after(left)
        width, outside = band_width(draws, outside, spending.spent, spending.spent - before.spent)
        missed |= np.abs(others) > width
        widths.append(width)
        draws = 0.9 * draws + np.sqrt(1 - 0.9**2) * rng.normal(size=2000)
        others = 0.9 * others + np.sqrt(1 - 0.9**2) * rng.normal(size=20000)
    assert 0.03 < missed.mean() < 0.06
    assert norm.isf(0.025) < widths[-1] < norm.isf(0.025 / 20)


def test_a_band_is_never_narrower_than_an_interval_nor_wider_than_its_share_alone():
    draws = np.random.default_rng(4).normal(size=200)
    narrow, _ = band_width(0.1 * draws, np.zeros(200, bool), 1.0, 1.0)
    assert level_of(narrow) == pytest.approx(0.95)
    wide, outside = band_width(draws, np.zeros(200, bool), 1e-4, 1e-4)
    assert wide == pytest.approx(norm.isf(0.05 * 1e-4 / 2))
    assert not outside.any()


def test_far_out_a_band_of_few_units_widens_as_students_t_does():
    single = norm.isf(0.025)
    assert widened_for_few(single, 12) == pytest.approx(single)
    assert widened_for_few(1.0, 12) == 1.0
    expected = t(22).isf(norm.sf(3.0)) * single / t(22).isf(0.025)
    assert widened_for_few(3.0, 24) == pytest.approx(expected)
    widths = [widened_for_few(3.0, units) for units in (3, 12, 24, 100, 10**6)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(3.0, abs=1e-4)
    assert math.isinf(widened_for_few(math.inf, 24))  # a look for which no error is left
