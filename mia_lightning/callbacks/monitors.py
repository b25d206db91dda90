"""What callbacks that watch an audit's metrics are given: also where an audit has failed, and before there is one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mia_lightning.callbacks.trainer_state import callbacks_of, monitor_of
from mia_lightning.lightning_packages.loaded import classes
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.failed_audit import FAILED
from mia_lightning.result.history import in_training
from mia_lightning.scores.summary import worth_logging

if TYPE_CHECKING:
    import lightning.pytorch as pl


def values_of(result: AuditResult, prefix: str, *, failures: bool) -> dict[str, float]:
    """What is logged of an audit; where the training has had ``failures``, that this is none."""
    return worth_logging(result.metrics, prefix) | ({f"{prefix}/{FAILED}": 0.0} if failures else {})


def same_value(first: float, second: float | None) -> bool:
    """Whether two values are equal, NaN to NaN included; None is equal to none."""
    return second is not None and (first == second or (math.isnan(first) and math.isnan(second)))


def values_after_failure(trainer: pl.Trainer, history: Sequence[AuditResult], prefix: str) -> dict[str, float]:
    """What monitors are given after an audit that failed: the last values that there are, and that these are old.

    Before the first audit that succeeds, NaN for each monitored key: ``ModelCheckpoint`` and schedulers live with it.
    An ``EarlyStopping`` that takes NaN for the end gets no value.
    """
    last = next((r for r in reversed(history) if in_training(r)), None)
    values = {f"{prefix}/{FAILED}": 1.0}
    if last is not None:
        return worth_logging(last.metrics, prefix) | values
    stopping = {c.monitor for c in _stopping(trainer, prefix) if c.check_finite}
    schedulers = [config.monitor for config in trainer.lr_scheduler_configs if config.reduce_on_plateau]
    monitors = [*(getattr(c, "monitor", None) for c in callbacks_of(trainer)), *schedulers]
    keys = {m for m in monitors if isinstance(m, str) and m.startswith(f"{prefix}/")}
    return dict.fromkeys(sorted(keys - stopping), math.nan) | values


def warn_of_first_value(trainer: pl.Trainer, prefix: str) -> None:
    """Warn of callbacks that would end the training if the very first audit failed, since they had no value then."""
    saving = {monitor_of(c) for c in callbacks_of(trainer) if isinstance(c, classes("callbacks.ModelCheckpoint"))}
    for callback in _stopping(trainer, prefix):
        if callback.monitor == f"{prefix}/{FAILED}" and callback.strict:
            warnings.warn(
                f"{type(callback).__name__} monitors {callback.monitor!r}, which is logged from the first failure on: "
                "give it strict=False, or it ends the training where no audit fails.",
                stacklevel=3,
            )
            continue
        both = callback.monitor in saving
        if not callback.check_finite or not (callback.strict or both):
            continue
        remedy = "check_finite=False" if both else "strict=False"
        beside = ", as a ModelCheckpoint does," if both else ""
        warnings.warn(
            f"{type(callback).__name__} monitors {callback.monitor!r}{beside} and would end the training if the first "
            f"audit failed and there was no value yet: give it {remedy}. After later failures it gets the last value "
            "again.",
            stacklevel=3,
        )


def _stopping(trainer: pl.Trainer, prefix: str) -> list[pl.callbacks.EarlyStopping]:
    found = [c for c in callbacks_of(trainer) if isinstance(c, classes("callbacks.EarlyStopping"))]
    return [c for c in found if c.monitor.startswith(f"{prefix}/")]
