from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import flagged_since, read_audits, write_audit, write_history

REFERENCE = [f"n{i}" for i in range(19)]  # a member above them all has p = 1/20


def audit(epoch: int | None, exposed: dict[str, bool], **changes: Any) -> AuditResult:
    """An audit of nineteen nonmembers, in which the members that ``exposed`` marks score above all of them."""
    ids = [*exposed, *REFERENCE]
    score = np.array([2.0 if e else -1.0 for e in exposed.values()] + [i / 19 for i in range(19)])
    parts: dict[str, Any] = {
        "metrics": {"audit/auc": 0.5},
        "ids": ids,
        "member": np.arange(len(ids)) < len(exposed),
        "errors": {"reconstruction": 1 - score},
        "scores": {"membership": score},
        "meta": {"epoch": epoch, "step": 10 * (epoch or 0), "settings": {"primary": "membership", "fdr": 0.2}},
    }
    return AuditResult(**(parts | changes))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def as_csv(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)


def test_a_member_is_flagged_since_the_start_of_its_last_run():
    stories = {"always": "111", "late": "011", "interrupted": "101", "recovered": "110", "never": "000"}
    history = [audit(4 + k, {name: flags[k] == "1" for name, flags in stories.items()}) for k in range(3)]
    assert flagged_since(history) == {"always": 4, "late": 5, "interrupted": 6, "recovered": None, "never": None}


def test_several_audits_an_epoch_and_audits_outside_of_training():
    history = [audit(epoch, {"a": flag}) for epoch, flag in ((0, False), (0, True), (1, True), (None, False))]
    assert flagged_since(history) == {"a": 0}
    assert flagged_since(history[-1:]) == {"a": None}
    assert flagged_since([]) == {}


def test_an_audit_that_left_a_member_out_is_passed_over_unless_it_is_the_last():
    full, without = {"a": True, "b": True}, {"b": True}
    assert flagged_since([audit(0, full), audit(1, without), audit(2, full)]) == {"a": 0, "b": 0}
    assert flagged_since([audit(0, full), audit(1, full), audit(2, without)]) == {"a": None, "b": 0}
    assert flagged_since([audit(0, without), audit(1, full)]) == {"a": 1, "b": 0}


def test_the_rate_and_the_score_are_those_asked_for():
    history = [audit(0, {"a": True}), audit(1, {"a": True})]
    assert flagged_since(history, rate=0.04) == {"a": None}  # the least p-value is 1/20
    quiet = -np.arange(20.0)[::-1]
    history[1].scores["reconstruction"] = quiet  # the first audit lacks it: it is passed over
    assert flagged_since(history, score="reconstruction") == {"a": None}
    history[1].scores["reconstruction"] = -quiet
    assert flagged_since(history, score="reconstruction") == {"a": 1}
    with pytest.raises(ValueError, match=r"Expected a false-discovery rate in \(0, 1\), but got 1"):
        flagged_since(history, rate=1.0)


def test_an_id_on_both_sides_and_an_id_twice_on_one():
    first, last = audit(0, {"n0": True, "b": True}), audit(1, {"n0": True, "b": True})
    assert flagged_since([first, last]) == {"n0": 0, "b": 0}
    for result, score in ((first, [-1.0, 2.0]), (last, [2.0, 2.0])):
        result.ids[:2] = ["twin", "twin"]
        result.scores["membership"][:2] = score
    assert flagged_since([first, last]) == {"twin": 0}


def test_random_histories_against_the_definition():
    rng = np.random.default_rng(0)
    for _ in range(40):
        names = [f"m{i}" for i in range(6)]
        history = []
        for epoch in range(int(rng.integers(1, 7))):
            held = [n for n in names if rng.random() < 0.8] or names
            history.append(audit(epoch, {n: bool(rng.random() < 0.7) for n in held}))
        found = flagged_since(history, rate=0.3)
        for name in {n for r in history for n in r.ids if n.startswith("m")}:
            told = [(r.epoch, bool(r.flagged(0.3)[r.ids.index(name)])) for r in history if name in r.ids]
            expected = None
            if name in history[-1].ids:
                ends = [k for k in range(len(told)) if all(flag for _, flag in told[k:])]
                expected = told[ends[0]][0] if ends else None
            assert found[name] == expected


def test_the_table_has_a_row_a_sample_and_audit(tmp_path, as_csv):
    history = [audit(0, {"a": False, "b": True}), audit(2, {"a": True, "b": True})]
    path = write_history(history, tmp_path / "deep")
    assert path == tmp_path / "deep" / "samples.csv"
    rows = rows_of(path)
    named = ["epoch", "step", "id", "side", "error_reconstruction", "score_membership"]
    assert list(rows[0]) == [*named, "p_value", "flagged", "flagged_since"]
    assert len(rows) == 2 * 21
    assert [(r["epoch"], r["step"]) for r in rows[:: len(rows) // 2]] == [("0", "0"), ("2", "20")]
    assert [(r["id"], r["side"]) for r in rows[21:24]] == [("a", "member"), ("b", "member"), ("n0", "nonmember")]
    for result, part in zip(history, (rows[:21], rows[21:]), strict=True):
        assert [float(r["error_reconstruction"]) for r in part] == result.errors["reconstruction"].tolist()
        assert [float(r["score_membership"]) for r in part] == result.scores["membership"].tolist()
        assert [float(r["p_value"]) for r in part] == result.p_values().tolist()
        assert [r["flagged"] == "True" for r in part] == result.flagged().tolist()
        assert [r["flagged_since"] for r in part[:3]] == ["2", "0", ""]


def test_columns_and_samples_that_an_audit_lacks_are_empty(tmp_path, as_csv):
    first, last = audit(0, {"a": True}), audit(None, {"a": True, "b": False})
    last.scores["combined"], last.errors["neighbour"] = np.full(21, 0.5), np.full(21, math.nan)
    rows = rows_of(write_history([first, last], tmp_path))
    named = ["error_reconstruction", "error_neighbour", "score_membership", "score_combined"]
    assert list(rows[0])[4:-3] == named
    assert [
        (r["epoch"], r["id"], r["error_neighbour"], r["score_combined"]) for r in (rows[0], rows[20], rows[21])
    ] == [
        ("0", "a", "", ""),
        ("", "a", "nan", "0.5"),
        ("", "b", "nan", "0.5"),
    ]
    assert len(rows) == 20 + 21


def test_ids_of_any_kind_come_back_and_run_nothing(tmp_path, as_csv):
    names = ["=1+1", "[red]x[/red]", 'a,"b"\nc', "ünï"]
    path = write_history([audit(0, dict.fromkeys(names, True))], tmp_path)
    assert [r["id"] for r in rows_of(path)[:4]] == ["'=1+1", *names[1:]]


def test_an_audit_with_an_empty_side_is_written_without_p_values(tmp_path, as_csv):
    nobody = AuditResult({}, ["a"], np.array([True]), {}, {"membership": np.array([math.nan])}, {"epoch": 0, "step": 1})
    (row,) = rows_of(write_history([nobody], tmp_path))
    assert (row["p_value"], row["flagged"], row["flagged_since"]) == ("nan", "False", "")


def test_no_history_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Expected one or more audits to write the history of, but got none"):
        write_history([], tmp_path)


def test_audits_side_by_side_share_a_folder(tmp_path, as_csv):
    for prefix in ("audit", "audit/hard", "left"):
        meta = {"epoch": 1, "step": 7, "settings": {"prefix": prefix, "primary": "membership"}}
        write_audit(audit(1, {"a": True}, meta=meta), tmp_path)
        write_history([audit(1, {"a": True}, meta=meta)], tmp_path)
    stems = ["audit-epoch=0001-step=00000007", "audit_hard-epoch=0001-step=00000007", "audit_hard-samples"]
    stems += ["left-epoch=0001-step=00000007", "left-samples", "samples"]
    assert sorted(p.stem for p in tmp_path.glob("*.csv")) == stems
    for prefix in ("audit", "audit/hard", "left"):
        assert [r.prefix for r in read_audits(tmp_path, prefix)] == [prefix]


def test_parquet_holds_the_same_with_types(tmp_path):
    pytest.importorskip("pyarrow", reason="needs the parquet extra")
    import pyarrow.parquet as pq

    first, last = audit(0, {"=1+1": True}), audit(None, {"=1+1": True, "b": False})
    last.scores["combined"] = np.full(21, math.nan)
    path = write_history([first, last], tmp_path)
    assert path == tmp_path / "samples.parquet"
    assert list(tmp_path.iterdir()) == [path]
    table = pq.read_table(path)
    kinds = dict(zip(table.column_names, map(str, table.schema.types), strict=True))
    assert kinds["epoch"] == kinds["step"] == kinds["flagged_since"] == "int64"
    assert (kinds["id"], kinds["flagged"], kinds["p_value"]) == ("string", "bool", "double")
    columns = table.to_pydict()
    assert columns["id"] == first.ids + last.ids
    assert columns["epoch"] == [0] * 20 + [None] * 21
    assert columns["flagged"] == [*first.flagged().tolist(), *last.flagged().tolist()]
    assert columns["flagged_since"][:2] == [0, None]
    assert columns["score_membership"] == [*first.scores["membership"], *last.scores["membership"]]
    assert columns["score_combined"][:20] == [None] * 20
    assert all(math.isnan(v) for v in columns["score_combined"][20:])


def test_a_killed_run_stays_readable(tmp_path):
    history = [audit(k, {"a": k > 0}) for k in (0, 1, 2, 10_000)]
    outside = audit(None, {"a": False})
    for result in (*history, outside):
        path = write_audit(result, tmp_path)
        assert json.loads(path.read_text())["meta"]["epoch"] == result.epoch
        assert path.with_suffix(".csv").is_file()
    (tmp_path / "audit-epoch=0003-step=00000030.json").write_text('{"format": 1, "metr')
    (tmp_path / "audit-epoch=0004-step=00000040.json").write_text('{"weather": "fine"}')
    for other in ("result.json", "evidence.json", ".audit-epoch=0005-step=00000050.json.x1", "audit-epoch=0006.json"):
        (tmp_path / other).write_text("{}")
    with pytest.warns(UserWarning, match="The history goes on without a broken file") as caught:
        found = read_audits(tmp_path)
    assert [r.epoch for r in found] == [0, 1, 2, 10_000, None]
    assert [str(w.message).split(" is not an audit result")[0].rsplit("=", 1)[1] for w in caught] == [
        "00000030.json",
        "00000040.json",
    ]
    assert flagged_since(found) == {"a": 1}


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone is no folder; expected a run's audit folder, as runs/NAME"):
        read_audits(tmp_path / "gone")
    assert read_audits(tmp_path) == []
