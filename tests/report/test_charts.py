"""The charts of a report: what is drawn of which audits."""

import re

import numpy as np
import pytest

from mia_lightning.report.charts import distributions, memorization_curve, roc, trade_offs
from mia_lightning.report.svg import RIGHT, TOP, WIDTH
from mia_lightning.result.history import positions


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


def test_the_band_of_all_looks_stands_beside_it_and_is_named(made):
    history = [made(0.01 * n, epoch=n) for n in range(3)]
    plain = memorization_curve(history)
    for result in history:
        result.metrics.update(
            {"audit/auc_low_simultaneous/membership": 0.21, "audit/auc_high_simultaneous/membership": 0.9}
        )
    drawing = memorization_curve(history)
    assert "95 % band of all looks together" in [key.label for key in drawing.keys]
    assert "all looks" in drawing.table.head
    assert "all looks" not in plain.table.head
    assert {row[3] for row in drawing.table.rows} == {"0.210 to 0.900"}
    assert drawing.svg.count("stroke-dasharray") == plain.svg.count("stroke-dasharray") + 2
    assert ">0.2</text>" in drawing.svg


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
    by_two_optimizers = [made(step=n, global_step=2 * n) for n in (10, 20)]
    assert positions(by_two_optimizers) == ([10.0, 20.0], "training batch")


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
    result = made(scores=("membership", "reconstruction"), number=110)
    drawing = roc(result)
    assert [key.label.split(",")[0] for key in drawing.keys] == ["membership", "reconstruction", "chance"]
    assert drawing.table.rows[0][2] == f"{100 * result.metric('tpr_at_fpr_0.01'):.1f} %"
    assert f"{WIDTH - RIGHT}.0 {TOP}.0" in drawing.svg
    assert "at a nominal FPR of 1 %, drawn at the achieved FPR" in drawing.note


def test_the_roc_has_no_dots_where_rates_cannot_be_estimated(made):
    few, enough = roc(made(number=60)), roc(made(number=110))
    assert few.svg.count("<circle") < enough.svg.count("<circle")
    assert few.table.rows[0][2] == "-"
    assert "TPR at 1 % FPR: not estimable with 60 nonmembers: at least 99." in few.note
    assert "at no false positive the membership score flags" in few.svg


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
