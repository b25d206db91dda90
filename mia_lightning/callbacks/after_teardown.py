"""What is to happen when a training is over and everybody has been told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mia_lightning.lightning_packages.bases import Callback

if TYPE_CHECKING:
    import lightning.pytorch as pl


class AfterTeardown(Callback):
    """Comes after everything else when a training has ended, so that an error then costs nobody anything.

    Args:
        finish: Called with the trainer, after callbacks, module and loggers were told the end.
    """

    def __init__(self, finish: Callable[[pl.Trainer], None]) -> None:
        self.finish = finish

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finish."""
        try:
            self.finish(trainer)
        except BaseException:
            # What Lightning would do after this hook.
            pl_module.teardown(stage)
            for logger in trainer.loggers:
                logger.finalize("success")
            raise
