"""Made-up statistics of reference models."""

import numpy as np
import pytest

from mia_lightning.scores.reference_statistics import ReferenceStatistics


@pytest.fixture(scope="session")
def world():
    """Statistics of models on samples of very different difficulty; training on a sample raises its statistic.

    An honest audited model memorises nothing, while its reference models do.
    """

    def build(seed, references=4, samples=120, gain=1.0, noise=0.3, balanced=True, honest=False):
        rng = np.random.default_rng(seed)
        difficulty = rng.normal(0.0, 1.5, samples)
        lift = gain * rng.lognormal(0.0, 0.3, samples)
        member = rng.permutation(samples) < samples // 2
        included = rng.random((references, samples)) < 0.5
        if balanced:  # each half beside its complement: every sample has as many models on one side as on the other
            included[references // 2 :] = ~included[: references - references // 2]
        target = difficulty + lift * (member & ~honest) + rng.normal(0.0, noise, samples)
        trained = difficulty + lift * included + rng.normal(0.0, noise, (references, samples))
        return ReferenceStatistics(target, trained, included), member

    return build
