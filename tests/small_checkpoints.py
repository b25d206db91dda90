"""A small network, pairs that it could have been trained on and a scorer, for audits of checkpoints."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from mia_lightning import PredictabilityScorer

SCORER = PredictabilityScorer(nn.AvgPool2d(4), grid=4)


def pairs(n: int, seed: int) -> TensorDataset:
    return TensorDataset(*torch.rand(2, n, 3, 16, 16, generator=torch.Generator().manual_seed(seed)))


MEMBERS, NONMEMBERS = pairs(24, 0), pairs(24, 1)


class Net(LightningModule):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def model(seed: int) -> Net:
    torch.manual_seed(seed)
    return Net()
