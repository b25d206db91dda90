"""What an audit found, in plain sentences: fairness of the comparison before any claim."""

from __future__ import annotations

import math

from mia_lightning.functional.blind import explained_share
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.results.fairness import SIGNIFICANT
from mia_lightning.results.result import AuditResult

# With fewer matched samples a side, the repeated audit says too little to rest a claim on.
ENOUGH_MATCHED = 20


def verdict(result: AuditResult) -> list[str]:
    """Say what a result means and what it does not.

    Thresholds: whether a 95 % interval covers 50 %; whether the blind attack's p-value is below 0.05; and at least 20
    matched samples a side before a claim rests on them.

    Args:
        result: The audit.

    Returns:
        Sentences; the one about the fairness of the comparison comes before the one that claims something.
    """
    if math.isnan(result.auc):
        return ["No AUC could be computed: a side has no sample left. See what was excluded in the result."]
    unfair = sides_differ(result)
    lines = [_difference(result), *_matched(result)] if unfair else []
    low, high = result.interval()
    lines.append(
        f"A member scores higher than a nonmember {100 * result.auc:.0f} % of the time "
        f"(95 % interval {100 * low:.0f} to {100 * high:.0f} %; 50 % is guessing)."
    )
    lines.append(_claim(result, unfair=unfair))
    if not unfair:
        lines.append(_fair(result))
    return lines + _single_samples(result) + ([] if unfair else _epsilon(result)) + _limits(result)


def sides_differ(result: AuditResult) -> bool:
    """Whether an attack that never asks the model tells the two sides apart."""
    p_value = result.metric("blind_p_value")
    if not math.isnan(p_value):
        return p_value < SIGNIFICANT
    _, low, high = delong_interval(-result.errors["predictability"], result.member)
    return not low <= 0.5 <= high


def _blind(result: AuditResult) -> str:
    p_value = result.metric("blind_p_value")
    if not math.isnan(p_value):
        return f"{result.metric('blind_auc'):.2f}, p-value {p_value:.2g}"
    auc, low, high = delong_interval(-result.errors["predictability"], result.member)
    return f"{auc:.2f} ({low:.2f} to {high:.2f})"


def _fair(result: AuditResult) -> str:
    if min(int(result.member.sum()), int((~result.member).sum())) < ENOUGH_MATCHED:
        return f"Too few samples to tell whether the sides differ by themselves: blind AUC {_blind(result)}."
    return f"The comparison looks fair: blind AUC {_blind(result)}."


def _difference(result: AuditResult) -> str:
    share = explained_share(result.metric("blind_auc"), result.auc)
    part = (
        "" if math.isnan(share) else f" By itself that could explain {100 * share:.0f} % of what lies above guessing."
    )
    return (
        f"The two sides differ by themselves: an attack that never asks the model tells them apart (blind AUC "
        f"{_blind(result)}).{part}"
    )


def _matched(result: AuditResult) -> list[str]:
    rows = result.metric("samples/matched")
    if math.isnan(rows):
        return []
    each = int(rows) // 2
    if math.isnan(result.metric("matched_auc")):
        return ["No member has a nonmember like it: there is no part of the data on which the comparison is fair."]
    low, high = result.metric("matched_auc_low"), result.metric("matched_auc_high")
    few = f" Fewer than {ENOUGH_MATCHED} pairs say little." if each < ENOUGH_MATCHED else ""
    return [
        f"On {each} members and {each} nonmembers that are alike without the model the AUC is "
        f"{result.metric('matched_auc'):.2f} (95 % interval {low:.2f} to {high:.2f}).{few}"
    ]


def _claim(result: AuditResult, *, unfair: bool) -> str:
    low, high = result.interval()
    if low <= 0.5 <= high:
        return "The interval covers 50 %: this audit does not show memorization, nor does it rule it out."
    if high < 0.5:
        return "The interval lies below 50 %: the two sides differ, and not the way memorization would have it."
    if unfair:
        enough = result.metric("samples/matched") >= 2 * ENOUGH_MATCHED
        if enough and result.metric("matched_auc_low") > 0.5:
            return (
                "The interval lies above 50 % on the matched samples, too: what the blind attack sees does not explain "
                "it all. How much is memorization, sides that a coin has made would tell."
            )
        return "This audit cannot say whether the model memorises: compare sides that a coin has made."
    if result.meta.get("membership", {}).get("assignment") == "coin":
        return "The interval lies above 50 %: the model gives away which samples it was trained on."
    # A model can be worse on another film or clinic without having memorised anything.
    return (
        "The interval lies above 50 %: the model treats the two sides differently. No coin has made them, so a part of "
        "this may be a difference between them that the blind attack does not see."
    )


def _single_samples(result: AuditResult) -> list[str]:
    flagged, members = int(result.flagged().sum()), int(result.member.sum())
    rate = float(result.meta.get("settings", {}).get("fdr", 0.1))
    if not flagged:
        return []
    return [
        f"{flagged} of {members} members stand out one by one (at most {100 * rate:.0f} % of such flags are wrong, on "
        "average)."
    ]


def _epsilon(result: AuditResult) -> list[str]:
    low, told = result.metric("epsilon_low"), result.meta.get("epsilon") or {}
    if not low > 0 or "standing" not in told:
        return []
    if not told["valid"]:
        return [f"An epsilon of {low:.2f} or more (delta {told['delta']:g}) is {told['standing']}."]
    return [
        f"Differential privacy with epsilon below {low:.2f} (delta {told['delta']:g}) is ruled out with "
        f"{100 * told['level']:.0f} % confidence; {told['standing']}."
    ]


def _limits(result: AuditResult) -> list[str]:
    lines = [str(note) for note in result.meta.get("notes", [])]
    neighbours = result.meta.get("neighbours", {})
    if weak := neighbours.get("weak"):
        lines.append(f"The training augments with what makes {', '.join(weak)}: these neighbours hide memorization.")
    if dropped := neighbours.get("dropped"):
        lines.append(f"Left out as neighbours, since the training augments with them: {', '.join(dropped)}.")
    if result.excluded:
        lines.append(f"{len(result.excluded)} samples were left out; the result says which and why.")
    return lines
