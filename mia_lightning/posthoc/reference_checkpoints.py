"""Checkpoints as offline reference models: that they are of the audited model's architecture, and not that model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor

from mia_lightning.audit.loading import Source
from mia_lightning.checkpoints.trained_weights import load_weights, read_checkpoint
from mia_lightning.membership.run_membership import membership_of
from mia_lightning.membership.verification import compare_members

OPTION = "reference_ckpt (--reference_ckpt)"
_OF_MEMBERSHIP = ("callbacks", "datamodule_hyper_parameters")


def check_reference_checkpoints(model: LightningModule, paths: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Load each checkpoint into a copy of the audited model, before anything is audited.

    Args:
        model: The audited model, with its weights; left alone.
        paths: The checkpoints.

    Returns:
        By path, what the checkpoint may say of the members of its training.

    Raises:
        FileNotFoundError: If there is no such file; names the checkpoints beside it.
        ValueError: If a file is no checkpoint, or one of another architecture, or if it has the weights of the audited
            model or of another of these checkpoints.
    """
    if not paths:
        return {}
    if getattr(model, "brings_weights", False):
        raise ValueError(
            f"{OPTION}: {type(model).__name__} has its weights in its own file and takes no others. Audit the "
            "checkpoint that the file was made of, with --model CLASS and --ckpt_path, or leave the option out."
        )
    before, other = {"the audited checkpoint": _state_of(model)}, copy.deepcopy(model)
    contents: dict[str, Mapping[str, Any]] = {}
    for path in paths:
        try:
            checkpoint = read_checkpoint(path)
            load_weights(other, path, checkpoint)
        except (FileNotFoundError, ValueError) as error:
            reason = str(error).replace("--ckpt_path", "--reference_ckpt")
            raise type(error)(f"{OPTION}: {reason} Expected weights of the audited architecture.") from error
        state = _state_of(other)
        for name, known in before.items():
            if all(torch.equal(known[key], value) for key, value in state.items()):
                raise ValueError(
                    f"{OPTION}: {path} has the very weights of {name}, which says nothing of how hard a sample is. "
                    "Name the model from before the training that is audited, and each checkpoint once."
                )
        before[str(path)] = state
        contents[str(path)] = {key: checkpoint[key] for key in _OF_MEMBERSHIP if key in checkpoint}
    return contents


def refuse_trained_on_members(
    contents: Mapping[str, Mapping[str, Any]],
    data: LightningDataModule | None,
    sides: tuple[Source, Source],
    *,
    by_hand: bool,
) -> None:
    """Raise a ValueError for a checkpoint that says it was trained on the audited members.

    Args:
        contents: As :func:`check_reference_checkpoints` returns them.
        data: The data module of the audit; None where there is none.
        sides: Its members and nonmembers.
        by_hand: These were passed as data sets.
    """
    for path, content in contents.items():
        run = membership_of(Path(path), content)
        if run.summary is not None and compare_members(run, data, *sides, by_hand=by_hand).verified:
            raise ValueError(
                f"{OPTION}: {path} was itself trained on the audited members, as its training has recorded, but it "
                "would count as trained on none of the samples. Name the model from before that training; models "
                "trained on halves of the samples are for --references."
            )


def _state_of(model: LightningModule) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}
