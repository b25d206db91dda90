"""Single samples in a report: galleries of those with pictures, and a table of the most exposed members."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mia_lightning import registry
from mia_lightning.report.formatting import NONE, number, p_value, short
from mia_lightning.report.run import Run
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import flagged_since
from mia_lightning.result.picture_files import PARTS, Group
from mia_lightning.result.remarks import pictured_slices
from mia_lightning.result.verdict_score import flagged_by_both

LISTED = 50
"""Members in the table of the most exposed."""
PICTURED = 12
"""Pictured samples a group."""

_HEADINGS: dict[Group, tuple[str, str]] = {
    "most exposed": ("Most exposed members", "Trained on, with the highest scores."),
    "least exposed": ("Least exposed members", "Trained on, with the lowest scores."),
    "member-like": (
        "Nonmembers that look like members",
        "Never trained on, with the highest scores: the first errors of the attack.",
    ),
}
_ERRORS = 3


@dataclass(frozen=True)
class ExposedSample:
    """A member or nonmember that the report shows, by its id.

    Attributes:
        score: Its primary score.
        errors: Its errors by label.
        p_value: Chance that a nonmember scores as high.
        flagged: Whether it is flagged at the audit's false discovery rate; None where flags would be meaningless.
        since: Since which epoch it is, in words; empty where that is not known.
        images: Part and data URI of each of its pictures.
    """

    id: str
    score: str
    errors: dict[str, str]
    p_value: str
    flagged: bool | None
    since: str
    images: tuple[tuple[str, str], ...] = ()

    @property
    def mark(self) -> str:
        """Whether it is flagged, in a word."""
        return NONE if self.flagged is None else "yes" if self.flagged else "no"


@dataclass(frozen=True)
class Gallery:
    """Pictured samples that are shown for the same reason."""

    title: str
    note: str
    samples: Sequence[ExposedSample]


def most_exposed(run: Run, count: int = LISTED) -> list[ExposedSample]:
    """The most exposed members without pictures, highest score first; none where a side is empty."""
    if run.result.member.all() or not run.result.member.any():
        return []
    return _samples(run, [(row, ()) for row in run.result.top_indices(count)])


def galleries(run: Run, each: int = PICTURED) -> list[Gallery]:
    """The samples with pictures, by the reason why they are shown, so many of each at the most."""
    pictured = []
    for group, (title, note) in _HEADINGS.items():
        chosen = list(islice((p for p in run.pictures if p.group == group), each))
        if chosen:
            rows = [(p.row, tuple((part, p.data_uri(part)) for part in PARTS if part in p.parts)) for p in chosen]
            text = f"{note} {pictured_slices(run.result)}".strip()
            pictured.append(Gallery(title, text, _samples(run, rows)))
    return pictured


def flagged_in_words(run: Run) -> str:
    """How many members are flagged at which false discovery rate; none where the comparison is unfair."""
    if _unfair(run):
        return (
            "No member is flagged, since the comparison is unfair: members that score unlike the nonmembers may differ "
            "from them whatever the model was trained on."
        )
    flagged, members = int(run.result.flagged().sum()), int(run.result.member.sum())
    return (
        f"{flagged} of {members} members are flagged at a false discovery rate of {100 * run.result.fdr:.3g} %."
        f"{flagged_by_both(run.result)}"
    )


def _samples(run: Run, rows: Sequence[tuple[int, tuple[tuple[str, str], ...]]]) -> list[ExposedSample]:
    result = run.result
    p_values, flagged = result.p_values(), result.flagged()
    fair = not _unfair(run)
    since = flagged_since(run.course) if fair and len(run.course) > 1 else {}  # a lone audit has no earlier ones
    score = result.scores[result.primary]
    errors = shown_errors(result)
    samples = []
    for row, images in rows:
        epoch = since.get(result.ids[row]) if flagged[row] else None
        samples.append(
            ExposedSample(
                result.ids[row],
                short(float(score[row])),
                {label: number(float(values[row]), 4) for label, values in errors.items()},
                p_value(float(p_values[row])),
                bool(flagged[row]) if fair else None,
                "" if epoch is None else f"epoch {epoch + 1}",
                images,
            )
        )
    return samples


def shown_errors(result: AuditResult) -> dict[str, NDArray[np.float64]]:
    """Errors that are shown for single samples, by label: the first three, and what was chosen beside them."""
    names = list(result.errors)
    specs = {name: registry.errors.find(name) for name in names[_ERRORS:]}
    chosen = [name for name, spec in specs.items() if spec and not spec.always and "neighbours" not in spec.needs]
    return {registry.errors.label(name): result.errors[name] for name in (*names[:_ERRORS], *chosen)}


def _unfair(run: Run) -> bool:
    return run.result.verdict.grade == "unfair"
