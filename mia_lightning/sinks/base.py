"""The base class of what is done with a finished audit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl

from mia_lightning.audit.config import AuditConfig
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.picture_files import Picture


class AuditSink:
    """What is done with a finished audit; override the methods that you need.

    ``MembershipAudit(sinks=[...])`` calls each of its sinks, in order, on the first process of a training. None of them
    has to do anything. A sink that raises is warned of, and the training goes on.

    Attributes:
        wants_pictures: Whether :meth:`show` needs pictures of samples, for which the model is run again.

    Example:
        >>> class Mail(AuditSink):
        ...     def write(self, trainer, result, step):
        ...         if result.auc > 0.7:
        ...             print(f"after {step} steps the AUC is {result.auc:.2f}")
    """

    wants_pictures: bool = False

    def open(self, trainer: pl.Trainer, config: AuditConfig, history: Sequence[AuditResult]) -> None:
        """Prepare for a training, or for a validation by itself, which are about to begin.

        Args:
            trainer: The trainer.
            config: Settings of the audit.
            history: Audits that a resumed training has already.
        """

    def hold(self, trainer: pl.Trainer, result: AuditResult) -> None:
        """Save an audit that waits for other audits of the same validation, in case that the process is killed in them.

        The project's own metrics are not known yet; :meth:`write` brings the complete audit.

        Args:
            trainer: The trainer.
            result: The audit, without ``meta["utility"]``.
        """

    def write(self, trainer: pl.Trainer, result: AuditResult, step: int) -> None:
        """Take an audit that is finished, at the end of its validation.

        Its metrics are logged already, by ``pl_module.log``.

        Args:
            trainer: The trainer.
            result: The audit.
            step: Step at which loggers put its metrics.
        """

    def show(self, trainer: pl.Trainer, result: AuditResult, pictures: Sequence[Picture], step: int) -> None:
        """Show an audit in pictures, every ``figures_every_n_audits`` audits and in the end; :meth:`write` came first.

        Args:
            trainer: The trainer.
            result: The audit.
            pictures: Samples worth a look; none where no sink wants them, or the data cannot be read by position.
            step: Step at which loggers put its metrics.
        """

    def close(self, trainer: pl.Trainer, history: Sequence[AuditResult]) -> None:
        """Finish, when a training has ended or was broken off.

        Args:
            trainer: The trainer.
            history: All audits, in order; empty where there was none.
        """

    def attach(self, trainer: pl.Trainer, paths: Sequence[Path]) -> None:
        """Keep reports that were written after the training.

        Args:
            trainer: The trainer.
            paths: Files of the report.
        """


def logged_step(trainer: pl.Trainer) -> int:
    """Step at which Lightning logs scalars: it counts batches, where global_step counts the steps of all optimizers."""
    return int(getattr(trainer.fit_loop.epoch_loop, "_batches_that_stepped", trainer.global_step))
