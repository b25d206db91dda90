"""Types for which torch has few operations, widened to those for which it has all."""

import torch
from torch import Tensor

_WIDER = {torch.bool: torch.uint8, torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}


def widened(values: Tensor) -> Tensor:
    """Values in a type that can be compared, sorted and averaged: booleans and unsigned integers in a wider type.

    Half precision becomes float32; other types stay as they are. Values are kept, but for those of ``uint64`` beyond
    the largest ``int64``.

    Example:
        >>> widened(torch.tensor([65535], dtype=torch.uint16)), widened(torch.tensor([True])).dtype
        (tensor([65535], dtype=torch.int32), torch.uint8)
    """
    if values.is_floating_point():
        return values if values.dtype == torch.float64 else values.float()
    return values.to(_WIDER.get(values.dtype, values.dtype))
