"""Design matrix of a least-squares problem: feature maps resized to a pixel grid, kept factored instead of written out.

Resizing is linear, so a map of h x w positions with C channels contributes ``A @ M``: A resizes positions to pixels and
is the same for all channels. Its part of the Gram matrix is ``M.T @ (A.T @ (...))``, where the outer sum runs over
positions, of which there are far fewer than pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mia_lightning.functional.least_squares import LinearMap, Moments


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
        self.maps = [self._reduce(m) for m in maps]
        self.resizers = [tuple(resizer(side, grid, m) for side in m.shape[2:]) for m in self.maps]
        self.sizes = [m.shape[1] for m in self.maps]
        self.offsets = [sum(self.sizes[:i]) for i in range(len(self.sizes))]

    def columns(self, index: int) -> Tensor:
        """The columns of one map in full, (B, C, grid, grid)."""
        return self._resize(index, self.maps[index])

    def moments(self, values: Tensor, weights: Sequence[Tensor]) -> list[Moments]:
        """Sum what a fit needs, of the Gram matrix the lower triangle, once by each weight.

        Sums are over targets, (B, grid ** 2, C), by their weight: 1 for the pixels that count, 0 for the others.
        """
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

    def predict(self, model: LinearMap) -> Tensor:
        """Apply a fitted map to all pixels, (B, grid ** 2, C)."""
        predicted = model.y_mean - model.x_mean @ model.weights
        for i, weights in enumerate(model.weights.tensor_split(self.offsets[1:], 1)):
            mixed = torch.einsum("bkhw,bkc->bchw", self.maps[i], weights)
            predicted = predicted + self._resize(i, mixed).flatten(2).mT
        return predicted

    def _reduce(self, feature_map: Tensor) -> Tensor:
        return reduce_columns(feature_map)

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


def resizer(positions: int, grid: int, like: Tensor) -> Tensor:
    """Matrix of bilinear resizing along one side, (grid, positions)."""
    unit = torch.eye(positions, dtype=like.dtype, device=like.device).unsqueeze(0)
    return F.interpolate(unit, size=grid, mode="linear", align_corners=False).squeeze(0).mT.contiguous()
