"""Mean errors and sizes of both sides."""

import math

from mia_lightning.functional.groups import units
from mia_lightning.registry import MetricInputs, Sides, register_metric


def _sides(member: Sides) -> dict[str, Sides]:
    return {"members": member, "nonmembers": ~member}


@register_metric(
    "error",
    label="mean error",
    sentence="mean error of each side; an error is low for members.",
    of="audit",
    one_sided=True,
    promised=("error",),
    order=30,
)
def error_means(inputs: MetricInputs) -> dict[str, float]:
    """Mean of every error on either side, by ``error/<error>/<side>``; NaN for a side without samples."""
    return {
        f"error/{name}/{side}": float(error[mask].mean()) if mask.any() else math.nan
        for name, error in inputs.errors.items()
        for side, mask in _sides(inputs.member).items()
    }


@register_metric(
    "samples", label="samples", sentence="number of samples of each side.", of="audit", one_sided=True, order=60
)
def sample_counts(inputs: MetricInputs) -> dict[str, float]:
    """Number of samples, by ``samples/<side>``."""
    return {f"samples/{side}": float(mask.sum()) for side, mask in _sides(inputs.member).items()}


@register_metric(
    "groups",
    label="groups",
    sentence="number of groups of samples of each side; they count in place of samples.",
    of="audit",
    one_sided=True,
    applies=lambda inputs: inputs.group is not None,
    order=61,
)
def group_counts(inputs: MetricInputs) -> dict[str, float]:
    """Number of groups, by ``groups/<side>``, where samples come in groups."""
    return dict(
        zip(("groups/members", "groups/nonmembers"), map(float, units(inputs.member, inputs.group)), strict=True)
    )
