"""Figure of the primary score's distribution on both sides of an audit."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mia_lightning import registry
from mia_lightning.figures.palette import colour
from mia_lightning.figures.style import new_figure
from mia_lightning.functional.bins import bin_edges
from mia_lightning.result.audit_result import AuditResult

BINS = 20


def common_edges(values: NDArray[np.float64], bins: int = BINS) -> NDArray[np.float64]:
    """Edges of equal bins that hold all finite values of both sides, (N,): (bins + 1,), strictly rising.

    They are from 0 to 1 where there is no value, and half a unit around values that are one but for rounding.

    Example:
        >>> common_edges(np.array([0.0, 1.0, np.nan]), 2)
        array([0. , 0.5, 1. ])
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return bin_edges(low, high, bins)


def distribution_figure(result: AuditResult) -> Figure:
    """Plot how the primary score is distributed on either side, as shares of the side.

    The more the two overlap, the less the model gives away.
    """
    figure = new_figure(5.2, 3.4)
    axes = figure.add_subplot()
    score = result.scores[result.primary]
    edges = common_edges(score)
    for side, mask in (("members", result.member), ("nonmembers", ~result.member)):
        values = score[mask & np.isfinite(score)]
        if values.size:
            shares = np.histogram(values, edges)[0] / values.size
            axes.stairs(shares, edges, fill=True, alpha=0.35, color=colour(side).light)
            axes.stairs(shares, edges, linewidth=1.6, color=colour(side).light, label=f"{side} ({values.size})")
    when = f" after epoch {result.epoch + 1}" if result.epoch is not None else ""
    label = f"{registry.scores.label(result.primary)} score (high: member)"
    axes.set(xlabel=label, ylabel="share of the side", title=f"Both sides{when}")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(alpha=0.25)
    if axes.has_data():
        axes.legend(frameon=False, fontsize=9)
    return figure
