"""What can be measured: registries of errors, scores and metrics, which everything that shows or stores them reads."""

from mia_lightning.registry.registry import (
    ENTRY_POINTS,
    errors,
    metrics,
    register_error,
    register_metric,
    register_score,
    scores,
)
from mia_lightning.registry.specs import (
    TASKS,
    Colour,
    Column,
    ErrorSpec,
    ErrorTable,
    Estimate,
    MetricInputs,
    MetricSpec,
    Outputs,
    ScoreInputs,
    ScoreSpec,
    Sides,
    Task,
)

__all__ = [
    "ENTRY_POINTS",
    "TASKS",
    "Colour",
    "Column",
    "ErrorSpec",
    "ErrorTable",
    "Estimate",
    "MetricInputs",
    "MetricSpec",
    "Outputs",
    "ScoreInputs",
    "ScoreSpec",
    "Sides",
    "Task",
    "errors",
    "metrics",
    "register_error",
    "register_metric",
    "register_score",
    "scores",
]
