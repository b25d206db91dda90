"""The scalars of audits in loggers: names and steps as Lightning's, and what a logger that fails costs."""

from __future__ import annotations

import csv
import errno
import warnings
from pathlib import Path
from typing import Any

import pytest
from lightning_package import CSVLogger, Logger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mia_lightning.scores.summary import worth_logging


class Down(Logger):
    """Fails on what an audit logs, and takes the rest."""

    def __init__(self, moment: str) -> None:
        super().__init__()
        self.moment, self.rows, self.armed = moment, [], False

    @property
    def name(self) -> str:
        return "down"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, *args: Any, **options: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((dict(metrics), step))
        self.armed = any(key.startswith("audit/") for key in metrics)
        if self.armed and self.moment == "log_metrics":
            raise OSError(errno.ENOSPC, "No space left on device")

    def save(self) -> None:
        armed, self.armed = self.armed, False
        if armed and self.moment == "save":
            raise ConnectionError("the server is down")


@pytest.mark.parametrize("moment", ["log_metrics", "save"])
def test_a_logger_that_fails_costs_its_scalars_and_one_warning(kit, audit, trainer, loaders, tmp_path, moment) -> None:
    callback, broken, table = audit(), Down(moment), CSVLogger(tmp_path, "", "")
    run = trainer(callback, logger=[broken, table], max_epochs=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.fit(kit.Translator(), *loaders)
    assert run.current_epoch == 3
    assert len(callback.history) == 3
    assert callback.failures == []
    messages = [str(w.message) for w in caught if "did not take the audit's metrics" in str(w.message)]
    assert len(messages) == 1
    assert messages[0].startswith("Down did not take")
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert len([row for row in csv.DictReader(file) if row["audit/auc"]]) == 3
    assert any("val/loss" in metrics for metrics, _ in broken.rows)


class Steps:
    """A module that says itself at which step its validation is logged."""

    @staticmethod
    def of(kit: Any) -> Any:
        class Module(kit.Translator):
            def validation_step(self, batch: Any, batch_idx: int) -> None:
                super().validation_step(batch, batch_idx)
                self.log("step", 100.0 * (self.current_epoch + 1))

        return Module()


def test_a_step_of_the_project_counts_for_the_audit(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    callback = audit()
    trainer(callback, logger=TensorBoardLogger(tmp_path, "", "")).fit(Steps.of(kit), *loaders)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [e.step for e in events.Scalars("audit/auc")] == [e.step for e in events.Scalars("val/loss")] == [100, 200]


def test_a_validation_by_itself_returns_the_metrics(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    callback = audit()
    run = trainer(callback, logger=CSVLogger(tmp_path, "", ""))
    (returned,) = run.validate(kit.Translator(), loaders[1], verbose=False)
    expected = worth_logging(callback.result.metrics, "audit")
    assert {k: float(v) for k, v in returned.items() if k != "val/loss"} == pytest.approx(expected, nan_ok=True)
    assert "val/loss" in returned
    assert float(run.logged_metrics["audit/auc"]) == pytest.approx(callback.result.auc)
