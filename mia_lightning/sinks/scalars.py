"""The scalars of audits in the loggers of a trainer: under Lightning's names and steps, and whatever a logger does."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.isolation import isolated
from mia_lightning.lightning_packages.loaded import classes
from mia_lightning.sinks.base import validation_loop
from mia_lightning.sinks.mlflow import keys_for_files

if TYPE_CHECKING:
    import lightning.pytorch as pl


class ScalarLog:
    """Writes an audit's metrics to every logger of a trainer, as Lightning writes those of ``pl_module.log``.

    A logger that fails, since its disk is full or its server is down, costs its scalars and one warning.

    Args:
        config: Settings of the audit, whose keys are written.
    """

    def __init__(self, config: AuditConfig) -> None:
        self.config = config
        self._warned: set[str] = set()

    def write(self, trainer: pl.Trainer, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics at a step, on every process, as Lightning does: loggers decide which of them writes."""
        row: dict[str, Any] = {**metrics, "epoch": trainer.current_epoch}
        for logger in trainer.loggers:
            named = keys_for_files(row, self.config) if _stores_files(logger) else row
            try:
                with isolated(None):
                    logger.log_metrics(named, step=step)
                    logger.save()
            except Exception as error:
                kind = type(logger).__name__
                if kind not in self._warned:
                    self._warned.add(kind)
                    warnings.warn(
                        f"{kind} did not take the audit's metrics, and the training goes on without them there "
                        f"({type(error).__name__}: {error}). They are in the callback's history and in output_dir, "
                        "where one is set. Later failures of this logger are not told.",
                        stacklevel=2,
                    )


def scalar_step(trainer: pl.Trainer, step: int) -> int:
    """Step at which the metrics of the validation that ends are logged: the project's own where it logs ``"step"``."""
    logged = validation_loop(trainer)._results.metrics(on_step=False)["log"]
    return int(logged["step"]) if "step" in logged else step


def _stores_files(logger: object) -> bool:
    is_mlflow = isinstance(logger, classes("loggers.MLFlowLogger"))
    return is_mlflow and str(cast(Any, logger)._tracking_uri).partition(":")[0] in ("", "file")
