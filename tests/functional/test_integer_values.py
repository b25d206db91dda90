from __future__ import annotations

import pytest
import torch

from mia_lightning.functional.integer_values import integer_values, kind_of_integers

G = torch.Generator().manual_seed(0)
ROWS, COLUMNS = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
BLOCKS = ((ROWS // 16) * 4 + COLUMNS // 16)[None, None]  # 16 regions
RAMP = (ROWS * 64 + COLUMNS)[None, None]


def noise(low: int, high: int) -> torch.Tensor:
    return torch.randint(low, high, (1, 1, 64, 64), generator=G)


INTEGERS = [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (noise(0, 2), "labels"),
        (noise(0, 5), "labels"),
        (BLOCKS, "labels"),
        (3 * BLOCKS, "labels"),
        (torch.where(ROWS < 8, 255, BLOCKS), "labels"),
        (noise(0, 16), None),
        (noise(0, 64), None),
        (10 * BLOCKS, None),
        (torch.zeros(1, 1, 8, 8), None),
        (torch.full((1, 1, 8, 8), 255), None),
        (torch.where(BLOCKS > 7, 255, 0), None),
        (noise(0, 256), "image"),
    ],
)
def test_bytes(values, expected, dtype):
    assert kind_of_integers(integer_values([values.to(dtype)])) == expected


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (noise(0, 4096), torch.int16, "image"),
        (noise(0, 65536), torch.uint16, "image"),
        (noise(-1000, 3000), torch.int16, "image"),
        (RAMP, torch.int32, "image"),
        (1000 * BLOCKS, torch.int32, None),
        (torch.where(ROWS < 8, -1, BLOCKS), torch.int64, "labels"),
        (torch.where(ROWS < 8, -1024, noise(0, 900)), torch.int16, "image"),
    ],
)
def test_wider_integers(values, dtype, expected):
    assert kind_of_integers(integer_values([values.to(dtype)])) == expected


def test_all_samples_decide_together():
    assert kind_of_integers(integer_values([torch.zeros(1, 8, 8, dtype=torch.int64), noise(0, 4096)])) == "image"


def test_large_pictures_are_looked_at_in_part():
    values = integer_values([torch.zeros(1, 1, 2048, 2048, dtype=torch.uint16), noise(0, 65536).to(torch.uint16)])
    assert values is not None
    assert values.largest > 60000


def test_nothing_but_ignored_pixels_tells_nothing():
    assert integer_values([torch.full((1, 4, 4), 255)]) is None
    assert integer_values([torch.full((1, 4, 4), 7)], ignore_index=7) is None
    assert kind_of_integers(None) is None
