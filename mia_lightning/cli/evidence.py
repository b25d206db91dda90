"""``mia-lightning evidence``: was a model trained on these images? With the model, or with its outputs alone."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mia_lightning.cli.audit_settings import add_settings
from mia_lightning.cli.evidence_request import Request
from mia_lightning.cli.parser import Helpful
from mia_lightning.cli.terminal import add_to_json
from mia_lightning.data.output_layout import OutputFiles
from mia_lightning.data.records import require_folder
from mia_lightning.result.atomic_files import write_atomically

_MODEL_OPTIONS = ("c", "config", "ckpt_path", "model", "data", "trainer", "audit", "seed_everything", "weights_only")
_SETTINGS = ("max_samples", "batch_size", "seed", "fdr")
_ONLY_WITH_OUTPUTS = ("task", "num_classes", "ignore_index", *(f.name for f in fields(OutputFiles)))
_DESCRIPTION = """Was a model trained on these images (the suspects)? Compares them with a reference that cannot have
been trained on, and writes evidence.json and evidence.txt. Two ways:
(1) with the model: -c CONFIG --ckpt_path FILE and other options of 'mia-lightning audit', and two folders laid out as
the configuration's data module expects, or two files of ids out of its own folder;
(2) with outputs alone: --task, and two folders that hold the folders inputs, targets and outputs, names matching; only
then do the options from --task on count."""


_USAGE = """mia-lightning evidence --suspects DIR --reference DIR --task TASK
       mia-lightning evidence --suspects DIR --reference DIR -c CONFIG
                              --ckpt_path FILE"""
_FIRST_SCREEN = (
    *(f.name for f in fields(Request)),
    *("config", "ckpt_path", "max_samples", "seed", "fdr", "task", "num_classes", "ignore_index", "kind"),
)


def evidence_parser() -> Helpful:
    """Declare the options, without the imports that weighing needs."""
    parser = Helpful(prog="mia-lightning evidence", usage=_USAGE, description=_DESCRIPTION, first_screen=_FIRST_SCREEN)
    parser.add_class_arguments(Request, as_group=False)
    add_settings(parser, _SETTINGS, max_samples=None)
    parser.add_argument("-c", "--config", help="With a model: configuration of its training.")
    parser.add_argument("--ckpt_path", help="With a model: its weights.")
    add_settings(parser, _ONLY_WITH_OUTPUTS)
    parser.add_class_arguments(OutputFiles, as_group=False)
    return parser


def evidence_command(args: Sequence[str]) -> None:
    """Weigh evidence, write it and print it.

    Args:
        args: Arguments after the command's name.

    Raises:
        OSError: If a folder or file is missing or cannot be read.
        ValueError: If options, data or checkpoint do not fit.
    """
    own, of_the_model = split_options(args)
    parser = evidence_parser()
    options = parser.parse_args(own).as_dict()
    request = Request(**{f.name: options[f.name] for f in fields(Request)})
    settings = {name: options[name] for name in _SETTINGS}
    settings |= {} if request.primary is None else {"primary": request.primary}
    of_outputs = {name: options[name] for name in _ONLY_WITH_OUTPUTS}
    if of_the_model:
        if wrong := [f"--{name}" for name, value in of_outputs.items() if value != parser.get_default(name)]:
            raise ValueError(f"{', '.join(wrong)} are for folders of outputs; with a model, the configuration says it.")
        evidence = _of_model(request, settings, of_the_model)
    else:
        evidence = _of_outputs(request, settings | of_outputs)
    text, folder = evidence.to_text(), Path(request.output_dir)
    written = evidence.to_json(folder / "evidence.json"), write_atomically(folder / "evidence.txt", text)
    sys.stdout.write(f"{text}\nWritten: {written[0]}, {written[1]}\n")
    add_to_json(evidence=json.loads(written[0].read_text(encoding="utf-8")), files=[str(path) for path in written])


def _of_outputs(request: Request, options: dict[str, Any]) -> Any:
    if request.suspects is None or request.reference is None or request.suspect_ids or request.reference_ids:
        raise ValueError(
            "Name two folders, --suspects DIR and --reference DIR, each with the folders inputs, targets and outputs. "
            "To ask a model instead, add -c CONFIG --ckpt_path FILE; only then can --suspect_ids and --reference_ids "
            "choose from one folder."
        )
    if options["task"] == "auto":
        raise ValueError("Say what the model does: --task translation or --task segmentation.")
    _require_folders(request)
    from mia_lightning.cli.terminal import progress_bar
    from mia_lightning.evidence.from_outputs import weigh_outputs

    return weigh_outputs(request.suspects, request.reference, level=request.level, progress=progress_bar(), **options)


def _of_model(request: Request, settings: dict[str, Any], args: Sequence[str]) -> Any:
    folders, lists = (request.suspects, request.reference), (request.suspect_ids, request.reference_ids)
    if (None in folders) == (None in lists) or (any(folders) and any(lists)):
        raise ValueError(
            "Name two folders, --suspects DIR and --reference DIR, or two files of ids out of the configuration's own "
            "folder, --suspect_ids FILE and --reference_ids FILE."
        )
    if not any(a in ("-c", "--config") or a.startswith(("-c=", "--config=", "--model")) for a in args):
        raise ValueError("Name the configuration of the run that trained the model with -c, such as RUN/config.yaml.")
    overridden = ("scores", "primary", *_SETTINGS, "output_dir")
    if wrong := sorted(n for n in overridden if any(a.split("=")[0] == f"--audit.{n}" for a in args)):
        raise ValueError(
            f"{', '.join(f'--audit.{n}' for n in wrong)} would be overridden: evidence has options of its own for that "
            "(--primary, --fdr, --seed, --batch_size, --max_samples, --output_dir), and judges by the one score named "
            "by --primary."
        )
    _require_folders(request)
    from mia_lightning.cli.evidence_model import weigh_checkpoint

    return weigh_checkpoint(request, settings, args)


def _require_folders(request: Request) -> None:
    """Notice a wrong folder before torch is imported; a path type of the parser would not name those there are."""
    for folder in (request.suspects, request.reference):
        if folder is not None:
            require_folder(Path(folder), "the data set")


def split_options(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell our own options from those of ``audit``, by hand: the parser of those needs Lightning and the user's code.

    Example:
        >>> split_options(["-c", "run.yaml", "--seed=1", "--data.root", "images", "--suspects", "a"])
        (['--seed=1', '--suspects', 'a'], ['-c', 'run.yaml', '--data.root', 'images'])
    """
    both: tuple[list[str], list[str]] = ([], [])
    into = both[0]
    for arg in args:
        if arg.startswith("-") and not re.fullmatch(r"-[\d.]+(e-?\d+)?", arg):  # a negative number is a value
            name = re.split(r"[.=]", arg.lstrip("-"), maxsplit=1)[0]
            into = both[1] if name in _MODEL_OPTIONS else both[0]
        into.append("--kind" + arg.removeprefix("--output_kind") if arg.startswith("--output_kind") else arg)
    return both
