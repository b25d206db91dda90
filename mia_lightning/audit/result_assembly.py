"""From the gathered rows of an audit to its result."""

import hashlib
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mia_lightning import registry
from mia_lightning.audit.batch_plan import BASELINE, BLIND, CHECK, CONTENT, EACH, LOOK, Attacks, BatchPlan
from mia_lightning.audit.batch_scoring import ABSENT, REASONS, UNREAD
from mia_lightning.audit.grouping import Grouping, groups_of
from mia_lightning.audit.interpretation import Interpretation
from mia_lightning.audit.plausibility import PlausibilityCheck
from mia_lightning.functional.blind import IMAGE_STATISTICS
from mia_lightning.functional.groups import Codes, group_codes
from mia_lightning.functional.look_shuffles import SHUFFLES, unit_keys
from mia_lightning.functional.near_copies import NearCopies, near_copies
from mia_lightning.functional.sample_names import short_names
from mia_lightning.metrics.collector import SampleTable
from mia_lightning.registry import Look, ScoreInputs
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.context import AuditContext, step_name
from mia_lightning.result.history import aligned_errors
from mia_lightning.result.remarks import counted
from mia_lightning.scores.analysis import Analysis, Plan, analyse
from mia_lightning.scores.building import NEIGHBOUR, TILES
from mia_lightning.scores.fairness import Fairness, assess_fairness
from mia_lightning.scores.look_sequence import LookSequence
from mia_lightning.version import __version__

_OF_PICTURES = tuple(f"input_{name}" for name in IMAGE_STATISTICS)


class FairnessMemory:
    """Remembers the blind baseline of the samples audited last; it queries no model, so training does not change it."""

    def __init__(self) -> None:
        self._known: tuple[bytes, Fairness] | None = None

    def __call__(
        self,
        blind: Mapping[str, NDArray[np.float64]],
        predictability: NDArray[np.float64],
        member: NDArray[np.bool_],
        seed: int,
        group: Codes | None = None,
    ) -> Fairness | None:
        """Return the outcome; None where a side is empty."""
        if member.all() or not member.any():
            return None
        digest = hashlib.blake2b(member.tobytes() + predictability.tobytes() + repr(sorted(blind)).encode())
        for name in sorted(blind):
            digest.update(blind[name].tobytes())
        if group is not None:
            digest.update(group.tobytes())
        if self._known is None or self._known[0] != digest.digest():
            self._known = digest.digest(), assess_fairness(blind, predictability, member, seed=seed, group=group)
        return self._known[1]


class OverlapCheck:
    """Compares the contents of both sides; warns of samples that are on both, once."""

    def __init__(self) -> None:
        self._warned = False

    def __call__(self, ids: Sequence[str], member: NDArray[np.bool_], content: NDArray[np.float64]) -> float:
        """Share of the smaller side that is on the other, too, by numbers (N,) that equal pairs share; 0 for none."""
        smaller = member if 2 * member.sum() <= len(member) else ~member
        shared = np.isin(content, content[~smaller]) & smaller
        total, count = int(shared.sum()), int(smaller.sum())
        if total and not self._warned:
            self._warned = True
            names = ("member", "nonmember") if smaller is member else ("nonmember", "member")
            first = ", ".join(repr(ids[i]) for i in np.flatnonzero(shared)[:3])
            counts = f"{total} of {count} {names[0]}s {'is' if total == 1 else 'are'} also among the {names[1]}s"
            warnings.warn(
                f"{counts} (same input and target): {first}{', ...' if total > 3 else ''}. Samples on both sides pull "
                "the AUC towards 0.5; expected samples that the model was trained on as members, and others as "
                "nonmembers.",
                stacklevel=2,
            )
        return total / count if count else 0.0


class NearCopyCheck:
    """Counts samples that look nearly like another one, where no groups say which belong together."""

    def __init__(self) -> None:
        self._known: tuple[bytes, NearCopies] | None = None

    def __call__(self, kept: Mapping[str, NDArray[np.float64]], member: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
        """What results record under ``near_copies``; nothing where there are none."""
        looks = [column for name, column in kept.items() if name.startswith(LOOK)]
        if not looks:
            return {}
        statistics = [kept[BLIND + name] for name in _OF_PICTURES if BLIND + name in kept]
        table = np.column_stack([*looks, *statistics])
        digest = hashlib.blake2b(member.tobytes() + table.tobytes()).digest()
        if self._known is None or self._known[0] != digest:
            self._known = digest, near_copies(table, member)
        found = self._known[1]
        return {"near_copies": found._asdict()} if found.samples else {}


def make_result(  # noqa: PLR0913 - all that a result is made of, by name
    table: SampleTable,
    interpretation: Interpretation,
    *,
    scorer_settings: Any,
    context: AuditContext,
    attacks: Attacks,
    capped: bool,
    looks: int | LookSequence,
    fairness: FairnessMemory,
    overlap: OverlapCheck,
    plausibility: PlausibilityCheck,
    grouping: Grouping | None = None,
    near: NearCopyCheck | None = None,
    history: Sequence[AuditResult] = (),
    unread: Mapping[tuple[bool, int], str] | None = None,
) -> AuditResult:
    """Leave out the rows that have no number, say why, and compute the rest.

    ``context``, ``looks`` and ``history`` are those of :meth:`Auditor.run`, ``scorer_settings`` what the predictability
    scorer says of itself, ``capped`` is whether ``max_samples`` left samples of a side out, ``unread`` says why samples
    could not be read, by side (member or not) and position, ``grouping`` what the setting ``groups`` says, which comes
    before the groups in the table, ``near`` looks for near copies, and ``attacks`` are the scores, with what the
    verdict rests on, as :func:`settled_attacks` leaves them.
    """
    config = interpretation.config
    reason = table.columns["reason"].astype(int)
    names, folder = _names(table, reason)
    excluded = [*_excluded(table, names, unread or {}), *(dict(row) for row in context.excluded)]
    keep = np.flatnonzero(reason == 0)
    kept = {name: column[keep] for name, column in table.columns.items() if name != "reason"}
    raw = _raw_errors(kept, attacks)
    statistics = {name.removeprefix(BLIND): column for name, column in kept.items() if name.startswith(BLIND)}
    blind = {name: column for name, column in statistics.items() if len(column) and np.ptp(column) > 0}
    ids, member = [names[i] for i in keep], table.member[keep]
    of_batches = None if table.groups is None else [table.groups[i] for i in keep]
    groups = groups_of(grouping, of_batches, ids, [table.ids[i] for i in keep], config.group_key)
    codes = group_codes(groups.names)
    baseline = fairness(blind, raw["predictability"], member, config.seed, codes)
    needs_history = any("history" in registry.scores.get(name).needs for name in attacks.scores)
    earlier = [aligned_errors(result, ids, member) for result in history] if needs_history else []
    plan = config.plan(looks if isinstance(looks, int) else 1, attacks.scores, attacks.verdict_score)
    take = _taker(looks, table, keep, groups.names)
    analysis = analyse(raw, blind, member, plan, fairness=baseline, history=earlier, group=codes, take_look=take)
    versions = {"mia_lightning": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
    recorded = config.to_meta() | {"scorer": scorer_settings}
    decisions = dict(interpretation.decisions) | ({"groups": groups.decision} if groups.decision else {})
    decisions |= _statements(
        attacks.scores,
        ScoreInputs(analysis.errors, member, config.seed, earlier, group=codes),
        history[: len(earlier)],
        training=context.stage == "fit",
    )
    full = {"task": interpretation.task, "interpretation": decisions} | context.to_meta() | groups.to_meta(member)
    full |= _looks_to_meta(analysis.look, plan) | {"capped": capped, "notes": _notes(attacks, analysis, context)}
    full |= {"verdict_score": _rested_on(analysis, plan)} | ({"folder_of_ids": folder} if folder else {})
    if not groups.decision:
        full |= (near or NearCopyCheck())(kept, member)
    full["on_both_sides"] = overlap(ids, member, kept[CONTENT])
    full["epsilon"] = analysis.epsilon and analysis.epsilon | epsilon_standing(
        full, unit=analysis.epsilon.get("unit", "sample"), own_groups=grouping is None and config.group_key is None
    )
    baselines = {name.removeprefix(BASELINE): column for name, column in kept.items() if name.startswith(BASELINE)}
    full["plausibility"] = plausibility(
        interpretation.task,
        raw,
        baselines,
        statistics,
        training=context.stage == "fit",
        labels_only=interpretation.decisions.get("output", "").startswith("labels"),
    )
    if attacks.neighbours is not None:
        full["neighbours"] = {name: list(names) for name, names in attacks.neighbours._asdict().items()}
    return AuditResult(
        metrics=analysis.metrics,
        ids=ids,
        member=member,
        errors=analysis.errors,
        scores=analysis.scores,
        meta=full | {"settings": recorded, "versions": versions},
        excluded=excluded,
        positions=table.position[keep],
        blind=blind,
        groups=groups.names,
    )


def _statements(
    scores: Sequence[str], inputs: ScoreInputs, history: Sequence[AuditResult], *, training: bool
) -> dict[str, str]:
    """What is stated of scores, by their names; in a training its course tells when earlier audits were made."""
    steps = [(None if training else result.meta.get("step"), result.meta.get("global_step")) for result in history]
    when = ["" if step is None else f"after {step_name(step, counter)}" for step, counter in steps]
    specs = map(registry.scores.get, scores)
    return {spec.name: spec.statement(inputs, when) for spec in specs if spec.statement is not None}


def _excluded(table: SampleTable, names: Sequence[str], unread: Mapping[tuple[bool, int], str]) -> list[dict[str, str]]:
    """Who is left out, of which side, and why."""
    reason = table.columns["reason"].astype(int)
    sides = np.where(table.member, "member", "nonmember")
    return [
        {"id": names[i], "side": str(sides[i]), "reason": unread.get(place) or REASONS[int(reason[i])]}
        for i in np.flatnonzero(reason).tolist()
        for place in [(bool(table.member[i]), int(table.position[i]))]
    ]


def _raw_errors(kept: Mapping[str, NDArray[np.float64]], attacks: Attacks) -> dict[str, NDArray[np.float64]]:
    """The measured errors, with the log-ratios to neighbours where a score needs them."""
    left_out = (BLIND, CHECK, EACH, *(() if attacks.neighbours else (NEIGHBOUR, TILES)))
    return {name: column for name, column in kept.items() if not name.startswith(left_out)}


def _rested_on(analysis: Analysis, plan: Plan) -> str:
    """The score that the verdict rests on: the primary one where the planned one has no number of some sample."""
    return plan.verdict_score if np.isfinite(analysis.scores[plan.verdict_score]).all() else plan.primary


def _notes(attacks: Attacks, analysis: Analysis, context: AuditContext) -> list[str]:
    return [*([attacks.note] if attacks.note else []), *analysis.notes, *context.notes]


def settled_attacks(plan: BatchPlan, table: SampleTable, failed: Sequence[Mapping[str, str]]) -> Attacks:
    """The attacks of an audit, now that it has asked the model about copies of the pairs, if it has.

    Where the audit goes on without, scores that need copies are left out if the model has answered none of the copies
    of some sample: leaving that sample out would move the other scores.

    Args:
        plan: What was computed.
        table: The rows of all samples.
        failed: Why there are no predictions, by neighbour, from each process.
    """
    attacks = plan.attacks
    copies = [table.columns[NEIGHBOUR + name] for name in plan.copies]
    if not attacks.optional or not copies:
        return attacks
    audited = table.columns["reason"] == 0
    missing = int((audited & ~np.isfinite(copies).any(0)).sum())
    if not missing:
        return attacks
    reasons = {reason for process in failed for reason in process.values()}
    why = f" ({min(reasons)})" if reasons else ""
    return attacks.without_neighbours(
        plan.interpretation.config,
        f"that attack asks the model about flipped or shifted copies of the pairs, and of "
        f"{counted(missing, 'sample')} none has a finite prediction{why}.",
    )


def _taker(
    looks: int | LookSequence, table: SampleTable, keep: NDArray[np.intp], groups: Sequence[str] | None
) -> Callable[..., Look] | None:
    """What takes the next look at a training, knowing who is who by ids or, where these repeat, by places."""
    if isinstance(looks, int):
        return None
    unique = len(set(zip(table.ids, table.member.tolist(), strict=True))) == len(table.ids)
    ids = [table.ids[i] for i in keep] if unique else None
    return partial(looks.look, keys=unit_keys(table.member[keep], table.position[keep], groups, ids))


def _looks_to_meta(look: Look | None, plan: Plan) -> dict[str, Any]:
    """What a result records of the looks at its training: their plan, and how much of the error is spent by now."""
    if look is None:
        return {"looks": plan.looks}
    entries = {"number": look.number, "planned": look.planned, "spent": round(look.spent, 6), "open": look.open}
    entries["share"] = round(look.share, 9)
    return {"looks": look.planned, "look": entries | {"shuffles": SHUFFLES, "seed": plan.seed}}


def _names(table: SampleTable, reason: NDArray[np.int_]) -> tuple[list[str], str]:
    """Short names of all samples, and the folder left out of them; who was not read has its place for a name."""
    read = [i for i in range(len(table.ids)) if reason[i] not in (ABSENT, UNREAD)]
    short, folder = short_names(
        [table.ids[i] for i in read], table.member[read].tolist(), table.position[read].tolist()
    )
    names = list(table.ids)
    for i, name in zip(read, short, strict=True):
        names[i] = name
    return names, folder


def epsilon_standing(meta: Mapping[str, Any], *, unit: str = "sample", own_groups: bool = True) -> dict[str, Any]:
    """Say whether epsilon bounds are ``valid``, and in words their ``standing``.

    Args:
        meta: That of the result.
        unit: What the guesses were about: ``"sample"`` or ``"group"``.
        own_groups: Whether the groups are those that the data came with, for which the coins were flipped.
    """
    how = meta.get("membership", {})
    of_groups = how.get("unit") == "group" and how.get("independent_units") and not how.get("independent")
    thing = "group of samples" if of_groups else "sample"
    if not how.get("independent") and not of_groups:
        why = "indicative: not every sample was made a member or not by an independent fair coin"
    elif unit != ("group" if of_groups else "sample") or (of_groups and not own_groups):
        guesses = "groups of a setting" if unit == "group" else "samples"
        why = f"indicative: the coins were flipped for each {thing}, but the guesses are about {guesses}"
    elif meta.get("nonmembers_select_checkpoints"):
        why = "indicative: the nonmembers selected the weights, which should depend on members alone"
    elif meta.get("capped"):
        why = "indicative: max_samples left samples out side by side, so that the assignments are no longer independent"
    elif meta.get("looks", 1) > 1:
        why = "valid for this audit by itself, not for the largest of the several audits of a training"
    else:
        why = f"valid: every {thing} was made a member or not by an independent fair coin"
    return {"valid": why.startswith("valid"), "standing": why}
