"""What stands around the audit in real projects: loggers, monitors, other audits, data modules, a second training."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mia_lightning import Auditor
from mia_lightning.scores.summary import worth_logging


class Foreign(Logger):
    """The least that Lightning asks of a logger; it has no experiment, and whoever asks it for one fails."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[dict[str, float], int | None]] = []

    @property
    def name(self) -> str:
        return "foreign"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.logged.append((dict(metrics), step))

    def log_hyperparams(self, *args: Any, **options: Any) -> None: ...

    @property
    def audited(self) -> list[tuple[dict[str, float], int | None]]:
        """What was logged of the audit, with its step."""
        found = [({k: v for k, v in m.items() if k.startswith("audit/")}, step) for m, step in self.logged]
        return [(metrics, step) for metrics, step in found if metrics]


def expect(logged: list[tuple[dict[str, float], int | None]], history: list[Any], steps: list[int]) -> None:
    assert [step for _, step in logged] == steps
    for (metrics, _), result in zip(logged, history, strict=True):
        assert metrics == pytest.approx(worth_logging(result.metrics, "audit"), nan_ok=True)


def test_a_foreign_logger_gets_every_key_through_log(kit, audit, trainer, loaders) -> None:
    callback, logger = audit(), Foreign()
    trainer(callback, logger=logger).fit(kit.Translator(), *loaders)
    expect(logger.audited, callback.history, [2, 5])


def test_a_late_last_audit_reaches_a_foreign_logger(kit, audit, trainer, loaders) -> None:
    """Where EarlyStopping ends the training in an epoch that was passed over, the module's log is closed already."""
    callback, logger = audit(every_n_epochs=3), Foreign()
    stop = EarlyStopping("val/loss", patience=0, min_delta=1e9)
    trainer(callback, stop, logger=logger, max_epochs=9).fit(kit.Translator(), *loaders)
    assert [r.epoch for r in callback.history] == [1]
    assert len(logger.audited) == 1
    assert logger.audited[0][0] == pytest.approx(worth_logging(callback.result.metrics, "audit"), nan_ok=True)


def test_a_validation_alone_reaches_a_foreign_logger(kit, audit, trainer, loaders) -> None:
    callback, logger = audit(), Foreign()
    trainer(callback, logger=logger).validate(kit.Translator(), loaders[1], verbose=False)
    expect(logger.audited, callback.history, [0])


def test_three_loggers_at_once(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    foreign = Foreign()
    loggers = [TensorBoardLogger(tmp_path / "board", "", ""), CSVLogger(tmp_path / "csv", "", ""), foreign]
    callback = audit()
    trainer(callback, logger=loggers).fit(kit.Translator(), *loaders)
    expect(foreign.audited, callback.history, [2, 5])

    with (tmp_path / "csv" / "metrics.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["audit/auc"]]
    in_csv = [({k: float(v) for k, v in r.items() if k.startswith("audit/")}, int(r["step"])) for r in rows]
    expect(in_csv, callback.history, [2, 5])

    board = EventAccumulator(str(tmp_path / "board"), size_guidance={"tensors": 0}).Reload()
    keys = [k for k in board.Tags()["scalars"] if k.startswith("audit/")]
    events = {k: board.Scalars(k) for k in keys}
    in_board = [({k: events[k][i].value for k in keys}, events[keys[0]][i].step) for i in range(2)]
    expect(in_board, callback.history, [2, 5])
    pictures = {"audit/roc", "audit/distribution", "audit/most_exposed", "audit/member_like"}
    assert set(board.Tags()["images"]) == pictures


def test_the_checkpoint_of_the_least_memorization_is_the_one_kept(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    """EarlyStopping and ModelCheckpoint by the same key: training stops, and the file kept has the audit it names."""
    callback = audit(kit.Pairs(30, 0), kit.Pairs(30, 1))
    stopping = EarlyStopping("audit/auc", mode="min", patience=2)
    saving = ModelCheckpoint(tmp_path, monitor="audit/auc", mode="min", save_top_k=1, filename="{epoch}")
    run = trainer(callback, stopping, saving, max_epochs=40, enable_checkpointing=True)
    run.fit(kit.Memorizer(), DataLoader(kit.Pairs(30, 0), 8), loaders[1])
    values = [r.metrics["audit/auc"] for r in callback.history]
    best = int(np.argmin(values))
    assert len(values) == best + 3 < 40
    assert Path(saving.best_model_path).name == f"epoch={best}.ckpt"
    assert float(saving.best_model_score) == pytest.approx(values[best])

    model = kit.Memorizer()
    model.load_state_dict(torch.load(saving.best_model_path, weights_only=True)["state_dict"])
    again = Auditor(scorer=callback.auditor.scorer, batch_size=4).run(model, callback.members, callback.nonmembers)
    np.testing.assert_array_equal(again.errors["reconstruction"], callback.history[best].errors["reconstruction"])
    assert again.metrics["audit/auc"] == values[best]


def test_two_tasks_and_two_member_sets_side_by_side(kit, audit, trainer) -> None:
    """One model that draws and labels: an audit of each, and one of other members, at cadences of their own."""

    class Both(kit.Translator):
        def __init__(self) -> None:
            super().__init__()
            self.labels = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"picture": super().forward(x), "classes": self.labels(x)}

        def loss(self, batch: Any) -> Tensor:
            x, y = batch
            returned = self(x)
            drawn = F.l1_loss(returned["picture"], y)
            return drawn + F.cross_entropy(returned["classes"], (y.mean(1) * 2.99).long())

    pictures, labels = (kit.Pairs(6, 0), kit.Pairs(5, 1)), (kit.Masks(4, 0), kit.Masks(7, 1))
    others = (kit.Pairs(3, 8), kit.Pairs(9, 9))
    audits = {
        "draw": (audit(*pictures, prefix="draw", output_key="picture"), pictures),
        "label": (audit(*labels, prefix="label", output_key="classes"), labels),
        "others": (audit(*others, prefix="others", output_key="picture", every_n_epochs=2), others),
    }
    module, spy = Both(), kit.Spy()
    loaders = DataLoader(pictures[0], 2), DataLoader(pictures[1], 2)
    trainer(*(callback for callback, _ in audits.values()), spy).fit(module, *loaders)
    assert [[r.epoch for r in c.history] for c, _ in audits.values()] == [[0, 1], [0, 1], [1]]
    assert [c.result.meta["task"] for c, _ in audits.values()] == ["translation", "segmentation", "translation"]
    for prefix, (callback, sides) in audits.items():
        own = {k: v for k, v in spy.seen[-1].items() if k.startswith(f"{prefix}/")}
        assert own == pytest.approx(worth_logging(callback.result.metrics, prefix), nan_ok=True)
        key = "classes" if prefix == "label" else "picture"
        alone = Auditor(scorer=callback.auditor.scorer, batch_size=4, output_key=key).run(module, *sides)
        for name, values in alone.errors.items():
            np.testing.assert_array_equal(callback.result.errors[name], values)

    torch.manual_seed(0)
    plain = Both()
    trainer().fit(plain, *loaders)
    torch.manual_seed(0)
    audited = Both()
    fresh = [audit(*s, prefix=p, output_key="classes" if p == "label" else "picture") for p, (_, s) in audits.items()]
    trainer(*fresh).fit(audited, *loaders)
    for name, value in plain.state_dict().items():
        assert torch.equal(audited.state_dict()[name], value), name


def test_training_on_with_the_same_trainer(kit, audit, trainer, loaders) -> None:
    callback, module = audit(), kit.Translator()
    run = trainer(callback)
    run.fit(module, *loaders)
    run.fit_loop.max_epochs = 3
    run.fit(module, *loaders)
    assert [(r.epoch, r.meta["step"]) for r in callback.history] == [(0, 3), (1, 6), (2, 9)]
    assert len({r.errors["reconstruction"].tobytes() for r in callback.history}) == 3


def test_a_second_training_with_the_same_callback(kit, audit, trainer, loaders) -> None:
    """The curve goes on: both trainings are looked at, and the corrected p-value allows for both."""
    callback, module = audit(), kit.Translator()
    for _ in range(2):
        trainer(callback).fit(module, *loaders)
    assert [(r.epoch, r.meta["step"]) for r in callback.history] == [(0, 3), (1, 6), (0, 3), (1, 6)]
    assert [r.meta["looks"] for r in callback.history[:2]] == [2, 2]
    assert all(r.meta["looks"] > 4 for r in callback.history[2:])
    again = Auditor(scorer=callback.auditor.scorer, batch_size=4).run(module, callback.members, callback.nonmembers)
    np.testing.assert_array_equal(callback.result.errors["membership"], again.errors["membership"])


def test_members_given_by_hand_come_before_the_datamodule(kit, audit, trainer, loaders) -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> DataLoader:
            return loaders[0]

        def val_dataloader(self) -> DataLoader:
            return loaders[1]

        def audit_dataloaders(self) -> Any:
            raise AssertionError("the data were given by hand")

        def audit_info(self) -> dict[str, Any]:
            return {"assignment": "coin", "nonmembers_validate": True}

    members, nonmembers = kit.Pairs(3, 5, "triple", "mine"), kit.Pairs(4, 6, "triple", "theirs")
    callback, module = audit(members, nonmembers), kit.Translator()
    trainer(callback).fit(module, datamodule=Data())
    assert [r.epoch for r in callback.history] == [0, 1]
    assert callback.result.ids == [f"mine{i}" for i in range(3)] + [f"theirs{i}" for i in range(4)]
    assert callback.result.meta["membership"] == {"assignment": "given"}, "the datamodule knows nothing of these"
    assert callback.result.meta["nonmembers_select_checkpoints"] is None
    alone = Auditor(scorer=callback.auditor.scorer, batch_size=4).run(module, members, nonmembers)
    np.testing.assert_array_equal(callback.result.errors["membership"], alone.errors["membership"])


def test_a_datamodule_without_an_audit_of_its_own(kit, audit, trainer, loaders) -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> DataLoader:
            return loaders[0]

        def val_dataloader(self) -> list[DataLoader]:
            return [loaders[1], loaders[0]]

    callback, spy = audit(), kit.Spy()
    trainer(callback, spy).fit(kit.Translator(), datamodule=Data())
    assert [r.epoch for r in callback.history] == [0, 1]
    assert [seen["audit/auc"] for seen in spy.seen] == pytest.approx([r.auc for r in callback.history])
