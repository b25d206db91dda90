"""The decision about evidence: what the numbers allow to conclude, and what they do not."""

import math
from collections.abc import Sequence

from mia_lightning.evidence.comparison import Comparison
from mia_lightning.functional.blind import SIGNIFICANT
from mia_lightning.functional.groups import FEWEST_GROUPS

SUPPORTED, NOT_SUPPORTED, CANNOT_CONCLUDE = "supported", "not supported", "cannot conclude"
NEAR = 0.05  # p-values from the level up to this one, or to twice the level, are near it
MIN_REFERENCES = 20  # fewer allow no conclusion
MIN_MATCHED = 20  # fewer matched pairs are not tested

_DIFFER = "The suspects and the reference differ by themselves: they are distinguishable without the model"


def number(value: float) -> str:
    """Two significant digits; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.2g}"


def _p_is(value: float) -> str:
    return f"p = {number(value)}"


def check_level(level: float) -> None:
    """Raise ValueError for a level that shuffles cannot resolve."""
    if not 0.001 <= level <= 0.1:
        raise ValueError(f"Expected a level in [0.001, 0.1], which shuffles can resolve, but got {level}.")


def is_near(p_value: float, level: float) -> bool:
    """Whether a p-value is above the level, but no absence of signs.

    Example:
        >>> [is_near(p_value, 0.01) for p_value in (0.01, 0.0104, 0.05, 0.06)]
        [False, True, True, False]
    """
    return level < p_value <= max(NEAR, 2.0 * level)


def conclude(
    whole: Comparison, matched: Comparison | None, blind_auc: float, blind_p_value: float, level: float
) -> tuple[str, str]:
    """Decide what the numbers allow to conclude, and give the reason; arguments are fields of :class:`Evidence`."""
    if refusal := _too_little(whole, blind_p_value, level):
        return CANNOT_CONCLUDE, refusal
    if blind_p_value < SIGNIFICANT:
        return _of_unlike_sets(matched, f"{_DIFFER} (blind AUC {blind_auc:.2f}, {_p_is(blind_p_value)})", level)
    passed = f"The blind check finds no difference between the two sets ({_p_is(blind_p_value)})"
    if whole.auc_high < 0.5:
        return CANNOT_CONCLUDE, (
            f"The model does worse on the suspects than on the reference (a suspect outscores a reference image with "
            f"chance {whole.auc:.2f}, 95 % interval {whole.auc_low:.2f} to {whole.auc_high:.2f}). Training does not do "
            "that: the two sets differ in something that the blind check does not see, such as the way in which they "
            "were stored or processed, and that could hide any other effect."
        )
    if is_near(whole.p_value, level):
        return NOT_SUPPORTED, (
            f"{passed}, and the model treats the suspects unlike the reference, in the way it treats images it was "
            f"trained on, but not clearly enough (p = {whole.p_value:.3g}, which is above the level of {level:g}, but "
            "near it)."
        )
    if whole.p_value > level:
        return NOT_SUPPORTED, (
            f"{passed}, and the model does not treat the suspects in a way that is unusual for images it was not "
            f"trained on (p = {whole.p_value:.3g}, which is above the level of {level:g})."
        )
    if whole.adjusted_p_value > level:
        return CANNOT_CONCLUDE, (
            f"The model treats the suspects unlike the reference ({_p_is(whole.p_value)}), but what sets the images "
            f"apart by themselves may be the cause: allowing for it leaves {_p_is(whole.adjusted_p_value)}, above the "
            f"level of {level:g}. A larger reference, more like the suspects, would tell."
        )
    return SUPPORTED, (
        f"{passed}, and the model treats the suspects unlike the reference, in the way it treats images it was trained "
        f"on ({_p_is(whole.p_value)}; {_p_is(whole.adjusted_p_value)} after allowing for what the images show by "
        "themselves)."
    )


def _too_little(whole: Comparison, blind_p_value: float, level: float) -> str | None:
    suspects, references = whole.suspects, whole.references
    if not suspects:
        return "There is no suspect with a score: see what was left out."
    if references < MIN_REFERENCES:
        return f"The reference has {references} images with a score; fewer than {MIN_REFERENCES} allow no conclusion."
    first, second = whole.units
    grouped = "" if whole.units == (suspects, references) else " groups of"
    if grouped and second < FEWEST_GROUPS:
        return (
            f"The reference comes in {second} group(s): images of one group are not independent, and fewer than "
            f"{FEWEST_GROUPS} groups allow no conclusion. Add references of other groups."
        )
    # The strongest outcome is one out of all ways to choose the suspects.
    ways = math.lgamma(first + second + 1) - math.lgamma(first + 1) - math.lgamma(second + 1)
    if -ways > math.log(level) + 1e-9:
        return (
            f"With {first}{grouped} suspect(s) and {second}{grouped} references even the strongest outcome would have "
            f"a p-value of {math.exp(-ways):.2g}, above the level of {level:g}. Add references."
        )
    if math.isnan(blind_p_value):
        return (
            "Whether the two sets are alike could not be checked: the blind check needs 4 or more images on either "
            f"side, and there are {suspects} suspects and {references} references."
        )
    return None


def _of_unlike_sets(matched: Comparison | None, differ: str, level: float) -> tuple[str, str]:
    advice = "Choose a reference that is like the suspects: same source, same time, same processing."
    confounded = "A difference in the model's errors may come from that alone."
    pairs = 0 if matched is None else min(matched.units)
    things, like = ("groups of suspects", "group") if matched and matched.suspect_groups else ("suspects", "image")
    if matched is None or pairs < MIN_MATCHED:
        return CANNOT_CONCLUDE, (
            f"{differ}. {confounded} Only {pairs} of the {things} have a like {like} in the reference, and fewer than "
            f"{MIN_MATCHED} are not tested. {advice}"
        )
    found = (
        f"On the {pairs} {things} that have a like {like} in the reference the test gives "
        f"{_p_is(matched.p_value)}, and {_p_is(matched.adjusted_p_value)} after allowing for what the images show by "
        "themselves"
    )
    if max(matched.p_value, matched.adjusted_p_value) <= level:
        return SUPPORTED, (
            f"{differ}. So only like images were compared. {found}. The conclusion is about those suspects, and it "
            "rests on their being alike in what was measured."
        )
    return CANNOT_CONCLUDE, (
        f"{differ}. {confounded} {found}: not enough to support the claim, and after such a choice not enough to speak "
        f"against it. {advice}"
    )


def _observations(whole: Comparison) -> str:
    """What counts as one observation."""
    if whole.suspect_groups:
        return (
            f"Each group of images counts as one observation: {whole.suspect_groups} of suspects, "
            f"{whole.reference_groups} of the reference. If groups show the same thing, or the suspects were picked "
            "for their results, the p-values are too small."
        )
    return (
        "Each image counts as one observation. If several show the same thing (a building, a patient, a film), or the "
        "suspects were picked for their results, the p-values are too small."
    )


def statements(
    conclusion: str, whole: Comparison, matched: Comparison | None, flagged: Sequence[str], fdr: float, level: float
) -> tuple[list[str], list[str]]:
    """Sentences on what may be concluded and on what may not, where the flagged suspects stand out one by one.

    A p-value near the level is no absence of signs.
    """
    tested = whole if matched is None else matched
    if conclusion == SUPPORTED:
        may = [
            f"The claim that some of the {tested.suspects} suspects were trained on is supported. If none of them had "
            f"been, an outcome as strong would be seen with probability {number(tested.p_value)} or less."
        ]
    elif conclusion == NOT_SUPPORTED and is_near(whole.p_value, level):
        may = [
            f"The claim is not supported at the level of {level:g}, but the outcome is near it (p = "
            f"{whole.p_value:.3g}): there is a sign that some of the suspects were trained on, too weak for the claim. "
            "More suspects and a larger reference would tell."
        ]
    elif conclusion == NOT_SUPPORTED:
        may = ["This test finds no sign that any of the suspects were trained on."]
    else:
        may = ["Nothing about whether the suspects were trained on, in either direction."]
    if flagged:
        may.append(
            f"{len(flagged)} of the suspects stand out one by one; of such calls at most a share of {fdr:g} is "
            "expected to be wrong."
        )
    may_not = [
        "A p-value is not the probability that the images were not trained on, and one minus it is not the probability "
        "that they were. It says how often images that were not trained on would look like this.",
        "Nothing is proven about a single image beyond its own p-value"
        + (f", which cannot fall below {number(1 / (1 + whole.units[1]))} here." if whole.references else "."),
        "Everything rests on the reference: that none of it was trained on, and that it is like the suspects in all "
        "but that. The blind check looks at what images show by themselves (brightness, contrast, sharpness, tint, "
        "frequencies, traces of JPEG, sizes, classes, predictability, frozen features), and finds only differences "
        "that so many images can show; it cannot vouch for what it does not look at.",
        _observations(whole),
        "The score has to be chosen before its result is known. Whoever tries several and reports the best has no "
        "p-value.",
        "A copy or near copy of a suspect in the training data looks the same as the suspect. The test does not say "
        "who trained on it, from which source, or with what right.",
    ]
    if conclusion == SUPPORTED:
        may_not.append("The test does not say how many of the suspects were trained on, nor that all of them were.")
    else:
        may_not.append(
            "Absence of evidence is not evidence of absence: the model may have been trained on the suspects without "
            "giving it away to this test."
        )
    return may, may_not
