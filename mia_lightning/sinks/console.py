"""The line that an audit prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning_utilities.core.rank_zero import rank_zero_info

from mia_lightning.lightning_packages.loaded import FITTING
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.failed_audit import FailedAudit
from mia_lightning.result.remarks import readings
from mia_lightning.result.verdict import headline
from mia_lightning.sinks.base import AuditSink

if TYPE_CHECKING:
    import lightning.pytorch as pl


class ConsoleSink(AuditSink):
    """Prints a line for each audit, and once how the data were read."""

    def __init__(self) -> None:
        self._readings = ""  # those printed last

    def write(self, trainer: pl.Trainer, result: AuditResult, step: int) -> None:
        """Print the headline, after the readings where they are new."""
        if (found := readings(result)) != self._readings:
            self._readings = found
            print_line(trainer, f"Audit: {found}.")
        print_line(trainer, headline(result))

    def close(self, trainer: pl.Trainer, history: Sequence[AuditResult]) -> None:
        """Print what puts the last audit of a training in doubt; while a model is learning, it says little."""
        caution = history[-1].meta.get("plausibility", {}).get("caution") if history else None
        if caution and trainer.state.fn == FITTING:
            print_line(trainer, f"Audit: {caution}")

    def record_failure(self, trainer: pl.Trainer, failure: FailedAudit, step: int) -> None:
        """Print that there is no result, and why."""
        print_line(trainer, failure.sentence.splitlines()[0])


def print_line(trainer: pl.Trainer, line: str) -> None:
    """Print a line on the first process, above the progress bar, or as Lightning prints its own where there is none."""
    bar = trainer.progress_bar_callback
    if bar is None:
        rank_zero_info(line)
    elif trainer.is_global_zero:
        bar.print(line)
