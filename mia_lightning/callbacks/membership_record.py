"""Records, once a training, who is trained on: keys for the run's folder, a summary for its checkpoints."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mia_lightning.audit.isolation import isolated
from mia_lightning.audit.loading import Source
from mia_lightning.callbacks.trainer_state import callbacks_of, datamodule_of
from mia_lightning.checkpoints.hyperparameters import read_hyperparameters
from mia_lightning.lightning_packages.loaded import classes
from mia_lightning.membership.record import MembershipSummary, record_sides
from mia_lightning.membership.run_membership import membership_of
from mia_lightning.membership.split_settings import split_settings
from mia_lightning.membership.verification import RunMembership, compare_members

if TYPE_CHECKING:
    import lightning.pytorch as pl

_logger = logging.getLogger(__name__)


def record_membership(
    trainer: pl.Trainer,
    members: Source,
    nonmembers: Source,
    *,
    by_hand: bool,
    earlier: MembershipSummary | None = None,
) -> MembershipSummary | None:
    """Read both sides once, write their keys into the run's folder, and return the summary for checkpoints.

    The first process does it alone; where a side cannot be read, the summary says why, and the training goes on.

    Args:
        trainer: The trainer, about to train.
        members: The members, whole.
        nonmembers: The nonmembers, whole.
        by_hand: They were passed as data sets: settings of the data module say nothing of them.
        earlier: Summary in the checkpoint that the training goes on from.

    Returns:
        The summary; on other processes what the checkpoint had.
    """
    folder = run_folder(trainer)  # asks all processes
    if not trainer.is_global_zero:
        return earlier
    data = None if by_hand else datamodule_of(trainer)
    settings = {} if data is None else split_settings(data.hparams)
    with isolated(None):
        owner = None if data is None else type(data).__name__
        summary, record = record_sides(members, nonmembers, settings, owner)
    if earlier is not None and summary.digests:
        found = compare_members(RunMembership(earlier), data, members, nonmembers, by_hand=by_hand)
        summary = replace(summary, earlier=(*earlier.earlier, *([found.reason] if found.refused else [])))
    if record is not None and folder is not None:
        try:
            replace(record, summary=summary).write(folder)
        except OSError as error:
            _logger.warning("The record of the members could not be written into %s: %s", folder, error)
    return summary


def run_folder(trainer: pl.Trainer) -> Path | None:
    """Folder of a run, in which the record of its members is found from its checkpoints.

    That above a folder called checkpoints, the folder of checkpoints of another name, or that of the logs; None where
    neither is written, or they are written elsewhere than on this disk.
    """
    logs = trainer.log_dir if trainer.loggers else None  # asks all processes
    kinds = classes("callbacks.ModelCheckpoint")
    saving = next((c for c in callbacks_of(trainer) if isinstance(c, kinds) and c.dirpath), None)
    place = logs if saving is None else saving.dirpath
    if place is None or "://" in str(place) or cast(Any, trainer).fast_dev_run:
        return None
    folder = Path(place)
    return folder.parent if saving is not None and folder.name == "checkpoints" else folder


def verify_validated(
    trainer: pl.Trainer, sides: tuple[Source, Source], *, by_hand: bool, state_key: str
) -> dict[str, Any]:
    """Compare the sides of an audit in ``trainer.validate`` with those of the training that wrote the checkpoint.

    Other members are no reason to end a validation: the result says that they are.

    Returns:
        The entry ``members`` of the result's meta; empty where no checkpoint was named.
    """
    path = trainer.ckpt_path
    if path is None or not Path(path).is_file():
        return {}
    run = membership_of(path, read_hyperparameters(path), state_key=state_key)
    return compare_members(run, datamodule_of(trainer), *sides, by_hand=by_hand).to_meta()
