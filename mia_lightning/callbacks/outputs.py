"""What an audit leaves beside metrics and board: a line on the screen, files, and the utility it is weighed with."""

from __future__ import annotations

import glob
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from mia_lightning.audit.distributed import failing_together
from mia_lightning.callbacks.trainer_conditions import writes_files
from mia_lightning.figures.curves import memorization_curve
from mia_lightning.figures.style import to_png
from mia_lightning.result.atomic_files import write_bytes_atomically
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import stem, write_audit, write_history
from mia_lightning.result.verdict import headline

CURVE = "memorization_curve.png"


def say(trainer: pl.Trainer, line: str) -> None:
    """Print a line above the progress bar, or as Lightning prints its own where there is none.

    Args:
        trainer: The trainer; its first process prints.
        line: Text of one line.
    """
    bar = trainer.progress_bar_callback
    if bar is None:
        rank_zero_info(line)
    elif trainer.is_global_zero:
        bar.print(line)


def keep(trainer: pl.Trainer, result: AuditResult, folder: str | Path | None) -> None:
    """Write an audit's files. Call on every process; the first writes.

    Args:
        trainer: The trainer.
        result: The audit.
        folder: Where the files go; None writes none.
    """
    with failing_together(trainer.strategy.root_device):
        if folder is not None and writes_files(trainer):
            write_audit(result, folder)


def finish(trainer: pl.Trainer, result: AuditResult, folder: str | Path | None, *, verbose: bool) -> None:
    """Add to an audit what the validation says of the model, and print its line. Call on every process.

    Args:
        trainer: A trainer at the end of a validation run, when all metrics are logged.
        result: The audit.
        folder: Where its files are.
        verbose: Whether to print.
    """
    # Metrics may be logged on one process only, or differ: the first process decides for all.
    if utility := trainer.strategy.broadcast(utility_of(trainer)):
        result.meta["utility"] = utility
        keep(trainer, result, folder)
    if verbose:
        say(trainer, headline(result))


def utility_of(trainer: pl.Trainer) -> dict[str, float]:
    """How well the model does, by the project's own validation metrics.

    Args:
        trainer: A trainer at the end of a validation run, when all metrics are logged.

    Returns:
        Finite metrics by key, as this process knows them: those that the last validation logged, audits aside.
    """
    fitting = trainer.state.fn == TrainerFn.FITTING
    loop = trainer.fit_loop.epoch_loop.val_loop if fitting else trainer.validate_loop
    # Not trainer.callback_metrics: there are learning rates and training losses among them, too.
    logged = loop._results.metrics(on_step=False)["callback"]
    audits = tuple(f"{c.prefix}/" for c in cast(Any, trainer).callbacks if hasattr(c, "auditor"))
    values = {key: float(value) for key, value in logged.items() if not key.startswith(audits)}
    return {key: value for key, value in values.items() if math.isfinite(value)}


@contextmanager
def shielded(what: str) -> Iterator[None]:
    """Let a training go on where something beside the audit itself fails, with a warning.

    Args:
        what: What may fail, as the beginning of a sentence.
    """
    try:
        yield
    except Exception as error:
        warnings.warn(f"{what} failed, and is left out ({type(error).__name__}: {error}).", stacklevel=3)


def warn_of_earlier(folder: str | Path, prefix: str) -> None:
    """Say that a new training writes where another has left its audits: a report would take both for one."""
    found = sum(1 for _ in Path(folder).glob(f"{glob.escape(stem(prefix))}-epoch=*.json"))
    if found:
        warnings.warn(
            f"{folder} holds {found} audit file{'s' if found > 1 else ''} of an earlier training, which will be mixed "
            "with this one's in reports. Give each training an output_dir of its own, or empty the folder; to go on "
            "with that training, pass its checkpoint as ckpt_path.",
            stacklevel=3,
        )


def write_curve(history: Sequence[AuditResult], folder: str | Path) -> list[Path]:
    """Write what a training leaves when it is over: the table of all samples and the curve as a picture.

    Args:
        history: The audits, in order; at least one.
        folder: The run's audit folder.

    Returns:
        Paths of the table and of the picture.
    """
    prefix = history[-1].prefix
    picture = Path(folder) / (CURVE if prefix == "audit" else f"{stem(prefix)}-{CURVE}")
    return [write_history(history, folder), write_bytes_atomically(picture, to_png(memorization_curve(history)))]
