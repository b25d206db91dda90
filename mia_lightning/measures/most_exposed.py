"""The p-value of the highest scores: whether more of them are members' than chance would have it."""

from mia_lightning.functional.p_values import exposed_p_value
from mia_lightning.registry import MetricInputs, register_metric

FEWEST = 20
"""Samples of both sides below which there is no such test: the ten highest scores would be half of them, or more."""


@register_metric(
    "most_exposed",
    label="p-value at top",
    sentence="chance that so many of the highest scores would be members' if membership were shuffled.",
    of="audit",
    keys=("p_value/most_exposed", "p_value_corrected/most_exposed"),
    applies=lambda inputs: inputs.member.size >= FEWEST,
    order=71,
)
def most_exposed(inputs: MetricInputs) -> dict[str, float]:
    """P-value of the most exposed by the primary score, and the same allowing for all audits of the training."""
    scores = inputs.scores[inputs.primary]
    chance = exposed_p_value(scores, inputs.member, seed=inputs.seed, group=inputs.group)
    corrected = min(1.0, inputs.looks * chance)
    if inputs.look is not None:
        corrected = max(chance, inputs.look.exposed.get(inputs.primary, 1.0))
    return {"p_value/most_exposed": chance, "p_value_corrected/most_exposed": corrected}
