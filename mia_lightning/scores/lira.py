"""LiRA: likelihood ratios against reference models (Carlini et al., IEEE Symposium on Security and Privacy 2022)."""

from typing import Literal

import numpy as np

from mia_lightning.functional.roc import Floats
from mia_lightning.registry import ScoreInputs, register_score
from mia_lightning.scores.reference_statistics import (
    ReferenceStatistics,
    fill_missing_sides,
    fill_outside,
    mean_where,
    side_means,
)

Pooled = Literal["auto"] | bool

POOL_BELOW = 32
"""Fewer reference models than this on a side of the median sample: variances are pooled over samples.

Carlini et al. found per-sample variances worth their noise from about 64 reference models on, 32 a side.
"""

VARIANCE_FLOOR = 0.01
"""No variance is smaller than this share of the pooled one: a sample on which models agree is not infinitely sure."""


def lira_online(stats: ReferenceStatistics, *, pooled: Pooled = "auto") -> Floats:
    """Log-likelihood ratio of the audited model's statistic, trained on the sample against not; **high means member**.

    Source: Carlini, Chien, Nasr, Song, Terzis and Tramèr, "Membership Inference Attacks From First Principles", 2022.
    For each sample one Gaussian is fitted to the statistics of the reference models that were trained on it and one
    to those of the others. Departures:

    - pooled variances are squared deviations from each sample's own mean, divided by their degrees of freedom (models
      less one, summed over samples); the authors' code takes the variance of all numbers together, which mixes in
      how much samples differ;
    - a sample that has one model on a side, or none, takes the pooled variance; one that has none on a side takes the
      other side's mean, moved by the mean difference of the sides
      (:func:`~mia_lightning.scores.reference_statistics.fill_missing_sides`);
    - a side on which no sample has two models borrows the other side's pooled variance;
    - no variance falls below :data:`VARIANCE_FLOOR` of the pooled one;
    - means, not the medians of the authors' code, and one query a sample, no augmented copies.

    Args:
        stats: The statistics; :func:`~mia_lightning.scores.reference_statistics.translation_statistic` and
            :func:`~mia_lightning.scores.reference_statistics.segmentation_statistic` make them near enough to Gaussian.
        pooled: True: one variance a side for all samples. False: each sample's own, where it has two models or more
            on the side. ``"auto"``: pooled while the median sample has fewer than :data:`POOL_BELOW` models on
            either side; with two on a side a sample's own variance is noise.

    Returns:
        Log-likelihood ratios in nats, (N,), finite.

    Raises:
        ValueError: If no sample has two models on a side, all models agree on all samples, or no model was trained on
            any of the samples (or every model on all).

    Example:
        >>> included = np.array([[True, False], [True, False], [False, True], [False, True]])
        >>> references = np.array([[2.0, 0.0], [2.2, 0.2], [1.0, 1.2], [1.2, 1.0]])
        >>> lira_online(ReferenceStatistics([2.1, 0.1], references, included)).round(2).tolist()
        [25.0, -25.0]
    """
    inside, outside = fill_missing_sides(*side_means(stats.references, stats.included))
    variance_in, variance_out = _variances(stats, _decide(pooled, stats.in_count, stats.out_count))
    return _log_density(stats.target, inside, variance_in) - _log_density(stats.target, outside, variance_out)


def lira_offline(stats: ReferenceStatistics, *, pooled: Pooled = "auto") -> Floats:
    """Distance of the audited model's statistic above the models not trained on the sample; **high means member**.

    Source: as :func:`lira_online`, the one-sided test that needs no reference model trained on the sample. Departures
    besides those of :func:`lira_online`: the score is the standardised distance itself, not its normal distribution
    function, which grows with it but is 1 in floating point from 8.3 standard deviations on and would tie the surest
    members. With pooled variances the order of the scores is that of the plain distance.

    Models trained on a sample are used only for samples that every model was trained on, and for the pooled variance
    where no sample has two models that were not. The arguments are those of :func:`lira_online`; the distances, (N,),
    are finite and in standard deviations.

    Raises:
        ValueError: If no sample has two models on a side, all models agree on all samples, or every model was trained
            on all samples.

    Example:
        >>> included = np.array([[False, False], [False, False]])
        >>> references = np.array([[1.0, 0.0], [1.2, 0.2]])
        >>> lira_offline(ReferenceStatistics([1.7, 0.1], references, included)).round(2).tolist()
        [4.24, 0.0]
    """
    outside = fill_outside(*side_means(stats.references, stats.included))
    _, variance = _variances(stats, _decide(pooled, stats.out_count))
    return (stats.target - outside) / np.sqrt(variance)


def _decide(pooled: Pooled, *counts: np.ndarray) -> bool:
    if pooled == "auto":
        return any(np.median(count) < POOL_BELOW for count in counts)
    if isinstance(pooled, bool):
        return pooled
    raise ValueError(f'Expected pooled to be True, False or "auto", but got {pooled!r}.')


def _variances(stats: ReferenceStatistics, pooled: bool) -> tuple[Floats, Floats]:
    """Variances of the two sides for each sample, (N,) each."""
    sums = [_within(stats.references, where) for where in (stats.included, ~stats.included)]
    totals = [squares.sum() / freedom.sum() if freedom.sum() else np.nan for squares, freedom in sums]
    if np.isnan(totals).all():
        raise ValueError(
            f"No sample has two reference models on the same side (trained on it, or not), so {stats.count} reference "
            "models say nothing about how much a statistic varies. Train more: at least 4, on random halves and the "
            "complements of these; difficulty calibration needs only one."
        )
    if np.nanmax(totals) <= (1e-12 * np.abs(stats.references).max()) ** 2:
        raise ValueError(
            f"All {stats.count} reference models give the same statistic on every sample, to the last digits, so "
            "likelihoods are undefined. Give each its own seed and its own random half of the samples."
        )
    pair = [np.nanmean(totals) if np.isnan(total) else total for total in totals]
    floor = VARIANCE_FLOOR * float(np.mean(pair))
    chosen = []
    for (squares, freedom), total in zip(sums, pair, strict=True):
        variance = np.full(stats.samples, total)
        if not pooled:
            np.divide(squares, freedom, out=variance, where=freedom > 0)
        chosen.append(np.maximum(variance, floor))
    return chosen[0], chosen[1]


def _within(values: Floats, where: np.ndarray) -> tuple[Floats, Floats]:
    """Squared deviations from each sample's mean over its models, and their degrees of freedom, (N,) each."""
    squares = np.where(where, values - mean_where(values, where), 0.0)
    return np.square(squares).sum(axis=0), np.maximum(where.sum(axis=0) - 1.0, 0.0)


def _log_density(x: Floats, mean: Floats, variance: Floats) -> Floats:
    density: Floats = -0.5 * (np.log(2.0 * np.pi * variance) + np.square(x - mean) / variance)
    return density


@register_score(
    "lira_online",
    label="LiRA online",
    sentence="likelihood ratio of r under reference models with and without the sample (Carlini et al., 2022).",
    needs=frozenset({"references"}),
    order=100,
)
def lira_online_score(inputs: ScoreInputs) -> Floats:
    """LiRA with reference models on both sides."""
    return lira_online(inputs.references.require_both_sides())


@register_score(
    "lira_offline",
    label="LiRA offline",
    sentence="how unlikely r is under reference models without the sample (Carlini et al., 2022).",
    needs=frozenset({"references"}),
    order=110,
)
def lira_offline_score(inputs: ScoreInputs) -> Floats:
    """LiRA with reference models that were not trained on the sample."""
    return lira_offline(inputs.references.statistics)
