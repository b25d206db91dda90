from __future__ import annotations

import pytest
import torch

from mia_lightning.networks.padding import crop_back, pad_to_multiple


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 31), (64, 32)])
def test_crop_undoes_padding(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    padded = pad_to_multiple(x, 16)
    assert all(side % 16 == 0 for side in padded.shape[-2:])
    assert torch.equal(crop_back(padded, *size), x)


def test_border_is_repeated_on_both_sides() -> None:
    x = torch.tensor([[[[1.0, 2.0]]]])
    assert pad_to_multiple(x, 4)[0, 0, 0].tolist() == [1.0, 1.0, 2.0, 2.0]


def test_nothing_missing_is_nothing_copied() -> None:
    x = torch.rand(1, 1, 32, 32)
    assert pad_to_multiple(x, 16) is x


def test_minimum_is_kept() -> None:
    assert pad_to_multiple(torch.zeros(1, 1, 16, 40), 16, minimum=32).shape == (1, 1, 32, 48)
