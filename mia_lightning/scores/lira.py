"""LiRA: likelihood ratios against reference models (Carlini et al., IEEE Symposium on Security and Privacy 2022)."""

from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import t as student

from mia_lightning.functional.calibration import robust_units
from mia_lightning.functional.roc import Floats
from mia_lightning.registry import ScoreInputs, register_score
from mia_lightning.scores.reference_statistics import (
    ReferenceStatistics,
    fill_missing_sides,
    fill_outside,
    mean_where,
    side_means,
)
from mia_lightning.scores.variance_prior import VariancePrior, fit_variance_prior

Pooled = Literal["auto", "bayes"] | bool

POOL_BELOW = 32
"""Fewer reference models than this on a side of the median sample: variances are pooled over samples.

Carlini et al. found per-sample variances worth their noise from about 64 reference models on, 32 a side.
"""

VARIANCE_FLOOR = 0.01
"""No variance is smaller than this share of the pooled one: a sample on which models agree is not infinitely sure."""

FREEDOM_UNKNOWN = 4.0
"""Degrees of freedom of the prior of variances where no two models say how these differ from sample to sample."""


class Predictive(NamedTuple):
    """Student's t distributions of one more model's statistic on each sample, (N,) each."""

    freedom: Floats
    centre: Floats
    scale: Floats


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

    ``pooled="bayes"`` follows BaVarIA-t (Brännvall, "Exponential-Family Membership Inference: From LiRA and RMIA to
    BaVarIA", arXiv 2603.11799, 2026): variances have a conjugate prior, and densities are the Student t predictive
    ones, which allow for what so few models leave unknown of mean and variance. Choices made here, not theirs:

    - the prior of a side is fitted to all samples' variances
      (:func:`~mia_lightning.scores.variance_prior.fit_variance_prior`); that of means is flat, since samples differ
      in difficulty by far more than models differ on one;
    - a sample that has no model on a side takes the other side's mean and the gap, as above, at the worth of one model;
    - where no sample has two models on a side, so with one model or two mirrored ones, the variance is that of the
      audited model about the models of each sample (robust, over all samples, whoever is a member), and the prior is
      worth :data:`FREEDOM_UNKNOWN` deviations. The order of the scores is then nearly that of the plain distance.

    Args:
        stats: The statistics; :func:`~mia_lightning.scores.reference_statistics.translation_statistic` and
            :func:`~mia_lightning.scores.reference_statistics.segmentation_statistic` make them near enough to Gaussian.
        pooled: True: one variance a side for all samples. False: each sample's own, where it has two models or more
            on the side. ``"auto"``: pooled while the median sample has fewer than :data:`POOL_BELOW` models on
            either side; with two on a side a sample's own variance is noise. ``"bayes"``: between both, as above;
            ``"auto"`` comes to it where no sample has two models on a side.

    Returns:
        Log-likelihood ratios in nats, (N,), finite.

    Raises:
        ValueError: If no sample has two models on a side and ``pooled`` is True or False, all models agree on all
            samples, or no model was trained on any of the samples (or every model on all).

    Example:
        >>> included = np.array([[True, False], [True, False], [False, True], [False, True]])
        >>> references = np.array([[2.0, 0.0], [2.2, 0.2], [1.0, 1.2], [1.2, 1.0]])
        >>> lira_online(ReferenceStatistics([2.1, 0.1], references, included)).round(2).tolist()
        [25.0, -25.0]
    """
    inside, outside = fill_missing_sides(*side_means(stats.references, stats.included))
    how = _decide(pooled, stats, stats.in_count, stats.out_count)
    if how == "bayes":
        with_it, without = _predictive(stats, inside, outside)
        return _log_density_of(with_it, stats.target) - _log_density_of(without, stats.target)
    variance_in, variance_out = _variances(stats, how)
    return _log_density(stats.target, inside, variance_in) - _log_density(stats.target, outside, variance_out)


def lira_offline(stats: ReferenceStatistics, *, pooled: Pooled = "auto") -> Floats:
    """Distance of the audited model's statistic above the models not trained on the sample; **high means member**.

    Source: as :func:`lira_online`, the one-sided test that needs no reference model trained on the sample. Departures
    besides those of :func:`lira_online`: the score is the standardised distance itself, not its normal distribution
    function, which grows with it but is 1 in floating point from 8.3 standard deviations on and would tie the surest
    members. With pooled variances the order of the scores is that of the plain distance.

    Models trained on a sample are used only for samples that every model was trained on, and for the pooled variance
    where no sample has two models that were not. The arguments are those of :func:`lira_online`; the distances, (N,),
    are finite and in standard deviations. With ``pooled="bayes"`` they are the normal deviates that are about as rare
    as the Student t ones (Wallace, "Bounds on normal approximations to Student's and the chi-square distributions",
    1959), so that samples of which more is unknown compare with others. One model is enough.

    Raises:
        ValueError: If no sample has two models on a side and ``pooled`` is True or False, all models agree on all
            samples, or every model was trained on all samples.

    Example:
        >>> included = np.array([[False, False], [False, False]])
        >>> references = np.array([[1.0, 0.0], [1.2, 0.2]])
        >>> lira_offline(ReferenceStatistics([1.7, 0.1], references, included)).round(2).tolist()
        [4.24, 0.0]
    """
    inside, outside = side_means(stats.references, stats.included)
    outside = fill_outside(inside, outside)
    how = _decide(pooled, stats, stats.out_count)
    if how == "bayes":
        return _deviates(_predictive(stats, inside, outside)[1], stats.target)
    _, variance = _variances(stats, how)
    return (stats.target - outside) / np.sqrt(variance)


def _decide(pooled: Pooled, stats: ReferenceStatistics, *counts: np.ndarray) -> bool | Literal["bayes"]:
    if pooled == "auto":
        if max(stats.in_count.max(), stats.out_count.max()) < 2:
            return "bayes"
        return any(bool(np.median(count) < POOL_BELOW) for count in counts)
    if isinstance(pooled, bool) or pooled == "bayes":
        return pooled
    raise ValueError(f'Expected pooled to be True, False, "bayes" or "auto", but got {pooled!r}.')


def _predictive(stats: ReferenceStatistics, *centres: Floats) -> tuple[Predictive, Predictive]:
    """Distributions of the statistic of a model trained on each sample, and of one that was not; centres likewise."""
    sides = [(where, *_within(stats.references, where)) for where in (stats.included, ~stats.included)]
    least = _rounding(stats)
    priors = [
        fit_variance_prior(squares, freedom) if squares.sum() > least * freedom.sum() else None
        for _, squares, freedom in sides
    ]
    common = priors[0] or priors[1] or _prior_of_distances(stats)
    found = []
    for (where, squares, freedom), prior, centre in zip(sides, priors, centres, strict=True):
        known, variance = (prior or common).posterior(squares, freedom)
        models = np.maximum(where.sum(axis=0), 1)
        found.append(Predictive(known, centre, np.sqrt(variance * (1.0 + 1.0 / models))))
    return found[0], found[1]


def _prior_of_distances(stats: ReferenceStatistics) -> VariancePrior:
    """Variance of a model, from how far the audited one lies from the reference models of each sample."""
    if max(stats.in_count.max(), stats.out_count.max()) > 1:
        raise _agreement(stats)
    distances = stats.target - stats.references
    scales = [robust_units(distances[where])[1] for where in (stats.included, ~stats.included) if where.any()]
    return VariancePrior(FREEDOM_UNKNOWN, float(np.mean(np.square(scales))) / 2.0)


def _log_density_of(predictive: Predictive, x: Floats) -> Floats:
    return np.asarray(student.logpdf(x, predictive.freedom, predictive.centre, predictive.scale))


def _deviates(predictive: Predictive, x: Floats) -> Floats:
    """Normal deviates about as rare as x under Student's t distributions, (N,): finite however far out."""
    freedom, distance = predictive.freedom, (x - predictive.centre) / predictive.scale
    shrunk = np.sqrt(freedom * np.log1p(np.square(distance) / freedom)) * (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0)
    deviates: Floats = np.sign(distance) * shrunk
    return deviates


def _variances(stats: ReferenceStatistics, pooled: bool) -> tuple[Floats, Floats]:
    """Variances of the two sides for each sample, (N,) each."""
    sums = [_within(stats.references, where) for where in (stats.included, ~stats.included)]
    totals = [squares.sum() / freedom.sum() if freedom.sum() else np.nan for squares, freedom in sums]
    if np.isnan(totals).all():
        raise ValueError(
            f"No sample has two reference models on the same side (trained on it, or not), so {stats.count} reference "
            "models say nothing about how much a statistic varies. Train more: at least 4, on random halves and the "
            'complements of these, or pass pooled="bayes"; that and difficulty calibration need only one.'
        )
    if np.nanmax(totals) <= _rounding(stats):
        raise _agreement(stats)
    pair = [np.nanmean(totals) if np.isnan(total) else total for total in totals]
    floor = VARIANCE_FLOOR * float(np.mean(pair))
    chosen = []
    for (squares, freedom), total in zip(sums, pair, strict=True):
        variance = np.full(stats.samples, total)
        if not pooled:
            np.divide(squares, freedom, out=variance, where=freedom > 0)
        chosen.append(np.maximum(variance, floor))
    return chosen[0], chosen[1]


def _rounding(stats: ReferenceStatistics) -> float:
    """Variance that rounding alone makes."""
    return float((1e-12 * np.abs(stats.references).max()) ** 2)


def _agreement(stats: ReferenceStatistics) -> ValueError:
    return ValueError(
        f"All {stats.count} reference models give the same statistic on every sample, to the last digits, so "
        "likelihoods are undefined. Give each its own seed and its own random half of the samples."
    )


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
