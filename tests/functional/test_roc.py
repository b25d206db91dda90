from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from mia_lightning.functional.roc import log_partial_auc, partial_auc, roc_auc, roc_points, tpr_at_fpr


def tied_scores(seed: int, size: int = 60, levels: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    member = rng.random(size) < 0.5
    member[:2] = True, False
    return rng.integers(0, levels, size) + 2.0 * member, member


def most_hits(scores: np.ndarray, member: np.ndarray, allowed: int) -> float:
    """Best share of members that a threshold catches with at most ``allowed`` false positives; no ties."""
    order = np.argsort(-scores)
    false = np.cumsum(~member[order])
    return float((member[order] & (false <= allowed)).sum() / member.sum())


@pytest.mark.parametrize("seed", range(5))
def test_auc_with_ties_is_that_of_sklearn(seed):
    scores, member = tied_scores(seed)
    assert roc_auc(scores, member) == pytest.approx(roc_auc_score(member, scores), abs=1e-14)


def test_scores_outside_the_unit_interval_are_taken_as_they_are():
    assert roc_auc([20.0, 30.0, 40.0, 50.0], [False, False, True, True]) == 1.0
    assert roc_auc([40.0, 50.0, 20.0, 30.0], [False, False, True, True]) == 0.0


@pytest.mark.parametrize("fpr", [0.0, 0.05, 0.2, 0.5])
def test_rate_is_the_mean_over_a_fair_coin_for_ties(fpr):
    scores, member = tied_scores(3)
    allowed = int(np.floor(fpr * (~member).sum()))
    rng = np.random.default_rng(0)
    draws = [most_hits(scores + rng.uniform(0, 0.5, scores.size), member, allowed) for _ in range(4000)]
    rate, _ = tpr_at_fpr(scores, member, fpr)
    assert rate == pytest.approx(np.mean(draws), abs=4 * np.std(draws) / np.sqrt(len(draws)) + 1e-9)


@pytest.mark.parametrize(
    ("nonmembers", "fpr", "realised"), [(100, 0.01, 0.01), (99, 0.01, 0.0), (150, 0.01, 1 / 150), (100, 0.29, 0.29)]
)
def test_realised_rate_never_exceeds_the_nominal_one(nonmembers, fpr, realised):
    scores = np.random.default_rng(0).normal(size=nonmembers + 20)
    member = np.arange(scores.size) < 20
    rate, spent = tpr_at_fpr(scores, member, fpr)
    assert spent == pytest.approx(realised, abs=1e-15)
    assert rate == most_hits(scores, member, round(spent * nonmembers))


def test_a_rate_that_rounds_to_one_still_spares_a_nonmember():
    assert tpr_at_fpr([1.0, 2.0, 0.0, 3.0], [True, False, True, False], 1 - 1e-12) == (0.0, 0.5)


def test_all_scores_tied_catch_as_many_members_as_chance():
    rate, realised = tpr_at_fpr(np.zeros(200), np.arange(200) < 100, 0.1)
    assert (rate, realised) == (pytest.approx(11 / 101), 0.1)


@pytest.mark.parametrize("transform", [np.exp, lambda s: 7 * s - 3, lambda s: np.searchsorted(np.unique(s), s)])
def test_monotone_transforms_change_nothing(transform):
    scores, member = tied_scores(1)
    assert roc_auc(transform(scores), member) == roc_auc(scores, member)
    assert tpr_at_fpr(transform(scores), member, 0.1) == tpr_at_fpr(scores, member, 0.1)


def test_order_of_the_samples_changes_nothing():
    scores, member = tied_scores(2)
    shuffled = np.random.default_rng(0).permutation(scores.size)
    assert roc_auc(scores[shuffled], member[shuffled]) == roc_auc(scores, member)
    assert tpr_at_fpr(scores[shuffled], member[shuffled], 0.1) == tpr_at_fpr(scores, member, 0.1)


def test_curve_is_that_of_sklearn_and_spans_both_corners():
    scores, member = tied_scores(4)
    fpr, tpr = roc_points(scores, member)
    expected = roc_curve(member, scores)
    np.testing.assert_array_equal(fpr, expected[0])
    np.testing.assert_array_equal(tpr, expected[1])
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert np.trapezoid(tpr, fpr) == pytest.approx(roc_auc(scores, member))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("highest", [0.02, 0.1, 0.5, 1.0])
def test_partial_auc_with_and_without_ties_is_that_of_sklearn(seed, highest):
    scores, member = tied_scores(seed)
    assert partial_auc(scores, member, highest) == pytest.approx(roc_auc_score(member, scores, max_fpr=highest))
    scores = scores + np.random.default_rng(seed).random(scores.size)
    assert partial_auc(scores, member, highest) == pytest.approx(roc_auc_score(member, scores, max_fpr=highest))


def test_partial_auc_of_constant_perfect_and_reversed_scores():
    member = np.arange(40) < 15
    assert partial_auc(np.zeros(40), member) == pytest.approx(0.5)
    assert partial_auc(1.0 * member, member) == 1.0
    assert partial_auc(-1.0 * member, member) == pytest.approx(0.5 * (1 - 0.005 / 0.095))


@pytest.mark.parametrize("highest", [0.0, 1.1, -0.5])
def test_partial_areas_of_no_range_are_refused(highest):
    with pytest.raises(ValueError, match=rf"highest false-positive rate in \(0, 1\], but got {highest}"):
        partial_auc([1.0, 2.0], [True, False], highest)


def test_the_logarithmic_area_by_hand():
    """Ten nonmembers, four members: none passes half of the members, one three quarters, two all of them."""
    nonmembers = np.arange(10.0)
    members = [20.0, 19.0, 8.5, 7.5]
    scores, member = np.r_[nonmembers, members], np.arange(14) >= 10
    from_a_hundredth = (0.5 * np.log(10) + 0.75 * np.log(2) + 1.0 * np.log(5)) / np.log(100)
    assert log_partial_auc(scores, member, 0.01, 1.0) == pytest.approx(from_a_hundredth)
    assert log_partial_auc(scores, member, 0.15, 0.5) == pytest.approx(
        (0.75 * np.log(2 / 1.5) + np.log(2.5)) / np.log(0.5 / 0.15)
    )
    assert log_partial_auc(scores, member) == pytest.approx(0.5)
    # Tied with the highest nonmember: a straight line from (0, 0) to (0.1, 0.75), of which 0.05 to 0.1 is the end.
    tied = np.r_[nonmembers, 9.0, 9.0, 9.0, -1.0]
    assert log_partial_auc(tied, member, 0.05, 0.1) == pytest.approx(7.5 * 0.05 / np.log(2))


@pytest.mark.parametrize("low", [0.001, 0.03, 0.4])
@pytest.mark.parametrize("high", [0.41, 1.0])
def test_the_logarithmic_area_is_that_of_fine_steps(low, high):
    scores, member = tied_scores(2)
    at = np.geomspace(low, high, 200_001)
    fpr, tpr = roc_points(scores, member)
    steps = np.interp(at, fpr, tpr)
    area = np.trapezoid(steps, np.log10(at)) / np.log10(high / low)
    assert log_partial_auc(scores, member, low, high) == pytest.approx(area, abs=1e-4)
    assert log_partial_auc(np.zeros(40), np.arange(40) < 15, low, high) == pytest.approx(
        (high - low) / np.log(high / low)
    )
    assert log_partial_auc(-1.0 * member, member, low, min(high, 0.9)) == 0.0


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.1), (0.1, 0.1), (0.2, 0.1), (0.1, 1.1), (np.nan, 0.1)])
def test_logarithmic_areas_of_no_range_are_refused(low, high):
    with pytest.raises(ValueError, match="0 < min_fpr < max_fpr <= 1, but got"):
        log_partial_auc([1.0, 2.0], [True, False], low, high)


@pytest.mark.parametrize("measure", [roc_auc, log_partial_auc, roc_points, lambda s, m: tpr_at_fpr(s, m, 0.1)])
@pytest.mark.parametrize(
    ("scores", "member", "message"),
    [
        ([1.0, 2.0, 3.0], [True, False], "one membership flag a score, but got 3 scores and 2 flags"),
        ([1.0, np.nan, np.inf], [True, False, True], "finite scores, but 2 of 3 are NaN or infinite"),
        ([1.0, 2.0], [True, True], "needs both sides, but got 2 members and 0 nonmembers"),
        ([1.0, 2.0], [False, False], "needs both sides, but got 0 members and 2 nonmembers"),
    ],
)
def test_errors_say_what_was_found(measure, scores, member, message):
    with pytest.raises(ValueError, match=message):
        measure(scores, member)


@pytest.mark.parametrize("fpr", [-0.1, 1.0])
def test_a_rate_out_of_range_is_refused(fpr):
    with pytest.raises(ValueError, match=rf"false-positive rate in \[0, 1\), but got {fpr}"):
        tpr_at_fpr([1.0, 2.0], [True, False], fpr)
