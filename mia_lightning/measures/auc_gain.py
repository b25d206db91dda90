"""What correcting for difficulty gains: the primary score's AUC less that of the reconstruction error, paired."""

from mia_lightning.functional.intervals import delong_difference
from mia_lightning.registry import Estimate, MetricInputs, register_metric


def _has_comparison(inputs: MetricInputs) -> bool:
    return inputs.primary != "reconstruction" and "reconstruction" in inputs.scores


@register_metric(
    "auc_gain",
    label="AUC gain",
    sentence="AUC of the primary score less that of the reconstruction error.",
    of="audit",
    bounds=("auc_gain_low", "auc_gain_high"),
    applies=_has_comparison,
    order=80,
)
def auc_gain(inputs: MetricInputs) -> Estimate:
    """Paired difference with its interval (DeLong et al., 1988)."""
    scores = inputs.scores
    compared = scores[inputs.primary], scores["reconstruction"]
    difference = delong_difference(*compared, inputs.member, inputs.level, inputs.group)
    return Estimate(*difference[:3])
