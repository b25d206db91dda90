"""Evidence from trained weights, and from suspects and reference as a data module reads its files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack, cast

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.utils.data import Dataset

from mia_lightning.audit.config import AuditConfig, AuditOptions
from mia_lightning.audit.forward import Runtime
from mia_lightning.audit.progress import Progress, no_progress
from mia_lightning.checkpoints.trained_weights import brought_weights, load_weights, read_checkpoint
from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.data.id_lists import Ids, read_ids
from mia_lightning.data.records import Record, name_some
from mia_lightning.evidence.evidence_record import Evidence
from mia_lightning.evidence.from_model import weigh_evidence
from mia_lightning.evidence.ways import require_one_way
from mia_lightning.functional.neighbours import AUGMENTATIONS
from mia_lightning.membership.run_membership import membership_of
from mia_lightning.membership.verification import RunMembership, Verification, compare_members, compare_reference
from mia_lightning.result.context import AuditContext

Sides = tuple[Dataset[Any], Dataset[Any]]


def weigh_checkpoint(  # noqa: PLR0913 - all but three are keywords that most callers leave out
    model: LightningModule,
    data: LightningDataModule | None,
    ckpt_path: str | Path | None,
    *,
    suspects: str | Path | None = None,
    reference: str | Path | None = None,
    suspect_ids: Ids | None = None,
    reference_ids: Ids | None = None,
    trainer: Trainer | None = None,
    config: AuditConfig | None = None,
    level: float = 0.01,
    unverified_members: bool = False,
    progress: Progress = no_progress,
    **options: Unpack[AuditOptions],
) -> Evidence:
    """Was a checkpoint trained on these images? Name two folders, or two lists of ids out of the data's own folder.

    Args:
        model: The model, built as it was trained; the weights are loaded into it.
        data: A data module of this package, with the settings of the training: they say how files are read.
        ckpt_path: Trained weights; None for a model that brings its own.
        suspects: Folder of the images in question.
        reference: Folder of images like them that cannot have been trained on.
        suspect_ids: Ids of the images in question, or a text file with one a line.
        reference_ids: Likewise: images like them that cannot have been trained on.
        trainer: Its device and precision are used; None leaves the model where it is.
        config: As for :func:`~mia_lightning.weigh_evidence`.
        level: Likewise.
        unverified_members: Go on where, as far as the checkpoint or the folder of its run tell, the configuration says
            otherwise than the training who is a member, or the reference was trained on; the evidence says so.
        progress: Likewise.
        **options: Likewise.

    Returns:
        The evidence.

    Raises:
        OSError: If a folder, file or checkpoint is missing or cannot be read.
        TypeError: If the data module is none of this package.
        ValueError: If settings, data or checkpoint do not fit, or the reference was trained on.
    """
    require_one_way(suspects, reference, suspect_ids, reference_ids)
    brought = brought_weights(model, ckpt_path)
    if ckpt_path is None and brought is None:
        raise ValueError("There is no model to ask: name the trained weights with --ckpt_path path/to/file.ckpt.")
    if not isinstance(data, AuditableDataModule):
        found = "there is none" if data is None else f"{type(data).__name__} is none of mia_lightning"
        raise TypeError(
            "Suspects and reference are read as the configuration's data module reads its files, and "
            f"{found}. Name one by -c or --data, or use stored outputs instead (no -c; --task ...)."
        )
    checkpoint = {} if ckpt_path is None else read_checkpoint(ckpt_path)
    trained = brought or load_weights(model, str(ckpt_path), checkpoint)
    data.prepare_data()
    trained_on = membership_of(trained.checkpoint, checkpoint)
    by_folder = suspects is not None and reference is not None
    members = None if by_folder else _compare_split(trained_on, data, unverified_members=unverified_members)
    if suspects is not None and reference is not None:
        sides = sides_in_folders(data, suspects, reference)
    else:
        sides = sides_by_id(data, cast(Ids, suspect_ids), cast(Ids, reference_ids))
    if members is None:
        members = compare_reference(trained_on, sides[1]).or_refuse(unverified_members=unverified_members)
    # The run that made the checkpoint may have the predictability of these pairs.
    run = Path(trained.checkpoint).absolute().parent.parent / "audit"
    if run.is_dir() and (config is None or config.cache_dir is None):
        options = {"cache_dir": run, **options}
    runtime = None
    if trainer is not None:
        precision = cast(Any, trainer).precision_plugin
        model, runtime = precision.convert_module(model), Runtime(forward_context=precision.forward_context)
        model.to(trainer.strategy.root_device)
    names = {"suspects": suspects, "reference": reference, "suspect_ids": suspect_ids, "reference_ids": reference_ids}
    context = AuditContext(
        epoch=trained.epoch,
        step=trained.step,
        checkpoint=trained.checkpoint,
        members=members.to_meta(),
        extra={"source": "model", **trained.counters}
        | {name: str(v) for name, v in names.items() if isinstance(v, (str, Path))},
    ).with_notes(*([] if members.verified else [f"Members unverified: {members.reason}"]), *members.notes)
    if trained.monitors:
        context = context.with_notes(
            f"The checkpoint was selected by {', '.join(trained.monitors)}. Where the reference took part in that, the "
            "model does better on it than on images it was never evaluated on, which hides evidence and does not make "
            "any."
        )
    return weigh_evidence(
        model,
        *sides,
        level=level,
        augmentations=[name for name in data.augmentations if name in AUGMENTATIONS],
        config=config,
        context=context,
        runtime=runtime,
        progress=progress,
        **options,
    )


def sides_in_folders(data: AuditableDataModule, suspects: str | Path, reference: str | Path) -> Sides:
    """Read two folders with the settings of a data module, for :func:`~mia_lightning.weigh_evidence`.

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


def _compare_split(
    trained_on: RunMembership, data: AuditableDataModule, *, unverified_members: bool
) -> Verification | None:
    """Compare what a data module says of who is a member with the training; None where it does not say."""
    try:
        sides = data.audit_dataloaders()
    except ValueError:
        return None
    return compare_members(trained_on, data, *sides).or_refuse(unverified_members=unverified_members)


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
