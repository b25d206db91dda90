"""True-positive rates of a score at low nominal false-positive rates, and the false-positive rates behind them."""

import math
from functools import partial

from mia_lightning.functional.groups import too_few_groups, units
from mia_lightning.functional.intervals import clopper_pearson
from mia_lightning.functional.operating_point import NOMINAL_RATES, fewest_nonmembers, population_fpr, tpr_interval
from mia_lightning.functional.roc import tpr_at_fpr
from mia_lightning.registry import Column, Estimate, GroupNumbers, MetricInputs, MetricSpec, Sides, metrics


def true_positive_rate(
    score: Column, member: Sides, level: float, group: GroupNumbers | None = None, *, nominal: float
) -> Estimate:
    """Share of members named while at most the nominal share of nonmembers is, with its bounds.

    Of n nonmembers at most floor(nominal n) are named, ties as a fair coin. The bounds are those of the rate at that
    false-positive rate of the population, whose threshold the nonmembers only estimate; at no false positive they take
    the threshold as given. Where samples come in groups the rates are still those of samples, but the bounds count
    groups; with too few of them there are no bounds.
    """
    return Estimate(*tpr_interval(score, member, nominal, level, group))


def achieved_false_positive_rate(inputs: MetricInputs, *, nominal: float) -> float:
    """False-positive rate that the primary score really spends at a nominal one."""
    return tpr_at_fpr(inputs.scores[inputs.primary], inputs.member, nominal)[1]


def expected_false_positive_rate(inputs: MetricInputs, *, nominal: float) -> Estimate:
    """False-positive rate in the population behind a nominal one: mean and limits, which only sizes decide.

    With too few groups there are no limits.
    """
    groups = None if inputs.group is None else units(inputs.member, inputs.group)[1]
    rate = population_fpr(int((~inputs.member).sum()), nominal, inputs.level, clusters=groups)
    return Estimate(rate.estimate) if too_few_groups(inputs.member, inputs.group) else Estimate(*rate)


def estimable_rates(inputs: MetricInputs) -> dict[str, float]:
    """Whether there are nonmembers enough, or groups of them, for each nominal rate: 1, or 0."""
    nonmembers = units(inputs.member, inputs.group)[1]
    return {
        f"tpr_at_fpr_{nominal:g}/estimable": float(nonmembers >= fewest_nonmembers(nominal))
        for nominal in NOMINAL_RATES
        if nominal
    }


def bounds_at_threshold(inputs: MetricInputs, *, nominal: float) -> dict[str, float]:
    """Clopper and Pearson's bounds of the primary score's rate at the threshold as it was found.

    They hold for the members that further samples would have above this threshold, whatever false-positive rate it has
    in the population: the rate of which :func:`true_positive_rate` tells is outside of them more often than they say.
    There are none with too few groups.
    """
    low, high = f"tpr_low_at_threshold_{nominal:g}", f"tpr_high_at_threshold_{nominal:g}"
    members = units(inputs.member, inputs.group)[0]
    if too_few_groups(inputs.member, inputs.group):
        return {low: math.nan, high: math.nan}
    rate, _ = tpr_at_fpr(inputs.scores[inputs.primary], inputs.member, nominal)
    interval = clopper_pearson(rate * members, members, inputs.level)
    return {low: interval.low, high: interval.high}


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
    metrics.register(
        MetricSpec(
            name=f"population_fpr_{_nominal:g}",
            label="expected FPR",
            sentence=f"share of further nonmembers that a nominal rate of {100 * _nominal:g} % names on average.",
            of="audit",
            function=partial(expected_false_positive_rate, nominal=_nominal),
            bounds=(f"population_fpr_low_{_nominal:g}", f"population_fpr_high_{_nominal:g}"),
            without_scores=True,
            order=28 + _place,
            built_in=True,
        )
    )
    if _nominal:  # at no false positive the bounds are Clopper and Pearson's already
        metrics.register(
            MetricSpec(
                name=f"tpr_at_threshold_{_nominal:g}",
                label="TPR, threshold",
                sentence=f"bounds of the TPR at {100 * _nominal:g} % FPR with the threshold as found: Clopper-Pearson.",
                of="audit",
                function=partial(bounds_at_threshold, nominal=_nominal),
                keys=tuple(f"tpr_{end}_at_threshold_{_nominal:g}" for end in ("low", "high")),
                fewest_nonmembers=fewest_nonmembers(_nominal),
                order=24,
                built_in=True,
            )
        )
metrics.register(
    MetricSpec(
        name="tpr_estimable",
        label="TPR estimable",
        sentence="1 where nonmembers are enough to estimate a nominal false-positive rate, 0 where they are not.",
        of="audit",
        function=estimable_rates,
        keys=tuple(f"tpr_at_fpr_{nominal:g}/estimable" for nominal in NOMINAL_RATES if nominal),
        without_scores=True,
        order=29,
        built_in=True,
    )
)
