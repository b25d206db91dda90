"""Batched least squares with an intercept, from sums: ridge, and ordinary least squares of minimum norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

# Cholesky of the column-scaled Gram matrix is trusted while every squared pivot stays above this: the relative error
# of the solution is then below about 1e-6. Anything closer to singular goes to a singular value decomposition.
_PIVOT = 1e-9


@dataclass(frozen=True)
class Moments:
    """Weighted sums over rows, enough to fit; sums over disjoint rows add and subtract.

    Attributes:
        count: Sum of weights, (B,).
        x: Sum of columns, (B, K).
        y: Sum of targets, (B, C).
        xx: Gram matrix, (B, K, K); the lower triangle is all that counts.
        xy: Columns against targets, (B, K, C).
    """

    count: Tensor
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor

    def __add__(self, other: Moments) -> Moments:
        """Sums over the rows of both."""
        return Moments(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: Moments) -> Moments:
        """Sums over the rows of the first that are not of the second."""
        return Moments(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


class LinearMap(NamedTuple):
    """A fitted affine map a batch element: ``y = y_mean + (x - x_mean) @ weights``."""

    x_mean: Tensor
    y_mean: Tensor
    weights: Tensor


def fit(sums: Moments, *, ridge: float, channels: int, rows: Callable[[], Sequence[Tensor]] | None = None) -> LinearMap:
    """Fit one affine map a batch element.

    Args:
        sums: Sums over the rows to fit.
        ridge: 0 for ordinary least squares of minimum norm, else the penalty as a share of the mean, over ``channels``,
            of the centred Gram matrix's diagonal.
        channels: Number of original columns that the K columns stand for.
        rows: Gives x (B, N, K), y (B, N, C) and the weights (B, N) of all rows, 0 for those not fitted; asked for only
            where the normal equations are too close to singular for ordinary least squares.

    Returns:
        The map; where there are no rows it predicts zero.
    """
    count = sums.count.clamp_min(1.0).view(-1, 1, 1)
    x_mean, y_mean = sums.x.unsqueeze(1) / count, sums.y.unsqueeze(1) / count
    gram = torch.baddbmm(sums.xx, x_mean.mT, count * x_mean, alpha=-1)
    cross = torch.baddbmm(sums.xy, x_mean.mT, count * y_mean, alpha=-1)
    diagonal = gram.diagonal(dim1=1, dim2=2)
    if ridge > 0:
        penalty = ridge * diagonal.sum(1, keepdim=True) / channels
        diagonal += torch.where(penalty > 0, penalty, 1.0)
        factor, _ = torch.linalg.cholesky_ex(gram)
        return LinearMap(x_mean, y_mean, torch.cholesky_solve(cross, factor))
    # A column without variance over these rows gets no weight: that is what minimum norm gives it.
    flat = diagonal <= 1e-24 * diagonal.amax(1, keepdim=True).clamp_min(1e-300)
    scale = torch.where(flat, 1.0, diagonal.clamp_min(1e-300).rsqrt())
    scaled = gram * scale.unsqueeze(1) * scale.unsqueeze(2)
    scaled.diagonal(dim1=1, dim2=2)[flat] = 1.0
    factor, info = torch.linalg.cholesky_ex(scaled)
    pivots = factor.diagonal(dim1=1, dim2=2).square().amin(1)
    weights = scale.unsqueeze(2) * torch.cholesky_solve(scale.unsqueeze(2) * cross, factor)
    # Rows with NaN have no solution: theirs stays NaN, and the decomposition, which would raise, is spared them.
    doubtful = ((info != 0) | ~(pivots > _PIVOT)) & diagonal.isfinite().all(1)
    if rows is not None and bool(doubtful.any()):
        x, y, weight = (r[doubtful] for r in rows())
        weights[doubtful] = _minimum_norm(x - x_mean[doubtful], y - y_mean[doubtful], weight)
    return LinearMap(x_mean, y_mean, weights)


def _minimum_norm(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Least squares of minimum norm on centred rows by singular values, the cut-off that scikit-learn uses."""
    keep = weight.unsqueeze(2)
    u, s, vh = torch.linalg.svd(x * keep, full_matrices=False)
    rows = weight.sum(1).clamp_min(1.0)
    cutoff = torch.finfo(x.dtype).eps * rows.clamp_min(x.shape[2]) * s[:, 0]
    inverse = torch.where(s > cutoff.unsqueeze(1), 1.0 / s, 0.0)
    weights: Tensor = vh.mT @ (inverse.unsqueeze(2) * (u.mT @ (y * keep)))
    return weights
