"""Design matrix of a least-squares problem: feature maps resized to a pixel grid, kept factored instead of written out.

Resizing is linear, so a map of h x w positions with C channels contributes ``A @ M``: A resizes positions to pixels and
is the same for all channels. Its part of the Gram matrix is ``M.T @ (A.T @ (...))``, where the outer sum runs over
positions, of which there are far fewer than pixels. With one weight W nothing is resized at all: two maps meet in
``M.T @ (A.T @ W @ B) @ N``, whose middle couples only positions that reach a common pixel, a few rows of a map at once.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from mia_lightning.functional.least_squares import LinearMap, Moments

_BLOCK = 64
"""So many columns of a symmetric product are made together: what lies above its diagonal is left out by blocks."""


def reduce_columns(feature_map: Tensor) -> Tensor:
    """Replace a map with more channels than positions by one of equal inner products with fewer channels.

    Every channel is centred over its positions first, in double precision: a free intercept makes that invisible to the
    fit, and without it the columns would span the constant, which the intercept spans already, and the normal equations
    would be singular.

    Returns:
        Of (B, C, h, w) the (B, min(C, h * w - 1), h, w): the centred map itself, or the triangular factor of its QR,
        whose last row is zero and left out, since centred channels span one direction less than there are positions.

    Example:
        >>> feature = torch.rand(1, 9, 2, 2, dtype=torch.float64)
        >>> centred, reduced = (feature - feature.mean((2, 3), keepdim=True)).flatten(2), reduce_columns(feature)
        >>> reduced.shape, torch.allclose(centred.mT @ centred, reduced.flatten(2).mT @ reduced.flatten(2))
        (torch.Size([1, 3, 2, 2]), True)
    """
    channels, positions = feature_map.shape[1], feature_map.shape[2] * feature_map.shape[3]
    centred = feature_map.to(torch.float64, copy=True)
    centred -= centred.mean((2, 3), keepdim=True)
    if channels < positions:
        return centred
    triangle: Tensor = torch.linalg.qr(centred.flatten(2), mode="r").R[:, : positions - 1]
    return triangle.reshape(*triangle.shape[:2], *feature_map.shape[2:])


def standardise_channels(feature_map: Tensor) -> Tensor:
    """Give every channel of every image, (B, C, h, w), mean 0 and deviation 1; constant channels become 0."""
    mean = feature_map.mean((2, 3), keepdim=True)
    deviation = feature_map.std((2, 3), correction=0, keepdim=True)
    # A channel that is constant but for rounding carries nothing; dividing would blow the rounding up.
    steady = deviation <= 1e-6 * mean.abs() + 1e-12
    return torch.where(steady, 0.0, (feature_map - mean) / torch.where(steady, 1.0, deviation))


class Design:
    """The columns of a batch of images: maps (B, C_i, h_i, w_i), and matrices that resize them to a grid; float64."""

    def __init__(self, maps: Sequence[Tensor], grid: int) -> None:
        self.grid = grid
        self.maps = [reduce_columns(m) for m in maps]
        self.resizers = [tuple(_resizer(side, grid, m) for side in m.shape[2:]) for m in self.maps]
        self.sizes = [m.shape[1] for m in self.maps]
        self.offsets = [sum(self.sizes[:i]) for i in range(len(self.sizes))]

    def columns(self, index: int) -> Tensor:
        """The columns of one map in full, (B, C, grid, grid)."""
        return self._resize(index, self.maps[index])

    def moments(self, values: Tensor, weights: Sequence[Tensor]) -> list[Moments]:
        """Sum what a fit needs, of the Gram matrix the lower triangle, once by each weight.

        Sums are over targets, (B, grid ** 2, C), by their weight: 1 for the pixels that count, 0 for the others.
        """
        if len(weights) == 1:
            return [self._of_one_weight(values, weights[0])]
        square = (len(values), -1, self.grid, self.grid)
        size = sum(self.sizes)
        targets = [(values * weight.unsqueeze(2)).mT for weight in weights]
        grams = [values.new_zeros((len(values), size, size)) for _ in weights]
        sums: list[list[Tensor]] = [[] for _ in weights]
        cross: list[list[Tensor]] = [[] for _ in weights]
        for i, (start, width) in enumerate(zip(self.offsets, self.sizes, strict=True)):
            columns = self.columns(i)  # once for all weights
            for number, (weight, target) in enumerate(zip(weights, targets, strict=True)):
                masked = columns * weight.reshape(square)
                sums[number].append(masked.sum((2, 3)))
                cross[number].append(self._against(i, target.reshape(square)))
                for j in range(i, len(self.maps)):
                    block = self._against(j, masked)
                    grams[number][:, self.offsets[j] : self.offsets[j] + self.sizes[j], start : start + width] = block
        return [
            Moments(weight.sum(1), torch.cat(x, 1), target.sum(2), gram, torch.cat(xy, 1))
            for weight, target, x, gram, xy in zip(weights, targets, sums, grams, cross, strict=True)
        ]

    def _of_one_weight(self, values: Tensor, weight: Tensor) -> Moments:
        """The same sums by one weight, (B, grid ** 2), without the columns in full."""
        target, square = (values * weight.unsqueeze(2)).mT, weight.view(-1, self.grid, self.grid)
        planes = torch.cat([weight.unsqueeze(1), target], 1).view(len(values), -1, self.grid, self.grid)
        cross = torch.cat([self._against(i, planes) for i in range(len(self.maps))], 1)
        # By rows from the diagonal on: transposed, it has its lower triangle by columns, where Cholesky works in place.
        gram = values.new_zeros((len(values), sum(self.sizes), sum(self.sizes)))
        for i, (top, high) in enumerate(zip(self.offsets, self.sizes, strict=True)):
            step = _BLOCK if self._is_on_grid(i) else high
            for first in range(0, high, step):
                columns = self.maps[i][:, first : first + step]
                columns = columns * square.unsqueeze(1) if self._is_on_grid(i) else columns
                for j in range(i, len(self.maps)):
                    met = self._summed(j, columns) if self._is_on_grid(i) else self._coupled(i, j, square)
                    own, end = self.maps[j].flatten(2), self.offsets[j] + self.sizes[j]
                    rows = _BLOCK if i == j else step
                    for row in range(0, met.shape[1], rows):
                        start = first + row if i == j else 0
                        product = met[:, row : row + rows] @ own[:, start:].mT
                        here = top + first + row
                        gram[:, here : here + product.shape[1], self.offsets[j] + start : end] = product
        return Moments(weight.sum(1), cross[..., 0], target.sum(2), gram.mT, cross[..., 1:])

    def _coupled(self, index: int, other: int, weight: Tensor) -> Tensor:
        """Columns of one map by a weight, (B, grid, grid), summed into another's positions: (B, C, h * w of the other).

        Row after row of the other: of the map only the rows count that reach a pixel which this row reaches, too.
        """
        own, height, width = self.maps[index], *self.maps[other].shape[2:]
        (down, right), (other_down, other_right) = self.resizers[index], self.resizers[other]
        starts, rows = _windows(own.shape[2], height, self.grid)
        window = (torch.tensor(starts).unsqueeze(1) + torch.arange(rows)).to(own.device)  # (height, rows)
        vertical = (down.mT[window] * other_down.mT.unsqueeze(1)).flatten(0, 1) @ weight  # (B, height * rows, grid)
        across = (right.unsqueeze(2) * other_right.unsqueeze(1)).flatten(1)  # (grid, own width * other's)
        mixing = (vertical @ across).view(len(weight), height, -1, width)  # (B, height, rows * own width, width)
        summed = own.new_empty((*own.shape[:2], height, width))
        for row, start in enumerate(starts):
            summed[:, :, row] = own[:, :, start : start + rows].flatten(2) @ mixing[:, row]
        return summed.flatten(2)

    def predict(self, model: LinearMap) -> Tensor:
        """Apply a fitted map to all pixels, (B, grid ** 2, C)."""
        predicted = model.y_mean - model.x_mean @ model.weights
        for i, weights in enumerate(model.weights.tensor_split(self.offsets[1:], 1)):
            mixed = torch.einsum("bkhw,bkc->bchw", self.maps[i], weights)
            predicted = predicted + self._resize(i, mixed).flatten(2).mT
        return predicted

    def _resize(self, index: int, planes: Tensor) -> Tensor:
        """Bring planes (B, N, h, w) of one map's size to the grid."""
        if self._is_on_grid(index):
            return planes
        down, right = self.resizers[index]
        return down @ planes @ right.mT

    def _is_on_grid(self, index: int) -> bool:
        return self.maps[index].shape[2:] == (self.grid, self.grid)

    def _summed(self, index: int, planes: Tensor) -> Tensor:
        """Weighted planes, (B, N, grid, grid), summed into the positions of one map, (B, N, h * w)."""
        if not self._is_on_grid(index):
            down, right = self.resizers[index]
            planes = down.mT @ planes @ right
        return planes.flatten(2)

    def _against(self, index: int, planes: Tensor) -> Tensor:
        """Inner products of one map's columns with weighted planes (B, N, grid, grid), as (B, C, N)."""
        return self.maps[index].flatten(2) @ self._summed(index, planes).mT


@lru_cache(maxsize=64)
def _windows(positions: int, others: int, grid: int) -> tuple[list[int], int]:
    """First of the positions along a side that may share a pixel with each of the others, and how many may."""
    like = torch.zeros(0, dtype=torch.float64)
    own, other = (_resizer(side, grid, like) != 0.0 for side in (positions, others))
    reached = [own[other[:, place]].any(0).nonzero().flatten().tolist() or [0] for place in range(others)]
    rows = max(places[-1] + 1 - places[0] for places in reached)
    return [min(places[0], positions - rows) for places in reached], rows


def _resizer(positions: int, grid: int, like: Tensor) -> Tensor:
    """Matrix of bilinear resizing along one side, (grid, positions)."""
    unit = torch.eye(positions, dtype=like.dtype, device=like.device).unsqueeze(0)
    return F.interpolate(unit, size=grid, mode="linear", align_corners=False).squeeze(0).mT.contiguous()
