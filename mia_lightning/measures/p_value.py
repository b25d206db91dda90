"""The permutation p-value of the primary score, and what is left of it after all looks at a training."""

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
    """Compute ``p_value``, and ``p_value_corrected`` for all audits of the training.

    In a training it is that of the joint distribution of all looks (:mod:`~mia_lightning.functional.sequential_tests`).
    Where only the number of audits is known, the p-value counts that many times (Bonferroni).
    """
    primary = inputs.scores[inputs.primary]
    chance = permutation_p_value(primary, inputs.member, seed=inputs.seed, group=inputs.group)
    if inputs.look is not None:
        return {"p_value": chance, "p_value_corrected": max(chance, inputs.look.p_values.get(inputs.primary, 1.0))}
    return {"p_value": chance, "p_value_corrected": float(np.minimum(1.0, inputs.looks * chance))}
