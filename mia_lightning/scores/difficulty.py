"""Difficulty calibration by reference models (Watson, Guo, Cormode and Sablayrolles, ICLR 2022)."""

import numpy as np
from numpy.typing import ArrayLike

from mia_lightning.functional.roc import Floats
from mia_lightning.registry import ScoreInputs, register_score
from mia_lightning.scores.reference_statistics import ReferenceStatistics, fill_outside, mean_where, side_means


def difficulty_calibrated(error: ArrayLike, reference_errors: ArrayLike, included: ArrayLike | None = None) -> Floats:
    """Mean error of reference models on a sample, less the audited model's; **high means member**.

    Source: Watson, Guo, Cormode and Sablayrolles, "On the Importance of Difficulty Calibration in Membership Inference
    Attacks", 2022: a sample on which models that never saw it fare badly is hard, whoever was trained on it. One
    reference model is enough. Departures: the authors' reference models see none of the audited samples; ours may be
    trained on halves of them, and only those not trained on a sample stand for its difficulty. A sample that every
    reference model was trained on takes their mean, raised by what training lowers the error on average
    (:func:`~mia_lightning.scores.reference_statistics.fill_missing_sides`); where every model was trained on all
    samples there is nothing to learn that from, and the plain mean over all of them is taken.

    Args:
        error: Errors of the audited model, (N,), in the unit of the scores; logarithms, too.
        reference_errors: Errors of the reference models on the same samples, (R, N), same unit.
        included: Whether reference model r was trained on sample n, (R, N); None: none was trained on any.

    Raises:
        ValueError: If shapes do not fit or an error is not finite.

    Example:
        >>> included = [[False, False], [True, False]]
        >>> difficulty_calibrated([0.1, 0.4], [[0.2, 0.4], [0.1, 0.6]], included).round(3).tolist()
        [0.1, 0.1]
    """
    references = np.asarray(reference_errors, dtype=np.float64)
    trained_on = np.zeros(references.shape, dtype=bool) if included is None else np.asarray(included)
    stats = ReferenceStatistics(np.asarray(error, dtype=np.float64), references, trained_on)
    if stats.included.all():
        expected = mean_where(stats.references, stats.included)
    else:
        expected = fill_outside(*side_means(stats.references, stats.included))
    return expected - stats.target


@register_score(
    "difficulty",
    label="difficulty",
    sentence="the mean error of reference models without the sample, minus r (Watson et al., 2022).",
    needs=frozenset({"references"}),
    order=140,
)
def difficulty_score(inputs: ScoreInputs) -> Floats:
    """Difficulty calibration on the statistics' scale."""
    stats: ReferenceStatistics = inputs.references.statistics
    return difficulty_calibrated(-stats.target, -stats.references, stats.included)
