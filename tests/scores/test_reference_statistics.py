import re

import numpy as np
import pytest
from scipy.special import logit

from mia_lightning.scores.reference_statistics import (
    CONFIDENCE_FLOOR,
    ReferenceStatistics,
    fill_missing_sides,
    fill_outside,
    mean_where,
    segmentation_statistic,
    side_means,
    translation_statistic,
)


def test_what_is_given_is_copied_and_counted():
    target, references = np.zeros(3, dtype=np.float32), np.ones((2, 3))
    stats = ReferenceStatistics(target, references, np.array([[1, 0, 1], [1, 0, 0]]))
    references[0, 0] = 9.0
    assert stats.references[0, 0] == 1.0
    assert stats.target.dtype == stats.references.dtype == np.float64
    assert stats.included.dtype == np.bool_
    assert (stats.count, stats.samples) == (2, 3)
    assert stats.in_count.tolist() == [2, 0, 1]
    assert stats.out_count.tolist() == [0, 2, 1]


GOOD = {"target": np.zeros(3), "references": np.zeros((2, 3)), "included": np.zeros((2, 3), dtype=bool)}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"target": np.zeros((3, 1))}, "Expected one number a sample in target, (N,), but got shape (3, 1)."),
        ({"target": np.zeros(0)}, "Expected one number a sample in target, (N,), but got shape (0,)."),
        ({"references": np.zeros(3)}, "Expected references of shape (models, 3), one row a reference model"),
        ({"references": np.zeros((0, 3))}, "but got (0, 3)."),
        ({"references": np.zeros((3, 2))}, "but got (3, 2). Transpose it."),
        ({"included": np.zeros((1, 3), dtype=bool)}, "Expected included of shape (2, 3), but got (1, 3)."),
        ({"included": np.full((2, 3), 0.5)}, "Expected only True and False (or 1 and 0) in included, but found"),
        (
            {"target": np.array([0.0, np.nan, np.inf])},
            "Expected finite numbers in target, but 2 of 3 are NaN or infinite, the first at index (1,). Leave such "
            "samples out",
        ),
        ({"references": np.array([[0, 0, 0], [0, 0, -np.inf]])}, "in references, but 1 of 6 are NaN or infinite"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(wrong, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        ReferenceStatistics(**GOOD | wrong)


def test_translation_statistic_is_high_for_small_errors_and_finite_for_none():
    errors = np.array([[0.3, 0.1], [1e-3, 0.0]])
    found = translation_statistic(errors)
    assert found == pytest.approx(-np.log([[0.3, 0.1], [1e-3, 1e-8]]))
    assert found.shape == (2, 2)


def test_segmentation_statistic_is_the_logit_of_the_confidence():
    errors = np.array([0.9, 0.5, 0.02, 1e-4])
    assert segmentation_statistic(errors) == pytest.approx(logit(1.0 - errors), rel=1e-9)
    ends = segmentation_statistic([1.0, 1.0 - CONFIDENCE_FLOOR / 9, 0.0, CONFIDENCE_FLOOR / 9])
    assert ends == pytest.approx([-16.118, -16.118, 16.118, 16.118], abs=1e-3)


@pytest.mark.parametrize(
    ("function", "errors", "words"),
    [
        (translation_statistic, [0.1, -0.5], "reconstruction errors of at least 0, but the smallest is -0.5."),
        (translation_statistic, [0.1, np.nan], "finite numbers in reconstruction, but 1 of 2 are NaN or infinite"),
        (
            segmentation_statistic,
            [0.1, 1.5],
            "soft errors in [0, 1] (one minus the mean probability of the true class)",
        ),
        (segmentation_statistic, [-0.25, 0.5], "but they run from -0.25 to 0.5."),
        (segmentation_statistic, [np.inf], "finite numbers in soft_error, but 1 of 1"),
    ],
)
def test_impossible_errors_are_refused(function, errors, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        function(errors)


def test_means_of_the_sides_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    values, included = rng.normal(size=(3, 50)), rng.random((3, 50)) < 0.5
    inside, outside = side_means(values, included)
    for n in range(50):
        for side, found in ((included[:, n], inside[n]), (~included[:, n], outside[n])):
            expected = np.mean(values[side, n]) if side.any() else np.nan
            assert found == pytest.approx(expected, nan_ok=True)
    assert np.isnan(mean_where(values, np.zeros_like(included))).all()


def test_without_a_sample_on_both_sides_the_gap_is_that_of_the_grand_means():
    inside, outside = fill_missing_sides(np.array([3.0, 5.0, np.nan]), np.array([np.nan, np.nan, 1.0]))
    assert inside.tolist() == [3.0, 5.0, 4.0]
    assert outside.tolist() == [0.0, 2.0, 1.0]


def test_a_complete_outside_asks_nothing_of_the_inside():
    outside = np.array([1.0, 2.0])
    assert fill_outside(np.full(2, np.nan), outside) is outside


def test_a_side_that_is_empty_everywhere_is_refused():
    none, some = np.full(2, np.nan), np.ones(2)
    with pytest.raises(ValueError, match="None of the reference models was trained on any of the 2 samples"):
        fill_missing_sides(none, some)
    with pytest.raises(ValueError, match="Every reference model was trained on all of the 2 samples"):
        fill_missing_sides(some, none)
