"""What an audit must know of the trainer around it: its other callbacks, its strategy, its data module."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.trainer.states import RunningStage, TrainerFn
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn

from mia_lightning.audit.distributed import forward_is_collective
from mia_lightning.audit.isolation import uncompiled
from mia_lightning.audit.loading import Prepare, as_loaded
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.neighbours import AUGMENTATIONS, Choice
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import stem

_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


def callbacks_of(trainer: pl.Trainer) -> list[Callback]:
    """All callbacks of a trainer, in the order in which they are called."""
    return cast(Any, trainer).callbacks  # type: ignore[no-any-return]  # Lightning gives the trainer this attribute at run time


def datamodule_of(trainer: pl.Trainer) -> Any:
    """The data module of a trainer, or None."""
    return cast(Any, trainer).datamodule


def augmentations_of(trainer: pl.Trainer) -> tuple[str, ...]:
    """What the data module says that it augments with, out of the names that matter to neighbours."""
    names = getattr(datamodule_of(trainer), "augmentations", ())
    return tuple(n for n in names if n in AUGMENTATIONS) if isinstance(names, (list, tuple)) else ()


def looks_of(trainer: pl.Trainer, before: int, every_n_epochs: int) -> int:
    """How many audits a training will have been looked at in: what the corrected p-value allows for.

    Args:
        trainer: The trainer.
        before: Number of audits so far.
        every_n_epochs: Cadence of the audits.

    Returns:
        The number planned, validations within epochs included. Where the length of the training is open, or longer than
        planned, the k-th audit counts for k (k + 1): all such shares of the error together make one, however long it
        goes on.
    """
    if trainer.state.fn != TrainerFn.FITTING:
        return 1
    batches, between = trainer.num_training_batches, trainer.val_check_batch or 0
    within_epochs = math.isfinite(batches) and math.isfinite(between) and 0 < between <= batches
    runs = int(batches // between) if within_epochs else 1
    planned = -(-(trainer.max_epochs or 0) // every_n_epochs) * runs
    k = before + 1
    return planned if k <= planned else k * (k + 1)


def is_time(trainer: pl.Trainer, every_n_epochs: int) -> bool:
    """Whether the validation that ends now is audited: of every n-th epoch, of the last one, and on its own."""
    if trainer.sanity_checking:
        return False
    if trainer.state.fn == TrainerFn.VALIDATING:
        return True
    return is_last(trainer) or (trainer.current_epoch + 1) % every_n_epochs == 0


def is_last(trainer: pl.Trainer) -> bool:
    """Whether the epoch that is validated is known to be the last of the training."""
    reached = trainer.current_epoch + 1 == trainer.max_epochs or 0 < trainer.max_steps <= trainer.global_step
    return bool(reached or trainer.should_stop)


def warn_of_weak_neighbours(choice: Choice | None) -> None:
    """Say which neighbours the training augments with: a model that has seen a flipped copy knows it, too."""
    if choice is None:
        return
    if choice.dropped:
        warnings.warn(
            f"The training augments with transforms that make {', '.join(choice.dropped)}: weak neighbours, left out. "
            f"The audit asks about {', '.join(choice.used)}.",
            stacklevel=3,
        )
    if choice.weak:
        warnings.warn(
            f"The training augments with transforms that make {', '.join(choice.weak)}: weak neighbours, which hide "
            "memorization from the neighbour and combined scores.",
            stacklevel=3,
        )


def writes_files(trainer: pl.Trainer) -> bool:
    """Whether this process leaves files behind: the first one does, unless the run is only a rehearsal."""
    return trainer.is_global_zero and not cast(Any, trainer).fast_dev_run


def monitor_of(callback: Callback) -> str | None:
    """The metric by which a callback stops training or selects checkpoints."""
    return callback.monitor if isinstance(callback, (EarlyStopping, ModelCheckpoint)) else None


def audited_module(trainer: pl.Trainer, pl_module: pl.LightningModule) -> nn.Module:
    """What to call for a prediction: the strategy's wrapper where it gathers sharded weights, else the module itself.

    DistributedDataParallel only synchronises gradients: without it a forward pass waits for nobody.
    """
    wrapper = trainer.strategy.model
    if wrapper is None or type(wrapper).__name__ == "DistributedDataParallel":
        return pl_module
    return wrapper if forward_is_collective(wrapper) else pl_module


def refuse_tensor_parallel(trainer: pl.Trainer) -> None:
    """Refuse models whose processes must all be given the same batch.

    Raises:
        ValueError: Saying what to do instead.
    """
    mesh: Any = getattr(trainer.strategy, "_device_mesh", None)
    names = () if mesh is None else mesh.mesh_dim_names or ()
    if "tensor_parallel" in names and (size := mesh["tensor_parallel"].size()) > 1:
        raise ValueError(
            f"The strategy splits each layer over {size} processes (tensor_parallel_size), which must then see the "
            "same batch, and an audit gives each process batches of its own. Use tensor_parallel_size=1 with "
            "data_parallel_size, or audit the checkpoint afterwards."
        )


def refuse_namesakes(trainer: pl.Trainer, prefix: str) -> None:
    """Refuse audits side by side that would write over each other's files.

    Raises:
        ValueError: If the prefixes of two audits give the same file names.
    """
    prefixes = [cast(Any, c).prefix for c in callbacks_of(trainer) if hasattr(c, "auditor")]
    alike = [p for p in prefixes if stem(p) == stem(prefix)]
    if len(alike) > 1:
        raise ValueError(
            f"Audits with the prefixes {' and '.join(map(repr, alike))} name their files alike, {stem(prefix)}-...: "
            "a slash becomes an underscore there. Give each audit a prefix of its own."
        )


def conditions(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
    """Under what conditions the auditor asks the model, as in a validation: arguments of the auditor's methods."""

    @contextmanager
    def forward_context() -> Iterator[None]:
        with trainer.precision_plugin.forward_context(), uncompiled():
            yield

    # The strategy's device: weights that are offloaded between forward passes lie on the CPU.
    device = trainer.strategy.root_device
    return {"prepare": batch_hooks(trainer, pl_module), "forward_context": forward_context, "device": device}


def batch_hooks(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Prepare:
    """What the project does with a validation batch between loader and step, such as normalising it on the device.

    Args:
        trainer: The trainer.
        pl_module: Its module, whose batch-transfer hooks count as do those of the data module.

    Returns:
        A function of a batch; it changes nothing where no hook is overridden.
    """
    owners = [o for o in (pl_module, datamodule_of(trainer)) if o is not None]
    overridden = [h for h in _HOOKS if any(is_overridden(h, o) for o in owners)]
    if not overridden:
        return as_loaded

    def prepare(batch: Any) -> Any:
        before, trainer.state.stage = trainer.state.stage, RunningStage.VALIDATING  # hooks ask: no augmentation
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


def meta_of(trainer: pl.Trainer, *, given: bool) -> dict[str, Any]:
    """What a result says of the training around it.

    Args:
        trainer: The trainer.
        given: Whether the samples were given by hand, not by the data module.
    """
    fitting = trainer.state.fn == TrainerFn.FITTING
    info = dict(getattr(None if given else datamodule_of(trainer), "audit_info", dict)())
    monitors = [m for m in map(monitor_of, callbacks_of(trainer)) if m is not None and not m.startswith("train")]
    validates = info.get("nonmembers_validate")
    stages = {TrainerFn.FITTING: "fit", TrainerFn.VALIDATING: "validate"}
    return {
        "epoch": trainer.current_epoch if fitting else None,
        "step": trainer.global_step,
        "stage": stages.get(cast(Any, trainer.state.fn), "audit"),
        "membership": info or {"assignment": "given"},
        # None: unknown, of a user's own nonmembers and of training that is over.
        "nonmembers_select_checkpoints": bool(validates and monitors) if fitting and validates is not None else None,
    }


def warn_before_training(trainer: pl.Trainer) -> None:
    """Say what the trainer's settings do to an audit."""
    _warn_of_untrained_members(trainer)
    _warn_of_no_validation(trainer)


def _warn_of_no_validation(trainer: pl.Trainer) -> None:
    """Say, before the training, that there will be no audit."""
    if not trainer.enable_validation:
        warnings.warn(
            "MembershipAudit runs in validation, and this training has none: give the module a validation_step, the "
            "trainer a validation loader, and limit_val_batches above 0.",
            stacklevel=3,
        )


def warn_of_no_audit(trainer: pl.Trainer, every_n_epochs: int) -> None:
    """Say, after the training, that there was no audit."""
    if not trainer.enable_validation:
        warnings.warn(
            "The training ended without an audit: it had no validation. Give it one for the next time, or audit the "
            "model that it left: Auditor().run(model, members, nonmembers).",
            stacklevel=3,
        )
        return
    warnings.warn(
        f"The training ended without an audit: no validation was run in an epoch that is audited (every "
        f"{every_n_epochs}, and the last). Make every_n_epochs a multiple of check_val_every_n_epoch, train long "
        "enough for a validation (val_check_interval), or audit the checkpoint with trainer.validate.",
        stacklevel=3,
    )


def _warn_of_untrained_members(trainer: pl.Trainer) -> None:
    """Say that members are counted which the training never sees."""
    share = cast(Any, trainer).overfit_batches
    if share and not cast(Any, trainer).fast_dev_run:
        what = f"{share} batches" if isinstance(share, int) else f"{share:.0%} of the batches"
        warnings.warn(
            f"Trainer(overfit_batches={share}) trains on {what} only. Members that it never sees count as members "
            "all the same and hide memorization: give as members what is trained on (torch.utils.data.Subset).",
            stacklevel=3,
        )


def warn_of_excluded(result: AuditResult) -> None:
    """Name samples that have no numbers."""
    if not result.excluded:
        return
    first = "; ".join(f"{e['id']} ({e['side']}): {e['reason']}" for e in result.excluded[:3])
    more = f" and {len(result.excluded) - 3} more" if len(result.excluded) > 3 else ""
    warnings.warn(f"The audit left out {len(result.excluded)} samples: {first}{more}.", stacklevel=2)


def warn_of_sparse_keys(trainer: pl.Trainer, prefix: str, every_n_epochs: int) -> None:
    """Warn of callbacks that would stop training in epochs without an audit, because their metric is missing there."""
    if every_n_epochs == 1:
        return
    for callback in callbacks_of(trainer):
        monitor = monitor_of(callback)
        if monitor is None or not monitor.startswith(f"{prefix}/"):
            continue
        if isinstance(callback, ModelCheckpoint):  # it has no strict
            remedy, suits = f"every_n_epochs={every_n_epochs}", (callback.every_n_epochs or 0) % every_n_epochs == 0
        else:
            remedy, suits = "strict=False", not getattr(callback, "strict", False)
        if not suits:
            warnings.warn(
                f"{type(callback).__name__} monitors {monitor!r}, which is logged every {every_n_epochs} epochs only: "
                f"give it {remedy}, or it stops training when the key is missing.",
                stacklevel=3,
            )


def go_before_weight_averaging(trainer: pl.Trainer, audit: Callback) -> None:
    """Audit the weights that were validated: weight averaging takes them away in the hook that we audit in."""
    averaging = getattr(lightning_callbacks, "WeightAveraging", None)  # Lightning 2.6 and later
    callbacks = callbacks_of(trainer)
    places = [i for i, c in enumerate(callbacks) if averaging is not None and isinstance(c, averaging)]
    if places and callbacks.index(audit) > places[0]:
        others = [c for c in callbacks if c is not audit]
        # A new list: Lightning is walking over the old one.
        cast(Any, trainer).callbacks = [*others[: places[0]], audit, *others[places[0] :]]
