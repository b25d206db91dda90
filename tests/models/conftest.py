"""Tiny data that fit in memory, and a way to train on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning_package import LightningModule, TensorBoardLogger, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

SIDE = 32
Style = Literal["dict", "pair", "triple"]
Loaders = Callable[..., DataLoader]

VGG_WIDTHS = (3, 64, 64, 128, 128, *[256] * 4, *[512] * 8)


class TinyData(Dataset):
    """Four random images and what belongs to them, in any of the shapes that a batch may have."""

    def __init__(self, names: tuple[str, str], targets: Tensor, style: Style) -> None:
        self.inputs = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        self.names, self.targets, self.style = names, targets, style

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Any:
        x, y, key = self.inputs[index], self.targets[index], f"sample-{index}"
        if self.style == "dict":
            return {self.names[0]: x, self.names[1]: y, "id": key}
        return (x, y, key) if self.style == "triple" else (x, y)


@pytest.fixture
def pairs() -> Loaders:
    """Loaders of image pairs."""

    def loader(style: Style = "dict") -> DataLoader:
        targets = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
        return DataLoader(TinyData(("input", "target"), targets, style), batch_size=2)

    return loader


@pytest.fixture
def masks() -> Loaders:
    """Loaders of images and label maps, with void pixels."""

    def loader(style: Style = "dict", num_classes: int = 3) -> DataLoader:
        generator = torch.Generator().manual_seed(2)
        targets = torch.randint(0, max(2, num_classes), (4, SIDE, SIDE), generator=generator)
        targets[:, :5], targets[:, 5:8] = 255, -1
        return DataLoader(TinyData(("image", "mask"), targets, style), batch_size=2)

    return loader


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Trainer]:
    """Train for an epoch, validate, and log to TensorBoard under ``tmp_path``."""

    def fit(module: LightningModule, loader: DataLoader, **settings: Any) -> Trainer:
        options: dict[str, Any] = {
            "max_epochs": 1,
            "accelerator": "cpu",
            "logger": TensorBoardLogger(tmp_path, name="", version=""),
            "default_root_dir": tmp_path,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 1,
        }
        trainer = Trainer(**{**options, **settings})
        trainer.fit(module, loader, loader)
        return trainer

    return fit


@pytest.fixture(scope="session")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torchvision publishes it: convolutions of the features, and a classifier."""
    places = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
    state: dict[str, torch.Tensor] = {"classifier.0.weight": torch.zeros(2, 2)}
    generator = torch.Generator().manual_seed(0)
    for place, wide, wider in zip(places, VGG_WIDTHS, VGG_WIDTHS[1:], strict=False):
        # Drawn for one input channel and expanded: a small file, and quick.
        column = torch.randn(wider, 1, 3, 3, generator=generator) / wide**0.5
        state |= {
            f"features.{place}.weight": column.expand(-1, wide, -1, -1),
            f"features.{place}.bias": torch.zeros(wider),
        }
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save(state, path)
    return path
