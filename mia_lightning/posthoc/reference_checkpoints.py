"""Checkpoints as offline reference models: of its architecture, not trained on its samples."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from mia_lightning.attacks.reference_folder import MANIFEST, MEMBERS, Reference, ReferenceFolder
from mia_lightning.attacks.reference_training import sample_ids
from mia_lightning.audit.loading import Source
from mia_lightning.audit.protocols import Adapter
from mia_lightning.checkpoints.trained_weights import load_weights, read_checkpoint
from mia_lightning.data.records import name_some
from mia_lightning.membership.run_membership import membership_of
from mia_lightning.membership.verification import trained_samples

OPTION = "reference_ckpt (--reference_ckpt)"
FOLDER_OPTION = "references (--references)"
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
    _require_exchangeable(model, OPTION)
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


def check_reference_models(model: LightningModule, folder: ReferenceFolder) -> None:
    """Load each model of a folder into a copy of the audited one, before anything is audited.

    Args:
        model: The audited model; left alone.
        folder: The reference models, of which those are tried that are trained to their end.

    Raises:
        FileNotFoundError: If a model has no checkpoint.
        ValueError: If a checkpoint cannot be read, or is of another architecture, or the file beside it does not tell
            what the model was trained on.
    """
    _require_exchangeable(model, FOLDER_OPTION)
    other = copy.deepcopy(model)
    for reference in folder.finished():
        reference.sides()
        try:
            load_weights(other, reference.checkpoint)
        except (FileNotFoundError, ValueError) as error:
            reason = str(error).replace("--ckpt_path", "--references")
            raise type(error)(
                f"{FOLDER_OPTION}: {reason} Expected reference models of the audited architecture: train them with the "
                "configuration of the audited model, or name another folder."
            ) from error


def _require_exchangeable(model: LightningModule, option: str) -> None:
    if getattr(model, "brings_weights", False):
        raise ValueError(
            f"{option}: {type(model).__name__} has its weights in its own file and takes no others. Audit the "
            "checkpoint that the file was made of, with --model CLASS and --ckpt_path, or leave the option out."
        )


def refuse_trained_on_samples(
    contents: Mapping[str, Mapping[str, Any]],
    sides: tuple[Source, Source],
    *,
    owner: str,
    adapter: Adapter,
) -> None:
    """Raise a ValueError for a checkpoint that is recorded to have been trained on audited samples, of either side.

    Recorded is this by an audit callback, in the checkpoint and in the folder of its run, or in the folder of a
    reference model. What has no record is accepted.

    Args:
        contents: As :func:`check_reference_checkpoints` returns them.
        sides: Members and nonmembers of the audit.
        owner: Class of the data module, for errors.
        adapter: Reads the ids out of batches.
    """
    for path, content in contents.items():
        run = membership_of(Path(path), content)
        _refuse(path, trained_samples(run, *sides), "the record of its training", _other_models(Path(path)))
    folders = {path: Reference(0, Path(path).parent) for path in contents}
    recorded = {p: r for p, r in folders.items() if r.checkpoint.name == Path(p).name and r.assigned}
    if not recorded:
        return
    try:
        ids = [sample_ids(source, owner, adapter) for source in sides]
    except ValueError:  # samples without ids are none of a folder of reference models
        return
    for path, reference in recorded.items():
        try:
            trained_on, _ = reference.sides()
        except ValueError as error:
            raise ValueError(
                f"{OPTION}: {reference.folder / MEMBERS} beside {path} does not tell what that model was trained on "
                f"({error.__cause__!r}). Restore it; if it is another file of that name, name a copy of the checkpoint "
                "in another folder."
            ) from error
        found = [[name for name in side if name in trained_on] for side in ids]
        advice = _other_models(Path(path))
        advice += " If its data were others with the same ids, name a copy of the checkpoint in another folder."
        _refuse(path, found, f"{reference.folder / MEMBERS}", advice)


def _refuse(path: str, found: Sequence[Sequence[str]], where: str, advice: str) -> None:
    if not any(found):
        return
    sides = zip(("members", "nonmembers"), found, strict=True)
    counts = " and ".join(f"{len(names)} {side} ({name_some(names, most=3)})" for side, names in sides if names)
    raise ValueError(
        f"{OPTION}: {path} was itself trained on audited samples, {counts} by {where}, but it would count as trained "
        f"on none. Expected a model that was trained on none of them, such as the one before fine-tuning. {advice}"
    )


def _other_models(path: Path) -> str:
    folder = path.absolute().parent.parent
    if (folder / MANIFEST).is_file():
        return f"This one is of a folder of reference models, whose samples are known: --references {folder}."
    return (
        "Models that were trained on known halves of the samples are for --references FOLDER (references=): "
        "mia-lightning references trains them."
    )


def _state_of(model: LightningModule) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}
