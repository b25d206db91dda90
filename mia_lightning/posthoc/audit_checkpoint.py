"""Auditing trained weights from Python, in one call."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

from lightning.pytorch import LightningDataModule, LightningModule

from mia_lightning.audit.config import AuditConfig, AuditOptions, settings_of
from mia_lightning.audit.loading import Source
from mia_lightning.callbacks.membership_audit import MembershipAudit
from mia_lightning.lightning_packages.loaded import LOGGER_NAMES
from mia_lightning.posthoc.audit_trainer import AuditTrainer
from mia_lightning.posthoc.loader_sides import LoaderName
from mia_lightning.result.audit_result import AuditResult


def audit_checkpoint(  # noqa: PLR0913 - each is an option of the command, too
    model: LightningModule,
    datamodule: LightningDataModule | None = None,
    ckpt_path: str | Path | None = None,
    *,
    members: LoaderName | Source | None = None,
    nonmembers: LoaderName | Source | None = None,
    references: str | Path | None = None,
    reference_ckpt: str | Path | Sequence[str | Path] | None = None,
    patch: bool = False,
    earlier_ckpt: str | Path | None = None,
    unverified_members: bool = False,
    accelerator: str = "auto",
    precision: Any = None,
    config: AuditConfig | None = None,
    **options: Unpack[AuditOptions],
) -> AuditResult:
    """Load trained weights into a model and audit it, as ``mia-lightning audit`` does.

    The model is called as its own project would call it in a validation, batch-transfer hooks and precision included;
    none of its steps is run. Nothing is printed, and files are written only with ``output_dir``. For several devices,
    callbacks or a strategy of one's own, see :class:`~mia_lightning.posthoc.audit_trainer.AuditTrainer`; for a model
    that is in memory already, :meth:`mia_lightning.Auditor.run` needs no trainer.

    Args:
        model: The model, built as it was trained.
        datamodule: Gives members and nonmembers, by its ``audit_dataloaders()`` or by its own loaders; not needed where
            both are passed, or where the model has loaders.
        ckpt_path: A Lightning checkpoint, or a file of weights alone (.pt, .pth, .safetensors). Nothing is unpickled.
        members: A data set or a loader of samples that the model was trained on; or the name of one of the data
            module's own loaders, mostly ``"train"``. None asks ``audit_dataloaders()``.
        nonmembers: Likewise of samples that it was not trained on, such as ``"test"``.
        references: Folder of reference models, as :func:`~mia_lightning.attacks.reference_training.train_references`
            leaves it: adds their attacks.
        reference_ckpt: Checkpoints, one or more, of models that were trained on none of the samples, by assumption,
            such as the public one before fine-tuning: offline reference models.
        patch: With a folder of reference models: add the patch attack.
        earlier_ckpt: A checkpoint that the same training wrote earlier, by assumption: adds the score
            ``combined_history``, which says how exposed samples are to who holds both.
        unverified_members: Audit also members that are others than those of the training, as far as the checkpoint and
            the folder of its run say who they were; the result says so.
        accelerator: Where the model runs, as for a ``Trainer``.
        precision: In what precision, as for a ``Trainer``.
        config: Settings of the audit. What the model knows (its ``audit_settings()``) counts where neither this nor a
            keyword is given.
        **options: Fields of :class:`~mia_lightning.AuditConfig`, which replace those of ``config``.

    Returns:
        The result. Its ``meta`` names the checkpoint, its epoch and its step.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        TypeError: If a keyword is no setting.
        ValueError: If the checkpoint is of another model, there is nothing to audit with, the members are not those of
            the training, or a setting is out of range.

    Example:
        >>> from mia_lightning import DemoDataModule, Pix2Pix
        >>> import tempfile, torch
        >>> model = Pix2Pix(image_size=32, ngf=8, ndf=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(model.state_dict(), f"{folder}/weights.pt")
        ...     data = DemoDataModule(num_pairs=8, image_size=32)
        ...     result = audit_checkpoint(model, data, f"{folder}/weights.pt", accelerator="cpu")
        >>> len(result.ids), Path(result.meta["checkpoint"]).name
        (8, 'weights.pt')
    """
    config = AuditConfig.of(config or AuditConfig.of(**settings_of(model)), **options)
    sides: dict[str, Any] = {"members": members, "nonmembers": nonmembers}
    by_name = any(isinstance(side, str) for side in sides.values())
    if by_name and any(side is not None and not isinstance(side, str) for side in sides.values()):
        kinds = ", ".join(f"{k}={v!r}" if isinstance(v, str) else f"{k}: {type(v).__name__}" for k, v in sides.items())
        raise ValueError(
            f"Expected members and nonmembers both as names of the data module's loaders, such as 'train' and 'test', "
            f"or both as data sets or loaders, but got {kinds}."
        )
    named = [reference_ckpt] if isinstance(reference_ckpt, (str, Path)) else list(reference_ckpt or ())
    audit = MembershipAudit(**({} if by_name else sides), config=config, verbose=False)
    with silent():
        trainer = AuditTrainer(
            accelerator=accelerator,
            devices=1,
            precision=precision,
            callbacks=[audit],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        return trainer.audit(
            model,
            datamodule,
            None if ckpt_path is None else str(ckpt_path),
            **(sides if by_name else {}),
            output_dir=None if config.output_dir is None else str(config.output_dir),
            references=None if references is None else str(references),
            reference_ckpt=[str(path) for path in named],
            patch=patch,
            earlier_ckpt=None if earlier_ckpt is None else str(earlier_ckpt),
            unverified_members=unverified_members,
        )


@contextmanager
def silent() -> Iterator[None]:
    """Keep what a trainer says of its devices off the screen; warnings and errors stay."""
    loggers = [logging.getLogger(name) for name in LOGGER_NAMES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
