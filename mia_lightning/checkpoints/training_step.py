"""The step of a training: what its files and pages count, and the axis of TensorBoard and other loggers counts, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightning.pytorch as pl


def step_of_trainer(trainer: pl.Trainer) -> int:
    """Steps that a training has made so far.

    Loggers count them this way as well. Where a module steps its optimizers by hand, ``trainer.global_step`` counts the
    steps of all of them, two a batch in a GAN, while loggers count batches, as is done here.
    """
    if trainer.lightning_module is None or trainer.lightning_module.automatic_optimization:
        return int(trainer.global_step)
    return int(trainer.fit_loop.epoch_loop.batch_progress.total.completed)


def counters_of(trainer: pl.Trainer) -> dict[str, int]:
    """Lightning's own counter of steps, by which it names checkpoints, where it differs from the step."""
    return {} if trainer.global_step == step_of_trainer(trainer) else {"global_step": trainer.global_step}


def counters_of_checkpoint(checkpoint: Mapping[str, Any]) -> dict[str, int]:
    """The same counter of a checkpoint, as :func:`counters_of`.

    Example:
        >>> counters_of_checkpoint({"global_step": 8})
        {}
    """
    step = checkpoint.get("global_step")
    return {} if step is None or step == step_of_checkpoint(checkpoint) else {"global_step": int(step)}


def step_of_checkpoint(checkpoint: Mapping[str, Any]) -> int | None:
    """Steps that a training had made when it wrote a checkpoint, as :func:`step_of_trainer`; None where it is silent.

    Example:
        >>> step_of_checkpoint({"global_step": 8}), step_of_checkpoint({})
        (8, None)
        >>> progress = {"epoch_loop.manual_optimization.optim_step_progress": {"total": {"completed": 8}}}
        >>> loops = {"fit_loop": progress | {"epoch_loop.batch_progress": {"total": {"completed": 4}}}}
        >>> step_of_checkpoint({"global_step": 8, "loops": loops})
        4
    """
    step = checkpoint.get("global_step")
    try:
        progress = checkpoint["loops"]["fit_loop"]
        if progress["epoch_loop.manual_optimization.optim_step_progress"]["total"]["completed"]:
            return int(progress["epoch_loop.batch_progress"]["total"]["completed"])
    except (KeyError, TypeError):
        pass  # a checkpoint of another program, or of another version of Lightning
    return step
