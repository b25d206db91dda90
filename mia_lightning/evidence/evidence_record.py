"""The record of a test for evidence: what was found, as plain values, as JSON and as a text for people."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mia_lightning import registry
from mia_lightning.evidence.comparison import Comparison, ScoredImage
from mia_lightning.evidence.decision import CANNOT_CONCLUDE, number
from mia_lightning.result.atomic_files import write_atomically
from mia_lightning.result.json_values import without_nan

_FORMAT = 1
_LISTED = 50  # suspects that the text lists; the JSON file has all of them


@dataclass(frozen=True)
class Evidence:
    """What an audit of suspects against a reference shows.

    Attributes:
        conclusion: ``"supported"``, ``"not supported"`` or ``"cannot conclude"``.
        reason: Why, in a sentence or two.
        whole: All suspects against all of the reference.
        matched: Where the sets differ by themselves, the part of both that is alike; None otherwise.
        blind_auc: How well an attack that never queries the model tells the two sets apart.
        blind_p_value: Chance of such an area if nothing told them apart; NaN with fewer than 4 images on a side.
        level: P-value at or below which the claim counts as supported.
        fdr: False discovery rate at which single suspects are flagged.
        seed: Seed of folds and permutations.
        primary: Name of the score.
        suspects: The suspects, lowest p-value first.
        reference: The reference, highest score first.
        may_conclude: Sentences on what follows.
        may_not_conclude: Sentences on what does not.
        excluded: Images left out, each ``{"id", "side", "reason"}``.
        notes: Further remarks on how the numbers came about.
        meta: Task, checkpoint, settings and versions, as plain JSON values.
    """

    conclusion: str
    reason: str
    whole: Comparison
    matched: Comparison | None
    blind_auc: float
    blind_p_value: float
    level: float
    fdr: float
    seed: int
    primary: str
    suspects: list[ScoredImage]
    reference: list[ScoredImage]
    may_conclude: list[str]
    may_not_conclude: list[str]
    excluded: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def smallest_p_value(self) -> float:
        """The smallest p-value that a single suspect can have against this many references, or groups of them."""
        return 1.0 / (1.0 + self.whole.units[1])

    def to_text(self) -> str:
        """Lay everything out as sentences and tables of at most 100 columns, ending in a line break."""
        whole = self.whole
        listed = f"Suspects, lowest p-value first ({min(_LISTED, len(self.suspects))} of {whole.suspects})"
        lines = [
            *_section("Question", [f"Was the model trained on some of these {whole.suspects} images (the suspects)?"]),
            *_section("Answer", [self.conclusion.capitalize() + ".", self.reason]),
            *_section("Numbers", []),
            *(f"  {name:<46}{value}" for name, value in _numbers(self)),
            *_section("What may be concluded", self.may_conclude, "- "),
            *_section("What may not be concluded", self.may_not_conclude, "- "),
            *_section("How it was done", _method(self)),
            *_section(listed, []),
            *_table(self.suspects[:_LISTED]),
        ]
        if self.matched is not None or self.conclusion == CANNOT_CONCLUDE:
            why = "single p-values mean little where sets differ or nothing can be concluded."
            lines += ["", f"  None is marked: {why}"]
        if self.excluded:
            reasons = [f"{printable(e['id'])} ({e['side']}): {e['reason']}" for e in self.excluded[:_LISTED]]
            lines += _section(f"Left out ({len(self.excluded)})", reasons, "- ")
        if self.notes:
            lines += _section("Remarks", self.notes, "- ")
        return "\n".join(lines).lstrip("\n") + "\n"

    def to_json(self, path: str | Path) -> Path:
        """Write everything as JSON, replacing the file in one step; floats keep every bit, NaN becomes null."""
        content = {"format": _FORMAT, "smallest_p_value": self.smallest_p_value, **asdict(self)}
        for name in ("whole", "matched"):
            if content[name] is not None and not content[name]["suspect_groups"]:
                del content[name]["suspect_groups"], content[name]["reference_groups"]
        return write_atomically(path, json.dumps(without_nan(content), indent=1, allow_nan=False) + "\n")

    @classmethod
    def from_json(cls, path: str | Path) -> Evidence:
        """Read what :meth:`to_json` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file holds no evidence.
        """
        try:
            plain = json.loads(Path(path).read_text(encoding="utf-8"))
            if plain.get("format") != _FORMAT:
                raise ValueError(f"expected evidence of format {_FORMAT}, found {plain.get('format')!r}")  # noqa: TRY301 - one message for all
            return cls(**_from_plain(plain))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not hold evidence: {error}") from error


# ---- the text


def _section(title: str, paragraphs: Sequence[str], bullet: str = "") -> Iterable[str]:
    """An empty line, the title, and the paragraphs in at most 100 columns."""
    yield from ("", title.upper())
    for text in paragraphs:
        yield textwrap.fill(text, 100, initial_indent="  " + bullet, subsequent_indent="  " + " " * len(bullet))


def printable(name: str) -> str:
    r"""Show a file's name in one line, whatever characters it has.

    Example:
        >>> printable("house 7"), printable("two" + chr(10) + "lines")
        ('house 7', "'two\\nlines'")
    """
    return name if name.isprintable() else ascii(name)


def _area(comparison: Comparison) -> str:
    if math.isnan(comparison.auc):
        return "-"
    if math.isnan(comparison.auc_low):
        return f"{comparison.auc:.3f} (too few groups for an interval; 0.5 is chance)"
    return f"{comparison.auc:.3f} (95 % interval {comparison.auc_low:.3f} to {comparison.auc_high:.3f}; 0.5 is chance)"


def _numbers(evidence: Evidence) -> Iterable[tuple[str, str]]:
    whole, matched = evidence.whole, evidence.matched
    yield "suspects, references", f"{whole.suspects}, {whole.references}"
    if whole.suspect_groups:
        yield "groups of suspects, of references", f"{whole.suspect_groups}, {whole.reference_groups}"
    yield "p-value of the collection", number(whole.p_value)
    yield "  after allowing for what the images show", number(whole.adjusted_p_value)
    yield "  by Simes, for comparison", number(whole.simes_p_value)
    yield "chance that a suspect outscores a reference", _area(whole)
    yield "blind check: AUC, p-value", f"{evidence.blind_auc:.2f}, {number(evidence.blind_p_value)}"
    if matched is not None and matched.suspects:
        yield "matched suspects and as many references", f"{matched.suspects}"
        yield "  p-value of the matched collection", number(matched.p_value)
        yield "  after allowing for what the images show", number(matched.adjusted_p_value)
        yield "  chance that a suspect outscores a reference", _area(matched)
    yield "suspects that stand out one by one", f"{sum(s.flagged for s in evidence.suspects)}"
    yield "smallest p-value that one image can have", number(evidence.smallest_p_value)
    yield "level of the test, false discovery rate", f"{evidence.level:g}, {evidence.fdr:g}"


def _method(evidence: Evidence) -> list[str]:
    together = [
        "Groups: images of one group, such as a patient, count as one observation. A group of the reference counts "
        "with the share of its images that score as high, and groups are shuffled as wholes."
    ]
    return [
        *_definitions(evidence.primary, evidence.meta.get("errors", ())),
        *(together if evidence.whole.suspect_groups else ()),
        *(
            f"{subject.capitalize()}: read as {how}."
            for subject, how in evidence.meta.get("interpretation", {}).items()
        ),
        "P-value of an image: one plus the number of references that score as high, over one plus the number of "
        "references.",
        "P-value of the collection: Fisher's statistic, the sum of minus the logarithms of the images' p-values, so "
        "that many slightly unusual images count together. Its usual chi-squared table would be wrong, since the "
        "p-values share one reference and rise and fall together. Instead, who is suspect and who is reference was "
        f"shuffled 9,999 times (fewer above 5,000 images; seed {evidence.seed}) and everything computed anew. Simes' "
        "combination would be valid as well, but cannot fall below the smallest p-value of one image, however many "
        "images stand out.",
        "Blind check: a classifier that never queries the model is trained to tell suspects from references by "
        "statistics of the pairs alone, and tested by permutation. Where it succeeds, an attack could be measuring "
        "that difference, and suspects and references are matched by its log-odds.",
        "Allowing for what the images show: the same test on what a regression of the score on those statistics, "
        "fitted on the reference, leaves unexplained. Both tests have to pass.",
        f"Single images stand out at a false discovery rate of {evidence.fdr:g} (Benjamini and Hochberg).",
    ]


def _definitions(score: str, measured: Sequence[str]) -> Iterable[str]:
    """What the score is, and the errors that it is made of; optional ones only where they were measured."""
    spec = registry.scores.find(score)
    meaning = "" if spec is None else f": {spec.sentence.removesuffix('.')}"
    yield f"Score ({score}){meaning}. The higher, the more likely an image was trained on. Nonmembers: the reference."
    further = () if spec is None else (*spec.errors, *(name for name in spec.further_errors if name in measured))
    names = ["reconstruction", "predictability", *further]
    errors = [error for name in dict.fromkeys(names) if (error := registry.errors.find(name)) is not None]
    yield from (f"Error ({error.name}): {error.sentence}" for error in errors)


def _table(suspects: Iterable[ScoredImage]) -> Iterable[str]:
    yield f"  {'p-value':>9}  {'score':>11}  stands out  image"
    for s in suspects:
        yield f"  {number(s.p_value):>9}  {s.score:>11.4g}  {'yes' if s.flagged else '':<10}  {printable(s.id)}"


# ---- JSON


def _from_plain(plain: dict[str, Any]) -> dict[str, Any]:
    """Turn parsed JSON into the arguments of :class:`Evidence`."""
    fields = {k: v for k, v in plain.items() if k not in ("format", "smallest_p_value")}
    fields |= _with_nan({k: fields[k] for k in ("blind_auc", "blind_p_value")})
    fields |= {k: [ScoredImage(**_with_nan(row)) for row in fields[k]] for k in ("suspects", "reference")}
    comparisons = {k: fields[k] for k in ("whole", "matched")}
    return fields | {k: None if v is None else Comparison(**_with_nan(v)) for k, v in comparisons.items()}


def _with_nan(row: dict[str, Any]) -> dict[str, Any]:
    return {k: math.nan if v is None else v for k, v in row.items()}
