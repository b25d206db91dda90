"""``mia-lightning references``: models of a configuration, each trained on a coin-flip half of its data."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import (
    Checkpoint,
    DeviceStatsMonitor,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
)
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from rich.text import Text

from mia_lightning.attacks.reference_folder import Reference, ReferenceFolder
from mia_lightning.audit.adapters import AutoAdapter
from mia_lightning.audit.loading import Side, Source
from mia_lightning.callbacks.membership_audit import MembershipAudit
from mia_lightning.cli.audit import AuditTrainer
from mia_lightning.cli.options import REFERENCES
from mia_lightning.cli.parts import train_in_parts
from mia_lightning.cli.training import AuditCLI
from mia_lightning.data.datasets import SegmentationDataset, TranslationDataset

# Of the trainer's settings, those that decide what is learned; the rest may differ between machines and runs.
_DECIDING = (
    *("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches", "overfit_batches"),
    *("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "fast_dev_run"),
)
_NOT_DECIDING = ("num_workers", "eval_batch_size", "audit", "log_images_every_n_epochs")  # of model and data

# What watches a training or ends it by what it sees in validation, which reference models have none of.
_WATCHERS = (Checkpoint, EarlyStopping, MembershipAudit, LearningRateMonitor, DeviceStatsMonitor, ModelSummary)
_WATCHER_NAMES = {c.__name__ for c in (ModelCheckpoint, *_WATCHERS)}


class ReferenceTrainer(AuditTrainer):
    """A Trainer that trains reference models: to the command line, ``references`` takes what ``fit`` takes."""

    references = Trainer.fit


class KeepLast(Checkpoint):
    """Keeps the state after every epoch in one file, and the time that training took in all.

    A training that goes on from it shuffles otherwise than one that was never interrupted: the states of the random
    generators are not kept.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saved_at = -1
        self._earlier = 0.0
        self._began: float | None = None

    @property
    def seconds(self) -> float:
        """Time in training so far, interruptions not counted."""
        return self._earlier + (0.0 if self._began is None else time.monotonic() - self._began)

    def state_dict(self) -> dict[str, Any]:
        """Keep the time."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._earlier = float(state_dict["seconds"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began, self.saved_at = time.monotonic(), trainer.global_step if self.path.is_file() else -1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        trainer.save_checkpoint(self.path, weights_only=False)  # the optimizers' state, too
        self.saved_at = trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what came after the last whole epoch."""
        if self.saved_at != trainer.global_step:
            self.on_train_epoch_end(trainer, pl_module)


class ReferencesCLI(AuditCLI):
    """Trains reference models one after another; see :func:`mia_lightning.cli.main.main`.

    Args:
        args: Arguments, the command's name first.
    """

    def __init__(self, args: Sequence[str]) -> None:
        self._given = list(args)
        self._keep: KeepLast | None = None
        super().__init__(args=self._given)

    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        """Build the parser around a trainer that knows the command."""
        self.trainer_class = ReferenceTrainer
        self.save_config_callback = None
        super().setup_parser(add_subcommands, main_kwargs, subparser_kwargs)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The one command, which hides what ``fit`` hides."""
        return {"references": LightningCLI.subcommands()["fit"]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add to the options of ``fit`` how many reference models, where, and by whom."""
        super().add_arguments_to_parser(parser)
        for name, (kind, default, text) in REFERENCES.items():
            parser.add_argument(f"--{name}", type=kind | None if default is None else kind, default=default, help=text)

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration as it is: reference models start from no checkpoint of the user's."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Train on one device, without validation, and write nothing but the one checkpoint."""
        settings = self._get(self.config_init, "trainer")
        given = settings.get("callbacks") or []
        callbacks: list[Callback] = [*given] if isinstance(given, (list, tuple)) else [given]
        callbacks = [c for c in callbacks if not isinstance(c, _WATCHERS)]
        if self._keep is not None:
            callbacks.append(self._keep)
            kwargs["default_root_dir"] = str(self._keep.path.parent)
        if settings.get("devices") == "auto":
            kwargs["devices"] = 1
        kwargs |= {"callbacks": callbacks, "logger": False, "enable_checkpointing": self._keep is not None}
        kwargs |= {"limit_val_batches": 0, "num_sanity_val_steps": 0, "enable_model_summary": False}
        kwargs |= {"val_check_interval": None, "check_val_every_n_epoch": 1}
        # Not the parent's: that one adds an audit.
        trainer = LightningCLI.instantiate_trainer(self, **kwargs)
        if trainer.num_devices * trainer.num_nodes != 1:
            raise ValueError(
                f"Each reference model is trained on one device, but trainer.devices={settings.get('devices')} and "
                f"trainer.num_nodes={trainer.num_nodes} ask for {trainer.num_devices * trainer.num_nodes}. Pass "
                "--trainer.devices=1; several devices train several reference models with --parallel or --part."
            )
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
        options, settings = self.config["references"], self.config["references"]["trainer"]
        num, part, parallel = options["num"], options["part"], options["parallel"]
        mine = _share(num, part, parallel)
        if not callable(getattr(datamodule, "redrawn", None)):
            raise TypeError(
                f"{type(datamodule).__name__} has no redrawn(seed, complement=False): reference models are trained on "
                "new coin-flip halves, so their data module must return a copy of itself whose members are such a half "
                "of its members and nonmembers, as those of mia_lightning do."
            )
        datamodule.prepare_data()
        datamodule.redrawn(self._seed)  # what is wrong with the data is said before anything is written
        folder = ReferenceFolder(Path(options["output_dir"]), num, self._seed, self._deciding()).opened()
        if num % 2 and part is None:
            self._say(f"An odd --num ({num}) leaves one half without its mirror image; {num + 1} would be balanced.")
        if parallel > 1:
            gpus = settings["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()
            try:
                train_in_parts(self._given, min(parallel, num), folder, gpus=gpus, say=self._say)
            except KeyboardInterrupt:
                self._say("Interrupted. The same command goes on from here.")
                raise SystemExit(130) from None
        else:
            for number in mine:
                self._train(folder.reference(number), num, datamodule)
        done = len(folder.finished())
        self._say(f"{done} of {folder.num} reference models in {folder.path} are trained.")
        if done:
            self._say(
                "Audit with them: mia-lightning audit -c CONFIG --ckpt_path CHECKPOINT --references " + str(folder.path)
            )

    def _train(self, reference: Reference, num: int, datamodule: Any) -> None:
        number = reference.number
        name = f"Reference model {number + 1} of {num} ({reference.folder})"
        if reference.finished:
            self._say(f"{name} is trained already.")
            return
        half = datamodule.redrawn(self._seed + number // 2, complement=number % 2 == 1)
        sides = [_ids(source, type(datamodule).__name__) for source in half.audit_dataloaders()]
        reference.assign(*sides)
        self._say(f"{name}: {len(sides[0])} of {len(sides[0]) + len(sides[1])} samples.")
        resumed = reference.checkpoint if reference.checkpoint.is_file() else None
        if resumed is not None:
            self._say(f"It goes on from {resumed}.")
        # One more: the first must not begin with the weights of the target, which has the seed itself.
        seed_everything(self._seed + 1 + number, workers=True, verbose=False)
        self._keep = KeepLast(reference.checkpoint)
        self.instantiate_classes()
        if "audit" in self.model.hparams:
            self.model.hparams["audit"] = False
        self.trainer.fit(self.model, datamodule=half, ckpt_path=resumed, weights_only=True if resumed else None)
        if not self.trainer.state.finished or not reference.checkpoint.is_file():
            raise RuntimeError(f"{name} was not trained to its end (trainer: {self.trainer.state.status}).")
        reference.finish(self._keep.seconds, self.trainer.current_epoch)

    @property
    def _seed(self) -> int:
        given = self._get(self.config, "seed_everything")
        return 0 if given is False else int(given)

    def _deciding(self) -> dict[str, Any]:
        """The part of the configuration that decides what reference models become, as plain JSON values."""
        full = json.loads(self._parser("references").dump(self.config["references"], format="json"))
        callbacks = [c for c in full["trainer"].get("callbacks") or [] if _class_name(c) not in _WATCHER_NAMES]
        decided: dict[str, Any] = {
            part: full[part]
            | {"init_args": {k: v for k, v in full[part].get("init_args", {}).items() if k not in _NOT_DECIDING}}
            for part in ("model", "data")
        }
        return decided | {"trainer": {k: full["trainer"].get(k) for k in _DECIDING} | {"callbacks": callbacks}}

    def _say(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)


def _share(num: int, part: str | None, parallel: int) -> range:
    """Numbers of the reference models that this process trains."""
    if num < 2:
        raise ValueError(f"Expected --num of at least 2 reference models, but got {num}.")
    if parallel < 1:
        raise ValueError(f"Expected --parallel of at least 1 process, but got {parallel}.")
    if part is None:
        return range(num)
    if parallel > 1:
        raise ValueError("Expected --parallel or --part, but got both: the first makes the parts by itself.")
    match = re.fullmatch(r"(\d+)/(\d+)", part)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"Expected --part i/n with 1 <= i <= n, such as 1/2, but got {part!r}.")
    return range(int(match[1]) - 1, num, int(match[2]))


def _ids(source: Source, owner: str) -> list[str]:
    """Ids of the samples of one side."""
    dataset = getattr(source, "dataset", source)
    if isinstance(dataset, (TranslationDataset, SegmentationDataset)):
        return [record.id for record in dataset.records]
    ids: list[str] = []
    side = Side("sample", source, max_samples=None, batch_size=16, num_workers=0, seed=0)
    for _, batch in side.batches():
        some = AutoAdapter().unpack(batch).id
        if some is None:
            raise ValueError(
                f"The batches of {owner} carry no ids, so the samples of a reference model could not be told apart "
                "later. Return (input, target, id) or a dict with an 'id'."
            )
        ids += some
    return ids


def _class_name(callback: dict[str, Any]) -> str:
    return str(callback.get("class_path", "")).rpartition(".")[2]
