"""Intersection over union and Dice of every class, from one confusion matrix."""

from __future__ import annotations

import torch
from torch import Tensor


def overlap(confusion: Tensor) -> tuple[Tensor, Tensor]:
    """Compare two label maps class by class.

    Both follow from the same three counts a class: pixels that only the target, only the prediction, or both
    give to the class. Counted over a whole split they do not depend on how it was cut into batches or
    processes.

    Args:
        confusion: Pixel counts, (K, K), rows the true class and columns the predicted one.

    Returns:
        Intersection over union (the Jaccard index) and Dice coefficient (the F1 score), (K,) each, in [0, 1];
        NaN for a class that occurs in neither map.

    Example:
        >>> iou, dice = overlap(torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
        >>> iou, dice
        (tensor([0.7500, 0.6667,    nan]), tensor([0.8571, 0.8000,    nan]))
    """
    # Sums stay integers: float32 cannot count past 2**24 pixels, and not every device has float64.
    both = confusion.diagonal()
    either = confusion.sum(0) + confusion.sum(1)
    iou = both / torch.where(either > 0, either - both, torch.nan)
    dice = 2.0 * both / torch.where(either > 0, either, torch.nan)
    return iou, dice
