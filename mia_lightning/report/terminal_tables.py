"""Tables of audits for a terminal of eighty columns."""

import math
import re
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from mia_lightning import registry
from mia_lightning.functional.operating_point import NOMINAL_RATES
from mia_lightning.report.formatting import NONE, number, span
from mia_lightning.report.slices import slice_rows, slices_in_words
from mia_lightning.report.statements import unknown_rates
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.remarks import shown_rates

_SMALL_SLICES = 5  # slices without numbers that are listed
_LONGEST = 9  # characters of a line of a heading: three such scores fit beside the rest
_SYLLABLE = re.compile(r"(?<=[aeiouy][^aeiouy\W_])(?=[^aeiouy\W_])")  # recon|struc|tion


def curve_table(history: Sequence[AuditResult]) -> Table:
    """Lay the audits of a run out, in their order, one row each, in eighty columns with three scores at the most.

    Ids and other text of users are never read as markup.
    """
    last = history[-1]
    shown = _scores_shown(last)
    table = _table("Memorization by audited epoch")
    headings = ["epoch", *(f"{_heading(name)}\nAUC" for name in shown), "95 %\ninterval", "corr.\np"]
    for heading in [*headings, "TPR at\n1 % FPR", "blind\nAUC", "error\nin/out"]:
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    for result in history:
        epoch = "-" if result.epoch is None else str(result.epoch + 1)
        areas = [number(result.metric(f"auc/{name}")) for name in shown]
        interval = "-".join(number(bound, 2) for bound in result.interval(last.primary))
        p_value = _p_value(result.metric("p_value_corrected"))
        rate = result.metric("tpr_at_fpr_0.01") if 0.01 in shown_rates(result) else math.nan
        rates = [number(rate), number(result.metric("blind_auc"))]
        errors = "/".join(number(result.metric(f"error/reconstruction/{s}")) for s in ("members", "nonmembers"))
        table.add_row(epoch, *areas, interval, p_value, *rates, errors)
    looks = "all looks at the training" if last.meta.get("look") else "the number of audits"
    caption = (
        f"Interval, p and TPR are of the {last.primary} score, p corrected for {looks}; error is the mean "
        "reconstruction error."
    )
    if unknown := [line for line in unknown_rates(last) if "at 1 %" in line]:
        caption += f" {unknown[0]}"
    if last.verdict_score != last.primary:
        caption += f" The verdict rests on the {last.verdict_score} score of the last audit."
    if hidden := [name for name in last.scores if name not in shown]:
        caption += f" The JSON file has the other scores: {', '.join(hidden)}."
    table.caption, table.caption_justify = Text(caption), "left"
    return table


def scores_table(result: AuditResult) -> Table:
    """Lay the scores of one audit out, one row each; scores without an interval show none."""
    table = _table("Scores")
    table.add_column("")
    for heading in ("AUC", "95 % interval", "TPR at 1 % FPR", "at 0.1 %", "at none"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = shown_rates(result)
    for name in result.scores:
        measured = [result.metric(f"tpr_at_fpr_{fpr:g}/{name}") if fpr in shown else math.nan for fpr in NOMINAL_RATES]
        rates = [number(rate) for rate in measured]
        label = f"{_label(name)} (primary)" if name == result.primary else registry.scores.legend(name)
        label += " (verdict)" if name == result.verdict_score != result.primary else ""
        table.add_row(Text(label), number(result.metric(f"auc/{name}")), span(*result.interval(name)), *rates)
    if unknown := unknown_rates(result):
        table.caption, table.caption_justify = Text(" ".join(unknown)), "left"
    return table


def further_metrics_table(result: AuditResult) -> Table | None:
    """Lay out the metrics that others have registered, one row each and score; None where there are none."""
    table = _table("Further metrics")
    for heading in ("", "score"):
        table.add_column(heading)
    for heading in ("value", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for spec in registry.metrics:
        if spec.built_in:
            continue
        scores = list(result.scores) if spec.of == "score" else [""]
        for key, score in ((key, score) for score in scores for key in spec.keys or (spec.name,)):
            names = [f"{name}/{score}".rstrip("/") for name in (key, *spec.bounds)]
            value, low, high = [*map(result.metric, names), math.nan, math.nan][:3]
            if f"{result.prefix}/{names[0]}" in result.metrics:
                label = spec.label if key == spec.name else f"{spec.label}: {key}"
                table.add_row(Text(label), Text(_label(score)), number(value), span(low, high))
    return table if table.rows else None


def exposed_table(result: AuditResult, top: int, since: Mapping[str, int | None]) -> Table:
    """List the most exposed members of an audit, so many at the most; ids are never read as markup.

    ``since`` has the epoch from which a member stays flagged, by id, as :func:`flagged_since` gives it.
    """
    table = _table("Most exposed members")
    headings = ("rank", f"{_heading(result.primary)}\nscore", "p", f"flagged at\nFDR {result.fdr:.3g}")
    for heading in (*headings, "since\nepoch"):
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    table.add_column("id", vertical="bottom", overflow="fold")
    scores, p_values, flagged = result.scores[result.primary], result.p_values(), result.flagged()
    for rank, row in enumerate(result.top_indices(top), start=1):
        epoch = since.get(result.ids[row]) if flagged[row] else None
        numbers = number(float(scores[row]), 4), _p_value(float(p_values[row]))
        flag = "yes" if flagged[row] else "no"
        table.add_row(str(rank), *numbers, flag, "-" if epoch is None else str(epoch + 1), _printable(result.ids[row]))
    return table


def exposed_groups_table(result: AuditResult, top: int, since: Mapping[str, int | None]) -> Table | None:
    """List the most exposed groups of members, so many at the most; None without groups, or with too few of them.

    ``since`` has the epoch from which a group stays flagged, by name, as :func:`groups_flagged_since` gives it.
    """
    groups = result.group_table()
    if groups is None:
        return None
    table = _table("Most exposed groups")
    for heading in ("rank", "samples", "mean\nscore", "p", f"flagged at\nFDR {result.fdr:.3g}", "since\nepoch"):
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    table.add_column("group", vertical="bottom", overflow="fold")
    for rank, row in enumerate(groups.most_exposed(top), start=1):
        epoch = since.get(groups.names[row]) if groups.flagged[row] else None
        numbers = str(groups.size[row]), number(float(groups.mean[row])), _p_value(float(groups.p_value[row]))
        flag = "yes" if groups.flagged[row] else "no"
        table.add_row(
            str(rank), *numbers, flag, "-" if epoch is None else str(epoch + 1), _printable(groups.names[row])
        )
    return table


def slices_table(result: AuditResult) -> Table | None:
    """Lay the slices of an audit out, one row each; None where it is not sliced. Values are never read as markup."""
    rows = slice_rows(result, small=_SMALL_SLICES)
    if not rows:
        return None
    table = _table("Slices")
    table.add_column("slice", vertical="bottom", overflow="fold")
    for heading in ("in/out", "AUC", "interval", "corr.\np", "TPR at\n1 % FPR", "blind\nAUC"):
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    for column, value, members, nonmembers, area, interval, *others in rows:
        name = Text.assemble(_printable(column), "=", _printable(value))
        if interval == NONE and not others[-1].strip(NONE):
            table.add_row(name, f"{members}/{nonmembers}", NONE, area)  # why there is no number
        else:
            blind = others[-1].replace(" (unfair)", "!")
            table.add_row(name, f"{members}/{nonmembers}", area, interval.replace(" to ", "-"), *others[:-1], blind)
    caption = " ".join(slices_in_words(result))
    unfair = " ! after a blind AUC: see there." if "Difficulty alone" in caption else ""
    table.caption, table.caption_justify = _printable(caption + unfair), "left"
    return table


def _table(title: str) -> Table:
    # No box: nine columns have to fit a terminal of eighty.
    return Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))


def _scores_shown(result: AuditResult) -> list[str]:
    names = (result.primary, result.verdict_score, "membership", "reconstruction", *result.scores)
    preferred = [name for name in names if name in result.scores]
    first = list(dict.fromkeys(preferred))[:3]
    return [name for name in result.scores if name in first]


def _label(score: str) -> str:
    """Label of a score; its name where an audit holds one that is not registered here."""
    spec = registry.scores.find(score)
    return score if spec is None else spec.label


def _heading(score: str) -> str:
    """Label of a score in lines that are short enough for a column."""
    return "\n".join(line for word in _label(score).split() for line in _hyphenated(word))


def _hyphenated(word: str) -> list[str]:
    if len(word) <= _LONGEST:
        return [word]
    middle = len(word) / 2
    breaks = [m.start() for m in _SYLLABLE.finditer(word) if max(m.start() + 1, len(word) - m.start()) <= _LONGEST]
    at = min(breaks, key=lambda place: abs(place - middle), default=_LONGEST - 1)
    return [f"{word[:at]}-", *_hyphenated(word[at:])]


def _printable(name: str) -> Text:
    """An id without the power to move the cursor or to colour what follows."""
    return Text("".join(c if c.isprintable() else ascii(c)[1:-1] for c in name))


def _p_value(value: float) -> str:
    return "<0.001" if value < 0.001 else number(value)
