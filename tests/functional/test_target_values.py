from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mia_lightning.functional.target_values import TargetKind, kind_of_target, target_values

G = torch.Generator().manual_seed(0)
ROWS, COLUMNS = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
DISC = ((ROWS - 30) ** 2 + (COLUMNS - 34) ** 2 < 15**2).float()[None, None]
ONE_HOT = torch.cat([1 - DISC, DISC], 1)
NESTED = torch.cat([DISC, DISC * (COLUMNS < 40), DISC * (COLUMNS < 24)], 1)
PHOTO = torch.rand(1, 3, 64, 64, generator=G)


def smooth(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, size=(24, 24), mode="bilinear", antialias=True, align_corners=False)


def kind(*samples: torch.Tensor, ignore_index: int = 255) -> TargetKind:
    return kind_of_target(target_values(samples, ignore_index))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (DISC, "mask"),
        (DISC[:, 0], "mask"),
        (torch.zeros(1, 1, 8, 8), "mask"),
        (ONE_HOT, "one-hot"),
        (NESTED, "channels"),
        (torch.zeros(1, 3, 8, 8), "channels"),
        (smooth(DISC), "soft masks"),
        (smooth(NESTED), "soft masks"),
        (smooth(ONE_HOT), "soft one-hot"),
        (0.9 * ONE_HOT + 0.05, "soft one-hot"),
        (3.0 * DISC, "ids"),
        (255.0 * DISC + 1.0, "ids"),
        (PHOTO, "picture"),
        (PHOTO[:, :1], "picture"),
        (torch.where(DISC > 0, PHOTO, 1.0), "picture"),
        (2 * PHOTO - 1, "picture"),
        (200.5 * PHOTO, "picture"),
    ],
)
def test_kinds(target, expected, dtype):
    assert kind(target.to(dtype)) == expected


def test_all_samples_decide_together():
    assert kind(torch.zeros(1, 1, 64, 64), PHOTO[:, :1]) == "picture"
    assert kind(torch.zeros(1, 3, 24, 24), smooth(NESTED)) == "soft masks"
    assert kind(PHOTO, PHOTO, torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)) == "picture"


def test_ignored_values_and_nan_are_left_out():
    ignored = DISC.clone()
    ignored[..., :4] = 255.0
    ignored[..., 4:6] = torch.nan
    assert kind(ignored) == "mask"
    assert kind(ignored, ignore_index=254) == "ids"
    void = ONE_HOT.clone()
    void[..., :9] = 255.0
    assert kind(void) == "one-hot"
