"""Where one of several processes fails, all record the same failure and train on. Run in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import json, sys
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning_package import LightningModule, Trainer
from lightning_package import Callback, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from mia_lightning import MembershipAudit, PredictabilityScorer

FOLDER = Path(sys.argv[1])


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.network(x).sigmoid()

    def training_step(self, batch, batch_idx):
        return F.l1_loss(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Pairs(torch.utils.data.Dataset):
    def __init__(self, seed):
        self.x, self.y = torch.rand(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
        self.trainer = None

    def __len__(self):
        return 8

    def __getitem__(self, index):
        trainer = self.trainer
        if trainer is not None and trainer.validating and trainer.global_rank == 1 and trainer.current_epoch == 0:
            raise OSError("truncated file on one process")
        return self.x[index], self.y[index]


class Audit(MembershipAudit):
    def setup(self, trainer, *args, **options):
        self.members.trainer = trainer
        super().setup(trainer, *args, **options)

    def _measure(self, trainer, *args, **options):
        result = super()._measure(trainer, *args, **options)
        if trainer.current_epoch == 1 and trainer.global_rank == 1:
            raise MemoryError("no memory for the result")  # after the rows of all processes are joined
        return result


class Keep(Callback):
    def on_fit_end(self, trainer, pl_module):
        audit = next(c for c in trainer.callbacks if isinstance(c, MembershipAudit))
        kept = {
            "failures": [[f.epoch, f.reason] for f in audit.failures],
            "epochs": [r.epoch for r in audit.history],
            "logged": float(trainer.callback_metrics["audit/failed"]),
            "weights": [p.detach().flatten().tolist() for p in pl_module.parameters()],
        }
        (FOLDER / f"kept-{trainer.global_rank}.json").write_text(json.dumps(kept))


members, nonmembers = Pairs(1), Pairs(2)
audit = Audit(members, nonmembers, scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8), batch_size=2)
saving = ModelCheckpoint(FOLDER, monitor="audit/auc", mode="min", save_top_k=-1, filename="{epoch}")
Trainer(
    accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=3, logger=False, num_sanity_val_steps=0,
    callbacks=[audit, saving, Keep()], enable_progress_bar=False, enable_model_summary=False, default_root_dir=FOLDER,
).fit(Net(), DataLoader(nonmembers, 2), DataLoader(nonmembers, 2))
"""


@pytest.mark.slow
def test_all_processes_agree_on_a_failure(tmp_path: Path) -> None:
    if not hasattr(os, "fork") or not torch.distributed.is_gloo_available():
        pytest.skip("needs fork and gloo")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(script), str(tmp_path)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"The processes hang: {(error.stderr or b'')[-2000:]!r}")
    assert done.returncode == 0, done.stderr[-4000:]

    first, second = (json.loads((tmp_path / f"kept-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    reasons = ["OSError: truncated file on one process", "MemoryError: no memory for the result"]
    assert first["failures"] == [[epoch, reason] for epoch, reason in enumerate(reasons)]
    assert first["epochs"] == [2]
    assert first["logged"] == 0
