"""The trained score: a classifier that is told who is a member: an estimate of what attacks reach, and no attack."""

from collections.abc import Mapping

import numpy as np

from mia_lightning.functional.calibration import log_error
from mia_lightning.functional.classifier import cross_fitted_logits, permutation_test
from mia_lightning.registry import Colour, Column, ScoreInputs, register_score


def log_errors(errors: Mapping[str, Column]) -> Column:
    """Features of the classifier, (N, features): logs of the errors of every audit, and what neighbours tell.

    Neighbour errors are differences of logs already; the membership error adds nothing to its two parts. Errors that
    are recorded beside these (``errors=``) do not change the score.
    """
    logs, differences = ("reconstruction", "predictability", "soft_error"), ("neighbour", "weighted_neighbour")
    columns = [log_error(v) if k in logs else v for k, v in errors.items() if k in (*logs, *differences)]
    return np.stack(columns, 1)


def permutation_auc(inputs: ScoreInputs) -> tuple[float, float]:
    """AUC and p-value: cross-fitting breaks the assumptions of DeLong's interval."""
    test = permutation_test(log_errors(inputs.errors), inputs.member, seed=inputs.seed, group=inputs.group)
    return test.auc, test.p_value


@register_score(
    "trained",
    label="trained",
    sentence="a cross-fitted classifier that is told who is a member (estimate): about what attacks on the same errors "
    "could reach, and no attack. With few samples the best of them reach more.",
    errors=("reconstruction", "predictability"),
    attack=False,
    interval=False,
    own_test=permutation_auc,
    remark="told who is a member (estimate)",
    colour=Colour("#000000", "#f2f2f2"),
    order=60,
)
def trained(inputs: ScoreInputs) -> Column:
    """Log-odds of membership by a cross-fitted logistic regression on the logs of all errors, (N,)."""
    return cross_fitted_logits(log_errors(inputs.errors), inputs.member, seed=inputs.seed, group=inputs.group)
