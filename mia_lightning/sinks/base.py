"""The base class of what is done with a finished audit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_lightning.audit.config import AuditConfig
from mia_lightning.lightning_packages.loaded import FITTING, classes
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.failed_audit import FailedAudit
from mia_lightning.result.picture_files import Picture

if TYPE_CHECKING:
    import lightning.pytorch as pl


class AuditSink:
    """What is done with a finished audit; override the methods that you need.

    ``MembershipAudit(sinks=[...])`` calls each of its sinks, in order, on the first process of a training, in place of
    those for the trainer's loggers; ``output_dir`` and ``verbose`` keep their meaning. A sink that raises is warned of,
    and the training goes on. ``step`` is where loggers put an audit's metrics, and ``history`` all audits of the
    training so far, in order.

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
        """Prepare for a training, or for a validation by itself, which are about to begin."""

    def start(self, trainer: pl.Trainer) -> None:
        """Begin a training: by now its loggers have the hyperparameters."""

    def hold(self, trainer: pl.Trainer, result: AuditResult) -> None:
        """Save an audit before other audits of the validation are made, lest a kill in them loses it.

        The project's own metrics, ``meta["utility"]``, are not known yet; :meth:`write` brings the complete audit.
        """

    def write(self, trainer: pl.Trainer, result: AuditResult, step: int) -> None:
        """Take an audit that is finished, at the end of its validation; the loggers have its metrics by now."""

    def record_failure(self, trainer: pl.Trainer, failure: FailedAudit, step: int) -> None:
        """Take note of an audit that failed, at the end of its validation, where :meth:`write` would have come."""

    def show(self, trainer: pl.Trainer, result: AuditResult, pictures: Sequence[Picture], step: int) -> None:
        """Show an audit in pictures, every ``figures_every_n_audits`` audits and in the end; :meth:`write` came first.

        ``pictures`` are samples worth a look; none where no sink wants them, or the data cannot be read by position.
        """

    def end_validation(self, trainer: pl.Trainer, utility: Sequence[str]) -> None:
        """Note that a validation has ended, audited or not; ``utility`` are the keys of the project's own metrics."""

    def close(self, trainer: pl.Trainer, history: Sequence[AuditResult]) -> None:
        """Finish, when a training or a validation has ended or was broken off, even without an audit."""

    def attach(self, trainer: pl.Trainer, paths: Sequence[Path]) -> None:
        """Keep the files of a report that was written after the training."""


def loggers_of(trainer: pl.Trainer, kind: str) -> list[Any]:
    """The loggers of one kind, such as ``"TensorBoardLogger"``, that a trainer has."""
    return [logger for logger in trainer.loggers if isinstance(logger, classes(f"loggers.{kind}"))]


def logged_step(trainer: pl.Trainer) -> int:
    """Step at which Lightning logs scalars: it counts batches, where global_step counts the steps of all optimizers."""
    return int(getattr(trainer.fit_loop.epoch_loop, "_batches_that_stepped", trainer.global_step))


def validation_loop(trainer: pl.Trainer) -> Any:
    """The loop of the validation that a trainer runs: that of its training, or the one of a validation by itself."""
    return trainer.fit_loop.epoch_loop.val_loop if trainer.state.fn == FITTING else trainer.validate_loop
