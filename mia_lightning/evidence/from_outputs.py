"""Evidence from stored outputs of a model that cannot be queried."""

from pathlib import Path
from typing import Unpack

from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.progress import Progress, no_progress
from mia_lightning.evidence.copies import without_copies
from mia_lightning.evidence.decision import check_level
from mia_lightning.evidence.evidence_record import Evidence
from mia_lightning.evidence.settings import one_score
from mia_lightning.evidence.ways import require_task
from mia_lightning.evidence.weighing import weigh
from mia_lightning.result.context import AuditContext
from mia_lightning.stored.outputs_audit import OutputOptions, auditor_of_outputs, require_no_neighbours, split_options
from mia_lightning.stored.sides import open_outputs, require_same_kind, storage_differences


def weigh_outputs(
    suspects: str | Path,
    reference: str | Path,
    *,
    level: float = 0.01,
    config: AuditConfig | None = None,
    context: AuditContext | None = None,
    progress: Progress = no_progress,
    **options: Unpack[OutputOptions],
) -> Evidence:
    """Was a model trained on these images? Tell from its stored outputs alone.

    Pairs that occur twice count once; a pair on both sides, and sides that were stored in different ways, are refused.
    What is concluded, and when nothing is, says :func:`~mia_lightning.evidence.weighing.weigh`.

    Args:
        suspects: Folder of the images in question, which holds the folders ``inputs``, ``targets`` and ``outputs``;
            names match. See :class:`~mia_lightning.data.output_dataset.OutputDataset` for what the files may hold.
        reference: Folder of images like them that the model cannot have been trained on, stored in the same way.
        level: As for :func:`~mia_lightning.weigh_evidence`.
        config: Settings of the audit, of which ``primary`` is the score to judge by. None is
            ``primary="membership"``, all pairs (``max_samples=None``) and otherwise the defaults.
        context: What is known of the model; goes into notes and ``meta``.
        progress: As for :meth:`Auditor.run`.
        **options: Fields of :class:`~mia_lightning.AuditConfig`, which replace those of ``config``; ``task`` has to be
            said. And fields of :class:`~mia_lightning.data.output_layout.OutputFiles`: names of the three folders,
            ``kind``, ``foreground``.

    Returns:
        The evidence.

    Raises:
        OSError: If a folder or file is missing or cannot be read.
        ValueError: If settings or files do not fit, or a pair is on both sides.

    Example::

        evidence = weigh_outputs("suspects", "reference", task="translation")
        evidence.to_json("evidence.json")
    """
    check_level(level)
    files, settings = split_options(options)
    audit = one_score(config, settings, default="membership")
    require_task(audit.task)
    require_no_neighbours(audit.scores)
    datasets = [open_outputs(folder, files, audit) for folder in (suspects, reference)]
    named = ("suspects", datasets[0]), ("reference", datasets[1])
    require_same_kind(*named)
    if differences := storage_differences(*named):
        raise ValueError(differences[0])
    auditor = auditor_of_outputs(audit, files, *datasets)
    sides, copies = without_copies(datasets[0], datasets[1], auditor)
    context = context or AuditContext()
    origin = {"source": "outputs", "suspects": str(suspects), "reference": str(reference), "kind": datasets[0].kind}
    context = context.but(excluded=(*context.excluded, *copies), extra={**context.extra, **origin})
    context = context.with_notes(*datasets[0].notes, *datasets[1].notes)
    result = auditor.run(None, *sides, context=context, progress=progress)
    return weigh(result, level=level, fdr=audit.fdr, seed=audit.seed)
