"""Suspects and reference as a data module reads its files: two folders, or ids out of its own folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch.utils.data import Dataset

from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.data.id_lists import Ids, read_ids
from mia_lightning.data.records import Record, name_some

Sides = tuple[Dataset[Any], Dataset[Any]]


def sides_in_folders(data: AuditableDataModule, suspects: str | Path, reference: str | Path) -> Sides:
    """Read two folders with the settings of a data module, for :func:`~mia_lightning.weigh_evidence`.

    Args:
        data: Its settings say how files are laid out, resized and encoded.
        suspects: Folder of the images in question.
        reference: Folder of images like them that cannot have been trained on.

    Raises:
        OSError: If a folder or file is missing or cannot be read.
        ValueError: If the data module reads no folder, or the two are laid out differently.
    """
    module = _on_folder(data, reference)
    records = module.all_records(), _on_folder(data, suspects).all_records()
    if _side_by_side(records[0]) != _side_by_side(records[1]):
        raise ValueError(
            "One of the two folders holds side-by-side files, the other two folders of files: both sides must be "
            "stored alike."
        )
    # One module reads both: the first file of the reference decides what inputs are, as in training.
    return module.dataset_of(records[1]), module.dataset_of(records[0])


def sides_by_id(data: AuditableDataModule, suspect_ids: Ids, reference_ids: Ids) -> Sides:
    """Choose suspects and reference out of a data module's own samples, for :func:`~mia_lightning.weigh_evidence`.

    Args:
        data: The data module.
        suspect_ids: Ids of the images in question, or a text file with one a line.
        reference_ids: Likewise: images like them that cannot have been trained on.

    Raises:
        OSError: If a folder or file is missing or cannot be read.
        ValueError: If there is no such id, or the data module says that a part of the reference was trained on.
    """
    records = {record.id: record for record in data.all_records()}
    suspects, reference = ([records[id] for id in read_ids(ids, records)] for ids in (suspect_ids, reference_ids))
    _require_untrained(data, reference)
    return data.dataset_of(suspects), data.dataset_of(reference)


def _on_folder(data: AuditableDataModule, folder: str | Path) -> AuditableDataModule:
    """A data module of the same settings on another folder; splits and groups do not matter there."""
    settings = {k: v for k, v in data.hparams.items() if not k.startswith("_")}  # the command line adds its own
    if "root" not in settings:
        raise ValueError(
            f"{type(data).__name__} does not read a folder: choose with --suspect_ids and --reference_ids, or "
            "configure a data module that does."
        )
    changed = {"root": str(folder)} | {k: None for k in ("splits", "group_column") if k in settings}
    return type(data)(**settings | changed)


def _side_by_side(records: Sequence[Record]) -> bool:
    return records[0].input_path == records[0].target_path


def _require_untrained(data: AuditableDataModule, reference: Sequence[Record]) -> None:
    """Raise if the data module itself says that a part of the reference was trained on."""
    try:
        members, _ = data.audit_dataloaders()
    except ValueError:  # it does not say who is a member of these data
        return
    ids = {record.id for record in cast(Any, members.dataset).records}
    if trained := [record.id for record in reference if record.id in ids]:
        raise ValueError(
            f"{len(trained)} of the reference were trained on, according to the configuration: {name_some(trained)}. "
            "Choose the reference among what it calls nonmembers or does not use."
        )
