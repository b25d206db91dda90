"""Reference-model attacks on an audit's result: every reference model is run on the samples that were audited.

Source papers and departures of each attack stand where it is computed (``lira``, ``rmia``, ``difficulty``,
``patch``). Common to all of them here:

- reference models are trained on coin-flip halves of the target's own members and nonmembers, mirrored in pairs, so
  that with an even number every sample was known to half of them. A target that was trained on more saw more;
- they are kept as they are after the configured number of epochs, whereas the target may have been stopped or chosen by
  what a validation said;
- the statistic is minus the logarithm of the reconstruction error (translation) or the logit of the mean confidence
  (segmentation);
- the population of RMIA is the audit's nonmembers, each compared with the others.

``combined_references`` adds the difference of log errors to ``combined``, for which one model is enough.

Every score is high for likely members.
"""

import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mia_lightning import registry
from mia_lightning.attacks.reference_audit import (
    NoNumberError,
    ReferenceModel,
    kind_of,
    patch_scores,
    reference_errors,
    statistics_of,
)
from mia_lightning.attacks.reference_folder import ReferenceFolder
from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.forward import Module, Runtime
from mia_lightning.audit.loading import Source
from mia_lightning.audit.progress import Progress, no_progress
from mia_lightning.functional.roc import Floats
from mia_lightning.registry import ScoreInputs
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import aligned_errors
from mia_lightning.scores.building import score_column
from mia_lightning.scores.reference_column import reference_weight
from mia_lightning.scores.reference_statistics import References, translation_statistic
from mia_lightning.scores.summary import score_metrics


def with_reference_scores(  # noqa: PLR0913 - each is an option of its own
    result: AuditResult,
    models: Iterable[ReferenceModel],
    members: Source,
    nonmembers: Source,
    auditor: Auditor,
    *,
    target: Module | None = None,
    patch: bool = False,
    folder: ReferenceFolder | None = None,
    checkpoints: Sequence[str] = (),
    notes: Sequence[str] = (),
    history: Sequence[AuditResult] = (),
    level: float = 0.95,
    runtime: Runtime | None = None,
    progress: Progress = no_progress,
) -> AuditResult:
    """Add the scores of the reference-model attacks to a result.

    Args:
        result: The audit of the target; left alone.
        models: As in :func:`~mia_lightning.attacks.reference_audit.reference_statistics`.
        members: The target's members, as audited.
        nonmembers: Its nonmembers, as audited.
        auditor: The auditor that made the result.
        target: The audited model; only the patch attack runs it again.
        patch: Add the patch attack, trained on the first reference model: one more pass of that and of the target, and
            one for each neighbour that the audit has asked about.
        folder: Where the models come from: recorded, and checked to be of the audited data.
        checkpoints: Files of those models that are assumed to be trained on none of the samples: recorded, and stated
            in ``meta["interpretation"]``.
        notes: Sentences on the reference models that a reader of the result must know.
        history: Earlier audits of the same training, in order, for scores that need them.
        level: Confidence of the intervals.
        runtime: As in :meth:`Auditor.run`; the patch attack works where the model is, in no context.
        progress: As in :meth:`Auditor.run`.

    Returns:
        A copy of the result with the scores that need reference models; one that these models or the measured errors
        do not allow is left out, and the result's notes say why; so is a reference model that has no number for a
        sample, such as one whose training diverged, with a warning and in ``meta["interpretation"]``.
        ``meta["references"]`` holds number, folder, duration and what the reference models weigh in
        ``combined_references``, in nats.

    Raises:
        ValueError: If there is no reference model, or they are of other data.

    Example:
        >>> import torch
        >>> from mia_lightning import PredictabilityScorer
        >>> pairs = [(torch.rand(3, 32, 32), torch.rand(3, 32, 32), f"p{i}") for i in range(8)]
        >>> auditor = Auditor(scorer=PredictabilityScorer(torch.nn.AvgPool2d(4), grid=8))
        >>> audit = auditor.run(torch.nn.Conv2d(3, 3, 1), pairs[:4], pairs[4:])
        >>> halves = [["p0", "p2", "p4", "p6"], ["p1", "p3", "p5", "p7"]]
        >>> models = [(torch.nn.Conv2d(3, 3, 1), half) for half in 2 * halves]
        >>> result = with_reference_scores(audit, models, pairs[:4], pairs[4:], auditor)
        >>> [name for name in result.scores if "offline" in name], result.meta["references"]["count"]
        (['lira_offline', 'rmia_offline'], 4)
    """
    started = time.perf_counter()
    if patch and target is None:
        raise ValueError("The patch attack compares loss maps: pass target=, the audited model, or patch=False.")
    if result.member.all() or not result.member.any():
        reason = "No scores of reference models: the audit has numbers for one side only."
        return replace(result, meta=_with_notes(result, reason))
    missing = [] if folder is None else folder.check_samples(result.ids)
    remaining = iter(models)
    first = list(itertools.islice(remaining, 1))
    attacks: dict[str, Callable[[], Floats]] = {}
    if patch and first and target is not None:
        attacks["patch"] = partial(
            patch_scores, result, first[0], target, members, nonmembers, auditor, prepare=(runtime or Runtime()).prepare
        )
    # Before the next model is drawn from the iterator: it may be the same module with other weights.
    patched, unpatched = _run(attacks)
    left_out: dict[int, str] = {}
    every = itertools.chain(first, remaining)
    try:
        tables, included = reference_errors(
            result, every, members, nonmembers, auditor, runtime=runtime, progress=progress, left_out=left_out
        )
    except NoNumberError:
        meta = _with_notes(result, *missing, *unpatched, *notes, "No scores of reference models: none has numbers.")
        return replace(result, meta=_without_models(meta, left_out, folder, checkpoints))
    kind = kind_of(result)
    statistics = statistics_of(result, kind.error, kind.statistic, tables, included)
    log_errors = statistics_of(result, "reconstruction", translation_statistic, tables, included)
    references = References(statistics, kind.likelihood, log_errors)
    earlier = [aligned_errors(audit, result.ids, result.member) for audit in history]
    inputs = ScoreInputs(result.errors, result.member, auditor.config.seed, earlier, references, result.group_codes)
    by_statistics = {
        spec.name: partial(_score, spec, inputs)
        for spec in registry.scores
        if "references" in spec.needs and spec.function is not None
    }
    scores, reasons = _run(by_statistics)
    scores |= patched
    new: dict[str, float] = {}
    for name, score in scores.items():
        new |= score_metrics(name, score, result.member, level, result.group_codes)
    record = {
        "count": statistics.count,
        "folder": None if folder is None else str(folder.path),
        **({"checkpoints": list(checkpoints)} if checkpoints else {}),
        **(
            {"weight": round(reference_weight(log_errors, result.member), 4)} if "combined_references" in scores else {}
        ),
        "seconds": round(time.perf_counter() - started, 3),
    }
    meta = _with_notes(result, *missing, *reasons, *unpatched, *notes) | {"references": record}
    if checkpoints:
        assumed = f"models that were trained on none of the audited samples, by assumption ({', '.join(checkpoints)})"
        meta["interpretation"] = result.meta.get("interpretation", {}) | {"reference checkpoints": assumed}
    return replace(
        result,
        scores=result.scores | scores,
        metrics=result.metrics | {f"{result.prefix}/{key}": float(value) for key, value in new.items()},
        meta=_without_models(meta, left_out, folder, checkpoints),
    )


def _without_models(
    meta: dict[str, Any], left_out: Mapping[int, str], folder: ReferenceFolder | None, checkpoints: Sequence[str]
) -> dict[str, Any]:
    """Say in a result's meta, and warn, which reference models are left out, and why, if any are."""
    if not left_out:
        return meta
    files = [*([] if folder is None else [str(r.checkpoint) for r in folder.finished()]), *checkpoints]
    lines = [f"{reason} It is left out{f': {files[n]}' if n < len(files) else ''}." for n, reason in left_out.items()]
    for line in lines:
        warnings.warn(line, stacklevel=3)
    numbers = ", ".join(str(number + 1) for number in left_out)
    stated = {"reference models": f"without number {numbers} of those given, for the reasons in the notes"}
    return meta | {
        "notes": [*meta["notes"], *lines],
        "interpretation": meta.get("interpretation", {}) | stated,
    }


def _score(spec: registry.ScoreSpec, inputs: ScoreInputs) -> Floats:
    if missing := [name for name in spec.errors if name not in inputs.errors]:
        names = " and ".join(map(repr, missing))
        raise ValueError(f"it needs {names}, which the audit has not measured; audit with errors={missing}.")
    return score_column(spec, inputs)


def _run(attacks: Mapping[str, Callable[[], Floats]]) -> tuple[dict[str, Floats], list[str]]:
    """Run attacks; say why not where the reference models or the data do not allow one."""
    scores, notes = {}, []
    for name, attack in attacks.items():
        try:
            scores[name] = attack()
        except ValueError as reason:
            notes.append(f"No score {name}: {reason}")
        except LookupError as reason:  # a function that takes more than its specification declares
            notes.append(f"No score {name}: its function looked for {reason}, which is not there.")
    return scores, notes


def _with_notes(result: AuditResult, *notes: str) -> dict[str, Any]:
    return result.meta | {"notes": [*result.meta.get("notes", []), *notes]}
