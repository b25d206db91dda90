"""An audit in groups and slices: training is the same to the bit, and processes find what one finds."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_package import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.multiprocessing import start_processes
from torch.utils.data import DataLoader

from mia_lightning import Auditor, AuditResult, MembershipAudit

START = "fork" if sys.platform == "linux" else "spawn"


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("gloo_workers_slices")


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).sigmoid()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.l1_loss(self(batch["input"] + 0.1 * torch.randn(())), batch["target"])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("loss", F.l1_loss(self(batch["input"]), batch["target"]), batch_size=len(batch["id"]))

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), 0.01)


def trained(workers: ModuleType, *callbacks: Callback) -> list[Any]:
    """Weights, state of the optimizer, generators, and the order of the batches."""
    order: list[list[str]] = []

    class Order(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            order.append(batch["id"])

    seed_everything(3, verbose=False)
    net = Net()
    loaders = DataLoader(workers.samples("m"), 8, shuffle=True), DataLoader(workers.samples("n"), 8)
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Order(), *callbacks],
    )
    trainer.fit(net, *loaders)
    moments = [value for state in trainer.optimizers[0].state_dict()["state"].values() for value in state.values()]
    generators = [torch.get_rng_state(), torch.from_numpy(np.random.get_state()[1].astype(np.int64))]
    return [*net.state_dict().values(), *moments, *generators, random.getstate(), order]


def test_training_with_such_an_audit_is_training_without_it_to_the_bit(workers: ModuleType) -> None:
    audit = MembershipAudit(workers.samples("m"), workers.samples("n"), scorer=workers.scorer(), **workers.SETTINGS)
    plain, audited = trained(workers), trained(workers, audit)
    assert len(audit.history) == 2
    assert "audit/group/auc" in audit.result.metrics
    assert "audit/slice/site/A/auc" in audit.result.metrics
    assert plain[-1][:6] != plain[-1][6:12]  # shuffled
    for first, second in zip(plain, audited, strict=True):
        assert torch.equal(first, second) if isinstance(first, Tensor) else first == second


def test_processes_find_what_one_finds(workers: ModuleType, tmp_path: Path) -> None:
    if not torch.distributed.is_gloo_available():
        pytest.skip("needs gloo")
    start_processes(workers.audit, args=(2, str(tmp_path)), nprocs=2, start_method=START)
    for name, (settings, side) in workers.CASES.items():
        files = [tmp_path / f"{name}-{rank}.pt" for rank in range(2)]
        many = [AuditResult.from_plain(torch.load(file, weights_only=True)) for file in files]
        one = Auditor(scorer=workers.scorer(), **settings).run(workers.model, side("m"), side("n"))
        assert {"audit/group/auc", "audit/slice/site/A/auc_low"} <= one.metrics.keys()
        assert not [key for key in one.metrics if "/rare/" in key]
        for result in many:
            assert (result.ids, result.groups, result.slices) == (one.ids, one.groups, one.slices)
            assert repr(result.metrics) == repr(one.metrics)
            assert result.meta["interpretation"] == one.meta["interpretation"]
            assert len(found := list(result.group_table())) == 46
            assert repr(found) == repr(list(one.group_table()))
