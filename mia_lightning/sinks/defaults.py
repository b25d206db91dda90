"""The sinks of an audit that was given none: files, and the loggers that the trainer has."""

from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

from mia_lightning.sinks.base import AuditSink, loggers_of
from mia_lightning.sinks.console import ConsoleSink
from mia_lightning.sinks.files import FileSink
from mia_lightning.sinks.mlflow import MLflowSink
from mia_lightning.sinks.tensorboard import TensorBoardSink
from mia_lightning.sinks.wandb import WandbSink

_OF_LOGGERS = ((TensorBoardLogger, TensorBoardSink), (WandbLogger, WandbSink), (MLFlowLogger, MLflowSink))


def default_sinks(trainer: pl.Trainer, output_dir: str | Path | None, *, verbose: bool) -> list[AuditSink]:
    """Choose sinks by what the trainer has, those that write files first; with ``fast_dev_run`` it leaves none."""
    sinks: list[AuditSink] = []
    if output_dir is not None and not cast(Any, trainer).fast_dev_run:
        sinks.append(FileSink(output_dir, verbose=verbose))
    sinks += [sink() for kind, sink in _OF_LOGGERS if loggers_of(trainer, kind)]
    return [*sinks, ConsoleSink()] if verbose else sinks
