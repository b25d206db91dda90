"""Evidence from a model that can be opened: a run's configuration, a checkpoint, suspects and reference."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import Dataset

from mia_lightning.checkpoints.trained_weights import brought_weights, load_weights
from mia_lightning.cli.evidence import Request, bar, compare_sides, finish, only_with_outputs
from mia_lightning.cli.stored import read_ids
from mia_lightning.cli.training import AuditCLI
from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.data.records import Record, name_some
from mia_lightning.evidence.records import Evidence
from mia_lightning.functional.neighbours import AUGMENTATIONS


def weigh_model(request: Request, args: Sequence[str]) -> Evidence:
    """Weigh what a checkpoint shows.

    Args:
        request: What is to be weighed.
        args: Options of ``mia-lightning audit``: configuration, checkpoint, settings of model and data.

    Returns:
        The evidence.

    Raises:
        OSError: If a folder, file or checkpoint is missing or cannot be read.
        TypeError: If the data module is none of ours.
        ValueError: If options, data or checkpoint do not fit.
    """
    if wrong := only_with_outputs(request):
        raise ValueError(f"{', '.join(wrong)} are for folders of outputs; with a model, the configuration says it.")
    folders, lists = (request.suspects, request.reference), (request.suspect_ids, request.reference_ids)
    if (None in folders) == (None in lists) or (any(folders) and any(lists)):
        raise ValueError(
            "Name two folders, --suspects DIR and --reference DIR, or two files of ids out of the configuration's own "
            "folder, --suspect_ids FILE and --reference_ids FILE."
        )
    if not any(a in ("-c", "--config") or a.startswith(("-c=", "--config=", "--model")) for a in args):
        raise ValueError("Name the configuration of the run that trained the model with -c, such as RUN/config.yaml.")
    scores = request.scores("combined")
    settings = {
        "scores": json.dumps(scores),
        "primary": scores[0],
        "fdr": request.fdr,
        "seed": request.seed,
        "batch_size": request.batch_size,
        "max_samples": "null" if request.max_samples is None else request.max_samples,
    }
    taken_over = (*settings, "output_dir")
    if taken := sorted(n for n in taken_over if any(a.split("=")[0] == f"--audit.{n}" for a in args)):
        raise ValueError(
            f"{', '.join(f'--audit.{n}' for n in taken)} would be overridden: evidence has options of its own for that "
            "(--primary, --fdr, --seed, --batch_size, --max_samples, --output_dir), and judges by the one score named "
            "by --primary."
        )
    given = ["audit", *args, *(f"--audit.{name}={value}" for name, value in settings.items())]
    # LightningCLI warns when it is handed arguments while the process has some of its own.
    before, sys.argv = sys.argv, [sys.argv[0]]
    try:
        evidence = EvidenceCLI(given, request).evidence
    finally:
        sys.argv = before
    assert evidence is not None
    return evidence


class EvidenceCLI(AuditCLI):
    """Builds model and data as ``audit`` does, and weighs evidence in its place.

    Args:
        args: Arguments of ``audit``, the command's name first.
        request: What is to be weighed.
    """

    def __init__(self, args: list[str], request: Request) -> None:
        self.request = request
        self.evidence: Evidence | None = None
        super().__init__(args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make a trainer that only tells device and precision; there is no audit callback to add."""
        self.save_config_callback = None
        return LightningCLI.instantiate_trainer(self, **kwargs | {"logger": False})

    def audit(self, **kwargs: Any) -> None:
        """Weigh evidence."""
        model, data, path = kwargs["model"], kwargs.get("datamodule"), kwargs.get("ckpt_path")
        if kwargs.get("weights_only") is False:
            raise ValueError("weights_only=False would run code that a checkpoint holds; evidence does not do that.")
        brought = brought_weights(model, path)
        if path is None and brought is None:
            raise ValueError("There is no model to ask: name the trained weights with --ckpt_path path/to/file.ckpt.")
        if not isinstance(data, AuditableDataModule):
            raise TypeError(
                f"Suspects and reference are read as the configuration's data module reads its files, and "
                f"{type(data).__name__} is none of mia_lightning. Use stored outputs instead (no -c; --task ...)."
            )
        trained = load_weights(model, str(path)) if brought is None else brought
        data.prepare_data()
        sides, copies, _ = compare_sides(*_sides(data, self.request))
        auditor = self._audit().auditor
        # The run that made the checkpoint may know these pairs.
        run = Path(trained.checkpoint).absolute().parent.parent / "audit"
        auditor.cache_dir = auditor.cache_dir or (run if run.is_dir() else None)
        auditor.augmentations = [name for name in data.augmentations if name in AUGMENTATIONS]
        result = auditor.run(
            _placed(model, self.trainer),
            *sides,
            meta={
                "source": "model",
                **_told(self.request),
                "checkpoint": trained.checkpoint,
                "epoch": trained.epoch,
                "step": trained.step,
            },
            forward_context=cast(Any, self.trainer).precision_plugin.forward_context,
            progress=bar(),
        )
        if trained.monitors:
            result.meta["notes"].append(
                f"The checkpoint was selected by {', '.join(trained.monitors)}. Where the reference took part in "
                "that, the model does better on it than on images it never met, which hides "
                "evidence and does not make any."
            )
        self.evidence = finish(result, copies, self.request)


def _sides(data: AuditableDataModule, request: Request) -> tuple[Dataset[Any], Dataset[Any]]:
    if request.suspects is not None and request.reference is not None:
        there = _on_folder(data, request.reference)
        reference, suspects = there.all_records(), _on_folder(data, request.suspects).all_records()
        if _side_by_side(reference) != _side_by_side(suspects):
            raise ValueError(
                "One of the two folders holds side-by-side files, the other two folders of files: both sides must be "
                "stored alike."
            )
        # One module reads both: the first file of the reference decides what inputs are, as in training.
        return there.dataset_of(suspects), there.dataset_of(reference)
    records = {record.id: record for record in data.all_records()}
    chosen = [_chosen(records, path) for path in (request.suspect_ids, request.reference_ids)]
    _require_untrained(data, chosen[1])
    return data.dataset_of(chosen[0]), data.dataset_of(chosen[1])


def _on_folder(data: AuditableDataModule, folder: str) -> AuditableDataModule:
    """A data module of the same settings on another folder; splits and groups are not asked for."""
    settings = {k: v for k, v in data.hparams.items() if not k.startswith("_")}  # the command line adds its own
    if "root" not in settings:
        raise ValueError(
            f"{type(data).__name__} does not read a folder: choose with --suspect_ids and --reference_ids, or "
            "configure a data module that does."
        )
    changed = {"root": folder} | {k: None for k in ("splits", "group_column") if k in settings}
    return type(data)(**settings | changed)


def _side_by_side(records: Sequence[Record]) -> bool:
    return records[0].input_path == records[0].target_path


def _chosen(records: dict[str, Record], path: str | None) -> list[Record]:
    assert path is not None
    return [records[id] for id in read_ids(path, records)]


def _require_untrained(data: AuditableDataModule, reference: Sequence[Record]) -> None:
    """Raise if the configuration itself says that a part of the reference was trained on."""
    try:
        members, _ = data.audit_dataloaders()
    except ValueError:  # the configuration does not say who is a member of these data
        return
    ids = {record.id for record in cast(Any, members.dataset).records}
    if trained := [record.id for record in reference if record.id in ids]:
        raise ValueError(
            f"{len(trained)} of the reference were trained on, according to the configuration: {name_some(trained)}. "
            "Choose the reference among what it calls nonmembers or does not use."
        )


def _placed(model: LightningModule, trainer: Trainer) -> LightningModule:
    """Bring the model to the trainer's device and precision."""
    converted: LightningModule = cast(Any, trainer).precision_plugin.convert_module(model)
    return converted.to(trainer.strategy.root_device)


def _told(request: Request) -> dict[str, Any]:
    names = ("suspects", "reference", "suspect_ids", "reference_ids")
    return {name: getattr(request, name) for name in names if getattr(request, name) is not None}
