"""P-values and bands for looks that are taken one after the other, by the joint distribution of what they see.

A training is looked at many times, and is stopped when something shows. Each look tests the same shuffles of
membership (Westfall and Young, "Resampling-based multiple testing", 1993), and may add only so many false findings that
all looks up to it have a given share of the error (Lan and DeMets, Biometrika 1983). Of the looks before, one number a
shuffle is enough: the smallest level at which it would have been a finding.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from mia_lightning.functional.roc import Floats

Levels = NDArray[np.float32]
"""The smallest level at which each shuffle would have been called a finding at a look so far, (M,); 1: at none."""


def corrected_levels(statistic: Floats, earlier: Levels, spent: float) -> Levels:
    """Smallest level of the whole training at which each shuffle is a finding at this look, (M,).

    The observed membership is one of the shuffles, the first, say; where scores know nothing of membership it is
    exchangeable with the others. For every level L at once, the shuffles that are findings at this look or were at an
    earlier one are at most ``L * spent * M``, so that the observed one is a false finding at level L, at this look or
    before, with a probability of at most ``L * spent``. Those with the largest statistics are findings first; who was
    one before costs nothing again. With one look and nothing spent elsewhere, it is the permutation p-value.

    Args:
        statistic: Statistic of each shuffle at this look, large for memorization, (M,). Ties count against it.
        earlier: The least of these levels at the looks before, (M,).
        spent: Share of the error that this look and those before may use up, in [0, 1], not falling; with 0 nothing is
            a finding.

    Example:
        >>> levels = corrected_levels(np.array([3.0, 1.0, 2.0, 0.0]), np.ones(4, np.float32), 1.0)
        >>> levels.tolist()
        [0.25, 0.75, 0.5, 1.0]
    """
    total = statistic.size
    if spent <= 0.0:
        return np.ones(total, dtype=np.float32)
    order = np.argsort(-statistic, kind="stable")
    ordered = statistic[order]
    tied = np.concatenate([ordered[:-1] == ordered[1:], [False]]).tolist()
    # The number of findings from which on each shuffle is one of those before; who never was has none.
    first = np.floor(earlier.astype(np.float64) * (spent * total * (1.0 + 1e-6))).astype(int) + 1
    first_in_order = np.where(earlier < 1.0, first, total + 1)[order].clip(max=total + 1).tolist()
    entering = [0] * (total + 2)  # of the shuffles below the border: how many have been findings from a number on
    number, surplus, counts = total, 0, [0] * total
    for border in range(total, 0, -1):
        # surplus = (shuffles above the border) + (those below it that were findings at this number) - number
        while surplus < 0:
            surplus += 1 - entering[number]
            number -= 1
        counts[border - 1] = counts[border] if tied[border - 1] else number
        below = first_in_order[border - 1]
        entering[below] += 1
        surplus += (number >= below) - 1
    levels = np.empty(total, dtype=np.float32)
    levels[order] = np.minimum(1.0, np.array(counts) / (spent * total))
    return levels


_HIGHEST_LEVEL = 1.0 - 1e-12  # of an interval: at 1 it would be the whole range, and its width has no number


def level_of(width: float) -> float:
    """Confidence of one interval that is so many standard errors wide on either side, always below 1.

    Example:
        >>> round(level_of(1.96), 3)
        0.95
        >>> level_of(float("inf")) < 1.0  # a look for which no error is left
        True
    """
    return min(_HIGHEST_LEVEL, 1.0 - 2.0 * float(norm.sf(width)))


def widened_for_few(width: float, units: float, level: float = 0.95) -> float:
    """Half width, in standard errors, of an interval whose standard error is itself an estimate of few units.

    A single interval of ``level`` holds as often as it says with six groups a side already. Further out, where looks
    have to hold together, the estimate of the error has more weight: there the width grows as the quantiles of
    Student's t do beside those of the normal distribution.

    Args:
        width: The width by the normal distribution.
        units: Independent members and nonmembers together, more than two.
        level: Confidence of a single interval, whose width stays as it is.

    Example:
        >>> round(widened_for_few(1.96, 24), 2), round(widened_for_few(2.9, 24), 2), round(widened_for_few(2.9, 300), 2)
        (1.96, 3.07, 2.91)
    """
    single = float(norm.isf((1.0 - level) / 2.0))
    if width <= single or math.isinf(width):
        return width
    tails = t(max(1.0, units - 2.0))
    return float(max(width, tails.isf(norm.sf(width)) / tails.isf((1.0 - level) / 2.0) * single))


def band_width(
    deviations: Floats, outside: NDArray[np.bool_], spent: float, step: float, level: float = 0.95
) -> tuple[float, NDArray[np.bool_]]:
    """Half width, in standard errors, of an interval that holds together with those of all looks.

    Args:
        deviations: Drawn errors of the estimate in standard errors, the same draws at each look, (M,).
        outside: Which draws were outside of the interval of an earlier look, (M,).
        spent: Share of ``1 - level`` that this look and those before may use up.
        step: The share of this look alone, for which the normal distribution is asked where draws are too few.
        level: Confidence of all intervals together.

    Returns:
        The width, never less than that of a single interval of this level, and which draws are outside by now.

    Example:
        >>> draws = np.random.default_rng(0).normal(size=2000)
        >>> width, outside = band_width(draws, np.zeros(2000, bool), spent=0.5, step=0.5)
        >>> round(width, 1), int(outside.sum())
        (2.2, 51)
    """
    size = np.abs(deviations)
    more = math.floor((1.0 - level) * spent * (size.size + 1) + 1e-9) - int(outside.sum())
    inside = np.sort(size[~outside])[::-1]
    alone = float(norm.isf((1.0 - level) * step / 2.0))
    together = float(inside[min(more, inside.size) - 1]) if more > 0 and inside.size else math.inf
    width = max(min(alone, together), float(norm.isf((1.0 - level) / 2.0)))
    return width, outside | (size >= width)
