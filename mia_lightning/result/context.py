"""What is known around an audit when its result is made: the training, the weights, the membership, remarks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self


def step_name(step: int, global_step: int | None = None) -> str:
    """Call a step of a training by its name, for messages and statements.

    Args:
        step: The step, as ``meta["step"]`` and names of audit files have it.
        global_step: Lightning's own counter, by which it names checkpoints, where it differs: it counts the steps of
            all optimizers, two a batch in a GAN. Then both are named.

    Example:
        >>> step_name(120), step_name(120, 240)
        ('step 120', 'batch 120 (optimizer step 240)')
    """
    return f"step {step}" if global_step in (None, step) else f"batch {step} (optimizer step {global_step})"


@dataclass(frozen=True)
class AuditContext:
    """Everything about an audit that its samples do not tell. It goes in before the result is made, and once.

    Attributes:
        epoch: Epoch that was trained last, from 0; None outside of a training, or where it is not known.
        step: Steps of the training: of the optimizer, or batches where a module steps its optimizers by hand; None
            where it is not known. Lightning's own counter is in ``extra`` then, as ``global_step``.
        stage: ``"fit"``, ``"validate"`` or ``"audit"`` for audits that a trainer ran; None for others.
        checkpoint: File that the weights came from.
        membership: How members and nonmembers were assigned, as a data module's ``audit_info()`` tells it.
        members: Whether members are known to be those of the training: ``verified``, and the ``reason``.
        nonmembers_select_checkpoints: Whether the nonmembers also selected weights; None where it is not known.
        utility: The project's own validation metrics at the time of the audit.
        notes: Sentences that a reader of the result must know.
        excluded: Samples that were left out before the audit, each ``{"id", "side", "reason"}``.
        extra: Further entries of :attr:`AuditResult.meta`, such as ``source`` and ``outputs``.

    Example:
        >>> AuditContext(stage="validate", membership={"assignment": "given"}).to_meta()["epoch"] is None
        True
        >>> AuditContext().to_meta()
        {}
    """

    epoch: int | None = None
    step: int | None = None
    stage: str | None = None
    checkpoint: str | None = None
    membership: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)
    nonmembers_select_checkpoints: bool | None = None
    utility: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    excluded: tuple[Mapping[str, str], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def but(self, **changes: Any) -> Self:
        """Return a copy with some fields replaced."""
        return replace(self, **changes)

    def with_notes(self, *notes: str) -> Self:
        """Return a copy with further notes behind those that are there."""
        return replace(self, notes=(*self.notes, *notes))

    def to_meta(self) -> dict[str, Any]:
        """The entries of :attr:`AuditResult.meta`; what is not known is left out, unless a trainer ran the audit."""
        entries: dict[str, Any] = dict(self.extra)
        in_trainer = ("epoch", "step", "stage", "nonmembers_select_checkpoints")
        for name in (*in_trainer, "checkpoint"):
            value = getattr(self, name)
            if value is not None or (self.stage is not None and name in in_trainer):
                entries[name] = value
        for name in ("membership", "members", "utility"):
            if value := getattr(self, name):
                entries[name] = dict(value)
        return entries
