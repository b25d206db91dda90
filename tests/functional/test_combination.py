from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare, norm

from mia_lightning.functional.calibration import robust_units
from mia_lightning.functional.combination import (
    DIFFICULTY_WEIGHT,
    MOST_UNITS,
    REFERENCE_WEIGHT,
    TAIL,
    in_side_units,
    side_units,
    surprise,
    surprise_score,
)
from mia_lightning.functional.folds import assign_folds
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.p_values import permutation_p_value
from mia_lightning.functional.roc import roc_auc


def draw(seed: int, sides: tuple[int, int] = (60, 60), **effect: float) -> tuple[np.ndarray, np.ndarray]:
    """Four skewed errors of two kinds, dependent as real ones are, lowered for members: (N, 4) and flags."""
    rng = np.random.default_rng(seed)
    member = np.arange(sum(sides)) < sides[0]
    shared = rng.standard_t(4, size=len(member))
    columns = [rng.standard_t(4, size=len(member)), shared, np.exp(shared / 2), shared + rng.normal(size=len(member))]
    lowered = [effect.get("neighbour", 0.0)] + [effect.get("difficulty", 0.0)] * 3
    return np.stack(columns, 1) - np.outer(member, lowered), member


def score_of(table: np.ndarray, member: np.ndarray, **settings: object) -> np.ndarray:
    return surprise_score([table[:, 0]], [table[:, 1], table[:, 2]], member, reference_error=table[:, 3], **settings)


def test_by_hand_fold_by_fold():
    table, member = draw(0)
    fold = assign_folds(member, 5, 3)
    neighbour, others = np.empty(len(table)), np.empty_like(table)
    for number in range(5):
        fitted, here = ~member & (fold != number), fold == number
        middle = np.median(table[fitted], 0)
        low, high = np.quantile(table[fitted, 0], [1 - TAIL, TAIL])
        distance = table[here, 0] - middle[0]
        scale = np.where(distance < 0, middle[0] - low, high - middle[0]) / norm.ppf(TAIL)
        neighbour[here] = np.clip(distance / scale, -MOST_UNITS, MOST_UNITS)
        others[here] = (table[here] - middle) / (1.4826 * np.median(np.abs(table[fitted] - middle), 0))
    expected = -norm.logsf(-neighbour) - DIFFICULTY_WEIGHT * others[:, 1:3].mean(1)
    np.testing.assert_allclose(surprise_score(table[:, :1].T, table[:, 1:3].T, member, seed=3), expected, atol=1e-9)
    expected -= REFERENCE_WEIGHT * others[:, 3]
    np.testing.assert_allclose(score_of(table, member, seed=3), expected, atol=1e-9)


def test_surprises_of_several_neighbour_errors_are_averaged():
    table, member = draw(0, neighbour=1.0)
    both, first, second = (
        surprise_score(n, [table[:, 1]], member) for n in (table[:, [0, 3]].T, table[:, :1].T, table[:, 3:].T)
    )
    np.testing.assert_allclose(both, (first + second) / 2, atol=1e-9)


def test_units_of_the_columns_do_not_matter():
    table, member = draw(1)
    np.testing.assert_allclose(score_of(1000 * table - 7, member), score_of(table, member), atol=1e-8)
    assert not np.array_equal(score_of(table, member), score_of(table, member, seed=1))


def test_no_sample_meets_what_saw_it():
    table, member = draw(0)
    fold = assign_folds(member, 5, 0)
    row = int(np.flatnonzero(~member & (fold == 2))[0])
    changed = table.copy()
    changed[row] = 50.0
    same = (fold == 2) & (np.arange(len(member)) != row)
    np.testing.assert_array_equal(*(score_of(t, member)[same] for t in (table, changed)))


def test_groups_are_not_split():
    table, member = draw(2)
    group = np.arange(len(member)) // 4
    changed = table.copy()
    changed[100] = 50.0
    others = (group == group[100]) & (np.arange(len(member)) != 100)
    np.testing.assert_array_equal(*(score_of(t, member, group=group)[others] for t in (table, changed)))
    assert not np.array_equal(*(score_of(t, member)[others] for t in (table, changed)))


def test_a_useless_part_does_not_drown_the_other():
    """Of a column that says nothing, a plain sum of scores loses more than this one."""
    lost = []
    for seed in range(20):
        table, member = draw(seed, (150, 150), neighbour=2.0)
        alone = roc_auc(-table[:, 0], member)
        units = [table[:, column] / robust_units(table[~member, column])[1] for column in (0, 1)]
        plain = roc_auc(-units[0] - units[1], member)
        lost.append((alone - roc_auc(surprise_score([table[:, 0]], [table[:, 1]], member), member), alone - plain))
    own, sum_of_both = np.mean(lost, 0)
    assert own < 0.6 * sum_of_both


def test_both_parts_count():
    table, member = draw(3, (200, 200), neighbour=1.0, difficulty=1.0)
    both = roc_auc(surprise_score([table[:, 0]], [table[:, 1]], member), member)
    assert both > max(roc_auc(-table[:, column], member) for column in (0, 1)) + 0.02
    assert roc_auc(score_of(table, member), member) > both


@pytest.mark.parametrize("sides", [(20, 20), (48, 48), (30, 15), (100, 25)])
def test_nothing_is_found_where_nothing_is(sides):
    covered, p_values = 0, []
    for seed in range(150):
        table, member = draw(seed, sides)
        near = [table[:, 0], np.maximum(table[:, 0], table[:, 3]), table[:, 0] + 0.3 * table[:, 3]]
        score = surprise_score(near, [table[:, 1], table[:, 2]], member, reference_error=table[:, 3], seed=seed)
        _, low, high = delong_interval(score, member)
        covered += low < 0.5 < high
        p_values.append(permutation_p_value(score, member, permutations=99, seed=seed))
    assert 0.91 <= covered / 150 <= 0.99
    assert chisquare(np.histogram(p_values, bins=np.linspace(0, 1, 6))[0]).pvalue > 0.005


def test_too_few_nonmembers_share_units_with_the_members():
    table, member = draw(0, (30, 10))
    centre, below, above = side_units(table[:, 0])
    distance = table[:, 0] - centre
    np.testing.assert_allclose(in_side_units(table[:, 0], member), distance / np.where(distance < 0, below, above))
    assert np.isfinite(score_of(table, member)).all()


def test_constant_and_missing_values():
    table, member = draw(0)
    table[:, 1] = 0.25
    table[3, 0], table[4, 2] = np.nan, np.inf
    score = score_of(table, member)
    assert np.flatnonzero(~np.isfinite(score)).tolist() == [3, 4]
    table[:, 0] = np.where(np.arange(len(table)) % 9 == 0, 1.0, 0.0)  # no spread below the median
    assert np.isfinite(score_of(table, member)[5:]).all()


def test_far_values_have_a_surprise():
    assert np.isfinite(surprise(np.array([-MOST_UNITS, MOST_UNITS]))).all()
    assert surprise(np.array([3.0]))[0] == pytest.approx(-np.log(norm.sf(3.0)))


def test_wrong_inputs_say_what_was_found():
    for kind, errors in (("neighbours", ([], [np.zeros(4)])), ("difficulty", ([np.zeros(4)], []))):
        with pytest.raises(ValueError, match=f"at least one error relative to {kind}, but got none"):
            surprise_score(*errors, np.zeros(4))
    with pytest.raises(ValueError, match=r"one shape \(N,\), but got \(3,\) and \(4,\)"):
        surprise_score([np.zeros(4)], [np.zeros(3)], np.zeros(4))
