from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.multiprocessing import start_processes

from mia_lightning.metrics.collector import SampleCollector

# A fork is spared the imports, as in torch's own loaders; elsewhere it is not safe.
START = "fork" if sys.platform == "linux" else "spawn"


def add(collector: SampleCollector, ids: list[str], index: list[int], member: bool) -> None:
    collector.update(ids, torch.tensor(index), member, {"error": torch.tensor(index, dtype=torch.float64) / 3})


def test_members_come_first_and_each_side_in_its_own_order():
    collector = SampleCollector(["error"])
    add(collector, ["n7", "n2"], [7, 2], member=False)
    add(collector, ["m5"], [5], member=True)
    add(collector, ["n3", "m0"][:1], [3], member=False)
    add(collector, ["m2", "m0"], [2, 0], member=True)
    table = collector.compute()
    assert table.ids == ["m0", "m2", "m5", "n2", "n3", "n7"]
    assert table.member.tolist() == [True] * 3 + [False] * 3
    assert table.position.tolist() == [0, 2, 5, 2, 3, 7]
    np.testing.assert_array_equal(table.columns["error"], np.array([0, 2, 5, 2, 3, 7]) / 3)  # float64 to the bit


def test_any_id_travels():
    ids = ["", "日本/ü\x00.png", "a" * 500, "same", "same", "🙂"]
    collector = SampleCollector(["error"])
    add(collector, ids, list(range(6)), member=True)
    assert collector.compute().ids == ids


def test_groups_travel_beside_the_ids():
    collector = SampleCollector(["x"])
    one, two = {"x": torch.zeros(1)}, {"x": torch.zeros(2)}
    collector.update(["b", "a"], torch.tensor([1, 0]), True, two, ["é", None])
    assert collector.compute().groups == ["", "é"]
    collector.update(["c"], torch.tensor([0]), False, one)
    assert collector.compute().groups == ["", "é", ""]
    collector.reset()
    collector.update(["c"], torch.tensor([0]), False, one)
    assert collector.compute().groups is None
    with pytest.raises(ValueError, match=r"holds 1 samples but 2 groups: \['x', 'y'\]"):
        collector.update(["d"], torch.tensor([1]), False, one, ["x", "y"])


def test_labels_travel_beside_the_groups():
    collector, one = SampleCollector(["x"]), {"x": torch.zeros(1)}
    collector.update(["b"], torch.tensor([1]), True, one, ["g"], ['["ü"]'])
    collector.update(["a"], torch.tensor([0]), True, one)
    table = collector.compute()
    assert (table.groups, table.labels) == (["", "g"], ["", '["ü"]'])
    with pytest.raises(ValueError, match=r"holds 1 samples but 2 labels: \['x', 'y'\]"):
        collector.update(["d"], torch.tensor([1]), False, one, labels=["x", "y"])


def test_a_sample_collected_twice_is_refused():
    collector = SampleCollector(["error"])
    add(collector, ["a", "b"], [0, 1], member=True)
    add(collector, ["a"], [0], member=False)
    assert len(collector.compute().ids) == 3
    add(collector, ["b"], [1], member=True)
    with pytest.raises(RuntimeError, match="sample was collected twice; every process must audit its own part"):
        collector.compute()


def test_nothing_collected_is_an_empty_table():
    collector = SampleCollector(["error"])
    table = collector.compute()
    assert (table.ids, table.member.dtype, table.columns["error"].shape) == ([], np.bool_, (0,))


@pytest.mark.parametrize("values", [{}, {"other": torch.zeros(2)}, {"error": torch.zeros(3)}])
def test_columns_and_lengths_must_fit(values):
    with pytest.raises(ValueError, match=r"Expected 2 values for each of \['error'\], but got"):
        SampleCollector(["error"]).update(["a", "b"], torch.tensor([0, 1]), True, values)


def test_two_processes_share_all_rows_even_where_one_has_none(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    workers = importlib.import_module("gloo_workers")
    start_processes(workers.gather, args=(2, str(tmp_path)), nprocs=2, start_method=START)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first == second
    uneven, lopsided = first["tables"]
    assert uneven["ids"] == ["né-0", "né-2", "né-4", "né-1", "né-3"]
    assert uneven["columns"]["b"] == [np.float32(place / 3) for place in (0, 2, 4, 1, 3)]
    assert (lopsided["ids"], lopsided["position"], lopsided["columns"]) == (["yy", "x"], [1, 3], {"a": [0.25, 0.5]})
    assert first["auc"] == 1.0
    assert uneven["groups"] is None
    assert uneven["labels"] == ["", '["é2"]', '["é4"]', '["é1"]', '["é3"]']
    assert lopsided["labels"] is None
    assert lopsided["groups"] == ["", "ü"]
