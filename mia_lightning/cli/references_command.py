"""``mia-lightning references``: models of a configuration, each trained on a random half of its data."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from rich.text import Text

from mia_lightning.attacks.parallel_training import share_of as _share
from mia_lightning.attacks.parallel_training import train_in_parallel
from mia_lightning.attacks.reference_training import (
    TRAINER_SETTINGS,
    WATCHERS,
    check_trainer,
    open_folder,
    train_references,
)
from mia_lightning.cli.lightning_commands import AuditCLI
from mia_lightning.cli.options import REFERENCES, add_options

# Of the trainer's settings, those that decide what is learned; the rest may differ between machines and runs.
_DECIDING = (
    *("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches", "overfit_batches"),
    *("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "fast_dev_run"),
)
_NOT_DECIDING = ("num_workers", "eval_batch_size", "audit", "log_images_every_n_epochs")  # of model and data
_WATCHERS = {"ModelCheckpoint", "MembershipAudit", *WATCHERS}
PROGRAM = (sys.executable, "-c", "from mia_lightning.cli.main import main; main()")


class ReferenceTrainer(Trainer):
    """A Trainer that trains reference models: to the command line, ``references`` takes what ``fit`` takes."""

    references = Trainer.fit


class ReferencesCLI(AuditCLI):
    """Trains reference models one after another; see :func:`mia_lightning.cli.main.main`.

    Args:
        args: Arguments, the command's name first.

    Attributes:
        command: The command.
        own_options: Its options beside those of ``fit``, as :func:`~mia_lightning.cli.options.add_options` takes them.
        trainer_with_command: A trainer that has the command as a method.
    """

    command = "references"
    own_options = REFERENCES
    trainer_with_command: type[Trainer] = ReferenceTrainer

    def __init__(self, args: Sequence[str]) -> None:
        self._args = list(args)
        self._settings = TRAINER_SETTINGS
        super().__init__(args=self._args)

    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        """Build the parser around a trainer that knows the command."""
        self.trainer_class = self.trainer_with_command
        self.save_config_callback = None
        super().setup_parser(add_subcommands, main_kwargs, subparser_kwargs)

    @classmethod
    def subcommands(cls) -> dict[str, set[str]]:
        """The one command, which hides what ``fit`` hides."""
        return {cls.command: LightningCLI.subcommands()["fit"]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add to the options of ``fit`` how many reference models, where, and by whom."""
        super().add_arguments_to_parser(parser)
        add_options(parser, self.own_options)

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration as it is: reference models start from no checkpoint of the user's."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Train on one device, without validation and without an audit."""
        if self._get(self.config_init, "trainer").get("devices") == "auto":
            kwargs["devices"] = 1
        trainer = LightningCLI.instantiate_trainer(self, **kwargs | self._settings)
        check_trainer(trainer)
        return trainer

    def references(self, model: LightningModule, datamodule: Any = None, **fit: Any) -> None:
        """Train what is not trained yet.

        Args:
            model: Not used: each reference model is built from a seed of its own.
            datamodule: The target's data module.
            **fit: Remaining arguments of ``fit``.
        """
        if fit.get("ckpt_path") is not None:
            raise ValueError(
                "Reference models start from scratch: one that started from --ckpt_path would know what that "
                "checkpoint was trained on. Leave it out."
            )
        options = self.config["references"]
        num, parallel, seed = options["num"], options["parallel"], self._get(self.config, "seed_everything")
        share = _share(num, options["part"], parallel)
        what = {"num": num, "seed": 0 if seed is False else int(seed), "config": self._deciding()}
        folder = open_folder(datamodule, options["output_dir"], **what)
        if num % 2 and options["part"] is None:
            self._say(f"An odd --num ({num}) leaves one half without its mirror image; {num + 1} would be balanced.")
        if parallel > 1:
            gpus = options["trainer"]["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()
            try:
                train_in_parallel(
                    self._commands(min(parallel, num), gpus, what["seed"]), folder, gpus=gpus, say=self._say
                )
            except KeyboardInterrupt:
                self._say("Interrupted. The same command goes on from here.")
                raise SystemExit(130) from None
        else:
            train_references(self._build, datamodule, folder.path, share=share, say=self._say, **what)
        done = len(folder.finished())
        self._say(f"{done} of {folder.num} reference models in {folder.path} are trained.")
        if done:
            self._say(
                "Audit with them: mia-lightning audit -c CONFIG --ckpt_path CHECKPOINT --references " + str(folder.path)
            )

    def _build(self, settings: Mapping[str, Any]) -> tuple[LightningModule, Trainer]:
        self._settings = dict(settings)
        self.instantiate_classes()
        return self.model, self.trainer

    def _commands(self, count: int, gpus: bool, seed: int) -> list[list[str]]:
        """This command, once a share."""
        extra = [f"--seed_everything={seed}", "--trainer.enable_progress_bar=false"]
        extra += ["--trainer.devices=1"] if gpus else []
        return [[*PROGRAM, *self._args, "--parallel=1", f"--part={i}/{count}", *extra] for i in range(1, count + 1)]

    def _deciding(self) -> dict[str, Any]:
        """The part of the configuration that decides what reference models become, as plain JSON values."""
        full = json.loads(self._parser(self.command).dump(self.config[self.command], format="json"))
        callbacks = [c for c in full["trainer"].get("callbacks") or [] if class_name(c) not in _WATCHERS]
        decided: dict[str, Any] = {
            part: full[part]
            | {"init_args": {k: v for k, v in full[part].get("init_args", {}).items() if k not in _NOT_DECIDING}}
            for part in ("model", "data")
        }
        return decided | {"trainer": {k: full["trainer"].get(k) for k in _DECIDING} | {"callbacks": callbacks}}

    def _say(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)


def class_name(callback: Mapping[str, Any]) -> str:
    """Name of a callback's class, without its path, in a configuration."""
    return str(callback.get("class_path", "")).rpartition(".")[2]
