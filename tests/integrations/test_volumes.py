"""Networks for volumes in a trainer: bit identity, resuming, processes, MetaTensors, and what is memorised of scans."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_package import LightningModule, ModelCheckpoint, seed_everything
from torch import Tensor, nn
from torch.multiprocessing import start_processes
from torch.utils.data import DataLoader

from mia_lightning import Auditor, MembershipAudit
from mia_lightning.result.audit_result import AuditResult

EXAMPLES = Path(__file__).parents[2] / "examples"
SCORES = ["reconstruction", "membership", "neighbour", "combined"]


class Segmenter(LightningModule):
    """A small network with all that an audit could disturb: dropout, and statistics of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.Dropout3d(0.2), nn.Conv3d(6, 3, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 1e-2)


def scans() -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    images = torch.rand(11, 1, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    samples = list(zip(images, (images[:, 0] * 2.999).long(), strict=True))
    return samples[:6], samples[6:]


def loaders() -> dict[str, Any]:
    members, nonmembers = scans()
    return {
        "train_dataloaders": DataLoader(members, batch_size=2, shuffle=True),
        "val_dataloaders": DataLoader(nonmembers, batch_size=2),
    }


def test_training_is_unchanged_to_the_bit(quick: Any, same_with_and_without: Any) -> None:
    audit = MembershipAudit(*scans(), scorer=quick, batch_size=4, slices=4, scores=SCORES)
    same_with_and_without(lambda: (Segmenter(), loaders()), audit)
    assert "slices=4" in audit.result.meta["interpretation"]["volumes"]


def test_a_resumed_training_has_the_audits_of_one_that_ran_through(quick: Any, trainer: Any, tmp_path: Path) -> None:
    def run(name: str, resume: Path | None = None) -> MembershipAudit:
        seed_everything(3, verbose=False)
        audit = MembershipAudit(*scans(), scorer=quick, batch_size=4, scores=SCORES)
        keep = ModelCheckpoint(tmp_path / name, save_top_k=-1, filename="{epoch}")
        model = Segmenter()
        model.layers[3] = nn.Identity()  # a checkpoint does not keep what dropout would draw
        data = loaders() | {"train_dataloaders": DataLoader(scans()[0], batch_size=2)}
        trainer(audit, keep, max_epochs=4, enable_checkpointing=True).fit(model, **data, ckpt_path=resume)
        return audit

    whole = run("whole")
    resumed = run("resumed", tmp_path / "whole" / "epoch=1.ckpt")
    assert [r.epoch for r in resumed.history] == [0, 1, 2, 3]
    for ours, theirs in zip(whole.history, resumed.history, strict=True):
        assert ours.ids == theirs.ids
        for name, errors in ours.errors.items():
            np.testing.assert_array_equal(errors, theirs.errors[name])


def test_processes_find_what_one_finds(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    workers = importlib.import_module("gloo_workers_volumes")
    start = "fork" if sys.platform == "linux" else "spawn"
    start_processes(workers.audit, args=(2, str(tmp_path)), nprocs=2, start_method=start)
    alone = workers.run()
    for rank in range(2):
        found = AuditResult.from_plain(torch.load(tmp_path / f"{rank}.pt", weights_only=True))
        assert found.ids == alone.ids
        for name, errors in alone.errors.items():
            np.testing.assert_allclose(found.errors[name], errors, rtol=0, atol=1e-6)
        assert found.meta["interpretation"] == alone.meta["interpretation"]


def test_meta_tensors_and_a_network_of_monai(quick: Any, trainer: Any) -> None:
    pytest.importorskip("monai", reason="needs MONAI")
    from monai.data import DataLoader as MonaiLoader
    from monai.data import Dataset, MetaTensor
    from monai.networks.nets import UNet
    from monai.transforms import EnsureTyped

    class Network(UNet, Segmenter):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self(batch["image"]), batch["label"][:, 0].long())

    sides = [
        Dataset([{"image": x, "label": y[None]} for x, y in side], EnsureTyped(["image", "label"])) for side in scans()
    ]
    assert isinstance(sides[0][0]["image"], MetaTensor)
    audit = MembershipAudit(*sides, scorer=quick, scores=SCORES)
    model = Network(spatial_dims=3, in_channels=1, out_channels=3, channels=(4, 8), strides=(2,))
    trainer(audit, max_epochs=1).fit(model, *(MonaiLoader(side, batch_size=2) for side in sides))
    model.eval()
    expected = [F.cross_entropy(model(x[None]), y[None]).item() for side in scans() for x, y in side]
    assert audit.result.errors["reconstruction"] == pytest.approx(expected, rel=1e-5)
    assert not audit.result.excluded


@pytest.mark.slow
def test_a_network_that_saw_no_scan_is_not_caught(monkeypatch: Any, covers_chance: Any) -> None:
    """Beside the example, which trains the same network on the same scans until it is."""
    nets = pytest.importorskip("monai.networks.nets", reason="needs MONAI")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    ellipsoid = importlib.import_module("ellipsoids").ellipsoid
    seed_everything(0, verbose=False)
    model = nets.UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(16, 32, 64), strides=(2, 2))
    members, nonmembers = [ellipsoid(i) for i in range(24)], [ellipsoid(i) for i in range(24, 48)]
    result = Auditor(slices=4).run(model, members, nonmembers)
    assert covers_chance(result.scores["membership"], result.member)
