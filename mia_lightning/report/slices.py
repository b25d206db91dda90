"""Slices in a report, such as sites or classes: what the audit says of each."""

import math

from mia_lightning.functional.operating_point import fewest_nonmembers
from mia_lightning.functional.slice_audit import FEWEST, RATE, Slice
from mia_lightning.report.formatting import NONE, number, p_value, span
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.remarks import by_coin, counted
from mia_lightning.result.slice_table import is_unfair

HEAD = ["column", "value", "members", "nonmembers", "AUC", "interval", "p, corrected", "TPR at 1 % FPR", "blind AUC"]
"""Headings of :func:`slice_rows`."""

_NAMED = 3  # slices that a sentence names


def slice_rows(result: AuditResult, most: int | None = None) -> list[list[str]]:
    """The slices, a row each: all in their order, or so many of the most exposed; none where there are none."""
    sliced = result.sliced
    rows = []
    for one in sliced.rows if most is None else sliced.most_exposed(most):
        start = [one.column, one.value, str(one.members), str(one.nonmembers)]
        if not one.large_enough:
            reason = "too unequal groups" if one.uneven else f"fewer than {FEWEST} a side"
            rows.append([*start, reason, *[NONE] * 4])
            continue
        chance = NONE if math.isnan(one.p_value) else p_value(one.p_value)
        blind = number(one.blind.estimate) + (" (unfair)" if is_unfair(one) else "")
        numbers = [number(one.auc.estimate), span(one.auc.low, one.auc.high), chance, number(one.tpr.estimate), blind]
        rows.append([*start, *numbers])
    return rows


def slices_in_words(result: AuditResult) -> list[str]:
    """What the numbers of the slices mean, and which slices stand out; empty where the audit is not sliced."""
    sliced = result.sliced
    if not sliced.rows and not sliced.further:
        return []
    small = len(sliced.rows) - sliced.tested + sum((sliced.further or {}).values())
    things = "groups" if sliced.unit == "group" else "samples"
    sentences = []
    if sliced.tested and not sliced.share > 0.0:
        sentences.append("Earlier looks at the training have spent the error of the slices: they have no numbers.")
    elif sliced.tested:
        looks = " and all looks at the training" if sliced.share < 1.0 else ""
        sentences.append(
            f"{counted(sliced.tested, 'slice')} by the {result.primary} score: the {100 * sliced.level:.3g} % "
            f"intervals of each kind of number hold for all of them{looks} together, and p-values are corrected for "
            "their number (Bonferroni). Blind AUC is that of difficulty alone; the TPR is told from "
            f"{fewest_nonmembers(RATE)} nonmembers on."
        )
        sentences.append(_standing_out(result))
    if unfair := [one for one in sliced.rows if is_unfair(one)]:
        sentences.append(
            f"Difficulty alone, without the model, tells the sides apart where {_named(unfair)}: what stands out there "
            "may come from the data."
        )
    if small:
        have = "slice has" if small == 1 else "slices have"
        uneven = " (or a few that outweigh the others)" if any(one.uneven for one in sliced.rows) else ""
        sentences.append(f"{small} {have} fewer than {FEWEST} {things} a side{uneven}, and so no numbers.")
    return sentences


def _standing_out(result: AuditResult) -> str:
    sliced = result.sliced
    if result.verdict.grade == "unfair":
        return "Which of them stand out is not said, since the comparison is unfair."
    alpha = 1.0 - sliced.level
    exposed = [one for one in sliced.most_exposed(len(sliced.rows)) if one.p_value <= alpha and not is_unfair(one)]
    if not exposed:
        return "In none of them do members stand out by themselves, after the correction."
    if not by_coin(result):
        return f"Members score higher where {_named(exposed)}; only difficulty was compared there."
    return f"Members stand out where {_named(exposed)}."


def _named(slices: list[Slice]) -> str:
    some = "; ".join(f"{one.column} is {one.value} (AUC {number(one.auc.estimate)})" for one in slices[:_NAMED])
    return some + (f"; and {len(slices) - _NAMED} more" if len(slices) > _NAMED else "")
