"""Predictions at a lower resolution than their targets, and what a change of size does to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTH_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""What :func:`torch.nn.functional.interpolate` calls linear interpolation, by the number of axes."""


def in_proportion(size: Sequence[int], other: Sequence[int]) -> bool:
    """Whether one picture may have two sizes, one of them rounded up or down to whole pixels along all sides alike.

    Example:
        >>> in_proportion((17, 25), (65, 97)), in_proportion((16, 32), (64, 64)), in_proportion((128, 96), (64, 48))
        (True, False, True)
    """
    if len(size) != len(other) or 0 in (*size, *other):
        return False
    small, large = (size, other) if size[0] <= other[0] else (other, size)
    sides = list(zip(small, large, strict=True))
    exact = all(s * large[0] == small[0] * side for s, side in sides)
    down = max(s / side for s, side in sides) < min((s + 1) / side for s, side in sides)
    up = max((s - 1) / side for s, side in sides) < min(s / side for s, side in sides)
    return all(s <= side for s, side in sides) and (exact or down or up)


def is_reduced(size: Sequence[int], full: Sequence[int]) -> bool:
    """Whether a size is a smaller one in proportion, of two pixels a side or more.

    Example:
        >>> is_reduced((16, 16), (64, 64)), is_reduced((64, 64), (64, 64)), is_reduced((1, 1), (64, 64))
        (True, False, False)
    """
    return tuple(size) != tuple(full) and min(size) > 1 and sum(size) < sum(full) and in_proportion(size, full)


def upsample(prediction: Tensor, size: Sequence[int], *, labels: bool = False) -> Tensor:
    """Bring predictions to a larger size, as networks that predict at a lower resolution do before their loss.

    Args:
        prediction: (B, K, h, w), or class numbers (B, h, w).
        size: H and W.
        labels: Whether they are class numbers or planes of them: the nearest pixel counts. Else they are interpolated
            bilinearly (``align_corners=False``).

    Returns:
        (B, K, H, W) or (B, H, W), of the same type; what has the size already, unchanged.

    Example:
        >>> upsample(torch.tensor([[[[0.0, 1.0]]]]), (1, 4)).flatten().tolist()
        [0.0, 0.25, 0.75, 1.0]
    """
    sides = len(size)
    if tuple(prediction.shape[-sides:]) == tuple(size):
        return prediction
    maps = prediction.unsqueeze(1) if prediction.ndim == sides + 1 else prediction
    if labels:
        wide = maps.double() if maps.dtype in (torch.float64, torch.int64, torch.int32) else maps.float()
        resized = F.interpolate(wide, size=tuple(size), mode="nearest-exact")
    else:
        wide = maps if maps.dtype == torch.float64 else maps.float()
        resized = F.interpolate(wide, size=tuple(size), mode=SMOOTH_MODES[sides], align_corners=False)
    resized = resized.to(prediction.dtype)
    return resized.squeeze(1) if prediction.ndim == sides + 1 else resized


def step_between(side: int, target: int, step: int) -> tuple[int, int] | None:
    """By how many pixels a shift moves an input and its target of another size; None where no whole numbers fit.

    Args:
        side: Side of the input along which it is shifted, in pixels.
        target: That of the target.
        step: By about how many pixels a side of that many is shifted, an odd number where it matters.

    Returns:
        Pixels of the input and of the target, in the proportion of the sides; `step` and `step` where they are equal.

    Example:
        >>> step_between(32, 64, 1), step_between(64, 32, 3), step_between(33, 65, 1)
        ((1, 2), (2, 1), None)
    """
    divisor = gcd(side, target)
    whole, moved = side // divisor, target // divisor
    times = max(1, round(step / whole))
    if whole > 1 and times % 2 == 0:
        times -= 1  # odd, so that networks with strides do not follow it
    times = step if whole == 1 else times
    return (times * whole, times * moved) if times * whole <= max(step, side // 4) else None
