"""What the command line prints when a training or an audit is over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from mia_lightning.cli.terminal import add_to_json
from mia_lightning.figures.curves import memorization_curve
from mia_lightning.figures.style import to_png
from mia_lightning.report.json_summary import json_summary
from mia_lightning.report.terminal_chart import curve_chart
from mia_lightning.report.terminal_tables import (
    curve_table,
    exposed_groups_table,
    exposed_table,
    further_metrics_table,
    scores_table,
    slices_table,
)
from mia_lightning.report.write import write_report_or_warn
from mia_lightning.result.atomic_files import write_bytes_atomically
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import flagged_since, groups_flagged_since
from mia_lightning.result.remarks import readings
from mia_lightning.result.verdict import Grade
from mia_lightning.result.verdict_score import flagged_by_both

By = Literal["sample", "group"]
"""What the most exposed are listed by."""

_COLOURS: dict[Grade, str] = {"strong": "bold red", "none": "bold green"}  # of other grades: yellow


def print_exposed(
    console: Console,
    result: AuditResult,
    earlier: Sequence[AuditResult] = (),
    top: int | None = None,
    by: By = "sample",
) -> None:
    """Print how many members stand out, and which of them most.

    Args:
        console: Where to print.
        result: An audit of trained weights.
        earlier: Audits of the training that made them, in order.
        top: How many members to list; None lists none.
        by: What to list: samples, or groups of them.
    """
    members = int(result.member.sum())
    if members in (0, len(result.member)):
        return  # the verdict has said so
    flagged = int(result.flagged().sum())
    which = flagged_by_both(result)
    console.print(
        f"Flagged at a false discovery rate of {100 * result.fdr:.3g} %: {flagged} of {members} members.{which}"
    )
    if top is None:
        return
    since = flagged_since([*earlier, result], result.fdr, result.primary) if earlier else {}
    console.print()
    if by == "group":
        since = groups_flagged_since([*earlier, result], result.fdr) if earlier else {}
        groups = exposed_groups_table(result, top, since)
        if groups is None:
            what = "are too few groups a side" if result.groups is not None else "are no groups: name them (groups)"
            console.print(f"--by group: there {what}.", style="yellow")
            return
        console.print(groups)
    else:
        console.print(exposed_table(result, top, since))
    if earlier:
        console.print("Since: the first audited epoch from which a member stays flagged.")
    elif result.meta.get("source") != "outputs":  # which have no epochs
        console.print("Since when is not known: neither the checkpoint nor its run's folder holds earlier audits.")


def print_history(console: Console, history: Sequence[AuditResult], files: Sequence[Path]) -> None:
    """Print the curve of a run and what it means.

    Args:
        console: Where to print.
        history: Results in the order of the epochs; without one only that is said.
        files: What was written of them.
    """
    if not history:
        console.print("No validation epoch was audited: audit.every_n_epochs is longer than the run.", style="yellow")
        return
    console.print()
    console.print(curve_table(history))
    if len(history) > 1:
        console.print()
        plain = not console.encoding.startswith("utf")
        console.print(curve_chart(history, console.width, plain=plain), no_wrap=True, overflow="crop")
    if (further := further_metrics_table(history[-1])) is not None:
        console.print()
        console.print(further)
    console.print()
    meaning = history[-1].verdict
    colour = _COLOURS.get(meaning.grade, "bold yellow")
    console.print(Text.assemble("Memorization: ", (meaning.summary, colour), f" {meaning.basis}".rstrip()))
    for line in meaning:
        console.print(Text(line))
    add_to_json(audits=[json_summary(history)], files=[str(path) for path in files])


def print_audit(
    console: Console,
    result: AuditResult,
    folder: Path,
    earlier: Sequence[AuditResult] = (),
    top: int | None = None,
    by: By = "sample",
) -> None:
    """Draw one audit of a model that is trained already, print all of it and where it was written.

    Args:
        console: Where to print.
        result: The audit.
        folder: Where ``result.json`` and ``samples.csv`` are, and ``memorization_curve.png`` and the reports go.
        earlier: As for :func:`print_exposed`.
        top: As for :func:`print_exposed`.
        by: As for :func:`print_exposed`.
    """
    picture = write_bytes_atomically(folder / "memorization_curve.png", to_png(memorization_curve([result])))
    tables = [folder / "samples.csv", *([] if result.group_table() is None else [folder / "groups.csv"])]
    files = [folder / "result.json", *tables, picture, *write_report_or_warn([result], folder)]
    if how := readings(result):
        console.print(Text(f"Audit: {how}."))
    print_history(console, [result], files)
    if len(result.scores) > 2:
        console.print()
        console.print(scores_table(result))
    print_slices(console, result)
    print_exposed(console, result, earlier, top, by)
    # Paths are copied: no line breaks in them.
    console.print(Text(f"Written: {', '.join(map(str, files))}"), soft_wrap=True)


def print_slices(console: Console, result: AuditResult) -> None:
    """Print what an audit says of its slices and of single classes; nothing where it is of none."""
    if (slices := slices_table(result)) is not None:
        console.print()
        console.print(slices)


def files_in(folder: Path) -> list[Path]:
    """What a training leaves in its audit folder for people to open, as far as it is there."""
    names = ("samples.parquet", "samples.csv", "groups.csv", "memorization_curve.png", "report.html", "report.md")
    return [folder / name for name in names if (folder / name).is_file()]
