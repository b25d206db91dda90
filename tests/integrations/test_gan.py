"""A GAN with manual optimisation, two optimizers and schedulers that it steps itself."""

from __future__ import annotations

from typing import Any

import torch
from lightning_package import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mia_lightning import MembershipAudit


class GAN(LightningModule):
    """Noise in the generator, two optimizers that take turns."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout2d(0.5), nn.ReLU()),
            *(nn.Conv2d(8, 3, 1), nn.Sigmoid()),
        )
        self.critic = nn.Sequential(nn.Conv2d(6, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 4, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.generator(x)

    def judge(self, x: Tensor, y: Tensor, real: bool) -> Tensor:
        return (self.critic(torch.cat([x, y], 1)) - float(real)).square().mean()

    def training_step(self, batch: Any, batch_idx: int) -> None:
        (x, y), (for_generator, for_critic) = batch, self.optimizers()
        self.toggle_optimizer(for_generator)
        made = self(x)
        for_generator.zero_grad()
        self.manual_backward(self.judge(x, made, True) + 10 * (made - y).abs().mean())
        for_generator.step()
        self.untoggle_optimizer(for_generator)
        self.toggle_optimizer(for_critic)
        for_critic.zero_grad()
        self.manual_backward(self.judge(x, y, True) + self.judge(x, made.detach(), False))
        for_critic.step()
        self.untoggle_optimizer(for_critic)

    def on_train_epoch_end(self) -> None:
        for scheduler in self.lr_schedulers():
            scheduler.step()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_l1", (self(batch[0]) - batch[1]).abs().mean())

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        both = [torch.optim.Adam(part.parameters(), 1e-2) for part in (self.generator, self.critic)]
        return both, [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5) for optimizer in both]


def test_training_is_unchanged_and_errors_are_those_of_predict(
    pictures: Any, trainer: Any, quick: Any, same_with_and_without: Any
) -> None:
    x, y = pictures[0], pictures[0].flip(1)
    members, nonmembers = TensorDataset(x[:6], y[:6]), TensorDataset(x[6:], y[6:])

    def build() -> Any:
        data = {"train_dataloaders": DataLoader(members, 2, shuffle=True), "val_dataloaders": DataLoader(nonmembers, 2)}
        return GAN(), data

    scores = ("reconstruction", "membership", "combined")
    audit = MembershipAudit(members, nonmembers, scorer=quick, batch_size=4, scores=scores, primary="combined")
    module = same_with_and_without(build, audit)

    made = torch.cat(trainer().predict(module, DataLoader(TensorDataset(x, y), 4)))
    expected = (made - y).abs().mean((1, 2, 3))
    torch.testing.assert_close(torch.from_numpy(audit.result.errors["reconstruction"]).float(), expected)
