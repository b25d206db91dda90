"""A trainer that audits a trained model: no loop, no step and no hook of the project's own is run."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from mia_lightning.attacks.history_scores import with_history_scores
from mia_lightning.attacks.reference_audit import checkpoint_models, reference_models
from mia_lightning.attacks.reference_folder import ReferenceFolder, load_references
from mia_lightning.attacks.reference_scores import with_reference_scores
from mia_lightning.audit.class_names import names_in
from mia_lightning.audit.distributed import failing_together
from mia_lightning.audit.isolation import isolated
from mia_lightning.audit.progress import no_progress, rich_progress
from mia_lightning.callbacks.membership_audit import MembershipAudit
from mia_lightning.callbacks.trainer_checks import refuse_namesakes
from mia_lightning.callbacks.trainer_state import audits_of, context_of, runtime_of
from mia_lightning.checkpoints.earlier_audits import earlier_audits
from mia_lightning.checkpoints.trained_weights import TrainedWeights, brought_weights, load_weights, read_checkpoint
from mia_lightning.exported.writing import Export, ExportFormat
from mia_lightning.lightning_packages.adoption import adopted
from mia_lightning.lightning_packages.loaded import is_overridden
from mia_lightning.membership.run_membership import membership_of
from mia_lightning.membership.verification import Verification, compare_members
from mia_lightning.posthoc.earlier_checkpoint import OPTION, EarlierCheckpoint, read_earlier, refuse_primary
from mia_lightning.posthoc.export_checkpoint import export_checkpoint
from mia_lightning.posthoc.global_draws import GlobalDraws, Seeds
from mia_lightning.posthoc.loader_sides import (
    LoaderName,
    check_sides,
    loader_of,
    nothing_to_audit,
    set_up_for,
    stages_of,
)
from mia_lightning.posthoc.recorded_half import recorded_half
from mia_lightning.posthoc.reference_checkpoints import (
    check_reference_checkpoints,
    check_reference_models,
    refuse_trained_on_samples,
)
from mia_lightning.posthoc.stored_predictions import require_new_folder, store_predictions
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.context import AuditContext
from mia_lightning.result.history import stem
from mia_lightning.result.picture_files import Picture, write_result


class FinishedAudit(NamedTuple):
    """One of the audits that a trainer ran side by side, and the folder that it was written into, if one was named."""

    result: AuditResult
    folder: Path | None


class AuditTrainer(Trainer):
    """A Trainer that can also audit a trained model.

    From Python::

        trainer = AuditTrainer(accelerator="gpu", callbacks=[MembershipAudit(alpha=0.5)], logger=False)
        result = trainer.audit(model, datamodule, "last.ckpt", members="train", nonmembers="test")

    :func:`~mia_lightning.posthoc.audit_checkpoint.audit_checkpoint` makes one with the usual settings.

    Attributes:
        seeds: Seeds of the global generators in this audit and in the training, as far as they are known: where a data
            module draws its split from them, differing seeds are noted in the result.
        runs: Folders of runs in which the record of the training may be, for weights that lie elsewhere.
        audited: The audits of the last call; several where several callbacks audit side by side.
        earlier: Audits that the training ran until it wrote the checkpoint, with the first callback's settings.
    """

    seeds = Seeds()
    runs: Sequence[Path] = ()
    audited: Sequence[FinishedAudit] = ()
    earlier: Sequence[AuditResult] = ()
    _in_place_of_a_loop: Callable[[], Any] | None = None

    def audit(  # noqa: PLR0913 - each is an option of the command line
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        members: LoaderName | None = None,
        nonmembers: LoaderName | None = None,
        output_dir: str | None = None,
        references: str | None = None,
        reference_ckpt: str | list[str] | None = None,
        patch: bool = False,
        earlier_ckpt: str | None = None,
        unverified_members: bool = False,
    ) -> AuditResult:
        """Audit a trained model.

        Its members are compared with those of the training that made the weights, as far as these, or the folder of
        their run, say who they were; the result's ``meta["members"]`` says with what outcome.

        Args:
            model: The model.
            datamodule: Gives members and nonmembers.
            ckpt_path: Trained weights: a Lightning checkpoint, or a file of weights alone (.pt, .pth, .safetensors).
            members: Which of the data module's own loaders the model was trained on, for data modules that have no
                ``audit_dataloaders()``; mostly ``train``.
            nonmembers: Which of them it was not trained on (``test``).
            output_dir: Folder for result.json and samples.csv. Without it, the command line writes into ``audit`` in
                the trainer's root folder, or beside it where that holds another audit, and Python writes nothing.
            references: Folder of reference models, as ``mia-lightning references`` trains them: adds their attacks.
            reference_ckpt: Checkpoints, one or more, of models of the same architecture that were trained on none of
                the audited samples, such as the public one before fine-tuning: offline reference models. That is
                assumed, and stated, where no record tells otherwise. Alone they allow no online attacks.
            patch: With reference models: add the patch attack, which learns from loss maps of the first of them.
            earlier_ckpt: An earlier checkpoint: adds combined_history. That score says how exposed samples are to who
                holds both. That it is of the same training is assumed, and stated.
            unverified_members: Audit also members that are others than those of the training, as far as is known; the
                result says so.

        Returns:
            The result; of several audits, the first.

        Raises:
            FileNotFoundError: If the checkpoint does not exist.
            ValueError: If no checkpoint is named, it is of another model, there is nothing to audit with, or the
                members are not those of the training.
        """
        if patch and references is None:
            raise ValueError(
                "The patch attack learns from a reference model that was trained on half of the samples: name the "
                "folder of such models with --references."
            )
        checkpoints = [reference_ckpt] if isinstance(reference_ckpt, str) else list(reference_ckpt or ())
        folder = None if references is None else load_references(references)
        owner = model if datamodule is None else datamodule
        sides = check_sides(owner, members, nonmembers)
        self._require_audits(model, datamodule, sides)
        trained, stored = _load(model, ckpt_path)
        contents = check_reference_checkpoints(model, checkpoints)
        if folder is not None:
            check_reference_models(model, folder)
        about = partial(_context, trained, sides, datamodule)
        earlier = None if earlier_ckpt is None else read_earlier(model, trained, earlier_ckpt)
        verify = partial(
            self._verify,
            trained.checkpoint,
            stored,
            datamodule,
            accept=unverified_members,
            references=contents,
            earlier=earlier,
        )
        found = self._run_audits(model, datamodule, sides, about, stored, ckpt_path, verify)
        results = [result for result, _ in found]
        if folder is not None or checkpoints:
            before = _before(self.earlier, results[0].meta.get("step"))
            results[0] = self._with_references(results[0], model, folder, checkpoints, patch=patch, history=before)
        if earlier is not None:
            results[0] = self._with_earlier(results[0], model, earlier)
        root = None if output_dir is None else Path(output_dir)
        folders = [None if root is None else root / stem(r.prefix) if i else root for i, r in enumerate(results)]
        self.audited = [FinishedAudit(*audit) for audit in zip(results, folders, strict=True)]
        for (result, place), (_, pictures) in zip(self.audited, found, strict=True):
            if place is not None and self.is_global_zero:
                write_result(result, place, pictures)
        return results[0]

    def predict(  # noqa: PLR0913 - each is an option of the command line
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        return_predictions: bool | None = None,
        ckpt_path: Any = None,
        weights_only: bool | None = None,
        output_dir: str | None = None,
        members: LoaderName | None = None,
        nonmembers: LoaderName | None = None,
        unverified_members: bool = False,
    ) -> Any:
        """Store what a trained model makes of members and nonmembers; without a folder, predict as any trainer does.

        Args:
            model: The model.
            dataloaders: As for any trainer, where no outputs are stored.
            datamodule: Gives members and nonmembers.
            return_predictions: As for any trainer, where no outputs are stored.
            ckpt_path: As for :meth:`audit`.
            weights_only: As for any trainer; stored outputs never come from unpickled weights.
            output_dir: Folder to store inputs, targets and outputs of both sides in, for audit --outputs. Without it,
                predictions are handed to the callbacks.
            members: Which of the data module's own loaders the model was trained on, where it has no
                ``audit_dataloaders()``; mostly ``train``.
            nonmembers: Which of them it was not trained on, such as ``test``.
            unverified_members: Store also members that are others than those of the training, as far as is known; the
                audit of the folder says so.

        Returns:
            The folder, or what any trainer's ``predict`` returns.

        Raises:
            FileExistsError: If the folder is not empty.
            FileNotFoundError: If the checkpoint does not exist.
            ValueError: As :meth:`audit`; or if there are several processes.
        """
        if output_dir is None:
            # Earlier versions of Lightning have no such argument.
            options = {} if weights_only is None else {"weights_only": weights_only}
            with adopted(type(self), model, datamodule):
                return super().predict(model, dataloaders, datamodule, return_predictions, ckpt_path, **options)
        if self.world_size > 1:
            raise ValueError(
                f"Outputs are stored by one process, but there are {self.world_size}: pass --trainer.devices 1."
            )
        if model is None:
            raise ValueError("There is no model to store outputs of.")
        folder, module = require_new_folder(output_dir), model
        owner = model if datamodule is None else datamodule
        sides = check_sides(owner, members, nonmembers)
        self._require_audits(model, datamodule, sides)
        trained, stored = _load(model, ckpt_path)
        draws = GlobalDraws()

        def run() -> Path:
            if not (audits := audits_of(self)):
                raise ValueError(nothing_to_audit(datamodule))
            audit: MembershipAudit = audits[0]
            audit.auditor.class_names = names_in(datamodule, module)
            _name_sides(audit, owner, sides, draws)
            found = audit.sources(self)
            by_hand = sides is None and audit.members is not None
            verified = self._verify(
                trained.checkpoint, stored, datamodule, audit, by_hand=by_hand, accept=unverified_members
            )
            note = draws.note(owner, self.seeds)
            context = _context(trained, sides, datamodule, context_of(self, by_hand=audit.members is not None))
            context = context.but(members=verified.to_meta())
            context = context.with_notes(*([] if note is None else [note]), *verified.notes)
            progress, runtime = rich_progress if self.progress_bar_callback else no_progress, runtime_of(self, module)
            return store_predictions(
                audit.auditor, module, *found, folder, context=context, runtime=runtime, progress=progress
            )

        return self._while_held(model, datamodule, sides, draws, run)

    def export(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        format: ExportFormat = "onnx",
        output: str | None = None,
        input_shape: list[int] | None = None,
    ) -> Export:
        """Write a trained model as one file that runs without its code, and that ``ExportedModel`` audits.

        Args:
            model: The model.
            datamodule: Not used: no data go into the file.
            ckpt_path: As for :meth:`audit`.
            format: What to write: onnx (the default), torchscript, or export (torch.export).
            output: The file; by default the checkpoint's name with the suffix of the format, in the current folder.
            input_shape: Shape of one input, such as [3, 256, 256], where neither model nor checkpoint says it.
        """
        del datamodule
        if ckpt_path is None:
            raise ValueError("Nothing to export: name the trained weights with --ckpt_path path/to/file.ckpt.")
        config = next((audit.auditor.config for audit in audits_of(self)), None)  # says how predictions are read
        return export_checkpoint(model, ckpt_path, output, format=format, input_shape=input_shape, config=config)

    def _require_audits(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None,
        sides: tuple[LoaderName, LoaderName] | None,
    ) -> None:
        """Refuse, before weights are read, what has nothing to audit or would write over its own files."""
        # Modules of this package bring an audit only where the data have something to audit.
        no_sides = not hasattr(datamodule, "audit_dataloaders")
        brings_none = getattr(model, "brings_audit", False) and no_sides
        if not audits_of(self) and (brings_none or not is_overridden("configure_callbacks", model)):
            raise ValueError(nothing_to_audit(datamodule))
        if no_sides and sides is None and any(audit.members is None for audit in audits_of(self)):
            raise ValueError(nothing_to_audit(datamodule))
        for audit in audits_of(self):
            refuse_namesakes(self, audit.prefix)

    def _run_audits(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None,
        sides: tuple[LoaderName, LoaderName] | None,
        about: Callable[[AuditContext], AuditContext],
        stored: Mapping[str, Any],
        checkpoint: str | None,
        verify: Callable[..., Verification],
    ) -> list[tuple[AuditResult, list[Picture]]]:
        """Run every audit of the trainer while it holds the model where it belongs."""
        owner = model if datamodule is None else datamodule
        draws = GlobalDraws()
        # The run that wrote the checkpoint has computed the predictability of these pairs.
        training = None if checkpoint is None else Path(checkpoint).absolute().parent.parent / "audit"
        cache_dir = training if training is not None and training.is_dir() else None

        def run() -> list[tuple[AuditResult, list[Picture]]]:
            audits: list[MembershipAudit] = audits_of(self)
            if not audits:
                raise ValueError(nothing_to_audit(datamodule))
            for audit in audits:
                _name_sides(audit, owner, sides, draws)
                audit.auditor.cache_dir = audit.auditor.cache_dir or cache_dir
                audit.sources(self)
            notes = [note for note in [draws.note(owner, self.seeds)] if note is not None]
            found: list[tuple[AuditResult, list[Picture]]] = []
            by_hand = [sides is None and audit.members is not None for audit in audits]
            verified = [verify(audit, by_hand=own) for audit, own in zip(audits, by_hand, strict=True)]
            for audit, members in zip(audits, verified, strict=True):
                context = about(context_of(self, by_hand=audit.members is not None))
                # Where the samples were compared, how they were drawn does not matter.
                context = context.with_notes(*([] if members.verified else notes), *members.notes)
                context = context.but(members=members.to_meta())
                key, prefix = audit.state_key, audit.prefix
                earlier = [] if training is None else earlier_audits(stored, key, training, prefix, checkpoint)
                result = audit.run(self, self.lightning_module, context, _before(earlier, context.step))
                if not found:
                    self.earlier = earlier
                found.append((result, audit.pictures(self, self.lightning_module, result)))
            return found

        return cast(list[tuple[AuditResult, list[Picture]]], self._while_held(model, datamodule, sides, draws, run))

    def _while_held(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None,
        sides: tuple[LoaderName, LoaderName] | None,
        draws: GlobalDraws,
        run: Callable[[], Any],
    ) -> Any:
        """Do something while the trainer holds the model where it belongs and its data are set up."""
        owner = model if datamodule is None else datamodule
        if not is_overridden("forward", model):
            # Trainer.predict insists on something to call; an adapter may call something else.
            cast(Any, model).predict_step = partial(_no_forward, type(model).__name__)
        self._in_place_of_a_loop = run
        try:
            with adopted(type(self), model, datamodule), set_up_for(owner, stages_of(sides), draws):
                # Of all entries of a trainer, this one requires least of a model and of its data.
                return self.predict(model, datamodule=datamodule, return_predictions=False)
        finally:
            self._in_place_of_a_loop = None

    def _verify(
        self,
        path: str,
        content: Mapping[str, Any],
        data: LightningDataModule | None,
        audit: MembershipAudit,
        *,
        by_hand: bool,
        accept: bool,
        references: Mapping[str, Mapping[str, Any]] | None = None,
        earlier: EarlierCheckpoint | None = None,
    ) -> Verification:
        """Compare the members of an audit with those of the training; no reference may be of audited samples.

        Those of an earlier checkpoint are compared likewise, as far as that says who they were.
        """
        members, nonmembers = audit.sources(self)
        notes: list[str] = []
        # Files may be missing on one machine.
        with failing_together(self.strategy.root_device), isolated(None):
            owner = type(self.lightning_module if data is None else data).__name__
            refuse_trained_on_samples(
                references or {}, (members, nonmembers), owner=owner, adapter=audit.auditor.adapter
            )

            def compared(file: str, held: Mapping[str, Any]) -> Verification:
                adapter = audit.auditor.adapter
                coins = recorded_half(file, members, nonmembers, owner=owner, adapter=adapter)
                if coins is not None and coins.refused:
                    return coins
                run = membership_of(file, held, state_key=audit.state_key, runs=self.runs)
                found = compare_members(run, data, members, nonmembers, by_hand=by_hand)
                return found if coins is None or found.verified or found.refused else coins

            if earlier is not None:
                refuse_primary(audit.auditor.config)
                try:
                    accepted = compared(earlier.path, earlier.content).or_refuse(unverified_members=accept)
                except ValueError as error:
                    raise ValueError(f"{OPTION}: {earlier.path}: {error}") from error
                notes += [f"{OPTION} {earlier.path}: {accepted.reason}"] if accepted.accepted else []
            found = compared(path, content)
            verified = found.or_refuse(unverified_members=accept)
            return replace(verified, notes=(*verified.notes, *notes))

    def _with_references(
        self,
        result: AuditResult,
        model: LightningModule,
        folder: ReferenceFolder | None,
        checkpoints: Sequence[str],
        *,
        patch: bool,
        history: Sequence[AuditResult],
    ) -> AuditResult:
        audit = audits_of(self)[0]
        members, nonmembers = audit.sources(self)
        model.to(self.strategy.root_device)  # the run has left it on the CPU
        notes = []
        epochs = None if folder is None else folder.config.get("trainer", {}).get("max_epochs")
        if epochs is not None and epochs != self.max_epochs:
            notes.append(
                f"The reference models were trained with max_epochs={epochs}, the audited model's configuration "
                f"says {self.max_epochs}: models of another age are poor references."
            )
        try:
            audit.history[-1] = with_reference_scores(
                result,
                chain(
                    () if folder is None else reference_models(folder, model, load_weights),
                    checkpoint_models(checkpoints, model, load_weights),
                ),
                members,
                nonmembers,
                audit.auditor,
                target=model,
                patch=patch,
                folder=folder,
                checkpoints=checkpoints,
                notes=notes,
                history=history,
                runtime=runtime_of(self, model),
                progress=rich_progress if self.is_global_zero else no_progress,
            )
        except ValueError as error:  # known after the passes of the audit only, which is worth keeping
            reason = f"No scores of reference models: {error}"
            warnings.warn(reason, stacklevel=2)
            stated = result.meta.get("interpretation", {}) | {"reference models": "none; the notes say why"}
            meta = result.meta | {"notes": [*result.meta.get("notes", []), reason], "interpretation": stated}
            audit.history[-1] = replace(result, meta=meta)
        return cast(AuditResult, audit.history[-1])

    def _with_earlier(self, result: AuditResult, model: LightningModule, earlier: EarlierCheckpoint) -> AuditResult:
        audit: MembershipAudit = audits_of(self)[0]
        before = audit.auditor.run(
            earlier.model.to(self.strategy.root_device),
            *audit.sources(self),
            history=[result],
            runtime=runtime_of(self, model),
            progress=rich_progress if self.is_global_zero else no_progress,
        )
        audit.history[-1] = with_history_scores(result, before, earlier.when, seed=audit.auditor.config.seed)
        return audit.history[-1]

    def _run_stage(self) -> Any:
        """Audit in place of the loop that Lightning would run: its hooks expect batches, its steps may not be ready."""
        if self._in_place_of_a_loop is None:
            return super()._run_stage()
        self.strategy.barrier("run-stage")
        return self._in_place_of_a_loop()


def _name_sides(
    audit: MembershipAudit, owner: Any, sides: tuple[LoaderName, LoaderName] | None, draws: GlobalDraws
) -> None:
    """Have an audit that names no sides of its own take two loaders of the data module's."""
    if sides is not None and audit.members is None:
        audit.members, audit.nonmembers = (
            draws.watched(f"{name}_dataloader()", loader_of, owner, name) for name in sides
        )


def _no_forward(name: str, *args: Any) -> None:
    raise ValueError(f"{name} has no forward()")


def _before(audits: Sequence[AuditResult], step: int | None) -> list[AuditResult]:
    """Those of the training's audits that came before the weights at hand; None: all."""
    return [result for result in audits if step is None or result.meta.get("step", 0) < step]


def _load(model: LightningModule, path: str | None) -> tuple[TrainedWeights, Mapping[str, Any]]:
    """Load weights; return what is known of their training, and the part of the file that holds earlier audits."""
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
    kept = ("callbacks", "global_step", "loops", "datamodule_hyper_parameters")
    return trained, {key: checkpoint[key] for key in kept if key in checkpoint}


def _context(
    trained: TrainedWeights,
    sides: tuple[LoaderName, LoaderName] | None,
    data: LightningDataModule | None,
    context: AuditContext,
) -> AuditContext:
    """Add to what a trainer knows what is known of the weights and of the loaders."""
    membership, notes = dict(context.membership), []
    if sides is not None:
        membership |= {"members": f"{sides[0]}_dataloader", "nonmembers": f"{sides[1]}_dataloader"}
        if sides[1] == "val":
            membership["nonmembers_validate"] = True
        if sides[0] == "train" and getattr(data, "augmentations", None) != ():
            notes.append(
                f"Members are those of {type(data).__name__}.train_dataloader(), under its transforms: where these "
                "augment, members are not shown as they are, which hides memorization. audit_dataloaders() can give "
                "them without."
                if data is not None
                else "Members are shown under the transforms of train_dataloader(): where these augment, memorization "
                "is hidden."
            )
    validates = membership.get("nonmembers_validate")
    return context.but(
        checkpoint=trained.checkpoint,
        epoch=trained.epoch,
        step=trained.step,
        extra={**context.extra, **trained.counters},
        membership=membership,
        nonmembers_select_checkpoints=None if validates is None else bool(validates and trained.monitors),
    ).with_notes(*notes)
