"""How large a difference between the sides the blind test would have found: what "no difference found" is worth."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from mia_lightning.functional.blind import SIGNIFICANT
from mia_lightning.functional.classifier import SMALLEST_SIDE
from mia_lightning.functional.roc import Floats

_MEASURED = 1.35  # by which trials exceed the formula: 1.2 to 1.5 with 24 to 400 samples a side, 1 to 16 statistics
_BESIDE = 1.07  # by which the shift grows where a second classifier sees 34 further features, as measured
_FITTED = 0.8  # of the samples, by a fit that scores the others
_LARGEST = 20.0  # standard deviations


def detectable_shift(
    members: int,
    nonmembers: int,
    statistics: int,
    *,
    further: bool = False,
    power: float = 0.8,
    level: float = SIGNIFICANT,
) -> float:
    """Shift of one statistic, in standard deviations, that the blind test finds with a given probability.

    The classifier's direction is that of the shift and of the noise in the means of all statistics, by ``statistics *
    (1 / m + 1 / n)`` of the samples fitted on; what is left of the shift in that direction makes an area under the
    ROC, whose standard error is that of two like sides. A factor is measured: in trials with normal statistics, 24 to
    400 samples a side and 1 to 16 statistics, the shift was right within a seventh.

    Args:
        members: Number of members, or of their groups.
        nonmembers: Number of nonmembers, or of their groups.
        statistics: Number of statistics that the classifier sees, 1 or more.
        further: Whether there is a second classifier, which sees further features: two tests share the level.
        power: Probability with which the shift would have been found, in (0, 1).
        level: Level of the test, in (0, 1).

    Returns:
        The shift; NaN with fewer than 4 samples on a side, where there is no test, or no statistic.

    Example:
        >>> round(detectable_shift(48, 48, 7), 2), round(detectable_shift(500, 500, 7), 2)
        (0.95, 0.29)
    """
    if min(members, nonmembers) < SMALLEST_SIDE or statistics < 1:
        return math.nan
    both = 1.0 / members + 1.0 / nonmembers
    noise = statistics * both / _FITTED
    needed = float(norm.isf(level) + norm.ppf(power)) * math.sqrt(both / 12.0)

    def missing(shift: float) -> float:
        kept = shift * shift / math.hypot(shift, math.sqrt(noise))
        return float(norm.cdf(kept / math.sqrt(2.0))) - 0.5 - needed

    if not missing(_LARGEST) > 0.0:
        return math.nan
    return _MEASURED * (_BESIDE if further else 1.0) * float(brentq(missing, 0.0, _LARGEST))


def largest_imbalance(statistics: ArrayLike, member: ArrayLike, rows: NDArray[np.intp]) -> float:
    """Largest difference of the sides' means over some statistics, in standard deviations, on chosen rows.

    Args:
        statistics: (N, d) numbers; a column that is constant counts for nothing.
        member: (N,) booleans, True for members.
        rows: The rows, such as matched ones. The standard deviation is that within sides, of all rows.

    Returns:
        The absolute difference; NaN where the rows lack a side or there is no statistic.

    Example:
        >>> largest_imbalance([[0.0], [2.0], [1.0], [3.0]], [True, True, False, False], np.arange(4))
        1.0
    """
    table, sides = np.asarray(statistics, dtype=np.float64), np.asarray(member, dtype=bool)
    chosen = sides[rows]
    if not table.shape[1] or not chosen.any() or chosen.all():
        return math.nan
    spread: Floats = np.sqrt((table[sides].var(0) + table[~sides].var(0)) / 2.0)
    difference = np.abs(table[rows][chosen].mean(0) - table[rows][~chosen].mean(0))
    varies = spread > 1e-12 * (1.0 + np.abs(table.mean(0)))
    return float((difference[varies] / spread[varies]).max(initial=0.0))
