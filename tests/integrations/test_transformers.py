"""A SegFormer of transformers, as it is and in modules that tutorials write around it: no line beyond the callback."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightning_package import LightningModule, ModelCheckpoint, seed_everything
from torch import Tensor, nn
from torch.multiprocessing import start_processes
from torch.utils.data import DataLoader, Dataset, Subset

from mia_lightning import Auditor, AuditResult, MembershipAudit

pytest.importorskip("transformers", reason="needs transformers")

from transformers import BatchFeature, SegformerConfig, SegformerForSemanticSegmentation


def segformer() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2]}
    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=3, decoder_hidden_size=16, **sizes))


class Scenes(Dataset):
    """What an image processor makes of pictures and maps."""

    def __init__(self, pictures: tuple[Tensor, Tensor]) -> None:
        self.pictures = [
            F.interpolate(pictures[0], size=(64, 64)),
            pictures[1].repeat_interleave(2, 1).repeat_interleave(2, 2),
        ]

    def __len__(self) -> int:
        return len(self.pictures[0])

    def __getitem__(self, index: int) -> BatchFeature:
        return BatchFeature({"pixel_values": self.pictures[0][index], "labels": self.pictures[1][index]})


class Module(LightningModule):
    """A forward pass with the pictures alone; the loss is the model's own."""

    def __init__(self) -> None:
        super().__init__()
        self.model = segformer()

    def forward(self, pixel_values: Tensor) -> Any:
        return self.model(pixel_values=pixel_values)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.model(**batch).loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.model(**batch).loss)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), 1e-3)


class Finetuner(Module):
    """A forward pass that asks for the labels, and gives (loss, logits)."""

    def forward(self, images: Tensor, masks: Tensor) -> Any:
        return self.model(pixel_values=images, labels=masks, return_dict=False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch["pixel_values"], batch["labels"])[0]


@pytest.fixture
def sides(pictures: Any) -> tuple[Subset, Subset]:
    whole = Scenes(pictures)
    return Subset(whole, range(6)), Subset(whole, range(6, 11))


def losses(model: nn.Module, sides: tuple[Subset, Subset]) -> Tensor:
    """Those of the model's own forward pass, a picture each."""
    samples = [sample for side in sides for sample in side]
    model.eval()
    with torch.no_grad():
        return torch.stack([model(**{k: v[None] for k, v in sample.items()}).loss for sample in samples])


def test_the_model_itself(sides: Any, quick: Any) -> None:
    model = segformer()
    scores = ("reconstruction", "membership", "combined")
    result = Auditor(scorer=quick, scores=scores, primary="combined").run(model, *sides)
    torch.testing.assert_close(torch.from_numpy(result.errors["reconstruction"]).float(), losses(model, sides))
    reading = result.meta["interpretation"]["output"]
    assert reading.endswith("upsampled bilinearly (align_corners=False) from 16 x 16 to the target's 64 x 64")


@pytest.mark.parametrize("kind", [Module, Finetuner])
def test_modules(kind: Any, sides: Any, trainer: Any, quick: Any) -> None:
    audit, module = MembershipAudit(*sides, scorer=quick), kind()
    trainer(audit).fit(module, DataLoader(sides[0], 3, shuffle=True), DataLoader(sides[1], 3))
    found = torch.from_numpy(audit.result.errors["reconstruction"]).float()
    torch.testing.assert_close(found, losses(module.model, sides))
    call = audit.result.meta["interpretation"].get("call")
    assert call == ("forward of the inputs and masks=None" if kind is Finetuner else None)


def test_training_is_unchanged(sides: Any, quick: Any, same_with_and_without: Any) -> None:
    def build() -> Any:
        return Module(), {
            "train_dataloaders": DataLoader(sides[0], 3, shuffle=True),
            "val_dataloaders": DataLoader(sides[1], 2),
        }

    same_with_and_without(build, MembershipAudit(*sides, scorer=quick))


def test_a_resumed_training_has_the_audits_of_one_that_ran_through(
    sides: Any, quick: Any, trainer: Any, tmp_path: Path
) -> None:
    def train(name: str, resume: Path | None = None) -> MembershipAudit:
        seed_everything(3, verbose=False)
        audit, module = MembershipAudit(*sides, scorer=quick), Module()
        for part in module.modules():  # a checkpoint does not keep what dropout would draw
            if isinstance(part, nn.Dropout) or hasattr(part, "drop_prob"):
                setattr(part, "p" if isinstance(part, nn.Dropout) else "drop_prob", 0.0)
        keep = ModelCheckpoint(tmp_path / name, save_top_k=-1, filename="{epoch}")
        data = DataLoader(sides[0], 3), DataLoader(sides[1], 3)
        trainer(audit, keep, max_epochs=3, enable_checkpointing=True).fit(module, *data, ckpt_path=resume)
        return audit

    whole = train("whole")
    resumed = train("resumed", tmp_path / "whole" / "epoch=0.ckpt")
    assert [r.epoch for r in resumed.history] == [0, 1, 2]
    for ours, theirs in zip(whole.history, resumed.history, strict=True):
        for name, errors in ours.errors.items():
            np.testing.assert_array_equal(errors, theirs.errors[name])


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked, so that they have what is in this file")
def test_processes_find_what_one_finds(sides: Any, quick: Any, tmp_path: Path) -> None:
    def audit() -> AuditResult:
        scores = ("membership", "combined")
        return Auditor(scorer=quick, batch_size=2, scores=scores, primary="combined").run(segformer(), *sides)

    def process(rank: int) -> None:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=rank, world_size=2)
        torch.save(audit().to_plain(), tmp_path / f"{rank}.pt")
        dist.destroy_process_group()

    start_processes(process, nprocs=2, start_method="fork")
    alone = audit()
    for rank in range(2):
        found = AuditResult.from_plain(torch.load(tmp_path / f"{rank}.pt", weights_only=True))
        assert found.ids == alone.ids
        for name, errors in alone.errors.items():
            np.testing.assert_allclose(found.errors[name], errors, rtol=0, atol=1e-6)
        assert found.meta["interpretation"] == alone.meta["interpretation"]
