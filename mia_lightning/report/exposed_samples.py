"""The samples that a report shows one by one: those with pictures, and the most exposed in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from mia_lightning.report.formatting import NONE, number, p_value, short
from mia_lightning.report.run import Run
from mia_lightning.result.history import flagged_since
from mia_lightning.result.picture_files import PARTS, Group, Picture

LISTED = 50
"""Members in the table of the most exposed."""
PICTURED = 12
"""Pictured samples a group."""

_HEADINGS: dict[Group, tuple[str, str]] = {
    "most exposed": ("Most exposed members", "Trained on, and the model's error on them is the most telling."),
    "least exposed": ("Least exposed members", "Trained on, and the model shows it least."),
    "member-like": ("Nonmembers that look like members", "Never trained on: what the attack gets wrong first."),
}
_ERRORS = 3  # not those of each neighbour


@dataclass(frozen=True)
class Sample:
    """One sample.

    Attributes:
        id: Its name, as the user gave it.
        score: Its primary score.
        errors: Its errors by name.
        p_value: Chance that a nonmember scores as high.
        flagged: Whether it stands out at the audit's false discovery rate; None where that would mean nothing.
        since: Since when it does, in words; empty where that is not known.
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
    samples: Sequence[Sample]


def listed(run: Run, count: int = LISTED) -> list[Sample]:
    """The most exposed members, highest score first.

    Args:
        run: The run.
        count: How many at the most.

    Returns:
        Samples without pictures; none where a side is empty, so that nothing can be compared.
    """
    if run.result.member.all() or not run.result.member.any():
        return []
    return _samples(run, [(row, ()) for row in run.result.top_indices(count)])


def galleries(run: Run, each: int = PICTURED) -> list[Gallery]:
    """The samples with pictures, by the reason why they are shown.

    Args:
        run: The run.
        each: How many a group at the most.

    Returns:
        A gallery a group, those without pictures left out.
    """
    shown = []
    for group, (title, note) in _HEADINGS.items():
        chosen = list(islice((p for p in run.pictures if p.group == group), each))
        if chosen:
            shown.append(Gallery(title, note, _samples(run, [(p.row, _images(p)) for p in chosen])))
    return shown


def flagged_in_words(run: Run) -> str:
    """How many members stand out, and at what rate of error; where the comparison is unfair, that none can."""
    if _unfair(run):
        return (
            "No member is flagged, since the comparison is unfair: who scores unlike the nonmembers may be unlike "
            "them, whatever the model was trained on."
        )
    rate = float(run.result.meta.get("settings", {}).get("fdr", 0.1))
    flagged, members = int(run.result.flagged().sum()), int(run.result.member.sum())
    return f"{flagged} of {members} members are flagged at a false discovery rate of {100 * rate:.3g} %."


def _samples(run: Run, rows: Sequence[tuple[int, tuple[tuple[str, str], ...]]]) -> list[Sample]:
    result = run.result
    p_values, flagged = result.p_values(), result.flagged()
    told = not _unfair(run)
    since = flagged_since(run.course) if told and len(run.course) > 1 else {}  # a lone audit knows no before
    score = result.scores[result.primary]
    errors = dict(islice(result.errors.items(), _ERRORS))
    samples = []
    for row, images in rows:
        epoch = since.get(result.ids[row]) if flagged[row] else None
        samples.append(
            Sample(
                result.ids[row],
                short(float(score[row])),
                {name: number(float(values[row]), 4) for name, values in errors.items()},
                p_value(float(p_values[row])),
                bool(flagged[row]) if told else None,
                "" if epoch is None else f"epoch {epoch + 1}",
                images,
            )
        )
    return samples


def _unfair(run: Run) -> bool:
    return run.result.verdict.grade == "unfair comparison"


def _images(picture: Picture) -> tuple[tuple[str, str], ...]:
    return tuple((part, picture.data_uri(part)) for part in PARTS if part in picture.parts)
