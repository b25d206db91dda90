"""The memorization curve over epochs, and the ROC of one audit."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mia_lightning import registry
from mia_lightning.figures.palette import colour
from mia_lightning.figures.style import legend_below, new_figure
from mia_lightning.functional.operating_point import NOMINAL_RATES
from mia_lightning.functional.roc import roc_points
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import positions
from mia_lightning.result.remarks import shown_rates

_BESIDE = 0.08


def memorization_curve(history: Sequence[AuditResult], title: str = "Memorization curve") -> Figure:
    """Plot the AUC of each score over the epochs of a training run, with confidence intervals as bands.

    Where there are more than two scores the primary's band alone is drawn; a lone result is a point with an error bar.
    Thin lines bound what holds for the primary score at all looks together.

    Raises:
        ValueError: If there is no result to draw.
    """
    if not history:
        raise ValueError("Expected at least one audit to draw a curve of, but the history is empty.")
    figure = new_figure(7.0, 4.6)
    axes = figure.add_subplot()
    x, unit = positions(history)
    names = list(history[-1].scores)
    drawn = [0.37, *_draw_band(axes, x, history)]  # the axis begins here, or below the lowest value
    # More than two bands hide each other.
    banded = names if len(names) <= 2 else [history[-1].primary]
    for number, name in enumerate(names):
        line = [r.metric(f"auc/{name}") for r in history]
        low, high = zip(*(r.interval(name) for r in history), strict=True)
        shade, main = colour(name, number).light, name in banded
        drawn += line
        style = "-" if registry.scores.is_attack(name) else "--"
        # Points and bars of a lone audit would hide each other.
        at = x if len(history) > 1 else [x[0] + _BESIDE * (number - (len(names) - 1) / 2)]
        label, linewidth = registry.scores.legend(name), 2 if main else 1.2
        axes.plot(at, line, style, color=shade, marker="o", markersize=3.5, linewidth=linewidth, label=label)
        if main:
            axes.fill_between(at, low, high, color=shade, alpha=0.18, linewidth=0)
            drawn += low
        if len(history) == 1 and not np.isnan(low[0]):
            drawn += low
            axes.errorbar(at, line, [[line[0] - low[0]], [high[0] - line[0]]], color=shade, capsize=4)
    blind, label = [r.metric("blind_auc") for r in history], "blind (never queries the model)"
    axes.plot(x, blind, ":", color=colour("blind").light, marker=".", linewidth=1.5, label=label)
    axes.axhline(0.5, color="black", linewidth=0.8, linestyle="--", label="chance")
    axes.set(xlabel=unit, ylabel="AUC, members against nonmembers", title=title)
    axes.set_ylim(max(-0.01, np.nanmin([*drawn, *blind]) - 0.02), 1.01)
    if len(history) == 1:
        axes.set(xticks=x, xlim=(x[0] - 0.5, x[0] + 0.5))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    # Below the axes: no corner within them is free in every curve.
    legend_below(figure, columns=3)
    return figure


def _draw_band(axes: Axes, x: Sequence[float], history: Sequence[AuditResult]) -> list[float]:
    """Draw the ends of the primary score's simultaneous band, where there is one, and return the lower ones."""
    low, high = np.array([r.band() for r in history]).T
    if len(history) == 1 or not np.isfinite(low).any():
        return []
    primary = history[-1].primary
    label = f"{registry.scores.label(primary)}, 95 % band of all looks"
    for ends, name in ((low, label), (high, "_nolegend_")):
        shade = colour(primary, list(history[-1].scores).index(primary)).light
        axes.plot(x, ends, color=shade, linewidth=0.8, linestyle=(0, (4, 2)), label=name)
    return [float(end) for end in low]


def roc_figure(result: AuditResult) -> Figure:
    """Plot the ROC of each score on log axes, where privacy is decided: at few false positives."""
    figure = new_figure(5.2, 5.0)
    axes = figure.add_subplot()
    members, nonmembers = int(result.member.sum()), int((~result.member).sum())
    floor = min(0.5 / max(1, nonmembers), 0.5 / max(1, members))
    estimable = [nominal for nominal in shown_rates(result) if nominal]
    at, key = ("1 % FPR", "0.01") if estimable else ("no false positive", "0")
    for number, (name, score) in enumerate(result.scores.items()):
        if not np.isfinite(score).all():  # too few samples for a classifier
            continue
        fpr, tpr = roc_points(score, result.member)
        shade = colour(name, number).light
        auc, rate = result.metric(f"auc/{name}"), result.metric(f"tpr_at_fpr_{key}/{name}")
        label = f"{registry.scores.label(name)}  AUC {auc:.3f}, TPR {rate:.2f}"
        axes.plot(fpr.clip(floor), tpr.clip(floor), color=shade, linewidth=2, label=label, drawstyle="steps-post")
        for nominal in estimable:
            achieved = max(result.metric(f"realised_fpr_{nominal:g}"), floor)
            point = max(result.metric(f"tpr_at_fpr_{nominal:g}/{name}"), floor)
            axes.plot(achieved, point, "o", color=shade, markersize=6, clip_on=False)
    axes.plot([floor, 1], [floor, 1], color="black", linewidth=0.8, linestyle="--", label="chance")
    for nominal in (nominal for nominal in NOMINAL_RATES if nominal > floor):
        axes.axvline(nominal, color="black", linewidth=0.8, linestyle=":")
        axes.text(nominal, 1.05, f" {100 * nominal:g} %", fontsize=8, va="center")
    axes.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1.15))
    when = f" after epoch {result.epoch + 1}" if result.epoch is not None else ""
    sides = f"{members} members, {nonmembers} nonmembers"
    axes.set(xlabel="false-positive rate", ylabel="true-positive rate", title=f"ROC{when}: {sides}")
    axes.grid(alpha=0.25, which="both")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    # With 150 nonmembers 1 % allows one of them: the dots are at the achieved FPR.
    dots = " and ".join(f"{100 * nominal:g} %" for nominal in estimable)
    heading = f"TPR at {at}{f'; dots: at most {dots} FPR' if dots else ''}"
    legend = figure.legend(loc="outside lower center", frameon=False, fontsize=9, title=heading, title_fontsize=9)
    legend.set_alignment("left")
    return figure
