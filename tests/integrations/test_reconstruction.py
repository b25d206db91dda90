"""Foreign forms of translation, in modules that know nothing of the audit: fastMRI's U-Net, super-resolution, pix2pix.

Lines written beyond the callback: none; for batches of (real, condition), the one setting that says so.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning_package import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from mia_lightning import MembershipAudit

SCORES = {"scores": ("membership", "combined"), "primary": "combined"}


class UnetSample(NamedTuple):
    """fastMRI's sample, field by field."""

    image: Tensor
    target: Tensor
    mean: Tensor
    std: Tensor
    fname: str
    slice_num: int
    max_value: float


class Slices(Dataset):
    def __init__(self, images: Tensor) -> None:
        self.images = images[:, 0]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> UnetSample:
        image, zero, one = self.images[index], torch.tensor(0.0), torch.tensor(1.0)
        return UnetSample(
            F.avg_pool2d(image[None], 3, 1, 1)[0], image, zero, one, f"file{index // 4}.h5", index % 4, 1.0
        )


class UnetModule(LightningModule):
    """fastMRI's steps, around a network that is smaller; the original's hooks are those of Lightning 1."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        return self.unet(image.unsqueeze(1)).squeeze(1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.l1_loss(self(batch.image), batch.target)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.l1_loss(self(batch.image), batch.target))

    def configure_optimizers(self) -> Any:
        return torch.optim.RMSprop(self.parameters(), 1e-3)


def sides_of(data: Dataset) -> tuple[Subset, Subset]:
    return Subset(data, range(6)), Subset(data, range(6, 11))


def fit(trainer: Any, audit: MembershipAudit, module: LightningModule, sides: tuple[Subset, Subset]) -> Any:
    trainer(audit).fit(module, DataLoader(sides[0], 3, shuffle=True), DataLoader(sides[1], 3))
    return audit.result


def test_named_tuples_of_pictures_without_channels(pictures: Any, trainer: Any, quick: Any) -> None:
    data, module = Slices(pictures[0]), UnetModule()
    result = fit(trainer, MembershipAudit(*sides_of(data), scorer=quick, **SCORES), module, sides_of(data))
    images, targets = (torch.stack(values) for values in zip(*((s.image, s.target) for s in data), strict=True))
    with torch.no_grad():
        expected = (module(images) - targets).abs().flatten(1).mean(1)
    torch.testing.assert_close(torch.from_numpy(result.errors["reconstruction"]).float(), expected)
    assert result.ids[:6] == ["file0.h5:0", "file0.h5:1", "file0.h5:2", "file0.h5:3", "file1.h5:0", "file1.h5:1"]
    assert "gets as they are" in result.meta["interpretation"]["shape"]


class SuperResolution(LightningModule):
    """A GAN that enlarges pictures four times; optimizers take turns."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Conv2d(3, 48, 3, padding=1), nn.PixelShuffle(4), nn.Sigmoid())
        self.critic = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 4, 2, 1))

    def forward(self, lr_image: Tensor) -> Tensor:
        return self.generator(lr_image)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        low, high = batch["input"], batch["target"]
        for optimizer, loss in zip(self.optimizers(), (self._generator_loss, self._critic_loss), strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss(self(low), high))
            optimizer.step()

    def _generator_loss(self, made: Tensor, high: Tensor) -> Tensor:
        return F.l1_loss(made, high) + 1e-3 * F.softplus(-self.critic(made)).mean()

    def _critic_loss(self, made: Tensor, high: Tensor) -> Tensor:
        return F.softplus(self.critic(made.detach())).mean() + F.softplus(-self.critic(high)).mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_l1", F.l1_loss(self(batch["input"]), batch["target"]))

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(part.parameters(), 1e-3) for part in (self.generator, self.critic)]


def test_super_resolution(pictures: Any, trainer: Any, quick: Any, same_with_and_without: Any) -> None:
    high = pictures[0]
    data = [{"input": x, "target": y} for x, y in zip(F.avg_pool2d(high, 4), high, strict=True)]

    def build() -> Any:
        loaders = {
            "train_dataloaders": DataLoader(data[:6], 3, shuffle=True),
            "val_dataloaders": DataLoader(data[6:], 2),
        }
        return SuperResolution(), loaders

    audit = MembershipAudit(data[:6], data[6:], scorer=quick, **SCORES)
    module = same_with_and_without(build, audit)
    with torch.no_grad():
        expected = (module(F.avg_pool2d(high, 4)) - high).abs().flatten(1).mean(1)
    torch.testing.assert_close(torch.from_numpy(audit.result.errors["reconstruction"]).float(), expected)
    assert audit.result.meta["interpretation"]["task"].endswith("32 x 32 beside inputs of 8 x 8)")
    assert len(audit.result.meta["neighbours"]["used"]) == 7


class ConditionalGan(LightningModule):
    """The interface of lightning-bolts': batches are (real, condition), and the generator makes real of condition."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.gen = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid())
        self.patch_gan = nn.Sequential(nn.Conv2d(6, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 4, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gen(x)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        real, condition = batch
        generator, critic = self.optimizers()
        made = self(condition)
        critic.zero_grad()
        pairs = [torch.cat([image, condition], 1) for image in (made.detach(), real)]
        self.manual_backward(F.softplus(self.patch_gan(pairs[0])).mean() + F.softplus(-self.patch_gan(pairs[1])).mean())
        critic.step()
        generator.zero_grad()
        judged = self.patch_gan(torch.cat([made, condition], 1))
        self.manual_backward(F.softplus(-judged).mean() + 200 * F.l1_loss(made, real))
        generator.step()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_l1", F.l1_loss(self(batch[1]), batch[0]))

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(part.parameters(), 3e-2) for part in (self.gen, self.patch_gan)]


def test_batches_of_real_and_condition(trainer: Any, quick: Any) -> None:
    condition = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(0.15 * condition.flip(1) + 0.8, condition)
    sides = Subset(data, range(16)), Subset(data, range(16, 32))
    swapped = MembershipAudit(*sides, scorer=quick)
    mended = MembershipAudit(*sides, scorer=quick, input_key=1, target_key=0, prefix="mended")
    loaders = DataLoader(sides[0], 4, shuffle=True), DataLoader(sides[1], 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(swapped, mended, max_epochs=15, check_val_every_n_epoch=15).fit(ConditionalGan(), *loaders)
    caution = swapped.result.meta["plausibility"]["caution"]
    assert "of batches of (target, input): input_key=1, target_key=0" in caution
    assert "caution" not in mended.result.meta["plausibility"]
    assert mended.result.errors["reconstruction"].max() < 0.1 < swapped.result.errors["reconstruction"].min()


def test_torchvisions_networks(pictures: Any, trainer: Any, quick: Any) -> None:
    """An OrderedDict with ``out``, and ``aux`` beside it."""
    from torchvision.models.segmentation import fcn_resnet50

    class Segmenter(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.model = fcn_resnet50(weights=None, weights_backbone=None, num_classes=3, aux_loss=True)

        def forward(self, images: Tensor) -> Any:
            return self.model(images)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return sum(F.cross_entropy(output, batch[1]) for output in self(batch[0]).values())

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", self.training_step(batch, batch_idx))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 1e-3)

    data, module = TensorDataset(*pictures), Segmenter()
    audit = MembershipAudit(*sides_of(data), scorer=quick)
    loaders = DataLoader(sides_of(data)[0], 3, shuffle=True), DataLoader(sides_of(data)[1], 3)
    trainer(audit, max_epochs=1).fit(module, *loaders)
    module.eval()
    with torch.no_grad():
        expected = F.cross_entropy(module(pictures[0])["out"], pictures[1], reduction="none").flatten(1).mean(1)
    torch.testing.assert_close(torch.from_numpy(audit.result.errors["reconstruction"]).float(), expected)
    assert audit.result.meta["interpretation"]["prediction"] == "'out', beside 'aux'"
