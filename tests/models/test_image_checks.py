from __future__ import annotations

import re

import pytest
import torch

from mia_lightning.models.image_checks import check_images, check_range

X, Y = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)


def test_wrong_channels() -> None:
    message = "Expected input of shape (B, 1, H, W) but got (2, 3, 4, 4); set in_channels to the number of channels"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_images(X, 1, "input", "in_channels")


def test_eight_bit_images() -> None:
    message = "Expected image as floating point in [0, 1] but got torch.uint8; divide 8-bit images by 255."
    with pytest.raises(ValueError, match=re.escape(message)):
        check_images(X.byte(), 3, "image", "in_channels")


@pytest.mark.parametrize(
    ("images", "found"),
    [(2 * Y - 3, "from -1 to -1"), (255 * Y, "from 255 to 255"), (Y * torch.nan, "from nan to nan")],
)
def test_wrong_range(images: torch.Tensor, found: str) -> None:
    with pytest.raises(ValueError, match=rf"Expected target in \[0, 1\] but its values run {found}"):
        check_range(images, "target")


def test_a_little_overshoot_is_forgiven() -> None:
    check_range(torch.tensor([-0.005, 1.005]), "input")
