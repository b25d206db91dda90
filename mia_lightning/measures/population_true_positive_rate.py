"""True-positive rates of a score at low false-positive rates of the population, which nonmembers only estimate."""

from functools import partial

from mia_lightning.functional.operating_point import NOMINAL_RATES, fewest_nonmembers, melded_tpr
from mia_lightning.registry import Column, Estimate, GroupNumbers, MetricSpec, Sides, metrics


def population_true_positive_rate(
    score: Column, member: Sides, level: float, group: GroupNumbers | None = None, *, fpr: float
) -> Estimate:
    """Share of further members named where that share of further nonmembers is, with its melded interval.

    There is no interval with too few groups.
    """
    return Estimate(*melded_tpr(score, member, fpr, level, group))


for _place, _fpr in enumerate(rate for rate in NOMINAL_RATES if rate):
    metrics.register(
        MetricSpec(
            name=f"tpr_at_population_fpr_{_fpr:g}",
            label=f"melded TPR {100 * _fpr:g} %",
            sentence=f"share of further members named where {100 * _fpr:g} % of further nonmembers are named.",
            function=partial(population_true_positive_rate, fpr=_fpr),
            bounds=(f"tpr_low_at_population_fpr_{_fpr:g}", f"tpr_high_at_population_fpr_{_fpr:g}"),
            grouped=True,
            fewest_nonmembers=fewest_nonmembers(_fpr),
            order=23 + _place,
            built_in=True,
        )
    )
