"""The audits that a training ran before it wrote a checkpoint."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mia_lightning.checkpoints.audited_samples import with_samples
from mia_lightning.checkpoints.training_step import step_of_checkpoint
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import read_audits


def earlier_audits(
    checkpoint: Mapping[str, Any], key: str, folder: Path, prefix: str = "audit", path: str | Path | None = None
) -> list[AuditResult]:
    """Read the audits of a training up to a checkpoint: those stored in it, else those in the run's audit folder.

    Args:
        checkpoint: Content of the checkpoint.
        key: Name of the audit callback's entry in it.
        folder: Audit folder of the run that wrote it; need not exist.
        prefix: Prefix of the audit.
        path: Path of the checkpoint, near which the samples of its audits are.

    Returns:
        Audits in order; none where neither place has any. A broken entry or file is left out with a warning.
    """
    history: list[AuditResult] = []
    try:
        stored = checkpoint.get("callbacks", {}).get(key, {}).get("history", [])
        history = [AuditResult.from_plain(plain) for plain in with_samples(stored, path)]
    except (AttributeError, TypeError, ValueError) as error:
        warnings.warn(f"The audits that the checkpoint keeps cannot be read: {error}", stacklevel=2)
    if not history and folder.is_dir():
        history = read_audits(folder, prefix)
    step = step_of_checkpoint(checkpoint)
    trained = [r for r in history if r.epoch is not None]
    return [r for r in trained if step is None or r.meta.get("step", 0) <= step]
