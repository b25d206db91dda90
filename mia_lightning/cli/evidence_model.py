"""``mia-lightning evidence`` with a model: a run's configuration and a checkpoint, as ``audit`` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningCLI

from mia_lightning.cli.lightning_commands import AuditCLI
from mia_lightning.cli.terminal import progress_bar
from mia_lightning.evidence.decision import check_level
from mia_lightning.evidence.evidence_record import Evidence
from mia_lightning.evidence.from_checkpoint import weigh_checkpoint
from mia_lightning.evidence.settings import one_score


def weigh_configured(args: Sequence[str], options: dict[str, Any]) -> Evidence:
    """Weigh what a checkpoint shows.

    Args:
        args: Options of ``mia-lightning audit``: configuration, checkpoint, settings of model and data.
        options: Keywords of :func:`~mia_lightning.evidence.from_checkpoint.weigh_checkpoint`.

    Raises:
        OSError: If a folder, file or checkpoint is missing or cannot be read.
        TypeError: If the data module is none of ours.
        ValueError: If options, data or checkpoint do not fit.
    """
    options = {"primary": "combined"} | options
    check_level(options["level"])  # before anything takes time, and the score likewise
    one_score(None, {"primary": options["primary"]}, default="combined")
    return EvidenceCLI(["audit", *args], options).evidence


class EvidenceCLI(AuditCLI):
    """Builds model and data as ``audit`` does, and weighs evidence in its place.

    Args:
        args: Arguments of ``audit``, the command's name first.
        options: As for :func:`weigh_configured`.
    """

    evidence: Evidence

    def __init__(self, args: list[str], options: dict[str, Any]) -> None:
        self.options = options
        self.reads_data = options.get("suspect_ids") is not None  # suspects and reference are folders of their own
        super().__init__(args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make a trainer that only names device and precision; there is no audit callback to add."""
        self.save_config_callback = None
        return LightningCLI.instantiate_trainer(self, **kwargs | {"logger": False})

    def audit(self, **kwargs: Any) -> None:
        """Weigh evidence."""
        self.evidence = weigh_checkpoint(
            kwargs["model"],
            kwargs.get("datamodule"),
            kwargs.get("ckpt_path"),
            trainer=self.trainer,
            config=self.audit_callback().auditor.config,
            progress=progress_bar(),
            **self.options,
        )
