"""Sections of ``validity.py`` on true positives at low false-positive rates: intervals that allow for the threshold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from mia_lightning.functional.intervals import Interval, clopper_pearson
from mia_lightning.functional.operating_point import melded_tpr, tpr_interval
from mia_lightning.functional.roc import tpr_at_fpr

Floats = NDArray[np.float64]
Row = tuple[str, float, float, int, str]
"""What was measured, nominal rate, measured rate, draws, and what stands beside it."""

SIZES = (48, 500, 5000)
RATES = (0.001, 0.01, 0.1)
RESAMPLES = 200
BOOTSTRAPS = {48: 100, 500: 50}  # draws of which a bootstrap is made, which takes long


def melded(small: bool) -> Iterator[Row]:
    """Coverage of the melded interval, beside the proven bounds, Clopper and Pearson's, and a bootstrap."""
    for size, rate, shape in product((150,) if small else SIZES, (0.01,) if small else RATES, _SHAPES):
        draws = 60 if small else 200 if size == SIZES[-1] else 500
        members, true_rate = _SHAPES[shape]
        rng, truth = np.random.default_rng([size, round(1000 * rate)]), true_rate(rate)
        member = np.arange(2 * size) < size
        found: list[list[Interval]] = []
        resampled: list[Interval] = []
        for draw in range(draws):
            scores = np.concatenate([members(rng, size), rng.normal(size=size)])
            hits = tpr_at_fpr(scores, member, rate)[0] * size
            found.append([f(scores, member, rate) for f in (melded_tpr, tpr_interval)] + [clopper_pearson(hits, size)])
            if draw < BOOTSTRAPS.get(size, 0):
                resampled.append(_bootstrap(scores[:size], scores[size:], rate, rng))
        held, width = _summary([row[0] for row in found], truth)
        others = {"proven": [row[1] for row in found], "Clopper-Pearson": [row[2] for row in found]}
        others |= {"bootstrap": resampled} if resampled else {}
        beside = "; ".join("{} {:.3f}, width {:.3f}".format(n, *_summary(i, truth)) for n, i in others.items())
        label = f"TPR {truth:.3f} at {rate:.1%}, {shape}, {size} a side: melded interval holds it"
        yield label, 0.95, held, draws, f"width {width:.3f}; {beside}"


def melded_groups(small: bool) -> Iterator[Row]:
    """The same where samples come in groups of four, which count in place of samples."""
    for groups, within in product((100,) if small else (48, 500), (0.7,) if small else (0.0, 0.3, 0.7, 1.0)):
        for rate in (0.1,) if small else (0.01, 0.1):
            draws = 60 if small else 500
            rng, code = np.random.default_rng([groups, round(10 * within)]), np.repeat(np.arange(2 * groups), 4)
            member, truth = code < groups, float(norm.sf(norm.isf(rate) - 1.0))
            found, alone = [], []
            for _ in range(draws):
                own, shared = rng.normal(size=code.size), rng.normal(size=2 * groups)[code]
                scores = np.sqrt(within) * shared + np.sqrt(1.0 - within) * own + member
                found.append(melded_tpr(scores, member, rate, group=code))
                alone.append(melded_tpr(scores, member, rate))
            held, width = _summary(found, truth)
            beside = "width {:.3f}; taken for independent {:.3f}, width {:.3f}".format(width, *_summary(alone, truth))
            label = f"TPR {truth:.3f} at {rate:.0%}, {groups} groups of 4 a side, correlation {within}: melded interval"
            yield label, 0.95, held, draws, beside


SECTIONS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "melded intervals": melded,
    "melded intervals of groups": melded_groups,
}

_SHAPES: dict[str, tuple[Callable[[np.random.Generator, int], Floats], Callable[[float], float]]] = {
    "no leak": (lambda rng, size: rng.normal(size=size), lambda rate: rate),
    "moved by 1": (lambda rng, size: rng.normal(1.0, 1.0, size), lambda rate: float(norm.sf(norm.isf(rate) - 1.0))),
    "moved by 3": (lambda rng, size: rng.normal(3.0, 1.0, size), lambda rate: float(norm.sf(norm.isf(rate) - 3.0))),
    "a tenth moved by 4": (
        lambda rng, size: rng.normal(size=size) + 4.0 * (rng.random(size) < 0.1),
        lambda rate: 0.1 * float(norm.sf(norm.isf(rate) - 4.0)) + 0.9 * rate,
    ),
    "spread threefold": (
        lambda rng, size: rng.normal(0.0, 3.0, size),
        lambda rate: float(norm.sf(norm.isf(rate) / 3.0)),
    ),
}


def _bootstrap(members: Floats, nonmembers: Floats, rate: float, rng: np.random.Generator) -> Interval:
    """Percentiles of the rate in samples drawn anew from either side."""
    member = np.arange(members.size + nonmembers.size) < members.size
    found = [
        tpr_at_fpr(np.concatenate([rng.choice(side, side.size) for side in (members, nonmembers)]), member, rate)[0]
        for _ in range(RESAMPLES)
    ]
    return Interval(float(np.mean(found)), *np.quantile(found, [0.025, 0.975]).tolist())


def _summary(intervals: list[Interval], truth: float) -> tuple[float, float]:
    """How often they hold the truth, and their mean width."""
    ends = np.array(intervals)[:, 1:]
    return float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()), float((ends[:, 1] - ends[:, 0]).mean())
