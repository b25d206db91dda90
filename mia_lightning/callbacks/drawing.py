"""Drawing an audit: samples run again, for TensorBoard and for the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger

from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.distributed import forward_is_collective
from mia_lightning.audit.loading import Source
from mia_lightning.callbacks.board import write_figures
from mia_lightning.callbacks.outputs import shielded
from mia_lightning.callbacks.pictures import pictures_of
from mia_lightning.callbacks.trainer_conditions import audited_module, conditions, writes_files
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.picture_files import Picture, pictures_path, write_pictures


def draw(
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    auditor: Auditor,
    sources: tuple[Source, Source],
    result: AuditResult,
    step: int,
    folder: str | Path | None,
) -> None:
    """Draw an audit where there is somebody to look at it. Call on every process; the first writes.

    Args:
        trainer: The trainer.
        pl_module: Its module.
        auditor: What has made the audit.
        sources: Members and nonmembers.
        result: The audit.
        step: Step at which it was logged.
        folder: Where pictures are kept for the report; None keeps none.
    """
    kept = folder is not None and not cast(Any, trainer).fast_dev_run
    shown = any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers)
    if not (kept or shown):
        return
    pictures = pictured(trainer, pl_module, auditor, sources, result)
    with shielded("Drawing an audit"):
        write_figures(trainer, result, pictures, step)
        # Those of a training are kept: a validation afterwards does not replace them.
        free = folder is not None and (result.epoch is not None or not pictures_path(folder, result.prefix).exists())
        if folder is not None and free and writes_files(trainer):
            write_pictures(pictures, result, folder)


def pictured(
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    auditor: Auditor,
    sources: tuple[Source, Source],
    result: AuditResult,
) -> list[Picture]:
    """Run the most telling samples again, as the audit ran them. Call on every process; arguments as for :func:`draw`.

    Returns:
        Pictures, on the first process.
    """
    module = audited_module(trainer, pl_module)
    if not (trainer.is_global_zero or forward_is_collective(module)):
        return []
    return pictures_of(result, auditor, module, sources, **conditions(trainer, pl_module))
