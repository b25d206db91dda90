"""Slices in a report, such as sites or classes: what the audit says of each."""

import math
from collections.abc import Sequence

from mia_lightning import registry
from mia_lightning.functional.operating_point import fewest_nonmembers
from mia_lightning.functional.slice_audit import FEWEST, RATE, Slice
from mia_lightning.report.formatting import NONE, number, p_value, span
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.remarks import by_coin, counted
from mia_lightning.result.slice_table import is_unfair

HEAD = ["column", "value", "members", "nonmembers", "AUC", "interval", "p, corrected", "TPR at 1 % FPR", "blind AUC"]
"""Headings of :func:`slice_rows`."""

_NAMED = 3  # slices that a sentence names
_CLASS = "class"  # the column that an audit makes of the classes in targets, by their numbers


def slice_rows(result: AuditResult, most: int | None = None, small: int | None = None) -> list[list[str]]:
    """The slices, a row each; none where there are none.

    Args:
        result: The audit.
        most: So many of the most exposed, in that order; None: all in their own.
        small: So many of those that are too small for numbers, the largest of them; None: all.
    """
    sliced = result.sliced
    rows = []
    for one in _without_smallest(sliced.rows, small) if most is None else sliced.most_exposed(most):
        column = registry.errors.label(one.column) if one.of_class else one.column
        start = [column, value_of(result, one), str(one.members), str(one.nonmembers)]
        if not one.large_enough:
            things = " groups" if sliced.unit == "group" else ""
            reason = "too unequal groups" if one.uneven else f"fewer than {FEWEST}{things} a side"
            rows.append([*start, reason, *[NONE] * 4])
            continue
        chance = NONE if math.isnan(one.p_value) else p_value(one.p_value)
        blind = number(one.blind.estimate) + (" (unfair)" if is_unfair(one) else "")
        numbers = [number(one.auc.estimate), span(one.auc.low, one.auc.high), chance, number(one.tpr.estimate), blind]
        rows.append([*start, *numbers])
    return rows


def _without_smallest(slices: Sequence[Slice], small: int | None) -> Sequence[Slice]:
    """Leave out slices without numbers but for so many, the largest of them."""
    if small is None:
        return slices
    by_size = sorted((one for one in slices if not one.large_enough), key=lambda one: -(one.members + one.nonmembers))
    left_out = {one.key for one in by_size[small:]}
    return [one for one in slices if one.key not in left_out]


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
            f"{_tested(result)}: the {100 * sliced.level:.3g} % "
            f"intervals of each kind of number hold for all of them{looks} together, and p-values are corrected for "
            "their number (Bonferroni). Blind AUC is that of difficulty alone; the TPR is told from "
            f"{fewest_nonmembers(RATE)} nonmembers on."
        )
        sentences += [_standing_out(result), *_between_classes(result)]
    if unfair := [one for one in sliced.rows if is_unfair(one)]:
        sentences.append(
            f"Difficulty alone, without the model, tells the sides apart where {_named(result, unfair)}: what stands "
            "out there may come from the data."
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
        return f"Members score higher where {_named(result, exposed)}; only difficulty was compared there."
    return f"Members stand out where {_named(result, exposed)}."


def _tested(result: AuditResult) -> str:
    """What has numbers, and by what: slices by the primary score, classes by the error of their own pixels."""
    tested = [one for one in result.sliced.rows if one.large_enough]
    classes = sum(one.of_class for one in tested)
    slices = len(tested) - classes
    parts = [f"{counted(slices, 'slice')} by the {result.primary} score"] if slices else []
    if classes:
        of = "the error of its pixels alone" if classes == 1 else "the errors of their pixels alone"
        parts.append(f"{counted(classes, 'class', 'classes')} by {of}, without correction for difficulty")
    return " and ".join(parts)


def _between_classes(result: AuditResult) -> list[str]:
    """Say whether the model memorises one class more than another, as far as the intervals tell; of each error.

    Classes whose sides difficulty alone tells apart are left out: their errors are not corrected for it.
    """
    if result.verdict.grade == "unfair":
        return []
    sentences = []
    rows = [one for one in result.sliced.rows if one.of_class and not math.isnan(one.auc.estimate)]
    rows = [one for one in rows if not is_unfair(one)]
    more = (
        "so that this is more than chance"
        if by_coin(result)
        else "but without randomised assignment this may come from the data, since difficulty is not corrected for"
    )
    for error in dict.fromkeys(one.column for one in rows):
        classes = sorted((one for one in rows if one.column == error), key=lambda one: one.auc.estimate)
        if len(classes) < 2:
            continue
        least, most = classes[0], classes[-1]
        apart = most.auc.low > least.auc.high
        meaning = (
            f"the intervals do not overlap, {more}"
            if apart
            else "the intervals overlap, so that the audit does not tell which class is memorised more"
        )
        high, low = (f"{name_of_class(one)} ({number(one.auc.estimate)})" for one in (most, least))
        sentences.append(f"The AUC is highest on pixels of {high} and lowest on pixels of {low}: {meaning}.")
    return sentences


def value_of(result: AuditResult, one: Slice) -> str:
    """The value of a slice for a reader: of classes, with their names where these are known."""
    names = result.meta.get("class_names") or []
    if one.column != _CLASS or one.of_class or not one.value.isdecimal() or int(one.value) >= len(names):
        return one.value
    return f"{one.value} ({names[int(one.value)]})"


def name_of_class(one: Slice) -> str:
    """The class of an error of one class, in a sentence."""
    return f"class {one.value}" if one.value.isdecimal() else one.value


def _named(result: AuditResult, slices: list[Slice]) -> str:
    where = (
        f"pixels of {name_of_class(one)} alone count" if one.of_class else f"{one.column} is {value_of(result, one)}"
        for one in slices[:_NAMED]
    )
    some = "; ".join(f"{which} (AUC {number(one.auc.estimate)})" for which, one in zip(where, slices, strict=False))
    return some + (f"; and {len(slices) - _NAMED} more" if len(slices) > _NAMED else "")
