"""True-positive rates of a score at low nominal false-positive rates, and the false-positive rates achieved."""

from functools import partial

from mia_lightning.functional.groups import too_few_groups, units
from mia_lightning.functional.intervals import clopper_pearson
from mia_lightning.functional.roc import tpr_at_fpr
from mia_lightning.registry import Column, Estimate, GroupNumbers, MetricInputs, MetricSpec, Sides, metrics

NOMINAL_RATES = (0.01, 0.001, 0.0)


def true_positive_rate(
    score: Column, member: Sides, level: float, group: GroupNumbers | None = None, *, nominal: float
) -> Estimate:
    """Share of members named while at most the nominal share of nonmembers is, with Clopper-Pearson bounds.

    Of n nonmembers at most floor(nominal n) are named, ties as a fair coin; the bounds take the threshold as given.
    Where samples come in groups the rates are still those of samples, but the bounds count the members' groups; with
    too few of them there are no bounds.
    """
    rate, _ = tpr_at_fpr(score, member, nominal)
    if too_few_groups(member, group):
        return Estimate(rate)
    members = units(member, group)[0]
    return Estimate(rate, *clopper_pearson(rate * members, members, level)[1:])


def achieved_false_positive_rate(inputs: MetricInputs, *, nominal: float) -> float:
    """False-positive rate that the primary score really spends at a nominal one."""
    return tpr_at_fpr(inputs.scores[inputs.primary], inputs.member, nominal)[1]


for _place, _nominal in enumerate(NOMINAL_RATES):
    _name = f"tpr_at_fpr_{_nominal:g}"
    metrics.register(
        MetricSpec(
            name=_name,
            label=f"TPR at {100 * _nominal:g} % FPR" if _nominal else "TPR at no FP",
            sentence=f"share of members named while at most {100 * _nominal:g} % of nonmembers are named wrongly.",
            function=partial(true_positive_rate, nominal=_nominal),
            bounds=(f"tpr_low_at_fpr_{_nominal:g}", f"tpr_high_at_fpr_{_nominal:g}"),
            promised=(_name,) if _nominal else (),
            headline=_nominal == NOMINAL_RATES[0],
            grouped=True,
            order=20 + _place,
            built_in=True,
        )
    )
    metrics.register(
        MetricSpec(
            name=f"realised_fpr_{_nominal:g}",
            label="achieved FPR",
            sentence=f"share of nonmembers that the primary score names at a nominal rate of {100 * _nominal:g} %.",
            of="audit",
            function=partial(achieved_false_positive_rate, nominal=_nominal),
            order=25 + _place,
            built_in=True,
        )
    )
