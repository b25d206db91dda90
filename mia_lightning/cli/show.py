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
from mia_lightning.results.verdict import verdict


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
    for line in verdict(history[-1]):
        console.print(Text(line))
    path = write_bytes_atomically(folder / "memorization_curve.png", to_png(memorization_curve(history)))
    console.print(Text(f"The curve as a picture: {path}"), soft_wrap=True)


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
