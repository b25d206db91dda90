"""First screens of the commands that Lightning parses: declared without it, since its parser takes seconds to build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonargparse import ArgumentParser
from jsonargparse.typing import Path_dw, Path_fr

from mia_lightning.cli.fail_above import TEXT
from mia_lightning.cli.parser import FOR_ALL, Helpful
from mia_lightning.functional.documented_arguments import beginning_of, documented_arguments

Option = tuple[type, int | str | list[int] | None, str]
"""Type, default and meaning of an option; of one whose default is a list, each value is of that type."""

REFERENCES: dict[str, Option] = {
    "num": (int, 4, "How many reference models there are to be, at least 2; even numbers make mirrored pairs."),
    "output_dir": (str, "references", "Folder that they are kept in."),
    "parallel": (int, 1, "How many to train at a time, in a process each, and on a GPU each where there are some."),
    "part": (str, None, "Train only share i of n, written i/n: for several machines or devices that share the folder."),
}
"""Options of ``references`` beside those of ``fit``: type, default and meaning by name."""

BENCHMARK: dict[str, Option] = {
    "seeds": (int, [1, 2, 3], "Seeds of the targets, one training each: of coins and weights (default: 1 2 3)."),
    "references": (int, 0, "Reference models a target (default: 0), with coins of their own; one helps already."),
    "output": (str, "runs/benchmark", "Folder of trainings, audits, tables (default: runs/benchmark); it is resumed."),
    "jobs": (int, 1, "How many processes train and audit at a time, on a GPU each where there are some."),
    "patch": (bool, False, "With reference models: add the patch attack, a minute of training a target."),
    "part": (str, None, "Used between the processes of --jobs: train:0,2 or audit:1, what one of them does."),
}
"""Options of ``benchmark`` beside those of ``fit``, likewise."""

AUDIT: dict[str, Option] = {
    "top": (int, None, "Number of most exposed members to list, with the epoch since which each is flagged."),
    "by": (str, "sample", "What --top lists: sample, or group (such as patients, where the data name them)."),
    "weights_only": (bool, None, "Accepted because saved configurations have it; weights are never unpickled."),
}
"""Options of ``audit`` beside the arguments of ``AuditTrainer.audit``, likewise."""

_TRAIN = "-c FILE [-c FILE ...] [options]\n       mia-lightning {0} --model CLASS --data CLASS [options]"
_RUN = "-c FILE --ckpt_path FILE [options]"
_TEXTS = {
    "fit": (_TRAIN, "Trains a model; the audit runs at validation epochs and writes into the run's folder."),
    "audit": (
        """-c CONFIG --ckpt_path FILE
       mia-lightning audit --model CLASS --data CLASS --ckpt_path FILE
       mia-lightning audit --model ExportedModel --model.path FILE --data CLASS
       mia-lightning audit --outputs DIR [--task TASK]""",
        """Audits a trained model and writes result.json and samples.csv.
(1) With the model: of a run of this program, any LightningModule and data module, or an exported network (TorchScript,
torch.export, ONNX). CLASS is an import path such as my_project.tasks.MyTask, looked up from the current folder; what
--model.NAME and --data.NAME leave out is taken from the checkpoint. Members and nonmembers come from the data module's
audit_dataloaders(), or from two of its own loaders: --members train --nonmembers test.
(2) With outputs alone: DIR/members and DIR/nonmembers with the folders inputs, targets and outputs in each, or
DIR/inputs, DIR/targets, DIR/outputs and two files of ids; 'mia-lightning audit --outputs DIR --help' has its options.
Those of (1):""",
    ),
    "references": (
        "-c FILE [--num N] [--output_dir DIR] [options]",
        "Trains reference models on random halves of the data, for the strongest attacks; takes options of fit too.",
    ),
    "benchmark": (
        "-c FILE [--seeds N ...] [--references N] [...]",
        "Trains a configuration once a seed, each time on other coin-flip halves of its data, and reference models "
        "beside it; audits every target in the end and prints the scores over seeds, with intervals. Takes options of "
        "fit too. The same command goes on with what was interrupted, and reads what is finished.",
    ),
    "validate": (_RUN, "Runs one validation epoch, the audit included."),
    "test": (_RUN, "Evaluates a model on the test split."),
    "predict": (
        "--ckpt_path FILE --output_dir DIR [options]",
        "Stores inputs, targets and outputs of members and nonmembers exactly as the model has them: the audit of that "
        "folder, 'mia-lightning audit --outputs DIR', gives the numbers of an audit of the model. Without --output_dir "
        "predictions go to the callbacks.",
    ),
    "export": (
        "--ckpt_path FILE --format NAME [options]",
        "Writes a trained model as one file, without data and without the parts that only train it, and keeps it if it "
        "answers random inputs as the model does. Then: mia-lightning audit --model ExportedModel --model.path FILE.",
    ),
}

_GENERAL = {
    "config": "YAML or JSON; later files override earlier ones.",
    "model": "Model, such as Pix2Pix or my_project.MyTask; its arguments are --model.NAME VALUE.",
    "data": "Data module, such as PairedImageDataModule; its arguments are --data.NAME VALUE.",
    "ckpt_path": "Trained weights; fit goes on from there.",
    "seed_everything": "Seed of the training (default: 0).",
    "fail_above": TEXT,
    "trainer.max_epochs": "Epochs to train.",
    "trainer.accelerator": "cpu, gpu, or auto (the default).",
    "trainer.devices": "How many devices, or auto.",
    "trainer.precision": "Such as 32-true, bf16-mixed, 16-mixed.",
    "trainer.logger": "Class of a logger; false: none, and no folder for the run.",
    "trainer.callbacks": "Further callbacks, such as EarlyStopping.",
    "trainer.limit_train_batches": "Batches an epoch, or their share.",
    "trainer.default_root_dir": "Where runs without a logger are written.",
    "trainer.enable_progress_bar": "Show progress bars (default: true).",
}
_VALUES = (  # what stands for the value, by the last part of the option's name
    dict.fromkeys(("config", "ckpt_path", "reference_ckpt", "earlier_ckpt"), "FILE")
    | dict.fromkeys(("model", "data", "logger"), "CLASS")
    | dict.fromkeys(("output_dir", "default_root_dir", "references"), "DIR")
    | dict.fromkeys(("max_epochs", "devices", "limit_train_batches", "top", "num", "parallel", "jobs"), "N")
    | dict.fromkeys(("num_classes", "max_samples", "slices", "every_n_epochs"), "N")
    | dict.fromkeys(("accelerator", "precision", "task", "primary"), "NAME")
    | dict.fromkeys(("alpha", "fdr"), "NUMBER")
    | dict.fromkeys(("callbacks", "errors", "scores"), "LIST")
    | dict.fromkeys(("members", "nonmembers"), "LOADER")
    | dict.fromkeys(("enable_progress_bar", "patch", "unverified_members"), "BOOL")
    | {
        "seed_everything": "SEED",
        "seeds": "SEEDS",
        "target_range": "RANGE",
        "part": "I/N",
        "format": "NAME",
        "input_shape": "SHAPE",
    }
    | {"output": "FILE", "output_key": "KEY", "fail_above": "LIMIT"}
)
_BENCHMARK_VALUES = {"references": "N", "output": "DIR"}
_OWN = {"references": REFERENCES, "benchmark": BENCHMARK}
_RUNNING = ("config", "model", "data", "ckpt_path", "trainer.accelerator", "trainer.devices")
_MEASURING = ("task", "scores", "primary", "num_classes", "target_range", "max_samples")
_MEASURED = tuple(f"audit.{name}" for name in _MEASURING)
_AUDITED = tuple(f"audit.{name}" for name in _MEASURING if name not in ("scores", "primary"))  # all attacks
_SIDES = ("members", "nonmembers", "unverified_members")
_OTHER_MODELS = ("references", "reference_ckpt", "earlier_ckpt", "patch")
_BENCHMARKING = tuple(name for name in BENCHMARK if name != "part")
_SCREENS = {
    "fit": (*_GENERAL, *_MEASURED, *(f"audit.{n}" for n in ("errors", "alpha", "fdr", "every_n_epochs", "output_dir"))),
    "audit": (*_RUNNING, *_SIDES, "output_dir", "top", "fail_above", *_OTHER_MODELS, *_MEASURED),
    "references": (*REFERENCES, "seed_everything", "trainer.max_epochs", *(n for n in _RUNNING if n != "ckpt_path")),
    "benchmark": (*_BENCHMARKING, "trainer.max_epochs", *(n for n in _RUNNING if n != "ckpt_path"), *_AUDITED),
    "predict": (*_RUNNING, *_SIDES, "output_dir", "audit.max_samples", "audit.output_key"),
    "export": ("ckpt_path", "format", "output", "input_shape", "config", "model", "data", "audit.output_key"),
} | dict.fromkeys(("validate", "test"), (*_RUNNING, "trainer.logger", "audit.output_dir"))


LIGHTNING_COMMANDS = tuple(_TEXTS)


def parser_texts(command: str) -> dict[str, str]:
    """What the help of a command says before and after its options."""
    usage, description = _TEXTS[command]
    more = (
        f"'mia-lightning {command} --help all' lists every option, --model.help CLASS and --data.help CLASS those of a "
        f"class; --print_config prints a configuration to start from. {FOR_ALL}"
    )
    return {"usage": f"mia-lightning {command} {usage.format(command)}", "description": description, "epilog": more}


def add_options(parser: ArgumentParser, options: Mapping[str, Option]) -> None:
    """Add options to a parser.

    Args:
        parser: The parser.
        options: Type, default and meaning by name.
    """
    for name, (kind, default, text) in options.items():
        several: dict[str, Any] = {"nargs": "+"} if isinstance(default, list) else {}
        kind = kind | None if default is None else kind  # type: ignore[assignment]  # a union of types is none
        parser.add_argument(f"--{name}", type=kind, default=default, help=text, **several)


def lightning_parser(command: str) -> Helpful:
    """Declare the options of a command that people use, without importing Lightning.

    Args:
        command: Such as ``fit``.

    Returns:
        A parser for the first screen of the help and for shell completion; parsing is for Lightning's own.
    """
    parser = Helpful(prog=f"mia-lightning {command}", **parser_texts(command))
    settings = documented_arguments("audit.config", "AuditConfig") | documented_arguments(
        "callbacks.membership_audit", "MembershipAudit"
    )
    texts = _GENERAL | {f"audit.{name}": beginning_of(text) for name, text in settings.items()}
    if command in ("audit", "export", "predict"):
        own = documented_arguments("posthoc.audit_trainer", "AuditTrainer", command)
        own |= {name: text for name, (_, _, text) in AUDIT.items()} if command == "audit" else {}
        texts = {name: beginning_of(text) for name, text in own.items()} | texts
    elif command in _OWN:
        texts |= {name: text for name, (_, _, text) in _OWN[command].items()}
    for name in _SCREENS[command]:
        flags = ("-c", "--config") if name == "config" else (f"--{name}",)
        value = (_BENCHMARK_VALUES if command == "benchmark" else {}).get(name) or _VALUES[name.rpartition(".")[2]]
        kind = {"FILE": Path_fr, "DIR": Path_dw}.get(value, str)
        parser.add_argument(*flags, metavar=value, type=kind, help=texts[name].replace("%", "%%"))
    return parser
