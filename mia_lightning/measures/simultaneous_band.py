"""Intervals of the AUC that hold at all looks at a training together."""

from mia_lightning.measures.auc import auc
from mia_lightning.registry import MetricInputs, register_metric


@register_metric(
    "simultaneous_band",
    label="AUC, all looks",
    sentence="interval of the AUC that holds together with those of all other looks at the training.",
    of="audit",
    one_sided=True,
    applies=lambda inputs: inputs.look is not None,
    order=15,
)
def simultaneous_band(inputs: MetricInputs) -> dict[str, float]:
    """Ends of the interval of each score, by ``auc_low_simultaneous/<score>`` and ``auc_high_simultaneous/<score>``.

    They are those of the single interval at a higher confidence, which the joint distribution of the errors at all
    looks tells. A score without an interval has none, nor has an audit with fewer than six units a side.
    """
    if inputs.look is None:
        return {}
    ends = dict[str, float]()
    for name, level in inputs.look.levels.items():
        _, low, high = auc(inputs.scores[name], inputs.member, level, inputs.group)
        ends |= {f"auc_low_simultaneous/{name}": low, f"auc_high_simultaneous/{name}": high}
    return ends
