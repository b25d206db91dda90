"""The metrics of all audits of a run as a table."""

import csv
import math

import numpy as np
import pytest

from mia_lightning import AuditResult
from mia_lightning.report.metrics_table import metrics_table
from mia_lightning.report.run import read_run
from mia_lightning.report.write import write_report
from mia_lightning.result.history import write_audit


def test_the_metrics_of_all_audits_are_one_table(tmp_path, made):
    for epoch in range(3):
        write_audit(made(0.01 * epoch, epoch=epoch), tmp_path / "audit")
    run = read_run(tmp_path)
    (path,) = write_report(run, formats=["csv"])
    assert path == tmp_path / "audit" / "metrics.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row.pop("epoch"), row.pop("step"), row.pop("logged_step")) for row in rows] == [
        (str(result.epoch), str(result.meta["step"] or ""), "") for result in run.history
    ]
    for row, result in zip(rows, run.history, strict=True):
        values = {key: float(value) for key, value in row.items() if value}
        assert values == pytest.approx({k: v for k, v in result.metrics.items() if v == v}, rel=0, abs=0)


def test_a_metric_that_some_audits_lack_is_left_empty():
    sides = np.zeros(0, bool)
    first, second = (AuditResult(m, [], sides, {}, {}) for m in ({"audit/auc": 0.5}, {"audit/new": math.nan}))
    assert metrics_table([first, second]) == "epoch,step,logged_step,audit/auc,audit/new\n,,,0.5,\n,,,,\n"
