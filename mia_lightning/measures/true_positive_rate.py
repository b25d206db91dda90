"""True-positive rates of a score at low nominal false-positive rates, and the false-positive rates achieved."""

from __future__ import annotations

from functools import partial

from mia_lightning.functional.intervals import clopper_pearson
from mia_lightning.functional.roc import tpr_at_fpr
from mia_lightning.registry import Estimate, MetricInputs, MetricSpec, metrics
from mia_lightning.registry.specs import Column, Sides

NOMINAL_RATES = (0.01, 0.001, 0.0)
_PROMISED = (0.01, 0.001)


def true_positive_rate(score: Column, member: Sides, level: float, *, nominal: float) -> Estimate:
    """Share of members named while at most the nominal share of nonmembers is, with Clopper-Pearson bounds.

    Args:
        score: (N,), high = member.
        member: True for members, (N,).
        level: Confidence of the bounds, which take the threshold as given.
        nominal: Nominal false-positive rate; of n nonmembers at most floor(nominal n) are named, ties as a fair coin.

    Returns:
        The rate with its bounds.
    """
    rate, _ = tpr_at_fpr(score, member, nominal)
    members = int(member.sum())
    return Estimate(rate, *clopper_pearson(rate * members, members, level)[1:])


def achieved_false_positive_rate(inputs: MetricInputs, *, nominal: float) -> float:
    """False-positive rate that the primary score really spends at a nominal one."""
    return tpr_at_fpr(inputs.scores[inputs.primary], inputs.member, nominal)[1]


def _register(place: int, nominal: float) -> None:
    name = f"tpr_at_fpr_{nominal:g}"
    metrics.register(
        MetricSpec(
            name=name,
            label=f"TPR at {100 * nominal:g} % FPR" if nominal else "TPR at no FP",
            sentence=f"share of members named while at most {100 * nominal:g} % of nonmembers are named wrongly.",
            function=partial(true_positive_rate, nominal=nominal),
            bounds=(f"tpr_low_at_fpr_{nominal:g}", f"tpr_high_at_fpr_{nominal:g}"),
            promised=(name,) if nominal in _PROMISED else (),
            headline=nominal == NOMINAL_RATES[0],
            order=20 + place,
            built_in=True,
        )
    )
    metrics.register(
        MetricSpec(
            name=f"realised_fpr_{nominal:g}",
            label="achieved FPR",
            sentence=f"share of nonmembers that the primary score names at a nominal rate of {100 * nominal:g} %.",
            of="audit",
            function=partial(achieved_false_positive_rate, nominal=nominal),
            order=25 + place,
            built_in=True,
        )
    )


for _place, _nominal in enumerate(NOMINAL_RATES):
    _register(_place, _nominal)
