"""The CamVid project of segmentation-models-pytorch's examples, which imports ``pytorch_lightning``; no line is added.

Its data set reads files with OpenCV: pictures are (3, H, W) uint8, masks (H, W) uint8, and the network normalises.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mia_lightning import MembershipAudit

smp = pytest.importorskip("segmentation_models_pytorch", reason="needs segmentation-models-pytorch")


class Scenes(Dataset):
    def __init__(self, folder: Path) -> None:
        self.images, self.masks = sorted(folder.glob("*/*.png")), sorted(folder.glob("*annot/*.png"))
        self.images = [path for path in self.images if path not in self.masks]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = cv2.cvtColor(cv2.imread(str(self.images[index])), cv2.COLOR_BGR2RGB)
        return image.transpose(2, 0, 1), cv2.imread(str(self.masks[index]), 0)


class CamVidModel(pl.LightningModule):
    """Steps that return dicts, metrics of an epoch from what the steps have left, a schedule a step."""

    def __init__(self) -> None:
        super().__init__()
        self.model = smp.create_model("FPN", "tu-resnet18", encoder_weights=None, in_channels=3, classes=4)
        params = smp.encoders.get_preprocessing_params("tu-resnet18")
        self.register_buffer("std", torch.tensor(params["std"]).view(1, 3, 1, 1))
        self.register_buffer("mean", torch.tensor(params["mean"]).view(1, 3, 1, 1))
        self.loss_fn = smp.losses.DiceLoss(smp.losses.MULTICLASS_MODE, from_logits=True)
        self.outputs: list[dict[str, Tensor]] = []

    def forward(self, image: Tensor) -> Tensor:
        return self.model((image - self.mean) / self.std)

    def shared_step(self, batch: Any) -> dict[str, Tensor]:
        image, mask = batch[0], batch[1].long()
        logits = self.forward(image).contiguous()
        predicted = logits.softmax(dim=1).argmax(dim=1)
        counts = smp.metrics.get_stats(predicted, mask, mode="multiclass", num_classes=4)
        return {"loss": self.loss_fn(logits, mask), **dict(zip(("tp", "fp", "fn", "tn"), counts, strict=True))}

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return self.shared_step(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        self.outputs.append(self.shared_step(batch))
        return self.outputs[-1]

    def on_validation_epoch_end(self) -> None:
        counts = [torch.cat([output[name] for output in self.outputs]) for name in ("tp", "fp", "fn", "tn")]
        self.log("valid_dataset_iou", smp.metrics.iou_score(*counts, reduction="micro"))
        self.outputs.clear()

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.parameters(), lr=2e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=1e-5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 1}}


@pytest.fixture
def scenes(pictures: Any, tmp_path: Path) -> tuple[Scenes, Scenes]:
    """Six scenes and five, as files."""
    images = (255 * pictures[0][:, [0, 1, 2]]).byte().permute(0, 2, 3, 1).numpy()
    for split, rows in (("train", range(6)), ("val", range(6, 11))):
        for row in rows:
            for folder, array in ((split, images[row]), (f"{split}annot", pictures[1][row].byte().numpy())):
                (tmp_path / split / folder).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(tmp_path / split / folder / f"{row}.png"), array)
    return Scenes(tmp_path / "train"), Scenes(tmp_path / "val")


def test_it_is_audited_as_it_is(scenes: Any, quick: Any, tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    audit, module = MembershipAudit(*scenes, scorer=quick), CamVidModel()
    silent = {f"enable_{what}": False for what in ("checkpointing", "progress_bar", "model_summary")}
    trainer = pl.Trainer(callbacks=[audit], max_epochs=2, accelerator="cpu", logger=False, **silent)
    trainer.fit(module, DataLoader(scenes[0], batch_size=3, shuffle=True), DataLoader(scenes[1], batch_size=3))

    reading = audit.result.meta["interpretation"]
    assert reading["task"] == "segmentation (uint8 label maps)"
    assert reading["input"].startswith("pictures (uint8, ")
    assert [r.epoch for r in audit.history] == [0, 1]
    assert audit.result.meta["utility"].keys() == {"valid_dataset_iou"}
    with torch.no_grad():
        samples = [sample for side in scenes for sample in side]
        logits = module.eval()(torch.stack([torch.from_numpy(image) for image, _ in samples]))
        labels = torch.stack([torch.from_numpy(mask) for _, mask in samples]).long()
        expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none").flatten(1).mean(1)
    torch.testing.assert_close(torch.from_numpy(audit.result.errors["reconstruction"]).float(), expected)
