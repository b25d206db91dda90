"""What an audit found, in plain sentences: fairness of the comparison before any claim."""

from __future__ import annotations

import math

from mia_lightning.functional.intervals import delong_interval
from mia_lightning.results.result import AuditResult


def verdict(result: AuditResult) -> list[str]:
    """Say what a result means and what it does not.

    The only threshold is 50 %: whether a 95 % interval covers it.

    Args:
        result: The audit.

    Returns:
        Sentences; the one about the fairness of the comparison comes before the one that claims something.
    """
    if math.isnan(result.auc):
        return ["No AUC could be computed: a side has no sample left. See what was excluded in the result."]
    low, high = result.interval()
    blind, blind_low, blind_high = delong_interval(-result.errors["predictability"], result.member)
    unfair = not blind_low <= 0.5 <= blind_high
    lines = []
    if unfair:
        lines.append(
            f"The two sides differ by themselves: an attack that never asks the model tells them apart (blind AUC "
            f"{blind:.2f}, 95 % interval {blind_low:.2f} to {blind_high:.2f}). What follows may show that difference."
        )
    lines.append(
        f"A member scores higher than a nonmember {100 * result.auc:.0f} % of the time "
        f"(95 % interval {100 * low:.0f} to {100 * high:.0f} %; 50 % is guessing)."
    )
    if low <= 0.5 <= high:
        lines.append("The interval covers 50 %: this audit does not show memorization, nor does it rule it out.")
    elif unfair:
        lines.append("This audit cannot say whether the model memorises: compare sides that a coin has made.")
    elif low > 0.5 and result.meta.get("membership", {}).get("assignment") == "coin":
        lines.append("The interval lies above 50 %: the model gives away which samples it was trained on.")
    elif low > 0.5:
        # A model can be worse on another film or clinic without having memorised anything.
        lines.append(
            "The interval lies above 50 %: the model treats the two sides differently. No coin has made them, so a "
            "part of this may be a difference between them that the blind attack does not see."
        )
    else:
        lines.append("The interval lies below 50 %: the two sides differ, and not the way memorization would have it.")
    if not unfair:
        lines.append(f"The comparison looks fair: blind AUC {blind:.2f} ({blind_low:.2f} to {blind_high:.2f}).")
    if result.excluded:
        lines.append(f"{len(result.excluded)} samples were left out; the result says which and why.")
    return lines
