"""Compares a pair with its transformed copies tile by tile, which the hardest pixels of a picture do not decide.

The error of a picture is mostly that of its few hardest places. A model that has learned a pair errs less on many of
its tiles than on the same tiles of every copy; a pair that is merely easy as it stands does so on some. Tiles of a
copy are compared in the pair's own place, to which the copy's errors are brought back.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mia_lightning.functional.calibration import log_error
from mia_lightning.functional.weighting import SHARPNESS

GRID = 4
"""Tiles along each axis of a picture or volume that is large enough."""

SMALLEST = 4
"""Pixels along an axis for each of its tiles, at least: shorter axes have fewer tiles. The last tile takes what is left
of the axis and may be smaller: 17 pixels are cut into 5, 5, 5 and 2."""

FLOOR = 0.03
"""Share of the error of the whole picture that is added to that of each tile: of tiles that a model gets right
nearly everywhere logarithms would be noise."""

TRIMMED = 0.1
"""Share of the tiles that is left out at either end: a tile that went wrong says nothing of the others."""


def tile_grid(size: Sequence[int]) -> tuple[int, ...]:
    """Number of tiles along each axis of a picture (H, W) or volume (D, H, W), at least 1.

    Example:
        >>> tile_grid((64, 64)), tile_grid((8, 256, 256)), tile_grid((1, 1))
        ((4, 4), (2, 4, 4), (1, 1))
    """
    return tuple(max(1, min(GRID, side // SMALLEST)) for side in size)


def has_tiles(size: Sequence[int]) -> bool:
    """Whether a picture or volume of this size is large enough for more than one tile.

    Example:
        >>> has_tiles((8, 8)), has_tiles((7, 7))
        (True, False)
    """
    return max(tile_grid(size)) > 1


def tile_log_errors(errors: Tensor) -> Tensor:
    """Logarithms of the mean errors of tiles, each with a share (:data:`FLOOR`) of the whole picture's added.

    Tiles are those of :func:`tile_grid`; where sides are no multiples of it, the last ones are smaller.

    Args:
        errors: Errors of pixels, (B, C, H, W) or (B, C, D, H, W), NaN where a pixel is left out.

    Returns:
        (B, T), floored as by :func:`~mia_lightning.functional.calibration.log_error`; NaN for tiles without a pixel.

    Example:
        >>> errors = torch.cat([torch.full((1, 1, 4, 4), 0.1), torch.full((1, 1, 4, 4), 0.3)], 3)
        >>> tile_log_errors(errors).exp()
        tensor([[0.1060, 0.3060]])
    """
    size = errors.shape[2:]
    sides = [-(-length // parts) for length, parts in zip(size, tile_grid(size), strict=True)]
    missing = [parts * side - length for length, parts, side in zip(size, tile_grid(size), sides, strict=True)]
    if any(missing):
        errors = F.pad(errors, [width for gap in reversed(missing) for width in (0, gap)], value=torch.nan)
    axes = len(size)
    cut = [length for parts, side in zip(tile_grid(size), sides, strict=True) for length in (parts, side)]
    blocks = errors.reshape(*errors.shape[:2], *cut)
    tiles, pixels = ([2 + 2 * axis + part for axis in range(axes)] for part in (0, 1))
    table = blocks.permute(0, *tiles, 1, *pixels).flatten(1 + axes).flatten(1, axes)
    valid = ~torch.isnan(table)
    total, count = torch.where(valid, table, 0.0).sum(2), valid.sum(2)
    whole = total.sum(1, keepdim=True) / count.sum(1, keepdim=True)
    return log_error(total / count + FLOOR * whole)


def tile_ratio(own: Tensor, copies: Tensor) -> Tensor:
    """Error of a pair relative to the easiest of its copies, tile by tile and then averaged; **low means member**.

    Of each tile the log-ratio to a soft minimum over the copies, as
    :func:`~mia_lightning.functional.weighting.easiest_neighbour_error` takes it of pictures; of these the mean
    without a tenth (:data:`TRIMMED`) at either end. No label is looked at.

    Args:
        own: Logarithms of the errors of the pair's tiles, (B, T).
        copies: Those of the same tiles of its copies, (B, k, T). What is not finite, of either, is left out.

    Returns:
        In nats, (B,); NaN where no tile is left.

    Example:
        >>> tile_ratio(torch.tensor([[0.0, 0.0]]), torch.tensor([[[1.0, 2.0], [1.0, 1.0]]])).round(decimals=2)
        tensor([-1.0300])
    """
    ratios = own.unsqueeze(1) - copies
    finite = torch.isfinite(ratios)
    largest = torch.where(finite, ratios, -torch.inf).amax(1, keepdim=True)
    powers = torch.where(finite, (SHARPNESS * (ratios - largest)).exp(), 0.0)
    of_tiles = largest.squeeze(1) + (powers.sum(1) / finite.sum(1)).log() / SHARPNESS
    there = finite.any(1)
    ordered = torch.where(there, of_tiles, torch.inf).sort(1).values
    count = there.sum(1, keepdim=True)
    least = (TRIMMED * count).floor()
    place = torch.arange(own.shape[1], device=own.device)
    kept = (place >= least) & (place < count - least)
    return torch.where(kept, ordered, 0.0).sum(1) / kept.sum(1)
