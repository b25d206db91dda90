"""What an audit leaves beside metrics: a line each, the utility it is weighed with, files and a picture in the end."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from mia_lightning import AuditResult
from mia_lightning.result.verdict import headline


def test_a_line_for_each_audit(kit, audit, trainer, loaders, caplog: pytest.LogCaptureFixture) -> None:
    callback = audit()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        trainer(callback).fit(kit.Translator(), *loaders)
    lines = [r.getMessage() for r in caplog.records if "AUC" in r.getMessage()]
    assert lines == [headline(result) for result in callback.history]
    assert lines[1].startswith("epoch 2 | membership AUC 0.")
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        trainer(audit(verbose=False)).fit(kit.Translator(), *loaders)
    assert not [r for r in caplog.records if "AUC" in r.getMessage()]


def test_lines_go_above_the_progress_bar(kit, audit, trainer, loaders, capsys: pytest.CaptureFixture[str]) -> None:
    callback = audit()
    trainer(callback, enable_progress_bar=True).fit(kit.Translator(), *loaders)
    out, err = capsys.readouterr()
    assert all(headline(result) in out + err for result in callback.history)


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


def test_the_curve_is_drawn_in_the_end(kit, audit, trainer, loaders, tmp_path: Path, caplog) -> None:
    folder = tmp_path / "audit"
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        trainer(audit(output_dir=folder), audit(output_dir=folder, prefix="a/b")).fit(kit.Translator(), *loaders)
    with Image.open(folder / "memorization_curve.png") as picture:
        assert min(picture.size) > 300
    assert (folder / "a_b-memorization_curve.png").is_file()
    table = next(folder.glob("samples.*")).name
    assert f"Audits: {folder}, with {table} and memorization_curve.png" in caplog.text


def test_two_trainings_in_one_folder_are_warned_of(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    trainer(audit(output_dir=folder)).fit(kit.Translator(), *loaders)
    with pytest.warns(UserWarning, match="holds 2 audit files of an earlier training, which will be mixed"):
        trainer(audit(output_dir=folder)).fit(kit.Translator(), *loaders)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*earlier training.*")
        trainer(audit(output_dir=folder, prefix="other")).fit(kit.Translator(), *loaders)


def test_a_broken_curve_does_not_end_a_training(kit, audit, trainer, loaders, tmp_path: Path, monkeypatch) -> None:
    def full(*args: Any) -> Any:
        raise OSError("disk full")

    class Broken(kit.Translator):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 1:
                raise RuntimeError("the real one")

    monkeypatch.setattr("mia_lightning.callbacks.membership_audit.write_curve", full)
    told = r"Writing the history of the audits failed, .*OSError: disk full"
    with pytest.warns(UserWarning, match=told):
        trainer(audit(output_dir=tmp_path / "whole")).fit(kit.Translator(), *loaders)
    with pytest.raises(RuntimeError, match="the real one"), pytest.warns(UserWarning, match=told):
        trainer(audit(output_dir=tmp_path / "broken")).fit(Broken(), *loaders)


def test_learning_rates_and_training_losses_are_no_utility(kit, audit, trainer, loaders) -> None:
    callback, module = audit(), logging_as(kit, "loss", "quality")()
    trainer(callback, LearningRateMonitor(), logger=CSVLogger(trainer().default_root_dir)).fit(module, *loaders)
    assert all(set(r.meta["utility"]) == {"quality"} for r in callback.history)
