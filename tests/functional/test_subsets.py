from __future__ import annotations

import numpy as np
import pytest

from mia_lightning.functional.subsets import random_subsets


def test_subsets_have_their_size_and_every_element_its_turn():
    drawn = np.concatenate([*random_subsets(20, 5, permutations=4000, seed=0)])
    assert drawn.shape == (4000, 20)
    assert (drawn.sum(1) == 5).all()
    assert np.abs(drawn.mean(0) - 0.25).max() < 0.04


def test_subsets_follow_the_seed():
    first, again, other = (np.concatenate([*random_subsets(9, 4, 50, seed)]) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_no_permutation_is_refused():
    with pytest.raises(ValueError, match="one or more permutations, but got 0"):
        next(random_subsets(5, 2, 0, 0))
