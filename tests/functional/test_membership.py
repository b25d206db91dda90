from __future__ import annotations

import numpy as np
import pytest
import torch

from mia_lightning.functional.membership import membership_error


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_error_is_what_difficulty_leaves(make):
    r, p = make([0.5, 0.25]), make([0.25, 0.5])
    assert membership_error(r, p).tolist() == [0.25, -0.25]
    assert membership_error(r, p, alpha=2.0).tolist() == [0.0, -0.75]


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"one predictability error a reconstruction error, but got shapes \(1,\) and"):
        membership_error(np.zeros(3), np.zeros(1))
