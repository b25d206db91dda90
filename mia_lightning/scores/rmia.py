"""RMIA: likelihood ratios of a sample against those of a population (Zarifzadeh, Liu and Shokri, ICML 2024)."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_expit
from scipy.stats import rankdata

from mia_lightning.functional.roc import Floats
from mia_lightning.registry import ScoreInputs, register_score
from mia_lightning.scores.reference_statistics import (
    Flags,
    Likelihood,
    ReferenceStatistics,
    as_flags,
    fill_missing_sides,
    fill_outside,
)

OFFLINE_A = 0.3
"""Weight of the reference models' confidence in the offline estimate.

The authors' value for CIFAR-10. With one reference model of segmenters of road scenes and blood cells it found members
better than 1 in 12 of 14 trials, by 0.03 of the area under the ROC on average; 0 did as well, 0.6 a little worse.
"""


def rmia_online(
    stats: ReferenceStatistics, population: ArrayLike, *, likelihood: Likelihood, gamma: float = 1.0
) -> Floats:
    """Share of a population that a sample's likelihood ratio beats, models trained on it known; **high means member**.

    Source: Zarifzadeh, Liu and Shokri, "Low-Cost High-Power Membership Inference Attacks", 2024. The ratio of a
    sample x is p(x | audited model) / p(x), where p(x) is the average of two means: over the reference models that
    were trained on x and over those that were not. The score is the share of population samples z whose ratio is
    more than ``gamma`` times smaller. The population here is the nonmembers of the audit, each left out of its own
    comparison. Departures:

    - population samples get their p(z) as x does, both sides averaged; the authors' population lies outside every
      model's training set;
    - ``gamma`` is 1, the authors' main choice 2: with a few dozen samples, and means over an image's pixels, ratios
      differ by less than a factor of two and nearly all shares would be 0;
    - shares tie, at 1 above all, where the surest members are. The rank of the ratio splits the ties: with n
      population samples the score is (number beaten + rank of the ratio / (N + 1)) / (n + 1), at most 2 / (n + 1) off.
      A share never falls as the ratio grows, so the scores stand in the order of the ratios and their ROC is the
      same for every ``gamma``;
    - a sample with no model on a side takes the other side's mean, moved by the geometric mean ratio of the sides; a
      confidence stays at most 1.

    Args:
        stats: The statistics.
        population: Booleans, (N,): the samples to compare with, known not to be members; at least 2.
        likelihood: What the statistic stands for. ``"confidence"``: it is a logit and the likelihood its sigmoid, the
            mean confidence in the true class (segmentation). ``"inverse_error"``: it is minus the logarithm of an
            error, and one over that error stands in for a likelihood (translation).
        gamma: How many times smaller a ratio must be to count as beaten, at least 1.

    Returns:
        Scores in (0, 1), (N,).

    Raises:
        ValueError: If an argument is out of range, fewer than 2 samples form the population, or a side is empty for
            every sample.

    Example:
        >>> included = np.array([[True, False, True, False], [False, True, False, True]])
        >>> references = -np.log([[0.1, 0.2, 0.1, 0.2], [0.2, 0.1, 0.2, 0.1]])
        >>> stats = ReferenceStatistics(-np.log([0.05, 0.2, 0.1, 0.2]), references, included)
        >>> rmia_online(stats, [False, True, True, True], likelihood="inverse_error").round(2).tolist()
        [0.95, 0.08, 0.65, 0.08]
    """
    logs, audited = _log_likelihoods(stats, likelihood)
    inside, outside = fill_missing_sides(_log_mean(logs, stats.included), _log_mean(logs, ~stats.included))
    marginal = np.logaddexp(_capped(inside, likelihood), _capped(outside, likelihood)) - np.log(2.0)
    return _share_beaten(audited - marginal, _population(population, stats.samples), gamma)


def rmia_offline(
    stats: ReferenceStatistics,
    population: ArrayLike,
    *,
    likelihood: Likelihood,
    a: float | None = None,
    gamma: float = 1.0,
) -> Floats:
    """Share of a population that a sample's likelihood ratio beats, from models not trained on it; **high: member**.

    Source and departures as :func:`rmia_online`, with p(x) from the models that were not trained on x. Those alone
    would rate p(x) too low; the authors guess that training on x lifts a confidence p to a·p + 1 − a, so that the
    average of both is ((1 + a)·p + 1 − a) / 2. An inverse error has no upper end to be lifted towards: there a is 1
    and p(x) is the plain mean.

    Models trained on a sample are used only for samples that every model was trained on. The weight ``a`` lies in
    [0, 1]; None takes :data:`OFFLINE_A` for confidences and 1 for inverse errors. The other arguments and the scores,
    in (0, 1), are those of :func:`rmia_online`.

    Raises:
        ValueError: If an argument is out of range, fewer than 2 samples form the population, or every model was
            trained on all samples.

    Example:
        >>> from mia_lightning.scores.reference_statistics import segmentation_statistic
        >>> audited, reference = segmentation_statistic([0.1, 0.2, 0.3]), segmentation_statistic([[0.2, 0.2, 0.25]])
        >>> stats = ReferenceStatistics(audited, reference, [[False] * 3])
        >>> rmia_offline(stats, [False, True, True], likelihood="confidence").round(2).tolist()
        [0.92, 0.5, 0.08]
    """
    logs, audited = _log_likelihoods(stats, likelihood)
    if a is None:
        a = OFFLINE_A if likelihood == "confidence" else 1.0
    if not 0.0 <= a <= 1.0:
        raise ValueError(f"Expected a in [0, 1], but got {a}.")
    if likelihood == "inverse_error" and a != 1.0:
        raise ValueError(f"An inverse error is no probability that could be mixed with 1: leave a at 1, not {a}.")
    marginal = fill_outside(_log_mean(logs, stats.included), _log_mean(logs, ~stats.included))
    if a < 1.0:
        marginal = np.log(0.5 * ((1.0 + a) * np.exp(_capped(marginal, likelihood)) + 1.0 - a))
    return _share_beaten(audited - marginal, _population(population, stats.samples), gamma)


def _log_likelihoods(stats: ReferenceStatistics, likelihood: Likelihood) -> tuple[Floats, Floats]:
    """Logarithms of the likelihoods of the reference models, (R, N), and of the audited model, (N,)."""
    if likelihood == "confidence":
        return log_expit(stats.references), log_expit(stats.target)
    if likelihood == "inverse_error":
        return stats.references, stats.target
    raise ValueError(f"Unknown likelihood {likelihood!r}; choose one of confidence, inverse_error.")


def _log_mean(logs: Floats, where: Flags) -> Floats:
    """Logarithm of the mean likelihood over the chosen models, (N,); NaN where no model counts."""
    count = where.sum(axis=0)
    total = np.logaddexp.reduce(np.where(where, logs, -np.inf), axis=0)
    return np.where(count > 0, total - np.log(np.maximum(count, 1)), np.nan)


def _capped(logs: Floats, likelihood: Likelihood) -> Floats:
    # Only a borrowed side can be a confidence above 1.
    return np.minimum(logs, 0.0) if likelihood == "confidence" else logs


def _population(population: ArrayLike, samples: int) -> Flags:
    chosen = as_flags(population, "population", (samples,))
    if chosen.sum() < 2:
        raise ValueError(
            f"Expected at least 2 samples in the population (nonmembers to compare with), but got {int(chosen.sum())} "
            f"of {samples}."
        )
    return chosen


def _share_beaten(ratio: Floats, population: Flags, gamma: float) -> Floats:
    if not (gamma >= 1.0 and np.isfinite(gamma)):
        raise ValueError(f"Expected a gamma of at least 1, but got {gamma}.")
    # Strictly beaten, so that no sample beats itself and equal ratios get equal scores whichever side they are on.
    beaten = np.searchsorted(np.sort(ratio[population]) + np.log(gamma), ratio, side="left")
    score: Floats = (beaten + rankdata(ratio) / (ratio.size + 1.0)) / (population.sum() + 1.0)
    return score


@register_score(
    "rmia_online",
    label="RMIA online",
    sentence="pairwise likelihood ratios with reference models on either side (Zarifzadeh et al., 2024).",
    needs=frozenset({"references"}),
    order=120,
)
def rmia_online_score(inputs: ScoreInputs) -> Floats:
    """RMIA with reference models on both sides; the population is the audit's nonmembers."""
    references = inputs.references
    return rmia_online(references.require_both_sides(), ~inputs.member, likelihood=references.likelihood)


@register_score(
    "rmia_offline",
    label="RMIA offline",
    sentence="pairwise likelihood ratios with reference models without the sample (Zarifzadeh et al., 2024).",
    needs=frozenset({"references"}),
    order=130,
)
def rmia_offline_score(inputs: ScoreInputs) -> Floats:
    """RMIA with reference models that were not trained on the sample; the population is the audit's nonmembers."""
    references = inputs.references
    return rmia_offline(references.statistics, ~inputs.member, likelihood=references.likelihood)
