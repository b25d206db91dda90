"""What reference models tell of a sample as one column beside the combined score's, and what it is worth.

A few reference models say little of one sample and much together: on all samples they show by how far a model lies
below others on those that it was trained on, in units of how it scatters on those that it was not. Where training
moves errors far, the column finds members and counts for more; where it moves them little, it is mostly noise.
"""

import numpy as np

from mia_lightning.functional.calibration import robust_units
from mia_lightning.functional.combination import MOST_UNITS, REFERENCE_WEIGHT
from mia_lightning.functional.roc import Floats
from mia_lightning.scores.reference_statistics import (
    Flags,
    ReferenceStatistics,
    fill_missing_sides,
    fill_outside,
    side_means,
)

NATS_OF_SHIFT = 0.7
"""Weight of the column for each unit of the shift, with many reference models; 1 if no other column told the same."""

PRIOR_SAMPLES = 10.0
"""Samples on either side that :data:`REFERENCE_WEIGHT` is worth beside what the others show."""

MOST_WEIGHT = 1.0
"""The audited model may have memorised less than the reference models: the column never drowns the others."""


def error_beside_references(stats: ReferenceStatistics, member: Flags) -> Floats:
    """How far the audited model lies below the middle of the reference models, (N,), in nats; **low means member**.

    The middle of a sample is halfway between the mean of the models that were trained on it and the mean of those
    that were not, so that samples that training moves far are as far from it on either side. A sample without models
    on a side takes the other's mean and a common gap
    (:func:`~mia_lightning.scores.reference_statistics.fill_missing_sides`). Where none was trained on any member, or
    none on any nonmember, it is the mean of those that were not trained on the sample in place of the middle; where
    all were trained on one side, that of those that were; and where neither mean is there for both, that of all.

    Args:
        stats: Minus the logarithms of errors.
        member: True for members, (N,).

    Example:
        >>> included = [[True, False], [False, True]]
        >>> stats = ReferenceStatistics([3.0, 1.0], [[3.0, 0.5], [1.0, 1.5]], included)
        >>> error_beside_references(stats, [True, True]).tolist()
        [-1.0, 0.0]
    """
    inside = np.asarray(member, dtype=bool)
    sides = [stats.included[:, side] for side in (inside, ~inside) if side.any()]
    with_sample, without = side_means(stats.references, stats.included)
    # What stands for a sample is made alike on either side, or the sides would differ without any leak.
    has_with, has_without = all(side.any() for side in sides), not any(side.all() for side in sides)
    if has_with and has_without:
        filled = fill_missing_sides(with_sample, without)
        expected: Floats = (filled[0] + filled[1]) / 2.0
    elif has_without:
        expected = fill_outside(with_sample, without)
    elif has_with:
        expected = with_sample if not np.isnan(with_sample).any() else fill_missing_sides(with_sample, without)[0]
    else:
        expected = stats.references.mean(axis=0)
    return expected - stats.target


def reference_weight(stats: ReferenceStatistics, member: Flags) -> float:
    """Nats that a unit of :func:`error_beside_references` is worth, 0 to :data:`MOST_WEIGHT`, by what models show.

    On the nonmembers each reference model in turn stands for the audited one, which is a model without these samples
    and takes its place beside the others. The shift is the mean of the column over the samples that a model was not
    trained on less that over those that it was, in robust units of the first. The weight is :data:`NATS_OF_SHIFT` times
    the shift, R / (R + 1) of it with R models, since a mean of a few is noise itself. :data:`PRIOR_SAMPLES` more on
    either side have :data:`REFERENCE_WEIGHT`, which is all there is where reference models were trained on none of the
    nonmembers or on all. It is one number for all samples, fitted on all nonmembers and not cross-fitted; no member's
    number is used.

    Args:
        stats: Minus the logarithms of errors.
        member: True for members, (N,).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> included = rng.random((3, 200)) < 0.5
        >>> member, models = np.arange(200) < 100, rng.normal(size=(4, 200))
        >>> models[1:] += 2.0 * included
        >>> round(reference_weight(ReferenceStatistics(models[0], models[1:], included), member), 1)
        0.9
        >>> reference_weight(ReferenceStatistics(models[0], models[1:], np.zeros((3, 200), bool)), member)
        0.25
    """
    columns, coins = [], []
    outside = ~np.asarray(member, dtype=bool)
    models = np.vstack([stats.target, stats.references])[:, outside]
    known = np.vstack([np.zeros_like(outside), stats.included])[:, outside]
    for number in range(1, len(models)):
        others = np.arange(len(models)) != number
        coin = known[number]
        if coin.all() or not coin.any():
            continue
        taken_for_audited = ReferenceStatistics(models[number], models[others], known[others])
        column = error_beside_references(taken_for_audited, np.zeros_like(coin))
        centre, scale = robust_units(column[~coin])
        columns.append(((column - centre) / scale).clip(-MOST_UNITS, MOST_UNITS))
        coins.append(coin)
    if not columns:
        return REFERENCE_WEIGHT
    units, inside = np.concatenate(columns), np.concatenate(coins)
    shift = max(float(units[~inside].mean() - units[inside].mean()), 0.0)
    worth = float(min(inside.sum(), (~inside).sum()))
    weight = NATS_OF_SHIFT * shift * stats.count / (stats.count + 1.0)
    weight = (worth * weight + PRIOR_SAMPLES * REFERENCE_WEIGHT) / (worth + PRIOR_SAMPLES)
    return min(weight, MOST_WEIGHT)
