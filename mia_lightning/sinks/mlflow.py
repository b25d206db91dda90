"""Audits in MLflow, beside the scalars that its logger gets: verdict, pictures and files as artefacts of the run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mia_lightning import registry
from mia_lightning.audit.config import AuditConfig
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import stem
from mia_lightning.result.picture_files import Picture
from mia_lightning.result.verdict import headline
from mia_lightning.result.verdict_score import OF_THE_SCORE
from mia_lightning.sinks.audit_images import images_of
from mia_lightning.sinks.base import AuditSink, loggers_of
from mia_lightning.sinks.files import write_artefacts
from mia_lightning.sinks.tensorboard import verdict_text

if TYPE_CHECKING:
    import lightning.pytorch as pl


class MLflowSink(AuditSink):
    """Writes to the ``MLFlowLogger`` of the trainer; needs the extra ``mlflow``.

    The files of an audit hold its ids and who is a member: keep the experiment private where that is nobody else's
    business.
    """

    wants_pictures = True

    def write(self, trainer: pl.Trainer, result: AuditResult, step: int) -> None:
        """Log the verdict as Markdown, and its headline as a tag of the run."""
        for logger in loggers_of(trainer, "MLFlowLogger"):
            name = f"{stem(result.prefix)}/verdict/step={step:08d}.md"
            logger.experiment.log_text(logger.run_id, verdict_text(result), name)
            logger.experiment.set_tag(logger.run_id, f"{result.prefix}.headline", headline(result))

    def show(self, trainer: pl.Trainer, result: AuditResult, pictures: Sequence[Picture], step: int) -> None:
        """Log ROC, distribution and galleries."""
        images = images_of(result, pictures)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in images.items():
                kind = "jpg" if content.startswith(b"\xff\xd8") else "png"
                Path(folder, f"{name}-step={step:08d}.{kind}").write_bytes(content)
            for logger in loggers_of(trainer, "MLFlowLogger"):
                logger.experiment.log_artifacts(logger.run_id, folder, f"{stem(result.prefix)}/figures")

    def close(self, trainer: pl.Trainer, history: Sequence[AuditResult]) -> None:
        """Log the curve and the latest result with the tables of all audits."""
        if not history:
            return
        with tempfile.TemporaryDirectory() as folder:
            paths = write_artefacts(history, folder)
            for logger in loggers_of(trainer, "MLFlowLogger"):
                for path in paths:
                    logger.experiment.log_artifact(logger.run_id, str(path), stem(history[-1].prefix))

    def attach(self, trainer: pl.Trainer, paths: Sequence[Path]) -> None:
        """Log a report."""
        for logger in loggers_of(trainer, "MLFlowLogger"):
            for path in paths:
                logger.experiment.log_artifact(logger.run_id, str(path), "report")


def keys_for_files(metrics: Mapping[str, float], config: AuditConfig) -> dict[str, float]:
    """Rename metrics for MLflow's store of local files, where each is a file, and cannot be a folder of others, too.

    Headlines, such as ``audit/auc`` beside ``audit/auc/membership``, become ``audit/auc/headline``: in all audits, so
    that each is one series, whatever other keys an audit has.

    Example:
        >>> keys_for_files({"audit/auc": 0.5, "audit/auc/membership": 0.5, "epoch": 1}, AuditConfig())
        {'audit/auc/headline': 0.5, 'audit/auc/membership': 0.5, 'epoch': 1}
    """
    folders = {key[:place] for key in metrics for place, sign in enumerate(key) if sign == "/"}
    folders |= {f"{config.prefix}/{name}" for name in _headlines(config.scores)}
    return {f"{key}/headline" if key in folders else key: value for key, value in metrics.items()}


def _headlines(scores: Iterable[str]) -> set[str]:
    """Metrics that have, in some audit or other, further numbers under their name: always renamed, hence one series."""
    tested = {"p_value" for name in scores if registry.scores.get(name).own_test is not None}
    several = {key.partition("/")[0] for spec in registry.metrics for key in spec.keys if "/" in key}
    return several | {spec.name for spec in registry.metrics if spec.headline} | tested | {*OF_THE_SCORE}
