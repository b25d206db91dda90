import numpy as np
import pytest

from mia_lightning.functional.roc import roc_auc
from mia_lightning.scores.difficulty import difficulty_calibrated


def test_scores_are_those_of_a_loop(world):
    stats, _ = world(0, references=5, balanced=False)
    error, references = np.exp(-stats.target), np.exp(-stats.references)
    found = difficulty_calibrated(error, references, stats.included)
    for n in np.flatnonzero(stats.out_count > 0):
        others = [references[r, n] for r in range(5) if not stats.included[r, n]]
        assert found[n] == pytest.approx(sum(others) / len(others) - error[n])
    assert (stats.out_count == 0).any()


def test_without_a_design_all_models_count():
    assert difficulty_calibrated([0.1, 0.4], [[0.2, 0.4], [0.4, 0.2]]).tolist() == pytest.approx([0.2, -0.1])


def test_a_sample_that_every_model_saw_is_raised_by_what_training_lowers():
    references = np.array([[0.2, 0.5, 0.1], [0.6, 0.7, 0.3]])
    included = [[True, True, True], [False, False, True]]
    # Training lowers the error by 0.4 and 0.2, 0.3 on average.
    assert difficulty_calibrated([0.1, 0.1, 0.1], references, included) == pytest.approx([0.5, 0.6, 0.2 + 0.3 - 0.1])


def test_one_model_is_enough(world):
    areas = []
    for seed in range(10):
        stats, member = world(seed, references=1, balanced=False)
        score = difficulty_calibrated(-stats.target, -stats.references, stats.included)
        areas.append((roc_auc(stats.target, member), roc_auc(score, member)))
    plain, attacked = np.mean(areas, axis=0)
    assert attacked > plain + 0.15


def test_where_every_model_saw_everything_the_plain_mean_is_taken():
    assert difficulty_calibrated([0.1, 0.1], [[0.2, 0.4]], [[True, True]]) == pytest.approx([0.1, 0.3])


def test_it_finds_members_that_the_error_alone_does_not(world):
    areas = []
    for seed in range(10):
        stats, member = world(seed)
        score = difficulty_calibrated(-stats.target, -stats.references, stats.included)
        areas.append((roc_auc(stats.target, member), roc_auc(score, member)))
    plain, attacked = np.mean(areas, axis=0)
    assert plain < 0.75
    assert attacked > plain + 0.2


def test_where_nothing_is_memorised_the_interval_covers_chance(world, covers_chance):
    covered = 0
    for seed in range(200):
        stats, member = world(seed, references=3, balanced=False, honest=True)
        covered += covers_chance(difficulty_calibrated(-stats.target, -stats.references, stats.included), member)
    assert 0.91 <= covered / 200 <= 0.985


def test_what_does_not_fit_is_refused_in_words():
    with pytest.raises(ValueError, match=r"Expected references of shape \(models, 2\).*but got \(2,\)"):
        difficulty_calibrated([0.1, 0.2], [0.1, 0.2])
    with pytest.raises(ValueError, match=r"Expected included of shape \(1, 2\), but got \(2,\)"):
        difficulty_calibrated([0.1, 0.2], [[0.1, 0.2]], [True, False])
    with pytest.raises(ValueError, match="Expected finite numbers in target, but 1 of 2 are NaN"):
        difficulty_calibrated([0.1, np.nan], [[0.1, 0.2]])
