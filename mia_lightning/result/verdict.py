"""The verdict on an audit: a grade and three sentences (finding, certainty, limitation), fairness judged first."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from scipy.special import logit

from mia_lightning.functional.blind import SIGNIFICANT, explained_share
from mia_lightning.functional.groups import FEWEST_GROUPS, too_few_groups, units
from mia_lightning.functional.intervals import delong_interval, half_width_at_chance, upper_bound_at_chance
from mia_lightning.result.remarks import (
    TOO_MUCH_SHARED,
    Audited,
    by_coin,
    counted,
    epsilon,
    matched_pairs,
    not_estimable,
    notes,
    shared,
    sides,
    single_samples,
    unverified,
)
from mia_lightning.result.verdict_score import ByVerdictScore

Grade = Literal["strong", "weak", "none", "inconclusive", "unfair"]

# With fewer samples a side, matched or not, neither the blind test nor an interval says enough to rest a claim on.
ENOUGH = 20
MARGIN = 0.6
"""The largest AUC that may be overlooked where an audit is said to find none: with 63 samples a side at the least."""
REVERSED = "reversed: sides swapped?"
EXPLAINED = "explained by the pairs alone"
BY_CHANCE = "within chance, allowing for all looks and tests"
# Strong: even the lower bound of the AUC reaches this, or even the lower bound of the true positives at 1 % does.
STRONG_AUC = 0.7
STRONG_TPR = 0.1


@dataclass(frozen=True)
class Verdict:
    """An audit in words.

    Attributes:
        grade: One word for it; :func:`judge` documents the thresholds.
        found: What was found.
        certainty: How sure that is.
        limitation: What limits it most.
        remarks: Further sentences: single samples, epsilon bounds, notes of the audit.
        reason: Why the grade is ``inconclusive`` or ``unfair``, in a few words; empty for other grades.
        score: The score that it rests on.
    """

    grade: Grade
    found: str
    certainty: str
    limitation: str
    remarks: tuple[str, ...] = ()
    reason: str = ""
    score: str = ""

    @property
    def sentences(self) -> tuple[str, str, str]:
        """The three sentences."""
        return self.found, self.certainty, self.limitation

    @property
    def summary(self) -> str:
        """The grade, with its reason where it has one."""
        return f"{self.grade} ({self.reason})" if self.reason else self.grade

    @property
    def basis(self) -> str:
        """Which score it rests on, in words that follow the grade; empty where that is not known."""
        return f"by the {self.score} score" if self.score else ""

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

    It rests on one score, ``meta["verdict_score"]``, whose AUC, interval, p-values and flags it is that count below;
    results that name none rest on the primary score.

    The grade, by the first line that holds:

    ============  =================================================================================================
    inconclusive  a side has no sample left (reason: no result)
    unfair        half of a side or more is on the other, too; or an attack that never queries the model distinguishes
                  sides that were not assigned by coins (p-value below 0.05)
    inconclusive  samples come in groups, and a side has fewer than six, or one that outweighs the others (too few
                  samples); or the 95 % interval of the AUC lies below 0.5 (reversed: sides swapped?)
    inconclusive  of sides that were not assigned by coins: chance does not explain both the AUC and the most exposed
                  members, but the statistics of the pairs and chance do (explained by the pairs alone)
    strong        chance does not explain both the AUC and the most exposed members (twice the smaller of both
                  p-values, which allow for all looks at the training, is 0.05 or below); and the interval of the AUC
                  begins at 0.7 or above, or that of the true-positive rate at a false-positive rate of 1 %, where that
                  can be estimated, at 0.1 or above
    weak          chance does not explain both
    none          as much memorization as would matter would have shown: the upper bound that these samples give at the
                  AUC, or at 0.5 if it is lower, is at most 0.6; the interval covers 0.5; and no test of the most
                  exposed finds any by itself, nor is one flagged
    inconclusive  anything else (too few samples; or within chance, allowing for all looks and tests)
    ============  =================================================================================================

    With fewer than 20 samples a side, *strong* and *weak* ask for an interval above 0.5, too.

    The sentences speak of memorization only where membership was assigned at random. Members that are not known to be
    those of the training are said to be unverified.
    """
    result = ByVerdictScore(result)
    return replace(_judge(result), score=result.primary)


def _judge(result: Audited) -> Verdict:
    grade, reason = _grade(result)
    if reason == "no result":
        why = (
            "the primary score has no number of some samples" if _smaller_side(result) else "a side has no sample left"
        )
        return Verdict(
            grade,
            f"No AUC could be computed: {why}.",
            "Nothing can be said about memorization.",
            "See what was excluded in the result, and why.",
            tuple(notes(result)),
            reason,
        )
    if shared(result) >= TOO_MUCH_SHARED:
        return Verdict(
            grade,
            f"{100 * shared(result):.0f} % of the smaller side is on the other side, too (same input and target).",
            "Samples on both sides are compared with themselves: what the model memorised of them cannot show.",
            "Pass the samples that the model was trained on as members, and only other samples as nonmembers.",
            tuple(notes(result)),
            reason,
        )
    if grade == "unfair":
        sentences = _difference(result), _certainty_of_unfair(result), _claim_of_unfair(result)
        return Verdict(grade, *sentences, tuple(notes(result)), reason)
    more = single_samples(result) + epsilon(result) + _coincidence(result) + notes(result)
    limitation = _limitation(result, grade, reason)
    return Verdict(grade, _found(result, grade, reason), _certainty(result), limitation, tuple(more), reason)


def headline(result: Judged) -> str:
    """Put an audit into one line: when, how much, how sure, at few false positives, and without the model.

    For example ``epoch 10 | membership AUC 0.905 [0.86, 0.94] | TPR at 1 % FPR 0.21 | blind 0.52 | strong``, or, where
    the verdict rests on another score, ``... | combined AUC 0.985 [0.96, 0.99] | blind 0.52 | strong by combined``.
    What could not be computed is left out, and so is a TPR that cannot be estimated.
    """
    rate = math.nan if not_estimable(result, 0.01) else result.metric("tpr_at_fpr_0.01")
    numbers = {_area(result): result.auc, f"TPR at 1 % FPR {rate:.2f}": rate}
    grade, rested = result.verdict.summary, ByVerdictScore(result)
    if rested.primary != result.primary:
        numbers[_area(rested)] = rested.auc
        grade = f"{result.verdict.grade} by {rested.primary}{grade.removeprefix(result.verdict.grade)}"
    numbers[f"blind {result.metric('blind_auc'):.2f}"] = result.metric("blind_auc")
    when = [] if result.epoch is None else [f"epoch {result.epoch + 1}"]
    measured = [text for text, value in numbers.items() if not math.isnan(value)]
    doubt = ["members unverified"] if unverified(result) else []
    return " | ".join([*when, *measured, grade, *doubt])


def _area(result: Audited) -> str:
    low, high = result.interval()
    interval = "" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    return f"{result.primary} AUC {result.auc:.3f}{interval}"


def sides_differ(result: Audited) -> bool:
    """Whether an attack that never queries the model distinguishes the two sides."""
    p_value = result.metric("blind_p_value")
    if not math.isnan(p_value):
        return p_value < SIGNIFICANT
    _, low, high = delong_interval(-result.errors["predictability"], result.member, group=result.group_codes)
    return low > 0.5 or high < 0.5  # there may be no interval


def _grade(result: Audited) -> tuple[Grade, str]:
    """The grade, and the reason where it is inconclusive or unfair."""
    if math.isnan(result.auc):
        return "inconclusive", "no result"
    if shared(result) >= TOO_MUCH_SHARED:
        return "unfair", "samples on both sides"
    if sides_differ(result) and not by_coin(result):
        return "unfair", "distinguishable splits"
    low, high = result.interval()
    if _few_groups(result):
        return "inconclusive", "too few samples"
    if high < 0.5:
        return "inconclusive", REVERSED
    if chance_of(result) <= SIGNIFICANT and (low > 0.5 or _smaller_side(result) >= ENOUGH):
        return _claim(result)
    if low > 0.5 or _stand_out(result):
        return "inconclusive", BY_CHANCE
    return ("none", "") if _upper_bound(result) <= MARGIN else ("inconclusive", "too few samples")


def _claim(result: Audited) -> tuple[Grade, str]:
    """How strong what chance does not explain is, unless the pairs alone and chance explain it."""
    if not by_coin(result) and result.metric("adjusted_p_value") > SIGNIFICANT:
        return "inconclusive", EXPLAINED
    few_positives = not not_estimable(result, 0.01) and result.metric(f"tpr_low_at_fpr_0.01/{result.primary}")
    strong = result.interval()[0] >= STRONG_AUC or few_positives >= STRONG_TPR
    return ("strong" if strong else "weak"), ""


def chance_of(result: Audited) -> float:
    """The probability that chance alone shows as much by the AUC or by the most exposed, for one or the other.

    Both p-values allow for all looks at a training, and twice the smaller one allows for there being two of them.
    Results of before that have neither are judged by the interval: 0 where it lies above 0.5, else 1.
    """
    tests = [result.metric(key) for key in ("p_value_corrected", "p_value_corrected/most_exposed")]
    p_values = [p_value for p_value in tests if not math.isnan(p_value)]
    return min(1.0, 2.0 * min(p_values)) if p_values else float(not result.interval()[0] > 0.5)


def some_stand_out(result: Audited) -> bool:
    """Whether single members stand out: by flags, or by a p-value that allows for all looks and for the AUC's test."""
    return 2.0 * result.metric("p_value_corrected/most_exposed") <= SIGNIFICANT or bool(result.flagged().any())


def _stand_out(result: Audited) -> bool:
    """Whether members stand out by a test of this audit alone, which allows for no other look and no other test."""
    return result.metric("p_value/most_exposed") <= SIGNIFICANT or bool(result.flagged().any())


def _upper_bound(result: Audited) -> float:
    """Upper bound that these samples would give if the AUC were 0.5, where it is lower; else its own."""
    return upper_bound_at_chance(result.auc, result.interval()[1])


def _settled_by(result: Audited) -> int | None:
    """Units a side that would settle it at this AUC: an interval above 0.5, or a bound within the margin; None: many.

    The width of intervals falls with the root of the number of samples.
    """
    at = max(result.auc, 0.5)
    reach = max(logit(at), logit(MARGIN) - logit(at))
    if not math.isfinite(half := half_width_at_chance(result.auc, result.interval()[1])):
        return None
    members, nonmembers = units(result.member, result.group_codes)
    return math.ceil((half / reach) ** 2 * 2.0 / (1.0 / members + 1.0 / nonmembers))


def _few_groups(result: Audited) -> bool:
    return too_few_groups(result.member, result.group_codes)


def _smaller_side(result: Audited) -> int:
    members = int(result.member.sum())
    return min(members, len(result.member) - members)


def _found(result: Audited, grade: Grade, reason: str) -> str:
    often = (
        f"a member scores higher than a nonmember {_percent(result.auc)} of the time by the {result.primary} score "
        "(50 % is guessing)"
    )
    if reason == REVERSED:
        return f"The two sides differ in the direction opposite to memorization: {often}."
    if grade == "inconclusive":
        return f"The audit is inconclusive: {often}."
    if grade == "none":
        return f"No memorization was found: {often}."
    if _only_few(result):
        what = (
            "gives away a few of the samples it was trained on"
            if by_coin(result)
            else "treats a few members unlike nonmembers"
        )
        return f"The model {what}, which have the highest scores of all; over all samples, {often}."
    if by_coin(result):
        much = "clearly gives away" if grade == "strong" else "gives away a little of"
        return f"The model {much} which samples it was trained on: {often}."
    # A model can be worse on images of another hospital without having memorised anything.
    degree = "very differently" if grade == "strong" else "differently"
    return f"The model treats the two sides {degree}, in the direction of memorization: {often}."


def _percent(share: float) -> str:
    """A share as a whole percentage, which is 0 or 100 only where it is exactly that."""
    if 0.0 < share < 0.005 or 0.995 <= share < 1.0:
        return "less than 1 %" if share < 0.5 else "more than 99 %"
    return f"{100 * share:.0f} %"


def _certainty(result: Audited) -> str:
    low, high = result.interval()
    if _few_groups(result):
        return f"From {sides(result)}, there is no interval; {_fair(result)}."
    share = f"With 95 % confidence the share lies between {100 * low:.0f} and {100 * high:.0f} %, from {sides(result)}"
    if high < 0.5:  # the p-value asks for the other direction
        return f"{share}."
    p_value, exposed = result.metric("p_value_corrected"), result.metric("p_value_corrected/most_exposed")
    looks = int(result.meta.get("looks") or 1)
    corrected = f" (corrected for {looks} looks)" if looks > 1 else ""
    at_top = "" if math.isnan(exposed) else f", and so many members at the top {_probability(exposed)}"
    chance = f"; by chance alone that much has probability {_probability(p_value)}{at_top}{corrected}"
    return f"{share}{'' if math.isnan(p_value) else chance}; {_fair(result)}."


def _probability(p_value: float) -> str:
    return "below 0.001" if p_value < 0.001 else f"{p_value:.2g}"


def _only_few(result: Audited) -> bool:
    """Whether chance explains the AUC, but not the most exposed."""
    return 2.0 * result.metric("p_value_corrected") > SIGNIFICANT


def _coincidence(result: Audited) -> list[str]:
    """What a blind difference means where coins made the sides."""
    if not sides_differ(result):
        return []
    return [
        f"The blind attack tells the sides apart (blind AUC {_blind(result)}), although coins assigned membership: one "
        "in twenty such audits shows that by chance. A part of the AUC may come from it."
    ]


def _fair(result: Audited) -> str:
    if _smaller_side(result) < ENOUGH or _few_groups(result):
        return f"they are too few to test whether the splits are distinguishable (blind AUC {_blind(result)})"
    adjusted = (
        f"; allowing for what the images show by themselves, the share is {_adjusted(result)}"
        if not math.isnan(result.metric("adjusted_auc"))
        else ""
    )
    if sides_differ(result):
        return f"without the model a difference is found, in spite of the coins (blind AUC {_blind(result)}){adjusted}"
    shift = result.metric("blind_detectable_shift")
    power = "" if math.isnan(shift) else f"; a shift of {shift:.2f} standard deviations would have been found with 80 %"
    return f"without the model no difference was found (blind AUC {_blind(result)}){power}{adjusted}"


def _adjusted(result: Audited) -> str:
    low, high = result.metric("adjusted_auc_low"), result.metric("adjusted_auc_high")
    return f"{100 * result.metric('adjusted_auc'):.0f} % ({_span(low, high)})"


def _span(low: float, high: float) -> str:
    return "no interval: too few groups" if math.isnan(low) else f"{100 * low:.0f} to {100 * high:.0f} %"


def _limitation(result: Audited, grade: Grade, reason: str) -> str:
    if _few_groups(result):
        least = min(units(result.member, result.group_codes))
        if least >= FEWEST_GROUPS:
            return (
                "The samples of a group are not independent, and one group has so large a part of a side that chance "
                "in it alone moves the AUC: audit fewer of its samples, or more groups (groups='none' if these samples "
                "are independent)."
            )
        return (
            f"The samples of a group are not independent, and {counted(least, 'group')} on a side "
            f"{'is' if least == 1 else 'are'} too few to tell how much chance moves the AUC: audit samples of at least "
            f"{FEWEST_GROUPS} groups a side (groups='none' if these samples are independent)."
        )
    if grade == "inconclusive":
        return _undecided(result, reason)
    if grade == "none" and unverified(result):
        return (
            "The members are unverified: where they are not those of the training, an audit finds nothing, whatever "
            "the model memorised."
        )
    if grade == "none":
        bound = 100 * _upper_bound(result)
        return (
            f"Up to {bound:.0f} % may have been overlooked: this audit does not show memorization, nor does it rule "
            "all of it out; other attacks may find more."
        )
    if not by_coin(result):
        return (
            "Membership was not assigned at random, so a part of this may be a difference between the splits that the "
            "blind attack does not detect."
        )
    return "This is a lower bound: other attacks, or reference models, may find more."


def _undecided(result: Audited, reason: str) -> str:
    """Why an audit is inconclusive, and what to do."""
    low, high = result.interval()
    if reason == REVERSED:
        return "Members score lower than nonmembers: check that the sides were not swapped, and how they were made."
    if reason == EXPLAINED:
        return (
            "What sets the images apart by themselves, although it is too little for the blind attack, and chance may "
            "be the cause: more samples, or membership assigned at random, would tell."
        )
    if reason == "too few samples":
        return f"The interval from {100 * low:.0f} to {100 * high:.0f} % is too wide to decide: {_advice(result)}."
    what = "The interval lies above 50 %" if low > 0.5 else "Members have many of the highest scores"
    return (
        f"{what}, but one of so many looks and tests may show that by chance: this audit does not show "
        f"memorization, nor does it rule it out; {_advice(result)}."
    )


def _advice(result: Audited) -> str:
    """How many samples would settle it, where that is more than there are."""
    number = _settled_by(result)
    if number is None or number <= min(units(result.member, result.group_codes)):
        return "audit more samples"
    thing = "samples" if result.group_codes is None else "groups"
    return f"at this AUC about {max(number, ENOUGH)} {thing} a side would settle it: audit more samples"


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
        f"A member scores higher than a nonmember {_percent(result.auc)} of the time by the {result.primary} score "
        f"({_interval(low, high)}; 50 % is guessing)"
    )
    if not math.isnan(result.metric("adjusted_auc")):
        plain += f"; allowing for what the images show by themselves, {_adjusted(result)}"
    rows = result.metric("samples/matched")
    if math.isnan(rows):
        return f"{plain}."
    if math.isnan(result.metric("matched_auc")):
        return f"{plain}, but no member has a matching nonmember: no part of the data allows a fair comparison."
    each, matched = matched_pairs(result)
    low, high = result.metric("matched_auc_low"), result.metric("matched_auc_high")
    few = f"; fewer than {ENOUGH} pairs are weak evidence" if each < ENOUGH else ""
    left = result.metric("matched_imbalance")
    apart = "" if math.isnan(left) else f", which still differ by up to {left:.2f} standard deviations"
    share = f"{100 * result.metric('matched_auc'):.0f} % ({_span(low, high)})"
    return f"{plain}; on {matched} matched without the model{apart}, {share}{few}."


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
    return "This audit cannot say whether the model memorises: repeat it with randomised assignment."
