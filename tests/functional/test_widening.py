from __future__ import annotations

import pytest
import torch

from mia_lightning.functional.widening import widened

TYPES = [
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32),
    *(torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64),
]


@pytest.mark.parametrize("dtype", TYPES)
def test_values_are_kept_and_can_be_compared(dtype):
    values = torch.tensor([0, 1, 1, 0]).to(dtype)
    wide = widened(values)
    assert wide.tolist() == values.tolist()
    assert wide.is_floating_point() == values.is_floating_point()
    assert torch.aminmax(wide).max == 1
    assert (wide > 0).sum() == 2


@pytest.mark.parametrize(("dtype", "most"), [(torch.uint16, 2**16 - 1), (torch.uint32, 2**32 - 1)])
def test_the_largest_values_are_kept(dtype, most):
    assert widened(torch.tensor([most], dtype=dtype)).tolist() == [most]


def test_double_precision_stays():
    assert widened(torch.tensor([0.1], dtype=torch.float64)).dtype == torch.float64
