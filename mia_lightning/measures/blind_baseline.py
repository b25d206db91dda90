"""The blind baseline: AUC of attacks that never query the model, and the audit repeated on matched samples."""

from mia_lightning.functional.roc import roc_auc
from mia_lightning.registry import MetricInputs, MetricSpec, metrics, register_metric


@register_metric(
    "blind_auc",
    label="blind AUC",
    sentence="AUC of a classifier that never queries the model: difficulty, brightness, tint, frozen features...",
    of="audit",
    keys=("blind_auc", "blind_auc/predictability"),
    promised=("blind_auc",),
    applies=lambda inputs: "predictability" in inputs.errors,
    without_scores=True,
    order=50,
)
def blind_auc(inputs: MetricInputs) -> dict[str, float]:
    """AUC of minus the predictability error; where there is a blind classifier, the analysis puts its AUC instead."""
    area = roc_auc(-inputs.errors["predictability"], inputs.member)
    return {"blind_auc": area, "blind_auc/predictability": area}


metrics.register(
    MetricSpec(
        name="blind_p_value",
        label="blind p-value",
        sentence="chance of such a blind AUC if membership were shuffled; below 0.05 the splits are distinguishable.",
        of="audit",
        order=90,
        built_in=True,
    )
)
metrics.register(
    MetricSpec(
        name="matched_auc",
        label="matched AUC",
        sentence="AUC of the primary score on members and nonmembers that are alike without the model.",
        of="audit",
        keys=("matched_auc", "matched_auc_low", "matched_auc_high", "samples/matched", "matched_imbalance"),
        order=100,
        built_in=True,
    )
)
metrics.register(
    MetricSpec(
        name="blind_detectable_shift",
        label="detectable shift",
        sentence="difference between the sides, in standard deviations, that the blind test finds with 80 %.",
        of="audit",
        order=95,
        built_in=True,
    )
)
metrics.register(
    MetricSpec(
        name="adjusted_auc",
        label="adjusted AUC",
        sentence="AUC of what the statistics of the pairs alone do not explain of the primary score.",
        of="audit",
        keys=("adjusted_auc", "adjusted_auc_low", "adjusted_auc_high", "adjusted_p_value"),
        order=98,
        built_in=True,
    )
)
