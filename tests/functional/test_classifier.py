from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from mia_lightning.functional import classifier
from mia_lightning.functional.classifier import cross_fitted_logits, permutation_test
from mia_lightning.functional.folds import assign_folds
from mia_lightning.functional.roc import roc_auc


def draw(members: int, nonmembers: int, d: int = 4, shift: float = 0.6, seed: int = 0):
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(members + nonmembers) < members)
    return rng.normal(size=(member.size, d)) + shift * member[:, None] * (np.arange(d) % 2), member


def by_sklearn(x: np.ndarray, member: np.ndarray, fold: np.ndarray, ridge: float) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    logits = np.empty(len(x))
    for f in np.unique(fold):
        model = LogisticRegression(C=1 / ridge, class_weight="balanced", tol=1e-12, max_iter=10000, solver="newton-cg")
        pipeline = make_pipeline(StandardScaler(), model).fit(x[fold != f], member[fold != f])
        logits[fold == f] = pipeline.decision_function(x[fold == f])
    return logits


@pytest.mark.parametrize(("members", "nonmembers", "d"), [(30, 30, 3), (80, 25, 6), (12, 90, 1), (20, 20, 60)])
@pytest.mark.parametrize("ridge", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("folds", [2, 5])
def test_logits_are_those_of_scikit_learn_in_the_same_folds(members, nonmembers, d, ridge, folds):
    x, member = draw(members, nonmembers, d)
    x = 100.0 * x + 7.0
    x[:, -1] = x[:, 0] ** 2  # heavy tail, another scale
    fold = assign_folds(member, folds, seed=3)
    found = cross_fitted_logits(x, member, folds=folds, ridge=ridge, seed=3)
    np.testing.assert_allclose(found, by_sklearn(x, member, fold, ridge), rtol=0, atol=1e-6)


def test_many_labelings_at_once_are_fitted_as_each_alone(monkeypatch):
    x, _ = draw(25, 20)
    labels = np.array([np.random.default_rng(s).permutation(45) < 10 + s for s in range(17)])
    fold = np.arange(45) % 3
    alone = np.concatenate([classifier._out_of_fold(x, row[None], fold, 0.5) for row in labels])
    together = classifier._out_of_fold(x, labels, fold, 0.5)
    monkeypatch.setattr(classifier, "_SLICE", 500)  # three labelings a slice, the last one short
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-8)
    np.testing.assert_allclose(classifier._out_of_fold(x, labels, fold, 0.5), alone, rtol=0, atol=1e-8)


def test_no_sample_is_scored_by_labels_or_features_of_its_own_fold():
    x, member = draw(20, 20)
    fold = assign_folds(member, 4)
    told, moved = member.copy(), x.copy()
    here = np.flatnonzero(fold == 1)
    told[here] = ~told[here]
    moved[here[1:]] += 50.0
    before = classifier._out_of_fold(x, member[None], fold, 1.0)[0]
    after = classifier._out_of_fold(moved, told[None], fold, 1.0)[0]
    assert before[here[0]] == after[here[0]]
    assert (before[fold != 1] != after[fold != 1]).all()


def test_units_of_a_feature_do_not_matter():
    x, member = draw(30, 40)
    expected = cross_fitted_logits(x, member)
    np.testing.assert_allclose(cross_fitted_logits(x * [1e-6, 1.0, 1e6, 3.0] + 5.0, member), expected, atol=1e-7)


def test_sides_of_unequal_size_count_alike():
    x, member = draw(400, 40, shift=0.0)
    assert abs(cross_fitted_logits(x, member).mean()) < 0.15  # unbalanced it would be near log(10) = 2.3


@pytest.mark.parametrize("ridge", [1e-9, 1e-3])
def test_separable_sides_stay_finite(ridge):
    member = np.arange(40) < 20
    x = np.where(member, 1.0, -1.0)[:, None] * np.linspace(1, 50, 40)[:, None]
    logits = cross_fitted_logits(x, member, ridge=ridge)
    assert np.isfinite(logits).all()
    assert ((logits > 0) == member).all()


def test_steps_that_would_overshoot_are_shortened():
    # Very heavy tails and two wrong labels: undamped Newton steps from zero run away to infinity here.
    x = np.random.default_rng(50).standard_t(1.0, size=(100, 2)) ** 3
    labels = x[:, 0] > np.median(x[:, 0])
    labels[:2] = ~labels[:2]
    design = np.column_stack([(x - x.mean(0)) / x.std(0), np.ones(100)])
    w = classifier._fit(design, labels[None], 1e-6)[0]
    weight = 50 / np.where(labels, labels.sum(), (~labels).sum())
    chance = 1 / (1 + np.exp(-design @ w))
    gradient = design.T @ (weight * (chance - labels)) + [1e-6 * w[0], 1e-6 * w[1], 0.0]
    assert np.abs(gradient).max() < 1e-8


def test_equal_samples_tie():
    # Nine columns, the intercept's included: there a matrix product depends on the row's place in the last bit.
    x, member = draw(60, 63, d=8)
    fold = np.arange(246) % 123 % 5
    logits = classifier._out_of_fold(np.concatenate([x, x]), np.tile(member, (1, 2)), fold, 1.0)[0]
    assert (logits[:123] == logits[123:]).all()


def test_constant_features_count_for_nothing_even_where_constant_only_in_the_fit():
    x, member = draw(30, 30, d=2)
    fold = assign_folds(member, 5)
    expected = classifier._out_of_fold(x, member[None], fold, 1.0)[0]
    wide = np.column_stack([x, np.full(60, 0.1), np.full(60, 1e9 / 3), np.zeros(60)])
    np.testing.assert_allclose(classifier._out_of_fold(wide, member[None], fold, 1.0)[0], expected, atol=1e-8)
    wide[0, 2] = 0.2  # scored by a fit to which the column was constant but for rounding
    here = fold == fold[0]
    found = classifier._out_of_fold(wide, member[None], fold, 1.0)[0]
    np.testing.assert_allclose(found[here], expected[here], atol=1e-8)


@pytest.mark.parametrize("columns", [0, 3])
def test_nothing_to_tell_apart_gives_one_half_and_p_of_one(columns):
    _, member = draw(13, 22)
    test = permutation_test(np.full((35, columns), 0.1), member, permutations=19)
    assert (test.auc, test.p_value) == (0.5, 1.0)


def by_pairs(logits: np.ndarray, member: np.ndarray, fold: np.ndarray) -> float:
    won, pairs = 0.0, 0
    for i, j in product(np.flatnonzero(member), np.flatnonzero(~member)):
        if fold[i] == fold[j]:
            won += float(logits[i] > logits[j]) + 0.5 * float(logits[i] == logits[j])
            pairs += 1
    return won / pairs


@pytest.mark.parametrize(("members", "nonmembers"), [(20, 20), (23, 9), (4, 31)])
def test_area_counts_the_pairs_of_one_fold(members, nonmembers):
    x, member = draw(members, nonmembers)
    x = x.round()  # makes ties
    test = permutation_test(x, member, permutations=1, seed=2)
    fold = assign_folds(member, min(5, members // 2, nonmembers // 2), seed=2)
    assert (test.logits == cross_fitted_logits(x, member, seed=2)).all()
    assert test.auc == pytest.approx(by_pairs(test.logits, member, fold), abs=1e-12)
    assert test.auc == pytest.approx(roc_auc(test.logits, member), abs=0.12)


def test_p_value_is_that_of_all_labelings():
    x, member = draw(5, 5, d=2, shift=1.0, seed=7)
    fold = assign_folds(member, 2)
    parts = [np.flatnonzero(fold == f) for f in range(2)]
    areas = []
    for chosen in product(*(combinations(part, int(member[part].sum())) for part in parts)):
        labels = np.zeros(10, dtype=bool)
        labels[np.concatenate(chosen).astype(int)] = True
        areas.append(by_pairs(by_sklearn(x, labels, fold, 1.0), labels, fold))
    assert len(areas) == 100
    test = permutation_test(x, member, permutations=4999)
    exact = np.mean(np.array(areas) >= test.auc - 1e-9)
    assert 0.02 < exact < 0.6
    assert test.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 4999))


@pytest.mark.parametrize(("members", "nonmembers", "d"), [(30, 30, 3), pytest.param(16, 40, 6, marks=pytest.mark.slow)])
def test_equal_sides_are_rejected_as_often_as_stated(members, nonmembers, d):
    tests = [
        permutation_test(*draw(members, nonmembers, d, 0.0, seed), permutations=19, seed=seed) for seed in range(400)
    ]
    p_values, areas = np.array([test.p_value for test in tests]), np.array([test.auc for test in tests])
    # 400 draws at 5 %: binomial standard deviation 1.1 %, and the mean of 400 uniforms has one of 1.4 %.
    assert 0.028 <= np.mean(p_values <= 0.05) <= 0.072
    assert 0.45 <= np.mean(p_values <= 0.5) <= 0.55
    assert p_values.mean() == pytest.approx(0.525, abs=0.045)  # uniform over 1 .. 20 twentieths
    assert areas.mean() == pytest.approx(0.5, abs=3 * areas.std() / 20)


def test_area_under_permutation_is_one_half_on_average():
    # Pooled over folds it lies near 0.48 for ten a side.
    x, member = draw(10, 10, shift=0.0)
    fold = assign_folds(member, 5)
    labels = classifier._permuted(member, fold, 3000, np.random.default_rng(0))
    areas = classifier._auc(classifier._out_of_fold(x, labels, fold, 1.0), labels, fold)
    assert areas.mean() == pytest.approx(0.5, abs=3.5 * areas.std() / np.sqrt(3000))


def test_permuted_labelings_keep_every_fold_stratified():
    _, member = draw(23, 14)
    fold = assign_folds(member, 5)
    labels = classifier._permuted(member, fold, 50, np.random.default_rng(0))
    assert len(np.unique(labels, axis=0)) == 50
    for f in range(5):
        assert (labels[:, fold == f].sum(1) == member[fold == f].sum()).all()


@pytest.mark.parametrize(("members", "nonmembers"), [(60, 60), (400, 30)])
def test_a_planted_difference_is_found(members, nonmembers):
    test = permutation_test(*draw(members, nonmembers, shift=1.0))
    assert test.auc > 0.75
    assert test.p_value == 1 / 200


def test_of_many_samples_a_subset_gives_the_p_value_and_all_give_the_area():
    x, member = draw(3000, 500, shift=0.25)
    full = permutation_test(x, member, permutations=19, most=3000)
    part = permutation_test(x, member, permutations=19, most=100)
    assert part.auc == full.auc
    assert (part.logits == full.logits).all()
    assert full.p_value == 0.05
    assert part.p_value > 0.05  # a hundred a side do not show it


def test_the_subset_takes_no_more_than_asked_and_all_of_a_smaller_side():
    member = np.arange(130) < 30
    rows = classifier._subset(member, 50, np.random.default_rng(0))
    assert (np.diff(rows) > 0).all()
    assert (member[rows].sum(), (~member[rows]).sum()) == (30, 50)


def test_seeds_decide_and_the_global_generator_is_left_alone():
    x, member = draw(40, 40)
    before = np.random.get_state()[1].copy()
    first, again, other = (permutation_test(x, member, permutations=19, seed=s) for s in (1, 1, 2))
    assert first.p_value == again.p_value
    assert (first.logits == again.logits).all()
    assert (first.logits != other.logits).any()
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize(("members", "nonmembers"), [(0, 0), (0, 9), (9, 0), (1, 1), (3, 50), (50, 3)])
def test_too_few_samples_give_nan_not_an_error(members, nonmembers):
    x, member = draw(members, nonmembers)
    test = permutation_test(x, member)
    assert np.isnan([test.auc, test.p_value]).all()
    assert test.logits.shape == member.shape
    assert np.isnan(test.logits).all()
    assert np.isnan(cross_fitted_logits(x, member)).all()


@pytest.mark.parametrize(("members", "nonmembers", "folds"), [(4, 4, 2), (5, 40, 2), (7, 6, 3), (11, 12, 5)])
def test_small_sides_are_dealt_to_fewer_folds(members, nonmembers, folds):
    x, member = draw(members, nonmembers)
    fold = assign_folds(member, folds)
    np.testing.assert_allclose(cross_fitted_logits(x, member), by_sklearn(x, member, fold, 1.0), atol=1e-6)
    assert 0 < permutation_test(x, member, permutations=9).p_value <= 1


def test_impossible_requests_are_refused():
    x, member = draw(10, 10)
    with pytest.raises(ValueError, match=r"features \(N, d\) and flags \(N,\), but got shapes \(20, 4\) and \(19,\)"):
        cross_fitted_logits(x, member[1:])
    with pytest.raises(ValueError, match=r"got shapes \(20,\) and \(20,\)"):
        cross_fitted_logits(x[:, 0], member)
    broken = x.copy()
    broken[3, 1], broken[4, 2] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"finite features, but columns \[1, 2\] hold NaN or infinite"):
        permutation_test(broken, member)
    with pytest.raises(ValueError, match="at least 2 folds, but got 1"):
        cross_fitted_logits(x, member, folds=1)
    with pytest.raises(ValueError, match="ridge > 0, but got 0: without it a separable fold has no solution"):
        cross_fitted_logits(x, member, ridge=0)
    for settings in ({"permutations": 0}, {"most": 3}):
        with pytest.raises(ValueError, match=r"permutations >= 1 and most >= 4, but got permutations=\d+, most=\d+"):
            permutation_test(x, member, **settings)
