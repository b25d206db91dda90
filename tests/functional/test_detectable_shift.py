"""What "no difference found" is worth."""

import math

import numpy as np
import pytest

from mia_lightning.functional.blind import SIGNIFICANT, blind_test, matched_subsample
from mia_lightning.functional.detectable_shift import detectable_shift, largest_imbalance


@pytest.mark.parametrize(("number", "statistics", "trials"), [(24, 7, 40), (48, 1, 40), (48, 7, 40)])
def test_the_shift_is_found_about_as_often_as_it_says(number, statistics, trials):
    shift, member = detectable_shift(number, number, statistics), np.arange(2 * number) < number
    found = 0
    for seed in range(trials):
        table = np.random.default_rng(seed).normal(size=(2 * number, statistics))
        table[:, 0] += shift * member
        columns = {f"s{place:02d}": column for place, column in enumerate(table.T)}
        found += blind_test(columns, member, permutations=59, seed=seed).p_value < SIGNIFICANT
    assert abs(found / trials - 0.8) < 0.1 + 3 * math.sqrt(0.16 / trials)


def test_more_samples_find_less_and_more_statistics_hide_it():
    shifts = [detectable_shift(n, n, 7) for n in (20, 50, 100, 1000)]
    assert shifts == sorted(shifts, reverse=True)
    assert detectable_shift(50, 50, 20) > detectable_shift(50, 50, 7) > detectable_shift(50, 50, 7, power=0.5)
    assert detectable_shift(50, 500, 7) == detectable_shift(500, 50, 7) < detectable_shift(50, 50, 7)
    assert math.isnan(detectable_shift(3, 50, 7))
    assert math.isnan(detectable_shift(50, 50, 0))


def test_what_matching_leaves():
    rng, member = np.random.default_rng(0), np.arange(200) < 100
    table = np.column_stack([rng.normal(size=200) + 0.8 * member, np.ones(200)])
    everything = np.arange(200)
    whole = largest_imbalance(table, member, everything)
    assert whole == pytest.approx(
        abs(table[member, 0].mean() - table[~member, 0].mean())
        / math.sqrt((table[member, 0].var() + table[~member, 0].var()) / 2)
    )
    assert largest_imbalance(table, member, matched_subsample(table[:, 0], member)) < 0.1 < 0.5 < whole
    assert math.isnan(largest_imbalance(table, member, everything[:50]))
