"""Batched least squares with an intercept, from sums: ridge, and ordinary least squares of minimum norm."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import torch
from torch import Tensor

# Cholesky of the column-scaled Gram matrix is trusted while every squared pivot stays above this: the relative error
# of the solution is then below about 1e-6. Anything closer to singular is solved by eigenvalues.
PIVOT = 1e-9
_CUTOFF = 1e-6


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

    def __add__(self, other: Self) -> Self:
        """Sums over the rows of both."""
        return type(self)(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: Self) -> Self:
        """Sums over the rows of the first that are not of the second."""
        return type(self)(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


class LinearMap(NamedTuple):
    """A fitted affine map a batch element: ``y = y_mean + (x - x_mean) @ weights``."""

    x_mean: Tensor
    y_mean: Tensor
    weights: Tensor


def fit(make_moments: Callable[[], Moments], *, ridge: float, channels: int) -> LinearMap:
    """Fit one affine map a batch element from sums over its rows; where there are none it predicts zero.

    The sums are made here: with ``ridge=0`` their Gram matrix, which is large, is overwritten by its factor, and made
    once more where that is no good.

    ``ridge`` is 0 for ordinary least squares of minimum norm, else the penalty as a share of the mean of the centred
    Gram matrix's diagonal over ``channels``, the number of original columns that the K columns stand for.
    """
    sums = make_moments()
    count = sums.count.clamp_min(1.0).view(-1, 1, 1)
    x_mean, y_mean = sums.x.unsqueeze(1) / count, sums.y.unsqueeze(1) / count
    cross = torch.baddbmm(sums.xy, x_mean.mT, count * y_mean, alpha=-1)
    if ridge > 0:
        gram = torch.baddbmm(sums.xx, x_mean.mT, count * x_mean, alpha=-1)
        diagonal = gram.diagonal(dim1=1, dim2=2)
        penalty = ridge * diagonal.sum(1, keepdim=True) / channels
        diagonal += torch.where(penalty > 0, penalty, 1.0)
        factor, _ = torch.linalg.cholesky_ex(gram)
        return LinearMap(x_mean, y_mean, torch.cholesky_solve(cross, factor))
    gram = sums.xx.addcmul_(x_mean.mT, count * x_mean, value=-1)
    diagonal = gram.diagonal(dim1=1, dim2=2)
    largest = diagonal.amax(1, keepdim=True)
    # A column without variance over these rows gets no weight: that is what minimum norm gives it.
    flat = diagonal <= 1e-24 * largest.clamp_min(1e-300)
    diagonal.copy_(torch.where(flat, torch.where(largest > 0, largest, 1.0), diagonal))
    unfactored, info = diagonal.clone(), torch.empty(0, dtype=torch.int32, device=gram.device)
    # In place. The scales of columns do not matter: rounding errors and pivots are compared with each column's own.
    factor, _ = torch.linalg.cholesky_ex(gram, out=(gram, info))
    pivots = (factor.diagonal(dim1=1, dim2=2).square() / unfactored).amin(1)
    halfway = torch.linalg.solve_triangular(factor, cross, upper=False)
    weights = torch.linalg.solve_triangular(factor.mT, halfway, upper=True)
    # Rows with NaN have no solution: theirs stays NaN, and the decomposition, which would raise, leaves them out.
    doubtful = ((info != 0) | ~(pivots > PIVOT)) & unfactored.isfinite().all(1)
    if bool(doubtful.any()):
        del gram, factor, sums
        gram = make_moments().xx.addcmul_(x_mean.mT, count * x_mean, value=-1)
        weights[doubtful] = _minimum_norm(gram[doubtful], cross[doubtful])
    return LinearMap(x_mean, y_mean, weights)


def _minimum_norm(gram: Tensor, cross: Tensor) -> Tensor:
    """Solve normal equations by eigenvalues, without directions as weak as rounding errors."""
    values, vectors = torch.linalg.eigh(gram)
    # Squared: singular values of the columns below 1e-6 of the largest, the cut-off of scikit-learn since 1.9.
    significant = values > _CUTOFF**2 * values[:, -1:]
    inverse = torch.where(significant, 1.0 / torch.where(significant, values, 1.0), 0.0)
    weights: Tensor = vectors @ (inverse.unsqueeze(2) * (vectors.mT @ cross))
    return weights
