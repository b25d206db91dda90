"""The files of a training's audits: one JSON and one CSV an audit, a table of all of them, the curve, the pictures."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from mia_lightning.audit.config import AuditConfig
from mia_lightning.figures.curves import memorization_curve
from mia_lightning.figures.style import to_png
from mia_lightning.lightning_packages.loaded import FITTING
from mia_lightning.result.atomic_files import write_bytes_atomically
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.failed_audit import FailedAudit, write_failure
from mia_lightning.result.history import stem, write_audit, write_groups, write_history
from mia_lightning.result.picture_files import Picture, pictures_path, write_pictures
from mia_lightning.sinks.base import AuditSink
from mia_lightning.sinks.console import print_line

if TYPE_CHECKING:
    import lightning.pytorch as pl

_summaries: WeakKeyDictionary[AuditResult, tuple[Path, Path]] = WeakKeyDictionary()  # by the latest audit


class FileSink(AuditSink):
    """Writes audits into a folder; what is read later, by reports and by other programs, are these files.

    Args:
        folder: Folder of the training's audits; made where it is missing.
        verbose: Print in the end where the files are.
    """

    wants_pictures = True

    def __init__(self, folder: str | Path, *, verbose: bool = False) -> None:
        self.folder, self.verbose = Path(folder), verbose

    def open(self, trainer: pl.Trainer, config: AuditConfig, history: Sequence[AuditResult]) -> None:
        """Warn where another training has left its audits: a report would take both for one."""
        if history or trainer.state.fn != FITTING:
            return
        found = sum(1 for _ in self.folder.glob(f"{glob.escape(stem(config.prefix))}-epoch=*.json"))
        if found:
            warnings.warn(
                f"{self.folder} holds {found} audit file{'s' if found > 1 else ''} of an earlier training, which will "
                "be mixed with this one's in reports. Give each training an output_dir of its own, or empty the "
                "folder; to go on with that training, pass its checkpoint as ckpt_path.",
                stacklevel=3,
            )

    def hold(self, trainer: pl.Trainer, result: AuditResult) -> None:
        """Write the audit as far as it is known; :meth:`write` replaces it."""
        write_audit(result, self.folder)

    def write(self, trainer: pl.Trainer, result: AuditResult, step: int) -> None:
        """Write one JSON and one CSV."""
        write_audit(result, self.folder)

    def record_failure(self, trainer: pl.Trainer, failure: FailedAudit, step: int) -> None:
        """Write when it was and why, which reports state."""
        write_failure(failure, self.folder)

    def show(self, trainer: pl.Trainer, result: AuditResult, pictures: Sequence[Picture], step: int) -> None:
        """Keep the pictures for the report; those of a training are not replaced by a validation after it."""
        if result.epoch is not None or not pictures_path(self.folder, result.prefix).exists():
            write_pictures(pictures, result, self.folder)

    def close(self, trainer: pl.Trainer, history: Sequence[AuditResult]) -> None:
        """Write the table of all audits of a training and the curve, and print where they are."""
        if not history or trainer.state.fn != FITTING:
            return
        table, curve = write_summary(history, self.folder)
        if self.verbose:
            print_line(trainer, f"Audits: {self.folder}, with {table.name} and {curve.name}")


def write_summary(history: Sequence[AuditResult], folder: str | Path) -> tuple[Path, Path]:
    """Write what sums up the audits of a training, one or more: the table of samples and the curve."""
    prefix = history[-1].prefix
    name = "" if prefix == "audit" else f"{stem(prefix)}-"
    curve = Path(folder) / f"{name}memorization_curve.png"
    drawn = to_png(memorization_curve(history))
    paths = write_history(history, folder), write_bytes_atomically(curve, drawn)
    write_groups(history, folder)
    _summaries[history[-1]] = paths
    return paths


def write_artefacts(history: Sequence[AuditResult], folder: str | Path) -> list[Path]:
    """What a tracking server keeps: the latest result as JSON and CSV, and what :func:`write_summary` writes.

    Written into ``folder`` is what another sink has not written elsewhere, as a :class:`FileSink` does.
    """
    result, summary = write_audit(history[-1], folder), _summaries.get(history[-1], ())
    written = bool(summary) and all(path.exists() for path in summary)
    return [result, result.with_suffix(".csv"), *(summary if written else write_summary(history, folder))]
