"""Design matrix of one fit on some pixels of a grid: what a hold-out needs, in fewer operations than several fits.

With one weight W nothing is resized: two maps meet in ``M.T @ (A.T @ W @ B) @ N``, whose middle couples only positions
that reach a common pixel, a few rows of a map at once. Every number is the one of
:class:`~mia_lightning.functional.design.Design` but for rounding.
"""

from functools import lru_cache

import torch
from torch import Tensor

from mia_lightning.functional.design import Design, resizer
from mia_lightning.functional.least_squares import PIVOT, Moments

_BLOCK = 64
"""So many columns of a symmetric product are made together: what lies above its diagonal is left out by blocks."""

_GAP = 8
"""Numbers between rows that are read by columns: rows a power of two apart would share one place of the cache."""


class HoldoutDesign(Design):
    """The columns of a batch of images, the channels of a position side by side: for sums by a single weight."""

    def moments_at(self, values: Tensor, weight: Tensor, pixels: Tensor) -> Moments:
        """Sum what a fit needs, of the Gram matrix the lower triangle.

        Args:
            values: Targets, (B, grid ** 2, C).
            weight: (B, grid ** 2): 1 for the pixels that count, 0 for the others.
            pixels: Indices of the pixels outside of which every weight is 0, the same for any batch: images then give
                the same sums in any company.
        """
        target = values * weight.unsqueeze(2)
        planes = torch.cat([weight.unsqueeze(2), target], 2).mT.reshape(len(values), -1, self.grid, self.grid)
        cross = torch.cat([self._summed(i, planes) @ _rows(m) for i, m in enumerate(self.maps)], 2).mT
        # By rows from the diagonal on: transposed, it has its lower triangle by columns, where Cholesky works in place.
        gram = values.new_empty((len(values), sum(self.sizes), sum(self.sizes)))
        for i, (top, high) in enumerate(zip(self.offsets, self.sizes, strict=True)):
            for j in range(i, len(self.maps)):
                summed, own = self._pair(i, j, weight, pixels)
                left, right = self.offsets[j], self.offsets[j] + self.sizes[j]
                step = _BLOCK if i == j else high
                for first in range(0, high, step):
                    start = first if i == j else 0
                    block = gram[:, top + first : top + min(first + step, high), left + start : right]
                    torch.bmm(summed[:, :, first : first + step].mT, own[:, :, start:], out=block)
        return Moments(weight.sum(1), cross[..., 0], target.sum(1), gram.mT, cross[..., 1:])

    def _pair(self, index: int, other: int, weight: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted columns of one map, summed into the positions of another, and those of the other there."""
        if self._is_on_grid(index) and self._is_on_grid(other):
            at = weight[:, pixels].unsqueeze(2)
            first = _rows(self.maps[index])[:, pixels].mul_(at)
            # A weight of 1 or 0 is its own square.
            return first, first if index == other else _rows(self.maps[other])[:, pixels]
        summed = self._from_grid if self._is_on_grid(index) else self._from_rows
        return summed(index, other, weight.view(-1, self.grid, self.grid)), _rows(self.maps[other])

    def _from_grid(self, index: int, other: int, weight: Tensor) -> Tensor:
        """Columns of a map on the grid by a weight, (B, grid, grid), summed into another's positions: (B, h * w, C)."""
        down, right = self.resizers[other]
        across = (right.mT * weight.unsqueeze(2)) @ self.maps[index].movedim(1, 3)  # (B, grid, w, C)
        return (down.mT @ across.flatten(2)).view(len(across), -1, across.shape[3])

    def _from_rows(self, index: int, other: int, weight: Tensor) -> Tensor:
        """The same of a map of any size.

        Row after row of the other: of the map only the rows count that reach a pixel which this row reaches, too.
        """
        own, height, width = self.maps[index].movedim(1, 3), *self.maps[other].shape[2:]
        (down, right), (other_down, other_right) = self.resizers[index], self.resizers[other]
        starts, rows = _windows(own.shape[1], height, self.grid)
        window = (torch.tensor(starts).unsqueeze(1) + torch.arange(rows)).to(own.device)  # (height, rows)
        vertical = (down.mT[window] * other_down.mT.unsqueeze(1)).flatten(0, 1) @ weight  # (B, height * rows, grid)
        across = (other_right.unsqueeze(2) * right.unsqueeze(1)).flatten(1)  # (grid, other's width * own)
        mixing = (vertical @ across).view(len(weight), height, rows, width, -1).transpose(2, 3).flatten(3)
        summed = own.new_empty((len(own), height, width, own.shape[3] + _GAP))[..., :-_GAP]
        for row, start in enumerate(starts):
            torch.bmm(mixing[:, row], own[:, start : start + rows].flatten(1, 2), out=summed[:, row])
        return summed.flatten(1, 2)

    def _reduce(self, feature_map: Tensor) -> Tensor:
        channels, positions = feature_map.shape[1], feature_map.shape[2] * feature_map.shape[3]
        centred = feature_map.to(torch.float64, copy=True, memory_format=torch.channels_last)
        centred -= centred.mean((2, 3), keepdim=True)
        if channels < positions:
            return centred
        triangle = triangle_of_products(centred.flatten(2))
        return triangle.reshape(*triangle.shape[:2], *feature_map.shape[2:])


def triangle_of_products(centred: Tensor) -> Tensor:
    """Triangular factor of centred channels, (B, C, P), by the inner products of their positions: (B, P - 1, P).

    It keeps inner products to rounding, as a QR does. What it loses of the weakest directions, since the condition is
    squared, least squares does not notice: it is the same for any columns that span the same, and these span all that
    is centred. Where inner products are close to singular, the triangle is a QR's.

    Example:
        >>> channels = torch.rand(1, 9, 4, dtype=torch.float64)
        >>> centred = channels - channels.mean(2, keepdim=True)
        >>> triangle = triangle_of_products(centred)
        >>> triangle.shape, torch.allclose(triangle.mT @ triangle, centred.mT @ centred)
        (torch.Size([1, 3, 4]), True)
    """
    products = centred[:, :, :-1].mT @ centred[:, :, :-1]
    factor, info = torch.linalg.cholesky_ex(products)
    pivots = factor.diagonal(dim1=1, dim2=2).square() / products.diagonal(dim1=1, dim2=2)
    # Every row is centred, too.
    triangle = torch.cat([factor.mT, -factor.sum(1).unsqueeze(2)], 2)
    doubtful = (info != 0) | ~(pivots > PIVOT).all(1)
    if bool(doubtful.any()):
        triangle[doubtful] = torch.linalg.qr(centred[doubtful], mode="r").R[:, :-1]
    return triangle


def _rows(feature_map: Tensor) -> Tensor:
    """One row a position, (B, h * w, C)."""
    return feature_map.movedim(1, 3).flatten(1, 2)


@lru_cache(maxsize=64)
def _windows(positions: int, others: int, grid: int) -> tuple[list[int], int]:
    """First of the positions along a side that may share a pixel with each of the others, and how many may."""
    like = torch.zeros(0, dtype=torch.float64)
    own, other = (resizer(side, grid, like) != 0.0 for side in (positions, others))
    reached = [own[other[:, place]].any(0).nonzero().flatten().tolist() or [0] for place in range(others)]
    rows = max(places[-1] + 1 - places[0] for places in reached)
    return [min(places[0], positions - rows) for places in reached], rows
