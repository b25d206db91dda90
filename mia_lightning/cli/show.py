"""What the command line prints when training or an audit is over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mia_lightning.results.files import write_bytes_atomically
from mia_lightning.results.result import AuditResult


def curve_table(history: Sequence[AuditResult]) -> Table:
    """Lay the audits of a run out, one row each.

    Args:
        history: Results in the order of the epochs.

    Returns:
        The table; ids and other text of users are never read as markup.
    """
    last = history[-1]
    # No box: seven columns have to fit a terminal of eighty.
    table = Table(title="Memorization by audited epoch", title_justify="left", box=None, padding=(0, 2, 0, 0))
    headings = ["\nepoch", *(f"{name}\nAUC" for name in last.scores), "95 %\ninterval", "TPR at\n1 % FPR", "blind\nAUC"]
    for heading in [*headings, "error\nin/out"]:
        table.add_column(heading, justify="right", no_wrap=True)
    for result in history:
        epoch = "-" if result.epoch is None else str(result.epoch + 1)
        areas = [_number(result.metric(f"auc/{name}")) for name in last.scores]
        interval = "-".join(_number(bound, 2) for bound in result.interval())
        rates = [_number(result.metric("tpr_at_fpr_0.01")), _number(result.metric("blind_auc"))]
        errors = "/".join(_number(result.metric(f"error/reconstruction/{s}")) for s in ("members", "nonmembers"))
        table.add_row(epoch, *areas, interval, *rates, errors)
    table.caption = f"Interval and TPR are of the {last.primary} score; error is the mean reconstruction error."
    table.caption_justify = "left"
    return table


def show_history(console: Console, history: Sequence[AuditResult], folder: Path) -> None:
    """Print the curve of a run and write it as a picture.

    Args:
        console: Where to print.
        history: Results in the order of the epochs; nothing happens without one.
        folder: Where ``memorization_curve.png`` goes.
    """
    if not history:
        console.print("No validation epoch was audited: audit.every_n_epochs is longer than the run.", style="yellow")
        return
    from mia_lightning.figures.curves import memorization_curve
    from mia_lightning.figures.style import to_png

    console.print()
    console.print(curve_table(history))
    for line in reading(history[-1]):
        console.print(Text(line))
    path = write_bytes_atomically(folder / "memorization_curve.png", to_png(memorization_curve(history)))
    console.print(Text(f"The curve as a picture: {path}"), soft_wrap=True)


def reading(result: AuditResult) -> list[str]:
    """Say what a result means and what it does not, in plain sentences without thresholds of taste.

    Args:
        result: The audit.

    Returns:
        Sentences.
    """
    low, high = result.interval()
    if math.isnan(result.auc):
        return ["No AUC could be computed: a side has no sample left. See what was excluded in result.json."]
    lines = [
        f"A member scores higher than a nonmember {100 * result.auc:.0f} % of the time "
        f"(95 % interval {100 * low:.0f} to {100 * high:.0f} %; 50 % is guessing)."
    ]
    if low > 0.5:
        lines.append("The interval lies above 50 %: the model gives away which samples it was trained on.")
    elif high < 0.5:
        lines.append("The interval lies below 50 %: the two sides differ, and not the way memorization would have it.")
    else:
        lines.append("The interval covers 50 %: this audit does not show memorization, nor does it rule it out.")
    lines.append(
        f"The blind AUC, of an attack that never asks the model, is {result.metric('blind_auc'):.2f}. Were it far from "
        "0.50, the two sides would differ by themselves and the comparison would not be fair."
    )
    if result.excluded:
        lines.append(f"{len(result.excluded)} samples were left out; result.json says which and why.")
    return lines


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
