import numpy as np
import pytest
import torch

from mia_lightning.attacks.statistics import ReferenceStatistics
from mia_lightning.functional.intervals import delong_interval


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


@pytest.fixture(scope="session")
def covers_chance():
    """Whether the interval of the area under the ROC holds one half."""

    def check(scores, member):
        _, low, high = delong_interval(scores, member)
        return low <= 0.5 <= high

    return check


@pytest.fixture
def pitted_maps():
    """Loss maps whose means say almost nothing of membership; members' losses are low in one place, which varies."""

    def build(seed, images=120, height=48, width=48, depth=0.1, pit=12):
        rng = np.random.default_rng(seed)
        maps = 0.2 * rng.lognormal(0.0, 0.3, (images, 1, 1, 1)) * rng.lognormal(0.0, 0.5, (images, 1, height, width))
        member = rng.permutation(images) < images // 2
        for index in np.flatnonzero(member):
            top, left = rng.integers(0, height - pit + 1), rng.integers(0, width - pit + 1)
            maps[index, 0, top : top + pit, left : left + pit] *= depth
        return torch.from_numpy(maps).float(), member

    return build
