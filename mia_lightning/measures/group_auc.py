"""The area under the ROC of groups, such as patients: how well a member's group is told from a nonmember's."""

from mia_lightning.functional.group_scores import group_scores
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.registry import MetricInputs, register_metric


@register_metric(
    "group_auc",
    label="AUC, groups",
    sentence="chance that a random group of members has a higher mean score than one of nonmembers; 0.5 is chance.",
    of="audit",
    keys=("group/auc", "group/auc_low", "group/auc_high"),
    applies=lambda inputs: inputs.group is not None,
    order=16,
)
def group_auc(inputs: MetricInputs) -> dict[str, float]:
    """Area under the ROC of the groups' mean primary scores, with its interval, in which each group counts once.

    A group with samples on both sides is one of either, and the interval allows for that. There is none with too few
    groups.
    """
    if inputs.group is None:
        return {}
    groups = group_scores(inputs.scores[inputs.primary], inputs.member, inputs.group)
    area = delong_interval(groups.mean, groups.member, inputs.level, groups.codes)
    return dict(zip(("group/auc", "group/auc_low", "group/auc_high"), area, strict=True))
