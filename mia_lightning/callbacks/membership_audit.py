"""The membership audit as a Lightning callback."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Unpack, cast

import torch

from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.class_names import names_in
from mia_lightning.audit.config import AuditConfig, AuditOptions, refuse_unknown
from mia_lightning.audit.distributed import failing_together, forward_is_collective, reason_of
from mia_lightning.audit.isolation import isolated
from mia_lightning.audit.loading import Source
from mia_lightning.audit.progress import no_progress, rich_progress
from mia_lightning.audit.target_range import UNIT
from mia_lightning.callbacks.after_teardown import AfterTeardown
from mia_lightning.callbacks.averaging import AVERAGED, AfterTraining, averages, put_last, sums_of, take_out
from mia_lightning.callbacks.membership_record import record_membership, run_folder, verify_validated
from mia_lightning.callbacks.monitors import same_value, values_after_failure, values_of, warn_of_first_value
from mia_lightning.callbacks.schedule import go_before_weight_averaging, is_last, is_last_look, is_time, looks_left
from mia_lightning.callbacks.step_inputs import StepInputs
from mia_lightning.callbacks.trainer_checks import (
    refuse_namesakes,
    refuse_tensor_parallel,
    warn_before_training,
    warn_of_excluded,
    warn_of_failure,
    warn_of_no_audit,
    warn_of_sparse_keys,
    warn_of_weak_neighbours,
)
from mia_lightning.callbacks.trainer_state import (
    audited_module,
    audits_of,
    augmentations_of,
    batches_begun,
    callbacks_of,
    context_of,
    datamodule_of,
    failing_on_all,
    runtime_of,
    utility_of,
)
from mia_lightning.checkpoints.audited_samples import keep_replaced, with_samples, without_samples
from mia_lightning.checkpoints.training_step import counters_of, step_of_trainer
from mia_lightning.lightning_packages.bases import Callback, put_first
from mia_lightning.lightning_packages.loaded import FITTING, VALIDATING
from mia_lightning.membership.record import ENTRY, MembershipSummary
from mia_lightning.result.atomic_files import require_writable
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.context import AuditContext
from mia_lightning.result.failed_audit import FAILED, FailedAudit
from mia_lightning.result.history import in_training, to_plain
from mia_lightning.result.limits import LimitExceededError, LimitsOutcome, check_limits, checked_limits
from mia_lightning.result.picture_files import Picture
from mia_lightning.scores.look_sequence import LookSequence, LookState
from mia_lightning.sinks.base import AuditSink, logged_step, validation_loop
from mia_lightning.sinks.defaults import sinks_of
from mia_lightning.sinks.sample_pictures import pictures_of
from mia_lightning.sinks.scalars import ScalarLog, scalar_step

if TYPE_CHECKING:
    import lightning.pytorch as pl

NOT_VALIDATED = (
    "This audit is of the weights that the training leaves behind, which it trained on after its last validation."
)


class _Unfinished(NamedTuple):
    """An audit that waits for the end of its validation, when the project's own metrics are known."""

    result: AuditResult | FailedAudit
    step: int
    pictures: list[Picture] | None = None  # None where no figures are due


class MembershipAudit(Callback):
    """Audits the model at validation epochs and logs how much of its training set it gives away.

    In a project of your own::

        audit = MembershipAudit(members=train_set, nonmembers=held_out_set)
        Trainer(callbacks=[audit]).fit(model, train_loader, val_loader)
        audit.result.metrics["audit/auc"]

    Training goes on as if the audit had not happened, to the bit: module modes, gradients and the states of all random
    generators are put back. The metrics go through ``pl_module.log``: ``EarlyStopping("audit/auc", mode="min",
    strict=False)`` and ``ModelCheckpoint(monitor="audit/auc", mode="min")`` work.

    Nor does an audit end a training. What can be known is raised before it begins: the first batches of both sides are
    audited then. What fails later is warned of and recorded in :attr:`failures`, in ``output_dir`` and in the report;
    monitors get the last values again, and from then on ``audit/failed`` says whether the latest audit failed.

    Unless ``scores`` or ``primary`` are passed, the last audit of a training reports all attacks, and its verdict rests
    on the strongest; those before stay cheap. ``audit/auc`` is that of one score throughout. Where a training ends
    earlier than was planned, as by ``EarlyStopping``, its last audit is made again in the end, of the same weights, and
    takes the place of the first one in :attr:`history`; where the weights were trained on after it, those that the
    training leaves behind are audited as well. A training that is broken off keeps what it has.

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
        sinks: Where each audit goes beside ``output_dir`` and, with ``verbose``, the screen; None is the usual: the
            TensorBoard, Weights & Biases and MLflow loggers of the trainer. Sinks of yours take their place. Scalars go
            to every logger of the trainer in any case.
        on_error: What becomes of a training whose audit fails: ``"warn"`` lets it go on, ``"raise"`` ends it.
        fail_above: Limits by metric, such as ``{"auc": 0.6}``, of the verdict's score or of another (``auc/combined``).
            Where the lower bound of one, at all looks together, is above its limit, the training stops after that
            epoch as by early stopping (not before ``min_epochs``), and raises
            :class:`~mia_lightning.result.limits.LimitExceededError` at the very end, when all callbacks and loggers
            have done their work.
        **options: Fields of :class:`~mia_lightning.AuditConfig`, which replace those of ``config``; into
            ``output_dir`` go one JSON and one CSV an audit, and in the end tables of all and a picture of the curve.

    Attributes:
        result: The latest :class:`~mia_lightning.AuditResult` of the history, None before the first. With processes
            that are spawned (``ddp_spawn``) it is known in these alone: read ``output_dir``.
        history: All of them, in order; kept in checkpoints. An audit joins in ``on_validation_end``, complete with the
            project's own metrics: hooks before it, as ``on_validation_epoch_end``, find the audit of before.
        failures: The audits that failed while the training went on, a
            :class:`~mia_lightning.result.failed_audit.FailedAudit` each, in order; kept in checkpoints.
        trained_on: What checkpoints say of the members of this training; None before it, and on processes but the
            first.
        exceeded: What was found of the limits ``fail_above`` where one is exceeded; None otherwise.

    Raises:
        TypeError: If a keyword is no setting.
        ValueError: If a setting is out of range, or only one side is given.
    """

    def __init__(  # noqa: PLR0913 - each is an option of its own
        self,
        members: Source | None = None,
        nonmembers: Source | None = None,
        *,
        config: AuditConfig | None = None,
        every_n_epochs: int = 1,
        verbose: bool = True,
        figures_every_n_audits: int = 1,
        sinks: Sequence[AuditSink] | None = None,
        on_error: Literal["warn", "raise"] = "warn",
        fail_above: Mapping[str, float] | None = None,
        **options: Unpack[AuditOptions],
    ) -> None:
        super().__init__()
        own = inspect.signature(MembershipAudit).parameters.values()
        refuse_unknown(options, *(p.name for p in own if p.kind != p.VAR_KEYWORD))
        config = AuditConfig.of(config, **options)
        if (members is None) != (nonmembers is None):
            raise ValueError("Expected members and nonmembers together, or neither (then the datamodule gives both).")
        if any(isinstance(source, Iterator) for source in (members, nonmembers)):
            raise TypeError(
                "Expected members and nonmembers that can be read at every audit, but got a generator. Wrap it in a "
                "torch.utils.data.IterableDataset that starts it anew."
            )
        for name, n in (("every_n_epochs", every_n_epochs), ("figures_every_n_audits", figures_every_n_audits)):
            if n < 1:
                raise ValueError(f"Expected {name} >= 1, but got {n}.")
        if on_error not in ("warn", "raise"):
            raise ValueError(f"Expected on_error to be 'warn' or 'raise', but got {on_error!r}.")
        self.auditor = Auditor(config, output_dir=None)  # files are named by epochs here
        self.prefix, self.on_error = config.prefix, on_error
        self.history, self.failures = list[AuditResult](), list[FailedAudit]()
        self.members, self.nonmembers = members, nonmembers
        self.every_n_epochs, self.output_dir, self.verbose = every_n_epochs, config.output_dir, verbose
        self.figures_every_n_audits, self.sinks = figures_every_n_audits, sinks
        self.trained_on: MembershipSummary | None = None
        self.fail_above = checked_limits(fail_above or {})
        self.exceeded: LimitsOutcome | None = None
        self._sinks: Sequence[AuditSink] = ()  # those in use
        self._scalars = ScalarLog(config)
        self._sources: tuple[Source, Source] | None = None
        self._unfinished: _Unfinished | None = None
        self._undrawn: int | None = None  # the step of the latest audit, if it has no figures yet
        self._run_folder: Path | None = None  # of the training; None where nothing is written
        self._audits_before = 0  # when this training began, failed ones included
        self._looks = LookSequence()
        self._step_inputs = StepInputs(self.auditor.adapter)
        self._after, self._stop = AfterTraining(self._end), AfterTeardown(self._raise_if_exceeded)
        self._weights: list[float] | None = None  # sums of those audited last, where a callback averages weights
        self._returned: list[dict[str, Any]] = []  # what a validation by itself will return
        self._passed_over: int | None = None  # the epoch that was validated last, if it was not audited
        self._cheap: int | None = None  # batches before the latest audit, if that was not planned to be the last

    @property
    def result(self) -> AuditResult | None:
        """The latest result, None before the first audit has joined the history; failed ones have none."""
        return self.history[-1] if self.history else None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the data and say what cannot work, before anything is trained."""
        put_first(trainer)
        if stage not in (FITTING, VALIDATING):
            return
        self._sources, self._sinks = None, ()
        if stage == FITTING:
            self.exceeded = None
            checked_limits(self.fail_above, in_training=True)
        if self.members is None and not hasattr(datamodule_of(trainer), "audit_dataloaders"):
            raise ValueError(
                "MembershipAudit has no data: pass members= and nonmembers= (data sets or loaders), or train with a "
                "datamodule that has audit_dataloaders() -> (members, nonmembers)."
            )
        self.auditor.augmentations = augmentations_of(trainer)
        self.auditor.class_names = names_in(datamodule_of(trainer), pl_module)
        refuse_namesakes(trainer, self.prefix)
        refuse_tensor_parallel(trainer)
        warn_of_sparse_keys(trainer, self.prefix, self.every_n_epochs)
        if self.on_error == "warn":
            warn_of_first_value(trainer, self.prefix)
        go_before_weight_averaging(trainer, self)
        if stage == FITTING and averages(trainer):
            put_last(trainer, self._after)
        if stage == FITTING and self.fail_above:
            put_last(trainer, self._stop)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Try the first batches of each side, and say if there will be no audit."""
        if self.output_dir is not None and not cast(Any, trainer).fast_dev_run:
            with failing_on_all(trainer):
                require_writable(self.output_dir)
        members, nonmembers = self.sources(trainer)
        runtime = runtime_of(trainer, pl_module)
        self.auditor.check(audited_module(trainer, pl_module), members, nonmembers, runtime=runtime)
        by_hand, self._run_folder = self.members is not None, run_folder(trainer)
        self.trained_on = record_membership(trainer, members, nonmembers, by_hand=by_hand, earlier=self.trained_on)
        warn_of_weak_neighbours(self.auditor.neighbours(members, runtime=runtime))
        warn_before_training(trainer)
        self._audits_before, self._cheap = len(self.history) + len(self.failures), None
        self._open_sinks(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell the sinks that the loggers have the hyperparameters."""
        self._tell(trainer, lambda sink: sink.start(trainer))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the sinks for a validation by itself."""
        if trainer.state.fn == VALIDATING:
            self._open_sinks(trainer)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Watch the first step of a validation, which may do to its batch what an audit does not see."""
        self._step_inputs.begin(trainer, pl_module, batch)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Compare what that step has given to the networks with what an audit gives to them."""
        self._step_inputs.end(trainer, pl_module, runtime_of(trainer, pl_module))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Audit, where it is time to, early enough for the monitors of this epoch."""
        if is_time(trainer, self.every_n_epochs):
            if trainer.state.fn == VALIDATING:
                self._returned = validation_loop(trainer)._logged_outputs
            values = self._audit(trainer, pl_module, trainer.current_epoch)
            # Equal on all processes; without sync_dist Lightning warns, key by key. Loggers are written to in the end.
            pl_module.log_dict(values, sync_dist=True, logger=False)
        elif not trainer.sanity_checking:
            self._passed_over = trainer.current_epoch

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Complete the audit, before checkpoints are written: the metrics of the validation are known now."""
        if self._unfinished is not None:
            self._unfinished = self._unfinished._replace(step=scalar_step(trainer, self._unfinished.step))
            self._finish(trainer)
        if not trainer.sanity_checking:
            keys = list(utility_of(trainer))
            self._tell(trainer, lambda sink: sink.end_validation(trainer, keys))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget an epoch that turned out not to be the last."""
        self._passed_over = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Audit the last epoch where a callback that decides after us, as EarlyStopping does, made it the last.

        Where a callback averages weights, this waits until it has put those in place that the training leaves behind,
        which are audited, too, if no validation has seen them.
        """
        if self._after not in callbacks_of(trainer):
            self._end(trainer, pl_module)

    def _end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._passed_over is not None:
            self._audit(trainer, pl_module, self._passed_over, last=True)
            self._finish(trainer)
        elif self._weights is not None and self._weights != sums_of(pl_module):
            self._audit(trainer, pl_module, None, last=True)
            self._finish(trainer)
        elif self._cheap is not None and self._cheap == batches_begun(trainer):
            self._audit_again(trainer, pl_module)
        elif self._cheap is not None:
            self._audit(trainer, pl_module, trainer.current_epoch - 1, last=True, notes=(NOT_VALIDATED,))
            self._finish(trainer, broken_off=True)
        elif len(self.history) + len(self.failures) == self._audits_before:
            warn_of_no_audit(trainer, self.every_n_epochs)
        if self._undrawn is not None:
            self._show(trainer, self.history[-1], self._pictures(trainer, pl_module, self.history[-1]), self._undrawn)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the sinks: files of the whole history are written, and the curve."""
        self._close(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the sinks of a validation by itself."""
        take_out(trainer, self._after)
        take_out(trainer, self._stop)  # from the next list of callbacks; of this one it is still called
        if stage == VALIDATING:
            self._close(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Keep what was audited of a training that is broken off, an audit that waits for its validation included."""
        if self._unfinished is not None:
            self._finish(trainer, broken_off=True)
        if trainer.state.fn in (FITTING, VALIDATING) and not isinstance(exception, LimitExceededError):
            self._close(trainer)

    def run(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        context: AuditContext | None = None,
        earlier: Sequence[AuditResult] = (),
    ) -> AuditResult:
        """Audit at once, whatever the epoch or the stage; nothing is logged or written, but :attr:`history` grows.

        Args:
            trainer: A trainer that is running, so that the model is where it belongs.
            pl_module: Its module.
            context: What is known around the audit; None is what the trainer knows.
            earlier: Audits of the same training before those in :attr:`history`, for scores that need them.
        """
        context, looks = context or self._context(trainer), self._next_look(trainer, last=True)
        result = self._measure(trainer, pl_module, context, (*earlier, *self.history), looks=looks)
        self.history.append(result)
        self._looks.keep()
        return self.history[-1]

    def pictures(self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: AuditResult) -> list[Picture]:
        """Run the most telling samples again, as the audit ran them. Call on every process.

        Returns:
            Pictures, on the first process; none where the data cannot be read by position.
        """
        module, sources = audited_module(trainer, pl_module), self.sources(trainer)
        # The passes may be a collective: all processes are here.
        with failing_together(trainer.strategy.root_device):
            if not (trainer.is_global_zero or forward_is_collective(module)):
                return []
            return pictures_of(result, self.auditor, module, sources, runtime=runtime_of(trainer, pl_module))

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

    def attach(self, trainer: pl.Trainer, paths: Sequence[Path]) -> None:
        """Hand the files of a report that was written after the training to the sinks."""
        if paths:
            self._tell(trainer, lambda sink: sink.attach(trainer, paths))

    @property
    def state_key(self) -> str:
        """Name of this audit's entry in a checkpoint; differs with the prefix, so that several audits can be kept."""
        # As Lightning generates it, which may not be loaded yet.
        return f"{type(self).__qualname__}{ {'prefix': self.prefix}!r}"

    def state_dict(self) -> dict[str, Any]:
        """Keep the history, and what is said of the members of the training, as plain Python and tensors."""
        trained_on = {} if self.trained_on is None else {ENTRY: self.trained_on.to_plain()}
        failures = [failure.to_plain() for failure in self.failures]
        settled = self.auditor.target_range  # data that say (0, 1) say it again
        unit = {} if settled in (None, UNIT) else {"target_range": [*settled]}
        looks = {"looks": self._looks.state.to_plain()} if self._looks.state.number else {}
        return {"history": to_plain(self.history), "failures": failures, **unit, **trained_on, **looks}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Leave the samples of the audits in the run's folder, where there is one: checkpoints get published."""
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if state is not None and self._run_folder is not None and trainer.is_global_zero:
            state["history"] = without_samples(self.history, self._run_folder, self.output_dir)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the samples of the audits back."""
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if state is not None:
            state["history"] = with_samples(state["history"], trainer.ckpt_path)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the curve where the checkpoint left it."""
        self.history = [AuditResult.from_plain(r) for r in state_dict["history"]]
        self.failures = [FailedAudit.from_plain(f) for f in state_dict.get("failures", [])]
        self.trained_on = MembershipSummary.from_plain(state_dict.get(ENTRY))
        if (settled := state_dict.get("target_range")) is not None:
            self.auditor.target_range = settled[0], settled[1]  # errors keep their unit
        self._looks = LookSequence()
        if (looks := state_dict.get("looks")) is not None:
            self._looks.state = LookState.from_plain(looks)

    def _close(self, trainer: pl.Trainer) -> None:
        self._tell(trainer, lambda sink: sink.close(trainer, self.history))

    def _raise_if_exceeded(self, trainer: pl.Trainer) -> None:
        """Say so when all is written: the error of another process than the first is no failure of its own."""
        if self.exceeded is not None:
            raise LimitExceededError(self.exceeded, None if trainer.is_global_zero else 0)

    def _check_limits(self, trainer: pl.Trainer) -> None:
        """Stop a training that is above a limit, on all processes, which have the same results."""
        if not self.fail_above or self.exceeded is not None or trainer.state.fn != FITTING:
            return
        try:
            outcome = check_limits(self.fail_above, self.history[-1])
        except Exception as error:
            if self.on_error == "raise":
                raise
            warnings.warn(f"Limits were not checked ({type(error).__name__}: {error}).", stacklevel=2)
            return
        if outcome.finding == "above":
            self.exceeded, trainer.should_stop = outcome, True
            warnings.warn(f"The training stops after this epoch. {outcome}", stacklevel=2)

    def _open_sinks(self, trainer: pl.Trainer) -> None:
        self._sinks = sinks_of(trainer, self.output_dir, self.sinks, verbose=self.verbose)
        self._tell(trainer, lambda sink: sink.open(trainer, self.auditor.config, self.history))

    def _audit(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        epoch: int | None,
        *,
        last: bool = False,
        notes: Sequence[str] = (),
    ) -> dict[str, float]:
        """Measure, and run the samples to be shown again while the weights are still those that were audited.

        The audit, or the record of its failure, then waits for :meth:`_finish`. Averaged weights that the training
        leaves behind have no ``epoch``, and come one step after those of the last. The ``last`` audit of the training,
        as far as it is planned, has all attacks, where the settings leave that open.

        Returns:
            What the monitors of this validation are given.
        """
        step, self._passed_over = logged_step(trainer) + (epoch is None), None
        fitting = trainer.state.fn == FITTING
        last = last or (fitting and is_last_look(trainer, self.every_n_epochs))
        self._cheap = None if last or self.auditor.config.verdict != "auto" else batches_begun(trainer)
        try:
            with failing_on_all(trainer):
                context = self._context_at(trainer, epoch, step).with_notes(*notes)
                context = context.with_notes(AVERAGED) if fitting and epoch is None else context
                result = self._measure(
                    trainer, pl_module, context, self.history, looks=self._next_look(trainer, last=last)
                )
        except Exception as error:
            if self.on_error == "raise" or not fitting:
                raise
            failure = FailedAudit(reason_of(error), epoch, step_of_trainer(trainer), self.prefix)
            self._cheap = None
            self._unfinished = _Unfinished(failure, step)
            warn_of_failure(failure, error)
            return values_after_failure(trainer, self.history, self.prefix)
        self._unfinished = _Unfinished(result, step)
        self._weights = sums_of(pl_module) if self._after in callbacks_of(trainer) else None
        due = epoch is None or is_last(trainer) or len(self.history) % self.figures_every_n_audits == 0
        audits = audits_of(trainer)
        others = any(is_time(trainer, later.every_n_epochs) for later in audits[audits.index(self) + 1 :])
        if others:  # a kill in those must not lose this one
            self._tell(trainer, lambda sink: sink.hold(trainer, result))
        if due:
            self._unfinished = _Unfinished(result, step, self._pictures(trainer, pl_module, result))
        return values_of(result, self.prefix, failures=bool(self.failures))

    def _audit_again(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the latest audit again, of the same weights, as the last one: it takes the place of the first."""
        first, state, self._cheap = self.history[-1], self._looks.state, None
        step = int(first.meta["logged_step"])
        try:
            with failing_on_all(trainer):
                context = self._context_at(trainer, first.epoch, step).but(utility=first.meta.get("utility", {}))
                self._looks.take_back()
                result = self._measure(trainer, pl_module, context, self.history[:-1], looks=self._looks)
        except Exception as error:
            self._looks.state = state
            if self.on_error == "raise":
                raise
            warnings.warn(
                f"The last audit of the training could not be made with all attacks: its verdict rests on the "
                f"{first.verdict_score} score ({type(error).__name__}: {error}).",
                stacklevel=2,
            )
            return
        before, values = (values_of(r, self.prefix, failures=bool(self.failures)) for r in (first, result))
        trainer.logged_metrics.update({key: torch.tensor(value) for key, value in values.items()})
        if self._run_folder is not None and trainer.is_global_zero:
            keep_replaced(first, self._run_folder)
        self.history[-1] = result
        self._looks.keep()
        added = {key: value for key, value in values.items() if not same_value(value, before.get(key))}
        self._scalars.write(trainer, added, step)
        self._tell(trainer, lambda sink: sink.write(trainer, result, step))
        self._undrawn = step
        self._check_limits(trainer)

    @property
    def _wants_pictures(self) -> bool:
        return any(sink.wants_pictures for sink in self._sinks)

    def _measure(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        context: AuditContext,
        earlier: Sequence[AuditResult] = (),
        *,
        looks: LookSequence | int,
    ) -> AuditResult:
        self.auditor.augmentations = augmentations_of(trainer)
        self.auditor.class_names = names_in(datamodule_of(trainer), pl_module)
        refuse_tensor_parallel(trainer)
        members, nonmembers = self.sources(trainer)
        shows = trainer.is_global_zero and trainer.progress_bar_callback is not None
        result = self.auditor.run(
            audited_module(trainer, pl_module),
            members,
            nonmembers,
            context=context,
            looks=looks,
            history=[r for r in earlier if in_training(r)],
            runtime=runtime_of(trainer, pl_module),
            progress=rich_progress if shows else no_progress,
        )
        warn_of_excluded(result)
        return result

    def _next_look(self, trainer: pl.Trainer, *, last: bool) -> LookSequence | int:
        """The looks at the training, the next one announced; outside of a training, one."""
        if trainer.state.fn != FITTING:
            return 1
        left = looks_left(trainer, self.every_n_epochs, averaged=self._after in callbacks_of(trainer))
        self._looks.plan(left, sum(r.meta.get("stage") == "fit" for r in self.history), last=last)
        return self._looks

    def _finish(self, trainer: pl.Trainer, *, broken_off: bool = False) -> None:
        """Complete the audit that waits, and hand it on; where its validation is ``broken_off``, without metrics."""
        assert self._unfinished is not None
        (result, step, pictures), self._unfinished = self._unfinished, None
        if isinstance(result, FailedAudit):
            self.failures.append(result)
            self._undrawn = None  # the weights of the audit before are gone
            self._scalars.write(trainer, {f"{self.prefix}/{FAILED}": 1.0}, step)
            failure = result
            self._tell(trainer, lambda sink: sink.record_failure(trainer, failure, step))
            return
        entries: dict[str, Any] = {} if result.meta.get("logged_step") == step else {"logged_step": step}
        if utility := {} if broken_off else self._utility(trainer):
            entries["utility"] = utility
        result = replace(result, meta=result.meta | entries)
        values = values_of(result, self.prefix, failures=bool(self.failures))
        for row in self._returned:
            row.update({key: torch.tensor(value) for key, value in values.items()})
        self._returned = []
        trainer.logged_metrics.update({key: torch.tensor(value) for key, value in values.items()})
        self.history.append(result)
        self._looks.keep()
        self._scalars.write(trainer, values, step)
        self._tell(trainer, lambda sink: sink.write(trainer, result, step))
        self._undrawn = step
        if pictures is not None:
            self._show(trainer, result, pictures, step)
        self._check_limits(trainer)

    def _show(self, trainer: pl.Trainer, result: AuditResult, pictures: list[Picture], step: int) -> None:
        self._undrawn = None
        self._tell(trainer, lambda sink: sink.show(trainer, result, pictures, step))

    def _pictures(self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: AuditResult) -> list[Picture]:
        """Pictures where a sink shows them; none where they fail, of which all processes know."""
        if not self._wants_pictures:
            return []
        try:
            return self.pictures(trainer, pl_module, result)
        except Exception as error:
            if self.on_error == "raise" or trainer.state.fn != FITTING:
                raise
            warnings.warn(
                f"The audit has no pictures of samples, and the training goes on ({type(error).__name__}: {error}).",
                stacklevel=2,
            )
            return []

    def _context_at(self, trainer: pl.Trainer, epoch: int | None, step: int) -> AuditContext:
        """What the trainer knows at an audit whose metrics are logged at a step."""
        context = self._context(trainer)
        context = context.but(epoch=epoch) if trainer.state.fn == FITTING else context
        # Lightning logs the validation after a step at the step before it: files say both.
        context = context.but(extra={**context.extra, **counters_of(trainer), "logged_step": step})
        return context.with_notes(self._step_inputs.note) if self._step_inputs.note else context

    def _context(self, trainer: pl.Trainer) -> AuditContext:
        by_hand = self.members is not None
        context = context_of(trainer, by_hand=by_hand)
        if trainer.state.fn != VALIDATING:
            return context
        sides = self.sources(trainer)
        return context.but(members=verify_validated(trainer, sides, by_hand=by_hand, state_key=self.state_key))

    def _utility(self, trainer: pl.Trainer) -> dict[str, float]:
        """The project's own metrics: they may be logged on one process only, or differ; the first decides for all."""
        return trainer.strategy.broadcast(utility_of(trainer))

    def _tell(self, trainer: pl.Trainer, moment: Callable[[AuditSink], None]) -> None:
        """Call each sink on the first process, so that nothing it does disturbs or ends the training."""
        for sink in self._sinks if trainer.is_global_zero else ():
            try:
                with isolated(None):
                    moment(sink)
            except Exception as error:
                warnings.warn(
                    f"{type(sink).__name__} of the audit failed, and the training goes on "
                    f"({type(error).__name__}: {error}).",
                    stacklevel=3,
                )
