"""Sharded models in real trainers: a forward pass is a collective, and a side has fewer samples than processes.

Lightning starts FSDP on CUDA only; for the test the strategies shard over gloo, the rest of them as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mia_lightning import Auditor, AuditResult, PredictabilityScorer
from mia_lightning.result.picture_files import read_pictures

SCRIPT = """
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning_package import LightningModule, Trainer
from lightning_package import TensorBoardLogger
from lightning_package import FSDPStrategy, ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.utils.data import DataLoader

from mia_lightning import MembershipAudit, PredictabilityScorer


class Flat(FSDPStrategy):
    def _setup_model(self, model):
        return FullyShardedDataParallel(
            model, auto_wrap_policy=ModuleWrapPolicy({nn.Conv2d}), use_orig_params=True, device_id=torch.device("cpu")
        )


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))

    def configure_model(self):
        if self._trainer is not None and isinstance(self.trainer.strategy, ModelParallelStrategy):
            mesh = self.device_mesh["data_parallel"]
            for layer in (self.network[0], self.network[2], self.network):
                fully_shard(layer, mesh=mesh)

    def forward(self, x):
        return self.network(x).sigmoid()

    def training_step(self, batch, batch_idx):
        return F.l1_loss(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("loss", F.l1_loss(self(batch[0]), batch[1]), sync_dist=True, batch_size=1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.trainer.model.parameters(), 0.1)


def pairs(count, seed, name):
    x, y = torch.rand(2, count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return [(x[i], y[i], f"{name}{i}") for i in range(count)]


def main(kind, folder):
    torch.set_num_threads(1)
    settings = {"scorer": PredictabilityScorer(nn.AvgPool2d(4), grid=8), "batch_size": 2}
    settings |= {"scores": ("reconstruction", "membership", "combined")}
    members, nonmembers = pairs(7, 1, "in"), pairs(1, 2, "out")
    audit = MembershipAudit(members, nonmembers, **settings, output_dir=folder / "audit")
    trainer = Trainer(
        accelerator="cpu", devices=2, max_epochs=2,
        strategy=Flat() if kind == "fsdp" else ModelParallelStrategy(2, 1, save_distributed_checkpoint=False),
        logger=TensorBoardLogger(folder), callbacks=[audit], default_root_dir=folder, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=1,
    )
    trainer.fit(Net(), DataLoader(members, 2), DataLoader(nonmembers, 2))
    assert len(audit.history) == 2
    audit.result.to_json(folder / f"rank{trainer.global_rank}.json")
    trainer.save_checkpoint(folder / "whole.ckpt", weights_only=True)


main(sys.argv[1], Path(sys.argv[2]))
"""


def of_one_process(weights: dict[str, torch.Tensor]) -> AuditResult:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.Sigmoid())
    network.load_state_dict({name.removeprefix("network."): value for name, value in weights.items()})

    def pairs(count: int, seed: int, name: str) -> list[Any]:
        x, y = torch.rand(2, count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
        return [(x[i], y[i], f"{name}{i}") for i in range(count)]

    scores = ("reconstruction", "membership", "combined")
    auditor = Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8), batch_size=2, scores=scores)
    return auditor.run(network, pairs(7, 1, "in"), pairs(1, 2, "out"))


@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="torch 2.6: the processes die with signal 11")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fsdp", "model_parallel"])
def test_a_sharded_training_is_audited(tmp_path: Path, kind: str) -> None:
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("needs gloo")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), kind, str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    first, second = (AuditResult.from_json(tmp_path / f"rank{rank}.json") for rank in (0, 1))
    assert repr(first.metrics) == repr(second.metrics)
    assert len(read_pictures(first, tmp_path / "audit")) == 8  # all members and the nonmember, run together again
    one = of_one_process(torch.load(tmp_path / "whole.ckpt", weights_only=True)["state_dict"])
    assert first.ids == one.ids
    for name, values in one.errors.items():
        np.testing.assert_allclose(first.errors[name], values, rtol=0, atol=1e-6)
