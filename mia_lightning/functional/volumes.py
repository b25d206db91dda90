"""Volumes (B, C, D, H, W) as slices: along which axis, which of them, and the slice to look at."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

DIMENSIONS = 5
"""Dimensions of an input that is a batch of volumes; one of pictures has four."""

AXES = ("D", "H", "W")


def is_volume(input: Tensor) -> bool:
    """Whether inputs are volumes, (B, C, D, H, W): told by their number of dimensions alone."""
    return input.ndim == DIMENSIONS


def spatial_size(images: Tensor, volumes: bool) -> tuple[int, ...]:
    """Height and width of pictures and label maps, and the number of slices before them of volumes.

    Example:
        >>> spatial_size(torch.zeros(2, 3, 8, 6), False)
        (8, 6)
    """
    return tuple(images.shape[-3 if volumes else -2 :])


def spatial_axes(volumes: bool) -> str:
    """The axes of a picture or a volume in words, as messages have them.

    Example:
        >>> spatial_axes(True)
        'D, H, W'
    """
    return ", ".join(AXES if volumes else AXES[1:])


def least_axis(size: Sequence[int]) -> int:
    """The axis of least resolution, that of the fewest voxels, out of the sizes (D, H, W); the first of equal ones.

    Example:
        >>> least_axis((64, 64, 24)), least_axis((32, 32, 32))
        (2, 0)
    """
    return min(range(len(size)), key=lambda axis: size[axis])


def slice_places(depth: int, slices: int | None, seed: int = 0) -> list[int]:
    """Which slices of an axis are looked at: all, or a fixed number, one drawn out of each of as many equal parts.

    Args:
        depth: Number of slices that there are.
        slices: How many are drawn; None, or as many as there are, takes all.
        seed: Seed of the draw: equal depths have equal places.

    Returns:
        Places in ascending order.

    Raises:
        ValueError: If ``slices`` is below 1.

    Example:
        >>> slice_places(4, None), len(slice_places(100, 10))
        ([0, 1, 2, 3], 10)
    """
    if slices is not None and slices < 1:
        raise ValueError(f"Expected slices >= 1, or None for all, but got {slices}.")
    if slices is None or slices >= depth:
        return list(range(depth))
    generator = torch.Generator().manual_seed(seed)
    bounds = [part * depth // slices for part in range(slices + 1)]
    return [int(torch.randint(low, high, (), generator=generator)) for low, high in pairwise(bounds)]


def matching_place(place: int, depth: int, other_depth: int) -> int:
    """The slice of another volume of the same extent that lies where a slice of this one has its middle.

    Example:
        >>> matching_place(5, 8, 4), matching_place(5, 8, 8)
        (2, 5)
    """
    return min(other_depth - 1, (2 * place + 1) * other_depth // (2 * depth))


def middle_slice(volumes: Tensor, axis: int) -> Tensor:
    """The middle slices, (..., H, W), of volumes (..., D, H, W) along their axis 0, 1 or 2.

    Example:
        >>> middle_slice(torch.arange(3).view(1, 3, 1, 1), 0)
        tensor([[[1]]])
    """
    axis -= len(AXES)
    return volumes.select(axis, volumes.shape[axis] // 2)


def middle_slices(volumes: Tensor, most: int = 32) -> Tensor:
    """The middle of volumes (..., D, H, W) along D, no more slices than these: enough to tell what values mean.

    Example:
        >>> middle_slices(torch.zeros(1, 100, 8, 8)).shape
        torch.Size([1, 32, 8, 8])
    """
    depth = volumes.shape[-3]
    return volumes.narrow(-3, max(0, depth - most) // 2, min(most, depth))
