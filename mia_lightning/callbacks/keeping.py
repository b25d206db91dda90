"""A callback that keeps the audits of a training in its checkpoints."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback

from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import to_plain


class HistoryCallback(Callback):
    """Holds results and keeps them in checkpoints, so that a resumed training continues the curve.

    Args:
        prefix: First part of the metric keys; the entry in the checkpoint differs with it.

    Attributes:
        history: All results, in order.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix
        self.history: list[AuditResult] = []

    @property
    def result(self) -> AuditResult | None:
        """The latest result, None before the first audit."""
        return self.history[-1] if self.history else None

    @property
    def state_key(self) -> str:
        """Name of this audit's entry in a checkpoint; differs with the prefix, so that several audits can be kept."""
        return self._generate_state_key(prefix=self.prefix)

    def state_dict(self) -> dict[str, Any]:
        """Keep the history, as plain Python and tensors."""
        return {"history": to_plain(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the curve where the checkpoint left it."""
        self.history = [AuditResult.from_plain(r) for r in state_dict["history"]]
