"""MONAI: dictionary transforms with generators of their own, MetaTensors, dict batches of image and label."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning_package import LightningModule
from torch import Tensor

from mia_lightning import Auditor, MembershipAudit

pytest.importorskip("monai", reason="needs MONAI")

from monai.data import CacheDataset, DataLoader, Dataset, MetaTensor, PersistentDataset
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    EnsureTyped,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    ScaleIntensityd,
)

KEYS = ["image", "label"]


class Segmenter(LightningModule):
    """A U-Net with the package's loss."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.network = UNet(2, 3, classes, channels=(4, 8), strides=(2,), dropout=0.1)
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True) if classes > 1 else DiceCELoss(sigmoid=True)

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(self(batch["image"]), batch["label"])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx), batch_size=len(batch["image"]))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return SlidingWindowInferer(roi_size=(32, 32))(batch["image"], self)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 1e-2)


def data_set(pictures: Any, part: slice, *transforms: Any, binary: bool = False) -> CacheDataset:
    labels = pictures[1] == 1 if binary else pictures[1]
    items = [{"image": x, "label": y[None].float()} for x, y in zip(pictures[0][part], labels[part], strict=True)]
    steps = [ScaleIntensityd("image"), EnsureTyped(KEYS), *transforms]
    return CacheDataset(items, Compose(steps), progress=False, num_workers=0)


@pytest.mark.parametrize("binary", [False, True])
def test_errors_are_those_of_monai_predictions(binary: bool, pictures: Any, trainer: Any, quick: Any) -> None:
    sides = [data_set(pictures, part, binary=binary) for part in (slice(6), slice(6, None))]
    assert isinstance(sides[0][0]["image"], MetaTensor)
    module = Segmenter(1 if binary else 3)
    audit = MembershipAudit(*sides, scorer=quick, task="segmentation", batch_size=4)
    trainer(audit).fit(module, DataLoader(sides[0], batch_size=2), DataLoader(sides[1], batch_size=2))

    batches = trainer().predict(module, [DataLoader(side, batch_size=4) for side in sides])
    logits = torch.cat([p.as_tensor() for side in batches for p in side])
    labels = torch.stack([sample["label"].as_tensor() for side in sides for sample in side])
    if binary:
        expected = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean((1, 2, 3))
    else:
        expected = F.cross_entropy(logits, labels[:, 0].long(), reduction="none").mean((1, 2))
    torch.testing.assert_close(torch.from_numpy(audit.result.errors["reconstruction"]).float(), expected)


def test_training_is_unchanged_where_it_shares_random_transforms(
    pictures: Any, quick: Any, same_with_and_without: Any
) -> None:
    """The audit is shown the training set itself: the generators of its transforms must not advance."""
    noisy = RandFlipd(KEYS, prob=0.5), RandGaussianNoised("image", prob=0.5)
    audit = MembershipAudit([0], [0], scorer=quick, task="segmentation", batch_size=4)

    def build() -> Any:
        members, nonmembers = (data_set(pictures, part, *noisy) for part in (slice(6), slice(6, None)))
        for number, side in enumerate((members, nonmembers)):
            side.transform.set_random_state(seed=number)
        audit.members, audit.nonmembers = members, nonmembers
        return Segmenter(), {
            "train_dataloaders": DataLoader(members, batch_size=2, shuffle=True),
            "val_dataloaders": DataLoader(nonmembers, batch_size=2),
        }

    same_with_and_without(build, audit)


def test_keys_of_their_own(pictures: Any, trainer: Any, quick: Any) -> None:
    """The refusal names the keys and shapes, and the lines to write for them."""
    items = [{"t1": x, "seg": y[None]} for x, y in zip(*pictures, strict=True)]
    audit = MembershipAudit(items[:6], items[6:], scorer=quick)
    with pytest.raises(TypeError) as refused:
        trainer(audit).fit(Segmenter(), DataLoader(items[:6], batch_size=2), DataLoader(items[6:], batch_size=2))
    message = str(refused.value)
    assert message.startswith(
        "The batch is a dict with 't1': float32 tensor (1, 3, 32, 32), 'seg': int64 tensor (1, 1, 32, 32); expected"
    )
    assert message.endswith("return Batch(None, batch['t1'], batch['seg'])")


CROP = {"label_key": "label", "spatial_size": (16, 16), "num_samples": 3}


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("PersistentDataset", "DataLoader", "workers")]


@pytest.mark.parametrize("kind", ["CacheDataset", "Dataset", *SLOW])
def test_crops_are_samples_of_their_own_and_the_same_at_each_audit(
    kind: str, pictures: Any, quick: Any, tmp_path: Any
) -> None:
    def side(part: slice) -> Any:
        pairs = zip(pictures[0][part], pictures[1][part], strict=True)
        items = [{"image": x, "label": (y[None] > 0).float(), "id": f"p{i}"} for i, (x, y) in enumerate(pairs)]
        steps = Compose([EnsureTyped(KEYS), RandCropByPosNegLabeld(KEYS, **CROP)])
        if kind == "PersistentDataset":
            return PersistentDataset(items, steps, cache_dir=tmp_path)
        if kind == "Dataset":
            return Dataset(items, steps)
        data = CacheDataset(items, steps, progress=False, num_workers=0)
        if kind == "CacheDataset":
            return data
        return DataLoader(data, batch_size=2, shuffle=True, num_workers=2 if kind == "workers" else 0)

    sides, module = (side(slice(6)), side(slice(6, None))), Segmenter(1)
    auditor = Auditor(scorer=quick, task="segmentation", output="logits", batch_size=2)
    auditor.check(module, *sides)
    first, second = (auditor.run(module, *sides) for _ in range(2))
    assert first.ids[:4] == ["p0-crop-0", "p0-crop-1", "p0-crop-2", "p1-crop-0"]
    assert (first.member.sum(), len(first.ids)) == (18, 33)
    assert first.groups is not None
    assert first.groups[:4] == ["p0", "p0", "p0", "p1"]
    assert first.meta["interpretation"]["groups"] == "the pictures that samples were cut out of"
    assert first.ids == second.ids
    for name in ("reconstruction", "predictability"):
        assert first.errors[name].tolist() == second.errors[name].tolist()
    assert len(set(first.errors["predictability"].tolist())) > 18
    assert any("Each entry of the members is a list of 3 samples" in note for note in first.meta["notes"])
    shown = auditor.exhibit(module, sides[0], "member", [int(first.positions[4])])  # p1-crop-1
    assert shown[0].input.shape == (1, 3, 16, 16)


def test_training_is_unchanged_where_it_shares_random_crops(
    pictures: Any, quick: Any, same_with_and_without: Any
) -> None:
    audit = MembershipAudit([0], [0], scorer=quick, task="segmentation", output="logits", batch_size=2)

    def build() -> Any:
        crop = RandCropByPosNegLabeld(KEYS, **CROP)
        members, nonmembers = (data_set(pictures, part, crop, binary=True) for part in (slice(6), slice(6, None)))
        members.transform.set_random_state(seed=1)
        audit.members, audit.nonmembers = members, nonmembers
        return Segmenter(1), {
            "train_dataloaders": DataLoader(members, batch_size=2, shuffle=True),
            "val_dataloaders": DataLoader(nonmembers, batch_size=2),
        }

    same_with_and_without(build, audit)
