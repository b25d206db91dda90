"""Sections of ``validity.py`` on single audits: rates at few false positives, intervals near 1, epsilon, flags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from mia_lightning.functional.combination import DIFFICULTY_WEIGHT, surprise, surprise_score
from mia_lightning.functional.gaussian_privacy import gaussian_epsilon, gaussian_one_run_bound
from mia_lightning.functional.intervals import (
    Interval,
    clopper_pearson,
    delong_difference,
    delong_interval,
    delong_variance,
    paired_interval,
)
from mia_lightning.functional.operating_point import population_fpr, tpr_interval
from mia_lightning.functional.privacy import one_run_bound
from mia_lightning.functional.roc import roc_auc, tpr_at_fpr

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Row = tuple[str, float, float, int, str]
"""What was measured, nominal rate, measured rate, draws, and what stands beside it."""

SIZES = (20, 48, 150, 500)
AREAS = (0.5, 0.6, 0.8, 0.95, 0.985)
FPR = 0.01
ALIKE = 0.8
"""Correlation of two of the columns that neighbours give."""
DEVIATE = float(norm.ppf(0.975))


def true_positives(small: bool) -> Iterator[Row]:
    """Bounds of the true-positive rate at a false-positive rate of 1 %, and the limit of the rate behind it."""
    draws = 100 if small else 2000
    for shape, size in product(_SHAPES, (150,) if small else (99, 150, 500)):
        members, nonmembers, threshold = _SHAPES[shape]
        rng = np.random.default_rng(size)
        truth = float((members(rng, 400_000) > threshold).mean())
        member = np.arange(2 * size) < size
        held = alone = below = 0
        for _ in range(draws):
            scores = np.concatenate([members(rng, size), nonmembers(rng, size)])
            rate, low, high = tpr_interval(scores, member, FPR)
            held += low <= truth <= high
            plain = clopper_pearson(rate * size, size)
            alone += plain.low <= truth <= plain.high
            allowed = int(tpr_at_fpr(scores, member, FPR)[1] * size)
            at = np.sort(scores[~member])[-1 - allowed]
            below += float((nonmembers(rng, 20_000) > at).mean()) <= population_fpr(size, FPR).high
        beside = f"Clopper-Pearson alone {alone / draws:.3f}"
        yield f"TPR at 1 %, {shape}, {size} a side: bounds hold it", 0.95, held / draws, draws, beside
        yield f"FPR behind 1 %, {shape}, {size}: below its limit", 0.975, below / draws, draws, ""


def intervals(small: bool) -> Iterator[Row]:
    """Coverage of the AUC's interval in the worst of all pairs of sizes, and where it is."""
    draws = 60 if small else 1000
    sizes = (20, 150) if small else SIZES
    for area in AREAS[2:] if small else AREAS:
        cells = {pair: _coverage(area, *pair, draws) for pair in product(sizes, sizes)}
        worst = min(cells, key=lambda pair: cells[pair][0])
        alone = min(cell[1] for cell in cells.values())
        widths = ", ".join(f"{cells[n, n][2]:.3f} at {n}" for n in sizes)
        beside = f"worst at {worst[0]} + {worst[1]}; DeLong alone {alone:.3f}; widths {widths} a side"
        yield f"interval of AUC {area:g}, worst of {len(cells)} pairs of sizes", 0.94, cells[worst][0], draws, beside


def fitted_scores(small: bool) -> Iterator[Row]:
    """Coverage of the interval of ``combined``, which is fitted on the nonmembers, and of what it gains.

    With one column of neighbours, and with three that resemble each other, as audits have them.
    """
    draws = 60 if small else 1000
    pairs = ((48, 48),) if small else ((20, 20), (48, 48), (150, 48), (500, 48), (48, 150), (150, 150))
    areas = (0.985,) if small else (0.5, 0.95, 0.985)
    for count, area, (members, nonmembers) in product((3,) if small else (1, 3), areas, pairs):
        rng = np.random.default_rng(members + nonmembers)
        shift, member = float(norm.ppf(area)), np.arange(members + nonmembers) < members
        truth = _combined_area(shift, count)
        gain = truth - float(norm.cdf(shift / np.sqrt(2.0)))
        found: list[tuple[float, float, float, float]] = []
        for _ in range(draws):
            first, neighbours = _parts_of_combined(rng, shift, member, count)
            score = surprise_score(neighbours, [first], member, seed=0)
            interval, plain = delong_interval(score, member), delong_difference(score, -first, member)
            paired = paired_interval(score, -first, member)
            held = interval.low <= truth <= interval.high, paired.low <= gain <= paired.high
            found.append((interval.estimate - truth, *held, plain.low <= gain <= plain.high))
        bias, held_area, held_gain, plain_gain = np.mean(np.array(found, dtype=np.float64), axis=0)
        sizes = f"{members} + {nonmembers}, {count} of neighbours"
        beside = f"bias {bias:+.4f}"
        yield f"interval of combined, AUC {truth:.3f}, {sizes}", 0.95, float(held_area), draws, beside
        beside = f"DeLong alone {plain_gain:.3f}"
        yield f"its gain over one of its parts, {sizes}", 0.95, float(held_gain), draws, beside


def _parts_of_combined(
    rng: np.random.Generator, shift: float, member: Bools, count: int
) -> tuple[Floats, list[Floats]]:
    """Error relative to difficulty, and ``count`` relative to neighbours, in which members are lower by ``shift``."""
    first, second = rng.normal(size=(2, member.size)) - shift * member
    if count == 1:
        return first, [second]
    centred = second + shift * member
    own = rng.normal(size=(count, member.size))
    return first, list(np.sqrt(ALIKE) * centred + np.sqrt(1.0 - ALIKE) * own - shift * member)


def _combined_area(shift: float, count: int, size: int = 400_000) -> float:
    """AUC of ``combined`` fitted on endless nonmembers, members being lower by ``shift`` in all of its columns."""
    member = np.arange(2 * size) < size
    first, neighbours = _parts_of_combined(np.random.default_rng(0), shift, member, count)
    surprises = np.mean([surprise(-column) for column in neighbours], axis=0)
    return roc_auc(surprises - DIFFICULTY_WEIGHT * first, member)


def epsilon(small: bool) -> Iterator[Row]:
    """How often the one-run bound exceeds the epsilon of randomised response, which is the most revealing there is."""
    draws = 60 if small else 2000
    for size, delta, truth in product((150,) if small else (60, 150, 500), (0.0, 1e-5), (0.0, 1.0, 4.0)):
        rng = np.random.default_rng(size)
        bounds = []
        for _ in range(draws):
            member = rng.random(size) < 0.5
            right = rng.random(size) < 1.0 / (1.0 + np.exp(-truth))
            scores = np.where(right, member, ~member) + 0.01 * rng.normal(size=size)
            bounds.append(one_run_bound(scores, member, delta=delta).epsilon)
        beside = f"median {np.median(bounds):.2f}"
        above = float((np.array(bounds) > truth).mean())
        yield f"epsilon above {truth:g}, {size} samples, delta {delta:g}", 0.05, above, draws, beside


def gaussian_privacy(small: bool) -> Iterator[Row]:
    """How often the f-DP bound exceeds the mu of a Gaussian mechanism, and what both bounds make of it."""
    draws = 60 if small else 2000
    for size, truth in product((150,) if small else (60, 150, 500, 5000), (0.0, 0.5, 1.0, 2.0)):
        rng = np.random.default_rng(size)
        found = []
        for _ in range(draws if size < 5000 else draws // 10):
            member = rng.random(size) < 0.5
            scores = truth * member + rng.normal(size=size)
            bound = gaussian_one_run_bound(scores, member, delta=1e-5)
            found.append((bound.mu, bound.epsilon, one_run_bound(scores, member, delta=1e-5).epsilon))
        mu, epsilon, any_mechanism = np.median(found, axis=0)
        beside = (
            f"median {mu:.2f}: epsilon {epsilon:.2f} of {gaussian_epsilon(truth, 1e-5):.2f}; "
            f"without a known mechanism {any_mechanism:.2f}"
        )
        above = float((np.array(found)[:, 0] > truth).mean())
        yield f"mu above {truth:g}, {size} samples", 0.05, above, len(found), beside


SECTIONS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "true positives at few false ones": true_positives,
    "intervals of the AUC": intervals,
    "intervals of fitted scores": fitted_scores,
    "epsilon": epsilon,
    "Gaussian privacy": gaussian_privacy,
}

Drawn = Callable[[np.random.Generator, int], Floats]
_SHAPES: dict[str, tuple[Drawn, Drawn, float]] = {
    "normal": (
        lambda rng, size: rng.normal(1.5, 1.0, size),
        lambda rng, size: rng.normal(size=size),
        float(norm.isf(FPR)),
    ),
    "heavy tails": (
        lambda rng, size: 3.0 + 3.0 * rng.pareto(2.0, size),
        lambda rng, size: 1.0 + rng.pareto(2.0, size),
        FPR**-0.5,
    ),
    "a tenth exposed": (
        lambda rng, size: rng.normal(size=size) + 4.0 * (rng.random(size) < 0.1),
        lambda rng, size: rng.normal(size=size),
        float(norm.isf(FPR)),
    ),
}


def _coverage(area: float, members: int, nonmembers: int, draws: int) -> tuple[float, float, float]:
    """Coverage of the interval, that of DeLong's alone, and the mean width."""
    rng = np.random.default_rng([members, nonmembers, round(1000 * area)])
    member = np.arange(members + nonmembers) < members
    shift = np.sqrt(2.0) * float(norm.ppf(area))
    held = alone = 0
    width = 0.0
    for _ in range(draws):
        scores = rng.normal(size=member.size) + shift * member
        found = delong_interval(scores, member)
        plain = _delong_alone(scores, member.astype(np.float64), found)
        held += found.low <= area <= found.high
        alone += plain.low <= area <= plain.high
        width += found.high - found.low
    return held / draws, alone / draws, width / draws


def _delong_alone(scores: Floats, member: Floats, found: Interval) -> Interval:
    """DeLong's interval on the logit scale, where it has a variance."""
    area, variance = delong_variance(scores, member)
    if not variance > 0.0 or area in (0.0, 1.0):
        return found
    half = DEVIATE * np.sqrt(variance) / (area * (1.0 - area))
    odds = np.log(area / (1.0 - area))
    return Interval(area, float(1.0 / (1.0 + np.exp(half - odds))), float(1.0 / (1.0 + np.exp(-half - odds))))
