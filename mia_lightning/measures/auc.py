"""The area under the ROC of a score, with its interval."""

from mia_lightning.functional.intervals import delong_interval
from mia_lightning.registry import Column, Estimate, GroupNumbers, Sides, register_metric


@register_metric(
    "auc",
    label="AUC",
    sentence="chance that a random member scores higher than a random nonmember; 0.5 is chance.",
    bounds=("auc_low", "auc_high"),
    promised=("auc", "auc_low", "auc_high"),
    headline=True,
    grouped=True,
    order=10,
)
def auc(score: Column, member: Sides, level: float, group: GroupNumbers | None = None) -> Estimate:
    """Area under the ROC with DeLong's interval on the logit scale (1988), Obuchowski's (1997) where there are groups.

    At high areas it covers Newcombe's (method 5, 2006), too. It is exact where there is no variance, and NaN with too
    few groups.
    """
    return Estimate(*delong_interval(score, member, level, group))
