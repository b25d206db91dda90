"""Evidence in words: the conclusion and its reason, what may and may not be said, and the whole as a readable text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mia_lightning.functional.blind import SIGNIFICANT

if TYPE_CHECKING:
    from mia_lightning.evidence.weighing import Comparison, Evidence

SUPPORTED, NOT_SUPPORTED, CANNOT_CONCLUDE = "supported", "not supported", "cannot conclude"
MIN_REFERENCES = 20
"""References below which nothing is concluded."""

MIN_MATCHED = 20
"""Matched pairs below which a comparison of unlike sets is given up."""

SHOWN = 50
"""Suspects that the text lists; the JSON file has all of them."""

_WIDTH = 100
_DIFFER = "The suspects and the reference differ by themselves: without asking the model, they can be told apart"
_SCORES = {
    "reconstruction": "minus the error r of the model's output against the target",
    "membership": "p - r: the error r of the model's output against the target, lowered by how hard the pair is by "
    "itself (the error p of a linear prediction of the target from features of the input; Shafran, Peleg and Hoshen, "
    "ICCV 2021)",
    "calibrated": "how much smaller the error of the model's output is than the difficulty of the pair lets one "
    "expect; the relation was fitted on reference images other than the one it is applied to",
    "neighbour": "how much smaller the model's error on the pair is than on flipped, turned or shifted copies of it",
    "combined": "the sum of two standardised scores: how much smaller the model's error is than the difficulty of the "
    "pair (Shafran, Peleg and Hoshen, ICCV 2021), and than the model's errors on flipped, turned or shifted copies of "
    "it; the units were taken from reference images other than the one they are applied to",
}


def conclude(
    whole: Comparison, matched: Comparison | None, blind_auc: float, blind_p_value: float, level: float
) -> tuple[str, str]:
    """Decide what the numbers allow to conclude.

    Args:
        whole: All suspects against all of the reference.
        matched: The part of both that is alike, where the two differ by themselves.
        blind_auc: Area of the blind attack.
        blind_p_value: Its p-value, NaN where it could not be computed.
        level: P-value at or below which the claim counts as supported.

    Returns:
        The conclusion and the reason for it.
    """
    if refusal := _too_little(whole, blind_p_value, level):
        return CANNOT_CONCLUDE, refusal
    if blind_p_value < SIGNIFICANT:
        return _of_unlike_sets(matched, f"{_DIFFER} (blind AUC {blind_auc:.2f}, {_p(blind_p_value)})", level)
    passed = f"The blind check finds no difference between the two sets ({_p(blind_p_value)})"
    if whole.auc_high < 0.5:
        return CANNOT_CONCLUDE, (
            f"The model does worse on the suspects than on the reference (a suspect outscores a reference image with "
            f"chance {whole.auc:.2f}, 95 % interval {whole.auc_low:.2f} to {whole.auc_high:.2f}). Training does not do "
            "that: the two sets differ in something that the blind check does not see, such as the way in which they "
            "were stored or processed, and that could hide any other effect."
        )
    if whole.p_value > level:
        return NOT_SUPPORTED, (
            f"{passed}, and the model does not treat the suspects in a way that is unusual for images it was not "
            f"trained on ({_p(whole.p_value)}, which is above the level of {level:g})."
        )
    if whole.adjusted_p_value > level:
        return CANNOT_CONCLUDE, (
            f"The model treats the suspects unlike the reference ({_p(whole.p_value)}), but what sets the images apart "
            f"by themselves may be the cause: allowing for it leaves {_p(whole.adjusted_p_value)}, above the level of "
            f"{level:g}. A larger reference, more like the suspects, would tell."
        )
    return SUPPORTED, (
        f"{passed}, and the model treats the suspects unlike the reference, in the way it treats images it was trained "
        f"on ({_p(whole.p_value)}; {_p(whole.adjusted_p_value)} after allowing for what the images show by themselves)."
    )


def _too_little(whole: Comparison, blind_p_value: float, level: float) -> str | None:
    suspects, references = whole.suspects, whole.references
    if not suspects:
        return "There is no suspect with a score: see what was left out."
    if references < MIN_REFERENCES:
        return f"The reference has {references} images with a score; fewer than {MIN_REFERENCES} allow no conclusion."
    # The strongest outcome is one out of all ways to choose the suspects.
    ways = math.lgamma(suspects + references + 1) - math.lgamma(suspects + 1) - math.lgamma(references + 1)
    if -ways > math.log(level) + 1e-9:
        return (
            f"With {suspects} suspect(s) and {references} references even the strongest outcome would have a p-value "
            f"of {math.exp(-ways):.2g}, above the level of {level:g}. Add references."
        )
    if math.isnan(blind_p_value):
        return (
            "Whether the two sets are alike could not be checked: the blind check needs 4 or more images on either "
            f"side, and there are {suspects} suspects and {references} references."
        )
    return None


def _of_unlike_sets(matched: Comparison | None, differ: str, level: float) -> tuple[str, str]:
    advice = "Choose a reference that is like the suspects: same source, same time, same processing."
    if matched is None or matched.suspects < MIN_MATCHED:
        pairs = 0 if matched is None else matched.suspects
        return CANNOT_CONCLUDE, (
            f"{differ}. Whatever the model does may show that difference. Only {pairs} of the suspects have a like "
            f"image in the reference, and fewer than {MIN_MATCHED} are not tested. {advice}"
        )
    found = (
        f"On the {matched.suspects} suspects that have a like image in the reference the test gives "
        f"{_p(matched.p_value)}, and {_p(matched.adjusted_p_value)} after allowing for what the images show by "
        "themselves"
    )
    if max(matched.p_value, matched.adjusted_p_value) <= level:
        return SUPPORTED, (
            f"{differ}. So only like images were compared. {found}. The conclusion is about those suspects, and it "
            "rests on their being alike in what was measured."
        )
    return CANNOT_CONCLUDE, (
        f"{differ}. Whatever the model does may show that difference. {found}: not enough to support the claim, and "
        f"after such a choice not enough to speak against it. {advice}"
    )


def statements(
    conclusion: str, whole: Comparison, matched: Comparison | None, flagged: Sequence[str], fdr: float
) -> tuple[list[str], list[str]]:
    """Say what may be concluded and what may not.

    Args:
        conclusion: The conclusion.
        whole: All suspects against all of the reference.
        matched: The part of both that is alike, where the two differ by themselves.
        flagged: Names of the suspects that stand out one by one.
        fdr: False discovery rate at which they do.

    Returns:
        Sentences of both kinds.
    """
    tested = whole if matched is None else matched
    if conclusion == SUPPORTED:
        may = [
            f"The claim that some of the {tested.suspects} suspects were trained on is supported. If none of them had "
            f"been, an outcome as strong would be seen with probability {_number(tested.p_value)} or less."
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
        + (f", which cannot fall below {_number(1 / (1 + whole.references))} here." if whole.references else "."),
        "Everything rests on the reference: that none of it was trained on, and that it is like the suspects in all "
        "but that. The blind check looks at brightness, contrast, sharpness, classes and predictability, and finds "
        "only differences that so many images can show; it cannot vouch for what it does not look at.",
        "Each image counts as one observation. If several show the same thing (a building, a patient, a film), or the "
        "suspects were picked for their results, the p-values are too small.",
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


def render(evidence: Evidence) -> str:
    """Lay evidence out as text of at most 100 columns.

    Args:
        evidence: The evidence.

    Returns:
        The text, ending in a line break. Names are printed so that they cannot disturb the layout.
    """
    whole, matched = evidence.whole, evidence.matched
    parts = [
        *_section("Question", [f"Was the model trained on some of these {whole.suspects} images (the suspects)?"]),
        *_section("Answer", [evidence.conclusion.capitalize() + ".", evidence.reason]),
        *_section("Numbers", []),
        *(f"  {name:<46}{value}" for name, value in _numbers(evidence)),
        *_section("What may be concluded", evidence.may_conclude, "- "),
        *_section("What may not be concluded", evidence.may_not_conclude, "- "),
        *_section("How it was done", _method(evidence)),
        *_section(f"Suspects, lowest p-value first ({min(SHOWN, len(evidence.suspects))} of {whole.suspects})", []),
        *_table(evidence),
    ]
    if matched is not None or evidence.conclusion == CANNOT_CONCLUDE:
        parts += ["", "  None is marked: single p-values mean little where sets differ or nothing can be concluded."]
    if evidence.excluded:
        lines = [f"{printable(e['id'])} ({e['side']}): {e['reason']}" for e in evidence.excluded[:SHOWN]]
        parts += _section(f"Left out ({len(evidence.excluded)})", lines, "- ")
    if evidence.notes:
        parts += _section("Remarks", evidence.notes, "- ")
    return "\n".join(parts).lstrip("\n") + "\n"


def printable(name: str) -> str:
    r"""Show a file's name in one line, whatever characters it has.

    Example:
        >>> printable("house 7"), printable("two" + chr(10) + "lines")
        ('house 7', "'two\\nlines'")
    """
    return name if name.isprintable() else ascii(name)


def _numbers(evidence: Evidence) -> Iterable[tuple[str, str]]:
    whole, matched = evidence.whole, evidence.matched
    yield "suspects, references", f"{whole.suspects}, {whole.references}"
    yield "p-value of the collection", _number(whole.p_value)
    yield "  after allowing for what the images show", _number(whole.adjusted_p_value)
    yield "  by Simes, for comparison", _number(whole.simes_p_value)
    yield "chance that a suspect outscores a reference", _area(whole)
    yield "blind check: AUC, p-value", f"{evidence.blind_auc:.2f}, {_number(evidence.blind_p_value)}"
    if matched is not None and matched.suspects:
        yield "matched suspects and as many references", f"{matched.suspects}"
        yield "  p-value of the matched collection", _number(matched.p_value)
        yield "  after allowing for what the images show", _number(matched.adjusted_p_value)
        yield "  chance that a suspect outscores a reference", _area(matched)
    yield "suspects that stand out one by one", f"{sum(s.flagged for s in evidence.suspects)}"
    yield "smallest p-value that one image can have", _number(evidence.smallest_p_value)
    yield "level of the test, false discovery rate", f"{evidence.level:g}, {evidence.fdr:g}"


def _method(evidence: Evidence) -> list[str]:
    return [
        f"Score ({evidence.primary}): {_SCORES.get(evidence.primary, evidence.primary)}. The higher, the more likely "
        "an image was trained on.",
        "P-value of an image: one plus the number of references that score as high, over one plus the number of "
        "references.",
        "P-value of the collection: Fisher's statistic, the sum of minus the logarithms of the images' p-values, so "
        "that many slightly unusual images count together. Its usual chi-squared table would be wrong, since the "
        "p-values share one reference and rise and fall together. Instead, who is suspect and who is reference was "
        f"shuffled 9,999 times (fewer above 5,000 images; seed {evidence.seed}) and everything computed anew. Simes' "
        "combination would be valid as well, but cannot fall below the smallest p-value of one image, however many "
        "images stand out.",
        "Blind check: a classifier that never asks the model is trained to tell suspects from references by "
        "statistics of the pairs alone, and tested by permutation. Where it succeeds, an attack could be measuring "
        "that difference, and suspects and references are matched by its log-odds.",
        "Allowing for what the images show: the same test on what a regression of the score on those statistics, "
        "fitted on the reference, leaves unexplained. Both tests have to pass.",
        f"Single images stand out at a false discovery rate of {evidence.fdr:g} (Benjamini and Hochberg).",
    ]


def _table(evidence: Evidence) -> Iterable[str]:
    yield f"  {'p-value':>9}  {'score':>11}  stands out  image"
    for s in evidence.suspects[:SHOWN]:
        yield f"  {_number(s.p_value):>9}  {s.score:>11.4g}  {'yes' if s.flagged else '':<10}  {printable(s.id)}"


def _section(title: str, paragraphs: Sequence[str], bullet: str = "") -> Iterable[str]:
    yield from ("", title.upper())
    for text in paragraphs:
        yield textwrap.fill(text, _WIDTH, initial_indent="  " + bullet, subsequent_indent="  " + " " * len(bullet))


def _area(part: Comparison) -> str:
    if math.isnan(part.auc):
        return "-"
    return f"{part.auc:.3f} (95 % interval {part.auc_low:.3f} to {part.auc_high:.3f}; 0.5 is chance)"


def _p(value: float) -> str:
    return f"p = {_number(value)}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2g}"
