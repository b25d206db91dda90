"""Axes and marks: values land where they belong, ticks are round, gaps stay gaps."""

import re

import numpy as np
import pytest

from mia_lightning.report.charts import distributions, memorization_curve, roc, trade_offs
from mia_lightning.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, linear_axis, rate_axis, shade
from mia_lightning.result.history import positions


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-0.03, 0.08, ["-0.025", "0.000", "0.025", "0.050", "0.075"]),
        (0.0, 5000.0, ["0", "1000", "2000", "3000", "4000", "5000"]),
        (0.0001, 0.0002, ["0.00010", "0.00012", "0.00014", "0.00016", "0.00018", "0.00020"]),
    ],
)
def test_ticks_are_round(low, high, labels):
    assert [label for _, label in linear_axis("x", low, high).ticks] == labels


@pytest.mark.parametrize("high", [2, 3, 7, 20, 99, 1000])
def test_epochs_have_whole_ticks(high):
    ticks = linear_axis("epoch", 1, high, whole=True).ticks
    assert 2 <= len(ticks) <= 11
    assert all(value == int(value) and label == str(int(value)) for value, label in ticks)


def test_a_lone_value_has_an_axis():
    for value in (0.0, 3.0, -2.0):
        axis = linear_axis("x", value, value)
        assert axis.low < value < axis.high


@pytest.mark.parametrize(
    ("low", "high"),
    [(1e-17, 3e-17), (1e-17, 1e-17), (0.3, np.nextafter(0.3, 1.0)), (-1e308, 1e308), (-np.inf, np.inf), (1e20, 3e20)],
)
def test_an_axis_of_any_size_has_ticks_that_differ(low, high):
    axis = linear_axis("x", low, high)
    labels = [label for _, label in axis.ticks]
    assert 2 <= len(labels) == len(set(labels)) <= 11
    assert max(map(len, labels)) <= 18
    assert all(float(label) == pytest.approx(value, rel=1e-6, abs=1e-300) for value, label in axis.ticks)
    assert np.isfinite(axis.place([low, high], 0.0, 1.0)).all()


def test_values_land_between_the_axes():
    chart = Chart(linear_axis("x", 0.0, 10.0), linear_axis("y", 0.0, 1.0))
    x, y = chart.points([0.0, 10.0, 20.0], [0.0, 1.0, -5.0])
    np.testing.assert_allclose(x, [LEFT, WIDTH - RIGHT, WIDTH - RIGHT])
    np.testing.assert_allclose(y, [HEIGHT - BOTTOM, TOP, HEIGHT - BOTTOM])


def test_rates_stand_at_their_powers():
    axis = rate_axis("rate", 0.01)
    np.testing.assert_allclose(axis.place([0.01, 0.1, 1.0], 0.0, 2.0), [0.0, 1.0, 2.0])
    np.testing.assert_allclose(axis.place([0.0], 0.0, 2.0), [0.0])


def test_a_missing_value_is_a_gap():
    chart = Chart(linear_axis("x", 0.0, 4.0), linear_axis("y", 0.0, 1.0))
    chart.line([0, 1, 2, 3, 4], [0.1, 0.2, np.nan, 0.4, 0.5], "red")
    path = re.search(r'<path d="(M[^"]+)" fill="none"', chart.svg("a", "b"))[1]
    assert (path.count("M"), path.count("L")) == (2, 2)
    assert "nan" not in chart.svg("a", "b")


def test_text_is_escaped():
    chart = Chart(linear_axis("<b>", 0.0, 4.0), linear_axis('"&', 0.0, 1.0))
    chart.label(1, 0.5, "</svg><script>")
    svg = chart.svg("</title><script>", "<desc>")
    assert "<script>" not in svg
    assert "&lt;/svg&gt;&lt;script&gt;" in svg
    assert svg.count("<desc>") == 1


def test_scores_keep_their_colours_and_others_take_turns():
    assert shade("membership", 4) == "var(--score-membership)"
    assert shade("lira_online", 1) == "var(--spare-1)"
    assert shade("x);background:url(http://y", 2) == "var(--spare-2)"


def test_the_curve_has_the_band_of_the_primary(made):
    history = [made(0.01 * n, epoch=n, scores=("membership", "reconstruction")) for n in range(4)]
    drawing = memorization_curve(history)
    assert drawing.svg.count('class="band"') == 1
    assert [key.label for key in drawing.keys] == [
        "membership, with its 95 % interval",
        "reconstruction",
        "blind: never queries the model",
        "chance",
    ]
    assert [row[1] for row in drawing.table.rows] == [f"{r.auc:.3f}" for r in history]


def test_a_lone_audit_is_a_point_with_an_error_bar(made):
    svg = memorization_curve([made(epoch=4)]).svg
    assert re.search(r'<path d="M[\d.]+ [\d.]+V[\d.]+M[\d.]+ [\d.]+h10M[\d.]+ [\d.]+h10"', svg)
    assert ">5</text>" in svg


def test_audits_of_one_epoch_stand_at_their_steps(made):
    history = [made(epoch=0), made(epoch=0)]
    history[0].meta["step"] = 5
    assert positions(history) == ([5.0, 10.0], "training step")
    assert positions([made(epoch=0), made(epoch=1)]) == ([1.0, 2.0], "epoch")
    assert positions([made(), made()]) == ([1.0, 2.0], "audit")
    assert positions([made(epoch=0), made(epoch=1), made(step=0)]) == ([1.0, 2.0, 3.0], "audit")
    assert positions([made(epoch=0), made(epoch=1), made(step=30)]) == ([10.0, 20.0, 30.0], "training step")


def test_both_sides_share_their_bins(made):
    primary, reconstruction = distributions(made(0.05))
    assert (primary.title, reconstruction.title) == (
        "Membership error of both sides",
        "Reconstruction error of both sides",
    )
    for column in (2, 3):
        total = sum(float(row[column].removesuffix(" %")) for row in primary.table.rows)
        assert total == pytest.approx(100.0, abs=2.0)


def test_a_score_without_an_error_is_drawn_itself(made):
    result = made(scores=("calibrated", "membership"))
    assert [d.title for d in distributions(result)] == [
        "Calibrated score of both sides",
        "Reconstruction error of both sides",
    ]


def test_far_values_do_not_squeeze_the_rest(made):
    result = made(number=200)
    result.errors["membership"][0] = 1e4
    drawing = distributions(result)[0]
    assert drawing.note.endswith("Values beyond the central 99 % are in the outermost bars.")
    assert float(drawing.table.rows[-1][1]) < 10.0


def test_the_roc_ends_where_everybody_is_named(made):
    result = made(scores=("membership", "reconstruction"))
    drawing = roc(result)
    assert [key.label.split(",")[0] for key in drawing.keys] == ["membership", "reconstruction", "chance"]
    assert drawing.table.rows[0][2] == f"{100 * result.metric('tpr_at_fpr_0.01'):.1f} %"
    assert f"{WIDTH - RIGHT}.0 {TOP}.0" in drawing.svg


def test_utility_is_what_the_audits_carry(made):
    history = [made(0.01 * n, epoch=n, utility={"val/iou": 0.1 * n}) for n in range(3)]
    history[1].meta["utility"] = {}
    (drawing,) = trade_offs(history)
    assert [row[:2] for row in drawing.table.rows] == [["1", "0"], ["3", "0.2"]]
    assert ">epoch 1</text>" in drawing.svg
    assert ">epoch 3</text>" in drawing.svg
    assert trade_offs([made(epoch=0)]) == []


@pytest.mark.parametrize("utilities", [(1e-17, 3e-17), (0.3, np.nextafter(0.3, 1.0)), (-1e308, 1e308)])
def test_utility_of_any_size_is_drawn(made, utilities):
    (drawing,) = trade_offs([made(0.01, epoch=n, utility={"val/x": u}) for n, u in enumerate(utilities)])
    assert drawing.svg.count("<circle") == 2
    assert "nan" not in drawing.svg


@pytest.mark.parametrize("values", [(0.1, np.nextafter(0.1, 1.0)), (-1e306, 1e306)])
def test_errors_of_any_size_are_drawn(made, values):
    result = made()
    result.errors["membership"] = np.where(result.member, *values)
    drawing = distributions(result)[0]
    for column in (2, 3):
        assert [row[column] for row in drawing.table.rows].count("100.0 %") == 1


def test_the_axis_of_the_curve_reaches_down_to_every_score(made):
    history = [made(epoch=n, scores=("membership", "reconstruction")) for n in range(2)]
    history[0].metrics["audit/auc/reconstruction"] = 0.14
    assert ">0.2</text>" in memorization_curve(history).svg


def test_steps_are_written_out(made):
    history = [made(epoch=0, step=1_234_530, utility={"val/x": 1.0}), made(epoch=0, step=2_345_670, utility={})]
    assert [row[0] for row in memorization_curve(history).table.rows] == ["1,234,530", "2,345,670"]
    (drawing,) = trade_offs(history)
    assert drawing.table.rows[0][0] == "1,234,530"
    assert ">training step 1,234,530</text>" in drawing.svg
