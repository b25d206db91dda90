"""Names in tables: no spreadsheet runs them, and our readers find them again."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_lightning.audit.grouping import Grouping
from mia_lightning.data.id_lists import read_ids
from mia_lightning.data.records import Record
from mia_lightning.data.splits_file import apply_splits
from mia_lightning.report.metrics_table import metrics_table
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.spreadsheet_text import name_among, spreadsheet_text, text_of_spreadsheet

FORMULAS = [
    '=HYPERLINK("http://example.org?x="&A1,"ok")',
    "+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "'=1",
    "''=1",
    "\uff1d1",
]


@pytest.mark.parametrize("name", FORMULAS)
def test_what_looks_like_a_formula_is_text_and_comes_back(name):
    text = spreadsheet_text(name)
    assert text == f"'{name}"
    assert text_of_spreadsheet(text) == name


@given(st.text(alphabet="'=+-@\t\r\n ab1", max_size=6))
def test_every_name_comes_back(name):
    assert text_of_spreadsheet(spreadsheet_text(name)) == name


def test_no_two_names_are_written_alike():
    names = [*FORMULAS, "=1", "'", "'a", "a", "''a"]
    assert len({spreadsheet_text(name) for name in names}) == len(names)


def test_a_cell_means_the_name_that_is_there():
    assert name_among("'=1", {"'=1"}) == "'=1"
    assert name_among("'=1", {"'=1", "=1"}) == "=1"
    assert name_among("'=1", {"=1"}) == "=1"
    assert name_among("'=1", {"=2"}) == "'=1"


def test_a_table_of_samples_is_read_as_groups(tmp_path):
    ids = [name for name in FORMULAS if name.strip() == name]
    groups = [f"={row}" for row, _ in enumerate(ids)]
    result = AuditResult({}, ids, np.arange(len(ids)) < 3, {}, {"membership": np.arange(1.0 * len(ids))}, groups=groups)
    path = result.to_csv(tmp_path / "samples.csv")
    with path.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.DictReader(file) for cell in (row["id"], row["group"])]
    assert all(cell.startswith("'") for cell in cells)
    assert Grouping(path).of(ids) == groups


def test_splits_and_lists_may_be_tables_of_ours(tmp_path):
    records = [Record(name, "", None, tmp_path, tmp_path) for name in ("=a", "'=b", "c")]
    (tmp_path / "splits.csv").write_text("id,split,who\n'=a,train,'=p\n''=b,test,q\n", encoding="utf-8")
    found = apply_splits(records, tmp_path, group_column="who")
    assert {r.id: (r.split, r.group) for r in found} == {"=a": ("train", "=p"), "'=b": ("test", "q")}
    (tmp_path / "ids.txt").write_text("'=a\n''=b\n", encoding="utf-8")
    assert read_ids(tmp_path / "ids.txt", ["=a", "'=b", "c"]) == ["=a", "'=b"]


def test_names_of_metrics_are_text_too():
    result = AuditResult({"=x/auc": 0.5}, [], np.zeros(0, bool), {}, {})
    assert metrics_table([result]).splitlines()[0].endswith(",'=x/auc")
