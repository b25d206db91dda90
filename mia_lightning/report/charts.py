"""The charts of a report: memorization curve, distributions of both sides, ROC, and utility against AUC."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mia_lightning import registry
from mia_lightning.functional.bins import bin_edges
from mia_lightning.functional.operating_point import NOMINAL_RATES
from mia_lightning.functional.roc import roc_points
from mia_lightning.report.formatting import number, p_value, percent, short, span, whole
from mia_lightning.report.statements import unknown_rates
from mia_lightning.report.svg import Axis, Chart, Drawing, Key, Stroke, Table, linear_axis, rate_axis, shade
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import positions
from mia_lightning.result.remarks import counted, shown_rates

BINS = 24
METRICS = 4
"""Metrics of utility that are drawn."""
CHANCE = Key("chance", "var(--muted)", "dashed")
_PIXELS = 2.0  # points of a line that lie closer together are one


def memorization_curve(history: Sequence[AuditResult]) -> Drawing:
    """Draw the AUC of each score over the audits, at least one, the primary's with its interval."""
    last = history[-1]
    x, unit = positions(history)
    names = [last.primary, *(n for n in last.scores if n != last.primary)]
    blind = np.array([r.metric("blind_auc") for r in history])
    lines = {n: np.array([r.metric(f"auc/{n}") for r in history]) for n in names}
    low, high = (np.array(v) for v in zip(*(r.interval(last.primary) for r in history), strict=True))
    ends = np.array([r.band() for r in history]).T
    chart = Chart(time_axis(x, unit), linear_axis("AUC", lowest(blind, low, ends[0], *lines.values()), 1.0))
    chart.line([chart.x.low, chart.x.high], [0.5, 0.5], CHANCE.colour, stroke="dashed", width=1.2)
    chart.band(x, low, high, shade(last.primary))
    if len(history) == 1:
        chart.bar(x[0], float(low[0]), float(high[0]), shade(last.primary))
    for end in ends if np.isfinite(ends).any() else ():
        chart.line(x, end, shade(last.primary), stroke="dashed", width=0.9)
    chart.line(x, blind, shade("blind"), stroke="dotted")
    chart.dots(x, blind, shade("blind"), 2)
    keys = [Key(f"{registry.scores.label(last.primary)}, with its 95 % interval", shade(last.primary))]
    if len(history) > 1 and np.isfinite(ends).any():
        keys.append(Key("95 % band of all looks together", shade(last.primary), "dashed"))
    for place, (name, line) in reversed(list(enumerate(lines.items()))):
        chart.line(x, line, shade(name, place), stroke=_stroke(name), width=1.6 + (place == 0))
        chart.dots(x, line, shade(name, place), 2.5 + (place == 0))
    for place, name in enumerate(names[1:], start=1):
        keys.append(Key(registry.scores.legend(name), shade(name, place), _stroke(name)))
    keys += [Key("blind: never queries the model", shade("blind"), "dotted"), CHANCE]
    description = (
        f"The AUC of the {registry.scores.label(last.primary)} score over {counted(len(history), 'audit')}: first "
        f"{number(history[0].auc)}, last {number(last.auc)} with 95 % interval {span(*last.interval())}."
    )
    return Drawing(
        "Memorization curve",
        chart.svg("Memorization curve", description),
        keys,
        "The AUC is the chance that a random member outscores a random nonmember. The further the interval lies above "
        "0.5, the more the model gives away.",
        curve_table(history),
    )


def curve_table(history: Sequence[AuditResult]) -> Table:
    """The audits of a run in numbers, a row each; with the bands of all looks where there are any."""
    x, unit = positions(history)
    banded = any(np.isfinite(r.band()).all() for r in history)
    rows = [
        [
            whole(at),
            number(r.auc),
            span(*r.interval()),
            *([span(*r.band())] if banded else []),
            p_value(r.metric("p_value_corrected")),
            percent(r.metric("tpr_at_fpr_0.01") if 0.01 in shown_rates(r) else math.nan, 1),
            number(r.metric("blind_auc")),
        ]
        for at, r in zip(x, history, strict=True)
    ]
    band = ["all looks"] if banded else []
    return Table((unit, "AUC", "95 % interval", *band, "p-value", "TPR at 1 % FPR", "blind AUC"), rows)


def distributions(result: AuditResult) -> list[Drawing]:
    """Draw both sides' errors on the same bins: the primary's, or the score itself without one, and reconstruction."""
    drawings = []
    for name in dict.fromkeys((result.primary, "reconstruction")):
        error = result.errors.get(name)
        kind, values = ("error", error) if error is not None else ("score", result.scores.get(name))
        if values is not None and np.isfinite(values).any():
            drawings.append(_distribution(name, kind, values, result.member))
    return drawings


def _distribution(name: str, kind: str, values: NDArray[np.float64], member: NDArray[np.bool_]) -> Drawing:
    finite = np.isfinite(values)
    edges, cut = _edges(values[finite])
    inside = np.clip(values, edges[0], edges[-1])
    shares = {
        side: np.histogram(inside[mask & finite], edges)[0] / max(1, int((mask & finite).sum()))
        for side, mask in (("members", member), ("nonmembers", ~member))
    }
    top = max(float(s.max()) for s in shares.values())
    label = (registry.errors if kind == "error" else registry.scores).label(name)
    chart = Chart(
        linear_axis(f"{label} {kind}", float(edges[0]), float(edges[-1])),
        linear_axis("share of the side", 0.0, top * 1.05),
    )
    chart.histogram(edges, shares["nonmembers"], shade("nonmembers"), "dashed")
    chart.histogram(edges, shares["members"], shade("members"))
    keys = [
        Key(f"members ({int(member.sum())})", shade("members"), area=True),
        Key(f"nonmembers ({int((~member).sum())})", shade("nonmembers"), "dashed", area=True),
    ]
    means = [float(values[m].mean()) if m.any() else float("nan") for m in (finite & member, finite & ~member)]
    title = f"{label[:1].upper()}{label[1:]} {kind} of both sides"
    low_is = "Low: like a member" if kind == "error" else "High: like a member"
    beyond = " Values beyond the central 99 % are in the outermost bars." if cut else ""
    head = ("from", "to", "members", "nonmembers")
    rows = [
        [short(a), short(b), percent(m, 1), percent(n, 1)]
        for a, b, m, n in zip(edges[:-1], edges[1:], shares["members"], shares["nonmembers"], strict=True)
    ]
    mean = f"the mean is {short(means[0])} for members and {short(means[1])} for nonmembers"
    described = f"Histograms of both sides on common bins; {mean}."
    note = (
        f"{low_is}; {mean}. The further members lie on that side, the more the model gives away, as far as the pairs "
        f"are alike by themselves.{beyond}"
    )
    return Drawing(title, chart.svg(title, described), keys, note, Table(head, rows))


def roc(result: AuditResult) -> Drawing | None:
    """Draw the ROC of each score on log axes, as privacy is decided at few false positives; None if a side is empty."""
    members, nonmembers = int(result.member.sum()), int((~result.member).sum())
    if not members or not nonmembers:
        return None
    floor = min(0.5 / nonmembers, 0.5 / members, 0.005)
    chart = Chart(rate_axis("false-positive rate", floor), rate_axis("true-positive rate", floor))
    chart.line([floor, 1.0], [floor, 1.0], CHANCE.colour, stroke="dashed", width=1.2)
    estimable = [nominal for nominal in shown_rates(result) if nominal]
    for nominal in (nominal for nominal in NOMINAL_RATES if nominal > floor):
        chart.upright(nominal)
    names = [result.primary, *(n for n in result.scores if n != result.primary)]
    keys, rows = [], []
    for place, name in reversed(list(enumerate(names))):
        score = result.scores[name]
        if not np.isfinite(score).all():  # too few samples for a classifier
            continue
        fpr, tpr = (np.clip(rates, floor, 1.0) for rates in roc_points(score, result.member))
        # As steps: along first, then up.
        steps = _thinned(chart, np.repeat(fpr, 2)[1:], np.repeat(tpr, 2)[:-1])
        chart.line(*steps, shade(name, place), stroke=_stroke(name), width=1.6 + (place == 0))
        achieved = [max(result.metric(f"realised_fpr_{n:g}"), floor) for n in estimable]
        flagged = [max(result.metric(f"tpr_at_fpr_{n:g}/{name}"), floor) for n in estimable]
        if estimable:
            chart.dots(achieved, flagged, shade(name, place), 4.5)
        label, auc = registry.scores.label(name), number(result.metric(f"auc/{name}"))
        keys.append(Key(f"{label}, AUC {auc}", shade(name, place), _stroke(name)))
        rates = [
            result.metric(f"tpr_at_fpr_{n:g}/{name}") if not n or n in estimable else math.nan for n in NOMINAL_RATES
        ]
        shares = [percent(rate, 1) for rate in rates]
        rows.append([label, auc, *shares])
    primary = registry.scores.label(result.primary)
    at, key = ("1 % false positives", "0.01") if estimable else ("no false positive", "0")
    flags = percent(result.metric(f"tpr_at_fpr_{key}/{result.primary}"), 1)
    described = (
        f"ROC of {counted(len(keys), 'score')} on logarithmic axes; at {at} the {primary} score flags {flags} of the "
        "members."
    )
    nominals = " and ".join(f"{100 * n:g} %" for n in estimable)
    realised = " and ".join(percent(result.metric(f"realised_fpr_{n:g}"), 2) for n in estimable)
    dots = f"Dots: true positives at a nominal FPR of {nominals}, drawn at the achieved FPR ({realised}). "
    note = (
        f"{dots if estimable else ''}{''.join(f'{line} ' for line in unknown_rates(result))}"
        "Curves above the dashed line flag members more often than nonmembers; rates of zero are drawn at the edge."
    )
    table = Table(("score", "AUC", "TPR at 1 % FPR", "at 0.1 %", "at 0 %"), rows[::-1])
    return Drawing("ROC", chart.svg("ROC", described), [*keys[::-1], CHANCE], note, table)


def trade_offs(history: Sequence[AuditResult]) -> list[Drawing]:
    """Draw the AUC against each metric of utility, at most :data:`METRICS`, an audit a point, joined in their order.

    The metrics are the project's own of validation, in ``meta["utility"]``; no chart where no audit has any.
    """
    return [_trade_off(history, name) for name in utilities(history)[:METRICS]]


def utilities(history: Sequence[AuditResult]) -> list[str]:
    """Names of the metrics of utility that audits have, those of the last first."""
    names = dict.fromkeys(name for r in reversed(history) for name in (r.meta.get("utility") or {}))
    return [n for n in names if any(np.isfinite(_utility(r, n)) and np.isfinite(r.auc) for r in history)]


def _trade_off(history: Sequence[AuditResult], name: str) -> Drawing:
    places, unit = positions(history)
    there = [(at, r) for at, r in zip(places, history, strict=True) if np.isfinite([_utility(r, name), r.auc]).all()]
    x, y = [_utility(r, name) for _, r in there], [r.auc for _, r in there]
    primary = there[-1][1].primary
    low, high = zip(*(r.interval() for _, r in there), strict=True)
    room = 0.06 * (max(x) - min(x))
    across = linear_axis(name, min(x) - room, max(x) + room)
    bottom = lowest(np.array(y), np.array(low))
    chart = Chart(across, linear_axis(f"AUC ({registry.scores.label(primary)})", bottom, 1.0))
    chart.line([across.low, across.high], [0.5, 0.5], CHANCE.colour, stroke="dashed", width=1.2)
    for one in zip(x, low, high, strict=True):
        chart.bar(*one, "var(--faint)")
    chart.line(x, y, shade(primary), width=1.4)
    chart.dots(x, y, shade(primary), 4)
    for place in sorted({0, len(there) - 1}):
        side = "end" if x[place] > (across.low + across.high) / 2 else "start"
        chart.label(x[place], y[place], f"{unit} {whole(there[place][0])}", anchor=side, up=12)
    title = f"Memorization against {name}"
    described = f"From {name} {short(x[0])} and AUC {number(y[0])} to {name} {short(x[-1])} and AUC {number(y[-1])}."
    rows = [[whole(at), short(_utility(r, name)), number(r.auc), span(*r.interval())] for at, r in there]
    table = Table((unit, name, "AUC", "95 % interval"), rows)
    note = "An audit a point, joined in their order; bars are 95 % intervals."
    return Drawing(title, chart.svg(title, described), (), note, table)


def _stroke(name: str) -> Stroke:
    return "solid" if registry.scores.is_attack(name) else "dashed"


def _utility(result: AuditResult, name: str) -> float:
    value = (result.meta.get("utility") or {}).get(name)
    return float(value) if isinstance(value, (int, float)) else float("nan")


def time_axis(x: Sequence[float], unit: str) -> Axis:
    """The axis that audits stand along; a lone one stands in the middle, with a tick to itself."""
    if max(x) > min(x):
        return linear_axis(unit, min(x), max(x), whole=True, count=8)
    return Axis(unit, x[0] - 1.0, x[0] + 1.0, [(x[0], whole(x[0]))])


def lowest(*lines: NDArray[np.float64]) -> float:
    """Lower end of an axis of AUCs: below 0.5, and below every drawn value."""
    values = np.concatenate(lines)
    finite = values[np.isfinite(values)]
    return max(0.0, min(0.4, float(finite.min()) - 0.02 if finite.size else 0.4))


def _edges(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Common bins; where few values lie far out, of the central 99 % only, and whether that is so."""
    ends = float(values.min()), float(values.max())
    low, high = np.quantile(values / 2, [0.005, 0.995])  # halves: the distance between any two is finite
    cut = bool(ends[1] / 4 - ends[0] / 4 > high - low > 0)
    low, high = (2 * float(low), 2 * float(high)) if cut else ends
    return bin_edges(low, high, BINS), cut


def _thinned(
    chart: Chart, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Leave out points that would be drawn on the one before: a hundred thousand samples make no larger a page."""
    cells = np.round(np.stack(chart.points(x, y)) / _PIXELS)
    keep = np.concatenate([[True], (np.diff(cells, axis=1) != 0).any(axis=0)])
    keep[-1] = True
    return x[keep], y[keep]
