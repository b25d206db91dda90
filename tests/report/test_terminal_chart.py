"""The memorization curve in characters."""

import numpy as np
import pytest
from rich.console import Console

from mia_lightning.report.terminal_chart import curve_chart
from mia_lightning.result.audit_result import AuditResult


def made(epoch: int | None, auc: float, low: float, high: float) -> AuditResult:
    member, score = np.array([True, False]), np.array([1.0, 0.0])
    metrics = {"audit/auc": auc, "audit/auc/membership": auc}
    metrics |= {"audit/auc_low/membership": low, "audit/auc_high/membership": high}
    meta = {"epoch": epoch, "settings": {"prefix": "audit", "primary": "membership"}}
    return AuditResult(metrics, ["a", "b"], member, {"membership": -score}, {"membership": score}, meta)


CURVE = [made(1, 0.5, 0.4, 0.6), made(3, 0.8, 0.7, 0.9), made(5, 0.99, 0.95, 1.0)]


def test_points_and_intervals_stand_where_they_belong() -> None:
    assert [line.rstrip() for line in curve_chart(CURVE, plain=True).plain.split("\n")] == [
        "AUC of the membership score and its 95 % interval, by epoch",
        " 1.00 |                    *",
        "      |                    :",
        " 0.90 |            :",
        "      |            :",
        " 0.80 |            *",
        "      |            :",
        " 0.70 |            :",
        "      |",
        " 0.60 |    :",
        "      |    :",
        " 0.50 |----*-------------------",
        "      |    :",
        " 0.40 |    :",
        "           2       4       6",
    ]


@pytest.mark.parametrize("count", [1, 2, 17, 400])
@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_it_fits_the_terminal_and_keeps_both_ends(count: int, width: int) -> None:
    text = curve_chart([made(e, 0.5 + 0.4 * e / count, 0.3, 1.0) for e in range(count)], width).plain
    lines = text.split("\n")
    assert max(len(line.rstrip()) for line in lines[1:]) <= width
    labels = lines[-1].split()
    assert labels[0] == "1"
    assert labels[-1] == str(count)
    assert len(labels) == text.count("●")


def test_a_number_that_is_not_known_leaves_a_gap() -> None:
    nothing = [made(0, np.nan, np.nan, np.nan)]
    assert "●" not in curve_chart(nothing).plain
    assert curve_chart([*nothing, made(None, 0.7, 0.6, 0.8)]).plain.split("\n")[-1].split() == ["1", "now"]


def test_there_is_no_curve_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one audit"):
        curve_chart([])


def test_it_is_plain_text_where_there_is_no_terminal() -> None:
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(curve_chart(CURVE))
    assert "\x1b" not in capture.get()
