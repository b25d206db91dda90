"""The one loop of an audit: loaders, predictions, errors, one row a sample, statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from mia_lightning.audit.adapters import Adapter, get_adapter
from mia_lightning.audit.batch_scoring import Exhibit, RowScorer
from mia_lightning.audit.config import Settings, TaskName, as_tuple
from mia_lightning.audit.distributed import failing_together, rank_and_world, shares
from mia_lightning.audit.forward import device_of
from mia_lightning.audit.isolation import isolated
from mia_lightning.audit.loading import Prepare, Samples, Side, Source, as_loaded, empty_side
from mia_lightning.audit.predictability_lookup import Scorer
from mia_lightning.audit.progress import Progress, no_progress
from mia_lightning.audit.result_assembly import FairnessMemory, make_result
from mia_lightning.audit.shared_samples import OverlapCheck
from mia_lightning.features import PredictabilityScorer
from mia_lightning.functional.neighbours import Choice
from mia_lightning.metrics.collector import SampleCollector, SampleTable
from mia_lightning.result.audit_result import AuditResult

Module = Callable[..., Any]


class Auditor:
    """Measures what a model has memorised, by comparing samples it was trained on with samples it was not.

    For each sample: one forward pass, the reconstruction error ``r``, the predictability error ``p`` of the pair
    (computed once, then cached by content) and the membership error ``r - alpha * p`` (Shafran et al., ICCV 2021).

    Args:
        task: ``"translation"``, ``"segmentation"``, or ``"auto"``: integer target = segmentation, float target of the
            input's height and width = translation.
        adapter: Reads batches and calls the model; ``"auto"`` understands the usual forms.
        scorer: Predictability scorer; None is ``PredictabilityScorer()``.
        scores: Which scores to report: ``"reconstruction"``, ``"membership"`` (the paper's), ``"calibrated"``,
            ``"neighbour"``, ``"combined"`` (recommended), ``"trained"`` (told who is a member: an upper bound).
        primary: The score behind ``audit/auc``; an attack, not ``"trained"``.
        alpha: Weight of the predictability error.
        neighbours: Transforms whose copies of each pair the model is asked about, one forward pass each, where a score
            needs them; ``"auto"`` leaves out those that the training augments with.
        num_classes: Number of classes; None takes the channels of the first prediction (one channel: binary).
        ignore_index: Label of void pixels; negative labels are void too.
        mean: Mean subtracted from the inputs by the project, a channel each; undone before features are computed.
        std: Deviation that inputs were divided by, likewise.
        target_range: Range that target images have; predictions are taken to have it too. Inputs of a translation
            without ``mean`` and ``std`` are taken to share it.
        output_key: Where a model that returns a dict or tuple keeps its prediction.
        max_samples: Size of the seeded subset a side, the same at every audit; None audits all.
        batch_size: Batch size where a data set, not a loader, is given.
        num_workers: Loading processes where a data set is given.
        seed: Seed of the subsets, and of folds and permutations in the statistics.
        fdr: False discovery rate at which single samples are flagged.
        prefix: First part of the metric keys.
        cache_dir: Folder of the predictability cache (SQLite); None keeps it in memory.
        output_dir: Folder for ``result.json`` and ``samples.csv``; None writes nothing.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> scorer = PredictabilityScorer(torch.nn.AvgPool2d(4), grid=8)
        >>> images = [(torch.rand(3, 32, 32), torch.rand(3, 32, 32)) for _ in range(8)]
        >>> result = Auditor(scorer=scorer).run(torch.nn.Identity(), images[:4], images[4:])
        >>> sorted(result.errors), len(result.ids)
        (['membership', 'predictability', 'reconstruction'], 8)
    """

    def __init__(
        self,
        *,
        task: TaskName = "auto",
        adapter: Adapter | str | None = None,
        scorer: PredictabilityScorer | Scorer | None = None,
        scores: Sequence[str] = ("reconstruction", "membership"),
        primary: str = "membership",
        alpha: float = 1.0,
        neighbours: str | Sequence[str] = "auto",
        num_classes: int | None = None,
        ignore_index: int = 255,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        target_range: Sequence[float] = (0, 1),
        output_key: str | int | None = None,
        max_samples: int | None = 512,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        fdr: float = 0.1,
        prefix: str = "audit",
        cache_dir: str | Path | None = None,
        output_dir: str | Path | None = None,
    ) -> None:
        low, high = target_range
        self.settings = Settings(
            task=task,
            scores=(scores,) if isinstance(scores, str) else tuple(scores),
            primary=primary,
            alpha=alpha,
            neighbours=neighbours if isinstance(neighbours, str) else tuple(neighbours),
            num_classes=num_classes,
            ignore_index=ignore_index,
            mean=as_tuple(mean),
            std=as_tuple(std),
            target_range=(float(low), float(high)),
            max_samples=max_samples,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            fdr=fdr,
            prefix=prefix,
        )
        self.adapter = get_adapter(adapter, output_key)
        self.scorer: Scorer = PredictabilityScorer() if scorer is None else scorer
        if not callable(self.scorer) or not hasattr(self.scorer, "fingerprint"):
            raise TypeError(
                f"Expected a scorer with scorer(input, target, task, num_classes=, ignore_index=) -> (B,) and "
                f"fingerprint() -> str, but got {type(self.scorer).__name__}."
            )
        self.output_dir = output_dir
        self._rows = RowScorer(self.settings, self.adapter, self.scorer, cache_dir)
        self._fairness, self._overlap = FairnessMemory(), OverlapCheck()

    @property
    def cache_dir(self) -> str | Path | None:
        """Folder of the predictability cache; may be set until the first audit."""
        return self._rows.predictability.cache_dir

    @cache_dir.setter
    def cache_dir(self, folder: str | Path | None) -> None:
        self._rows.predictability.cache_dir = folder

    @property
    def augmentations(self) -> tuple[str, ...]:
        """What the training augments with, out of the names of the data modules: neighbours to leave out."""
        return self._rows.augmentations

    @augmentations.setter
    def augmentations(self, names: Sequence[str]) -> None:
        self._rows.augmentations = tuple(names)

    def run(
        self,
        module: Module,
        members: Samples,
        nonmembers: Samples,
        *,
        meta: Mapping[str, Any] | None = None,
        looks: int = 1,
        device: torch.device | str | None = None,
        prepare: Prepare = as_loaded,
        forward_context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        progress: Progress = no_progress,
    ) -> AuditResult:
        """Audit a model.

        Args:
            module: A LightningModule, any ``nn.Module`` or any callable ``input -> prediction``. It is put in eval mode
                for the audit and left exactly as it was.
            members: Samples it was trained on: a data set, a loader, or a generator of single samples, which is read
                once and never held (with ``max_samples``, only its beginning; each process needs its own).
            nonmembers: Samples it was not trained on.
            meta: Recorded in the result's ``meta``.
            looks: How many audits of the same training are looked at: the corrected p-value allows for it.
            device: Where the model gets its inputs and errors, predictability included, are computed. None: where the
                module's weights are; the CPU for a callable that has none.
            prepare: Applied to each batch, as loaded, before it is read: a trainer's batch-transfer hooks.
            forward_context: Gives the context of each forward pass, for example a trainer's precision.
            progress: Called with a description and the number of samples; returns a context whose value is called with
                the number of samples done.

        Returns:
            The result, the same on every process of a distributed run.

        Raises:
            TypeError: If batches or outputs have a form that the adapter does not know.
            ValueError: If a side is empty, both are the same samples, the model fails on a batch, or shapes, labels or
                ranges do not fit.
        """
        device = device_of(module, device)
        with isolated(module, members, nonmembers, prepare):
            with failing_together(device):
                sides = self._sides(members, nonmembers, prepare)
                first = sides[0].first()
                task = self.settings.resolve_task(self.adapter.unpack(first))
                collector = SampleCollector(self._rows.columns(first, task)).to(device)
                neighbours = self._neighbours(first)
                with progress("auditing", sum(len(s) for s in sides)) as done:
                    for side in sides:
                        for positions, batch in shares(side, module, first, device):
                            ids, values = self._rows.rows(module, batch, task, device, forward_context)
                            if positions:
                                names = side.names(ids, positions)
                                collector.update(names, torch.tensor(positions), side.name == "member", values)
                                done(len(positions))
            table: SampleTable = collector.compute()
            self._rows.check_labels(table.columns)
            for side in sides:
                if not (table.member == (side.name == "member")).any():
                    raise ValueError(empty_side(side.name))  # a stream tells only at its end
        result = make_result(
            table,
            task,
            self.settings,
            scorer_settings=getattr(self.scorer, "settings", type(self.scorer).__name__),
            meta=meta or {},
            neighbours=neighbours,
            capped=any(side.capped for side in sides),
            looks=looks,
            fairness=self._fairness,
            overlap=self._overlap,
        )
        with failing_together(device):  # only one process writes, and its disk may be full
            if self.output_dir is not None and rank_and_world()[0] == 0:
                result.to_json(Path(self.output_dir) / "result.json")
                result.to_csv(Path(self.output_dir) / "samples.csv")
        return result

    def check(
        self,
        module: Module,
        members: Source,
        nonmembers: Source,
        *,
        device: torch.device | str | None = None,
        prepare: Prepare = as_loaded,
        forward_context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """Try one sample of each side, so that what cannot work fails now and not after an epoch of training.

        Takes the same arguments as :meth:`run`, and raises the same errors.
        """
        device = device_of(module, device)
        with isolated(module, members, nonmembers, prepare):
            with failing_together(device):
                sides = self._sides(members, nonmembers, prepare)
                batches = [side.first() for side in sides]
                task = self.settings.resolve_task(self.adapter.unpack(batches[0]))
                self._rows.columns(batches[0], task)
            for batch in batches:
                with failing_together(device):
                    self._rows.rows(module, batch, task, device, forward_context)

    def exhibit(
        self,
        module: Module,
        source: Source,
        name: str,
        positions: Sequence[int],
        *,
        device: torch.device | str | None = None,
        prepare: Prepare = as_loaded,
        forward_context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> list[Exhibit]:
        """Run single samples of a side again, to look at them.

        Args:
            module: The model.
            source: The side's data set or loader.
            name: ``"member"`` or ``"nonmember"``.
            positions: Places of the samples, as in :attr:`AuditResult.positions`.
            device: As for :meth:`run`.
            prepare: As for :meth:`run`.
            forward_context: As for :meth:`run`.

        Returns:
            What to show, on the CPU; empty where the source cannot be read by position.
        """
        side, device = self._side(name, source, prepare), device_of(module, device)
        if side.indices is None:
            return []
        with isolated(module, source, prepare):
            task = self.settings.resolve_task(self.adapter.unpack(side.first()))  # as the audit that chose the samples
            return [
                self._rows.exhibit(module, side.item(position), task, device, forward_context) for position in positions
            ]

    def neighbours(self, source: Source, *, prepare: Prepare = as_loaded) -> Choice | None:
        """Tell which neighbours will be asked about, judging by the first sample; None where no score needs them.

        Args:
            source: A side's data set or loader.
            prepare: As for :meth:`run`.

        Returns:
            The neighbours used, the weak ones among them, and those left out since the training augments with them.
        """
        with isolated(None, source, prepare):
            return self._neighbours(self._side("member", source, prepare).first())

    def _neighbours(self, batch: Any) -> Choice | None:
        if not self.settings.needs_neighbours:
            return None
        sample = self.adapter.unpack(batch)
        return self._rows.choose_neighbours(sample.input, sample.target)

    def _sides(self, members: Samples, nonmembers: Samples, prepare: Prepare) -> tuple[Side, Side]:
        return self._side("member", members, prepare), self._side("nonmember", nonmembers, prepare)

    def _side(self, name: str, source: Samples, prepare: Prepare) -> Side:
        s = self.settings
        return Side(
            name,
            source,
            max_samples=s.max_samples,
            batch_size=s.batch_size,
            num_workers=s.num_workers,
            seed=s.seed,
            prepare=prepare,
        )
