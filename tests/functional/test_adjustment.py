"""What the pairs alone explain of a score is taken out, and nothing else."""

import numpy as np

from mia_lightning.functional.adjustment import adjusted_score, statistics_table
from mia_lightning.functional.roc import roc_auc


def test_a_shift_of_what_a_score_depends_on_is_taken_out_and_memorization_stays():
    rng, member = np.random.default_rng(0), np.arange(400) < 200
    bright = rng.normal(size=400) + 0.5 * member
    table = statistics_table({"input_mean": bright}, np.exp(rng.normal(size=400)))
    harmless = bright + 0.5 * rng.normal(size=400)
    assert roc_auc(harmless, member) > 0.6
    assert abs(roc_auc(adjusted_score(harmless, table, member), member) - 0.5) < 0.09
    assert roc_auc(adjusted_score(harmless + member, table, member), member) > 0.85


def test_few_nonmembers_shrink_the_fit_and_constants_count_for_nothing():
    rng, member = np.random.default_rng(1), np.arange(12) < 8
    score = rng.normal(size=12)
    noise = np.column_stack([rng.normal(size=(12, 6)), np.ones(12)])
    assert np.corrcoef(adjusted_score(score, noise, member), score)[0, 1] > 0.7
    assert np.array_equal(adjusted_score(score, np.ones((12, 1)), np.ones(12, dtype=bool)), score)
