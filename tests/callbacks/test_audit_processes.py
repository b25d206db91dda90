"""Many processes give the result that one gives. Run in a process of its own, which may be ended if it hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mia_lightning import AuditResult

SCRIPT = """
import sys, warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning_package import Callback, LightningModule, Trainer
from lightning_package import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from mia_lightning import Auditor, MembershipAudit, PredictabilityScorer

SIZES = {(7, 5): 2, (1, 5): 2, (9, 1): 3}  # samples a side: processes


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 3, 1))

    def forward(self, x):
        return self.network(x).sigmoid()

    def training_step(self, batch, batch_idx):
        return F.l1_loss(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        loss = F.l1_loss(self(batch[0]), batch[1])
        self.log("loss", loss, sync_dist=True, batch_size=1)
        if self.trainer.is_global_zero:  # what one process logs for itself keeps none waiting
            self.log("first", 1.0, rank_zero_only=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def pairs(count, seed, name):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, count, 3, 16, 16, generator=generator)
    return [(x[i], y[i], f"{name}{i}") for i in range(count)]


def quick():
    return PredictabilityScorer(nn.AvgPool2d(4), grid=8)


SETTINGS = {
    "scorer": quick(), "batch_size": 2, "scores": ("reconstruction", "membership", "combined"), "primary": "combined",
}


class Keep(Callback):
    def __init__(self, stem, audit):
        self.stem, self.audit = stem, audit

    def on_fit_end(self, trainer, pl_module):
        rank = trainer.global_rank
        assert len(self.audit.history) == 2
        assert float(trainer.callback_metrics["audit/samples/members"]) == len(self.audit.members)
        for epoch, result in enumerate(self.audit.history):
            result.to_json(f"{self.stem}-epoch{epoch}-rank{rank}.json")
        torch.save(pl_module.state_dict(), f"{self.stem}-rank{rank}.pt")
        torch.save(torch.get_rng_state(), f"{self.stem}-rng{rank}.pt")


def fit(folder, devices, members, nonmembers, audited=True):
    stem = folder / f"{'many' if audited else 'plain'}-{len(members)}-{len(nonmembers)}"
    audit = MembershipAudit(members, nonmembers, **SETTINGS, output_dir=f"{stem}-written")
    extra = [audit, Keep(stem, audit)]
    monitors = [
        EarlyStopping("audit/auc", mode="min", patience=9),
        ModelCheckpoint(stem, monitor="audit/auc", mode="min", save_top_k=-1, filename="{epoch}"),
    ]
    if not audited:
        class Plain(Keep):
            def on_fit_end(self, trainer, pl_module):
                torch.save(pl_module.state_dict(), f"{stem}-rank{trainer.global_rank}.pt")
                torch.save(torch.get_rng_state(), f"{stem}-rng{trainer.global_rank}.pt")

        extra, monitors = [Plain(stem, audit)], []
    torch.manual_seed(0)
    loaders = DataLoader(members, 2, shuffle=True), DataLoader(nonmembers, 2)
    Trainer(
        accelerator="cpu", devices=devices, strategy="ddp_fork", max_epochs=2, logger=False,
        callbacks=[*extra, *monitors],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=audited,
        default_root_dir=folder,
    ).fit(Net(), *loaders)


def main(folder):
    torch.set_num_threads(1)
    for sizes, devices in SIZES.items():
        sides = pairs(sizes[0], 1, "in"), pairs(sizes[1], 2, "out")
        fit(folder, devices, *sides)
        for epoch in range(2):
            weights = torch.load(folder / f"many-{sizes[0]}-{sizes[1]}" / f"epoch={epoch}.ckpt", weights_only=True)
            net = Net()
            net.load_state_dict(weights["state_dict"])
            result = Auditor(**SETTINGS).run(net, *sides)
            result.to_json(folder / f"one-{sizes[0]}-{sizes[1]}-epoch{epoch}.json")
    fit(folder, 2, *(pairs(n, s, "x") for s, n in enumerate((7, 5), 1)), audited=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
"""


RANKS = {"7-5": (0, 1), "1-5": (0, 1), "9-1": (0, 1, 2)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not hasattr(os, "fork") or not torch.distributed.is_gloo_available():
        pytest.skip("needs fork and gloo")
    folder = tmp_path_factory.mktemp("processes")
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(
            [sys.executable, str(script), str(folder)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"The processes hang: {(error.stderr or b'')[-2000:]!r}")
    assert done.returncode == 0, done.stderr[-4000:]
    (folder / "stderr.txt").write_text(done.stderr, encoding="utf-8")
    return folder


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("sizes", RANKS)
def test_processes_give_what_one_gives(runs: Path, sizes: str, epoch: int) -> None:
    one = AuditResult.from_json(runs / f"one-{sizes}-epoch{epoch}.json")
    for rank in RANKS[sizes]:
        many = AuditResult.from_json(runs / f"many-{sizes}-epoch{epoch}-rank{rank}.json")
        assert many.ids == one.ids
        assert many.excluded == one.excluded == []
        np.testing.assert_array_equal(many.member, one.member)
        np.testing.assert_array_equal(many.positions, one.positions)
        for name, values in one.errors.items():
            np.testing.assert_allclose(many.errors[name], values, rtol=0, atol=1e-6)
        assert many.meta["looks"] == 2
        many.metrics["audit/p_value_corrected"] = many.metrics["audit/p_value"]  # of one audit, as the other one is
        assert many.metrics == pytest.approx(one.metrics, abs=1e-6, nan_ok=True)
        assert many.epoch == epoch


@pytest.mark.parametrize("sizes", RANKS)
def test_processes_agree_to_the_bit(runs: Path, sizes: str) -> None:
    """Or a monitor might stop one of them and not the other."""
    for epoch in (0, 1):
        first, *others = (AuditResult.from_json(runs / f"many-{sizes}-epoch{epoch}-rank{r}.json") for r in RANKS[sizes])
        for other in others:
            assert repr(first.metrics) == repr(other.metrics)
            for name, values in first.errors.items():
                np.testing.assert_array_equal(values, other.errors[name])


def test_one_process_writes(runs: Path) -> None:
    written = sorted(p.suffix for p in (runs / "many-7-5-written").iterdir() if not p.name.startswith("samples."))
    assert written == [".csv", ".csv", ".json", ".json", ".json", ".png"]  # two audits, their pictures, the curve
    assert len(list((runs / "many-7-5-written").glob("samples.*"))) == 1


def test_training_is_the_same_without_the_audit(runs: Path) -> None:
    for rank in (0, 1):
        audited, plain = (
            torch.load(runs / f"{kind}-7-5-rank{rank}.pt", weights_only=True) for kind in ("many", "plain")
        )
        assert all(torch.equal(audited[k], plain[k]) for k in plain)
        states = [torch.load(runs / f"{kind}-7-5-rng{rank}.pt", weights_only=True) for kind in ("many", "plain")]
        assert torch.equal(*states)


def test_nothing_to_warn_of(runs: Path) -> None:
    """Every process logs the same number: there is nothing to synchronise, and no advice to."""
    lines = (runs / "stderr.txt").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "sync_dist" in line and "self.log('first'" not in line]
