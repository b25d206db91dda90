"""``mia-lightning audit --outputs DIR``: an audit of stored outputs, for those who do not hold the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from mia_lightning.cli.audit_settings import add_settings
from mia_lightning.cli.fail_above import add_limits, show_limits
from mia_lightning.cli.parser import Helpful
from mia_lightning.data.output_layout import OutputFiles
from mia_lightning.data.records import require_folder

_USAGE = """mia-lightning audit --outputs DIR [options]
       with DIR/members and DIR/nonmembers: the folders inputs, targets, outputs
       or these folders in DIR, and --member_ids FILE --nonmember_ids FILE"""
_DESCRIPTION = """Audits stored outputs of a model: what it made of samples that it was trained on, and of others. Files
that belong together have one name, suffixes aside. Outputs of a translator are images; those of a segmenter
probabilities or logits (classes, H, W) as .npy or .npz, or label maps as images or integer arrays. Inputs and targets
are images; of models for volumes all are NIfTI files or arrays. With --target_range, targets and outputs of a
translator are numbers as they are stored, such as depths in TIFF or .npy. Writes result.json and samples.csv."""
_NEED_THE_MODEL = (
    *("c", "config", "ckpt_path", "model", "data", "trainer", "members", "nonmembers", "references", "patch"),
    *("weights_only", "seed_everything", "adapter", "output_key", "mean", "std", "neighbours"),
)
_SETTINGS = (
    *("task", "output", "num_classes", "ignore_index", "errors", "scores", "primary", "verdict", "alpha"),
    *("target_range", "void", "groups", "max_samples", "slices", "slice_by", "batch_size", "seed", "fdr", "cache_dir"),
)


@dataclass(frozen=True)
class Request:
    """What is to be audited.

    Args:
        outputs: Folder with the outputs, inputs and targets.
        member_ids: Text file with an id (a file's name without suffix) a line: what the model was trained on.
        nonmember_ids: Likewise: what it was not trained on. Ids in neither file are left out.
        top: Number of most exposed members to list.
        by: What to list the most exposed by: sample, or group.
        output_dir: Folder of the results; by default audit, or audit-NAME where that holds another.
    """

    outputs: str
    member_ids: str | None = None
    nonmember_ids: str | None = None
    top: int | None = None
    by: Literal["sample", "group"] = "sample"
    output_dir: str | None = None


_FIRST_SCREEN = (
    *(f.name for f in fields(Request) if f.name != "by"),
    *("output", "foreground", "task", "num_classes", "scores", "primary", "max_samples"),
)


def audit_outputs_command(args: Sequence[str]) -> None:
    """Audit stored outputs, write the result and print it.

    Args:
        args: Arguments after the command's name.

    Raises:
        OSError: If a folder or file is missing or cannot be read.
        ValueError: If options or files do not fit.
    """
    # What is --audit.NAME where there are options of model and data too needs no group here.
    own = [re.sub(r"^--audit\.", "--", arg) for arg in args]
    _refuse_model_options(own)
    parser = Helpful(
        prog="mia-lightning audit --outputs DIR",
        usage=_USAGE,
        description=_DESCRIPTION,
        first_screen=_FIRST_SCREEN,
    )
    parser.add_class_arguments(Request, as_group=False)
    parser.add_class_arguments(OutputFiles, as_group=False)
    add_limits(parser)
    add_settings(parser, _SETTINGS)
    if any(arg.startswith("--scorer") for arg in own):  # its type takes seconds to import
        add_settings(parser, ["scorer"])
    else:
        parser.add_argument("--scorer", help="Predictability scorer.")
    options = parser.instantiate(parser.parse_args(own)).as_dict()
    request = Request(**{f.name: options.pop(f.name) for f in fields(Request)})
    limits = options.pop("fail_above") or []
    passed = {arg.partition("=")[0] for arg in own}
    for name in {"scores", "primary", "verdict"} - {flag.removeprefix("--") for flag in passed}:
        del options[name]  # whether they were passed matters
    if request.top is not None and request.top < 1:
        raise ValueError(f"Expected --top >= 1, the number of members to list, but got {request.top}.")
    require_folder(Path(request.outputs), "the outputs")  # before torch is imported
    _audit(request, options, limits)


def _audit(request: Request, options: dict[str, Any], fail_above: Sequence[str]) -> None:
    """Audit, write and print."""
    from rich.console import Console
    from rich.text import Text

    from mia_lightning.cli.printing import print_audit
    from mia_lightning.cli.terminal import progress_bar
    from mia_lightning.report.run_folder import folder_for
    from mia_lightning.result.limits import checked_limits, read_limits
    from mia_lightning.result.picture_files import write_result
    from mia_lightning.result.remarks import counted
    from mia_lightning.sinks.sample_pictures import pictures_of
    from mia_lightning.stored.outputs_audit import OutputsAudit

    console, limits = Console(), checked_limits(read_limits(fail_above))
    audit = OutputsAudit(request.outputs, member_ids=request.member_ids, nonmember_ids=request.nonmember_ids, **options)
    members, nonmembers = audit.members, audit.nonmembers
    classes = "" if members.num_classes is None else f" of {members.num_classes} classes"
    counts = f"{counted(len(members), 'member')}, {counted(len(nonmembers), 'nonmember')}"
    console.print(Text(f"{members.task}: {counts}; outputs are {members.kind}{classes}."))
    for caution in audit.cautions:  # before the numbers that they put in doubt
        console.print(Text(f"Caution: {caution}"), style="yellow", soft_wrap=True)
    result = audit.run(progress_bar())
    folder = Path(request.output_dir or folder_for("audit", "result.json", {"outputs": request.outputs}))
    write_result(result, folder, pictures_of(result, audit.auditor, None, (members, nonmembers)))
    print_audit(console, result, folder, top=request.top, by=request.by)
    show_limits(console, limits, result)


def _refuse_model_options(args: Sequence[str]) -> None:
    """Say that options are for audits of the model, by hand: the parser would call them unknown."""
    flags = [arg.split("=")[0] for arg in args if arg.startswith("-")]
    wrong = [flag for flag in flags if flag.lstrip("-").split(".")[0] in _NEED_THE_MODEL]
    if wrong:
        raise ValueError(
            f"{', '.join(dict.fromkeys(wrong))}: for audits with the model. --outputs DIR audits stored outputs alone; "
            "leave out one or the other."
        )
