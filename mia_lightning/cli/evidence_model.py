"""``mia-lightning evidence`` with a model: a run's configuration and a checkpoint, as ``audit`` reads them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningCLI

from mia_lightning.audit.config import AuditOptions
from mia_lightning.audit.runtime import Runtime
from mia_lightning.checkpoints.trained_weights import brought_weights, load_weights
from mia_lightning.cli.evidence_request import Request
from mia_lightning.cli.terminal import progress_bar
from mia_lightning.cli.training import AuditCLI
from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.evidence.decision import check_level
from mia_lightning.evidence.evidence_record import Evidence
from mia_lightning.evidence.from_data_module import sides_by_id, sides_in_folders
from mia_lightning.evidence.from_model import checkpoint_context, weigh_evidence
from mia_lightning.evidence.settings import one_score
from mia_lightning.functional.neighbours import AUGMENTATIONS


def weigh_checkpoint(request: Request, settings: dict[str, Any], args: Sequence[str]) -> Evidence:
    """Weigh what a checkpoint shows.

    Args:
        request: What is to be weighed.
        settings: Settings of the audit.
        args: Options of ``mia-lightning audit``: configuration, checkpoint, settings of model and data.

    Raises:
        OSError: If a folder, file or checkpoint is missing or cannot be read.
        TypeError: If the data module is none of ours.
        ValueError: If options, data or checkpoint do not fit.
    """
    # Checked before anything takes time.
    check_level(request.level)
    one_score(None, cast(AuditOptions, settings), default="combined")
    # LightningCLI warns when it is handed arguments while the process has some of its own.
    before, sys.argv = sys.argv, [sys.argv[0]]
    try:
        evidence = EvidenceCLI(["audit", *args], request, settings).evidence
    finally:
        sys.argv = before
    assert evidence is not None
    return evidence


class EvidenceCLI(AuditCLI):
    """Builds model and data as ``audit`` does, and weighs evidence in its place.

    Args:
        args: Arguments of ``audit``, the command's name first.
        request: What is to be weighed.
        settings: Settings of the audit.
    """

    def __init__(self, args: list[str], request: Request, settings: dict[str, Any]) -> None:
        self.request, self.settings = request, settings
        self.evidence: Evidence | None = None
        super().__init__(args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make a trainer that only names device and precision; there is no audit callback to add."""
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
        request = self.request
        if request.suspects is None:
            sides = sides_by_id(data, str(request.suspect_ids), str(request.reference_ids))
        else:
            sides = sides_in_folders(data, request.suspects, str(request.reference))
        config = self._audit().auditor.config
        # The run that made the checkpoint may have the predictability of these pairs.
        run = Path(trained.checkpoint).absolute().parent.parent / "audit"
        cache_dir = config.cache_dir or (run if run.is_dir() else None)
        names = ("suspects", "reference", "suspect_ids", "reference_ids")
        precision = cast(Any, self.trainer).precision_plugin
        self.evidence = weigh_evidence(
            precision.convert_module(model).to(self.trainer.strategy.root_device),
            *sides,
            level=request.level,
            augmentations=[name for name in data.augmentations if name in AUGMENTATIONS],
            config=config,
            context=checkpoint_context(trained, **{n: v for n in names if (v := getattr(request, n)) is not None}),
            runtime=Runtime(forward_context=precision.forward_context),
            progress=progress_bar(),
            **{"primary": "combined", **self.settings, "cache_dir": cache_dir},
        )
