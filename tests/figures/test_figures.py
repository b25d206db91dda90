from __future__ import annotations

import io
import struct
import sys
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mia_lightning import registry
from mia_lightning.figures.curves import memorization_curve, roc_figure
from mia_lightning.figures.distribution import common_edges, distribution_figure
from mia_lightning.figures.palette import colour, entry, palette
from mia_lightning.figures.style import to_png
from mia_lightning.registry import Colour, register_score
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.scores.summary import summarise


def audit(
    epoch: int | None = 0, members: int = 40, step: int = 0, nonmembers: int = 30, **settings: Any
) -> AuditResult:
    rng = np.random.default_rng(epoch or 0)
    member = np.arange(members + nonmembers) < members
    errors = {name: rng.random(member.size) for name in ("reconstruction", "predictability", "membership")}
    scores = {name: -errors[name] for name in ("reconstruction", "membership")}
    settings = {"prefix": "audit", "primary": "membership"} | settings
    return AuditResult(
        metrics=summarise(errors, scores, member, primary=settings["primary"], prefix=settings["prefix"]),
        ids=[str(i) for i in range(member.size)],
        member=member,
        errors=errors,
        scores=scores,
        meta={"epoch": epoch, "step": step, "settings": settings},
    )


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


FIGURES = {
    "curve": lambda: memorization_curve([audit(epoch) for epoch in range(4)]),
    "one audit": lambda: memorization_curve([audit()]),
    "one-sided audit": lambda: memorization_curve([audit(members=0)]),
    "roc": lambda: roc_figure(audit()),
    "roc without training": lambda: roc_figure(audit(None)),
    "distribution": lambda: distribution_figure(audit()),
    "distribution of one side": lambda: distribution_figure(audit(members=0)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_renders_without_pyplots_global_state(name):
    before = dict(mpl.rcParams)
    open_figures = sys.modules["matplotlib.pyplot"].get_fignums() if "matplotlib.pyplot" in sys.modules else []
    figure = FIGURES[name]()
    png = to_png(figure, dpi=50)
    assert size_of(png) == pytest.approx(figure.get_size_inches() * 50, abs=1)
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert pixels.min() < 100 < pixels.max()
    assert dict(mpl.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == open_figures


def lines_of(figure: Figure) -> dict[str, np.ndarray]:
    return {line.get_label(): np.asarray(line.get_xydata()) for line in figure.axes[0].lines}


def test_the_curve_shows_each_score_at_its_epoch_with_its_interval():
    history = [audit(epoch) for epoch in (1, 3, 5)]
    figure = memorization_curve(history, title="here")
    lines = lines_of(figure)
    for name in ("membership", "reconstruction"):
        expected = [(r.epoch + 1, r.metric(f"auc/{name}")) for r in history]
        np.testing.assert_array_equal(lines[name], expected)
    blind = [r.metric("blind_auc") for r in history]
    np.testing.assert_array_equal(lines["blind (never queries the model)"][:, 1], blind)
    assert len(figure.axes[0].collections) == 2
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_title()) == ("epoch", "here")


def test_audits_that_share_an_epoch_stand_at_their_steps():
    figure = memorization_curve([audit(0, step=50), audit(0, step=100)])
    assert lines_of(figure)["membership"][:, 0].tolist() == [50.0, 100.0]
    assert figure.axes[0].get_xlabel() == "training step"


def test_the_curve_follows_another_prefix():
    lines = lines_of(memorization_curve([audit(epoch, prefix="left/audit") for epoch in range(2)]))
    assert np.isfinite(lines["membership"]).all()


def test_a_low_curve_is_not_cut_off():
    history = [audit(epoch) for epoch in range(2)]
    for result in history:
        result.metrics["audit/blind_auc"] = 0.1
    assert memorization_curve(history).axes[0].get_ylim()[0] < 0.1


def test_points_and_bars_of_a_lone_audit_stand_side_by_side():
    axes = memorization_curve([audit(3)]).axes[0]
    places = {name: xy[0, 0] for name, xy in lines_of(axes.figure).items() if name in ("membership", "reconstruction")}
    assert places["membership"] != places["reconstruction"]
    assert sum(places.values()) / 2 == pytest.approx(4.0)
    bars = [c.get_segments()[0][0, 0] for c in axes.collections if hasattr(c, "get_segments")]
    assert sorted(bars) == sorted(places.values())


def test_the_legend_covers_no_line_of_the_curve():
    figure = memorization_curve([audit(epoch) for epoch in range(3)])
    figure.canvas.draw()
    (legend,) = figure.legends
    assert not legend.get_window_extent().overlaps(figure.axes[0].get_window_extent())


def test_the_distribution_has_the_same_bins_for_both_sides_and_shares_that_sum_to_one():
    result = audit()
    result.scores["membership"][3] = np.nan
    lines = [p for p in distribution_figure(result).axes[0].patches if p.get_label()]
    assert [p.get_label() for p in lines] == ["members (39)", "nonmembers (30)"]
    (members, edges, _), (nonmembers, other, _) = (p.get_data() for p in lines)
    np.testing.assert_array_equal(edges, other)
    np.testing.assert_array_equal(edges, common_edges(result.scores["membership"]))
    assert (members.sum(), nonmembers.sum()) == pytest.approx((1, 1))


def test_an_empty_history_is_refused():
    with pytest.raises(ValueError, match="Expected at least one audit to draw a curve of, but the history is empty"):
        memorization_curve([])


@pytest.mark.parametrize(("nonmembers", "rates"), [(30, 0), (99, 1), (999, 2)])
def test_the_roc_has_log_axes_and_marks_the_operating_points_that_can_be_estimated(nonmembers, rates):
    figure = roc_figure(audit(nonmembers=nonmembers))
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlim()[0] == 0.5 / max(40, nonmembers)
    points = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert len(points) == 2 * rates
    assert all(y >= axes.get_ylim()[0] for _, y in points)
    assert axes.get_title() == f"ROC after epoch 1: 40 members, {nonmembers} nonmembers"
    assert (
        figure.legends[0].get_title().get_text().startswith("TPR at 1 % FPR" if rates else "TPR at no false positive")
    )


def test_names_have_the_same_colour_in_every_figure():
    assert colour("membership") == colour("membership", 5) == registry.scores.get("membership").colour
    assert colour("new", 0) != colour("other", 1)


def test_a_registered_score_has_its_own_colour_everywhere():
    own = Colour("#123456", "#abcdef")
    shown = {"label": "mine", "sentence": "Mine.", "colour": own, "attack": False, "remark": "a bound"}
    register_score("mine.v2", **shown)(lambda inputs: inputs.errors["membership"])
    try:
        result = audit()
        scores = result.scores | {"mine.v2": result.scores["membership"]}
        mine = replace(result, scores=scores, metrics=result.metrics | {"audit/auc/mine.v2": 0.7})
        (line,) = [line for line in memorization_curve([mine]).axes[0].lines if line.get_label() == "mine (a bound)"]
        assert (line.get_color(), line.get_linestyle()) == (own.light, "--")
        (line,) = [line for line in roc_figure(mine).axes[0].lines if line.get_label().startswith("mine  AUC 0.700")]
        assert line.get_color() == own.light
        assert colour("mine.v2", 3) == palette()["score-mine-v2"] == own
        assert entry("mine.v2") == "score-mine-v2"
    finally:
        registry.scores.remove("mine.v2")


ULP = np.spacing(0.1)


@pytest.mark.parametrize(
    "values",
    [
        [0.1, 0.1 + 2 * ULP],
        [0.1 + n * ULP for n in range(30)],
        [1e20, np.nextafter(1e20, 2e20)],
        [0.0, 5e-324],
        [-1e308, 1e308],
        [0.3],
        [np.nan],
    ],
)
def test_bins_hold_all_values_also_where_these_differ_in_their_last_bits(values):
    edges = common_edges(np.array(values))
    assert edges.shape == (21,)
    assert np.isfinite(edges).all()
    assert (edges[:-1] < edges[1:]).all()
    assert np.histogram(values, edges)[0].sum() == np.isfinite(values).sum()


def test_an_audit_whose_scores_are_one_but_for_rounding_is_drawn():
    result = audit()
    result.scores["membership"] = np.where(result.member, 0.1, 0.1 + 2 * ULP)
    shares = [p.get_data()[0].sum() for p in distribution_figure(result).axes[0].patches if p.get_label()]
    assert shares == pytest.approx([1, 1])


@pytest.mark.parametrize("key", ["auc/reconstruction", "auc_low/membership"])
def test_a_low_score_is_not_cut_off(key):
    history = [audit(epoch) for epoch in range(2)]
    history[0].metrics[f"audit/{key}"] = 0.14
    assert memorization_curve(history).axes[0].get_ylim()[0] < 0.14


def test_a_validation_after_the_training_does_not_turn_the_curve_back():
    history = [audit(0, step=10), audit(1, step=20), audit(None, step=0)]
    figure = memorization_curve(history)
    assert lines_of(figure)["membership"][:, 0].tolist() == [1.0, 2.0, 3.0]
    assert figure.axes[0].get_xlabel() == "audit"


def test_the_curve_names_the_band_of_all_looks():
    history = [audit(epoch) for epoch in range(3)]
    assert not [label for label in lines_of(memorization_curve(history)) if "all looks" in label]
    for place, result in enumerate(history):
        ends = {"low": 0.2 - 0.01 * place, "high": 0.9}
        result.metrics.update({f"audit/auc_{end}_simultaneous/membership": value for end, value in ends.items()})
    figure = memorization_curve(history)
    band = lines_of(figure)["membership, 95 % band of all looks"]
    np.testing.assert_allclose(band, [(1, 0.2), (2, 0.19), (3, 0.18)])
    assert figure.axes[0].get_ylim()[0] < 0.18
    assert "membership, 95 % band of all looks" in [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("banded", [False, True])
def test_no_name_of_the_curve_is_cut_off(banded):
    history = [audit(epoch) for epoch in range(3)]
    for result in history:
        names = ("calibrated", "combined", "trained") if banded else ()
        result.scores.update(dict.fromkeys(names, result.scores["membership"]))
        if banded:
            result.metrics.update({f"audit/auc_{end}_simultaneous/membership": 0.4 for end in ("low", "high")})
    figure = memorization_curve(history)
    figure.canvas.draw()
    (legend,) = figure.legends
    extent = legend.get_window_extent()
    assert extent.x0 >= 0
    assert extent.x1 <= figure.bbox.width
    assert not extent.overlaps(figure.axes[0].get_window_extent())
    assert legend._ncols == (2 if banded else 3)
