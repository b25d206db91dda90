"""The membership audit as a Lightning callback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerFn

from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.config import AuditConfig, AuditOptions, refuse_unknown
from mia_lightning.audit.distributed import failing_together
from mia_lightning.audit.isolation import isolated
from mia_lightning.audit.loading import Source
from mia_lightning.audit.progress import no_progress, rich_progress
from mia_lightning.callbacks.board import logged_step, write_words
from mia_lightning.callbacks.drawing import draw
from mia_lightning.callbacks.frame import Frame
from mia_lightning.callbacks.keeping import HistoryCallback
from mia_lightning.callbacks.outputs import finish, keep, say, shielded, utility_of, warn_of_earlier, write_curve
from mia_lightning.callbacks.trainer_conditions import (
    audited_module,
    augmentations_of,
    conditions,
    datamodule_of,
    go_before_weight_averaging,
    is_last,
    is_time,
    looks_of,
    meta_of,
    refuse_namesakes,
    refuse_tensor_parallel,
    warn_before_training,
    warn_of_excluded,
    warn_of_no_audit,
    warn_of_sparse_keys,
    warn_of_weak_neighbours,
    writes_files,
)
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.scores.summary import worth_logging


class MembershipAudit(HistoryCallback):
    """Audits the model at validation epochs and logs how much of its training set it gives away.

    In a project of your own::

        audit = MembershipAudit(members=train_set, nonmembers=held_out_set)
        Trainer(callbacks=[audit]).fit(model, train_loader, val_loader)
        audit.result.metrics["audit/auc"]

    Training goes on as if the audit had not happened, to the bit: module modes, gradients and the states of all random
    generators are put back. The metrics go through ``pl_module.log``: ``EarlyStopping("audit/auc", mode="min")`` and
    ``ModelCheckpoint(monitor="audit/auc", mode="min")`` work.

    Both sides should be shown under *evaluation* transforms: augmented members are not what the model was trained on.

    Args:
        members: Samples the model is trained on: a data set or a loader. None (with ``nonmembers=None``):
            ``trainer.datamodule.audit_dataloaders()``. Loaders are rebuilt unshuffled, and nothing is dropped.
        nonmembers: Samples of the same kind that it is not trained on.
        config: The settings; None is all defaults.
        every_n_epochs: Audit in every validation run of an epoch with ``(epoch + 1) % n == 0``, and of the last epoch.
        verbose: Print a line for each audit.
        figures_every_n_audits: Run the most telling samples again and draw them, for TensorBoard and ``output_dir``,
            with the ROC: at the first audit, each n-th after it, and the last of the training.
        **options: Fields of :class:`~mia_lightning.AuditConfig`, which replace those of ``config``; into
            ``output_dir`` go one JSON and one CSV an audit, and in the end a table of all and a picture of the curve.

    Attributes:
        result: The latest :class:`~mia_lightning.AuditResult`, None before the first audit.
        history: All of them, in order; kept in checkpoints.

    Raises:
        TypeError: If a keyword is no setting.
        ValueError: If a setting is out of range, or only one side is given.
    """

    def __init__(
        self,
        members: Source | None = None,
        nonmembers: Source | None = None,
        *,
        config: AuditConfig | None = None,
        every_n_epochs: int = 1,
        verbose: bool = True,
        figures_every_n_audits: int = 1,
        **options: Unpack[AuditOptions],
    ) -> None:
        refuse_unknown(options, "members", "nonmembers", "every_n_epochs", "verbose", "figures_every_n_audits")
        config = AuditConfig.of(config, **options)
        super().__init__(config.prefix)
        if (members is None) != (nonmembers is None):
            raise ValueError("Expected members and nonmembers together, or neither (then the datamodule gives both).")
        if any(isinstance(source, Iterator) for source in (members, nonmembers)):
            raise TypeError(
                "Expected members and nonmembers that can be read at every audit, but got a generator. Wrap it in a "
                "torch.utils.data.IterableDataset that starts it anew."
            )
        if every_n_epochs < 1:
            raise ValueError(f"Expected every_n_epochs >= 1, but got {every_n_epochs}.")
        if figures_every_n_audits < 1:
            raise ValueError(f"Expected figures_every_n_audits >= 1, but got {figures_every_n_audits}.")
        self.auditor = Auditor(config, output_dir=None)  # files are named by epochs here
        self.members, self.nonmembers = members, nonmembers
        self.every_n_epochs, self.output_dir, self.verbose = every_n_epochs, config.output_dir, verbose
        self._sources: tuple[Source, Source] | None = None
        self.figures_every_n_audits = figures_every_n_audits
        self._frame = Frame(self)
        self._undrawn: int | None = None  # the step of the latest audit, if it has no figures yet
        self._audits_before = 0  # when this training began
        self._unfinished = False  # whether the latest audit waits for the validation to end
        self._left_out: int | None = None  # the epoch that was validated last, if it was not audited

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the data and say what cannot work, before anything is trained."""
        del pl_module
        if stage not in (TrainerFn.FITTING, TrainerFn.VALIDATING):
            return
        self._sources, self._frame = None, Frame(self)
        if self.members is None and not hasattr(datamodule_of(trainer), "audit_dataloaders"):
            raise ValueError(
                "MembershipAudit has no data: pass members= and nonmembers= (data sets or loaders), or train with a "
                "datamodule that has audit_dataloaders() -> (members, nonmembers)."
            )
        self.auditor.augmentations = augmentations_of(trainer)
        refuse_namesakes(trainer, self.prefix)
        refuse_tensor_parallel(trainer)
        warn_of_sparse_keys(trainer, self.prefix, self.every_n_epochs)
        go_before_weight_averaging(trainer, self)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Try one sample of each side, and say if there will be no audit."""
        members, nonmembers = self.sources(trainer)
        told = conditions(trainer, pl_module)
        self.auditor.check(audited_module(trainer, pl_module), members, nonmembers, **told)
        warn_of_weak_neighbours(self.auditor.neighbours(members, prepare=told["prepare"]))
        warn_before_training(trainer)
        self._audits_before = len(self.history)
        if not self.history and self.output_dir is not None and writes_files(trainer):
            warn_of_earlier(self.output_dir, self.prefix)
        self._frame.hold(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning has logged the hyperparameters by now."""
        self._frame.release()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Audit, where it is time to."""
        if is_time(trainer, self.every_n_epochs):
            self._audit(trainer, pl_module)
            self._left_out, self._unfinished = None, True
        elif not trainer.sanity_checking:
            self._left_out = trainer.current_epoch

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add to the audit the metrics of the validation, all known by now, before checkpoints are written."""
        if self._unfinished:
            self._unfinished = False
            finish(trainer, self.history[-1], self.output_dir, verbose=self.verbose)
        if not trainer.sanity_checking:
            self._frame.write(trainer, utility_of(trainer))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget an epoch that turned out not to be the last."""
        self._left_out = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Audit the last epoch where a callback that decides after us, as EarlyStopping does, made it the last."""
        if self._left_out is not None:
            result = self._audit(trainer, pl_module, self._left_out, log=False)
            self._left_out = None
            finish(trainer, result, self.output_dir, verbose=self.verbose)
            for logger in trainer.loggers:  # the module's log is closed by now
                logger.log_metrics(worth_logging(result.metrics, self.prefix), step=logged_step(trainer))
        elif len(self.history) == self._audits_before:
            warn_of_no_audit(trainer, self.every_n_epochs)
        if self._undrawn is not None:
            self._draw(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the history of the samples and the curve, and say where they are."""
        with shielded("Writing the history of the audits"):
            self._frame.close(trainer)
            if self.output_dir is not None and self.history and writes_files(trainer):
                paths = write_curve(self.history, self.output_dir)
                if self.verbose:
                    say(trainer, f"Audits: {self.output_dir}, with {' and '.join(p.name for p in paths)}")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write it for a training that is broken off, too."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.on_fit_end(trainer, pl_module)

    def run(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> AuditResult:
        """Audit at once, whatever the epoch or the stage; nothing is logged or written.

        Args:
            trainer: A trainer that is running, so that the model is where it belongs.
            pl_module: Its module.

        Returns:
            The result, also the last of :attr:`history`.
        """
        self.auditor.augmentations = augmentations_of(trainer)
        refuse_tensor_parallel(trainer)
        members, nonmembers = self.sources(trainer)
        shows = trainer.is_global_zero and trainer.progress_bar_callback is not None
        result = self.auditor.run(
            audited_module(trainer, pl_module),
            members,
            nonmembers,
            meta=meta_of(trainer, given=self.members is not None),
            looks=looks_of(trainer, sum(r.meta["stage"] == "fit" for r in self.history), self.every_n_epochs),
            progress=rich_progress if shows else no_progress,
            **conditions(trainer, pl_module),
        )
        self.history.append(result)
        warn_of_excluded(result)
        return result

    def _audit(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int | None = None, *, log: bool = True
    ) -> AuditResult:
        result = self.run(trainer, pl_module)
        if epoch is not None:
            result.meta["epoch"] = epoch
        if log:  # equal on all processes; without sync_dist Lightning warns, key by key
            pl_module.log_dict(worth_logging(result.metrics, self.prefix), sync_dist=True)
        keep(trainer, result, self.output_dir)
        with shielded("Writing an audit to TensorBoard"):
            write_words(trainer, result)
        self._undrawn = logged_step(trainer)
        if is_last(trainer) or (len(self.history) - 1) % self.figures_every_n_audits == 0:
            self._draw(trainer, pl_module)
        return result

    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step, self._undrawn = self._undrawn or 0, None
        result, sources = self.history[-1], self.sources(trainer)
        # The passes for the pictures may be a collective: all processes are here by now.
        with failing_together(trainer.strategy.root_device):
            draw(trainer, pl_module, self.auditor, sources, result, step, self.output_dir)

    def sources(self, trainer: pl.Trainer) -> tuple[Source, Source]:
        """Members and nonmembers: the user's, or what the data module gives."""
        if self._sources is None:
            if self.members is not None and self.nonmembers is not None:
                self._sources = (self.members, self.nonmembers)
            else:
                # It may split or seed, and read files that one process does not have.
                with failing_together(trainer.strategy.root_device), isolated(None):
                    self._sources = datamodule_of(trainer).audit_dataloaders()
        assert self._sources is not None
        return self._sources
