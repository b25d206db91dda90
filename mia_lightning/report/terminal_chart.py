"""The memorization curve in characters."""

import math
from collections.abc import Sequence

import numpy as np
from rich.text import Text

from mia_lightning.result.audit_result import AuditResult

_STEP = 0.05  # AUC a line
_MARKS = {"point": "●", "interval": "│", "chance": "┄", "axis": "┤"}
_PLAIN = {"point": "*", "interval": ":", "chance": "-", "axis": "|"}


def curve_chart(history: Sequence[AuditResult], width: int = 80, *, plain: bool = False) -> Text:
    """Draw the AUC of the primary score over the audits of a training, with its intervals, in some ten lines.

    Of more audits than fit the width, evenly spaced ones are drawn, the first and last among them; ``plain`` is ASCII.

    Raises:
        ValueError: If there is no audit.
    """
    if not history:
        raise ValueError("Expected at least one audit to draw a curve of, but the history is empty.")
    marks = _PLAIN if plain else _MARKS
    primary = history[-1].primary
    most = min(len(history), max(2, (width - 8) // 4))
    drawn = [history[i] for i in np.linspace(0, len(history) - 1, most).round().astype(int)]
    column = min(8, max(4, (width - 8) // len(drawn)))
    values = [(r.metric(f"auc/{primary}"), *r.interval(primary)) for r in drawn]
    rows = [tuple(math.nan if math.isnan(v) else round(v / _STEP) for v in triple) for triple in values]
    numbers = [v for triple in rows for v in triple if not math.isnan(v)]
    half, top = round(0.5 / _STEP), round(1 / _STEP)
    bottom = int(min([half - 1, *numbers]))
    text = Text(f"AUC of the {primary} score and its 95 % interval, by epoch\n")
    for line in range(max([half + 1, *map(int, numbers)]), bottom - 1, -1):
        label = f"{line * _STEP:.2f}" if line in (half, top) or (line - half) % 2 == 0 else ""
        text.append(f"{label:>5} {marks['axis']}", style="dim")
        for value, low, high in rows:
            fill = marks["chance"] if line == half else " "
            mark, style = fill, "dim"
            if low <= line <= high:  # False for NaN
                mark, style = marks["interval"], "cyan"
            if line == value:
                mark, style = marks["point"], "bold cyan"
            text.append(fill * (column // 2), style="dim").append(mark, style=style)
            text.append(fill * (column - column // 2 - 1), style="dim")
        text.append("\n")
    ages = ["now" if r.epoch is None else str(r.epoch + 1) for r in drawn]
    labels = "".join(f"{f'{age:>{column // 2 + 1}}':<{column}}" for age in ages)
    return text.append(f"{'':>5}  {labels}".rstrip(), style="dim")
