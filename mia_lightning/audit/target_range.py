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

_MARKS = frozenset({999.0, 9999.0, 99999.0, 999999.0, 32767.0, 32768.0, 65535.0})
_HUGE = 1e9  # the largest numbers of a type, and what NetCDF and GRIB fill with
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
        unmarked: The smallest and the largest of all values but those that usually mark missing ones, such as -9999.

    Example:
        >>> TargetSpans.of([torch.tensor([[[[0.0, 0.75]]], [[[2.0, 5.0]]]])])
        TargetSpans(samples=2, pictures=1, lowest=0.0, highest=5.0, outside=(2.0, 5.0), unmarked=(0.0, 5.0))
    """

    samples: int = 0
    pictures: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    outside: Range | None = None
    unmarked: Range = (math.inf, -math.inf)

    @classmethod
    def of(cls, targets: Iterable[Tensor], void: float | None = None) -> TargetSpans:
        """Look at batches of targets, (B, ...) each, of which one value may mark void pixels."""
        return cls.joined([_spans_of_sample(with_holes(sample, void)) for target in targets for sample in target])

    @classmethod
    def joined(cls, spans: Sequence[TargetSpans]) -> TargetSpans:
        """Those of several lots of samples together."""
        lowest = min((s.lowest for s in spans), default=math.inf)
        highest = max((s.highest for s in spans), default=-math.inf)
        first = next((s.outside for s in spans if s.outside is not None), None)
        unmarked = (
            min((s.unmarked[0] for s in spans), default=math.inf),
            max((s.unmarked[1] for s in spans), default=-math.inf),
        )
        return cls(sum(s.samples for s in spans), sum(s.pictures for s in spans), lowest, highest, first, unmarked)

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

    @property
    def mark(self) -> float | None:
        """A usual mark of missing values that lies as far from all others as these span, or further."""
        low, high = self.unmarked
        if self.lowest < low <= high and low - self.lowest >= high - low:
            return self.lowest
        return self.highest if self.highest > high >= low and self.highest - high >= high - low else None


def with_holes(target: Tensor, void: float | None) -> Tensor:
    """Targets with NaN where they have the value that marks void pixels; unchanged without such a value.

    Example:
        >>> with_holes(torch.tensor([3, -9999], dtype=torch.int16), -9999)
        tensor([3., nan])
    """
    if void is None:
        return target
    values = widened(target)
    values = values if values.is_floating_point() else values.double() if values.dtype.itemsize > 2 else values.float()
    return values.masked_fill(values == torch.tensor(void, dtype=values.dtype), torch.nan)


def _is_mark(value: float) -> bool:
    return abs(value) in _MARKS or abs(value) >= _HUGE


def _spans_of_sample(sample: Tensor) -> TargetSpans:
    values = widened(sample)
    if values.is_floating_point():
        values = values[torch.isfinite(values)]
    if not values.numel():
        return TargetSpans()
    low, high = (float(v) for v in torch.aminmax(values))
    in_unit = low >= -SLACK and high <= 1.0 + SLACK
    unmarked = _unmarked(values, low, high) if _is_mark(low) or _is_mark(high) else (low, high)
    return TargetSpans(1, int(in_unit and high >= _REACHING), low, high, None if in_unit else (low, high), unmarked)


def _unmarked(values: Tensor, low: float, high: float) -> Range:
    for mark in (low, high):
        values = values[values != mark] if _is_mark(mark) else values
    if not values.numel():
        return math.inf, -math.inf
    low, high = (float(v) for v in torch.aminmax(values))
    return low, high


def settle(spans: TargetSpans) -> Range:
    """Decide what ``target_range="auto"`` is, by the targets of both sides.

    In order:

    1. all in [0, 1], or three of four samples pictures that lie in it and reach 0.5: (0, 1), the others being mistakes
       that an audit refuses;
    2. a minimum of -0.5 or below and a maximum of 0.5 or above within [-1, 1], by a tenth: an error that asks;
    3. a usual mark of missing values, such as -9999, as far from all others as these span: likewise;
    4. else the smallest and the largest value of all.

    Raises:
        ValueError: Where it asks, or where all targets hold one value; names ``target_range`` and ``void``.

    Example:
        >>> settle(TargetSpans(samples=8, pictures=0, lowest=0.5, highest=78.0, outside=(0.5, 78.0)))
        (0.5, 78.0)
    """
    if spans.in_unit or spans.are_pictures:
        return UNIT
    if spans.are_signed:
        raise ValueError(outside(*(spans.outside or (spans.lowest, spans.highest)), UNIT))
    if (mark := spans.mark) is not None:
        low, high = spans.unmarked
        raise ValueError(
            f"The targets hold {mark:g}, and else span [{low:.6g}, {high:.6g}]: so missing pixels are marked. Errors "
            f"would be shares of a range that {mark:g} widens. Pass void={mark:.9g}, which leaves such pixels out, as "
            f"NaN is, or target_range=({spans.lowest:.9g}, {spans.highest:.9g}) if it is a value."
        )
    if spans.lowest == spans.highest:
        raise ValueError(
            f"All targets hold the one value {spans.lowest:.6g}, which tells no range: pass target_range=(low, high)."
        )
    return spans.lowest, spans.highest


def outside(lowest: float, highest: float, target_range: Range) -> str:
    """Message for targets that a range does not hold."""
    low, high = target_range
    message = f"The targets span [{lowest:.4g}, {highest:.4g}], outside target_range=({low:g}, {high:g})."
    marks = [value for value in (lowest, highest) if _is_mark(value) and not low <= value <= high]
    if marks:
        return f"{message} If {marks[0]:g} marks missing pixels, pass void={marks[0]:.9g}, which leaves them out."
    return (
        f"{message} Pass the range that your images have, for example target_range={_range_for(lowest, highest)}; "
        "void=... names a value that marks missing pixels."
    )


def _range_for(lowest: float, highest: float) -> str:
    """A usual range of pictures that holds these values and is not much wider."""
    usual = [r for r in ((-1, 1), (0, 255), (0, 4095), (0, 65535)) if r[0] <= lowest and highest <= r[1]]
    filled = [(a, b) for a, b in usual if 3 * (highest - lowest) >= b - a]
    fitting = next(iter(filled), (math.floor(lowest), math.ceil(highest)))
    return f"({fitting[0]}, {fitting[1]})"
