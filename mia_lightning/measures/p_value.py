"""The permutation p-value of the primary score, and its correction for the number of audits looked at."""

import numpy as np

from mia_lightning.functional.p_values import permutation_p_value
from mia_lightning.registry import MetricInputs, register_metric


@register_metric(
    "p_value",
    label="p-value",
    sentence="chance of such an AUC of the primary score if membership were shuffled.",
    of="audit",
    keys=("p_value", "p_value_corrected"),
    order=70,
)
def p_value(inputs: MetricInputs) -> dict[str, float]:
    """Compute ``p_value``, and ``p_value_corrected`` (Bonferroni) for all audits of the training."""
    primary = inputs.scores[inputs.primary]
    chance = permutation_p_value(primary, inputs.member, seed=inputs.seed, group=inputs.group)
    return {"p_value": chance, "p_value_corrected": float(np.minimum(1.0, inputs.looks * chance))}
