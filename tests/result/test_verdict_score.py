"""A verdict by another score than the primary one, and where there is none."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from mia_lightning import AuditResult
from mia_lightning.result.verdict import headline, judge
from mia_lightning.result.verdict_score import flagged_by_both, verdict_score
from mia_lightning.scores.analysis import Plan, analyse

MEMBER = np.arange(160) < 80


def audit(shift: float, **meta) -> AuditResult:
    """The membership score finds nothing, the neighbours tell members apart by the shift."""
    generator = np.random.default_rng(3)
    raw = {"reconstruction": np.exp(generator.normal(size=160)), "predictability": np.ones(160)}
    ratios = generator.normal(size=(160, 3)) - shift * MEMBER[:, None]
    raw |= {f"neighbour/{name}": column for name, column in zip(("a", "b", "c"), ratios.T, strict=True)}
    plan = Plan(("reconstruction", "membership", "combined"), family=("combined",))
    found = analyse(raw, {}, MEMBER, plan)
    return AuditResult(
        found.metrics,
        [f"s{i}" for i in range(160)],
        MEMBER,
        found.errors,
        found.scores,
        {"verdict_score": plan.verdict_score, "settings": {"primary": "membership"}, **meta},
    )


def test_the_verdict_is_that_of_its_score():
    result = audit(2.0)
    assert result.verdict_score == result.verdict.score == "combined"
    by_primary = replace(result, meta={"settings": {"primary": "membership"}})
    assert (result.grade, by_primary.grade) == ("strong", "inconclusive")
    assert by_primary.verdict.score == "membership"
    assert "by the combined score" in result.verdict.found
    assert "flagged individually by the combined score" in " ".join(result.verdict.remarks)
    line = headline(result)
    assert line.startswith("membership AUC 0.")
    assert " | combined AUC 0." in line
    assert line.endswith("strong by combined")
    assert "combined" not in headline(by_primary)
    flagged = int(result.flagged(score="combined").sum())
    assert f"by the combined score, which the verdict rests on, {flagged} are" in flagged_by_both(result)
    assert flagged_by_both(by_primary) == ""


def test_it_is_that_of_an_audit_with_this_primary_score():
    result = audit(0.6)
    plain = {k: result.metrics[f"audit/{k}/combined"] for k in ("auc", "p_value", "p_value_corrected", "adjusted_auc")}
    primary = replace(result, meta={"settings": {"primary": "combined"}})
    exposed = {
        f"{k}/most_exposed": result.metric(f"{k}/most_exposed/combined") for k in ("p_value", "p_value_corrected")
    }
    metrics = primary.metrics | {f"audit/{k}": v for k, v in (plain | exposed).items()}
    others = ("adjusted_auc_low", "adjusted_auc_high", "adjusted_p_value")
    others += ("control_auc", "control_auc_low", "control_auc_high")
    metrics |= {f"audit/{k}": result.metric(f"{k}/combined") for k in others}
    assert judge(replace(primary, metrics=metrics)) == result.verdict


def test_its_control_is_remarked():
    result = audit(2.0)
    assert result.metric("control_auc_low/combined") < 0.5 < result.metric("control_auc_high/combined")
    assert result.metric("control_auc/combined") != result.metric("control_auc")
    off = {"control_auc": 0.7, "control_auc_low": 0.6, "control_auc_high": 0.8}
    of_primary = replace(result, metrics=result.metrics | {f"audit/{k}": v for k, v in off.items()})
    assert not any("control" in remark for remark in of_primary.verdict.remarks)
    of_combined = replace(result, metrics=result.metrics | {f"audit/{k}/combined": v for k, v in off.items()})
    (remark,) = [remark for remark in of_combined.verdict.remarks if "The control is off" in remark]
    assert "scored by the combined score as if one were members" in remark


@pytest.mark.parametrize("score", [None, "lost", 3])
def test_results_that_name_none_rest_on_the_primary(score):
    result = audit(2.0)
    meta = {k: v for k, v in result.meta.items() if k != "verdict_score"} | (
        {} if score is None else {"verdict_score": score}
    )
    old = AuditResult.from_plain(replace(result, meta=meta).to_plain())
    assert verdict_score(old) == old.verdict.score == "membership"
    assert old.grade == "inconclusive"


def test_files_keep_it(tmp_path):
    result = audit(2.0)
    again = AuditResult.from_json(result.to_json(tmp_path / "result.json"))
    assert again.meta["verdict_score"] == "combined"
    assert again.verdict == result.verdict
    with result.to_csv(tmp_path / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    flagged = [row["flagged_combined"] == "True" for row in rows]
    assert flagged == result.flagged(score="combined").tolist()
    assert any(flagged)
    np.testing.assert_array_equal([float(row["p_value_combined"]) for row in rows], result.p_values("combined"))
    np.testing.assert_array_equal([float(row["p_value"]) for row in rows], result.p_values("membership"))
    plain = replace(result, meta={"settings": {"primary": "membership"}}).to_csv(tmp_path / "plain.csv")
    assert plain.read_text().partition("\n")[0].endswith(",p_value,flagged")
