"""LightningCLI with the audit: fit, validate, test, predict, and audit for models that are trained already."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from jsonargparse import (  # type: ignore[attr-defined]  # exported by a computed __all__
    ActionConfigFile,
    DefaultHelpFormatter,
    Namespace,
)
from lightning import pytorch as pl
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from rich.console import Console
from rich.text import Text

import mia_lightning
from mia_lightning.audit.config import AuditConfig, settings_of
from mia_lightning.audit.saved_settings import settings_passed
from mia_lightning.callbacks.membership_audit import MembershipAudit
from mia_lightning.callbacks.trainer_state import audits_of
from mia_lightning.checkpoints.class_paths import adapter_at, import_object
from mia_lightning.cli.early_arguments import EarlyArguments, completed, with_list
from mia_lightning.cli.fail_above import as_setting, show_limits, show_outcome
from mia_lightning.cli.options import AUDIT, add_options, parser_texts
from mia_lightning.cli.parser import Helpful
from mia_lightning.cli.printing import By, files_in, print_audit, print_history, print_slices
from mia_lightning.cli.terminal import add_to_json
from mia_lightning.lightning_packages.adoption import adopt_named
from mia_lightning.lightning_packages.bases import Callback
from mia_lightning.lightning_packages.loaded import LOGGER_NAMES, is_overridden
from mia_lightning.posthoc.audit_trainer import AuditTrainer
from mia_lightning.posthoc.failed_start import no_empty_run
from mia_lightning.posthoc.global_draws import Seeds
from mia_lightning.posthoc.trainer_options import options_named
from mia_lightning.report.json_summary import json_summary
from mia_lightning.report.run_folder import folder_for
from mia_lightning.report.write import write_report_or_warn
from mia_lightning.result.limits import LimitExceededError

if TYPE_CHECKING:
    from mia_lightning.checkpoints.hyperparameters import RememberedArguments

AFTER_TRAINING = ("audit", "export", "predict")
_LOADERS = {"fit": "train_dataloader", "validate": "val_dataloader"} | {
    name: f"{name}_dataloader" for name in ("test", "predict")
}


def _arguments(args: ArgsType) -> list[str]:
    """The command's name and its options."""
    words = sys.argv[1:] if args is None else args
    assert isinstance(words, list)
    return words


def once_only(args: list[str]) -> list[str]:
    """Bring options of an audit that repeats itself to those of one that is run once.

    Settings in configurations, which are those of a training, are left alone.

    Raises:
        ValueError: If an option has no effect, or the folder is named by both options.
    """
    flags = {arg.partition("=")[0] for arg in args}
    if "--audit.every_n_epochs" in flags:
        raise ValueError("A trained model is audited once: --audit.every_n_epochs has no effect here, leave it out.")
    if {"--audit.output_dir", "--output_dir"} <= flags:
        raise ValueError("--audit.output_dir and --output_dir name the same folder here: leave out one of the two.")
    return [re.sub(r"^--audit\.output_dir(?==|$)", "--output_dir", arg) for arg in args]


def drop_advertisements() -> None:
    """Keep Lightning's tips for its paid services out of the output; everything else it says stays."""
    for name in LOGGER_NAMES:
        logger = logging.getLogger(f"{name}.utilities.rank_zero")
        logger.addFilter(lambda record: "Tip: For seamless cloud" not in record.getMessage())


def make_importable(folder: Path) -> None:
    """Let modules in a folder be imported; console scripts leave the current folder out.

    Last, not first: a file in a folder that somebody sent must not take the place of an installed package.
    """
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def import_short_names(classes: Sequence[str]) -> None:
    """Import what is named without a path, such as ``Pix2Pix``: the parser knows classes that are imported.

    Args:
        classes: Names and paths of classes. For a name that is none of ours, all of ours are imported: the parser lists
            those it knows.
    """
    for name in (name for name in classes if "." not in name):
        for public in [name] if name in mia_lightning.__all__ else mia_lightning.__all__:
            getattr(mia_lightning, public)


def adopt_classes(paths: Iterable[str]) -> None:
    """Let parser and trainer take classes that belong to ``pytorch_lightning``; what cannot be imported is left."""
    for path in paths:
        if "." in path and not path.startswith("lightning."):
            with suppress(ImportError):  # of which the parser says why
                adopt_named(import_object(path, "--model"), pl)


class RunFolder(Callback):
    """Gives every audit a cache and an output folder inside the run's own folder, where the user named none."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the folders; the run's folder is known only now."""
        del pl_module, stage
        folder = run_folder(trainer)
        for audit in audits_of(trainer):
            audit.output_dir = audit.output_dir or folder
            audit.auditor.cache_dir = audit.auditor.cache_dir or folder


def run_folder(trainer: Trainer) -> Path:
    """Folder of a run's audit: its log folder, or the trainer's root without a logger."""
    return Path(trainer.log_dir or trainer.default_root_dir) / "audit"


class HelpfulParser(Helpful, LightningArgumentParser):
    """Lightning's parser, with errors that name the options there are."""

    formatter = DefaultHelpFormatter  # with types, known classes and defaults

    def format_help(self, *args: Any) -> str:
        """Leave out the kinds of tensors: to the parser, whatever a scorer's call returns is a scorer, too."""
        return re.sub(r",\s*(torch\.[\w.]*)?\w*Tensor\b", "", str(super().format_help(*args)))


class AuditCLI(LightningCLI):
    """The command line's engine; see :func:`mia_lightning.cli.main.main`."""

    reads_data = True

    def __init__(self, args: ArgsType = None) -> None:
        self.console = Console()
        self._remembered: list[RememberedArguments] = []
        self._seed_of_training: int | None = None
        self._command = _arguments(args)[0]
        drop_advertisements()
        make_importable(Path.cwd())
        super().__init__(
            model_class=LightningModule,
            subclass_mode_model=True,  # data likewise, and none where the model has loaders of its own
            trainer_class=AuditTrainer,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            parser_kwargs={name: parser_texts(name) for name in self.subcommands()},
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
        ours = {"model", "datamodule"}
        return LightningCLI.subcommands() | {"audit": ours, "export": ours}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        if subcommand != self._command:  # a parser takes 0.05 s to build, and this one would parse nothing
            self._subcommand_method_arguments[subcommand] = []
            return self.init_parser(**kwargs)
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "audit":
            add_options(parser, AUDIT)
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; for an audit, after what a checkpoint remembers of other people's classes was put in front."""
        words = as_setting(_arguments(args))
        early = EarlyArguments.of(words)
        import_short_names(list(early.classes.values()))
        adopt_classes(early.classes.values())
        if words[0] in AFTER_TRAINING:
            self._seed_of_training = early.seed_of_training
            words = once_only(with_list(words)) if words[0] == "audit" else words
            words, self._remembered = completed(words, early, reads_data=self.reads_data and words[0] != "export")
        self.config = parser.parse_args(words)
        # Settings that were passed; the model decides the others, see audit_callback. Parsed twice, since a namespace
        # with defaults does not say which were passed, and classes get those of their arguments while it is made.
        section = self.config[self.config["subcommand"]]
        passed = parser.parse_args(words, defaults=False)[self.config["subcommand"]].get("audit")
        chosen = settings_passed({} if passed is None else vars(passed), vars(section["audit"]))
        section["audit"] = Namespace(**chosen)  # type: ignore[no-untyped-call]  # jsonargparse leaves its constructor untyped

    def _parse_ckpt_path(self) -> None:
        # Lightning would let the checkpoint's hyperparameters override the configuration. After a training the user's
        # own values win; load_weights says how they differ.
        if self.config.get("subcommand") not in AFTER_TRAINING:
            super()._parse_ckpt_path()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Give the audit its own section in configurations and on the command line."""
        # No group: the subcommand of the same name has one.
        parser.add_class_arguments(AuditConfig, "audit", as_group=False)
        others = {"members", "nonmembers", "config", "sinks", *(field.name for field in fields(AuditConfig))}
        parser.add_class_arguments(MembershipAudit, "audit", skip=others, as_group=False)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add the configured audit where there is something to audit and the user brought none of their own."""
        storing = self.subcommand == "predict" and self._get(self.config, "output_dir") is not None
        auditing = self.subcommand in ("audit", "export") or storing
        if auditing:  # an audit is no run: it writes into its own folder and nowhere else
            self.save_config_callback = None
            kwargs["logger"] = False
            if self.subcommand != "audit" and self._get(self.config_init, "trainer").get("devices") == "auto":
                kwargs["devices"] = 1
        elif self.datamodule is None and not is_overridden(_LOADERS[str(self.subcommand)], self.model):
            raise ValueError(
                f"There are no data: name a data module with --data CLASS, such as PairedImageDataModule, or give "
                f"{type(self.model).__name__} a {_LOADERS[str(self.subcommand)]}()."
            )
        trainer = super().instantiate_trainer(**kwargs)
        has_sides = hasattr(self.datamodule, "audit_dataloaders")
        has_sides = has_sides or self.subcommand == "export" or (auditing and bool(self._get(self.config, "members")))
        if has_sides and getattr(self.model, "hparams", {}).get("audit", True) and not audits_of(trainer):
            cast(Any, trainer).callbacks.insert(0, self.audit_callback())
        if not auditing:
            cast(Any, trainer).callbacks.insert(0, RunFolder())
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        with options_named(config.get("accelerator")):
            return super()._instantiate_trainer(config, callbacks)

    def _run_subcommand(self, subcommand: str) -> None:
        with no_empty_run(self.trainer):
            try:
                super()._run_subcommand(subcommand)
            except LimitExceededError:  # the training is over, and its files are written
                self.after_fit()

    def audit_callback(self) -> MembershipAudit:
        """The configured audit: the model knows what its labels mean, where the user did not say otherwise."""
        options = {**settings_of(self.model), **vars(self._get(self.config_init, "audit"))}
        if isinstance(adapter := options.get("adapter"), str) and adapter != "auto":
            options["adapter"] = adapter_at(adapter)
        return MembershipAudit(**options)

    def after_fit(self) -> None:
        """Show the curve, what to do next, and what was found of limits."""
        audits = audits_of(self.trainer)
        self._show_curves(audits)
        self._show_limits(audits)

    def after_validate(self) -> None:
        """Say what was found of limits."""
        self._show_limits(audits_of(self.trainer))

    def _show_limits(self, audits: Sequence[MembershipAudit]) -> None:
        """On the first process, whose exit code counts: launchers kill it as soon as another ends with one."""
        for audit in audits if self.trainer.is_global_zero else ():
            if audit.exceeded is not None:
                show_outcome(self.console, audit.exceeded)
            elif audit.result is not None:
                show_limits(self.console, audit.fail_above, audit.result)

    def _show_curves(self, audits: Sequence[MembershipAudit]) -> None:
        if not audits or self.trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by Lightning at run time
            return
        folder = run_folder(self.trainer)  # on all processes: the first tells the others
        if not self.trainer.is_global_zero:
            return
        for audit in audits:
            audit.attach(self.trainer, write_report_or_warn(audit.history, audit.output_dir or folder))
        print_history(self.console, audits[0].history, files_in(Path(audits[0].output_dir or folder)))
        if audits[0].history:
            print_slices(self.console, audits[0].history[-1])
        for audit in audits[1:]:
            if audit.history:
                add_to_json(audits=[json_summary(audit.history)])
        report, boards = folder / "report.html", any(folder.parent.glob("events.out.tfevents.*"))
        lines = [f"Report: {report}"] if report.is_file() else []
        lines += [f"Board: tensorboard --logdir {folder.parent}"] if boards else []
        for line in lines:
            self.console.print(Text(line), soft_wrap=True)

    def before_audit(self) -> None:
        """Refuse what an audit does not do."""
        if self._get(self.config, "weights_only") is False:
            raise ValueError("weights_only=False would run code that a checkpoint holds; the audit does not do that.")
        if (top := self._get(self.config, "top")) is not None and top < 1:
            raise ValueError(f"Expected --top >= 1, the number of members to list, but got {top}.")
        if (by := self._get(self.config, "by")) not in get_args(By):
            raise ValueError(f"Expected --by to be one of {', '.join(get_args(By))}, but got {by!r}.")

    def export(self, **kwargs: Any) -> None:
        """Export the model and print what was written."""
        self._print_remembered()
        export = cast(AuditTrainer, self.trainer).export(**kwargs)
        self.console.print(Text(f"Written: {export}"), soft_wrap=True)
        add_to_json(files=[str(export.path)], format=export.format, difference=export.difference)

    def predict(self, **kwargs: Any) -> None:
        """Store predictions, or hand them to the callbacks."""
        trainer = cast(AuditTrainer, self.trainer)
        if kwargs["output_dir"] is None:
            trainer.predict(**kwargs)
            return
        self._print_remembered()
        trainer.seeds = self._seeds()
        folder = trainer.predict(**kwargs)
        command = f"mia-lightning audit --outputs {folder}"
        self.console.print(Text(f"Written: {folder}/members and {folder}/nonmembers. Next: {command}"), soft_wrap=True)
        add_to_json(files=[str(folder)])

    def _print_remembered(self) -> None:
        if self.trainer.is_global_zero:
            for arguments in self._remembered:
                self.console.print(Text(str(arguments)), soft_wrap=True)

    def _seeds(self) -> Seeds:
        seed = self._get(self.config, "seed_everything")
        return Seeds(None if seed is False else seed, self._seed_of_training)

    def audit(self, **kwargs: Any) -> None:
        """Run the audit and print it."""
        trainer = cast(AuditTrainer, self.trainer)
        self._print_remembered()
        trainer.seeds = self._seeds()
        configs = self._get(self.config, "config") or []
        trainer.runs = [Path(config.absolute).parent for config in configs if config is not None]
        source = {"checkpoint": kwargs.get("ckpt_path") or getattr(self.model, "hparams", {}).get("path")}
        usual = Path(trainer.default_root_dir) / "audit"
        kwargs["output_dir"] = kwargs.get("output_dir") or str(folder_for(usual, "result.json", source))
        trainer.audit(**kwargs)
        if trainer.is_global_zero:
            top, by, earlier = self._get(self.config, "top"), self._get(self.config, "by"), trainer.earlier
            for result, folder in trainer.audited:
                print_audit(self.console, result, cast(Path, folder), earlier, top, by)
                earlier = ()  # the training's audits are those of the first callback
            for audit, (result, _) in zip(audits_of(trainer), trainer.audited, strict=True):
                show_limits(self.console, audit.fail_above, result)
