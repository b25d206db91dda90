"""Errors of reference models on the samples of an audit, and what the patch attack learns from their loss maps."""

import copy
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import fisher_exact
from torch import Tensor, nn

from mia_lightning.attacks.patch import PatchAttack, loss_map
from mia_lightning.attacks.reference_folder import ReferenceFolder
from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.batch_scoring import Exhibit
from mia_lightning.audit.distributed import gathered, reason_of
from mia_lightning.audit.forward import Module, Runtime
from mia_lightning.audit.loading import Prepare, Source, as_loaded
from mia_lightning.audit.machine_failures import MACHINE_FAILURES
from mia_lightning.audit.progress import Progress, no_progress
from mia_lightning.functional.neighbours import moved_back
from mia_lightning.functional.roc import Floats
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.scores.reference_statistics import (
    Flags,
    Likelihood,
    ReferenceStatistics,
    segmentation_statistic,
    translation_statistic,
)

ReferenceModel = tuple[Module, Collection[str]]
"""A reference model and the ids of the samples that it was trained on."""

ONE_SIDED = 1e-4
"""Below this p-value (Fisher's exact test) a reference model's samples are not drawn from both sides alike."""

_AT_ONCE = 32  # predictions held at the same time while loss maps are made


class NoNumberError(ValueError):
    """A reference model has no number for a sample of the audit."""


class Kind(NamedTuple):
    """What the attacks look at in a task: an error, the statistic made of it, and what RMIA takes that for."""

    error: str
    statistic: Callable[[Floats], Floats]
    likelihood: Likelihood


KINDS = {
    "translation": Kind("reconstruction", translation_statistic, "inverse_error"),
    "segmentation": Kind("soft_error", segmentation_statistic, "confidence"),
    "multilabel": Kind("soft_error", segmentation_statistic, "confidence"),
}


def reference_models(
    folder: ReferenceFolder, template: nn.Module, load: Callable[[Any, Path], object]
) -> Iterator[tuple[nn.Module, frozenset[str]]]:
    """Load the trained models of a folder one after another.

    Args:
        folder: As :func:`~mia_lightning.attacks.reference_folder.load_references` gives it.
        template: A model of the same architecture; it is copied, device and all, and left alone.
        load: Loads a checkpoint's weights into a model; its errors name the file.

    Yields:
        Always the same module, with the weights of the next reference model, and the ids that one was trained on.
    """
    model = copy.deepcopy(template)
    for reference in folder.finished():
        trained_on, _ = reference.sides()
        load(model, reference.checkpoint)
        yield model, trained_on


def checkpoint_models(
    paths: Iterable[str | Path], template: nn.Module, load: Callable[[Any, Path], object]
) -> Iterator[tuple[nn.Module, frozenset[str]]]:
    """Load checkpoints as reference models that were trained on none of the audited samples, one after another.

    That is what an offline reference is taken for; what such a checkpoint was trained on is not known here.

    Args:
        paths: The checkpoints.
        template: As for :func:`reference_models`.
        load: Likewise.

    Yields:
        Always the same module, with the weights of the next checkpoint, and no ids.
    """
    model = copy.deepcopy(template)
    for path in paths:
        load(model, Path(path))
        yield model, frozenset()


def reference_statistics(
    result: AuditResult,
    models: Iterable[ReferenceModel],
    members: Source,
    nonmembers: Source,
    auditor: Auditor,
    *,
    runtime: Runtime | None = None,
    progress: Progress = no_progress,
) -> tuple[ReferenceStatistics, Floats]:
    """Run reference models on the samples of an audit, under the settings of that audit.

    The auditor is the one that made the result, though its scorer is not used; members and nonmembers are as audited.
    Each model is done with when the next is drawn, so one module may be yielded again with other weights.

    Returns:
        The statistics, in the order of ``result.ids``, and the errors of the reference models that they come from,
        (R, N), low = member: reconstruction errors (translation), or one minus the mean confidence (segmentation,
        of one class or independent channels).

    Raises:
        ValueError: If there is no reference model, or one has no number for an audited sample.
    """
    kind = kind_of(result)
    tables, included = reference_errors(
        result, models, members, nonmembers, auditor, runtime=runtime, progress=progress
    )
    return statistics_of(result, kind.error, kind.statistic, tables, included), tables[kind.error]


def statistics_of(
    result: AuditResult,
    error: str,
    statistic: Callable[[Floats], Floats],
    tables: Mapping[str, Floats],
    included: Flags,
) -> ReferenceStatistics:
    """Make statistics of an error of the audit and of the reference models, as :func:`reference_errors` gives them."""
    return ReferenceStatistics(statistic(result.errors[error]), statistic(tables[error]), included)


def reference_errors(
    result: AuditResult,
    models: Iterable[ReferenceModel],
    members: Source,
    nonmembers: Source,
    auditor: Auditor,
    *,
    runtime: Runtime | None = None,
    progress: Progress = no_progress,
    left_out: dict[int, str] | None = None,
) -> tuple[dict[str, Floats], Flags]:
    """Measure what :func:`reference_statistics` is made of; its arguments, its errors.

    With ``left_out``, models that have no number for an audited sample are left out, and it takes their numbers, from
    0, and the reasons; a :class:`NoNumberError` is raised where none is left.

    Returns:
        Errors of the reference models by name, (R, N) each, and whether model r was trained on sample n, (R, N).
    """
    names = dict.fromkeys(("reconstruction", kind_of(result).error))
    reconstruction_only = Auditor(
        auditor.config,
        task=result.meta["task"],
        scores=("reconstruction",),
        primary="reconstruction",
        errors=(),
        scorer=_NoPredictability(),
        cache_dir=None,
        output_dir=None,
    )
    errors: dict[str, list[Floats]] = {name: [] for name in names}
    included = []
    for number, (module, trained_on) in enumerate(models):
        try:
            other = _audit_of(reconstruction_only, module, (members, nonmembers), number, runtime, progress)
            rows = _rows(result, other, number)
        except NoNumberError as error:
            if left_out is None:
                raise
            left_out[number] = str(error)
            continue
        for name, tables in errors.items():
            tables.append(other.errors[name][rows])
        included.append(_was_trained_on(trained_on, result.ids))
    if not included and left_out:
        raise NoNumberError(next(iter(left_out.values())))
    if not included:
        raise ValueError("There is no reference model to compare with. Train some with: mia-lightning references")
    return {name: np.stack(tables) for name, tables in errors.items()}, np.stack(included)


def patch_scores(
    result: AuditResult,
    reference: ReferenceModel,
    target: Module,
    members: Source,
    nonmembers: Source,
    auditor: Auditor,
    *,
    attack: PatchAttack | None = None,
    prepare: Prepare = as_loaded,
) -> Floats:
    """Score the target's loss maps by what a reference model's maps teach, (N,); **high means member**.

    The reference model was trained on some of the audited samples and not on others; the other arguments are as for
    :func:`reference_statistics`. By default the attack has the audit's seed, works on the target's device, and sees
    beside the map of a pair those of the neighbours that the audit has asked the models about, if it has.

    Raises:
        ValueError: If samples cannot be read by position or differ in size, or if what that model was trained on, or
            not, is so much of one side that the attack would learn to tell the sides.
    """
    module, trained_on = reference
    included = _was_trained_on(trained_on, result.ids)
    _refuse_one_sided(included, result.member)
    if attack is None:
        first = next(target.parameters(), None) if isinstance(target, nn.Module) else None
        device = "cpu" if first is None else first.device
        attack = PatchAttack(seed=auditor.config.seed, device=device, neighbours=bool(neighbours_of(result)))
    sources = {"member": members, "nonmember": nonmembers}
    copies = neighbours_of(result) if attack.neighbours else ()
    if attack.neighbours and not copies:
        raise ValueError(
            "The patch attack was to see neighbours, but the audit has none: ask for a score that needs them, such as "
            "combined, or use PatchAttack(neighbours=False)."
        )
    attack.fit(_loss_maps(result, module, sources, auditor, prepare, copies), included)
    return attack.score(_loss_maps(result, target, sources, auditor, prepare, copies))


def _refuse_one_sided(included: Flags, member: Flags) -> None:
    """Raise a ValueError where a classifier of a reference model's samples would learn which side a sample is on."""
    table = [[int((known & side).sum()) for side in (member, ~member)] for known in (included, ~included)]
    if not all(map(any, table)) or (all(map(all, table)) and float(fisher_exact(np.array(table)).pvalue) >= ONE_SIDED):
        return  # a model that was trained on all or none teaches nothing, which PatchAttack.fit says
    (known, other), total = table[0], [int(member.sum()), int((~member).sum())]
    raise ValueError(
        f"the reference model was trained on {known} of the {total[0]} audited members and {other} of the {total[1]} "
        "nonmembers, so that its loss maps would teach which side a sample is on. Expected a part of both sides: "
        "mia-lightning references trains models on coin-flip halves of members and nonmembers."
    )


def neighbours_of(result: AuditResult) -> tuple[str, ...]:
    """The neighbours of each pair that an audit has asked the model about; none where no score needed them."""
    return tuple(result.meta.get("neighbours", {}).get("used", ()))


class _NoPredictability:
    """Scores nothing: reference-model attacks look at reconstruction alone, and features would cost the most."""

    def __call__(
        self, input: Tensor, target: Tensor, task: Any, *, num_classes: int | None, ignore_index: int
    ) -> Tensor:
        return torch.zeros(len(input))

    def fingerprint(self) -> str:
        return "none"


def kind_of(result: AuditResult) -> Kind:
    """What the attacks look at in the task of a result; a ValueError where it has no known task."""
    task = result.meta.get("task")
    if task not in KINDS:
        raise ValueError(
            f"Expected a result of Auditor.run, whose meta['task'] is one of {[*KINDS]}, but got {task!r}."
        )
    return KINDS[task]


def _was_trained_on(trained_on: Collection[str], ids: Iterable[str]) -> Flags:
    own = frozenset(trained_on)
    return np.array([name in own for name in ids], dtype=bool)


def _audit_of(
    auditor: Auditor,
    module: Module,
    sides: tuple[Source, Source],
    number: int,
    runtime: Runtime | None,
    progress: Progress,
) -> AuditResult:
    """The errors of a reference model; a NoNumberError where it cannot be run on what the audited model was run on."""
    with warnings.catch_warnings(record=True) as cautions:
        try:
            result = auditor.run(
                module,
                *sides,
                runtime=runtime,
                progress=lambda _, total: progress(f"reference model {number + 1}", total),
            )
        except Exception as error:  # what a model of any project raises, once the audited one has answered
            if any(gathered([isinstance(error, MACHINE_FAILURES)])):  # of any process, so that all of them stop
                raise
            reason = reason_of(cause if isinstance(cause := error.__cause__, Exception) else error)
            raise NoNumberError(
                f"Reference model {number + 1} of those given fails on what the audited model answers: "
                f"{next(iter(reason.splitlines()), '').rstrip('.')}."
            ) from error
    for caution in cautions:  # they are not of the audited model
        warnings.warn(f"Reference model {number + 1}: {caution.message}", caution.category, stacklevel=2)
    return result


def _rows(result: AuditResult, other: AuditResult, number: int) -> list[int]:
    """Where another audit has the samples of a result."""
    places = {key: row for row, key in enumerate(zip(other.member.tolist(), other.ids, strict=True))}
    audited = list(zip(result.member.tolist(), result.ids, strict=True))
    missing = [name for side, name in audited if (side, name) not in places]
    if missing:
        reasons = {e["id"]: e["reason"] for e in other.excluded}
        reason = reasons.get(missing[0], "the data given here do not hold it")
        raise (NoNumberError if missing[0] in reasons else ValueError)(
            f"Reference model {number + 1} of those given has no number for {len(missing)} of the {len(audited)} "
            f"audited samples, first {missing[0]!r}: {reason}. Give the data that were audited, and models whose "
            "training did not diverge."
        )
    return [places[key] for key in audited]


def _loss_maps(
    result: AuditResult,
    module: Module,
    sources: Mapping[str, Source],
    auditor: Auditor,
    prepare: Prepare,
    copies: Sequence[str] = (),
) -> Tensor:
    """Loss maps of the audited samples and of their copies, brought back into their place, (N, 1 + copies, H, W)."""
    maps: dict[int, Tensor] = {}
    runtime, names = Runtime(prepare=prepare), (None, *copies)
    for side, source in sources.items():
        rows = np.flatnonzero(result.member == (side == "member")).tolist()
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            places = [] if result.positions is None else result.positions[some].tolist()
            exhibits = auditor.exhibit(module, source, side, places, runtime, copies=copies) if places else []
            if len(exhibits) != len(some) * len(names):
                raise ValueError(f"The patch attack reads {side}s by position, which this data set does not allow.")
            for number, row in enumerate(some):
                shown = exhibits[number * len(names) : (number + 1) * len(names)]
                maps[row] = torch.cat(
                    [_map_in_place(*pair, auditor.config.ignore_index) for pair in zip(names, shown, strict=True)], 1
                )
    sizes = sorted({tuple(m.shape[-2:]) for m in maps.values()})
    if len(sizes) > 1:
        raise ValueError(f"The patch attack needs pictures of one size, but they measure {sizes[0]} to {sizes[-1]}.")
    return torch.cat([maps[row] for row in range(len(result.ids))])


def _map_in_place(copy: str | None, shown: Exhibit, ignore_index: int) -> Tensor:
    """The loss map of a sample, or that of a copy of it brought back into its place, (1, 1, H, W)."""
    losses = loss_map(shown.prediction, shown.target, shown.task, ignore_index)
    return losses if copy is None else moved_back(copy, losses, shown.input.shape[-2:])
