"""Audits on Weights & Biases, beside the scalars that its logger gets: verdict, pictures, and files as artefacts."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from PIL import Image

from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import stem
from mia_lightning.result.picture_files import Picture
from mia_lightning.result.verdict import headline
from mia_lightning.sinks.audit_images import images_of
from mia_lightning.sinks.base import AuditSink, loggers_of
from mia_lightning.sinks.files import write_artefacts

if TYPE_CHECKING:
    import lightning.pytorch as pl


class WandbSink(AuditSink):
    """Writes to the ``WandbLogger`` of the trainer; needs the extra ``wandb``.

    The artefact of an audit holds its ids and who is a member: keep the project private where that is nobody else's
    business.
    """

    wants_pictures = True

    def write(self, trainer: pl.Trainer, result: AuditResult, step: int) -> None:
        """Log headline and verdict; the run's summary shows the latest."""
        texts: Any = {"headline": headline(result), "verdict": "\n".join(result.verdict)}
        for logger in loggers_of(trainer, "WandbLogger"):
            logger.log_metrics({f"{result.prefix}/{key}": text for key, text in texts.items()}, step)

    def show(self, trainer: pl.Trainer, result: AuditResult, pictures: Sequence[Picture], step: int) -> None:
        """Log ROC, distribution and galleries."""
        _log_images(trainer, {f"{result.prefix}/{k}": v for k, v in images_of(result, pictures).items()}, step)

    def close(self, trainer: pl.Trainer, history: Sequence[AuditResult]) -> None:
        """Log the curve, and the latest result with the tables of all audits as an artefact."""
        loggers = loggers_of(trainer, "WandbLogger")
        if not history or not loggers:
            return
        with tempfile.TemporaryDirectory() as folder:
            paths = write_artefacts(history, folder)
            for logger in loggers:
                _log_artefact(logger, stem(history[-1].prefix), paths)
            curve = next(path for path in paths if path.suffix == ".png")
            _log_images(trainer, {f"{history[-1].prefix}/memorization_curve": curve.read_bytes()})

    def attach(self, trainer: pl.Trainer, paths: Sequence[Path]) -> None:
        """Log a report as an artefact."""
        for logger in loggers_of(trainer, "WandbLogger"):
            _log_artefact(logger, "report", paths)


def _log_images(trainer: pl.Trainer, images: Mapping[str, bytes], step: int | None = None) -> None:
    for logger in loggers_of(trainer, "WandbLogger"):
        for key, content in images.items():
            with Image.open(io.BytesIO(content)) as image:
                # In the format that it has: a gallery of photographs as PNG would be ten times larger.
                logger.log_image(key, [image], step, file_type=["jpg" if image.format == "JPEG" else "png"])


def _log_artefact(logger: pl.loggers.WandbLogger, name: str, paths: Sequence[Path]) -> None:
    import wandb

    run = cast(Any, logger.experiment)
    artefact = wandb.Artifact(f"membership-{name}-{run.id}", type="membership-audit")
    for path in paths:
        artefact.add_file(str(path), name=path.name)
    run.log_artifact(artefact)
