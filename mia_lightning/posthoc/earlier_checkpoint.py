"""An earlier checkpoint of the audited training, for the scores of who holds several of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule

from mia_lightning import registry
from mia_lightning.audit.config import AuditConfig
from mia_lightning.checkpoints.trained_weights import TrainedWeights, load_weights, read_checkpoint

OPTION = "earlier_ckpt (--earlier_ckpt)"
_OF_MEMBERSHIP = ("callbacks", "datamodule_hyper_parameters")


class EarlierCheckpoint(NamedTuple):
    """Weights of the audited training from before the audited ones.

    Attributes:
        path: The file.
        step: Its step, as messages call it; empty where it is not known.
        model: A copy of the audited model, with these weights.
        content: What the file may say of the members of its training.
    """

    path: str
    step: str
    model: LightningModule
    content: Mapping[str, Any]

    @property
    def when(self) -> str:
        """What it is called where a result states what a score was made of."""
        step = f", after {self.step}" if self.step else ""
        return f"of {self.path}{step}, which is taken to be of the same training"


def read_earlier(model: LightningModule, trained: TrainedWeights, path: str) -> EarlierCheckpoint:
    """Load an earlier checkpoint into a copy of the audited model, before anything is audited.

    Args:
        model: The audited model, with its weights; left alone.
        trained: What is known of these.
        path: The earlier checkpoint.

    Raises:
        FileNotFoundError: If there is no such file; names the checkpoints beside it.
        ValueError: If the file is no checkpoint, or one of another architecture, or if it has the audited weights or
            was not written before them.
    """
    if getattr(model, "brings_weights", False):
        raise ValueError(
            f"{OPTION}: {type(model).__name__} has its weights in its own file and takes no others. Audit the "
            "checkpoint that the file was made of, with --model CLASS and --ckpt_path, or leave the option out."
        )
    other, expected = copy.deepcopy(model), "a checkpoint that the same training wrote earlier"
    try:
        content = read_checkpoint(path)
        expected = "weights of the audited architecture"
        found = load_weights(other, path, content)
    except (FileNotFoundError, ValueError) as error:
        reason = str(error).replace("--ckpt_path", "--earlier_ckpt")
        raise type(error)(f"{OPTION}: {reason} Expected {expected}.") from error
    audited = model.state_dict()
    if all(torch.equal(value, audited[name]) for name, value in other.state_dict().items() if name in audited):
        raise ValueError(
            f"{OPTION}: {path} has the very weights that are audited, which tell nothing new. Name a checkpoint that "
            "the same training wrote earlier."
        )
    if found.step is not None and trained.step is not None and found.step >= trained.step:
        raise ValueError(
            f"{OPTION}: {path} is of {found.step_name}, and the audited {trained.checkpoint} of {trained.step_name}: "
            "expected an earlier one of the same training. Name the later one with --ckpt_path."
        )
    kept = {key: content[key] for key in _OF_MEMBERSHIP if key in content}
    return EarlierCheckpoint(path, found.step_name, other, kept)


def refuse_primary(config: AuditConfig) -> None:
    """Raise a ValueError where the headline is of a score of several audits, which this route adds beside it."""
    if "history" in registry.scores.get(config.primary).needs:
        raise ValueError(
            f"{OPTION} adds scores of two checkpoints beside those of the audited one, and primary={config.primary!r} "
            "is one of them: leave primary as it is, or choose 'combined'."
        )
