"""The one loop of an audit: loaders, predictions, errors, one row a sample, statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Unpack

import torch

from mia_lightning.audit.adapters import get_adapter
from mia_lightning.audit.batch_scoring import Exhibit, RowScorer
from mia_lightning.audit.config import AuditConfig, AuditOptions
from mia_lightning.audit.distributed import failing_together, rank_and_world, shares
from mia_lightning.audit.forward import device_of
from mia_lightning.audit.interpretation import Interpretation
from mia_lightning.audit.isolation import isolated
from mia_lightning.audit.loading import Prepare, Samples, Side, Source, as_loaded, empty_side
from mia_lightning.audit.progress import Progress, no_progress
from mia_lightning.audit.protocols import Scorer
from mia_lightning.audit.result_assembly import FairnessMemory, make_result
from mia_lightning.audit.shared_samples import OverlapCheck
from mia_lightning.features import PredictabilityScorer
from mia_lightning.functional.neighbours import Choice
from mia_lightning.metrics.collector import SampleCollector, SampleTable
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.context import AuditContext

Module = Callable[..., Any]


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
        >>> sorted(result.errors), len(result.ids)
        (['membership', 'predictability', 'reconstruction'], 8)
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
        self._rows = RowScorer(self.config, self.adapter, self.scorer)
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
        context: AuditContext | None = None,
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
            context: What is known around the audit: its training, weights, membership, remarks.
            meta: Further entries of the result's ``meta``.
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
        device, context = device_of(module, device), context or AuditContext()
        with isolated(module, members, nonmembers, prepare):
            with failing_together(device):
                sides = self._sides(members, nonmembers, prepare)
                first = sides[0].first()
                interpretation = Interpretation.of(self.config, self.adapter.unpack(first))
                collector = SampleCollector(self._rows.columns(first, interpretation)).to(device)
                neighbours = self._neighbours(first)
                with progress("auditing", sum(len(s) for s in sides)) as done:
                    for side in sides:
                        for positions, batch in shares(side, module, first, device):
                            ids, values = self._rows.rows(module, batch, interpretation, device, forward_context)
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
            interpretation.task,
            self.config,
            scorer_settings=getattr(self.scorer, "settings", type(self.scorer).__name__),
            context=context.but(extra={**context.extra, **(meta or {})}),
            neighbours=neighbours,
            capped=any(side.capped for side in sides),
            looks=looks,
            fairness=self._fairness,
            overlap=self._overlap,
        )
        with failing_together(device):  # only one process writes, and its disk may be full
            if self.config.output_dir is not None and rank_and_world()[0] == 0:
                result.to_json(Path(self.config.output_dir) / "result.json")
                result.to_csv(Path(self.config.output_dir) / "samples.csv")
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
                interpretation = Interpretation.of(self.config, self.adapter.unpack(batches[0]))
                self._rows.columns(batches[0], interpretation)
            for batch in batches:
                with failing_together(device):
                    self._rows.rows(module, batch, interpretation, device, forward_context)

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
            # As in the audit that chose the samples.
            interpretation = Interpretation.of(self.config, self.adapter.unpack(side.first()))
            return [
                self._rows.exhibit(module, side.item(position), interpretation, device, forward_context)
                for position in positions
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
        if not self.config.needs_neighbours:
            return None
        sample = self.adapter.unpack(batch)
        return self._rows.choose_neighbours(sample.input, sample.target)

    def _sides(self, members: Samples, nonmembers: Samples, prepare: Prepare) -> tuple[Side, Side]:
        return self._side("member", members, prepare), self._side("nonmember", nonmembers, prepare)

    def _side(self, name: str, source: Samples, prepare: Prepare) -> Side:
        config = self.config
        return Side(
            name,
            source,
            max_samples=config.max_samples,
            batch_size=config.batch_size,
            num_workers=config.num_workers,
            seed=config.seed,
            prepare=prepare,
        )
