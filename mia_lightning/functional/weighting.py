"""Combines the errors relative to several neighbours: minimum-variance weights, and a comparison with the easiest.

Which neighbours are informative depends on the images: on road scenes an upside-down copy is a poor neighbour and a
small shift a good one, on cells the reverse. Among nonmembers the error relative to a poor neighbour has a large
variance, and errors relative to similar neighbours are correlated; minimum-variance weights take care of both.
The easiest neighbour asks another question: whether the model is better on the pair than on every copy.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mia_lightning.functional.calibration import enough_nonmembers, robust_units
from mia_lightning.functional.folds import assign_folds
from mia_lightning.functional.roc import Floats

Bools = NDArray[np.bool_]

# Log-ratios beyond so many robust scales are clipped: they come from a failed neighbour, not from the sample.
MOST_SCALES = 3.0
# Weight of the identity in the correlations: with dozens of nonmembers their smallest eigenvalues are noise.
SHRINKAGE = 0.5

SHARPNESS = 12.0
"""Exponent of the soft minimum over neighbours: a copy with an error 8 % above the least weighs 0.4 times as much."""


def weighted_neighbour_error(
    log_ratios: ArrayLike, member: ArrayLike, *, folds: int = 5, seed: int = 0, group: ArrayLike | None = None
) -> Floats:
    """Error relative to several neighbours, weighted for least variance among nonmembers; **low means member**.

    Every column is put in robust units of the nonmembers and winsorised at 3. The weights are those of the average of
    smallest variance, ``C^-1 1``, for the nonmembers' correlations C, shrunk halfway to the identity (Ledoit and Wolf,
    2004, give the idea; half is fixed, measured on three data sets): a member's error is taken to be low relative to
    each neighbour by as many scales. Cross-fitted: weights and scales of a sample are estimated without it.

    With too few nonmembers (see :func:`~mia_lightning.functional.calibration.enough_nonmembers`) scales are those of
    both sides together and all weights equal.

    Log-ratios are log r(x, y) - log r(Tx, Ty) for each of k neighbours T, (N, k); those not finite count as the
    nonmembers' median. Flags, folds, seed and groups are those of :func:`~mia_lightning.functional.folds.assign_folds`.

    Returns:
        One error a sample in about the nonmembers' units, (N,); NaN where no neighbour is left.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> ratios = np.random.default_rng(0).normal(size=(60, 3)) - np.outer(np.arange(60) < 20, [1, 1, 1])
        >>> error = weighted_neighbour_error(ratios, np.arange(60) < 20)
        >>> bool(error[:20].mean() < error[20:].mean() - 0.8)
        True
    """
    table, sides = np.asarray(log_ratios, dtype=np.float64), np.asarray(member, dtype=bool)
    if table.ndim != 2 or sides.shape != table.shape[:1] or not table.shape[1]:
        raise ValueError(f"Expected log-ratios (N, k) and flags (N,), but got {table.shape} and {sides.shape}.")
    finite = np.isfinite(table)
    if not enough_nonmembers(sides, group=group):
        everyone = np.ones_like(sides)
        return np.where(finite.any(1), _units(table, finite, everyone, everyone).mean(1), np.nan)
    fold = assign_folds(sides, folds, seed, group)
    error = np.empty(len(table))
    for number in range(folds):
        here = fold == number
        fitted = ~sides & ~here
        both = _units(table, finite, here | fitted, fitted)
        error[here] = both[here[here | fitted]] @ _weights(both[fitted[here | fitted]])
    return np.where(finite.any(1), error, np.nan)


def easiest_neighbour_error(log_ratios: ArrayLike) -> Floats:
    """Error relative to the easiest neighbours, a soft minimum over them; **low means member**.

    log r(x, y) minus the logarithm of the power mean, of exponent ``-SHARPNESS``, of the r(Tx, Ty): between the
    log-ratio to the neighbour of least error and the mean log-ratio, nearer to the first where errors differ by much
    more than a twelfth. No label is looked at.

    Log-ratios are log r(x, y) - log r(Tx, Ty) for each of k neighbours T, (N, k); those not finite are left out.

    Returns:
        One error a sample in nats, (N,); NaN where no neighbour is left.

    Raises:
        ValueError: If the shape does not fit.

    Example:
        >>> easiest_neighbour_error([[-1.0, -1.0], [-2.0, 0.0]]).round(3).tolist()
        [-1.0, -0.058]
    """
    table = np.asarray(log_ratios, dtype=np.float64)
    if table.ndim != 2 or not table.shape[1]:
        raise ValueError(f"Expected log-ratios (N, k), but got {table.shape}.")
    finite = np.isfinite(table)
    left = finite.any(1)
    kept = np.where(finite, table, -np.inf)
    largest = np.where(left, kept.max(1), 0.0)  # taken out of the powers, which could overflow
    powers = np.exp(SHARPNESS * (kept - largest[:, None])).sum(1)
    mean = np.where(left, powers, 1.0) / np.where(left, finite.sum(1), 1)
    return np.where(left, largest + np.log(mean) / SHARPNESS, np.nan)


def _units(table: Floats, finite: Bools, rows: Bools, fitted: Bools) -> Floats:
    """Some rows in robust units of others, winsorised; missing values become 0."""
    whole = bool(finite.all())
    columns = []
    for column, present in zip(table.T, finite.T, strict=True):
        centre, scale = robust_units(column[fitted if whole else fitted & present])
        columns.append((column[rows] - centre) / scale)
    units = np.stack(columns, 1)
    return np.where(np.isfinite(units), units, 0.0).clip(-MOST_SCALES, MOST_SCALES)


def _weights(units: Floats) -> NDArray[np.float64]:
    """Weights of smallest variance, summing to one."""
    k = units.shape[1]
    centred = units - units.mean(0)
    scale = np.sqrt((centred**2).mean(0))
    scaled = centred / np.where(scale > 1e-9, scale, 1.0)
    correlation = scaled.T @ scaled / len(units)
    weights = np.linalg.solve((1.0 - SHRINKAGE) * correlation + SHRINKAGE * np.eye(k), np.ones(k))
    return np.asarray(weights / weights.sum())
