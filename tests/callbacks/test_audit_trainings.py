"""Kinds of training: precisions, several optimizers, one logit, batches of several forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning_package import RichProgressBar, TQDMProgressBar
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mia_lightning import Auditor


@pytest.mark.parametrize(
    "precision", [pytest.param("bf16-mixed", marks=pytest.mark.slow), "bf16-true", "64-true", "16-mixed"]
)
def test_precisions(kit, audit, trainer, loaders, precision: str) -> None:
    seen: list[tuple[torch.dtype, torch.dtype]] = []

    class Module(kit.Translator):
        def forward(self, x: Tensor) -> Tensor:
            output = super().forward(x)
            if not self.training:
                seen.append((x.dtype, output.dtype))
            return output

    callback = audit()
    trainer(callback, precision=precision, max_epochs=1).fit(Module(), *loaders)
    # Validation and audit call the model alike.
    assert len(seen) > 2
    assert len(set(seen)) == 1
    errors = callback.result.errors
    assert errors["membership"].dtype == np.float64
    assert all(np.isfinite(v).all() for v in errors.values())
    full = audit()
    torch.manual_seed(0)
    trainer(full, max_epochs=1).fit(kit.Translator(), *loaders)
    np.testing.assert_allclose(errors["predictability"], full.result.errors["predictability"], atol=1e-6)


def adversaries(kit: Any) -> Any:
    """Make a GAN under manual optimisation out of the tiny translator."""

    class Gan(kit.Translator):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.critic = nn.Sequential(nn.Conv2d(6, 4, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))

        def training_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            for_network, for_critic = self.optimizers()
            fake = self(x)
            with self.toggled_optimizer(for_critic):
                for_critic.zero_grad()
                real_and_fake = self.critic(torch.cat([x, y], 1)), self.critic(torch.cat([x, fake.detach()], 1))
                self.manual_backward(real_and_fake[1].sigmoid().mean() + (1 - real_and_fake[0].sigmoid()).mean())
                for_critic.step()
            with self.toggled_optimizer(for_network):
                for_network.zero_grad()
                self.manual_backward(
                    (fake - y).abs().mean() - 0.1 * self.critic(torch.cat([x, fake], 1)).sigmoid().mean()
                )
                for_network.step()

        def configure_optimizers(self) -> list[torch.optim.Optimizer]:
            return [torch.optim.Adam(n.parameters()) for n in (self.network, self.critic)]

    return Gan()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_two_optimizers(kit, audit, trainer, loaders, precision: str) -> None:
    callback, model = audit(), adversaries(kit)
    run = trainer(callback, precision=precision)
    run.fit(model, *loaders)
    assert len(run.optimizers) == 2
    assert [(r.meta["step"], r.meta["global_step"]) for r in callback.history] == [(3, 6), (6, 12)]
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("num_classes", [None, 1, 2])
def test_one_logit(kit, audit, trainer, num_classes: int | None) -> None:
    members, nonmembers = kit.Masks(6, classes=2), kit.Masks(5, 9, classes=2)
    callback, model = audit(members, nonmembers, num_classes=num_classes), kit.Segmenter(channels=1)
    trainer(callback).fit(model, DataLoader(members, 2), DataLoader(nonmembers, 2))
    assert callback.result.meta["task"] == "segmentation"
    model.eval()
    with torch.no_grad():
        wanted = [
            float(nn.functional.binary_cross_entropy_with_logits(model(x[None])[0, 0], y.float())) for x, y in members
        ]
    got = callback.result.errors["reconstruction"][callback.result.member]
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_many_classes_and_void(kit, audit, trainer) -> None:
    members, nonmembers = kit.Masks(6), kit.Masks(5, 9)
    members.targets[2] = 255  # a sample that is void throughout
    members.targets[0, :4] = 255
    callback = audit(members, nonmembers)

    class Module(kit.Segmenter):
        def loss(self, batch: Any) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1], ignore_index=255)

    with pytest.warns(UserWarning, match="member-000002 .*no pixel of the target carries a class"):
        trainer(callback, max_epochs=1).fit(Module(), DataLoader(members, 6), DataLoader(nonmembers, 5))
    assert "member-000002" not in callback.result.ids


@pytest.mark.parametrize("style", ["pair", "triple", "dict"])
def test_forms_of_a_batch(kit, audit, trainer, style: str) -> None:
    members, nonmembers = kit.Pairs(6, 0, style, "in"), kit.Pairs(5, 1, style, "out")
    loaders = DataLoader(members, 4, shuffle=True, drop_last=True), DataLoader(nonmembers, 4)
    # Loaders as they train: the audit reads them in order and to the end.
    callback, model = audit(*loaders), kit.Translator()
    trainer(callback, max_epochs=1).fit(model, *loaders)
    named = style != "pair"
    assert callback.result.ids[:6] == [f"in{i}" if named else f"member-{i:06d}" for i in range(6)]
    assert callback.result.ids[6:] == [f"out{i}" if named else f"nonmember-{i:06d}" for i in range(5)]
    again = Auditor(scorer=callback.auditor.scorer).run(model, kit.Pairs(6, 0), kit.Pairs(5, 1))
    np.testing.assert_allclose(callback.result.errors["membership"], again.errors["membership"], atol=1e-6)


def test_dropout_is_off_and_modes_come_back(kit, audit, trainer, loaders) -> None:
    """Frozen batch norms stay frozen; nothing else is."""
    modes = []

    class Frozen(kit.Translator):
        def on_train_epoch_start(self) -> None:
            self.network[1].eval()

        def on_train_batch_start(self, *_: Any) -> None:
            modes.append([m.training for m in self.modules()])

    callback = audit()
    trainer(callback, val_check_interval=1 / 3).fit(Frozen(), *loaders)
    assert len(modes) == 6
    assert all(mode == [True, True, True, False, True, True, True] for mode in modes)


@pytest.mark.parametrize("bar", [RichProgressBar, TQDMProgressBar])
def test_progress_bars_live_together(kit, audit, trainer, loaders, bar, capsys) -> None:
    callback = audit()
    trainer(callback, bar(), enable_progress_bar=True).fit(kit.Translator(), *loaders)
    assert len(callback.history) == 2
