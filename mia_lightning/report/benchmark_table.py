"""The table of a benchmark: scores over independent trainings, with intervals, for a terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from mia_lightning import registry
from mia_lightning.audit.config import AuditConfig
from mia_lightning.functional.intervals import Interval, student_interval
from mia_lightning.functional.roc import roc_auc, tpr_at_fpr
from mia_lightning.report.formatting import NONE, number, signed
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.remarks import not_estimable

BESIDE = "combined"
"""The score that all others are compared with."""

RATES = (0.01, 0.05)
COLUMNS = {"auc": "AUC", **{f"tpr_at_fpr_{rate:g}": f"TPR at {100 * rate:g} % FPR" for rate in RATES}}
_LEVEL = 0.95
_NOT_NAMED = ("scores", "verdict", "batch_size", "num_workers", "prefix")  # a benchmark sets them, or no number depends


@dataclass(frozen=True)
class ScoreRow:
    """One score over the trainings of a benchmark.

    Attributes:
        name: The score.
        values: By seed, its numbers by column; NaN where one cannot be estimated.
        means: By column, the mean with its interval.
        differences: By column, the mean of the paired differences to :data:`BESIDE` with its interval; empty for that
            score itself, and where no training has both.
    """

    name: str
    values: dict[int, dict[str, float]]
    means: dict[str, Interval]
    differences: dict[str, Interval]


@dataclass(frozen=True)
class BenchmarkTable:
    """What audits of independent trainings found.

    Attributes:
        rows: One a score.
        seeds: The trainings.
        remarks: Sentences on the numbers: how the intervals are made, and what is missing, and why.
    """

    rows: tuple[ScoreRow, ...]
    seeds: tuple[int, ...]
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, results: Sequence[AuditResult], seeds: Sequence[int], others: Sequence[int] = ()) -> BenchmarkTable:
        """Compare the scores of audits, one a seed; ``others`` are seeds with audits that do not belong here."""
        names = dict.fromkeys(name for result in results for name in result.scores)
        values = {name: dict[int, dict[str, float]]() for name in names}
        for seed, result in zip(seeds, results, strict=True):
            for name, score in result.scores.items():
                values[name][seed] = _numbers(result, score)
        rows = tuple(_row(name, values[name], values.get(BESIDE, {})) for name in sorted(names, key=_order))
        return cls(rows, tuple(seeds), tuple(chain(_remarks(results, seeds, rows), _settings(results), _left(others))))

    def to_rich(self) -> Table:
        """The table for a terminal; what is not compared there is in the files."""
        table = Table(title=self.title, title_justify="left", box=None, padding=(0, 1, 0, 0))
        shown = list(COLUMNS)
        table.add_column("")
        for text in (*(COLUMNS[c] for c in shown), f"AUC minus {BESIDE}"):
            table.add_column(text, justify="right", vertical="bottom")
        for row in self.rows:
            cells = [written(row.means[column]) for column in shown]
            beside = written(row.differences["auc"], sign=True) if row.differences else NONE
            style = "bold" if row.name == BESIDE else ""
            table.add_row(Text(registry.scores.legend(row.name)), *cells, beside, style=style)
        table.caption, table.caption_justify = Text("\n".join(self.remarks)), "left"
        return table

    def to_markdown(self) -> str:
        """All of it, with the differences of every column."""
        head = ["score", *COLUMNS.values(), *(f"{text} minus {BESIDE}" for text in COLUMNS.values())]
        lines = [f"{self.title}.", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for row in self.rows:
            cells = [f"`{row.name}`", *(written(row.means[column]) for column in COLUMNS)]
            cells += [written(row.differences[c], sign=True) if row.differences else NONE for c in COLUMNS]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([*lines, "", *(f"- {remark}" for remark in self.remarks)]) + "\n"

    def to_csv(self) -> str:
        """One row a score, all numbers exact; empty where there is none."""
        columns = [*COLUMNS, *(f"{column}_minus_{BESIDE}" for column in COLUMNS)]
        rows: list[list[Any]] = [
            ["score", "trainings", *(f"{c}{end}" for c in columns for end in ("", "_low", "_high"))]
        ]
        for row in self.rows:
            missing = Interval(math.nan, math.nan, math.nan)
            intervals = [row.means[c] for c in COLUMNS] + [row.differences.get(c, missing) for c in COLUMNS]
            cells = ["" if math.isnan(value) else value for interval in intervals for value in interval]
            rows.append([row.name, len(row.values), *cells])
        return _csv(rows)

    def trainings_csv(self) -> str:
        """One row a training and score."""
        rows: list[list[Any]] = [["seed", "score", *COLUMNS]]
        for seed in self.seeds:
            own = ((row.name, row.values[seed]) for row in self.rows if seed in row.values)
            rows += [[seed, name, *("" if math.isnan(v) else v for v in found.values())] for name, found in own]
        return _csv(rows)

    def to_json(self) -> list[dict[str, Any]]:
        """One entry a score, of plain values."""
        return [
            {
                "score": row.name,
                "trainings": len(row.values),
                **{column: interval._asdict() for column, interval in row.means.items()},
                **{f"{column}_minus_{BESIDE}": i._asdict() for column, i in row.differences.items()},
            }
            for row in self.rows
        ]

    @property
    def title(self) -> str:
        """What the numbers are means of."""
        count = len(self.seeds)
        return f"Mean over {count} trainings" if count > 1 else "One training"


def written(interval: Interval, *, sign: bool = False) -> str:
    """A mean and half the width of its interval, which is symmetric.

    Example:
        >>> written(Interval(0.7412, 0.71, 0.7724)), written(Interval(0.01, float("nan"), float("nan")), sign=True)
        ('0.741 ± 0.031', '+0.010')
    """
    mean = signed(interval.estimate) if sign else number(interval.estimate)
    return mean if math.isnan(interval.low) else f"{mean} ± {number(interval.high - interval.estimate)}"


def _numbers(result: AuditResult, score: np.ndarray) -> dict[str, float]:
    found = {"auc": roc_auc(score, result.member)}
    for rate in RATES:
        unknown = not_estimable(result, rate)
        found[f"tpr_at_fpr_{rate:g}"] = math.nan if unknown else tpr_at_fpr(score, result.member, rate)[0]
    return found


def _row(name: str, values: dict[int, dict[str, float]], beside: dict[int, dict[str, float]]) -> ScoreRow:
    means = {column: _interval([own[column] for own in values.values()]) for column in COLUMNS}
    both = [] if name == BESIDE else [seed for seed in values if seed in beside]
    differences = {c: _interval([values[s][c] - beside[s][c] for s in both]) for c in COLUMNS} if both else {}
    return ScoreRow(name, values, means, differences)


def _interval(values: Sequence[float]) -> Interval:
    """Mean and interval; NaN where one training has no number, since the others' mean would be of other trainings."""
    if any(map(math.isnan, values)):
        return Interval(math.nan, math.nan, math.nan)
    return student_interval(values, _LEVEL)


def _order(name: str) -> int:
    spec = registry.scores.find(name)
    return 10**6 if spec is None else spec.order


def _remarks(results: Sequence[AuditResult], seeds: Sequence[int], rows: Sequence[ScoreRow]) -> Iterator[str]:
    sizes = [(int(r.member.sum()), int((~r.member).sum())) for r in results]
    sides = " + ".join(_range([size[side] for size in sizes]) for side in (0, 1))
    counts = {r.meta.get("references", {}).get("count", 0) for r in results}
    references = "no reference models" if counts == {0} else f"{_range(sorted(counts))} reference model(s)"
    yield f"{sides} members and nonmembers, {references} a training; seeds {', '.join(map(str, seeds))}."
    if len(seeds) < 2:
        yield "No intervals: they are over trainings, and need at least two seeds."
    else:
        yield (
            f"±: {100 * _LEVEL:g} % interval of the mean over trainings (Student's t, {len(seeds) - 1} degrees of "
            f"freedom where a score is there in all), on these pairs; differences are paired by training."
        )
        if any(math.isnan(row.means["auc"].low) and len(row.values) > 1 for row in rows):
            yield "Where all trainings gave the same number, there is no interval."
    for rate in RATES:
        reasons = [reason for result in results if (reason := not_estimable(result, rate))]
        if reasons:
            yield f"TPR at {100 * rate:g} % FPR: {reasons[0]}, in {len(reasons)} of {len(results)} trainings."
    blind = [value for result in results if not math.isnan(value := result.metric("blind_auc"))]
    if len(blind) == len(results):
        yield f"Without the model (blind AUC): {written(student_interval(blind, _LEVEL))}."
    partly = [f"{row.name} ({len(row.values)})" for row in rows if len(row.values) < len(seeds)]
    if partly:
        yield f"Not in all trainings: {', '.join(partly)}; their means and differences are over those."
    if rows and all(row.name != BESIDE for row in rows):
        yield f"No audit has the score {BESIDE}: there is nothing to compare with."
    notes = [note for result in results for note in result.meta.get("notes", []) if note.startswith("No score ")]
    yield from dict.fromkeys(notes)


def _settings(results: Sequence[AuditResult]) -> Iterator[str]:
    """Name the settings of the audits that are not the default ones, but for those that change no number here."""
    default, kept = AuditConfig().to_meta(), [result.meta.get("settings", {}) for result in results]
    named = {
        f"{name}={', '.join(dict.fromkeys(str(own.get(name, value)) for own in kept))}"
        for name, value in default.items()
        if name not in _NOT_NAMED and any(own.get(name, value) != value for own in kept)
    }
    if named:
        yield f"Settings of the audits that are not the default: {'; '.join(sorted(named))}."


def _left(others: Sequence[int]) -> Iterator[str]:
    if others:
        yield (
            f"Not in this table: seed(s) {', '.join(map(str, others))} of the folder, whose audits are of other "
            "settings, weights or numbers of reference models: name them with --seeds to audit them anew."
        )


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
