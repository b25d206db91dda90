"""Scores over trainings: means, Student's intervals, and what is said of what is missing."""

import csv
from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from mia_lightning import AuditConfig, AuditResult
from mia_lightning.functional.intervals import student_interval
from mia_lightning.functional.roc import roc_auc, tpr_at_fpr
from mia_lightning.report.benchmark_table import BenchmarkTable


def audit(seed, count=150, gain=0.5, scores=("membership", "combined"), notes=()):
    rng = np.random.default_rng(seed)
    member = np.arange(2 * count) < count
    made = {name: rng.normal(gain * (1 + place) * member) for place, name in enumerate(scores)}
    ids = [f"s{i}" for i in range(2 * count)]
    return AuditResult({"audit/blind_auc": 0.5 + seed / 100}, ids, member, {}, made, {"notes": list(notes)})


def rows_of(table):
    return {row["score"]: row for row in csv.DictReader(table.to_csv().splitlines())}


@pytest.mark.parametrize("values", [[0.7, 0.9], [0.61, 0.62, 0.75, 0.5], list(np.linspace(0.2, 0.9, 30))])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_students_interval_is_that_of_scipy(values, level):
    low, high = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert student_interval(values, level) == pytest.approx((np.mean(values), low, high))


def test_what_has_not_varied_has_no_interval_and_what_is_no_number_is_refused():
    for values in ([0.7], [1.0, 1.0, 1.0]):
        mean, low, high = student_interval(values)
        assert (mean, np.isnan(low), np.isnan(high)) == (values[0], True, True)
    for values in ([], [0.5, np.nan], [[0.5]]):
        with pytest.raises(ValueError, match="one finite number a repetition"):
            student_interval(values)


def test_means_and_paired_differences():
    results = [audit(seed) for seed in (1, 2, 3)]
    rows = rows_of(BenchmarkTable.of(results, (1, 2, 3)))
    assert list(rows) == ["membership", "combined"]
    rates = {n: np.array([tpr_at_fpr(r.scores[n], r.member, 0.05)[0] for r in results]) for n in rows}
    for name, row in rows.items():
        areas = [roc_auc(r.scores[name], r.member) for r in results]
        low, high = stats.t.interval(0.95, 2, loc=np.mean(areas), scale=stats.sem(areas))
        found = [float(row[f"auc{end}"]) for end in ("", "_low", "_high")]
        assert found == pytest.approx([np.mean(areas), low, high])
        assert float(row["tpr_at_fpr_0.05"]) == pytest.approx(rates[name].mean())
    gap = rates["membership"] - rates["combined"]
    low, high = stats.t.interval(0.95, 2, loc=gap.mean(), scale=stats.sem(gap))
    found = [float(rows["membership"][f"tpr_at_fpr_0.05_minus_combined{end}"]) for end in ("", "_low", "_high")]
    assert found == pytest.approx([gap.mean(), low, high])
    assert rows["combined"]["auc_minus_combined"] == ""


def test_one_seed_alone_has_no_interval_and_it_is_said():
    table = BenchmarkTable.of([audit(1)], (1,))
    assert "No intervals: they are over trainings, and need at least two seeds." in table.to_markdown()
    assert table.to_markdown().startswith("One training.")
    assert "±" not in table.to_markdown()
    assert rows_of(table)["combined"]["auc_low"] == ""


def test_rates_that_nonmembers_cannot_tell_are_left_out_and_it_is_said():
    table = BenchmarkTable.of([audit(1), audit(2, count=50)], (1, 2))
    assert rows_of(table)["combined"]["tpr_at_fpr_0.01"] == ""
    assert rows_of(table)["combined"]["tpr_at_fpr_0.05"] != ""
    assert "TPR at 1 % FPR: not estimable with 50 nonmembers: at least 99, in 1 of 2 trainings." in table.remarks


def test_settings_that_are_not_the_default_and_seeds_that_are_left_out_are_named():
    result = audit(1)
    result.meta["settings"] = AuditConfig(
        alpha=0.5, scores=["membership"], target_range=(-1, 1), batch_size=4
    ).to_meta()
    text = BenchmarkTable.of([result], (1,), [2, 5]).to_markdown()
    assert "- Settings of the audits that are not the default: alpha=0.5; target_range=[-1.0, 1.0].\n" in text
    assert "- Not in this table: seed(s) 2, 5 of the folder, whose audits are of other settings" in text
    assert "not the default" not in BenchmarkTable.of([audit(1)], (1,)).to_markdown()


def test_scores_that_some_trainings_lack_are_named_with_the_reason():
    short = audit(2, notes=["No score neighbour: the pictures have holes.", "Something else."])
    table = BenchmarkTable.of([audit(1, scores=("membership", "combined", "neighbour")), short], (1, 2))
    assert "Not in all trainings: neighbour (1); their means and differences are over those." in table.remarks
    assert "No score neighbour: the pictures have holes." in table.remarks
    assert "Something else." not in " ".join(table.remarks)
    assert rows_of(table)["neighbour"]["trainings"] == "1"
    console = Console(width=80, record=True, file=StringIO())
    console.print(table.to_rich())
    assert "Without the model (blind AUC): 0.515 ± 0.064." in console.export_text()
