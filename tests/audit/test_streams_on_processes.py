"""Streams and samples that cannot be read give on several processes what they give on one, or are refused on all."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.multiprocessing import start_processes

from mia_lightning.result.audit_result import AuditResult

START = "fork" if sys.platform == "linux" else "spawn"

pytestmark = pytest.mark.filterwarnings("ignore:The model does no better")


def test_two_processes_are_one(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    workers = importlib.import_module("gloo_workers_streams")
    start_processes(workers.audit, args=(2, str(tmp_path)), nprocs=2, start_method=START)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, make in workers.CASES.items():
        alone = workers.auditor().run(nn.Identity(), *make())
        for plain in found:
            result = AuditResult.from_plain(plain[name])
            assert (result.ids, result.excluded) == (alone.ids, alone.excluded)
            assert result.meta.get("streams") == alone.meta.get("streams")
            assert result.positions.tolist() == alone.positions.tolist()
            for error in alone.errors:
                np.testing.assert_array_equal(result.errors[error], alone.errors[error])
    assert [e["id"] for e in AuditResult.from_plain(found[1]["few unreadable"]).excluded] == [
        "member-000003",
        "member-000030",
    ]
    for plain in found:
        assert plain["many unreadable"].startswith("OSError: image ")
        assert plain["many unreadable entries"].startswith("OSError: image "), "of 40, whatever one holds"
        assert "stream of members gives other samples, or another order, on each process" in plain["unseeded"]
        assert "stream of nonmembers gives other samples" in plain["split"]
