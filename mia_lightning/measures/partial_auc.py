"""The area under the first tenth of the ROC of a score, which few nonmembers are enough for."""

from mia_lightning.functional.roc import partial_auc
from mia_lightning.registry import Column, Sides, register_metric

HIGHEST_FPR = 0.1


@register_metric(
    "partial_auc_fpr_0.1",
    label="partial AUC",
    sentence="area under the ROC up to 10 % false positives, standardised: 0.5 is chance, 1 is perfect (McClish).",
    order=15,
)
def partial_auc_at_low_fpr(score: Column, member: Sides, level: float) -> float:
    """Standardised area up to a false-positive rate of 10 % (McClish, 1989)."""
    return partial_auc(score, member, HIGHEST_FPR)
