"""The control of an audit: random halves of each side in place of the sides, where the AUC has to be one half.

One half of the members, and one of the nonmembers, plays the members, the other half the nonmembers, and the score is
made anew by that, with whatever is fitted on nonmembers fitted on those that play them. Halves are drawn at random, so
they differ by nothing but chance: neither memorization nor a difference of the sides can move the control, nor can
samples that depend on each other (drawn at random, the labels are exchangeable whatever the scores).

A miss, an interval without 0.5, therefore shows a fault of the procedure or chance: a score that looks at what a
sample is called (its fit is not kept from what it scores; a registered score of one's own reads the sides), or groups
that are drawn as wholes and are too few or too unequal for the interval. Chance makes one miss in twenty audits; the
audits of one training have the same halves, and miss together. What the control does not show is whether the samples
are independent: who belongs together is said by groups.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mia_lightning.functional.groups import FEWEST_GROUPS, as_codes
from mia_lightning.functional.intervals import Interval, delong_interval
from mia_lightning.registry import Column, GroupNumbers, Sides

_MOST = 20_000
_FEWEST = 8  # samples of a side, of which halves have four


def control_interval(
    score: Callable[[NDArray[np.intp], Sides], Column],
    member: Sides,
    *,
    level: float = 0.95,
    seed: int = 0,
    group: GroupNumbers | None = None,
) -> Interval:
    """AUC of random halves, the mean of that of the members and that of the nonmembers, and its interval.

    The interval is made of those of both sides (Zou and Donner, 2008), which are of different samples: that it holds
    0.5 is one joint test of both.

    Args:
        score: Scores some rows, (R,), of which those flagged, (R,), play the members; as an audit would.
        member: True for members, (N,).
        level: Confidence of the interval.
        seed: Seed of the halves.
        group: Number of each sample's group, (N,): groups are halved as wholes.

    Returns:
        The AUC and its bounds. A side with fewer than 8 samples, or 12 groups, or without a score is left out; NaN
        where both are. Of a side with more than 20,000 samples as many are drawn.

    Example:
        >>> values = np.random.default_rng(0).normal(size=200)
        >>> member = np.arange(200) < 100
        >>> auc, low, high = control_interval(lambda rows, played: values[rows] + member[rows], member)
        >>> low < 0.5 < high
        True
        >>> control_interval(lambda rows, played: values[rows] + played, member).low > 0.6
        True
    """
    found = []
    for side in (True, False):
        rows = np.flatnonzero(member == side)
        codes = np.arange(rows.size) if group is None else as_codes(group[rows], rows.size)
        units = int(codes.max(initial=-1)) + 1
        if units < (_FEWEST if group is None else 2 * FEWEST_GROUPS):
            continue
        place = np.random.default_rng([seed, 3, side]).permutation(units)  # even ones play members
        if rows.size > _MOST:
            drawn = np.cumsum(np.bincount(place[codes])) <= _MOST
            chosen = drawn[place[codes]]
            rows, codes = rows[chosen], codes[chosen]
        played = place[codes] % 2 == 0
        scores = score(rows, played)
        if np.isfinite(scores).all():
            found.append(delong_interval(scores, played, level, None if group is None else group[rows]))
    if not found:
        return Interval(math.nan, math.nan, math.nan)
    auc = sum(one.estimate for one in found) / len(found)
    below = math.hypot(*(one.estimate - one.low for one in found)) / len(found)
    above = math.hypot(*(one.high - one.estimate for one in found)) / len(found)
    return Interval(auc, auc - below, auc + above)
