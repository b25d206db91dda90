"""The line that an audit prints."""

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info

from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.verdict import headline
from mia_lightning.sinks.base import AuditSink


class ConsoleSink(AuditSink):
    """Prints a line for each audit."""

    def write(self, trainer: pl.Trainer, result: AuditResult, step: int) -> None:
        """Print the headline."""
        print_line(trainer, headline(result))


def print_line(trainer: pl.Trainer, line: str) -> None:
    """Print a line on the first process, above the progress bar, or as Lightning prints its own where there is none."""
    bar = trainer.progress_bar_callback
    if bar is None:
        rank_zero_info(line)
    elif trainer.is_global_zero:
        bar.print(line)
