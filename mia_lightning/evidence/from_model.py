"""Evidence from a model that can be queried."""

from collections.abc import Sequence
from typing import Any, Unpack, cast

from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.config import AuditConfig, AuditOptions, settings_of
from mia_lightning.audit.forward import Module, Runtime
from mia_lightning.audit.loading import Source
from mia_lightning.audit.progress import Progress, no_progress
from mia_lightning.evidence.copies import without_copies
from mia_lightning.evidence.decision import check_level
from mia_lightning.evidence.evidence_record import Evidence
from mia_lightning.evidence.settings import one_score
from mia_lightning.evidence.weighing import weigh
from mia_lightning.result.context import AuditContext


def weigh_evidence(  # noqa: PLR0913 - all but three are keywords that most callers leave out
    model: Module,
    suspects: Source,
    reference: Source,
    *,
    level: float = 0.01,
    augmentations: Sequence[str] = (),
    config: AuditConfig | None = None,
    context: AuditContext | None = None,
    runtime: Runtime | None = None,
    progress: Progress = no_progress,
    **options: Unpack[AuditOptions],
) -> Evidence:
    """Was a model trained on these images? Compare them with a reference that it cannot have been trained on.

    Pairs that occur twice count once, and a pair on both sides is refused. What is concluded, and when nothing is, says
    :func:`~mia_lightning.evidence.weighing.weigh`.

    Args:
        model: A LightningModule, any ``nn.Module`` or any callable ``input -> prediction``; left exactly as it was.
        suspects: Data set or loader of the pairs in question, as they would have been in training but not augmented.
        reference: Data set or loader of pairs like them that the model cannot have been trained on.
        level: P-value at or below which the claim counts as supported, in [0.001, 0.1]. Choose it beforehand.
        augmentations: What the training augmented with (``"hflip"`` and so on): neighbours to leave out.
        config: Settings of the audit, of which ``primary`` is the score to judge by. None is ``primary="combined"``,
            all pairs (``max_samples=None``) and otherwise the defaults. What the model itself says of its task and
            labels replaces settings that are left at their defaults.
        context: What is known of the model, such as its checkpoint; goes into notes and ``meta``.
        runtime: As for :meth:`Auditor.run`.
        progress: As for :meth:`Auditor.run`.
        **options: Fields of :class:`~mia_lightning.AuditConfig`, which replace those of ``config``.

    Returns:
        The evidence.

    Raises:
        TypeError: If a side cannot be read by position, or batches or outputs have an unknown form.
        ValueError: If a setting is out of range, a side is empty, or a pair is on both sides.

    Example::

        evidence = weigh_evidence(model, suspects, reference, seed=1)
        print(evidence.to_text())
    """
    check_level(level)
    settings = one_score(config, options, default="combined")
    auditor = Auditor(settings, **_known_to(model, settings, options))
    auditor.augmentations = tuple(augmentations)
    sides, copies = without_copies(suspects, reference, auditor)
    context = context or AuditContext(extra={"source": "model"})
    result = auditor.run(
        model, *sides, context=context.but(excluded=(*context.excluded, *copies)), runtime=runtime, progress=progress
    )
    return weigh(result, level=level, fdr=settings.fdr, seed=settings.seed)


def _known_to(model: Module, config: AuditConfig, options: AuditOptions) -> AuditOptions:
    """What the model says of its task and labels, for settings that the user left alone."""
    default = AuditConfig()
    settings = cast(dict[str, Any], settings_of(model))
    untouched = [n for n in settings if n not in options and getattr(config, n) == getattr(default, n)]
    return cast(AuditOptions, {name: settings[name] for name in untouched})
