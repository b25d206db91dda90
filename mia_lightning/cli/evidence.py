"""``mia-lightning evidence``: was a model trained on these images? With the model, or with its outputs alone."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mia_lightning.cli.audit_settings import add_settings
from mia_lightning.cli.parser import Helpful
from mia_lightning.cli.terminal import add_to_json, progress_bar
from mia_lightning.data.output_layout import OutputFiles
from mia_lightning.data.records import require_folder
from mia_lightning.evidence.ways import require_one_way, require_task
from mia_lightning.result.atomic_files import keep_earlier, write_atomically

_MODEL_OPTIONS = ("c", "config", "ckpt_path", "model", "data", "trainer", "audit", "seed_everything", "weights_only")
_SETTINGS = ("max_samples", "slices", "batch_size", "seed", "fdr")
_OF_OUTPUTS = ("task", "output", "num_classes", "ignore_index", "groups")
_OUTPUT_SETTINGS = (*_OF_OUTPUTS, *(f.name for f in fields(OutputFiles)))
_DESCRIPTION = """Was a model trained on these images (the suspects)? Compares them with a reference that cannot have
been trained on, and writes evidence.json and evidence.txt. Two ways:
(1) with the model: --ckpt_path FILE (-c CONFIG and other options of audit where it does not say what was trained), and
two folders laid out as its data, or two files of ids out of these;
(2) with outputs alone: --task, and two folders that hold the folders inputs, targets and outputs, names matching; only
then do the options from --task on count."""


@dataclass(frozen=True)
class Request:
    """What is to be weighed.

    Args:
        suspects: Folder of the images in question.
        reference: Folder of images like them that cannot have been trained on.
        suspect_ids: With a model: text file with one id a line, instead of a folder.
        reference_ids: With a model: likewise.
        primary: The score to judge by; by default combined with a model, and membership with outputs alone.
        level: P-value at or below which the claim counts as supported.
        output_dir: Folder for evidence.json and evidence.txt; those of another question that are there get a number.
        unverified_members: With a model: go on where the members are others than those of the training, or the
            reference was trained on.
    """

    suspects: str | None = None
    reference: str | None = None
    suspect_ids: str | None = None
    reference_ids: str | None = None
    primary: str | None = None
    level: float = 0.01
    output_dir: str = "evidence"
    unverified_members: bool = False


_USAGE = """mia-lightning evidence --suspects DIR --reference DIR --task TASK
       mia-lightning evidence --suspects DIR --reference DIR --ckpt_path FILE"""
_FIRST_SCREEN = (
    *(f.name for f in fields(Request)),
    *("config", "ckpt_path", "max_samples", "fdr", "task", "num_classes", "ignore_index", "kind"),
)


def evidence_parser() -> Helpful:
    """Declare the options, without the imports that weighing needs."""
    parser = Helpful(prog="mia-lightning evidence", usage=_USAGE, description=_DESCRIPTION, first_screen=_FIRST_SCREEN)
    parser.add_class_arguments(Request, as_group=False)
    add_settings(parser, _SETTINGS, max_samples=None)
    parser.add_argument("-c", "--config", help="With a model: configuration of its training.")
    parser.add_argument("--ckpt_path", help="With a model: its weights.")
    add_settings(parser, _OF_OUTPUTS)
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
    options = {n: v for n, v in parser.parse_args(own).as_dict().items() if n not in ("config", "ckpt_path")}
    folder = Path(options.pop("output_dir"))
    if options["primary"] is None:
        del options["primary"]
    if of_the_model:
        changed = [n for n in _OUTPUT_SETTINGS if options.pop(n) != parser.get_default(n)]
        _check_model_options(options, changed, of_the_model)
    else:
        _check_output_options(options)
    for side in ("suspects", "reference"):
        if options[side] is not None:
            # Before torch is imported; a path type of the parser would not name the folders there are.
            require_folder(Path(options[side]), "the data set")
    evidence = _weigh(options, of_the_model)
    text = evidence.to_text()
    files = folder / "evidence.json", folder / "evidence.txt"
    if files[1].is_file() and files[1].read_text(encoding="utf-8") != text:
        kept = keep_earlier(*files)
        sys.stdout.write(f"The evidence that was there is kept: {', '.join(map(str, kept))}\n\n")
    written = evidence.to_json(files[0]), write_atomically(files[1], text)
    sys.stdout.write(f"{text}\nWritten: {written[0]}, {written[1]}\n")
    add_to_json(evidence=json.loads(written[0].read_text(encoding="utf-8")), files=[str(path) for path in written])


def _weigh(options: dict[str, Any], of_the_model: Sequence[str]) -> Any:  # a type's name here would import torch
    if of_the_model:
        from mia_lightning.cli.evidence_model import weigh_configured

        return weigh_configured(of_the_model, options)
    from mia_lightning.evidence.from_outputs import weigh_outputs

    return weigh_outputs(progress=progress_bar(), **options)


def _check_output_options(options: dict[str, Any]) -> None:
    ids = options.pop("suspect_ids"), options.pop("reference_ids")
    if options.pop("unverified_members"):
        raise ValueError("--unverified_members is for a model: folders of outputs have no record of a training.")
    if None in (options["suspects"], options["reference"]) or any(ids):
        raise ValueError(
            "Name two folders, --suspects DIR and --reference DIR, each with the folders inputs, targets and outputs. "
            "To ask a model instead, add --ckpt_path FILE; only then can --suspect_ids and --reference_ids "
            "choose from one folder."
        )
    require_task(options["task"])


def _check_model_options(options: dict[str, Any], only_with_outputs: Sequence[str], args: Sequence[str]) -> None:
    if only_with_outputs:
        wrong = ", ".join(f"--{name}" for name in only_with_outputs)
        raise ValueError(f"{wrong} are for folders of outputs; with a model, the configuration says it.")
    require_one_way(*(options[name] for name in ("suspects", "reference", "suspect_ids", "reference_ids")))
    overridden = {f"--audit.{name}" for name in ("scores", "primary", *_SETTINGS, "output_dir")}
    if wrong := ", ".join(sorted(overridden & {arg.split("=")[0] for arg in args})):
        raise ValueError(
            f"{wrong} would be overridden: evidence has options of its own for that (--primary, --fdr, --seed, "
            "--batch_size, --max_samples, --output_dir), and judges by the one score named by --primary."
        )


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
