"""The range of a translation's targets: by the setting, or by the targets of both sides; the unit of its errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mia_lightning.functional.widening import widened

Range = tuple[float, float]

UNIT: Range = (0.0, 1.0)
SLACK = 1e-3
"""Share of a range that values may lie outside: resizing rounds."""

_REACHING = 0.5  # a picture in [0, 1] that has something as bright as this
_MOST = 0.75  # of the samples
_SIGNED_LOW, _SIGNED_HIGH, _OVERSHOOT = -0.5, 0.5, 0.1  # what is near -1 and near 1


class TargetSpans(NamedTuple):
    """What the targets of some samples span, NaN and infinite values aside.

    Attributes:
        samples: Number of samples that hold a finite value.
        pictures: How many of them lie in [0, 1] and reach 0.5: pictures, as most projects keep them.
        lowest: The smallest value of all, infinity where there is none.
        highest: The largest.
        outside: What the first sample spans that does not lie in [0, 1].

    Example:
        >>> TargetSpans.of([torch.tensor([[[[0.0, 0.75]]], [[[2.0, 5.0]]]])])
        TargetSpans(samples=2, pictures=1, lowest=0.0, highest=5.0, outside=(2.0, 5.0))
    """

    samples: int = 0
    pictures: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    outside: Range | None = None

    @classmethod
    def of(cls, targets: Iterable[Tensor]) -> TargetSpans:
        """Look at batches of targets, (B, ...) each."""
        return cls.joined([_spans_of_sample(sample) for target in targets for sample in target])

    @classmethod
    def joined(cls, spans: Sequence[TargetSpans]) -> TargetSpans:
        """Those of several lots of samples together."""
        lowest = min((s.lowest for s in spans), default=math.inf)
        highest = max((s.highest for s in spans), default=-math.inf)
        first = next((s.outside for s in spans if s.outside is not None), None)
        return cls(sum(s.samples for s in spans), sum(s.pictures for s in spans), lowest, highest, first)

    @property
    def in_unit(self) -> bool:
        """Whether all lie in [0, 1]."""
        return self.outside is None

    @property
    def are_pictures(self) -> bool:
        """Whether they are pictures in [0, 1]: all of them, or most, beside which the others are a mistake."""
        return self.samples > 0 and self.pictures >= _MOST * self.samples

    @property
    def are_signed(self) -> bool:
        """Whether they look like pictures kept in [-1, 1]."""
        return -1.0 - _OVERSHOOT <= self.lowest <= _SIGNED_LOW and _SIGNED_HIGH <= self.highest <= 1.0 + _OVERSHOOT


def _spans_of_sample(sample: Tensor) -> TargetSpans:
    values = widened(sample)
    if values.is_floating_point():
        values = values[torch.isfinite(values)]
    if not values.numel():
        return TargetSpans()
    low, high = (float(v) for v in torch.aminmax(values))
    in_unit = low >= -SLACK and high <= 1.0 + SLACK
    return TargetSpans(1, int(in_unit and high >= _REACHING), low, high, None if in_unit else (low, high))


def settle(spans: TargetSpans) -> Range:
    """Decide what ``target_range="auto"`` is, by the targets of both sides.

    In order:

    1. all in [0, 1], or three of four samples pictures that lie in it and reach 0.5: (0, 1), the others being mistakes
       that an audit refuses;
    2. a minimum of -0.5 or below and a maximum of 0.5 or above within [-1, 1], by a tenth: an error that asks;
    3. else the smallest and the largest value of all.

    Raises:
        ValueError: Where it asks, or where all targets hold one value; names ``target_range``.

    Example:
        >>> settle(TargetSpans(samples=8, pictures=0, lowest=0.5, highest=78.0, outside=(0.5, 78.0)))
        (0.5, 78.0)
    """
    if spans.in_unit or spans.are_pictures:
        return UNIT
    if spans.are_signed:
        raise ValueError(outside(*(spans.outside or (spans.lowest, spans.highest)), UNIT))
    if spans.lowest == spans.highest:
        raise ValueError(
            f"All targets hold the one value {spans.lowest:.6g}, which tells no range: pass target_range=(low, high)."
        )
    return spans.lowest, spans.highest


def outside(lowest: float, highest: float, target_range: Range) -> str:
    """Message for targets that a range does not hold."""
    low, high = target_range
    return (
        f"The targets span [{lowest:.4g}, {highest:.4g}], outside target_range=({low:g}, {high:g}). Pass the range "
        f"that your images have, for example target_range={_range_for(lowest, highest)}."
    )


def _range_for(lowest: float, highest: float) -> str:
    """A usual range of pictures that holds these values."""
    usual = ((-1, 1), (0, 255), (0, 4095), (0, 65535))
    fitting = next((r for r in usual if r[0] <= lowest and highest <= r[1]), (math.floor(lowest), math.ceil(highest)))
    return f"({fitting[0]}, {fitting[1]})"
