"""Training with the audit is the training without it, to the bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_package import Callback, LightningModule, TensorBoardLogger, Trainer, seed_everything
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from mia_lightning import (
    MembershipAudit,
    PairedImageDataModule,
    Pix2Pix,
    PredictabilityScorer,
    SegmentationDataModule,
    UNetSegmenter,
)

AUGMENT = ("jitter", "hflip", "transpose", "brightness")


def identical(first: Any, second: Any, where: str = "") -> None:
    """Compare nested states; tensors and arrays to the bit."""
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert list(first) == list(second), where
        for key, value in first.items():
            identical(value, second[key], f"{where}/{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for place, (one, other) in enumerate(zip(first, second, strict=True)):
            identical(one, other, f"{where}/{place}")
    elif isinstance(first, Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, np.ndarray):
        np.testing.assert_array_equal(first, second, where)
    else:
        assert first == second, where


class Recorder(Callback):
    """Keeps what each training batch brought, and the training flag of every submodule at that moment."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.flags: list[list[bool]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        parts = list(batch.values()) if isinstance(batch, dict) else list(batch)
        self.batches.append([p.clone() if isinstance(p, Tensor) else p for p in parts])
        self.flags.append([m.training for m in pl_module.modules()])


def train(build: Callable[[], tuple[LightningModule, dict[str, Any]]], *callbacks: Callback, **settings: Any) -> Any:
    """Train from one seed; return all that training consists of."""
    seed_everything(3, verbose=False)
    module, data = build()
    recorder = Recorder()
    options: dict[str, Any] = {
        "max_epochs": 3,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 1,
        "callbacks": [recorder, *callbacks],
    }
    trainer = Trainer(**{**options, **settings})
    trainer.fit(module, **data)
    return {
        "weights": {k: v.clone() for k, v in module.state_dict().items()},
        "gradients": [p.grad if p.grad is None else p.grad.clone() for p in module.parameters()],
        "optimizers": [o.state_dict() for o in trainer.optimizers],
        "schedulers": [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
        "batches": recorder.batches,
        "flags": recorder.flags,
        "flags at the end": [m.training for m in module.modules()],
        "metrics": {k: v for k, v in trainer.callback_metrics.items() if not k.startswith("audit/")},
    }


def draw() -> float:
    """Draw from the global generators of torch, NumPy and Python."""
    return torch.rand(()).item() + np.random.random() + random.random()


class Careless(PredictabilityScorer):
    """Draws random numbers: whatever the audit calls may do that."""

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        draw()
        return super().__call__(*args, **options)


def quick(**settings: Any) -> MembershipAudit:
    strong = {"scores": ("reconstruction", "membership", "combined", "trained"), "primary": "combined"}
    return MembershipAudit(**{"scorer": Careless(nn.AvgPool2d(4), grid=8), "batch_size": 4, **strong, **settings})


def compare(build: Callable[..., Any], audit: MembershipAudit, **settings: Any) -> None:
    plain, audited = train(build, **settings), train(build, audit, **settings)
    assert len(audit.history) >= 3
    assert len(plain["batches"]) > 3
    identical(plain, audited)


@pytest.fixture
def image_folders(tmp_path: Path) -> Path:
    """Six training and four validation images with masks, and pairs A and B, 40 x 36."""
    rng = np.random.default_rng(0)
    for number in range(10):
        name = f"{'train' if number < 6 else 'val'}/{number}.png"
        images = {f: rng.integers(0, 256, (36, 40, 3), dtype=np.uint8) for f in ("images", "A", "B")}
        images["masks"] = rng.integers(0, 3, (36, 40), dtype=np.uint8)
        for folder, pixels in images.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path


def segmenter(root: Path, **options: Any) -> tuple[LightningModule, dict[str, Any]]:
    data = SegmentationDataModule(root, 3, image_size=32, augment=AUGMENT, batch_size=2, eval_batch_size=3, **options)
    module = UNetSegmenter(
        3, base_channels=4, depth=2, dropout=0.5, schedule="cosine", audit=False, log_images_every_n_epochs=1
    )
    return module, {"datamodule": data}


def translator(root: Path) -> tuple[LightningModule, dict[str, Any]]:
    data = PairedImageDataModule(root, image_size=32, augment=AUGMENT, batch_size=2, eval_batch_size=3)
    module = Pix2Pix(
        image_size=32, ngf=4, ndf=4, constant_epochs=1, decay_epochs=2, audit=False, log_images_every_n_epochs=1
    )
    return module, {"datamodule": data}


@pytest.mark.parametrize("build", [segmenter, translator])
def test_our_models_and_their_data(build: Any, image_folders: Path, tmp_path: Path) -> None:
    def logger() -> TensorBoardLogger:
        return TensorBoardLogger(tmp_path / "logs")

    plain = train(lambda: build(image_folders), logger=logger())
    audit = quick()
    identical(plain, train(lambda: build(image_folders), audit, logger=logger()))
    assert [r.epoch for r in audit.history] == [0, 1, 2]
    shown = [names for *_, names in plain["batches"]]
    assert shown[:3] != shown[3:6]  # shuffled
    first = shown[0][0]
    views = [image[names.index(first)] for image, _, names in plain["batches"] if first in names]
    assert len(views) == 3
    assert not torch.equal(views[0], views[1])  # augmented
    assert all(all(flags) for flags in plain["flags"])


def test_the_default_audit_of_our_model(image_folders: Path) -> None:
    """What configure_callbacks brings has the real extractor, whose construction draws random numbers."""

    def build(audit: bool) -> tuple[LightningModule, dict[str, Any]]:
        module, data = segmenter(image_folders)
        module.hparams["audit"] = audit
        return module, data

    seen = []

    class Look(Callback):
        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append("audit/auc" in trainer.callback_metrics)

    settings = {"max_epochs": 2, "num_sanity_val_steps": 0}
    plain = train(lambda: build(False), Look(), **settings)
    audited = train(lambda: build(True), Look(), **settings)
    assert seen == [False, False, True, True]
    identical(plain, audited)


def test_loader_workers(image_folders: Path) -> None:
    """A loader draws the seed of its workers from the global generator; persistent workers live through audits."""
    compare(lambda: segmenter(image_folders, num_workers=1), quick(num_workers=1))


class Jitter:
    """A transform with a numpy generator of its own."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.from_numpy(self.rng.standard_normal(x.shape)).float()

    def draw(self) -> float:
        return self.rng.random()


class Flips:
    """albumentations with an explicit seed: its generators go on from call to call."""

    def __init__(self, seed: int) -> None:
        self.compose = albumentations.Compose([albumentations.D4(p=1.0), albumentations.GaussNoise(p=0.5)], seed=seed)

    def __call__(self, x: Tensor) -> Tensor:
        image = np.ascontiguousarray(x.permute(1, 2, 0).numpy())
        return torch.from_numpy(np.ascontiguousarray(self.compose(image=image)["image"])).permute(2, 0, 1)


class Everyones:
    """Draws from all three global generators."""

    def __init__(self, seed: int) -> None: ...

    def __call__(self, x: Tensor) -> Tensor:
        return x * (1 + 0.1 * draw())


class Listed:
    """Generators in lists, in other objects, of Python and of torch."""

    def __init__(self, seed: int) -> None:
        self.steps = [{"first": Jitter(seed)}, (random.Random(seed), torch.Generator().manual_seed(seed))]

    def __call__(self, x: Tensor) -> Tensor:
        python, own = self.steps[1]
        return self.steps[0]["first"](x) + 0.1 * python.random() + 0.1 * torch.rand(x.shape, generator=own)


class Closed:
    """Generators in a closure, in a partial, and behind a bound method."""

    def __init__(self, seed: int) -> None:
        closed, given, bound = (np.random.default_rng(seed + i) for i in range(3))
        self.steps = [
            lambda x: x + 0.1 * closed.random(),
            partial(lambda x, rng: x + 0.1 * rng.random(), rng=given),
            partial(lambda draw, x: x + 0.1 * draw(), bound.random),
            partial(lambda draw, x: x + 0.1 * draw(), Jitter(seed).draw),
        ]

    def __call__(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class Transformed(Dataset):
    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs, self.targets = (torch.rand(14, 3, 16, 16, generator=generator) for _ in range(2))
        self.transform = transform

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, str]:
        return self.transform(self.inputs[index]), self.targets[index], f"s{index}"


class Plain(LightningModule):
    """Dropout, a batch norm that trains and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout2d(0.3)),
            *(nn.BatchNorm2d(6), nn.Conv2d(6, 3, 1), nn.Sigmoid()),
        )
        self.network[4].eval()  # Lightning leaves it so

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.mse_loss(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("loss", F.mse_loss(self(batch[0]), batch[1]), batch_size=len(batch[0]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), 0.01)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "loss"}}


@pytest.mark.parametrize("transform", [Jitter, Flips, Everyones, Listed, Closed])
def test_a_data_set_shared_by_training_and_audit(transform: Any) -> None:
    """Its own generators advance by what training draws, not by what the audit draws. Validated twice an epoch, in
    the middle of an accumulation of gradients."""
    shared: list[Any] = []

    def build() -> tuple[LightningModule, dict[str, Any]]:
        whole = Transformed(transform(5))
        members, nonmembers = Subset(whole, range(10)), Subset(whole, range(10, 14))
        shared[:] = [members, nonmembers, whole]
        loaders = DataLoader(members, 2, shuffle=True), DataLoader(nonmembers, 2)
        return Plain(), {"train_dataloaders": loaders[0], "val_dataloaders": loaders[1]}

    class Late(MembershipAudit):
        """Takes the data set that was made for this training."""

        def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
            self.members, self.nonmembers = shared[:2]
            super().setup(trainer, pl_module, stage)

    def states() -> list[str]:
        inner = getattr(shared[2].transform, "rng", None)
        return [] if inner is None else [str(inner.bit_generator.state)]

    settings = {"accumulate_grad_batches": 2, "val_check_interval": 2}
    plain = train(build, **settings)
    left = states()
    audit = Late(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8), batch_size=3)
    audited = train(build, audit, **settings)
    assert len(audit.history) == 6
    identical(plain, audited)
    assert states() == left
    frozen = [flags[6] for flags in plain["flags"]]
    assert frozen == [False] * len(frozen)


def test_data_that_are_drawn_when_the_audit_asks(image_folders: Path) -> None:
    """A datamodule of the user's may split or seed in audit_dataloaders."""

    class Drawing(SegmentationDataModule):
        def audit_dataloaders(self) -> Any:
            draw()
            sides = torch.utils.data.random_split(super().audit_dataloaders()[0].dataset, [3, 3])
            return tuple(DataLoader(side, 3) for side in sides)

    def build() -> tuple[LightningModule, dict[str, Any]]:
        module, _ = segmenter(image_folders)
        return module, {"datamodule": Drawing(image_folders, 3, image_size=32, augment=AUGMENT, batch_size=2)}

    compare(build, quick())


def test_mixed_precision_and_clipping() -> None:
    def build() -> tuple[LightningModule, dict[str, Any]]:
        whole = Transformed(Everyones(0))
        return Plain(), {"train_dataloaders": DataLoader(whole, 4, shuffle=True), "val_dataloaders": DataLoader(whole)}

    audit = quick(members=Transformed(Everyones(0)), nonmembers=Transformed(Jitter(1)))
    compare(build, audit, precision="bf16-mixed", gradient_clip_val=0.1)
