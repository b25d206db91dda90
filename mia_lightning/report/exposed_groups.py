"""Groups in a report, such as patients: which of them the model exposes, with pictures where some were kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from mia_lightning.functional.groups import FEWEST_GROUPS
from mia_lightning.report.formatting import NONE, number, p_value, span
from mia_lightning.report.run import Run
from mia_lightning.result.history import groups_flagged_since

LISTED = 20
"""Groups in the table of the most exposed."""
_PICTURED = 4  # of a group


@dataclass(frozen=True)
class ExposedGroup:
    """A group of members that the report shows.

    Attributes:
        name: Its name.
        samples: Number of its samples.
        p_value: Chance that a group of nonmembers is as high.
        mark: Whether it is flagged, in a word; a dash where flags would be meaningless.
        since: Since which epoch it is, in words; a dash where that is not known.
        images: Id and data URI of pictures of its samples.
    """

    name: str
    samples: str
    p_value: str
    mark: str
    since: str
    images: tuple[tuple[str, str], ...] = ()

    @property
    def row(self) -> list[str]:
        """Its row of a table."""
        return [self.name, self.samples, self.p_value, self.mark, self.since]


HEAD = ["group", "samples", "p-value", "flagged", "since"]
"""Headings of :attr:`ExposedGroup.row`."""


def most_exposed_groups(run: Run, count: int = LISTED) -> list[ExposedGroup]:
    """The most exposed groups of members, the most exposed first; none where there are no groups, or too few."""
    table = run.result.group_table()
    if table is None:
        return []
    fair = run.result.verdict.grade != "unfair"
    since = groups_flagged_since(run.course) if fair and len(run.course) > 1 else {}
    images = _images(run)
    groups = []
    for row in table.most_exposed(count):
        epoch = since.get(table.names[row]) if table.flagged[row] else None
        groups.append(
            ExposedGroup(
                table.names[row],
                str(table.size[row]),
                p_value(float(table.p_value[row])),
                ("yes" if table.flagged[row] else "no") if fair else NONE,
                NONE if epoch is None else f"epoch {epoch + 1}",
                tuple(images.get(table.names[row], ())[:_PICTURED]),
            )
        )
    return groups


def groups_in_words(run: Run) -> str:
    """How well groups are told apart and how many are flagged; empty where there are no groups."""
    result = run.result
    if result.groups is None:
        return ""
    table = result.group_table()
    if table is None:
        return (
            f"Which groups are exposed cannot be told: with fewer than {FEWEST_GROUPS} groups on a side, or where one "
            "outweighs the others, chance is not known."
        )
    area, low, high = (result.metric(f"group/auc{end}") for end in ("", "_low", "_high"))
    told = (
        f"A group of members has a higher mean score than one of nonmembers with probability {number(area)} (95 % "
        f"interval {span(low, high)}; 0.5 is chance). "
    )
    if result.verdict.grade == "unfair":
        return f"{told}No group is flagged, since the comparison is unfair."
    flagged, members = int(table.flagged.sum()), int(table.member.sum())
    rate = f"{100 * result.fdr:.3g} %"
    return f"{told}{flagged} of {members} groups of members are flagged at a false discovery rate of {rate}."


def _images(run: Run) -> dict[str, Sequence[tuple[str, str]]]:
    """Pictures of members by group: what the model was shown."""
    result = run.result
    found: dict[str, list[tuple[str, str]]] = {}
    for picture in run.pictures:
        if result.groups is not None and result.member[picture.row] and "input" in picture.parts:
            name = result.groups[picture.row] or result.ids[picture.row]
            found.setdefault(name, []).append((result.ids[picture.row], picture.data_uri("input")))
    return dict(found)
