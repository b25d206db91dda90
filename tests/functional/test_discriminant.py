"""The regularised discriminant against another implementation."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mia_lightning.functional.discriminant import discriminant_scores

rng = np.random.default_rng(0)
FOLD, LABELS = np.arange(60) % 3, rng.random((4, 60)) < 0.4


def test_it_is_the_ridge_regression_on_labels_of_the_other_folds():
    x = rng.normal(size=(60, 5))
    found = discriminant_scores(x, LABELS, FOLD)
    for number in range(3):
        here = number == FOLD
        z = (x - x[~here].mean(0)) / x[~here].std(0)
        for labels, scores in zip(LABELS, found, strict=True):
            fit = Ridge(alpha=0.1 * (~here).sum()).fit(z[~here], labels[~here].astype(float))
            np.testing.assert_allclose(scores[here], fit.predict(z[here]) - fit.intercept_, atol=1e-8)


def test_constant_features_far_values_and_large_sets():
    x = np.column_stack([rng.normal(size=60), np.full(60, 0.1)])
    np.testing.assert_allclose(discriminant_scores(x, LABELS, FOLD), discriminant_scores(x[:, :1], LABELS, FOLD))
    x[0, 0] = 1e9
    assert np.abs(discriminant_scores(x, LABELS, FOLD)).max() < 10
    many = rng.normal(size=(60_000, 2))
    member = many[:, 0] > 0
    scores = discriminant_scores(many, member[None], np.arange(60_000) % 2)[0]
    assert scores[member].mean() > scores[~member].mean()
    assert np.corrcoef(scores, many[:, 0])[0, 1] == pytest.approx(1.0, abs=1e-3)
