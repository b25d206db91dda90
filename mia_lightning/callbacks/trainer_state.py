"""What an audit takes from the trainer around it: the model to call and how, and what is known of the training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from mia_lightning.audit.distributed import failing_together, forward_is_collective
from mia_lightning.audit.forward import Runtime
from mia_lightning.audit.isolation import uncompiled
from mia_lightning.audit.loading import Prepare, as_loaded
from mia_lightning.checkpoints.training_step import step_of_trainer
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.neighbours import AUGMENTATIONS
from mia_lightning.lightning_packages.bases import Callback
from mia_lightning.lightning_packages.loaded import FITTING, VALIDATING, classes, is_overridden
from mia_lightning.result.context import AuditContext
from mia_lightning.sinks.base import validation_loop

if TYPE_CHECKING:
    import lightning.pytorch as pl

_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


def callbacks_of(trainer: pl.Trainer) -> list[Callback]:
    """All callbacks of a trainer, in the order in which they are called."""
    return cast(Any, trainer).callbacks  # type: ignore[no-any-return]  # Lightning gives the trainer this attribute at run time


def audits_of(trainer: pl.Trainer) -> list[Any]:
    """The audits among the callbacks of a trainer."""
    return [c for c in callbacks_of(trainer) if hasattr(c, "auditor")]


def datamodule_of(trainer: pl.Trainer) -> Any:
    """The data module of a trainer, or None."""
    return cast(Any, trainer).datamodule


def augmentations_of(trainer: pl.Trainer) -> tuple[str, ...]:
    """What the data module says that it augments with, out of the names that matter to neighbours."""
    names = getattr(datamodule_of(trainer), "augmentations", ())
    return tuple(n for n in names if n in AUGMENTATIONS) if isinstance(names, (list, tuple)) else ()


def monitor_of(callback: Callback) -> str | None:
    """The metric by which a callback stops training or selects checkpoints."""
    kinds = classes("callbacks.EarlyStopping") + classes("callbacks.ModelCheckpoint")
    return callback.monitor if isinstance(callback, kinds) else None


def context_of(trainer: pl.Trainer, *, by_hand: bool) -> AuditContext:
    """What is known of the training around an audit; of samples passed ``by_hand`` the data module does not know."""
    fitting = trainer.state.fn == FITTING
    info = dict(getattr(None if by_hand else datamodule_of(trainer), "audit_info", dict)())
    monitors = [m for m in map(monitor_of, callbacks_of(trainer)) if m is not None and not m.startswith("train")]
    validates = info.get("nonmembers_validate")
    stages = {FITTING: "fit", VALIDATING: "validate"}
    return AuditContext(
        epoch=trainer.current_epoch if fitting else None,
        step=step_of_trainer(trainer),
        stage=stages.get(cast(Any, trainer.state.fn), "audit"),
        membership=info or {"assignment": "given"},
        # None: unknown, of a user's own nonmembers and of training that is over.
        nonmembers_select_checkpoints=bool(validates and monitors) if fitting and validates is not None else None,
    )


def batches_begun(trainer: pl.Trainer) -> int:
    """How many batches a training has begun so far: as long as it is the same, so are the weights."""
    return int(trainer.fit_loop.epoch_loop.batch_progress.total.ready)


def failing_on_all(trainer: pl.Trainer) -> AbstractContextManager[None]:
    """Run a block that, if it fails on one process of a trainer, fails on all."""
    return failing_together(trainer.strategy.root_device)


def utility_of(trainer: pl.Trainer) -> dict[str, float]:
    """The project's own validation metrics, finite and by key, as this process has them at the end of a validation."""
    # Not trainer.callback_metrics: there are learning rates and training losses among them, too.
    logged = validation_loop(trainer)._results.metrics(on_step=False)["callback"]
    audits = tuple(f"{c.prefix}/" for c in audits_of(trainer))
    values = {key: float(value) for key, value in logged.items() if not key.startswith(audits)}
    return {key: value for key, value in values.items() if math.isfinite(value)}


def audited_module(trainer: pl.Trainer, pl_module: pl.LightningModule) -> nn.Module:
    """What to call for a prediction: the strategy's wrapper where it gathers sharded weights, else the module itself.

    DistributedDataParallel only synchronises gradients: without it a forward pass waits for nobody.
    """
    wrapper = trainer.strategy.model
    if wrapper is None or type(wrapper).__name__ == "DistributedDataParallel":
        return pl_module
    return wrapper if forward_is_collective(wrapper) else pl_module


def runtime_of(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Runtime:
    """Where and how the auditor runs the model: as a validation of the trainer would."""

    @contextmanager
    def forward_context() -> Iterator[None]:
        with trainer.precision_plugin.forward_context(), uncompiled():
            yield

    # The strategy's device: weights that are offloaded between forward passes lie on the CPU.
    return Runtime(trainer.strategy.root_device, _batch_hooks(trainer, pl_module), forward_context)


def _batch_hooks(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Prepare:
    """What the project does with a validation batch between loader and step, such as normalising it on the device."""
    owners = [o for o in (pl_module, datamodule_of(trainer)) if o is not None]
    overridden = [h for h in _HOOKS if any(is_overridden(h, o) for o in owners)]
    if not overridden:
        return as_loaded

    def prepare(batch: Any) -> Any:
        before, trainer.validating = trainer.state.stage, True  # hooks ask: no augmentation
        try:
            batch = cast(Any, pl_module)._on_before_batch_transfer(batch, dataloader_idx=0)
            return trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        except Exception as error:
            raise TypeError(
                f"{', '.join(overridden)} (of {' or '.join(type(o).__name__ for o in owners)}) failed on a batch of "
                f"the audit ({type(error).__name__}: {error}): the batch is {describe(batch)}. Give members and "
                "nonmembers in the form that the training's own loaders have."
            ) from error
        finally:
            trainer.state.stage = before

    return prepare
