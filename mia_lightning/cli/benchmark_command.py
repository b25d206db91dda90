"""``mia-lightning benchmark``: a configuration over seeds, with reference models, and a table of every attack."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from mia_lightning.attacks.parallel_training import Work, train_in_parallel
from mia_lightning.attacks.reference_training import TRAINER_SETTINGS, check_redrawn
from mia_lightning.audit.config import AuditConfig
from mia_lightning.callbacks.trainer_state import audits_of
from mia_lightning.cli.options import BENCHMARK
from mia_lightning.cli.references_command import PROGRAM, ReferencesCLI, class_name
from mia_lightning.cli.terminal import add_to_json
from mia_lightning.lightning_packages.bases import Callback
from mia_lightning.posthoc.audit_checkpoint import silent
from mia_lightning.posthoc.benchmark import Benchmark, Progressing
from mia_lightning.report.benchmark_table import BenchmarkTable
from mia_lightning.result.atomic_files import require_writable, write_atomically

_WORK = {"train": Work("model", "train", "trained"), "audit": Work("target", "audit", "audited")}
_GOES_ON = "Interrupted. What is finished is kept, and the same command goes on from here."
_NOT_AUDIT = ("cache_dir", "output_dir", "num_workers", "batch_size")  # change no number


class BenchmarkTrainer(Trainer):
    """A Trainer that trains the models of a benchmark: to the command line, ``benchmark`` takes what ``fit`` takes."""

    benchmark = Trainer.fit


class _Epochs(Callback):
    """Tells how far a training is."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the epoch."""
        del pl_module
        last = f" of {trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        self.tell(f"epoch {trainer.current_epoch + 1}{last}")


class BenchmarkCLI(ReferencesCLI):
    """Trains targets and reference models, audits, and prints the table; see :func:`mia_lightning.cli.main.main`.

    Args:
        args: Arguments, the command's name first.
    """

    command = "benchmark"
    own_options = BENCHMARK
    trainer_with_command = BenchmarkTrainer

    def benchmark(self, model: LightningModule, datamodule: Any = None, **fit: Any) -> None:
        """Do what is not done yet, then print.

        Args:
            model: Not used: each model is built from a seed of its own.
            datamodule: The configuration's data module.
            **fit: Remaining arguments of ``fit``.
        """
        del model
        if fit.get("ckpt_path") is not None:
            raise ValueError(
                "The models of a benchmark start from scratch: what those of --ckpt_path were trained on may be among "
                "the nonmembers. Leave it out; weights to start from are arguments of the model."
            )
        options = self.config[self.command]
        if options["jobs"] < 1:
            raise ValueError(f"Expected --jobs of at least 1 process, but got {options['jobs']}.")
        part = None if options["part"] is None else _part_of(options["part"])
        folder = Path(options["output"])
        benchmark = Benchmark(
            folder, tuple(options["seeds"]), options["references"], self._deciding(), self._audit_settings()
        )
        check_redrawn(datamodule, "the models of a benchmark")
        require_writable(folder)
        datamodule.prepare_data()
        for seed in benchmark.seeds:
            datamodule.redrawn(seed)  # raises what is wrong with the data, before anything is written
        if part is not None:
            _require_in_range(part, benchmark.joined())  # likewise
        benchmark, self._data = benchmark.opened(self._say if part is None else None), datamodule
        with self._interruptible(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # torch's advice to Lightning, at each training
            if part is not None:
                self._do(benchmark, *part)
                return
            self._say(
                f"{len(benchmark.seeds)} target(s) and {benchmark.references} reference model(s) each in {folder}; "
                "who is a member is drawn anew for each, by coins."
            )
            if benchmark.training().missing():
                benchmark.check_pairs(datamodule)
            for verb, progressing in (("train", benchmark.training), ("audit", benchmark.auditing)):
                self._share_out(benchmark, verb, progressing())
        self._print(benchmark)

    def _share_out(self, benchmark: Benchmark, verb: str, work: Progressing) -> None:
        """Do all of one kind of work that is not done, here or in several processes."""
        missing, options = work.missing(), self.config[self.command]
        if done := work.num - len(missing):
            self._say(f"{done} of {work.num} {_WORK[verb].thing}s are {_WORK[verb].done} already.")
        jobs = min(options["jobs"], len(missing))
        if jobs <= 1:
            self._do(benchmark, verb, missing)
            return
        gpus = options["trainer"]["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        shares = [",".join(map(str, missing[start::jobs])) for start in range(jobs)]
        extra = ["--jobs=1", *(["--trainer.devices=1"] if gpus else [])]
        commands = [[*PROGRAM, *self._args, *extra, f"--part={verb}:{share}"] for share in shares]
        train_in_parallel(commands, work, gpus=gpus, say=self._say, work=_WORK[verb])

    def _do(self, benchmark: Benchmark, verb: str, numbers: Sequence[int]) -> None:
        """Train or audit, in this process, what has these numbers."""
        if verb == "train":
            with silent(), self._bar(len(numbers)) as (tell, advance):
                for number in numbers:
                    benchmark.train(number, self._data, partial(self._build_watched, tell), self._say)
                    advance()
            return
        for number in numbers:
            with silent():
                self._build(TRAINER_SETTINGS)
                trainer = self._get(self.config_init, "trainer")
                named = ("accelerator", "precision", "max_epochs")
                where = {name: value for name in named if (value := trainer.get(name)) is not None}
                benchmark.run_audit(
                    number,
                    self._data,
                    self.model,
                    self._audit_config(),
                    patch=self.config[self.command]["patch"],
                    enable_progress_bar=False,
                    **where,
                )
            self._say(f"Seed {benchmark.seeds[number]} is audited: {benchmark.audits()[number].folder}")

    def _build_watched(
        self, tell: Callable[[str], None], settings: Mapping[str, Any]
    ) -> tuple[LightningModule, Trainer]:
        model, trainer = self._build({**settings, "enable_progress_bar": False})
        trainer.callbacks.append(_Epochs(tell))  # type: ignore[attr-defined]  # set by Lightning at run time
        return model, trainer

    @contextlib.contextmanager
    def _bar(self, total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
        """A bar of trainings where somebody looks; what tells it the epoch, and what moves it on."""
        if total == 0 or not sys.stdout.isatty():
            yield lambda text: None, lambda: None
            return
        columns = (TextColumn("trainings"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        with Progress(*columns, TimeElapsedColumn(), console=self.console, transient=True) as bar:
            task: TaskID = bar.add_task("", total=total)
            yield lambda text: bar.update(task, description=text), lambda: bar.advance(task)

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """End the command with code 130 on Ctrl-C; what a trainer has caught of it ends with 1."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as stopped:
            if isinstance(stopped, SystemExit) and not isinstance(stopped.__context__, KeyboardInterrupt):
                raise
            self._say(_GOES_ON)
            raise SystemExit(130) from None

    def _audit_config(self) -> AuditConfig:
        """Settings of the audits: those of a callback that the configuration has, as in a training, or its section."""
        callbacks = audits_of(self.trainer)
        audit = callbacks[0] if callbacks else self.audit_callback()
        return cast(AuditConfig, audit.auditor.config)

    def _audit_settings(self) -> dict[str, Any]:
        """The audit's settings that were passed and decide its numbers, as plain JSON values."""
        full = json.loads(self._parser(self.command).dump(self.config[self.command], format="json"))
        of_callbacks = [
            {k: v for k, v in (callback.get("init_args") or {}).items() if k not in _NOT_AUDIT}
            for callback in full["trainer"].get("callbacks") or []
            if class_name(callback) == "MembershipAudit"
        ]
        passed = {k: v for k, v in (full.get("audit") or {}).items() if k not in _NOT_AUDIT}
        passed |= {"patch": self.config[self.command]["patch"]}
        return passed | ({"callbacks": of_callbacks} if of_callbacks else {})

    def _print(self, benchmark: Benchmark) -> None:
        benchmark, others = benchmark.with_others_there()
        table = BenchmarkTable.of(benchmark.results(), benchmark.seeds, others)
        self.console.print()
        self.console.print(table.to_rich())
        texts = {"table.md": table.to_markdown(), "table.csv": table.to_csv(), "trainings.csv": table.trainings_csv()}
        files = [str(write_atomically(benchmark.path / name, text)) for name, text in texts.items()]
        self.console.print(Text(f"Written: {', '.join(files)}"), soft_wrap=True)
        add_to_json(benchmark=table.to_json(), seeds=list(benchmark.seeds), remarks=list(table.remarks), files=files)


def _part_of(text: str) -> tuple[str, list[int]]:
    """Read ``--part``: what to do, and with which numbers."""
    match = re.fullmatch(r"(train|audit):([0-9]+(?:,[0-9]+)*)", text)
    if match is None:
        raise ValueError(
            f"Expected --part train:NUMBERS or audit:NUMBERS, such as train:0,2 or audit:1, but got {text!r}. Leave it "
            "out to train and audit all that is missing, with --jobs N in several processes."
        )
    return match[1], [int(number) for number in match[2].split(",")]


def _require_in_range(part: tuple[str, list[int]], benchmark: Benchmark) -> None:
    """Raise a ValueError for numbers that a benchmark does not have."""
    verb, numbers = part
    num = (benchmark.training() if verb == "train" else benchmark.auditing()).num
    if wrong := [number for number in numbers if number >= num]:
        raise ValueError(
            f"Expected numbers from 0 to {num - 1} in --part {verb}:NUMBERS, of {num} {_WORK[verb].thing}(s) in "
            f"{benchmark.path}, but got {', '.join(map(str, wrong))}. They count the seeds of --seeds in their order"
            + (", each with its target and then its reference models." if verb == "train" else ".")
        )
