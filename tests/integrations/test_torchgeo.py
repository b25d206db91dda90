"""torchgeo's task and data modules: dict batches, normalised and augmented on the device, with places."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mia_lightning import MembershipAudit

pytest.importorskip("torchgeo", reason="needs torchgeo")

import kornia.augmentation as K
from torchgeo.datamodules import NonGeoDataModule
from torchgeo.datasets import stack_samples
from torchgeo.trainers import PixelwiseRegressionTask, SemanticSegmentationTask

MEAN, STD = torch.tensor([100.0, 120.0, 140.0]), torch.tensor([50.0, 60.0, 70.0])


class Chips(Dataset):
    """Digital numbers from 0 to 255, masks of three classes and, where asked for, the place of each chip."""

    def __init__(self, pictures: tuple[Tensor, Tensor], split: str = "train", places: bool = False) -> None:
        part = slice(None, 6) if split == "train" else slice(6, None)
        self.images, self.masks = pictures[0][part] * 255, pictures[1][part]
        self.places = places

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = {"crs": object(), "bounds": (slice(0, index), slice(0, 1))} if self.places else {}
        return {"image": self.images[index], "mask": self.masks[index], **place}


class Module(NonGeoDataModule):
    """Statistics of its own; training batches are blackened by an augmentation that the audit must not see."""

    mean, std = MEAN, STD

    def __init__(self, pictures: tuple[Tensor, Tensor]) -> None:
        super().__init__(Chips, batch_size=2, pictures=pictures)
        self.train_aug = K.AugmentationSequential(
            K.RandomErasing(p=1.0, scale=(0.9, 0.9)), data_keys=None, keepdim=True
        )

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.predict_dataset = Chips(**self.kwargs, split="val")


@pytest.fixture
def task() -> SemanticSegmentationTask:
    torch.manual_seed(0)
    return SemanticSegmentationTask(model="fcn", num_filters=4, num_classes=3)


def errors_by_hand(probabilities: Tensor, masks: Tensor) -> Tensor:
    return F.nll_loss(probabilities.log(), masks, reduction="none").mean((1, 2))


def test_errors_are_those_of_torchgeo_predictions(pictures: Any, trainer: Any, quick: Any, task: Any) -> None:
    audit = MembershipAudit(
        Chips(pictures), Chips(pictures, "val"), scorer=quick, mean=(MEAN / 255).tolist(), std=(STD / 255).tolist()
    )
    datamodule = Module(pictures)
    trainer(audit).fit(task, datamodule=datamodule)
    found = torch.from_numpy(audit.result.errors["reconstruction"]).float()

    probabilities = torch.cat(trainer().predict(task, datamodule=datamodule))  # through the data module's hooks
    expected = errors_by_hand(probabilities, pictures[1][6:])
    torch.testing.assert_close(found[6:], expected, rtol=1e-5, atol=1e-6)
    normalised = (pictures[0][:6] * 255 - MEAN[:, None, None]) / STD[:, None, None]
    with torch.no_grad():
        expected = errors_by_hand(task.eval()(normalised).softmax(1), pictures[1][:6])
    torch.testing.assert_close(found[:6], expected, rtol=1e-5, atol=1e-6)


def test_training_is_unchanged(pictures: Any, quick: Any, same_with_and_without: Any) -> None:
    audit = MembershipAudit(Chips(pictures), Chips(pictures, "val"), scorer=quick, batch_size=4)

    def build() -> Any:
        task = SemanticSegmentationTask(model="fcn", num_filters=4, num_classes=3)
        return task, {"datamodule": Module(pictures)}

    with pytest.warns(UserWarning, match=r"expects images in \[0, 1\]"):  # mean and std were not told
        same_with_and_without(build, audit)


@pytest.mark.parametrize("as_loader", [False, True])
def test_places_beside_the_pictures(as_loader: bool, pictures: Any, trainer: Any, quick: Any, task: Any) -> None:
    """Bounds and coordinate systems cannot be collated by torch; torchgeo's own collation keeps them in lists."""

    def side(split: str) -> Any:
        chips = Chips((pictures[0] / 255, pictures[1]), split, places=True)
        return DataLoader(chips, 4, collate_fn=stack_samples) if as_loader else chips

    audit = MembershipAudit(side("train"), side("val"), scorer=quick)
    chips = Chips((pictures[0] / 255, pictures[1]))
    trainer(audit).fit(task, DataLoader(chips, 2), DataLoader(chips, 2))
    with torch.no_grad():
        expected = errors_by_hand(task.eval()(pictures[0]).softmax(1), pictures[1])
    found = torch.from_numpy(audit.result.errors["reconstruction"]).float()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


class Heights(Chips):
    """Heights in metres, float and without a dimension of channels; void where there is no return."""

    def __init__(self, pictures: tuple[Tensor, Tensor], split: str = "train", holes: bool = False) -> None:
        super().__init__(pictures, split)
        heights = 38.0 * (self.images / 255).mean(1)
        self.masks = heights.masked_fill(self.images[:, 0] < 30, torch.nan) if holes else heights


class HeightModule(Module):
    def __init__(self, pictures: tuple[Tensor, Tensor]) -> None:
        NonGeoDataModule.__init__(self, Heights, batch_size=2, pictures=pictures)


@pytest.mark.parametrize("holes", [False, True])
def test_pixelwise_regression_needs_no_setting(holes: bool, pictures: Any, trainer: Any, quick: Any) -> None:
    torch.manual_seed(0)
    task = PixelwiseRegressionTask(model="fcn", num_filters=4, loss="mae")
    members, nonmembers = Heights(pictures, holes=holes), Heights(pictures, "val", holes=holes)
    audit = MembershipAudit(members, nonmembers, scorer=quick)
    with pytest.warns(UserWarning, match=r"expects images in \[0, 1\]"):  # of what statistics normalise was not told
        trainer(audit).fit(task, datamodule=HeightModule(pictures))
    heights = torch.cat([members.masks, nonmembers.masks])
    low, high = (float(v) for v in torch.aminmax(heights[~heights.isnan()]))
    assert audit.result.meta["task"] == "translation"
    assert audit.result.meta["settings"]["target_range"] == [low, high]
    assert not audit.result.excluded
    normalised = (pictures[0] * 255 - MEAN[:, None, None]) / STD[:, None, None]
    with torch.no_grad():
        output = task.eval()(normalised)[:, 0]
    expected = (output - heights).abs().flatten(1).nanmean(1) / (high - low)
    found = torch.from_numpy(audit.result.errors["reconstruction"]).float()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
