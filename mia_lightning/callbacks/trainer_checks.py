"""What is refused or warned of around an audited training: settings of the trainer, of monitors, of other audits."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, cast

import torch

from mia_lightning.callbacks.trainer_state import audits_of, callbacks_of, monitor_of
from mia_lightning.functional.neighbours import Choice
from mia_lightning.lightning_packages.loaded import classes
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.failed_audit import FailedAudit
from mia_lightning.result.history import stem

if TYPE_CHECKING:
    import lightning.pytorch as pl

_NO_MEMORY = (MemoryError, torch.OutOfMemoryError)


def refuse_tensor_parallel(trainer: pl.Trainer) -> None:
    """Raise a ValueError for models whose processes must all get the same batch."""
    mesh: Any = getattr(trainer.strategy, "_device_mesh", None)
    names = () if mesh is None else mesh.mesh_dim_names or ()
    if "tensor_parallel" in names and (size := mesh["tensor_parallel"].size()) > 1:
        raise ValueError(
            f"The strategy splits each layer over {size} processes (tensor_parallel_size), which must then see the "
            "same batch, and an audit gives each process batches of its own. Use tensor_parallel_size=1 with "
            "data_parallel_size, or audit the checkpoint afterwards."
        )


def refuse_namesakes(trainer: pl.Trainer, prefix: str) -> None:
    """Raise a ValueError for audits side by side whose prefixes give the same file names."""
    alike = [audit.prefix for audit in audits_of(trainer) if stem(audit.prefix) == stem(prefix)]
    if len(alike) > 1:
        raise ValueError(
            f"Audits with the prefixes {' and '.join(map(repr, alike))} name their files alike, {stem(prefix)}-...: "
            "a slash becomes an underscore there. Give each audit a prefix of its own."
        )


def warn_of_sparse_keys(trainer: pl.Trainer, prefix: str, every_n_epochs: int) -> None:
    """Warn of callbacks that would stop training in epochs without an audit, because their metric is missing there."""
    if every_n_epochs == 1:
        return
    for callback in callbacks_of(trainer):
        monitor = monitor_of(callback)
        if monitor is None or not monitor.startswith(f"{prefix}/"):
            continue
        if isinstance(callback, classes("callbacks.ModelCheckpoint")):  # it has no strict
            remedy, suits = f"every_n_epochs={every_n_epochs}", (callback.every_n_epochs or 0) % every_n_epochs == 0
        else:
            remedy, suits = "strict=False", not getattr(callback, "strict", False)
        if not suits:
            warnings.warn(
                f"{type(callback).__name__} monitors {monitor!r}, which is logged every {every_n_epochs} epochs only: "
                f"give it {remedy}, or it stops training when the key is missing.",
                stacklevel=3,
            )


def warn_of_weak_neighbours(choice: Choice | None) -> None:
    """Say which neighbours the training augments with: a model memorises its flipped copies, too."""
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


def warn_before_training(trainer: pl.Trainer) -> None:
    """Say that members are counted which the training never sees, and that there will be no audit."""
    share = cast(Any, trainer).overfit_batches
    if share and not cast(Any, trainer).fast_dev_run:
        what = f"{share} batches" if isinstance(share, int) else f"{share:.0%} of the batches"
        warnings.warn(
            f"Trainer(overfit_batches={share}) trains on {what} only. Members that it never sees count as members "
            "all the same and hide memorization: give as members what is trained on (torch.utils.data.Subset).",
            stacklevel=2,
        )
    if not trainer.enable_validation:
        warnings.warn(
            "MembershipAudit runs in validation, and this training has none: give the module a validation_step, the "
            "trainer a validation loader, and limit_val_batches above 0.",
            stacklevel=2,
        )


def warn_of_no_audit(trainer: pl.Trainer, every_n_epochs: int) -> None:
    """Say, after the training, that there was no audit."""
    if trainer.enable_validation:
        why = (
            f"no validation was run in an epoch that is audited (every {every_n_epochs}, and the last). Make "
            "every_n_epochs a multiple of check_val_every_n_epoch, train long enough for a validation "
            "(val_check_interval), or audit the checkpoint with trainer.validate."
        )
    else:
        why = (
            "it had no validation. Give it one for the next time, or audit the model that it left: "
            "Auditor().run(model, members, nonmembers)."
        )
    warnings.warn(f"The training ended without an audit: {why}", stacklevel=3)


def warn_of_failure(failure: FailedAudit, error: Exception) -> None:
    """Say that an audit has failed, and what to do."""
    remedy = "What to do is in the message."
    if isinstance(error, _NO_MEMORY) or "out of memory" in str(error).lower():
        remedy = "Give the audit a smaller batch_size, or fewer samples with max_samples."
    elif isinstance(error, OSError):
        remedy = "Check the files of both sides, and the space left on the disk."
    remedy = " ".join([*getattr(error, "__notes__", ()), remedy])  # such as how many samples cannot be read
    warnings.warn(
        f"{failure.sentence}. {remedy} The training goes on; the failure is recorded, and monitors of the audit's "
        "metrics get the last values again. MembershipAudit(on_error='raise') would have ended the training.",
        stacklevel=2,
    )


def warn_of_excluded(result: AuditResult) -> None:
    """Name samples that have no numbers."""
    if not result.excluded:
        return
    first = "; ".join(f"{e['id']} ({e['side']}): {e['reason']}" for e in result.excluded[:3])
    more = f" and {len(result.excluded) - 3} more" if len(result.excluded) > 3 else ""
    warnings.warn(f"The audit left out {len(result.excluded)} samples: {first}{more}.", stacklevel=2)
