"""The verdict on an audit: a grade and three sentences (finding, certainty, limitation), fairness judged first."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from mia_lightning.functional.blind import SIGNIFICANT, explained_share
from mia_lightning.functional.groups import FEWEST_GROUPS, too_few_groups, units
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.result.remarks import (
    TOO_MUCH_SHARED,
    Audited,
    counted,
    epsilon,
    not_estimable,
    notes,
    shared,
    sides,
    single_samples,
    unverified,
)

Grade = Literal["strong", "weak", "none", "reversed", "too few samples", "unfair comparison", "no result"]

# With fewer samples a side, matched or not, neither the blind test nor an interval says enough to rest a claim on.
ENOUGH = 20
# An interval that covers guessing and is wider than this (about 28 samples a side) covers strong memorization, too.
TOO_WIDE = 0.3
# Strong: even the lower bound of the AUC reaches this, or even the lower bound of the true positives at 1 % does.
STRONG_AUC = 0.7
STRONG_TPR = 0.1


@dataclass(frozen=True)
class Verdict:
    """An audit in words.

    Attributes:
        grade: One word or two for it; :func:`judge` documents the thresholds.
        found: What was found.
        certainty: How sure that is.
        limitation: What limits it most.
        remarks: Further sentences: single samples, epsilon bounds, notes of the audit.
    """

    grade: Grade
    found: str
    certainty: str
    limitation: str
    remarks: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, str, str]:
        """The three sentences."""
        return self.found, self.certainty, self.limitation

    def __iter__(self) -> Iterator[str]:
        """The three sentences, then the remarks."""
        return iter((*self.sentences, *self.remarks))


class Judged(Audited, Protocol):
    """A result with its verdict."""

    @property
    def verdict(self) -> Verdict:
        """What it means."""


def judge(result: Audited) -> Verdict:
    """Say what a result means and what it does not; :attr:`AuditResult.verdict` keeps it.

    The grade, by the first line that holds:

    ====================  =========================================================================================
    no result             a side has no sample left
    unfair comparison     half of a side or more is on the other, too; or an attack that never queries the model
                          distinguishes the sides (p-value below 0.05)
    too few samples       samples come in groups, and a side has fewer than six; or the 95 % interval of the AUC covers
                          0.5, and a side has fewer than 20 samples or the interval is wider than 0.3
    none                  the interval covers 0.5
    reversed              the interval lies below 0.5
    strong                the interval begins at 0.7 or above, or that of the true-positive rate at a false-positive
                          rate of 1 %, where that can be estimated, at 0.1 or above
    weak                  the interval lies above 0.5
    ====================  =========================================================================================

    The sentences speak of memorization only where membership was assigned at random. Members that are not known to be
    those of the training are said to be unverified.
    """
    grade = _grade(result)
    if grade == "no result":
        why = (
            "the primary score has no number of some samples" if _smaller_side(result) else "a side has no sample left"
        )
        return Verdict(
            grade,
            f"No AUC could be computed: {why}.",
            "Nothing can be said about memorization.",
            "See what was excluded in the result, and why.",
            tuple(notes(result)),
        )
    if shared(result) >= TOO_MUCH_SHARED:
        return Verdict(
            grade,
            f"{100 * shared(result):.0f} % of the smaller side is on the other side, too (same input and target).",
            "Samples on both sides are compared with themselves: what the model memorised of them cannot show.",
            "Pass the samples that the model was trained on as members, and only other samples as nonmembers.",
            tuple(notes(result)),
        )
    if grade == "unfair comparison":
        sentences = _difference(result), _certainty_of_unfair(result), _claim_of_unfair(result)
        return Verdict(grade, *sentences, tuple(notes(result)))
    more = single_samples(result) + epsilon(result) + notes(result)
    return Verdict(grade, _found(result, grade), _certainty(result), _limitation(result, grade), tuple(more))


def headline(result: Judged) -> str:
    """Put an audit into one line: when, how much, how sure, at few false positives, and without the model.

    For example ``epoch 10 | membership AUC 0.905 [0.86, 0.94] | TPR at 1 % FPR 0.21 | blind 0.52 | strong``; what could
    not be computed is left out, and so is a TPR that cannot be estimated.
    """
    low, high = result.interval()
    rate = math.nan if not_estimable(result, 0.01) else result.metric("tpr_at_fpr_0.01")
    interval = "" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    numbers = {
        f"{result.primary} AUC {result.auc:.3f}{interval}": result.auc,
        f"TPR at 1 % FPR {rate:.2f}": rate,
        f"blind {result.metric('blind_auc'):.2f}": result.metric("blind_auc"),
    }
    when = [] if result.epoch is None else [f"epoch {result.epoch + 1}"]
    measured = [text for text, value in numbers.items() if not math.isnan(value)]
    doubt = ["members unverified"] if unverified(result) else []
    return " | ".join([*when, *measured, result.verdict.grade, *doubt])


def sides_differ(result: Audited) -> bool:
    """Whether an attack that never queries the model distinguishes the two sides."""
    p_value = result.metric("blind_p_value")
    if not math.isnan(p_value):
        return p_value < SIGNIFICANT
    _, low, high = delong_interval(-result.errors["predictability"], result.member, group=result.group_codes)
    return low > 0.5 or high < 0.5  # there may be no interval


def _grade(result: Audited) -> Grade:
    if math.isnan(result.auc):
        return "no result"
    if shared(result) >= TOO_MUCH_SHARED or sides_differ(result):
        return "unfair comparison"
    low, high = result.interval()
    if _few_groups(result):
        return "too few samples"
    if low <= 0.5 <= high:
        return "too few samples" if _smaller_side(result) < ENOUGH or high - low > TOO_WIDE else "none"
    if high < 0.5:
        return "reversed"
    few_positives = not not_estimable(result, 0.01) and result.metric(f"tpr_low_at_fpr_0.01/{result.primary}")
    return "strong" if low >= STRONG_AUC or few_positives >= STRONG_TPR else "weak"


def _few_groups(result: Audited) -> bool:
    return too_few_groups(result.member, result.group_codes)


def _smaller_side(result: Audited) -> int:
    members = int(result.member.sum())
    return min(members, len(result.member) - members)


def _found(result: Audited, grade: Grade) -> str:
    often = (
        f"a member scores higher than a nonmember {100 * result.auc:.0f} % of the time by the {result.primary} score "
        "(50 % is guessing)"
    )
    if grade == "too few samples":
        return f"The audit is inconclusive: {often}."
    if grade == "none":
        return f"No memorization was found: {often}."
    if grade == "reversed":
        return f"The two sides differ in the direction opposite to memorization: {often}."
    if result.meta.get("membership", {}).get("assignment") == "coin":
        much = "clearly gives away" if grade == "strong" else "gives away a little of"
        return f"The model {much} which samples it was trained on: {often}."
    # A model can be worse on images of another hospital without having memorised anything.
    degree = "very differently" if grade == "strong" else "differently"
    return f"The model treats the two sides {degree}, in the direction of memorization: {often}."


def _certainty(result: Audited) -> str:
    low, high = result.interval()
    if _few_groups(result):
        return f"From {sides(result)}, there is no interval; {_fair(result)}."
    share = f"With 95 % confidence the share lies between {100 * low:.0f} and {100 * high:.0f} %, from {sides(result)}"
    if high < 0.5:  # the p-value asks for the other direction
        return f"{share}."
    p_value, looks = result.metric("p_value_corrected"), int(result.meta.get("looks") or 1)
    corrected = f" (corrected for {looks} looks)" if looks > 1 else ""
    probability = "below 0.001" if p_value < 0.001 else f"{p_value:.2g}"
    chance = f"; by chance alone that much has probability {probability}{corrected}"
    return f"{share}{'' if math.isnan(p_value) else chance}; {_fair(result)}."


def _fair(result: Audited) -> str:
    if _smaller_side(result) < ENOUGH or _few_groups(result):
        return f"they are too few to test whether the splits are distinguishable (blind AUC {_blind(result)})"
    return f"the comparison looks fair (blind AUC {_blind(result)})"


def _limitation(result: Audited, grade: Grade) -> str:
    low, high = result.interval()
    if _few_groups(result):
        least = min(units(result.member, result.group_codes))
        return (
            f"The samples of a group are not independent, and {counted(least, 'group')} on a side "
            f"{'is' if least == 1 else 'are'} too few to tell how much chance moves the AUC: audit samples of at least "
            f"{FEWEST_GROUPS} groups a side (groups='none' if these samples are independent)."
        )
    if grade == "too few samples":
        return f"The interval from {100 * low:.0f} to {100 * high:.0f} % is too wide to decide: audit more samples."
    if grade == "none" and unverified(result):
        return (
            "The members are unverified: where they are not those of the training, an audit finds nothing, whatever "
            "the model memorised."
        )
    if grade == "none":
        return (
            "The interval covers 50 %: this audit does not show memorization, nor does it rule it out; "
            "other attacks may find more."
        )
    if grade == "reversed":
        return "Members score lower than nonmembers: check that the sides were not swapped, and how they were made."
    if result.meta.get("membership", {}).get("assignment") != "coin":
        return (
            "Membership was not assigned at random, so a part of this may be a difference between the splits that the "
            "blind attack does not detect."
        )
    return "This is a lower bound: other attacks, or reference models, may find more."


def _blind(result: Audited) -> str:
    p_value = result.metric("blind_p_value")
    if not math.isnan(p_value):
        return f"{result.metric('blind_auc'):.2f}, p-value {p_value:.2g}"
    auc, low, high = delong_interval(-result.errors["predictability"], result.member, group=result.group_codes)
    return f"{auc:.2f}" if math.isnan(low) else f"{auc:.2f} ({low:.2f} to {high:.2f})"


def _difference(result: Audited) -> str:
    share = explained_share(result.metric("blind_auc"), result.auc)
    part = "" if math.isnan(share) else f"; that could explain {100 * share:.0f} % of the AUC above 0.5"
    return (
        "The splits are distinguishable without the model: an attack that never queries it tells them apart (blind AUC "
        f"{_blind(result)}){part}."
    )


def _certainty_of_unfair(result: Audited) -> str:
    low, high = result.interval()
    plain = (
        f"A member scores higher than a nonmember {100 * result.auc:.0f} % of the time ({_interval(low, high)}; "
        "50 % is guessing)"
    )
    rows = result.metric("samples/matched")
    if math.isnan(rows):
        return f"{plain}."
    if math.isnan(result.metric("matched_auc")):
        return f"{plain}, but no member has a matching nonmember: no part of the data allows a fair comparison."
    each = int(rows) // 2
    low, high = result.metric("matched_auc_low"), result.metric("matched_auc_high")
    few = f"; fewer than {ENOUGH} pairs are weak evidence" if each < ENOUGH else ""
    matched = f"{counted(each, 'member')} and {counted(each, 'nonmember')}"
    span = "no interval: too few groups" if math.isnan(low) else f"{100 * low:.0f} to {100 * high:.0f} %"
    return f"{plain}; on {matched} matched without the model, {100 * result.metric('matched_auc'):.0f} % ({span}){few}."


def _interval(low: float, high: float) -> str:
    if math.isnan(low):
        return "no interval: too few groups"
    return f"95 % interval {100 * low:.0f} to {100 * high:.0f} %"


def _claim_of_unfair(result: Audited) -> str:
    low, high = result.interval()
    if low <= 0.5 <= high:
        return "The interval covers 50 %: this audit does not show memorization, nor does it rule it out."
    if high < 0.5:
        return "The interval lies below 50 %: the sides differ in the direction opposite to memorization."
    enough = result.metric("samples/matched") >= 2 * ENOUGH
    if enough and result.metric("matched_auc_low") > 0.5:
        return (
            "The matched samples lie above 50 %, too: what the blind attack detects does not explain it all, but only "
            "randomised assignment would show how much of it is memorization."
        )
    return "This audit cannot say whether the model memorises: repeat it with randomised assignment."
