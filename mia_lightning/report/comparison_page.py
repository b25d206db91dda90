"""A comparison of runs as a page, and as Markdown."""

import math
from collections.abc import Sequence

import numpy as np

from mia_lightning import registry
from mia_lightning.figures.palette import entry_of_run
from mia_lightning.report import statements
from mia_lightning.report.charts import CHANCE, lowest, time_axis
from mia_lightning.report.compare import Comparison, Pair
from mia_lightning.report.formatting import NONE, number, p_value, percent, signed, span
from mia_lightning.report.html_page import render, tone
from mia_lightning.report.run import Run, when
from mia_lightning.report.svg import Chart, Drawing, Key, Stroke, linear_axis
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import positions
from mia_lightning.result.markdown_text import for_pull_request, table
from mia_lightning.result.remarks import counted, not_estimable, sizes
from mia_lightning.version import __version__

_DIFFERENCES = ("first", "second", "AUC difference", "95 % interval", "p-value", "corrected")
_SIGNIFICANT = 0.05
_STROKES: tuple[Stroke, ...] = ("solid", "dashed", "dotted")


def comparison_html(comparison: Comparison) -> str:
    """Write a comparison as an HTML page, in the style of a report."""
    runs = comparison.runs
    judged = [(run, run.result.verdict, when(run.result), sizes(run.result)) for run in runs]
    return render(
        "compare.html",
        title=f"Membership audits of {', '.join(run.name for run in runs)}",
        judged=[(*one, tone(one[1].grade), run_shade(n)) for n, one in enumerate(judged)],
        score=registry.scores.label(comparison.score),
        curves=compared_curves(runs, comparison.score),
        differences={"head": _DIFFERENCES, "rows": [_row(pair) for pair in comparison.pairs]},
        sentences=[in_words(pair) for pair in comparison.pairs],
        reading=reading(comparison),
        numbers={"head": ["", *(run.name for run in runs)], "rows": numbers(comparison)},
        settings={"head": ["", *(run.name for run in runs)], "rows": unlike_settings(comparison)},
    )


def comparison_markdown(comparison: Comparison) -> str:
    """Write a comparison as Markdown for a pull request, in which ids and names are plain text."""
    names = [run.name for run in comparison.runs]
    blocks = [
        f"## Membership audits of {for_pull_request(', '.join(names))}",
        "\n".join(f"- {for_pull_request(f'{r.name}: {r.result.verdict.found}')}" for r in comparison.runs),
        f"### Differences of the AUC ({for_pull_request(registry.scores.label(comparison.score))} score)",
        "\n".join(f"- {for_pull_request(in_words(pair))}" for pair in comparison.pairs),
        table(_DIFFERENCES, [_row(pair) for pair in comparison.pairs], 2),
        *map(for_pull_request, reading(comparison)),
        "### Numbers",
        table(["number", *names], numbers(comparison)),
    ]
    if rows := unlike_settings(comparison):
        blocks += ["### Settings that differ", table(["setting", *names], rows)]
    return "\n\n".join([*blocks, f"<sub>mia_lightning {__version__}</sub>"]) + "\n"


def compared_curves(runs: Sequence[Run], score: str) -> Drawing:
    """Draw a score's curves of several runs into one chart, each with its interval.

    They run over audits where some runs count epochs and others do not.
    """
    placed = [positions(run.course) for run in runs]
    unit = placed[0][1] if len({unit for _, unit in placed}) == 1 else "audit"
    xs = [x if unit != "audit" else [float(n + 1) for n in range(len(x))] for x, _ in placed]
    lows = np.array([r.interval(score)[0] for run in runs for r in run.course])
    aucs = np.array([r.metric(f"auc/{score}") for run in runs for r in run.course])
    across, label = time_axis([v for x in xs for v in x], unit), registry.scores.label(score)
    chart = Chart(across, linear_axis(f"AUC ({label})", lowest(aucs, lows), 1.0))
    chart.line([across.low, across.high], [0.5, 0.5], CHANCE.colour, stroke="dashed", width=1.2)
    for place, (run, x) in enumerate(zip(runs, xs, strict=True)):
        low, high = zip(*(r.interval(score) for r in run.course), strict=True)
        colour = run_shade(place)
        chart.band(x, low, high, colour)
        if len(x) == 1:
            chart.bar(x[0], low[0], high[0], colour)
        line = [r.metric(f"auc/{score}") for r in run.course]
        chart.line(x, line, colour, stroke=_STROKES[place % 3], width=2.4)
        chart.dots(x, line, colour, 3)
    keys = [Key(run.name, run_shade(n), _STROKES[n % 3]) for n, run in enumerate(runs)]
    described = f"The AUC of the {label} score of {counted(len(runs), 'run')}; the table has the last of each."
    note = "Bands are the 95 % interval of each curve by itself; they may overlap where the paired difference is clear."
    return Drawing("Memorization curves", chart.svg("Memorization curves", described), [*keys, CHANCE], note)


def run_shade(place: int) -> str:
    """Colour of one of several runs."""
    return f"var(--{entry_of_run(place)})"


def in_words(pair: Pair) -> str:
    """Say how two runs differ, and on which samples."""
    difference, low, high, _ = pair.difference
    if math.isnan(pair.corrected):
        claim = f"{pair.first} and {pair.second} come with too few groups of samples for a comparison"
    elif pair.corrected >= _SIGNIFICANT:
        claim = f"{pair.first} and {pair.second} do not differ significantly"
    else:
        more, less = (pair.first, pair.second) if difference > 0 else (pair.second, pair.first)
        claim = f"{more} gives away more than {less}" if pair.ranked else f"{more} has the higher AUC"
    basis = (
        f"paired, on {pair.members} members and {pair.nonmembers} nonmembers that both audits have"
        if pair.paired
        else f"not paired, since {pair.reason}"
    )
    return (
        f"{claim}: the AUC of {pair.first} minus that of {pair.second} is {signed(difference)} (95 % interval "
        f"{signed(low)} to {signed(high)}, corrected p-value {p_value(pair.corrected)}; {basis})."
    )


def reading(comparison: Comparison) -> list[str]:
    """Notes on reading the differences."""
    sentences = [
        "Intervals cover which samples were drawn, not what another training with another seed would give: to "
        "compare methods rather than models, train each more than once."
    ]
    if len(comparison.pairs) > 1:
        sentences.append(
            f"Each interval holds with 95 % by itself; corrected p-values allow for all {len(comparison.pairs)} pairs "
            "(Holm)."
        )
    grades = {run.result.verdict.grade for run in comparison.runs}
    if "unfair" in grades:
        sentences.append("In a run with distinguishable splits their difference is part of its AUC.")
    if any(run.result.metric(f"auc/{comparison.score}") < 0.5 for run in comparison.runs):
        sentences.append(
            "Where an AUC lies below 0.5, the higher of two need not be of the model that gives away more."
        )
    return sentences + _unlike_parts(comparison)


def _unlike_parts(comparison: Comparison) -> list[str]:
    """Say of which errors the score is made in some runs only: it has changed, or these runs have not measured them."""
    spec = registry.scores.find(comparison.score)
    taken = () if spec is None else (*spec.errors, *spec.further_errors)
    sentences = []
    for name in taken:
        lacking = [run.name for run in comparison.runs if name not in run.result.errors]
        if lacking and len(lacking) < len(comparison.runs):
            sentences.append(
                f"The {registry.scores.label(comparison.score)} score of {' and '.join(lacking)} is made without the "
                f"error {name}, which others have: part of the difference may be of the score. Audit these runs again, "
                "with the same version of mia_lightning."
            )
    return sentences


def numbers(comparison: Comparison) -> list[list[str]]:
    """The latest audits in numbers, a row a number, a column a run."""
    results = [run.result for run in comparison.runs]
    score = comparison.score
    rows = [
        ["verdict", *(r.verdict.summary for r in results)],
        ["epoch", *(NONE if r.epoch is None else str(r.epoch + 1) for r in results)],
        ["samples", *(sizes(r) for r in results)],
        [f"AUC, {registry.scores.label(score)}", *(number(r.metric(f"auc/{score}")) for r in results)],
        ["95 % interval", *(span(*r.interval(score)) for r in results)],
        ["TPR at 1 % FPR", *(_true_positives(r, score) for r in results)],
        ["p-value, corrected", *(p_value(r.metric("p_value_corrected")) for r in results)],
        ["blind AUC", *(number(r.metric("blind_auc")) for r in results)],
        ["epsilon, at least", *(number(r.metric("epsilon_low"), 2) for r in results)],
    ]
    utilities = [dict(statements.utility(r)) for r in results]
    names = dict.fromkeys(name for one in utilities for name in one)
    return rows + [[name, *(one.get(name, NONE) for one in utilities)] for name in names]


def _true_positives(result: AuditResult, score: str) -> str:
    return not_estimable(result, 0.01) or percent(result.metric(f"tpr_at_fpr_0.01/{score}"), 1)


def unlike_settings(comparison: Comparison) -> list[list[str]]:
    """The audits' settings that are not the same in all runs."""
    settings = [dict(statements.settings(run.result)) for run in comparison.runs]
    names: Sequence[str] = list(dict.fromkeys(name for one in settings for name in one))
    rows = [[name, *(one.get(name, NONE) for one in settings)] for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _row(pair: Pair) -> list[str]:
    difference, low, high, chance = pair.difference
    bounds = f"{signed(low)} to {signed(high)}"
    return [pair.first, pair.second, signed(difference), bounds, p_value(chance), p_value(pair.corrected)]
