"""The utility that an audit is weighed with: the project's own metrics of the same validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning_package import CSVLogger, LearningRateMonitor, LightningModule, ModelCheckpoint, Trainer

from mia_lightning import AuditResult


def logging_as(kit: Any, training: str, validation: str) -> Any:
    """A class of modules that log a loss of the training and one of the validation under these names."""

    class Module(kit.Translator):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.log(training, loss)
            return loss

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log(validation, self.loss(batch))

    return Module


class Late(LightningModule):
    """Adds a metric in its own hook, which comes after the callbacks'."""

    def on_validation_epoch_end(self) -> None:
        self.log("val/late", 1.0 + self.current_epoch)
        self.log("val/broken", float("nan"))


def test_utility_is_what_the_project_logs(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    class Module(Late, logging_as(kit, "train/loss", "val/loss")):
        pass

    first, second = audit(output_dir=tmp_path / "audit"), audit(prefix="other", every_n_epochs=2)
    saving = ModelCheckpoint(tmp_path, filename="last")
    run: Trainer = trainer(first, second, saving, enable_checkpointing=True)
    run.fit(Module(), *loaders)
    assert [set(r.meta["utility"]) for r in first.history] == [{"val/loss", "val/late"}] * 2
    assert [r.meta["utility"]["val/late"] for r in first.history] == [1.0, 2.0]
    assert second.history[0].meta["utility"] == first.history[1].meta["utility"]
    stored = AuditResult.from_json(next((tmp_path / "audit").glob("audit-epoch=0001-*.json")))
    assert stored.meta["utility"] == first.history[1].meta["utility"]
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"][first.state_key]["history"]
    assert kept[1]["meta"]["utility"] == stored.meta["utility"]


def test_learning_rates_and_training_losses_are_no_utility(kit, audit, trainer, loaders) -> None:
    callback, module = audit(), logging_as(kit, "loss", "quality")()
    trainer(callback, LearningRateMonitor(), logger=CSVLogger(trainer().default_root_dir)).fit(module, *loaders)
    assert all(set(r.meta["utility"]) == {"quality"} for r in callback.history)
