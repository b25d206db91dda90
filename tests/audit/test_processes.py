from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.multiprocessing import start_processes

from mia_lightning.audit.gathering import failing_together, rank_and_world
from mia_lightning.results.result import AuditResult

# A fork is spared the imports, as in torch's own loaders; elsewhere it is not safe.
START = "fork" if sys.platform == "linux" else "spawn"


def assert_same(a: AuditResult, b: AuditResult, tolerance: float) -> None:
    assert (a.ids, a.excluded) == (b.ids, b.excluded)
    assert a.positions.tolist() == b.positions.tolist()
    for name in a.errors:
        np.testing.assert_allclose(a.errors[name], b.errors[name], rtol=0, atol=tolerance)
    assert a.metrics == pytest.approx(b.metrics, abs=tolerance, nan_ok=True)


def test_two_processes_find_what_one_finds_and_fail_together(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    workers = importlib.import_module("gloo_workers_audit")
    start_processes(workers.audit, args=(2, str(tmp_path)), nprocs=2, start_method=START)
    told = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    first, second = ([AuditResult.from_plain(r) for r in t["results"]] for t in told)
    alone = workers.auditor().run(workers.model, workers.pairs(7, 0), workers.pairs(1, 1))
    assert [e["id"] for e in alone.excluded] == ["member-000004"]
    for result in (first[0], second[0], AuditResult.from_json(tmp_path / "files" / "result.json")):
        assert_same(result, alone, 1e-6)
    subset = workers.auditor(max_samples=3).run(workers.model, workers.pairs(7, 0), workers.pairs(5, 1))
    for result in (*first[1:], *second[1:]):
        assert_same(result, subset, 1e-6)
    assert told[0]["message"] == "RuntimeError: The audit failed on process 1; its message says why."
    assert told[1]["message"] == "OSError: the second process lost its disk"


def test_a_lone_process_fails_with_its_own_error():
    assert rank_and_world() == (0, 1)
    with pytest.raises(KeyError, match="mine"), failing_together(torch.device("cpu")):
        raise KeyError("mine")
