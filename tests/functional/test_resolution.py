"""Sizes in proportion, and predictions of a lower resolution."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from mia_lightning.functional.resolution import in_proportion, is_reduced, step_between, upsample


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (100, 180), (33, 47), (480, 640)])
@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("rounded", [math.floor, math.ceil])
def test_what_networks_leave_of_a_size_is_a_lower_resolution(size, factor, rounded):
    small = tuple(rounded(side / factor) for side in size)
    assert is_reduced(small, size)
    assert in_proportion(size, small)
    assert not is_reduced(size, small)


@pytest.mark.parametrize(
    ("small", "full"),
    [((16, 32), (64, 64)), ((64, 32), (64, 64)), ((2, 3), (64, 64)), ((1, 1), (64, 64)), ((16,), (64, 64)),
     ((0, 0), (8, 8)), ((20, 16), (64, 64)), ((16, 16, 4), (64, 64, 64))],
)  # fmt: skip
def test_what_is_none(small, full):
    assert not is_reduced(small, full)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("small", "full"), [((4, 6), (16, 24)), ((5, 5), (17, 18)), ((3, 4, 5), (6, 8, 10))])
def test_upsampling_is_that_of_the_usual_loss(dtype, small, full):
    x = torch.randn(2, 3, *small).to(dtype)
    found = upsample(x, full)
    mode = "bilinear" if len(full) == 2 else "trilinear"
    expected = F.interpolate(x.double(), full, mode=mode, align_corners=False)
    assert found.dtype == dtype
    torch.testing.assert_close(
        found.double(), expected, rtol=1e-2 if dtype.itemsize == 2 else 1e-5, atol=1e-2 if dtype.itemsize == 2 else 1e-5
    )
    assert upsample(x, small) is x


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float32])
@pytest.mark.parametrize("channels", [(), (1,), (2,)])
def test_labels_are_those_of_the_nearest_pixel(dtype, channels):
    labels = torch.randint(0, 2, (2, *channels, 4, 5)).to(dtype)
    found = upsample(labels, (12, 15), labels=True)
    assert found.dtype == dtype
    assert torch.equal(found, labels.repeat_interleave(3, -1).repeat_interleave(3, -2))


def test_steps_are_whole_and_in_proportion():
    for side, target, step in itertools.product((8, 24, 32, 48, 65, 96, 128), (8, 16, 36, 64, 130, 384), (1, 2, 3, 5)):
        found = step_between(side, target, step)
        divisor = math.gcd(side, target)
        if found is None:
            assert side // divisor > max(step, side // 4), (side, target, step)
            continue
        assert found[0] * target == found[1] * side, (side, target, step)
        assert 1 <= found[0] <= max(step, side // 4)
    assert [step_between(side, side, 3) for side in (8, 96)] == [(3, 3)] * 2
