"""Whether tensors of integers are pictures or label maps, by their values: a listed rule, which may leave it open.

How often it errs is measured by ``benchmarks/readings.py``; ``benchmarks/README.md`` has the figures.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mia_lightning.functional.widening import widened

Kind = Literal["image", "labels"]

FEW_IDS = 8
"""Below this, values are ids of classes wherever they lie: no picture has so few levels of grey."""

SOME_IDS = 64
"""Below this, values are ids of classes where most neighbouring pixels share one."""

BYTE = 256
"""No label map has this many classes."""

_MANY_LEVELS = 200
_FLAT = 0.8
_WINDOW = 512


class IntegerValues(NamedTuple):
    """What tensors of integers hold, those that are ignored aside.

    Attributes:
        smallest: The smallest value.
        largest: The largest.
        distinct: Number of distinct values.
        flat: Share of pairs of neighbouring pixels with one value.
        white: Whether a pixel of 255 was taken for an ignored one.
    """

    smallest: int
    largest: int
    distinct: int
    flat: float
    white: bool


def integer_values(samples: Sequence[Tensor], ignore_index: int = 255) -> IntegerValues | None:
    """Look at integers, each (..., H, W); None where there is nothing but ignored pixels.

    Pixels of ``ignore_index`` are ignored; so are those of -1 and -100, or of any one negative value, where no other
    value is negative.

    Example:
        >>> integer_values([torch.tensor([[0, 0, 3], [3, 3, 255]])])
        IntegerValues(smallest=0, largest=3, distinct=2, flat=0.285..., white=True)
    """
    wide = [widened(_part(sample)) for sample in samples]
    values = torch.unique(torch.cat([torch.unique(sample) for sample in wide])) if wide else torch.empty(0)
    white = bool((values == BYTE - 1).any()) and ignore_index == BYTE - 1
    values = values[values != ignore_index]
    if int((values < 0).sum()) == 1:
        values = values[values >= 0]
    if not values.numel():
        return None
    equal, pairs = 0, 0
    for sample in wide:
        for dim in (-1, -2):
            if sample.ndim >= 2:
                same = sample.diff(dim=dim) == 0
                equal, pairs = equal + int(same.sum()), pairs + same.numel()
    flat = equal / pairs if pairs else 1.0
    return IntegerValues(int(values.min()), int(values.max()), values.numel(), flat, white)


def _part(sample: Tensor) -> Tensor:
    """The middle of a large picture, which tells as much."""
    for dim in (-1, -2)[: sample.ndim]:
        side = min(_WINDOW, sample.shape[dim])
        sample = sample.narrow(dim, (sample.shape[dim] - side) // 2, side)
    return sample


def kind_of_integers(values: IntegerValues | None) -> Kind | None:
    """Tell pictures from label maps; None where it could be either.

    Label maps hold few whole numbers from 0 up, in regions; pictures hold many, and neighbours differ.

    In order:

    1. more than one negative value: a picture;
    2. ids below 8, or below 64 where at least 80 % of neighbouring pixels are equal: label maps, unless a single value
       stands alone, or beside 255, which may be white as well as ignored;
    3. at least 200 values (65 where less than 80 % of neighbours are equal), the largest 64 or more, with less than
       90 % of neighbours equal where values exceed 255: a picture;
    4. else: undecided.
    """
    if values is None:
        return None
    if values.smallest < 0:
        return "image"
    if values.distinct == 1:
        return None
    if values.largest < FEW_IDS or (values.largest < SOME_IDS and values.flat >= _FLAT):
        return "labels"
    if values.largest < SOME_IDS:
        return None
    levels = _MANY_LEVELS if values.flat >= _FLAT else SOME_IDS + 1
    if values.distinct >= levels and (values.largest < BYTE or values.flat < 0.9 or values.distinct >= 8 * BYTE):
        return "image"
    return None
