from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pmean

from mia_lightning.functional.folds import assign_folds
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.roc import roc_auc
from mia_lightning.functional.weighting import (
    MOST_SCALES,
    SHARPNESS,
    SHRINKAGE,
    easiest_neighbour_error,
    weighted_neighbour_error,
)


def draw(seed: int, sides: tuple[int, int] = (60, 60), effect: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Five neighbours: three that say nearly the same, one of its own, one that only scatters."""
    rng = np.random.default_rng(seed)
    member = np.arange(sum(sides)) < sides[0]
    shared = rng.normal(size=len(member))
    columns = [shared + 0.2 * rng.normal(size=len(member)) for _ in range(3)]
    columns += [rng.normal(size=len(member)), 9.0 * rng.standard_t(2, size=len(member))]
    return np.stack(columns, 1) - effect * member[:, None], member


def test_by_hand_fold_by_fold():
    table, member = draw(0)
    fold = assign_folds(member, 5, 3)
    expected = np.empty(len(member))
    for number in range(5):
        fitted, here = ~member & (fold != number), fold == number
        centre = np.median(table[fitted], 0)
        scale = 1.4826 * np.median(np.abs(table[fitted] - centre), 0)
        units = np.clip((table[fitted] - centre) / scale, -MOST_SCALES, MOST_SCALES)
        correlation = np.corrcoef(units.T)
        weights = np.linalg.inv((1 - SHRINKAGE) * correlation + SHRINKAGE * np.eye(5)).sum(1)
        expected[here] = np.clip((table[here] - centre) / scale, -MOST_SCALES, MOST_SCALES) @ (weights / weights.sum())
    np.testing.assert_allclose(weighted_neighbour_error(table, member, seed=3), expected, atol=1e-9)


def test_no_sample_meets_what_saw_it():
    table, member = draw(0)
    fold = assign_folds(member, 5, 0)
    changed = table.copy()
    row = int(np.flatnonzero(~member & (fold == 2))[0])
    changed[row] = 50.0
    same = (fold == 2) & (np.arange(len(member)) != row)
    before, after = (weighted_neighbour_error(t, member)[same] for t in (table, changed))
    np.testing.assert_array_equal(before, after)


def test_what_scatters_or_repeats_counts_less():
    gain = []
    for seed in range(20):
        table, member = draw(seed, (200, 200), effect=0.7)
        plain = roc_auc(-table.mean(1), member)
        gain.append(roc_auc(-weighted_neighbour_error(table, member), member) - plain)
    assert np.mean(gain) > 0.1
    assert np.min(gain) > 0


@pytest.mark.parametrize("sides", [(60, 60), (120, 120), (100, 25), (30, 15)])
def test_nothing_is_found_where_nothing_is(sides):
    covered = 0
    for seed in range(200):
        table, member = draw(seed, sides)
        _, low, high = delong_interval(-weighted_neighbour_error(table, member, seed=seed), member)
        covered += low < 0.5 < high
    assert 0.91 <= covered / 200 <= 0.985


def test_few_nonmembers_weigh_all_alike_in_common_units():
    table, member = draw(0, (30, 10))
    centre = np.median(table, 0)
    units = (table - centre) / (1.4826 * np.median(np.abs(table - centre), 0))
    expected = units.clip(-MOST_SCALES, MOST_SCALES).mean(1)
    np.testing.assert_allclose(weighted_neighbour_error(table, member), expected, atol=1e-12)


def test_missing_neighbours():
    table, member = draw(0)
    table[3, :4] = np.nan
    table[4, 0] = np.inf
    table[5] = np.nan
    error = weighted_neighbour_error(table, member)
    assert np.flatnonzero(~np.isfinite(error)).tolist() == [5]


def test_a_constant_neighbour_does_no_harm():
    table, member = draw(0)
    table[:, 2] = 0.0
    assert np.isfinite(weighted_neighbour_error(table, member)).all()


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"Expected log-ratios \(N, k\) and flags \(N,\), but got \(4,\) and \(4,\)"):
        weighted_neighbour_error(np.zeros(4), np.zeros(4, dtype=bool))


def test_the_easiest_neighbours_are_a_power_mean():
    rng = np.random.default_rng(0)
    own, others = rng.uniform(0.01, 2.0, 40), rng.uniform(0.01, 2.0, (40, 5))
    ratios = np.log(own)[:, None] - np.log(others)
    found = easiest_neighbour_error(ratios)
    np.testing.assert_allclose(found, np.log(own / pmean(others, -SHARPNESS, axis=1)), atol=1e-9)
    assert (found <= ratios.max(1)).all()
    assert (found >= ratios.mean(1)).all()
    np.testing.assert_allclose(easiest_neighbour_error(ratios[:, :1]), ratios[:, 0])
    np.testing.assert_allclose(easiest_neighbour_error(ratios - 1e4), found - 1e4)


def test_neighbours_without_a_number_are_no_easiest_ones():
    ratios = np.array([[0.3, np.nan, -0.2], [np.inf, -np.inf, 0.1], [np.nan, np.nan, np.inf]])
    found = easiest_neighbour_error(ratios)
    np.testing.assert_allclose(found[:2], [easiest_neighbour_error(ratios[:1, [0, 2]])[0], 0.1])
    assert np.isnan(found[2])
    with pytest.raises(ValueError, match=r"log-ratios \(N, k\), but got \(3,\)"):
        easiest_neighbour_error(np.zeros(3))


def test_an_odd_copy_is_no_sign_of_membership():
    """Of pairs with one copy that is hard for everybody the mean says member, the easiest copy does not."""
    rng = np.random.default_rng(1)
    member, odd = np.arange(600) < 300, rng.random((600, 4)) < 0.15
    ratios = rng.normal(0.0, 0.05, (600, 4)) - 0.6 * odd - 0.1 * member[:, None]
    assert roc_auc(-easiest_neighbour_error(ratios), member) > roc_auc(-ratios.mean(1), member) + 0.1
