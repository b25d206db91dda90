"""The sinks of an audit: files, those of the user or else of the loggers that the trainer has, and the screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mia_lightning.sinks.base import AuditSink, loggers_of
from mia_lightning.sinks.console import ConsoleSink
from mia_lightning.sinks.files import FileSink
from mia_lightning.sinks.mlflow import MLflowSink
from mia_lightning.sinks.tensorboard import TensorBoardSink
from mia_lightning.sinks.wandb import WandbSink

if TYPE_CHECKING:
    import lightning.pytorch as pl

_OF_LOGGERS = {"TensorBoardLogger": TensorBoardSink, "WandbLogger": WandbSink, "MLFlowLogger": MLflowSink}


def sinks_of(
    trainer: pl.Trainer, output_dir: str | Path | None, own: Sequence[AuditSink] | None, *, verbose: bool
) -> list[AuditSink]:
    """Choose sinks, those that write files first, which ``fast_dev_run`` leaves out.

    The user's ``own`` take the place of those for the trainer's loggers; files and screen have settings of their own.
    """
    sinks: list[AuditSink] = []
    if output_dir is not None and not cast(Any, trainer).fast_dev_run:
        sinks.append(FileSink(output_dir, verbose=verbose))
    sinks += [sink() for kind, sink in _OF_LOGGERS.items() if loggers_of(trainer, kind)] if own is None else own
    return [*sinks, ConsoleSink()] if verbose else sinks
