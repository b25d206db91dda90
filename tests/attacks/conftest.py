import numpy as np
import pytest
import torch


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
