from __future__ import annotations

import csv
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from mia_lightning.result.audit_result import AuditResult


def make(**changes: Any) -> AuditResult:
    r = np.array([0.1, 1 / 3, 2.0**-1060, 0.7])
    parts: dict[str, Any] = {
        "metrics": {"audit/auc": 0.1 + 0.2, "audit/blind_auc": math.nan},
        "ids": ["ünï-1", 'a,"b"\nc', "=1+1", "n2"],
        "member": [True, True, False, False],
        "errors": {"reconstruction": r},
        "scores": {"membership": np.array([0.5, 0.9, 0.9, -0.0]), "reconstruction": -r},
        "meta": {"epoch": 3, "step": 40, "settings": {"prefix": "audit", "primary": "membership"}, "note": None},
        "excluded": [{"id": "x", "side": "member", "reason": "the prediction holds NaN or infinite values"}],
        "positions": np.array([0, 5, 2, 3]),
    }
    return AuditResult(**(parts | changes))


def assert_same(a: AuditResult, b: AuditResult) -> None:
    assert (a.ids, a.meta, a.excluded) == (b.ids, b.meta, b.excluded)
    assert a.metrics.keys() == b.metrics.keys()
    for ours, theirs in ((a.errors, b.errors), (a.scores, b.scores), (a.metrics, b.metrics)):
        assert list(ours) == list(theirs)
        for key in ours:
            assert np.asarray(ours[key]).tobytes() == np.asarray(theirs[key]).tobytes()
    assert (a.member.dtype, a.member.tolist()) == (b.member.dtype, b.member.tolist())
    if a.positions is None:
        assert b.positions is None
    else:
        assert (b.positions.dtype, b.positions.tolist()) == (np.int64, a.positions.tolist())


@pytest.mark.parametrize("changes", [{}, {"positions": None}])
def test_json_keeps_every_bit(tmp_path, changes):
    result = make(**changes)
    path = result.to_json(tmp_path / "deep" / "result.json")
    assert_same(result, AuditResult.from_json(path))
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)["metrics"]["audit/blind_auc"] is None
    assert "NaN" not in text.replace(result.excluded[0]["reason"], "")


def test_plain_form_survives_a_checkpoint_without_pickled_objects(tmp_path):
    result = make()
    torch.save(result.to_plain(), tmp_path / "state.ckpt")
    assert_same(result, AuditResult.from_plain(torch.load(tmp_path / "state.ckpt", weights_only=True)))


def test_plain_form_is_a_copy():
    result = make()
    plain = result.to_plain()
    result.errors["reconstruction"][0] = 9.0
    assert plain["errors"]["reconstruction"][0] == 0.1


def test_csv_has_a_row_a_sample_with_every_digit(tmp_path):
    result = make()
    with result.to_csv(tmp_path / "samples.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["error_reconstruction", "score_membership", "score_reconstruction"]
    assert list(rows[0]) == ["id", "side", *columns, "p_value", "flagged"]
    assert [float(row["p_value"]) for row in rows] == result.p_values().tolist()
    assert {row["flagged"] for row in rows} == {"False"}
    assert [row["side"] for row in rows] == ["member", "member", "nonmember", "nonmember"]
    assert [row["id"] for row in rows] == ["ünï-1", 'a,"b"\nc', "'=1+1", "n2"]  # a spreadsheet would run the third
    assert [float(row["error_reconstruction"]) for row in rows] == result.errors["reconstruction"].tolist()


def test_top_orders_a_side_by_a_score_and_keeps_ties_in_order():
    result = make(scores={"membership": np.array([0.5, 0.5, 0.1, 0.2]), "other": np.array([0.0, 1.0, 2.0, 3.0])})
    assert result.top(5) == ["ünï-1", 'a,"b"\nc']
    assert result.top(1, member=False) == ["n2"]
    assert result.top(1, score="other") == ['a,"b"\nc']
    assert result.top(1, lowest=True, score="other") == ["ünï-1"]
    assert result.top_indices(2, member=False) == [3, 2]


def test_headline_follows_prefix_and_primary():
    settings = {"prefix": "left/audit", "primary": "reconstruction"}
    metrics = {
        "left/audit/auc": 0.6,
        "left/audit/auc_low/reconstruction": 0.5,
        "left/audit/auc_high/reconstruction": 0.7,
    }
    result = make(metrics=metrics, meta={"settings": settings})
    assert (result.auc, result.interval(), result.epoch) == (0.6, (0.5, 0.7), None)
    assert math.isnan(result.metric("blind_auc"))
    assert repr(result) == "AuditResult(2 members, 2 nonmembers, auc=0.600 [0.500, 0.700])"
    assert repr(make()).startswith("AuditResult(epoch 3, ")


@pytest.mark.parametrize("name", ["member", "errors", "scores"])
def test_columns_of_another_length_are_refused(name):
    short = {"member": [True], "errors": {"r": [1.0]}, "scores": {"s": [1.0, 2.0]}}[name]
    with pytest.raises(ValueError, match="Expected 4 values a column, one for each id, but got"):
        make(**{name: short})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "Expecting value"),
        (b"{not json", "Expecting property name"),
        (b"\x89PNG\xff\xfe", "can't decode"),
        (b"[1, 2]", "'list' object"),
        (b"{}", "of format 1, but found None"),
        (b'{"format": 2}', "of format 1, but found 2"),
        (b'{"format": 1, "metrics": {}, "ids": []}', "the part 'member' is missing"),
    ],
)
def test_files_that_are_no_result_are_named(tmp_path, text, message):
    path = tmp_path / "other.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=rf"other\.json is not an audit result.*{message}"):
        AuditResult.from_json(path)


def test_a_missing_file_stays_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        AuditResult.from_json(tmp_path / "none.json")
