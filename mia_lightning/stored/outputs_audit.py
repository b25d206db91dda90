"""The audit of stored outputs: what a model made of samples that it was trained on, and of others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, Unpack, cast

from mia_lightning import registry
from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.config import AuditConfig, AuditOptions
from mia_lightning.audit.progress import Progress, no_progress
from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.id_lists import Ids
from mia_lightning.data.output_dataset import OutputDataset
from mia_lightning.data.output_files import shape_of
from mia_lightning.data.output_layout import OutputFiles, OutputKind
from mia_lightning.data.stored_arrays import StoredArrays
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.context import AuditContext
from mia_lightning.scores.building import needs_neighbours
from mia_lightning.stored.sides import find_sides, kind_of_outputs, require_same_kind, storage_differences

_UNVERIFIED = {
    "verified": False,
    "basis": "nothing",
    "reason": "stored outputs come without a record of what the model was trained on.",
}


class OutputOptions(AuditOptions, total=False):
    """The fields of :class:`~mia_lightning.AuditConfig` and :class:`~mia_lightning.data.output_layout.OutputFiles`."""

    inputs_dir: str
    targets_dir: str
    outputs_dir: str
    kind: OutputKind | None
    foreground: int | None
    white: float | None
    exif: Exif


def split_options(options: OutputOptions) -> tuple[OutputFiles, AuditOptions]:
    """Tell the settings of the files from those of the audit."""
    names = {f.name for f in fields(OutputFiles)}
    plain = cast(dict[str, Any], options)
    files = OutputFiles(**{name: value for name, value in plain.items() if name in names})
    return files, cast(AuditOptions, {name: value for name, value in plain.items() if name not in names})


def audit_outputs(
    folder: str | Path,
    *,
    member_ids: Ids | None = None,
    nonmember_ids: Ids | None = None,
    config: AuditConfig | None = None,
    context: AuditContext | None = None,
    progress: Progress = no_progress,
    **options: Unpack[OutputOptions],
) -> AuditResult:
    """Audit stored outputs of a model, without the model.

    Args:
        folder: Holds the folders ``members`` and ``nonmembers``, each with the folders ``inputs``, ``targets`` and
            ``outputs``; or these three, and ids say who is a member. Files that belong together have one name,
            suffixes aside. See :class:`~mia_lightning.data.output_dataset.OutputDataset` for what the files may hold.
        member_ids: Ids (files' names without suffix) of what the model was trained on, or a text file with one a line.
        nonmember_ids: Likewise: what it was not trained on. Ids in neither are left out.
        config: Settings of the audit; ``task="auto"`` reads the task from the first files where they leave no doubt.
        context: What is known of the model and of how membership was assigned.
        progress: As for :meth:`Auditor.run`.
        **options: Fields of :class:`~mia_lightning.AuditConfig`, which replace those of ``config``, and of
            :class:`~mia_lightning.data.output_layout.OutputFiles`: names of the folders, ``kind``,
            ``foreground``, ``white``, ``exif``.

    Returns:
        The result, as an audit of the model itself would give it.

    Raises:
        OSError: If a folder or file is missing or cannot be read.
        ValueError: If settings or files do not fit.

    Example::

        result = audit_outputs("outputs", task="segmentation", num_classes=3, max_samples=None)
        result.to_json("audit/result.json")
    """
    audit = OutputsAudit(
        folder, member_ids=member_ids, nonmember_ids=nonmember_ids, config=config, context=context, **options
    )
    return audit.run(progress)


class OutputsAudit:
    """An audit of stored outputs that is ready to run: both sides are found and can be compared.

    Arguments are those of :func:`audit_outputs`.

    Attributes:
        members: The members.
        nonmembers: The nonmembers.
        cautions: Sentences on what puts the numbers in doubt.
        auditor: Runs the audit.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        member_ids: Ids | None = None,
        nonmember_ids: Ids | None = None,
        config: AuditConfig | None = None,
        context: AuditContext | None = None,
        **options: Unpack[OutputOptions],
    ) -> None:
        files, settings = split_options(options)
        require_no_neighbours([str(settings.get("primary"))])
        config = AuditConfig.of(config, **settings)
        require_no_neighbours(config.scores)
        self.members, self.nonmembers = find_sides(folder, member_ids, nonmember_ids, files, config)
        sides = ("members", self.members), ("nonmembers", self.nonmembers)
        require_same_kind(*sides)
        self.cautions = [*storage_differences(*sides), *self.members.notes, *self.nonmembers.notes]
        self.auditor = auditor_of_outputs(config, files, self.members, self.nonmembers)
        lists = {"member_ids": member_ids, "nonmember_ids": nonmember_ids}
        extra = {"source": "outputs", "outputs": str(folder), "kind": self.members.kind}
        extra |= {name: str(ids) for name, ids in lists.items() if isinstance(ids, (str, Path))}
        stored = isinstance(self.members, StoredArrays) and isinstance(self.nonmembers, StoredArrays)
        about: dict[str, Any] = cast(StoredArrays, self.members).about if stored else {}
        context = context or AuditContext(**{"membership": {"assignment": "given"}, **about})
        if not context.members:
            context = context.but(members=_UNVERIFIED)
        context = context.but(stage=context.stage or "audit", extra={**context.extra, **extra})
        self.context = context.with_notes(*self.cautions)

    def run(self, progress: Progress = no_progress) -> AuditResult:
        """Run it."""
        return self.auditor.run(None, self.members, self.nonmembers, context=self.context, progress=progress)


def auditor_of_outputs(config: AuditConfig, files: OutputFiles, *sides: OutputDataset) -> Auditor:
    """An auditor of stored outputs: their task and kind, and one sample a batch where sizes differ."""
    if all(isinstance(side, StoredArrays) for side in sides):
        return _auditor_of_arrays(config, *cast(tuple[StoredArrays, ...], sides))
    kind = kind_of_outputs(files, config)
    one_size = len({shape_of(path) for side in sides for path in side.paths}) == 1
    return Auditor(
        config,
        task=sides[0].task,
        output="auto" if kind is None or kind == "images" else kind,
        num_classes=sides[0].num_classes if sides[0].kind == "labels" else None,  # other outputs tell
        white=None,  # images are in [0, 1] when they have been read
        adapter=None,  # stored outputs come as the data set reads them
        batch_size=config.batch_size if one_size else 1,
    )


def _auditor_of_arrays(config: AuditConfig, *sides: StoredArrays) -> Auditor:
    """An auditor of arrays as a model had them: their index says what they mean, where the user does not."""
    default = AuditConfig()
    meanings = [{n: v for n, v in side.settings.items() if getattr(config, n) == getattr(default, n)} for side in sides]
    if differing := [name for name in meanings[0] if any(m[name] != meanings[0][name] for m in meanings)]:
        raise ValueError(
            f"The two sides were stored with different settings ({', '.join(differing)}): they come from different "
            "calls of mia-lightning predict. Store both sides in one call."
        )
    one_size = len({shape_of(path) for side in sides for path in side.paths}) == 1
    return Auditor(config, adapter=None, batch_size=config.batch_size if one_size else 1, **cast(Any, meanings[0]))


def require_no_neighbours(scores: Iterable[str]) -> None:
    """Raise a ValueError for a score that queries the model, naming those that do not."""
    for score in scores:
        if score in registry.scores and needs_neighbours([score]):
            raise ValueError(
                f"The score {score!r} asks the model about flipped or shifted copies, which stored outputs cannot "
                "answer. Choose --primary membership, calibrated or reconstruction."
            )
