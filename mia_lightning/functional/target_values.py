"""What float targets hold: a picture, a mask of zeros and ones, masks with soft edges, or numbers of classes.

How often the rule errs is measured by ``benchmarks/readings.py``; ``benchmarks/README.md`` has the figures.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mia_lightning.functional.widening import widened

TargetKind = Literal["picture", "mask", "one-hot", "channels", "soft masks", "soft one-hot", "ids"]

EXACT = 1e-3
"""Values this near to 0 or 1 count as such: resizing leaves rounding errors; a picture's step is 1/255."""

_MOSTLY, _ALMOST_ALL, _MOST_SAMPLES = 0.5, 0.9, 0.75
_BOTH = 0.1


class TargetValues(NamedTuple):
    """Counts over the values of targets, those that are not finite or ignored aside.

    Attributes:
        channels: Channels of each; 1 where they have no dimension for them.
        zeros: Values of 0.
        ones: Values of 1.
        between: Values between them.
        outside: Values below 0 or above 1.
        whole: Whether all are whole numbers.
        negative: Number of different values below 0, up to 2.
        sums_to_one: Whether the channels of each pixel sum to one.
        exact: Share of the samples of which half of the values or more are 0 or 1.
    """

    channels: int
    zeros: int
    ones: int
    between: int
    outside: int
    whole: bool
    negative: int
    sums_to_one: bool
    exact: float


def target_values(samples: Sequence[Tensor], ignore_index: int = 255) -> TargetValues:
    """Count over targets, each (B, C, ...) or (B, H, W); values of ``ignore_index`` and NaN are left out.

    Example:
        >>> target_values([torch.tensor([[[[0.0, 1.0], [1.0, 0.5]]]])])
        TargetValues(channels=1, zeros=1, ones=2, between=1, outside=0, whole=False, ...)
    """
    channels = samples[0].shape[1] if samples[0].ndim > 3 else 1
    zeros = ones = between = outside = 0
    whole = sums_to_one = True
    exact: list[Tensor] = []
    least, most = 0.0, -math.inf  # of the values below 0
    for sample in samples:
        x = widened(sample)
        valid = torch.isfinite(x) & (x != ignore_index)
        zero, one = valid & (x.abs() <= EXACT), valid & ((x - 1.0).abs() <= EXACT)
        beyond = valid & ((x < -EXACT) | (x > 1.0 + EXACT))
        zeros, ones, outside = zeros + int(zero.sum()), ones + int(one.sum()), outside + int(beyond.sum())
        below = x[valid & (x < -EXACT)]
        if below.numel():
            least, most = min(least, float(below.min())), max(most, float(below.max()))
        fractions = valid & ~zero & ~one & ~beyond
        between += int(fractions.sum())
        exact.append((zero | one).flatten(1).sum(1) >= fractions.flatten(1).sum(1))
        whole = whole and bool((x == x.round())[valid].all())
        total = torch.where(valid, x, 0.0).sum(1) if x.ndim > 3 else x
        complete = valid.all(1) if x.ndim > 3 else valid
        # Half precision rounds each channel by up to 5e-4 (bfloat16: 4e-3).
        slack = 0.02 if sample.dtype == torch.bfloat16 else 2e-3 if sample.dtype == torch.float16 else EXACT
        sums_to_one = sums_to_one and bool(((total - 1.0).abs() <= slack)[complete].all())
    share = float(torch.cat(exact).double().mean())
    negative = int(least < 0) + int(least < most)
    return TargetValues(channels, zeros, ones, between, outside, whole, negative, sums_to_one, share)


def kind_of_target(values: TargetValues) -> TargetKind:
    """Tell what float targets look like; all but a picture could be read in several ways.

    In order:

    1. a value below 0 or above 1: ``"ids"`` if all are whole numbers, of which one at most is negative, else a picture;
    2. zeros and ones only: ``"mask"`` with one channel, ``"one-hot"`` where the channels of each pixel sum to one, else
       ``"channels"``;
    3. several channels that sum to one at each pixel: ``"soft one-hot"``;
    4. 90 % of the values exactly 0 or 1, or half of them in three of four samples and the rarer of the two at least a
       tenth as frequent as the fractions: ``"soft masks"``. Masks that were resized smoothly have fractions at their
       edges only; photographs on a white ground hold ones, but hardly a zero;
    5. else a picture.
    """
    if values.outside:
        return "ids" if values.whole and values.negative < 2 else "picture"  # one may mark ignored pixels
    if not values.between:
        if values.channels == 1:
            return "mask"
        return "one-hot" if values.sums_to_one else "channels"
    if values.channels > 1 and values.sums_to_one:
        return "soft one-hot"
    exact, rarer = values.zeros + values.ones, min(values.zeros, values.ones)
    share = exact / (exact + values.between)
    mostly = share >= _MOSTLY and values.exact >= _MOST_SAMPLES
    if share >= _ALMOST_ALL or (mostly and rarer >= _BOTH * values.between):
        return "soft masks"
    return "picture"
