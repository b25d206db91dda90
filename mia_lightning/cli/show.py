"""What the command line prints when training or an audit is over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mia_lightning.cli.chart import curve_chart
from mia_lightning.cli.report import leave_report
from mia_lightning.cli.terminal import tell_audits
from mia_lightning.result.atomic_files import write_bytes_atomically
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import flagged_since
from mia_lightning.result.verdict import Grade

_COLOUR_OF_GRADE: dict[Grade, str] = {
    "strong": "bold red",
    "weak": "bold yellow",
    "none": "bold green",
    "reversed": "bold yellow",
    "too few samples": "bold yellow",
    "unfair comparison": "bold yellow",
    "no result": "bold yellow",
}
_LONGEST = 9  # characters of a heading: three such scores fit beside the rest
_HYPHENATED = {"reconstruction": "recon-\nstruction", "membership": "member-\nship", "calibrated": "cali-\nbrated"}


def curve_table(history: Sequence[AuditResult]) -> Table:
    """Lay the audits of a run out, one row each, in eighty columns.

    Args:
        history: Results in the order of the epochs.

    Returns:
        The table, with three scores at the most; ids and other text of users are never read as markup.
    """
    last = history[-1]
    shown = _scores_shown(last)
    table = _table("Memorization by audited epoch")
    headings = ["epoch", *(f"{_hyphenated(name)}\nAUC" for name in shown), "95 %\ninterval", "corr.\np"]
    for heading in [*headings, "TPR at\n1 % FPR", "blind\nAUC", "error\nin/out"]:
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    for result in history:
        epoch = "-" if result.epoch is None else str(result.epoch + 1)
        areas = [_number(result.metric(f"auc/{name}")) for name in shown]
        interval = "-".join(_number(bound, 2) for bound in result.interval(last.primary))
        p_value = _p_value(result.metric("p_value_corrected"))
        rates = [_number(result.metric("tpr_at_fpr_0.01")), _number(result.metric("blind_auc"))]
        errors = "/".join(_number(result.metric(f"error/reconstruction/{s}")) for s in ("members", "nonmembers"))
        table.add_row(epoch, *areas, interval, p_value, *rates, errors)
    caption = (
        f"Interval, p and TPR are of the {last.primary} score, p corrected for the number of audits; error is the mean "
        "reconstruction error."
    )
    if hidden := [name for name in last.scores if name not in shown]:
        caption += f" The JSON file has the other scores: {', '.join(hidden)}."
    table.caption, table.caption_justify = Text(caption), "left"
    return table


def scores_table(result: AuditResult) -> Table:
    """Lay the scores of one audit out, one row each.

    Args:
        result: The audit.

    Returns:
        The table; ``trained`` has no interval, since it is no attack but an upper bound.
    """
    table = _table("Scores")
    table.add_column("")
    for heading in ("AUC", "95 % interval", "TPR at 1 % FPR", "at 0.1 %", "at none"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in result.scores:
        low, high = result.interval(name)
        interval = "-" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
        rates = [_number(result.metric(f"tpr_at_fpr_{fpr}/{name}")) for fpr in ("0.01", "0.001", "0")]
        remark = {result.primary: " (primary)", "trained": " (upper bound)"}.get(name, "")
        table.add_row(Text(name + remark), _number(result.metric(f"auc/{name}")), interval, *rates)
    return table


def exposed_table(result: AuditResult, top: int, since: Mapping[str, int | None]) -> Table:
    """List the most exposed members of an audit.

    Args:
        result: The audit.
        top: How many members at the most.
        since: Epoch from which a member stays flagged, by id, as :func:`flagged_since` gives it.

    Returns:
        The table; ids are never read as markup.
    """
    table = _table("Most exposed members")
    headings = ("rank", f"{_hyphenated(result.primary)}\nscore", "p", f"flagged at\nFDR {_fdr(result):.3g}")
    for heading in (*headings, "since\nepoch"):
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    table.add_column("id", vertical="bottom", overflow="fold")
    scores, p_values, flagged = result.scores[result.primary], result.p_values(), result.flagged()
    for rank, row in enumerate(result.top_indices(top), start=1):
        epoch = since.get(result.ids[row]) if flagged[row] else None
        numbers = _number(float(scores[row]), 4), _p_value(float(p_values[row]))
        flag = "yes" if flagged[row] else "no"
        table.add_row(str(rank), *numbers, flag, "-" if epoch is None else str(epoch + 1), _printable(result.ids[row]))
    return table


def show_exposed(
    console: Console, result: AuditResult, earlier: Sequence[AuditResult] = (), top: int | None = None
) -> None:
    """Print how many members stand out, and which of them most.

    Args:
        console: Where to print.
        result: An audit of trained weights.
        earlier: Audits of the training that made them, in order.
        top: How many members to list; None lists none.
    """
    members = int(result.member.sum())
    if members in (0, len(result.member)):
        return  # the verdict has said so
    flagged = int(result.flagged().sum())
    console.print(f"Flagged at a false discovery rate of {100 * _fdr(result):.3g} %: {flagged} of {members} members.")
    if top is None:
        return
    since = flagged_since([*earlier, result], _fdr(result), result.primary) if earlier else {}
    console.print()
    console.print(exposed_table(result, top, since))
    if earlier:
        console.print("Since: the first audited epoch from which a member stays flagged.")
    elif result.meta.get("source") != "outputs":  # which have no epochs
        console.print("Since when is not known: neither the checkpoint nor its run's folder holds earlier audits.")


def show_history(console: Console, history: Sequence[AuditResult], files: Sequence[Path]) -> None:
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
    console.print()
    told = history[-1].verdict
    console.print(Text.assemble("Memorization: ", (told.grade, _COLOUR_OF_GRADE[told.grade])))
    for line in told:
        console.print(Text(line))
    tell_audits(history, files)


def show_audit(
    console: Console,
    result: AuditResult,
    folder: Path,
    earlier: Sequence[AuditResult] = (),
    top: int | None = None,
) -> None:
    """Draw one audit of a model that is trained already, print all of it and where it was written.

    Args:
        console: Where to print.
        result: The audit.
        folder: Where ``result.json`` and ``samples.csv`` are, and ``memorization_curve.png`` and the reports go.
        earlier: As for :func:`show_exposed`.
        top: As for :func:`show_exposed`.
    """
    from mia_lightning.figures.curves import memorization_curve
    from mia_lightning.figures.style import to_png

    picture = write_bytes_atomically(folder / "memorization_curve.png", to_png(memorization_curve([result])))
    files = [folder / "result.json", folder / "samples.csv", picture, *leave_report([result], folder)]
    show_history(console, [result], files)
    if len(result.scores) > 2:
        console.print()
        console.print(scores_table(result))
    show_exposed(console, result, earlier, top)
    # Paths are copied: no line breaks in them.
    console.print(Text(f"Written: {', '.join(map(str, files))}"), soft_wrap=True)


def written_in(folder: Path) -> list[Path]:
    """What a training leaves in its audit folder for people to open, as far as it is there."""
    names = ("samples.parquet", "samples.csv", "memorization_curve.png", "report.html", "report.md")
    return [folder / name for name in names if (folder / name).is_file()]


def _table(title: str) -> Table:
    # No box: nine columns have to fit a terminal of eighty.
    return Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))


def _scores_shown(result: AuditResult) -> list[str]:
    if len(result.scores) <= 3:
        return list(result.scores)
    wanted = [n for n in (result.primary, "membership", "reconstruction", *result.scores) if n in result.scores]
    first = list(dict.fromkeys(wanted))[:3]
    return [name for name in result.scores if name in first]


def _hyphenated(name: str) -> str:
    pieces = [name[i : i + _LONGEST - 1] for i in range(0, len(name), _LONGEST - 1)]
    return _HYPHENATED.get(name, name if len(name) <= _LONGEST else "-\n".join(pieces))


def _fdr(result: AuditResult) -> float:
    return float(result.meta.get("settings", {}).get("fdr", 0.1))


def _printable(name: str) -> Text:
    """An id without the power to move the cursor or to colour what follows."""
    return Text("".join(c if c.isprintable() else ascii(c)[1:-1] for c in name))


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _p_value(value: float) -> str:
    return "<0.001" if value < 0.001 else _number(value)
