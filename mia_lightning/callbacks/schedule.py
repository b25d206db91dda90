"""When a training is audited: which validations, how many of them, and in which place among the callbacks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from mia_lightning.callbacks.trainer_state import callbacks_of
from mia_lightning.lightning_packages.bases import Callback
from mia_lightning.lightning_packages.loaded import FITTING, VALIDATING, classes

if TYPE_CHECKING:
    import lightning.pytorch as pl


def is_time(trainer: pl.Trainer, every_n_epochs: int) -> bool:
    """Whether the validation that ends now is audited: of every n-th epoch, of the last one, and on its own."""
    if trainer.sanity_checking:
        return False
    if trainer.state.fn == VALIDATING:
        return True
    return is_last(trainer) or (trainer.current_epoch + 1) % every_n_epochs == 0


def is_last(trainer: pl.Trainer) -> bool:
    """Whether the epoch that is validated is known to be the last of the training."""
    reached = trainer.current_epoch + 1 == trainer.max_epochs or 0 < trainer.max_steps <= trainer.global_step
    return bool(reached or trainer.should_stop)


def looks_of(trainer: pl.Trainer, before: int, every_n_epochs: int) -> int:
    """How many audits a training will have been looked at in, ``before`` this one and after: for corrected p-values.

    The number planned, validations within epochs included. Where the length of the training is open, or longer than
    planned, the k-th audit counts for k (k + 1): all such shares of the error together make one, however long it goes
    on.
    """
    if trainer.state.fn != FITTING:
        return 1
    batches, between = trainer.num_training_batches, trainer.val_check_batch or 0
    within_epochs = math.isfinite(batches) and math.isfinite(between) and 0 < between <= batches
    runs = int(batches // between) if within_epochs else 1
    planned = -(-(trainer.max_epochs or 0) // every_n_epochs) * runs
    k = before + 1
    return planned if k <= planned else k * (k + 1)


def go_before_weight_averaging(trainer: pl.Trainer, audit: Callback) -> None:
    """Audit the weights that were validated: weight averaging takes them away in the hook that we audit in."""
    averaging = classes("callbacks.WeightAveraging")  # of Lightning 2.6 and later
    callbacks = callbacks_of(trainer)
    places = [i for i, c in enumerate(callbacks) if isinstance(c, averaging)]
    if places and callbacks.index(audit) > places[0]:
        others = [c for c in callbacks if c is not audit]
        # A new list: Lightning is walking over the old one.
        cast(Any, trainer).callbacks = [*others[: places[0]], audit, *others[places[0] :]]
