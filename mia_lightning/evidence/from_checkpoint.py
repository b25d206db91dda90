"""Evidence from trained weights, and from suspects and reference as a data module reads its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack, cast

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from mia_lightning.audit.config import AuditConfig, AuditOptions
from mia_lightning.audit.forward import Runtime
from mia_lightning.audit.progress import Progress, no_progress
from mia_lightning.checkpoints.trained_weights import brought_weights, load_weights
from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.data.id_lists import Ids
from mia_lightning.evidence.evidence_record import Evidence
from mia_lightning.evidence.from_data_module import sides_by_id, sides_in_folders
from mia_lightning.evidence.from_model import weigh_evidence
from mia_lightning.evidence.ways import require_one_way
from mia_lightning.functional.neighbours import AUGMENTATIONS
from mia_lightning.result.context import AuditContext


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
        progress: Likewise.
        **options: Likewise.

    Returns:
        The evidence.

    Raises:
        OSError: If a folder, file or checkpoint is missing or cannot be read.
        TypeError: If the data module is none of this package.
        ValueError: If settings, data or checkpoint do not fit.
    """
    require_one_way(suspects, reference, suspect_ids, reference_ids)
    brought = brought_weights(model, ckpt_path)
    if ckpt_path is None and brought is None:
        raise ValueError("There is no model to ask: name the trained weights with --ckpt_path path/to/file.ckpt.")
    if not isinstance(data, AuditableDataModule):
        raise TypeError(
            f"Suspects and reference are read as the configuration's data module reads its files, and "
            f"{type(data).__name__} is none of mia_lightning. Use stored outputs instead (no -c; --task ...)."
        )
    trained = brought or load_weights(model, str(ckpt_path))
    data.prepare_data()
    if suspects is not None and reference is not None:
        sides = sides_in_folders(data, suspects, reference)
    else:
        sides = sides_by_id(data, cast(Ids, suspect_ids), cast(Ids, reference_ids))
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
        extra={"source": "model"} | {name: str(v) for name, v in names.items() if isinstance(v, (str, Path))},
    )
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
