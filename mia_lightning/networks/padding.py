"""Pads images to a multiple of what a network needs, and crops its output back."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int, minimum: int = 0) -> Tensor:
    """Pad height and width of images, (B, C, H, W), up to the next multiple by repeating the border.

    The padding is split evenly over opposite sides, the odd pixel going right and down. The border is repeated rather
    than reflected because reflection cannot pad by as much as the image measures.

    Args:
        x: The images, any range.
        multiple: What height and width must be divisible by afterwards.
        minimum: Height and width are at least this afterwards; itself a multiple.

    Example:
        >>> import torch
        >>> pad_to_multiple(torch.zeros(1, 3, 33, 64), 32).shape
        torch.Size([1, 3, 64, 64])
    """
    height, width = (max(minimum, -(-side // multiple) * multiple) for side in x.shape[-2:])
    missing_y, missing_x = height - x.shape[-2], width - x.shape[-1]
    if missing_y == 0 and missing_x == 0:
        return x
    top, left = missing_y // 2, missing_x // 2
    return F.pad(x, (left, missing_x - left, top, missing_y - top), mode="replicate")


def crop_back(x: Tensor, height: int, width: int) -> Tensor:
    """Undo :func:`pad_to_multiple`: the central (B, C, height, width) of (B, C, H', W')."""
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]
