"""Weights that other callbacks replace: averages of the training, which it leaves behind when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from mia_lightning.callbacks.trainer_state import callbacks_of
from mia_lightning.lightning_packages.bases import Callback
from mia_lightning.lightning_packages.loaded import classes

if TYPE_CHECKING:
    import lightning.pytorch as pl

AVERAGED = (
    "The training leaves averaged weights behind, and this audit is of those; the audits before are of the weights "
    "that were validated."
)


class AfterTraining(Callback):
    """Comes after all other callbacks when a training ends: weights are then those that it leaves behind.

    Args:
        finish: Called with the trainer and its module.
    """

    def __init__(self, finish: Callable[[pl.Trainer, pl.LightningModule], None]) -> None:
        self.finish = finish

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finish."""
        self.finish(trainer, pl_module)


def averages(trainer: pl.Trainer) -> bool:
    """Whether a callback averages weights: Lightning's, or one that is named as they are (SWA, EMA)."""
    kinds = classes("callbacks.StochasticWeightAveraging") + classes("callbacks.WeightAveraging")
    return any(isinstance(c, kinds) or _named_so(type(c).__name__) for c in callbacks_of(trainer))


def put_last(trainer: pl.Trainer, callback: Callback) -> None:
    """Have a callback called after all others."""
    # A new list: Lightning is walking over the old one.
    cast(Any, trainer).callbacks = [*(c for c in callbacks_of(trainer) if c is not callback), callback]


def take_out(trainer: pl.Trainer, callback: Callback) -> None:
    """Take a callback out of a trainer."""
    cast(Any, trainer).callbacks = [c for c in callbacks_of(trainer) if c is not callback]


@torch.no_grad()
def sums_of(module: nn.Module) -> list[float]:
    """Two sums for each parameter and buffer: equal where the weights are equal, in all likelihood only there."""
    tensors = (t.detach().double() for t in chain(module.parameters(), module.buffers()))
    return [float(value) for t in tensors for value in (t.sum(), t.square().sum())]


def _named_so(name: str) -> bool:
    return "EMA" in name or "SWA" in name or "Averag" in name
