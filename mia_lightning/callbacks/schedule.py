"""When a training is audited: which validations, how many of them, and in which place among the callbacks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from mia_lightning.callbacks.trainer_state import callbacks_of
from mia_lightning.functional.error_spending import OPEN_LOOKS
from mia_lightning.lightning_packages.bases import Callback
from mia_lightning.lightning_packages.loaded import VALIDATING, classes

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
    return bool(reached or _stops(trainer))


def is_last_look(trainer: pl.Trainer, every_n_epochs: int) -> bool:
    """Whether no audit is planned after the one of the validation that ends now; a training may end earlier yet."""
    return _stops(trainer) or looks_left(trainer, every_n_epochs) == 1


def _stops(trainer: pl.Trainer) -> bool:
    """Whether a stop that was asked for takes effect after the validation that ends now.

    Lightning trains on until ``min_epochs`` and ``min_steps`` are met, and ``should_stop`` stays True meanwhile. An
    epoch counts once it has ended, so within the last one that is demanded nothing stops yet.
    """
    if not trainer.should_stop:
        return False
    epochs = trainer.current_epoch + int(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)
    return epochs >= (trainer.min_epochs or 0) and trainer.global_step >= (trainer.min_steps or 0)


def looks_left(trainer: pl.Trainer, every_n_epochs: int, *, averaged: bool = False) -> int | None:
    """How many audits of a training are still to come, the one of now included: for corrected p-values.

    Those of all epochs to come, validations within epochs included, and of averaged weights in the end. An estimate
    serves: errors stay within bounds whatever comes.

    Returns:
        Their number, 1 or more; None where it is open: without an end, or where a callback may end a training of more
        than :data:`~mia_lightning.functional.error_spending.OPEN_LOOKS` looks early.
    """
    now, epochs = trainer.current_epoch, _epochs_of(trainer)
    if epochs is None:
        return None
    batches, between = trainer.num_training_batches, trainer.val_check_batch or 0
    within_epochs = math.isfinite(batches) and math.isfinite(between) and 0 < between <= batches
    runs = int(batches // between) if within_epochs else 1
    validated = trainer.check_val_every_n_epoch or 1
    apart = math.lcm(every_n_epochs, validated)
    last = int(epochs % apart != 0 and epochs % validated == 0)  # the last epoch is audited in any case
    total = (epochs // apart + last) * runs + averaged
    ended = any(
        isinstance(c, classes("callbacks.EarlyStopping") + classes("callbacks.Timer")) for c in callbacks_of(trainer)
    )
    if ended and total > OPEN_LOOKS:
        return None
    if now >= epochs:
        return 1
    done = round((trainer.fit_loop.epoch_loop.batch_idx + 1) / between) if within_epochs else 1
    later = epochs // apart - (now + 1) // apart + (last if now + 1 < epochs else 0)
    return max(1, runs - done + 1 + later * runs + averaged)


def _epochs_of(trainer: pl.Trainer) -> int | None:
    """How many epochs a training has at the most, by epochs or by steps; None where it has no end."""
    ends = [trainer.max_epochs] if trainer.max_epochs is not None and trainer.max_epochs > 0 else []
    if trainer.max_steps > 0 and math.isfinite(trainer.num_training_batches):
        steps = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        ends.append(max(1, -(-trainer.max_steps // max(1, steps))))
    return min(ends, default=None)


def go_before_weight_averaging(trainer: pl.Trainer, audit: Callback) -> None:
    """Audit the weights that were validated: weight averaging takes them away in the hook that we audit in."""
    averaging = classes("callbacks.WeightAveraging")  # of Lightning 2.6 and later
    callbacks = callbacks_of(trainer)
    places = [i for i, c in enumerate(callbacks) if isinstance(c, averaging)]
    if places and callbacks.index(audit) > places[0]:
        others = [c for c in callbacks if c is not audit]
        # A new list: Lightning is walking over the old one.
        cast(Any, trainer).callbacks = [*others[: places[0]], audit, *others[places[0] :]]
