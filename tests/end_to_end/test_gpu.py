"""On a GPU: the CPU's numbers, training unchanged to the bit, predictability computed there, sharded trainings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_package import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mia_lightning import Auditor, MembershipAudit, Pix2Pix, PredictabilityScorer, UNetSegmenter

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SCORES = ("reconstruction", "membership", "combined", "trained")


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch):
    """Full float32 and deterministic kernels, so that what differs is ours."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def pairs(task: str, count: int, seed: int) -> list[Any]:
    x = torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    x = F.interpolate(F.avg_pool2d(x, 8), scale_factor=8, mode="bilinear")
    y = x.flip(1) if task == "translation" else (x[:, 0] * 30).long() % 3
    return [(x[i], y[i], f"{seed}-{i}") for i in range(count)]


def model_for(task: str) -> LightningModule:
    torch.manual_seed(0)
    if task == "translation":
        return Pix2Pix(image_size=64, ngf=8, ndf=8, audit=False)
    return UNetSegmenter(3, base_channels=8, depth=3, audit=False)


@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_the_numbers_are_those_of_the_cpu(task: str) -> None:
    model = model_for(task).eval()
    sides = pairs(task, 24, 1), pairs(task, 24, 2)
    there = Auditor(task=task, scores=SCORES, primary="combined").run(model.cuda(), *sides)
    here = Auditor(task=task, scores=SCORES, primary="combined").run(model.cpu(), *sides)
    assert there.ids == here.ids
    for name in ("reconstruction", "predictability", "membership"):
        np.testing.assert_allclose(there.errors[name], here.errors[name], rtol=1e-3, atol=1e-4)
    assert there.metric("auc/membership") == pytest.approx(here.metric("auc/membership"), abs=5e-3)
    assert next(model.parameters()).device.type == "cpu"


def test_predictability_is_computed_where_the_model_is() -> None:
    seen: list[str] = []

    class Watched(nn.AvgPool2d):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.device.type)
            return super().forward(x)

    scorer = PredictabilityScorer(Watched(4), grid=8)
    Auditor(scorer=scorer).run(model_for("translation").cuda(), pairs("translation", 5, 1), pairs("translation", 5, 2))
    assert seen
    assert set(seen) == {"cuda"}


def trained(task: str, *callbacks: MembershipAudit, **settings: Any) -> dict[str, Any]:
    seed_everything(3, verbose=False)
    torch.cuda.manual_seed_all(3)
    module = model_for(task)
    trainer = Trainer(
        accelerator="gpu",
        devices=1,
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **settings,
    )
    loader = DataLoader(pairs(task, 12, 1), 4, shuffle=True)
    trainer.fit(module, loader, DataLoader(pairs(task, 12, 2), 4))
    weights = {name: value.cpu().clone() for name, value in module.state_dict().items()}
    return {"weights": weights, "cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state()}


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_training_is_unchanged_to_the_bit(task: str, precision: str) -> None:
    audit = MembershipAudit(pairs(task, 12, 1), pairs(task, 12, 2), task=task, scores=SCORES, primary="combined")
    plain, audited = trained(task, precision=precision), trained(task, audit, precision=precision)
    assert len(audit.history) == 2
    assert all(torch.equal(value, audited["weights"][name]) for name, value in plain["weights"].items())
    assert torch.equal(plain["cpu"], audited["cpu"])
    assert torch.equal(plain["cuda"], audited["cuda"])


SHARDED = """
import sys

import torch
import torch.nn.functional as F
from lightning_package import LightningModule, Trainer
from lightning_package import FSDPStrategy, ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader

from mia_lightning import MembershipAudit


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))

    def configure_model(self):
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            fully_shard(self.network, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch, batch_idx):
        return F.l1_loss(self.network(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("loss", F.l1_loss(self.network(batch[0]), batch[1]), sync_dist=True)

    def forward(self, x):
        return self.network(x).sigmoid()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def pairs(count, seed):
    x, y = torch.rand(2, count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return [(x[i], y[i], f"{seed}-{i}") for i in range(count)]


kind = sys.argv[1]
members, nonmembers = pairs(7, 1), pairs(5, 2)
strategy = ModelParallelStrategy(1, 1) if kind == "model_parallel" else FSDPStrategy()
audit = MembershipAudit(members, nonmembers, scores=("membership", "combined"))
trainer = Trainer(accelerator="gpu", devices=1, strategy=strategy, max_epochs=2, logger=False, callbacks=[audit],
                  enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Net(), DataLoader(members, 2), DataLoader(nonmembers, 2))
print("audits", len(audit.history), "samples", len(audit.result.ids))
"""


@pytest.mark.parametrize("kind", ["fsdp", "model_parallel"])
def test_lightnings_sharded_strategies(tmp_path: Path, kind: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SHARDED, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), kind],
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "audits 2 samples 12" in done.stdout
