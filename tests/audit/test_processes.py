from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.multiprocessing import start_processes

from mia_lightning.audit.distributed import failing_together, forward_is_collective, rank_and_world
from mia_lightning.result.audit_result import AuditResult

# A fork is spared the imports, as in torch's own loaders; elsewhere it is not safe.
START = "fork" if sys.platform == "linux" else "spawn"

FAILED = "OtherProcessError: The audit failed on process 1; its message says why."


@pytest.fixture
def workers(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("gloo_workers_audit")


def told(work: Any, world: int, folder: Path) -> list[dict[str, Any]]:
    start_processes(work, args=(world, str(folder)), nprocs=world, start_method=START)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


def assert_same(a: AuditResult, b: AuditResult) -> None:
    """Batches are the same on any number of processes: so are the numbers, up to rounding in the last place."""
    assert (a.ids, a.excluded, a.meta["notes"]) == (b.ids, b.excluded, b.meta["notes"])
    assert a.positions.tolist() == b.positions.tolist()
    assert a.member.tolist() == b.member.tolist()
    assert a.errors.keys() == b.errors.keys()
    for name in a.errors:
        np.testing.assert_allclose(a.errors[name], b.errors[name], rtol=0, atol=1e-6)
    assert a.metrics == pytest.approx(b.metrics, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_find_what_one_finds_and_fail_together(workers, tmp_path, world):
    messages = told(workers.audit, world, tmp_path)
    alone = workers.auditor().run(workers.model, workers.pairs(7, 0), workers.pairs(1, 1))
    assert [e["id"] for e in alone.excluded] == ["member-000004"]
    subset = workers.auditor(max_samples=3).run(workers.model, workers.pairs(7, 0), workers.pairs(5, 1))
    again = workers.pairs(2, 1) + workers.pairs(7, 0)[:1]
    first = workers.auditor().run(workers.model, workers.pairs(7, 0)[:3], again)
    assert first.meta["on_both_sides"] > 0
    assert_same(AuditResult.from_json(tmp_path / "files" / "result.json"), alone)
    for rank in range(world):
        for plain, expected in zip(messages[rank]["results"], (alone, subset, first), strict=True):
            assert_same(AuditResult.from_plain(plain), expected)
        lost = "OSError: the second process lost its disk"
        assert messages[rank]["message"] == (lost if rank == 1 else FAILED)
    assert messages[0]["unwritten"].startswith(("NotADirectoryError", "FileExistsError"))
    assert {m["unwritten"] for m in messages[1:]} == {FAILED.replace("process 1", "process 0")}


def test_sharded_models_give_what_one_process_gives(workers, tmp_path):
    """Uneven shares of a forward pass that is a collective: processes without samples go on until all are done."""
    messages = told(workers.audit_sharded, 3, tmp_path)
    network = workers.Network()
    alone = workers.auditor(scores=workers.SCORES).run(network, workers.pairs(7, 0), workers.pairs(1, 1))
    first = workers.auditor().run(network, workers.pairs(7, 0)[:3], workers.pairs(5, 1)[:3])
    again = workers.auditor().run(network, workers.pairs(3, 0), workers.pairs(3, 1))
    for rank in range(3):
        assert sorted(messages[rank]) == ["DDP", "FSDP", "FSDP2"]
        for found in messages[rank].values():
            for plain, expected in zip(found["results"], (alone, first, again), strict=True):
                assert_same(AuditResult.from_plain(plain), expected)
            assert found["message"] == ("OSError: unreadable" if rank == 1 else FAILED)
            assert found["checked"] == ("OSError: no memory" if rank == 1 else FAILED)
            assert found["between"] == ("OSError: no memory" if rank == 1 else FAILED)
            assert (
                found["outside"].startswith("ValueError: The targets span") if rank == 1 else found["outside"] == FAILED
            )


def test_a_lone_process_fails_with_its_own_error():
    assert rank_and_world() == (0, 1)
    with pytest.raises(KeyError, match="mine"), failing_together(torch.device("cpu")):
        raise KeyError("mine")


@pytest.mark.parametrize("kind", ["DeepSpeedEngine", "FSDPModule", "Linear"])
def test_which_models_are_called_together(kind, monkeypatch):
    """Told by the names of classes, so that nothing needs to be imported to ask."""
    wrapped = nn.Sequential(type(kind, (nn.Linear,), {})(2, 2))
    assert not forward_is_collective(wrapped), "one process has nobody to wait for"
    monkeypatch.setattr("mia_lightning.audit.distributed.rank_and_world", lambda: (0, 2))
    assert forward_is_collective(wrapped) == (kind != "Linear")
    assert not forward_is_collective(lambda image: image)
