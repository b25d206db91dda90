"""The auditor: reads both sides, scores each sample, and makes the result."""

import warnings
from collections.abc import Sequence
from inspect import signature
from itertools import chain
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from mia_lightning.audit.adapters import get_adapter
from mia_lightning.audit.batch_plan import BatchPlan, attacks_of
from mia_lightning.audit.batch_scoring import (
    ABSENT,
    UNREAD,
    Exhibit,
    check_rows,
    decide_by,
    rows_of_absent,
    score_batch,
    show_batch,
)
from mia_lightning.audit.cache import PredictabilityLookup
from mia_lightning.audit.class_names import named_classes
from mia_lightning.audit.config import AuditConfig, AuditOptions
from mia_lightning.audit.distributed import failing_together, gathered, rank_and_world, shares
from mia_lightning.audit.forward import AuditedModel, Module, Runtime
from mia_lightning.audit.grouping import Grouping
from mia_lightning.audit.isolation import isolated
from mia_lightning.audit.label_checks import check_all_labels, check_labels, differences_of_sides
from mia_lightning.audit.loading import Samples, Side, Source, empty_side
from mia_lightning.audit.plausibility import PlausibilityCheck
from mia_lightning.audit.progress import Progress, no_progress
from mia_lightning.audit.protocols import Scorer
from mia_lightning.audit.result_assembly import (
    FairnessMemory,
    NearCopyCheck,
    OverlapCheck,
    make_result,
    settled_attacks,
)
from mia_lightning.audit.slice_columns import CLASS
from mia_lightning.audit.slicing import ClassNames, Slicing, with_slices
from mia_lightning.audit.stream_names import Keys, LatestStreams, marked, name_streams, require_same
from mia_lightning.audit.target_meaning import read_task
from mia_lightning.audit.target_range import UNIT, Range, TargetSpans, settle
from mia_lightning.audit.unreadable import SHARE, are_many, with_count
from mia_lightning.features import PredictabilityScorer
from mia_lightning.functional.neighbours import Choice
from mia_lightning.metrics.collector import SampleCollector, SampleTable
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.context import AuditContext
from mia_lightning.result.picture_files import write_result
from mia_lightning.scores.look_sequence import LookSequence

FIRST_SAMPLES = 8
"""Samples of each side by which it is decided what inputs, targets and predictions mean."""

FIRST_ROWS = 32
"""Samples of each side that are audited before a training begins, or a batch, if that is more, up to twice as many."""


class Auditor:
    """Measures what a model has memorised, by comparing samples it was trained on with samples it was not.

    For each sample: one forward pass, the reconstruction error ``r``, the predictability error ``p`` of the pair
    (computed once, then cached by content) and the membership error ``r - alpha * p`` (Shafran et al., ICCV 2021).

    Args:
        config: The settings; None is all defaults.
        **options: Fields of :class:`~mia_lightning.AuditConfig`, which replace those of ``config``.

    Raises:
        TypeError: If a keyword is no setting.
        ValueError: If a setting is out of range.

    Example:
        >>> scorer = PredictabilityScorer(torch.nn.AvgPool2d(4), grid=8)
        >>> images = [(torch.rand(3, 32, 32), torch.rand(3, 32, 32)) for _ in range(8)]
        >>> result = Auditor(scorer=scorer).run(torch.nn.Identity(), images[:4], images[4:])
        >>> list(result.scores), result.meta["verdict_score"]
        (['reconstruction', 'membership', 'calibrated', 'neighbour', 'combined'], 'combined')
    """

    def __init__(self, config: AuditConfig | None = None, **options: Unpack[AuditOptions]) -> None:
        self.config = AuditConfig.of(config, **options)
        self.adapter = get_adapter(self.config)
        self.scorer: Scorer = PredictabilityScorer() if self.config.scorer is None else self.config.scorer
        if not callable(self.scorer) or not hasattr(self.scorer, "fingerprint"):
            raise TypeError(
                f"Expected a scorer with scorer(input, target, task, num_classes=, ignore_index=) -> (B,) and "
                f"fingerprint() -> str, but got {type(self.scorer).__name__}."
            )
        if self.config.slices is not None and not _takes_slices(self.scorer):
            raise TypeError(
                f"slices={self.config.slices} limits what the predictability scorer looks at, but the call of "
                f"{type(self.scorer).__name__} takes no argument slices=: leave the setting out, or add it there."
            )
        self.augmentations: Sequence[str] = ()
        self.class_names: Sequence[str] | None = None  # what data module or model call the classes, by their numbers
        self.target_range: Range | None = None  # what "auto" is, once it is settled for all audits of the same samples
        self._grouping = None if self.config.groups is None else Grouping(self.config.groups)
        self._slicing = Slicing(self.config.columns) if self.config.columns else None
        self._predictability = PredictabilityLookup(self.scorer, self.config.cache_dir)
        self._fairness, self._overlap, self._plausibility = FairnessMemory(), OverlapCheck(), PlausibilityCheck()
        self._near = NearCopyCheck()
        self._plan_of_latest: BatchPlan | None = None  # audit
        self._streams = LatestStreams()

    @property
    def cache_dir(self) -> str | Path | None:
        """Folder of the predictability cache; may be set until the first audit."""
        return self._predictability.cache_dir

    @cache_dir.setter
    def cache_dir(self, folder: str | Path | None) -> None:
        self._predictability.cache_dir = folder

    def run(
        self,
        module: Module | None,
        members: Samples,
        nonmembers: Samples,
        *,
        context: AuditContext | None = None,
        looks: int | LookSequence = 1,
        history: Sequence[AuditResult] = (),
        runtime: Runtime | None = None,
        progress: Progress = no_progress,
    ) -> AuditResult:
        """Audit a model.

        Where ``scores`` and ``primary`` are the default and were not passed, all attacks that the model and the samples
        allow are reported, and the verdict rests on the strongest (see ``verdict`` in
        :class:`~mia_lightning.AuditConfig`); so it is in a training at the last look alone, since copies of each pair
        cost a forward pass each.

        Args:
            module: A LightningModule, any ``nn.Module`` or any callable ``input -> prediction``. It is put in eval mode
                for the audit and left exactly as it was. None where batches bring its outputs (``stored_output``).
            members: Samples it was trained on: a data set, a loader, or a generator of single samples, which is read
                once and never held (with ``max_samples``, only its beginning; each process needs its own).
            nonmembers: Samples it was not trained on.
            context: What is known around the audit; goes into the result. None: nothing.
            looks: The looks at the training, of which this audit is the next, or how many audits of it are looked at,
                where no more than that is known of them: the corrected p-value allows for it.
            history: Earlier audits of the same training, in order, for scores that need them.
            runtime: Device, preparation of batches and context of forward passes; None: as without a trainer.
            progress: Called with a description and the number of samples; returns a context whose value is called with
                the number of samples done.

        Returns:
            The result, the same on every process of a distributed run.

        Raises:
            TypeError: If batches or outputs have a form that the adapter does not know.
            ValueError: If a side is empty, both are the same samples, the model fails on a batch, or shapes, labels or
                ranges do not fit.
        """
        model = AuditedModel(module, self.adapter, runtime or Runtime())
        with isolated(module, members, nonmembers, model.runtime.prepare):
            with failing_together(model.device):
                sides = self._both_sides(members, nonmembers, model)
                beginnings = [side.beginning(FIRST_SAMPLES) for side in sides]
                every = isinstance(looks, int) or looks.last
                plan, heads = self._plan(beginnings, model, sides, all_attacks=every), self._heads(sides)
            _require_same(sides, heads)
            with failing_together(model.device):
                plan, collector = self._collect(sides, beginnings, plan, model, progress)
            table: SampleTable = collector.compute()
            collector.reset()  # holds all rows a second time
            if self._slicing is not None:
                self._slicing.agree()
            unread = _unread(sides, table, model.device)
            attacks = settled_attacks(plan, table, gathered([model.failed_copies]) if plan.attacks.optional else [])
            sources = {side.name: side.source for side in sides}
            earlier = dict.fromkeys(sources, history[-1]) if history else self._streams.before(table, sources)
            named = name_streams(table, heads, earlier)
            check_labels(table.columns, self.config.ignore_index)
            for side in sides:
                if not (table.member == (side.name == "member")).any():
                    raise ValueError(empty_side(side.name))  # a stream tells only at its end
        self._plan_of_latest = plan
        output = [] if plan.output is None else [*plan.output.notes]
        output += differences_of_sides(table.columns, table.member, self.config.ignore_index)
        context = (context or AuditContext()).with_notes(*output, *(note for side in sides for note in side.notes))
        result = make_result(
            named.table,
            plan.interpretation.with_decisions(named.decisions),
            scorer_settings=getattr(self.scorer, "settings", type(self.scorer).__name__),
            context=named.told_in(context),
            attacks=attacks,
            capped=any(side.capped for side in sides),
            looks=looks,
            fairness=self._fairness,
            overlap=self._overlap,
            grouping=self._grouping,
            near=self._near,
            plausibility=self._plausibility,
            history=history,
            unread=unread,
        )
        with failing_together(model.device):  # files and functions of columns may fail on a single process
            crops = sides[0].crops or 1, sides[1].crops or 1
            result = with_slices(result, named.table, self._slicing, self._classes(plan), crops)
        self._streams.remember(result, table, sources)
        with failing_together(model.device):  # only one process writes, and its disk may be full
            if self.config.output_dir is not None and rank_and_world()[0] == 0:
                write_result(result, self.config.output_dir)
        return result

    def _collect(
        self,
        sides: Sequence[Side],
        beginnings: Sequence[Sequence[Any]],
        plan: BatchPlan,
        model: AuditedModel,
        progress: Progress,
    ) -> tuple[BatchPlan, SampleCollector]:
        """Score this process's share of both sides; the plan comes back with what predictions are."""
        first = beginnings[0][0]
        with progress("auditing", sum(side.samples for side in sides)) as done:
            numbered = ((side, *one) for side in sides for one in shares(side, model.module, first, model.device))
            begun = next(numbered, None)
            answer: Tensor | None
            plan, answer = decide_by(first if begun is None else begun[2], plan, model, beginnings)
            self._classes(plan)  # names that do not fit are refused before all forward passes
            collector = SampleCollector(plan.columns).to(model.device)
            for side, positions, batch in chain(() if begun is None else [begun], numbered):
                scored = score_batch(batch, plan, model, self._predictability, answer, self._slicing)
                answer = None  # was that of the first batch
                check_rows(positions, scored.values, side.name)
                if positions:
                    ids = scored.sample.id
                    if ids is None and side.is_stream:
                        ids = marked(scored.sample)
                    names, places = side.names(ids, positions), torch.tensor(positions)
                    groups = side.pictures_of(names) if scored.groups is None else scored.groups
                    collector.update(names, places, side.name == "member", scored.values, groups, scored.labels)
                    done(len(positions))
            for side in sides:
                for reason, absent in ((ABSENT, side.left_out), (UNREAD, list(side.unreadable))):
                    places = torch.tensor(side.positions_of_entries(absent), dtype=torch.int64)
                    names, values = side.names_of_entries(absent), rows_of_absent(len(absent), plan, reason)
                    collector.update(names, places, side.name == "member", values)
        return plan, collector

    def check(
        self, module: Module | None, members: Source, nonmembers: Source, *, runtime: Runtime | None = None
    ) -> None:
        """Try the first batches of each side, to fail before training and not after an epoch; as :meth:`run`.

        Settles for the audits to come what ``target_range="auto"`` is. Warns of samples that the batches leave out.
        """
        model = AuditedModel(module, self.adapter, runtime or Runtime())
        with isolated(module, members, nonmembers, model.runtime.prepare):
            with failing_together(model.device):
                sides = self._both_sides(members, nonmembers, model)
                beginnings = [side.beginning(FIRST_SAMPLES) for side in sides]
                plan, heads = self._plan(beginnings, model, sides), self._heads(sides)
            _require_same(sides, heads)
            answer: Tensor | None
            with failing_together(model.device):
                plan, answer = decide_by(beginnings[0][0], plan, model, beginnings)
                self._classes(plan)
            for batch, *_ in beginnings:
                with failing_together(model.device):
                    score_batch(batch, plan, model, self._predictability, answer, self._slicing)
                answer = None  # was that of the first
            rows, every_name = [], list[str]()
            for side in sides:
                with failing_together(model.device):
                    opening = list(side.opening(FIRST_ROWS))
                for positions, batch in opening:
                    with failing_together(model.device):
                        scored = score_batch(batch, plan, model, None, slicing=self._slicing)
                        check_rows(positions, scored.values, side.name)
                        names = side.names(scored.sample.id, positions)
                        if self._grouping is not None and not self._grouping.independent:
                            self._grouping.of(names)
                        every_name += names
                        rows.append(scored.values)
                warn_of_absent(side)
            with failing_together(model.device):
                every = (batch for side in sides for _, batch in side.batches())
                check_all_labels(rows, every, plan, self.adapter)
                if self._slicing is not None:
                    self._slicing.require(every_name)
            self.target_range = plan.interpretation.target_range

    def decide(
        self, module: Module | None, members: Source, nonmembers: Source, *, runtime: Runtime | None = None
    ) -> BatchPlan:
        """Decide by a few samples of both sides, as :meth:`run` does, what their tensors and the predictions mean.

        Arguments and errors are those of :meth:`run`.
        """
        model = AuditedModel(module, self.adapter, runtime or Runtime())
        with isolated(module, members, nonmembers, model.runtime.prepare), failing_together(model.device):
            sides = self.side("member", members, model), self.side("nonmember", nonmembers, model)
            beginnings = [side.beginning(FIRST_SAMPLES) for side in sides]
            return decide_by(beginnings[0][0], self._plan(beginnings, model, sides), model, beginnings)[0]

    def exhibit(
        self,
        module: Module | None,
        source: Source,
        name: str,
        positions: Sequence[int],
        runtime: Runtime | None = None,
        *,
        copies: Sequence[str] = (),
    ) -> list[Exhibit]:
        """Run single samples of a side again, to look at them; none where the source cannot be read by position.

        Args:
            module: As for :meth:`run`.
            source: The side's data set or loader.
            name: ``"member"`` or ``"nonmember"``.
            positions: Places of the samples, as in :attr:`AuditResult.positions`.
            runtime: Likewise.
            copies: Neighbours to look at after each sample, as :meth:`neighbours` names them.

        Raises:
            ValueError: If there is no such neighbour, or no model to ask about it.
        """
        if module is None and copies:
            raise ValueError("There are no copies of stored outputs to look at: pass the model, or leave copies out.")
        model = AuditedModel(module, self.adapter, runtime or Runtime())
        side = self.side(name, source, model)
        if side.indices is None:
            return []
        with isolated(module, source, model.runtime.prepare):
            plan = self._plan_of_latest  # as in the audit that chose the samples
            if plan is None:
                beginning = side.beginning(FIRST_SAMPLES)
                plan, _ = decide_by(beginning[0], self._plan([beginning], model), model, [beginning])
            batches = (side.item(position) for position in positions)
            return [show_batch(batch, plan, model, copy) for batch in batches for copy in (None, *copies)]

    def neighbours(self, source: Source, *, runtime: Runtime | None = None) -> Choice | None:
        """Choose the neighbours by the first sample of a side; None where no score of any audit needs them."""
        model = AuditedModel(None, self.adapter, runtime or Runtime())
        with isolated(None, source, model.runtime.prepare):
            batch = self.adapter.unpack(self.side("member", source, model).first())
            return attacks_of(self.config, batch, self.augmentations, has_model=True, all_attacks=True).neighbours

    def _plan(
        self,
        beginnings: Sequence[Sequence[Any]],
        model: AuditedModel,
        sides: Sequence[Side] = (),
        *,
        all_attacks: bool = False,
    ) -> BatchPlan:
        """Decide what is computed, by the first samples of both sides, and of all targets what they span.

        Holds collectives where there are sides: all processes call it, within :func:`failing_together`.
        """
        batches = [self.adapter.unpack(batch) for side in beginnings for batch in side]
        target_range, reading = self.target_range, None
        if target_range is None and self.config.target_range == "auto" and sides:
            with failing_together(model.device):  # so that none waits for one that comes no further than here
                reading = read_task(self.config, batches)
                translates = reading[0] == "translation"
                spans = TargetSpans.of((b.target for b in batches), self.config.void) if translates else None
            target_range = self._settled_range(gathered([spans]), sides, model.device)
        has_model = model.module is not None
        return BatchPlan.of(
            self.config, batches, self.augmentations, has_model, target_range, reading, all_attacks=all_attacks
        )

    def _classes(self, plan: BatchPlan) -> ClassNames | None:
        """Name the classes, where the audit is about single ones; ValueError where the setting does not fit."""
        if not plan.classes or not (plan.class_errors or CLASS in self.config.columns):
            return None
        return ClassNames(*named_classes(self.config, plan.interpretation.task, plan.classes, self.class_names))

    def _settled_range(
        self, firsts: Sequence[TargetSpans | None], sides: Sequence[Side], device: torch.device
    ) -> Range:
        """What ``target_range="auto"`` is: by the first samples if they are pictures in [0, 1], else by all targets.

        Args:
            firsts: What the first samples of each process span, the same list on all; None where they are no pictures.
            sides: Both sides.
            device: Where processes agree.
        """
        translations = [spans for spans in firsts if spans is not None]
        if len(translations) < len(firsts):
            if translations:
                raise ValueError(
                    "The first targets of some processes are pictures, and those of others label maps, as random crops "
                    "may be: pass task='translation', task='segmentation' or task='multilabel'."
                )
            return UNIT
        spans = TargetSpans.joined(translations)
        if not spans.are_pictures and not spans.are_signed:
            if any(side.read_once for side in sides) and not spans.in_unit:
                raise ValueError(
                    f"The first targets span [{spans.lowest:.4g}, {spans.highest:.4g}]. What all of them span, which "
                    "is the unit of errors, cannot be known beforehand of a generator that is read once: pass "
                    "target_range=(low, high), or a data set."
                )
            readable = [side for side in sides if not side.read_once]
            with failing_together(device):
                everything = (b for side in readable for _, b in side.batches(*rank_and_world()))
                targets = (self.adapter.unpack(batch).target for batch in everything)
                own = TargetSpans.of(targets, self.config.void)
                for side in readable:
                    side.left_out, side.unreadable = [], {}
            spans = TargetSpans.joined([spans, *gathered([own])])
        return settle(spans)

    def _heads(self, sides: Sequence[Side]) -> dict[str, list[Keys]]:
        """Keys of the contents of the first samples of streams, by side, and of those of their next epochs."""
        heads = dict[str, list[Keys]]()
        for side in sides:
            named = [(places, marked(self.adapter.unpack(batch))) for places, batch in side.heads]
            heads[side.name] = [dict(zip(places, names, strict=False)) for places, names in named]
        return heads

    def _both_sides(self, members: Samples, nonmembers: Samples, model: AuditedModel) -> tuple[Side, Side]:
        """Both sides; what they are sliced by is looked for in their data sets, too."""
        sides = self.side("member", members, model), self.side("nonmember", nonmembers, model)
        if self._slicing is not None:
            self._slicing.look_into(sides[0].dataset, sides[1].dataset)
        return sides

    def side(self, name: str, source: Samples, model: AuditedModel) -> Side:
        """One side of an audit, ``"member"`` or ``"nonmember"``: its seeded subset, in batches."""
        config = self.config
        return Side(
            name,
            source,
            max_samples=config.max_samples,
            batch_size=config.batch_size,
            num_workers=config.num_workers,
            seed=config.seed,
            groups=self._grouping,
            prepare=model.runtime.prepare,
        )


def _require_same(sides: Sequence[Side], heads: dict[str, list[Keys]]) -> None:
    """Raise a ValueError where streams do not begin alike on all processes. A collective, if there are streams."""
    if any(side.is_stream for side in sides):
        require_same(gathered([heads]))


def _unread(sides: Sequence[Side], table: SampleTable, device: torch.device) -> dict[tuple[bool, int], str]:
    """Why samples of all processes could not be read, by side and position. A collective, if there are any.

    Raises:
        Exception: What the first of them raised, on the processes that know one, if they are too many of a side.
    """
    if not (table.columns["reason"] == UNREAD).any():
        return {}
    with failing_together(device):
        for side in sides:
            rows = table.columns["reason"][table.member == (side.name == "member")]
            unread, entries = int((rows == UNREAD).sum()), len(side) or len(rows)  # an entry may hold several samples
            if are_many(unread, entries) and side.unreadable:
                raise with_count(side.name, side.unreadable, unread, entries)
    known = [
        ((side.name == "member", position), one.reason)
        for side in sides
        for position, one in zip(side.positions_of_entries(side.unreadable), side.unreadable.values(), strict=True)
    ]
    return dict(gathered(known))


def _takes_slices(scorer: Scorer) -> bool:
    arguments = signature(scorer.__call__).parameters.values()
    return any(argument.name == "slices" or argument.kind is argument.VAR_KEYWORD for argument in arguments)


def warn_of_absent(side: Side) -> None:
    """Name samples that the batches of a side leave out, where there are any."""
    if side.unreadable:
        first = "; ".join(f"{side.names_of_entries([p])[0]}: {one.reason}" for p, one in [*side.unreadable.items()][:3])
        warnings.warn(
            f"Samples of the {side.name}s cannot be read: {first}{'; ...' if len(side.unreadable) > 3 else ''}. Up to "
            f"{SHARE:.0%} of a side are left out of every audit and named there; with more, audits fail.",
            stacklevel=3,
        )
    if not side.left_out:
        return
    names = side.names_of_entries(side.left_out)
    first = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    warnings.warn(
        f"The data set of the {side.name}s returns None for {first}, or its collation leaves them out. They are "
        "left out of every audit, too, and named there with this reason. A training that leaves out members was not "
        "trained on them: repair the files, or take them out of the data set.",
        stacklevel=3,
    )
