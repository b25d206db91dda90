"""What an audit must know of the trainer around it: its other callbacks, its strategy, its data module."""

from __future__ import annotations

import math
import warnings
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from mia_lightning.functional.neighbours import AUGMENTATIONS, Choice

# Their forward pass is a collective: processes with unequal shares of the samples would wait for each other for ever.
_SHARDED = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")


def callbacks_of(trainer: pl.Trainer) -> list[Callback]:
    """All callbacks of a trainer, in the order in which they are called."""
    return cast(Any, trainer).callbacks  # type: ignore[no-any-return]


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


def refuse_sharded(trainer: pl.Trainer) -> None:
    """Refuse strategies whose forward pass is a collective.

    Raises:
        ValueError: Naming the strategy and what to do instead.
    """
    name = type(trainer.strategy).__name__
    if name in _SHARDED:
        raise ValueError(
            f"{name} spreads one model over processes, and this version audits each process's share by itself. Train "
            "with DDP or one device, or audit the checkpoint afterwards."
        )


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
