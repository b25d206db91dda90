"""LightningCLI with the audit: fit, validate, test, predict, and audit for models that are trained already."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # exported by a computed __all__
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from rich.console import Console
from rich.text import Text

from mia_lightning.attacks.references import load_references, reference_models, with_reference_scores
from mia_lightning.audit.outcome import epsilon_standing
from mia_lightning.audit.progress import no_progress, rich_progress
from mia_lightning.callbacks.membership_audit import MembershipAudit
from mia_lightning.cli.checkpoints import earlier_audits, load_weights, read_checkpoint
from mia_lightning.cli.parser import HelpfulParser
from mia_lightning.cli.show import scores_table, show_exposed, show_history
from mia_lightning.data.demo import DemoDataModule
from mia_lightning.data.paired import PairedImageDataModule
from mia_lightning.data.segmentation import SegmentationDataModule
from mia_lightning.models.pix2pix import Pix2Pix
from mia_lightning.models.unet_segmenter import UNetSegmenter
from mia_lightning.results.result import AuditResult

# Named so that `--model Pix2Pix` and `--data DemoDataModule` need no path: the parser knows imported classes.
KNOWN_CLASSES = (Pix2Pix, UNetSegmenter, PairedImageDataModule, SegmentationDataModule, DemoDataModule)


class AuditTrainer(Trainer):
    """A Trainer that can also audit a trained model."""

    earlier: Sequence[AuditResult] = ()  # audits of the training that made the audited checkpoint

    def audit(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        output_dir: str | None = None,
        weights_only: bool | None = None,
        top: int | None = None,
        references: str | None = None,
        patch: bool = False,
    ) -> AuditResult:
        """Audit a trained checkpoint.

        Args:
            model: The model.
            datamodule: Gives members and nonmembers.
            ckpt_path: Checkpoint whose weights are audited.
            output_dir: Folder for result.json and samples.csv; by default ``audit`` in the trainer's root folder.
            weights_only: Accepted because the saved configuration of a fit has it; weights are never unpickled.
            top: Number of most exposed members that the command line lists, with the epoch since which each is flagged.
            references: Folder of reference models, as ``mia-lightning references`` trains them: adds their attacks.
            patch: With reference models: add the patch attack, which learns from loss maps of the first of them.

        Returns:
            The result.

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
        if ckpt_path is None:
            raise ValueError("Nothing to audit: name the trained weights with --ckpt_path path/to/file.ckpt.")
        callbacks: list[Callback] = cast(Any, self).callbacks
        audits = [c for c in callbacks if isinstance(c, MembershipAudit)]
        if not audits:
            raise ValueError(
                "There is no audit to run: the data module has no audit_dataloaders(), or the model has audit=False."
            )
        checkpoint = read_checkpoint(ckpt_path)
        trained = load_weights(model, ckpt_path, checkpoint)
        # The run that made the checkpoint has the predictability of these pairs already.
        run = Path(ckpt_path).parent.parent / "audit"
        self.earlier = earlier_audits(checkpoint, audits[0].state_key, run, audits[0].prefix)
        del checkpoint  # it may hold twice the model's size in optimizer states
        audits[0].auditor.cache_dir = audits[0].auditor.cache_dir or (run if run.is_dir() else None)
        self.validate(model, datamodule=datamodule, verbose=False)
        result = audits[0].result
        assert result is not None
        if folder_of_references is not None:
            model.to(self.strategy.root_device)  # validation has left it on the CPU
            result = audits[0].history[-1] = with_reference_scores(
                result,
                reference_models(folder_of_references, model, load_weights),
                *audits[0].sources(self),
                audits[0].auditor,
                target=model,
                patch=patch,
                folder=folder_of_references,
                forward_context=self.precision_plugin.forward_context,
                progress=rich_progress if self.is_global_zero else no_progress,
            )
            theirs = folder_of_references.config.get("trainer", {}).get("max_epochs")
            if theirs != self.max_epochs:
                result.meta["notes"].append(
                    f"The reference models were trained with max_epochs={theirs}, the audited model's configuration "
                    f"says {self.max_epochs}: models of another age are poor references."
                )
        monitors = trained.pop("monitors")
        validates = result.meta["membership"].get("nonmembers_validate")
        result.meta |= trained
        if validates is not None:
            result.meta["nonmembers_select_checkpoints"] = bool(validates and monitors)
            if result.meta["epsilon"]:
                result.meta["epsilon"] |= epsilon_standing(result.meta)
        folder = audit_folder(self, output_dir)
        if self.is_global_zero:
            result.to_json(folder / "result.json")
            result.to_csv(folder / "samples.csv")
        return result


def drop_advertisements() -> None:
    """Keep Lightning's tips for its paid services out of the output; everything else it says stays."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: "Tip: For seamless cloud" not in record.getMessage())


class RunFolder(Callback):
    """Gives every audit a cache and an output folder inside the run's own folder, where the user named none."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the folders; the run's folder is known only now."""
        del pl_module, stage
        folder = run_folder(trainer)
        for callback in cast(Any, trainer).callbacks:
            if isinstance(callback, MembershipAudit):
                callback.output_dir = callback.output_dir or folder
                callback.auditor.cache_dir = callback.auditor.cache_dir or folder


def audit_folder(trainer: Trainer, output_dir: str | None) -> Path:
    """Folder of an audit of trained weights."""
    return Path(output_dir) if output_dir is not None else Path(trainer.default_root_dir) / "audit"


def run_folder(trainer: Trainer) -> Path:
    """Folder of a run's audit: its log folder, or the trainer's root without a logger."""
    return Path(trainer.log_dir or trainer.default_root_dir) / "audit"


class AuditCLI(LightningCLI):
    """The command line's engine; see :func:`mia_lightning.cli.main.main`."""

    def __init__(self, args: ArgsType = None) -> None:
        self.console = Console()
        drop_advertisements()
        super().__init__(
            model_class=LightningModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_class=AuditTrainer,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            args=args,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Make a parser that names the options there are."""
        parser = HelpfulParser(**{"prog": "mia-lightning", **kwargs})
        parser.add_argument("-c", "--config", action=ActionConfigFile, help="Path to a configuration in YAML or JSON.")
        return parser

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, and ours."""
        return LightningCLI.subcommands() | {"audit": {"model", "datamodule"}}

    def _parse_ckpt_path(self) -> None:
        # Lightning would let the checkpoint's hyperparameters override the configuration. An audit must not guess which
        # of the two is meant: load_weights compares them and says how they differ.
        if self.config.get("subcommand") != "audit":
            super()._parse_ckpt_path()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Give the audit its own section in configurations and on the command line."""
        # No group: the subcommand of the same name has one.
        parser.add_class_arguments(MembershipAudit, "audit", skip={"members", "nonmembers"}, as_group=False)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add the configured audit where there is something to audit and the user brought none of their own."""
        auditing = self.subcommand == "audit"
        if auditing:  # an audit is no run: it writes into its own folder and nowhere else
            self.save_config_callback = None
            kwargs["logger"] = False
        trainer = super().instantiate_trainer(**kwargs)
        callbacks: list[Callback] = cast(Any, trainer).callbacks
        wanted = getattr(self.model, "hparams", {}).get("audit", True) and hasattr(self.datamodule, "audit_dataloaders")
        if wanted and not any(isinstance(c, MembershipAudit) for c in callbacks):
            callbacks.insert(0, self._audit())
        if not auditing:
            callbacks.insert(0, RunFolder())
        return trainer

    def after_fit(self) -> None:
        """Show the curve and what to do next."""
        audits = [c for c in cast(Any, self.trainer).callbacks if isinstance(c, MembershipAudit)]
        if not audits or not self.trainer.is_global_zero or self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        folder = run_folder(self.trainer)
        show_history(self.console, audits[0].history, folder)
        self.console.print(Text(f"Board: tensorboard --logdir {folder.parent}"))

    def audit(self, **kwargs: Any) -> None:
        """Run the audit and print it."""
        trainer = cast(AuditTrainer, self.trainer)
        result = trainer.audit(**kwargs)
        if trainer.is_global_zero:
            folder = audit_folder(trainer, kwargs.get("output_dir"))
            show_history(self.console, [result], folder)
            if len(result.scores) > 2:
                self.console.print()
                self.console.print(scores_table(result))
            show_exposed(self.console, result, trainer.earlier, kwargs.get("top"))
            self.console.print(Text(f"Written: {folder / 'result.json'}, {folder / 'samples.csv'}"))

    def _audit(self) -> MembershipAudit:
        settings = dict(self._get(self.config_init, "audit"))
        # The model knows what its labels mean; a setting that the user left alone must not contradict it.
        known = self.model.audit_settings() if hasattr(self.model, "audit_settings") else {}
        untouched = {"task": "auto", "num_classes": None, "ignore_index": 255}
        settings |= {k: v for k, v in known.items() if settings.get(k) == untouched.get(k)}
        return MembershipAudit(**settings)
