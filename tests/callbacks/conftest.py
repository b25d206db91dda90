"""Tiny modules, data sets in memory and a quick scorer: an audited training takes a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_package import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mia_lightning import AuditResult, MembershipAudit, PredictabilityScorer

SIDE = 16


class Pairs(Dataset):
    """Random image pairs in memory; ``style`` is the form of an item."""

    def __init__(self, count: int, seed: int = 0, style: str = "pair", name: str = "s", side: int = SIDE) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.inputs = torch.rand(count, 3, side, side, generator=generator)
        self.targets = torch.rand(count, 3, side, side, generator=generator)
        self.style, self.name = style, name

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Any:
        x, y, key = self.inputs[index], self.targets[index], f"{self.name}{index}"
        if self.style == "dict":
            return {"image": x, "target": y, "id": key}
        return (x, y, key) if self.style == "triple" else (x, y)


class Masks(Pairs):
    """Random images with label maps of the classes 0 to ``classes - 1``."""

    def __init__(self, count: int, seed: int = 0, style: str = "pair", classes: int = 3, **options: Any) -> None:
        super().__init__(count, seed, style, **options)
        generator = torch.Generator().manual_seed(seed + 1)
        self.targets = torch.randint(0, classes, (count, SIDE, SIDE), generator=generator)


class Translator(LightningModule):
    """Convolution, batch norm, dropout, convolution. Optimised by plain SGD."""

    def __init__(self, channels: int = 3, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr
        self.network = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(4, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.network(x))

    def loss(self, batch: Any) -> Tensor:
        x, y = (batch["image"], batch["target"]) if isinstance(batch, dict) else batch[:2]
        return F.l1_loss(self(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val/loss", self.loss(batch), batch_size=2)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)


class Segmenter(Translator):
    """The same, returning raw logits."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def loss(self, batch: Any) -> Tensor:
        x, y = (batch["image"], batch["target"]) if isinstance(batch, dict) else batch[:2]
        if self.network[-1].out_channels == 1:
            return F.binary_cross_entropy_with_logits(self(x).squeeze(1).float(), y.float())
        return F.cross_entropy(self(x), y)


class Memorizer(Translator):
    """One wide layer over all pixels: random targets are learned by heart in a few dozen steps."""

    def __init__(self, lr: float = 3e-3, side: int = SIDE) -> None:
        super().__init__(lr=lr)
        size = 3 * side * side
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(size, size), nn.Unflatten(1, (3, side, side)))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), self.lr)


class BrokenPredictions(Translator):
    """Returns NaN for the images that ``breaks(module, x)`` marks, (B,) booleans."""

    def __init__(self, breaks: Callable[[LightningModule, Tensor], Tensor]) -> None:
        super().__init__()
        self.breaks = breaks

    def forward(self, x: Tensor) -> Tensor:
        output = super().forward(x)
        return output if self.training else torch.where(self.breaks(self, x)[:, None, None, None], torch.nan, output)


class Spy(Callback):
    """Keeps what the metrics were at the end of each validation run, sanity check left out."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.seen.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def same(first: AuditResult, second: AuditResult) -> None:
    """Equal to the bit, NaN included."""
    assert first.ids == second.ids
    assert first.meta == second.meta
    assert first.excluded == second.excluded
    np.testing.assert_array_equal(first.member, second.member)
    np.testing.assert_array_equal(first.positions, second.positions)
    assert first.metrics.keys() == second.metrics.keys()
    np.testing.assert_array_equal([*first.metrics.values()], [*second.metrics.values()])
    for ours, theirs in ((first.errors, second.errors), (first.scores, second.scores)):
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name])


@pytest.fixture
def kit() -> SimpleNamespace:
    """The classes of this file, for tests that cannot import it."""
    return SimpleNamespace(
        Pairs=Pairs,
        Masks=Masks,
        Translator=Translator,
        Segmenter=Segmenter,
        Memorizer=Memorizer,
        BrokenPredictions=BrokenPredictions,
        Spy=Spy,
        same=same,
        SIDE=SIDE,
    )


@pytest.fixture
def quick() -> PredictabilityScorer:
    """A scorer whose features are block means."""
    return PredictabilityScorer(nn.AvgPool2d(4), grid=8)


@pytest.fixture
def audit(quick: PredictabilityScorer) -> Callable[..., MembershipAudit]:
    """A quick audit of six members and five nonmembers, unless told otherwise."""

    def make(members: Any = None, nonmembers: Any = None, **settings: Any) -> MembershipAudit:
        members = Pairs(6, seed=0, name="in") if members is None else members
        nonmembers = Pairs(5, seed=1, name="out") if nonmembers is None else nonmembers
        return MembershipAudit(members, nonmembers, **{"scorer": quick, "batch_size": 4, **settings})

    return make


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """A silent trainer under ``tmp_path``, two epochs on the CPU unless told otherwise."""

    def make(*callbacks: Callback, **settings: Any) -> Trainer:
        options: dict[str, Any] = {
            "max_epochs": 2,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "default_root_dir": tmp_path,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "callbacks": list(callbacks),
        }
        return Trainer(**{**options, **settings})

    return make


@pytest.fixture
def loaders() -> tuple[DataLoader, DataLoader]:
    """A training and a validation loader of six and five pairs, in order."""
    return DataLoader(Pairs(6, seed=0), batch_size=2), DataLoader(Pairs(5, seed=1), batch_size=2)


@pytest.fixture(autouse=True)
def _same_start() -> None:
    torch.manual_seed(0)
