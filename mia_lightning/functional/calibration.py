"""Standardised, calibrated and combined errors: scales and regressions fitted on nonmembers, cross-fitted.

Everything here is fitted on nonmembers alone and cross-fitted: samples are dealt into folds, and a sample of fold k,
member or not, is transformed by a fit on the nonmembers outside fold k. No nonmember is transformed by a fit that saw
it, and where members and nonmembers do not differ, both sides are treated alike. With fewer than
:data:`MIN_NONMEMBERS` nonmembers there is no such fit; the fallbacks then look at no label.

Values that are not finite stay out of every fit and come out as NaN.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mia_lightning.functional.folds import assign_folds
from mia_lightning.functional.groups import FEWEST_GROUPS
from mia_lightning.functional.membership import ArrayOrTensor
from mia_lightning.functional.roc import Floats

ERROR_FLOOR = 1e-8
"""Errors below this count as this before a logarithm: float32 cannot tell a perfect prediction from one so good."""

MIN_NONMEMBERS = 20
"""Nonmembers below which nothing is fitted on them alone."""

_HUBER = 1.345  # 95 % of least squares' efficiency on normal residuals (Huber, 1981)
_MAD = 1.4826  # makes the median absolute deviation the standard deviation of a normal variable


class Standardised(NamedTuple):
    """Values in robust units of the nonmembers, and the units used for each sample, all (N,)."""

    values: Floats
    centre: Floats
    scale: Floats
    pooled: bool
    """Whether too few nonmembers forced medians and scales of both sides together."""


def log_error(error: ArrayOrTensor) -> ArrayOrTensor:
    """Natural logarithm of errors, 0 or more, of any shape, floored at :data:`ERROR_FLOOR`; NaN stays NaN.

    NumPy arrays come in float64, tensors in float32 or wider.

    Example:
        >>> log_error(np.array([1.0, 0.0])).round(2).tolist()
        [0.0, -18.42]
    """
    if isinstance(error, torch.Tensor):
        wide = error if error.dtype == torch.float64 else error.float()
        return wide.clamp_min(ERROR_FLOOR).log()
    return np.log(np.maximum(np.asarray(error, dtype=np.float64), ERROR_FLOOR))


def enough_nonmembers(member: ArrayLike, *values: ArrayLike, group: ArrayLike | None = None) -> bool:
    """Whether there are :data:`MIN_NONMEMBERS` nonmembers to fit something on, of six groups where there are groups.

    Args:
        member: (N,) booleans (or 0/1), True for members.
        *values: Any number of (N,) values; only nonmembers with all of them finite count.
        group: Group of each sample, (N,).

    Example:
        >>> enough_nonmembers([True] * 50 + [False] * 10), enough_nonmembers([True] * 50 + [False] * 30)
        (False, True)
    """
    nonmember = ~np.asarray(member, dtype=bool)
    for column in values:
        nonmember = nonmember & np.isfinite(np.asarray(column, dtype=np.float64))
    if group is not None and len(np.unique(np.asarray(group)[nonmember])) < FEWEST_GROUPS:
        return False
    return int(nonmember.sum()) >= MIN_NONMEMBERS


def standardise(
    values: ArrayLike, member: ArrayLike, *, folds: int = 5, seed: int = 0, group: ArrayLike | None = None
) -> Standardised:
    """Express values in robust units of the nonmembers: distance from their median over their scale.

    The scale is 1.4826 times the median absolute deviation. Where that is zero (more than half of the values tie) the
    interquartile range over 1.349 takes its place, then the standard deviation, then 1.

    Args:
        values: (N,) numbers of any unit.
        member: (N,) booleans (or 0/1), True for members.
        folds: Number of folds, at least 2.
        seed: Seed of the folds.
        group: Group of each sample, (N,): no sample is transformed by a fit on others of its group.

    Raises:
        ValueError: If lengths differ or there are fewer than two folds.

    Example:
        >>> z = standardise(np.r_[np.linspace(-1.0, 1.0, 41), 4.0], [False] * 41 + [True])
        >>> z.values[-1].round(2).item(), z.pooled
        (4.84, False)
    """
    member, (values,) = _columns(member, values)
    pooled = not enough_nonmembers(member, values, group=group)
    centre, scale = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    for applied, fitted in cross_fits(values, member, folds=folds, seed=seed, group=group):
        centre[applied], scale[applied] = robust_units(values[fitted])
    return Standardised((values - centre) / scale, centre, scale, pooled)


def calibrated_error(
    reconstruction: ArrayLike,
    predictability: ArrayLike,
    member: ArrayLike,
    *,
    folds: int = 5,
    seed: int = 0,
    group: ArrayLike | None = None,
) -> Floats:
    """What the predictability error does not explain of the reconstruction error; **low means member**.

    The residual of log r on log p, whose slope and intercept are those of nonmembers (:func:`huber_line`). The line
    is fitted and used within the range from the 10th to the 90th percentile of their log p, extended by its length on
    either side, and is flat beyond, so that a constant target (p = 0) does not tilt it.

    Errors are (N,), 0 or more; flags, folds, seed and groups are those of :func:`standardise`.

    Returns:
        The residuals, (N,), a natural logarithm; log r - log p where nonmembers are too few.

    Example:
        >>> p = np.linspace(0.1, 0.4, 41)
        >>> error = calibrated_error(np.r_[p**2, 0.5 * 0.3**2], np.r_[p, 0.3], [False] * 41 + [True])
        >>> error[[0, 20, 41]].round(3).tolist()
        [0.0, 0.0, -0.693]
    """
    member, (r, p) = _columns(member, reconstruction, predictability)
    usable = np.isfinite(r) & np.isfinite(p)
    y, x = log_error(r), log_error(p)
    residual = np.full(y.shape, np.nan)
    residual[usable] = y[usable] - x[usable]
    if enough_nonmembers(member, r, p, group=group):
        for applied, fitted in _splits(member, usable, folds, seed, group):
            tenth, ninetieth = np.quantile(x[fitted], (0.1, 0.9))
            low, high = 2 * tenth - ninetieth, 2 * ninetieth - tenth
            inside = fitted[(x[fitted] >= low) & (x[fitted] <= high)]
            slope, intercept = huber_line(x[inside], y[inside])
            residual[applied] = y[applied] - (intercept + slope * x[applied].clip(low, high))
    return residual


def combine(
    errors: Sequence[ArrayLike],
    member: ArrayLike,
    weights: Sequence[float] | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
    group: ArrayLike | None = None,
) -> Floats:
    """Add several errors in robust units of the nonmembers and turn the sign; **high means member**.

    Errors, any number, are (N,) each and low for members; units may differ. Each has a weight, 1 by default. Flags,
    folds, seed and groups are those of :func:`standardise`.

    Returns:
        Minus the weighted sum of the standardised errors, (N,); NaN where one of the errors is not finite.

    Raises:
        ValueError: If there is no error, lengths differ, or weights are not one finite number an error.

    Example:
        >>> combine([[0.1, 0.2, 0.3], [20.0, 10.0, 30.0]], [True, False, False], weights=[1.0, 0.5]).round(2).tolist()
        [0.67, 0.34, -1.01]
    """
    weights = [1.0] * len(errors) if weights is None else list(weights)
    if not errors:
        raise ValueError("Expected at least one error to combine, but got none.")
    if len(weights) != len(errors) or not np.isfinite(weights).all():
        raise ValueError(f"Expected one finite weight an error, but got {weights} for {len(errors)} errors.")
    member, columns = _columns(member, *errors)
    usable = np.isfinite(columns).all(axis=0)
    total = np.where(usable, 0.0, np.nan)
    kept = None if group is None else np.asarray(group)[usable]
    for weight, column in zip(weights, columns, strict=True):
        units = standardise(column[usable], member[usable], folds=folds, seed=seed, group=kept)
        total[usable] += weight * units.values
    return -total


def combined_score(
    membership_error: ArrayLike,
    neighbour_error: ArrayLike,
    member: ArrayLike,
    *,
    folds: int = 5,
    seed: int = 0,
    group: ArrayLike | None = None,
) -> Floats:
    """``-(z(membership_error) + z(neighbour_error))``, all (N,), as :func:`combine`; z in nonmembers' robust units.

    The first edition of the combined score; :func:`~mia_lightning.functional.combination.surprise_score` followed.

    Example:
        >>> combined_score([0.1, 0.2, 0.4], [-0.5, -0.1, 0.1], [True, False, False]).round(2).tolist()
        [2.02, -0.0, -2.02]
    """
    return combine((membership_error, neighbour_error), member, folds=folds, seed=seed, group=group)


def huber_line(x: Floats, y: Floats) -> tuple[float, float]:
    """Fit a line that no single y can pull far: Huber's M-estimator by reweighted least squares (Huber, 1981).

    Its scale is 1.4826 times the median absolute residual, taken anew at every step; residuals beyond 1.345 scales
    count linearly. The search starts at slope 1 through the medians, which outliers do not affect.

    Returns:
        Slope and intercept for (n,) finite x and y, n at least 1; the slope is 0 where x does not vary.

    Example:
        >>> slope, intercept = huber_line(np.arange(5.0), np.array([1.0, 3.0, 1000.0, 7.0, 9.0]))
        >>> round(slope, 6), round(intercept, 6)
        (2.0, 1.0)
    """
    x0, y0 = _median(x), _median(y)
    dx, dy = x - x0, y - y0  # moments about the middle lose no digits
    moments = np.stack([np.ones_like(dx), dx, dy, dx * dx, dx * dy])
    slope, offset = 1.0, _median(dy - dx)
    smallest = 1e-12 * (1.0 + abs(y0))
    for _ in range(50):  # a dozen usually suffice
        distance = np.abs(dy - offset - slope * dx)
        scale = max(_MAD * _median(distance), smallest)
        one, sx, sy, sxx, sxy = moments @ np.minimum(1.0, _HUBER * scale / np.maximum(distance, smallest))
        spread = sxx - sx * sx / one
        previous = slope, offset
        slope = float((sxy - sx * sy / one) / spread) if spread > 1e-12 * one * (1.0 + x0 * x0) else 0.0
        offset = float((sy - slope * sx) / one)
        if abs(slope - previous[0]) * np.abs(dx).max() + abs(offset - previous[1]) <= 1e-7 * scale:
            break
    return slope, y0 + offset - slope * x0


def cross_fits(
    values: ArrayLike, member: ArrayLike, *, folds: int = 5, seed: int = 0, group: ArrayLike | None = None
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to transform and nonmembers to fit that on, fold by fold; with too few nonmembers all rows at once.

    The arguments are those of :func:`standardise`. Every row with a finite value is transformed once.

    Raises:
        ValueError: If lengths differ or there are fewer than two folds.

    Example:
        >>> fits = cross_fits(np.arange(40.0), np.arange(40) < 10, folds=3)
        >>> [(len(applied), len(fitted)) for applied, fitted in fits]
        [(14, 20), (13, 20), (13, 20)]
    """
    member, (values,) = _columns(member, values)
    usable = np.isfinite(values)
    if enough_nonmembers(member, values, group=group):
        yield from _splits(member, usable, folds, seed, group)
    else:
        rows = np.flatnonzero(usable)
        yield rows, rows


def _splits(
    member: NDArray[np.bool_], usable: NDArray[np.bool_], folds: int, seed: int, group: ArrayLike | None
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to transform and nonmembers to fit on, fold by fold."""
    rows = np.flatnonzero(usable)
    # Only usable rows are dealt: however many are not, every fold keeps its share of nonmembers.
    fold = assign_folds(member[rows], folds, seed, None if group is None else np.asarray(group)[rows])
    for number in range(folds):
        yield rows[fold == number], rows[(fold != number) & ~member[rows]]


def robust_units(values: Floats) -> tuple[float, float]:
    """Median and robust scale of finite numbers; 0 and 1 where there is none.

    Example:
        >>> robust_units(np.array([1.0, 2.0, 3.0, 4.0, 100.0]))
        (3.0, 1.4826)
    """
    if not values.size:
        return 0.0, 1.0
    centre = _median(values)
    least = 1e-12 * abs(centre)  # the standard deviation of equal numbers is a rounding error, not zero
    scale = _MAD * _median(np.abs(values - centre))
    if scale <= least:
        scale = float(np.subtract(*np.quantile(values, (0.75, 0.25)))) / 1.349  # 1 for a normal variable as well
    if scale <= least:
        scale = float(values.std())
    return centre, scale if scale > least else 1.0


def _median(values: Floats) -> float:
    # np.median takes seven times as long on a hundred numbers, and the fits consist of medians.
    low, high = (values.size - 1) // 2, values.size // 2
    ordered = np.partition(values, (low, high))
    return float(ordered[low] + ordered[high]) / 2.0


def _columns(member: ArrayLike, *columns: ArrayLike) -> tuple[NDArray[np.bool_], list[Floats]]:
    flags = np.asarray(member, dtype=bool)
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    for array in arrays:
        if flags.ndim != 1 or array.shape != flags.shape:
            raise ValueError(f"Expected values and flags of one shape (N,), but got {array.shape} and {flags.shape}.")
    return flags, arrays
