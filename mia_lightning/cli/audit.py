"""Auditing trained weights inside a trainer: no validation loop, no step and no hook of the project's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden

from mia_lightning.attacks.reference_folder import ReferenceFolder
from mia_lightning.attacks.references import load_references, reference_models, with_reference_scores
from mia_lightning.audit.loading import Source
from mia_lightning.audit.progress import no_progress, rich_progress
from mia_lightning.audit.result_assembly import epsilon_standing
from mia_lightning.callbacks.membership_audit import MembershipAudit
from mia_lightning.callbacks.trainer_checks import refuse_namesakes
from mia_lightning.callbacks.trainer_state import runtime_of
from mia_lightning.checkpoints.earlier_audits import earlier_audits
from mia_lightning.checkpoints.trained_weights import TrainedWeights, brought_weights, load_weights, read_checkpoint
from mia_lightning.cli.seeds import Draws, Seeds
from mia_lightning.cli.splits import (
    Owner,
    Split,
    check_splits,
    loader_of,
    nothing_to_audit,
    set_up_for,
    stages_of,
)
from mia_lightning.models.audited_module import AuditedModule
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import stem
from mia_lightning.result.picture_files import Picture, write_pictures


@dataclass(frozen=True)
class Work:
    """What a running trainer does in place of a loop.

    Args:
        owner: Data module, or the model where it brings its own loaders.
        splits: Which of its loaders hold members and which nonmembers; None asks ``audit_dataloaders()``.
        cache_dir: Folder of predictability that is known already.
        draws: Notes which of the owner's parts draw from the global generators.
        pictures: Gets the pictures of each audit.
    """

    owner: Owner
    splits: tuple[Split, Split] | None
    cache_dir: Path | None
    draws: Draws
    pictures: list[list[Picture]] = field(default_factory=list)

    def __call__(self, trainer: Trainer) -> list[AuditResult]:
        """Run every audit of the trainer.

        Raises:
            ValueError: If there is none, or the loaders cannot be used.
        """
        audits = audits_of(trainer)
        if not audits:
            raise ValueError(nothing_to_audit(cast(Any, trainer).datamodule))
        for audit in audits:
            if self.splits is not None and audit.members is None:
                audit.members, audit.nonmembers = (self._loader_of(split) for split in self.splits)
            audit.auditor.cache_dir = audit.auditor.cache_dir or self.cache_dir
        return [self._run(audit, trainer, trainer.lightning_module) for audit in audits]

    def _run(self, audit: MembershipAudit, trainer: Trainer, module: LightningModule) -> AuditResult:
        result = audit.run(trainer, module)
        self.pictures.append(audit.pictures(trainer, module, result))
        return result

    def _loader_of(self, split: Split) -> Source:
        with self.draws.watch(f"{split}_dataloader()"):
            return loader_of(self.owner, split)


class AuditTrainer(Trainer):
    """A Trainer that can also audit a trained model."""

    earlier: Sequence[AuditResult] = ()  # audits of the training that made the audited checkpoint
    audited: Sequence[AuditResult] = ()  # of several audits side by side, all
    seeds = Seeds()
    _work: Work | None = None

    def audit(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        output_dir: str | None = None,
        weights_only: bool | None = None,
        members: Split | None = None,
        nonmembers: Split | None = None,
        top: int | None = None,
        references: str | None = None,
        patch: bool = False,
    ) -> AuditResult:
        """Audit a trained model.

        Args:
            model: The model.
            datamodule: Gives members and nonmembers.
            ckpt_path: Trained weights: a Lightning checkpoint, or a file of weights alone (.pt, .pth, .safetensors).
            output_dir: Folder for result.json and samples.csv; by default ``audit`` in the trainer's root folder.
            weights_only: Accepted because the saved configuration of a fit has it; weights are never unpickled.
            members: Which of the data module's own loaders the model was trained on, for data modules that have no
                ``audit_dataloaders()``; mostly ``train``.
            nonmembers: Which of them it was not trained on, such as ``test``.
            top: Number of most exposed members that the command line lists, with the epoch since which each is flagged.
            references: Folder of reference models, as ``mia-lightning references`` trains them: adds their attacks.
            patch: With reference models: add the patch attack, which learns from loss maps of the first of them.

        Returns:
            The result; of several audits, the first.

        Raises:
            FileNotFoundError: If the checkpoint does not exist.
            ValueError: If no checkpoint is named, it is of another model, there is nothing to audit with, or top < 1.
        """
        if top is not None and top < 1:
            raise ValueError(f"Expected --top >= 1, the number of members to list, but got {top}.")
        if patch and references is None:
            raise ValueError("The patch attack learns from a reference model: name their folder with --references.")
        folder_of_references = None if references is None else load_references(references)
        if weights_only is False:
            raise ValueError("weights_only=False would run code that a checkpoint holds; the audit does not do that.")
        owner = model if datamodule is None else datamodule
        splits = check_splits(owner, members, nonmembers)
        # Modules of this package bring an audit only where the data have something to audit.
        ours = isinstance(model, AuditedModule) and not hasattr(datamodule, "audit_dataloaders")
        if not audits_of(self) and (ours or not is_overridden("configure_callbacks", model)):
            raise ValueError(nothing_to_audit(datamodule))
        for audit in audits_of(self):
            refuse_namesakes(self, audit.prefix)
        trained, kept = _weights(model, ckpt_path)
        # The run that made the checkpoint has the predictability of these pairs already.
        run = None if ckpt_path is None else Path(ckpt_path).absolute().parent.parent / "audit"
        draws = Draws()
        cache_dir = run if run is not None and run.is_dir() else None
        work = Work(owner, splits, cache_dir, draws)
        results = self._run_audits(model, datamodule, work)
        if run is not None:
            audit = audits_of(self)[0]
            self.earlier = earlier_audits(kept, audit.state_key, run, audit.prefix)
        if folder_of_references is not None:
            results[0] = self._with_references(results[0], model, folder_of_references, patch=patch)
        for result, pictures in zip(results, work.pictures, strict=True):
            _tell(result, trained, splits, datamodule)
            result.meta["notes"] += [note for note in [draws.note(owner, self.seeds)] if note is not None]
            if self.is_global_zero:
                folder = folder_of(result, results[0], audit_folder(self, output_dir))
                result.to_json(folder / "result.json")
                result.to_csv(folder / "samples.csv")
                write_pictures(pictures, result, folder)
        self.audited = results
        return results[0]

    def _run_audits(
        self, model: LightningModule, datamodule: LightningDataModule | None, work: Work
    ) -> list[AuditResult]:
        if not is_overridden("forward", model):
            # Trainer.predict insists on something to call; an adapter may call something else.
            cast(Any, model).predict_step = partial(_never, type(model).__name__)
        self._work = work
        try:
            with set_up_for(work.owner, stages_of(work.splits), work.draws):
                # Of all entries, the one that asks least of a model and of its data.
                return cast(list[AuditResult], self.predict(model, datamodule=datamodule, return_predictions=False))
        finally:
            self._work = None

    def _with_references(
        self, result: AuditResult, model: LightningModule, folder: ReferenceFolder, *, patch: bool
    ) -> AuditResult:
        audit = audits_of(self)[0]
        model.to(self.strategy.root_device)  # the run has left it on the CPU
        result = with_reference_scores(
            result,
            reference_models(folder, model, load_weights),
            *audit.sources(self),
            audit.auditor,
            target=model,
            patch=patch,
            folder=folder,
            runtime=runtime_of(self, model),
            progress=rich_progress if self.is_global_zero else no_progress,
        )
        audit.history[-1:] = [result]
        theirs = folder.config.get("trainer", {}).get("max_epochs")
        if theirs != self.max_epochs:
            result.meta["notes"].append(
                f"The reference models were trained with max_epochs={theirs}, the audited model's configuration "
                f"says {self.max_epochs}: models of another age are poor references."
            )
        return result

    def _run_stage(self) -> Any:
        """Audit in place of the loop that Lightning would run: its hooks would meet no data, its steps not be ready."""
        if self._work is None:
            return super()._run_stage()
        self.strategy.barrier("run-stage")
        return self._work(self)


def audits_of(trainer: Trainer) -> list[MembershipAudit]:
    """The audits among a trainer's callbacks."""
    callbacks: list[Callback] = cast(Any, trainer).callbacks
    return [c for c in callbacks if isinstance(c, MembershipAudit)]


def audit_folder(trainer: Trainer, output_dir: str | None) -> Path:
    """Folder of an audit of trained weights."""
    return Path(output_dir) if output_dir is not None else Path(trainer.default_root_dir) / "audit"


def folder_of(result: AuditResult, first: AuditResult, folder: Path) -> Path:
    """Folder of one of several audits: the first has the folder itself, the others one with their prefix in it."""
    return folder if result is first else folder / stem(result.prefix)


def _never(name: str, *args: Any) -> None:
    raise ValueError(f"{name} has no forward()")


def _weights(model: LightningModule, path: str | None) -> tuple[TrainedWeights, dict[str, Any]]:
    """Load weights; return what they tell of their training, and the part of the file that holds earlier audits."""
    if (brought := brought_weights(model, path)) is not None:
        return brought, {}
    if path is None:
        raise ValueError(
            "Nothing to audit: name the trained weights with --ckpt_path path/to/file.ckpt. For a folder of a model's "
            "outputs, use mia-lightning audit --outputs DIR."
        )
    checkpoint = read_checkpoint(path)
    trained = load_weights(model, path, checkpoint)
    # The rest may hold twice the model's size in optimizer states.
    return trained, {key: checkpoint[key] for key in ("callbacks", "global_step") if key in checkpoint}


def _tell(
    result: AuditResult, trained: TrainedWeights, splits: tuple[Split, Split] | None, data: LightningDataModule | None
) -> None:
    """Add to a result what is known of the weights and of the samples."""
    result.meta |= {"checkpoint": trained.checkpoint, "epoch": trained.epoch, "step": trained.step}
    membership = result.meta["membership"]
    if splits is not None:
        membership |= {"members": f"{splits[0]}_dataloader", "nonmembers": f"{splits[1]}_dataloader"}
        if splits[1] == "val":
            membership["nonmembers_validate"] = True
        if splits[0] == "train" and getattr(data, "augmentations", None) != ():
            result.meta["notes"].append(
                f"Members are those of {type(data).__name__}.train_dataloader(), under its transforms: where these "
                "augment, members are not shown as they are, which hides memorization. audit_dataloaders() can give "
                "them without."
                if data is not None
                else "Members are shown under the transforms of train_dataloader(): where these augment, memorization "
                "is hidden."
            )
    validates = membership.get("nonmembers_validate")
    if validates is not None:
        result.meta["nonmembers_select_checkpoints"] = bool(validates and trained.monitors)
        if result.meta["epsilon"]:
            result.meta["epsilon"] |= epsilon_standing(result.meta)
