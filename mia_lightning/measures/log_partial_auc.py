"""The area under the logarithmic ROC of a score up to a tenth of false positives: each decade counts alike."""

from functools import partial

from mia_lightning.functional.operating_point import NOMINAL_RATES, fewest_nonmembers
from mia_lightning.functional.roc import log_partial_auc
from mia_lightning.registry import Column, Estimate, MetricSpec, Sides, metrics

HIGHEST_FPR = 0.1


def log_partial_auc_at_low_fpr(score: Column, member: Sides, level: float, *, lowest: float) -> Estimate:
    """Mean true-positive rate from a lowest false-positive rate to 10 %, each decade counting alike."""
    return Estimate(log_partial_auc(score, member, lowest, HIGHEST_FPR))


for _place, _lowest in enumerate(rate for rate in NOMINAL_RATES if rate):
    metrics.register(
        MetricSpec(
            name=f"log_auc_fpr_{_lowest:g}",
            label=f"log AUC, {100 * _lowest:g} %",
            sentence=f"mean TPR over {100 * _lowest:g} % to 10 % false positives on a logarithmic scale; 1 is perfect.",
            function=partial(log_partial_auc_at_low_fpr, lowest=_lowest),
            fewest_nonmembers=fewest_nonmembers(_lowest),
            order=15 + _place,
            built_in=True,
        )
    )
