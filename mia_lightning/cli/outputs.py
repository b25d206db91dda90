"""``mia-lightning audit --outputs DIR``: an audit of stored outputs, for those who do not hold the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.text import Text

from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.progress import no_progress, rich_progress
from mia_lightning.audit.stored_outputs import StoredOutputs, no_model
from mia_lightning.callbacks.pictures import pictures_of
from mia_lightning.cli.parser import Helpful
from mia_lightning.cli.printing import print_audit
from mia_lightning.cli.stored import LABELS_NOTE, read_ids, require_no_neighbours, stored_unlike, unlike
from mia_lightning.data.images import read_image
from mia_lightning.data.output_dataset import OutputDataset, OutputKind, Task
from mia_lightning.data.output_files import ARRAY_SUFFIXES, read_array, shape_of
from mia_lightning.data.records import IMAGE_SUFFIXES, folders_in, name_some, require_folder
from mia_lightning.features import PredictabilityScorer
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.picture_files import Picture, write_pictures
from mia_lightning.result.remarks import counted

Sides = tuple[OutputDataset, OutputDataset]

_USAGE = """mia-lightning audit --outputs DIR [options]
       with DIR/members and DIR/nonmembers, each with the folders inputs, targets and outputs
       or DIR/inputs, DIR/targets, DIR/outputs and --member_ids FILE --nonmember_ids FILE"""
_DESCRIPTION = """Audits stored outputs of a model: what it made of samples that it was trained on, and of others. Files
that belong together have one name, suffixes aside. Outputs of a translator are images; those of a segmenter
probabilities or logits (classes, H, W) as .npy or .npz, or label maps as images or integer arrays. Inputs and targets
are images. Writes result.json and samples.csv."""
_NEED_THE_MODEL = (
    *("c", "config", "ckpt_path", "model", "data", "trainer", "members", "nonmembers", "references", "patch"),
    *("weights_only", "seed_everything", "adapter", "output_key", "mean", "std", "target_range", "neighbours"),
)
_MANY_COLOURS = 256  # more than an image of class ids has


@dataclass(frozen=True)
class Request:
    """What is to be audited, and how.

    Args:
        outputs: Folder with the outputs, inputs and targets.
        member_ids: Text file with an id (a file's name without suffix) a line: what the model was trained on.
        nonmember_ids: Likewise: what it was not trained on. Ids in neither file are left out.
        task: What the model does; to be said where the files do not tell.
        num_classes: Number of classes of a segmentation; needed with label maps.
        ignore_index: Label of pixels without a class.
        foreground: Mask value of the foreground where there is one class, or two, such as 255.
        inputs_dir: Name of the folder of inputs.
        targets_dir: Name of the folder of targets.
        outputs_dir: Name of the folder of outputs.
        kind: What a segmenter's outputs are, where the first file does not tell.
        scores: Which scores to report: reconstruction, membership, calibrated, trained.
        primary: The score behind ``audit/auc``.
        alpha: Weight of the predictability error.
        scorer: Predictability scorer.
        max_samples: Size of the seeded subset a side; null audits all.
        batch_size: Samples a batch; 1 where sizes differ.
        seed: Seed of subsets, folds and permutations.
        fdr: False discovery rate at which single samples are flagged.
        top: Number of most exposed members to list.
        output_dir: Folder for result.json and samples.csv.
        cache_dir: Folder of the predictability cache; null keeps it in memory.
    """

    outputs: str
    member_ids: str | None = None
    nonmember_ids: str | None = None
    task: Literal["translation", "segmentation"] | None = None
    num_classes: int | None = None
    ignore_index: int = 255
    foreground: int | None = None
    inputs_dir: str = "inputs"
    targets_dir: str = "targets"
    outputs_dir: str = "outputs"
    kind: Literal["probabilities", "logits", "labels"] | None = None
    scores: Sequence[str] = ("reconstruction", "membership")
    primary: str = "membership"
    alpha: float = 1.0
    scorer: PredictabilityScorer | None = None
    max_samples: int | None = 512
    batch_size: int = 16
    seed: int = 0
    fdr: float = 0.1
    top: int | None = None
    output_dir: str = "audit"
    cache_dir: str | None = None


def outputs_command(args: Sequence[str]) -> None:
    """Audit stored outputs, write the result and print it.

    Args:
        args: Arguments after the command's name.

    Raises:
        OSError: If a folder or file is missing or cannot be read.
        ValueError: If options or files do not fit.
    """
    # What is --audit.NAME where there are options of model and data too needs no group here.
    given = [re.sub(r"^--audit\.", "--", arg) for arg in args]
    _refuse_model_options(given)
    parser = Helpful(prog="mia-lightning audit --outputs DIR", usage=_USAGE, description=_DESCRIPTION)
    parser.add_class_arguments(Request, as_group=False)
    parsed = parser.instantiate(parser.parse_args(given)).as_dict()
    request = Request(**{f.name: parsed[f.name] for f in fields(Request)})
    console = Console()
    result, pictures = audit_outputs(request, console)
    folder = Path(request.output_dir)
    result.to_json(folder / "result.json")
    result.to_csv(folder / "samples.csv")
    write_pictures(pictures, result, folder)
    print_audit(console, result, folder, top=request.top)


def audit_outputs(request: Request, console: Console) -> tuple[AuditResult, list[Picture]]:
    """Audit stored outputs.

    Args:
        request: What is to be audited.
        console: Where to say what was found.

    Returns:
        The result, as an audit of the model itself would give it, and pictures of the most telling samples.

    Raises:
        OSError: If a folder or file is missing or cannot be read.
        ValueError: If options or files do not fit.
    """
    require_no_neighbours((*request.scores, request.primary))
    if request.top is not None and request.top < 1:
        raise ValueError(f"Expected --top >= 1, the number of members to list, but got {request.top}.")
    members, nonmembers = _sides(request)
    named = ("members", members), ("nonmembers", nonmembers)
    for difference in unlike(*named):
        raise ValueError(difference)
    classes = "" if members.num_classes is None else f" of {members.num_classes} classes"
    counts = f"{counted(len(members), 'member')}, {counted(len(nonmembers), 'nonmember')}"
    console.print(Text(f"{members.task}: {counts}; outputs are {members.kind}{classes}."))
    cautions = [*stored_unlike(*named), *members.notes, *nonmembers.notes]
    for caution in cautions:  # before the numbers that they put in doubt
        console.print(Text(f"Caution: {caution}"), style="yellow", soft_wrap=True)
    one_size = len({shape_of(path) for side in (members, nonmembers) for path in side.paths}) == 1
    auditor = Auditor(
        task=members.task,
        adapter=StoredOutputs(),
        scorer=request.scorer,
        scores=request.scores,
        primary=request.primary,
        alpha=request.alpha,
        ignore_index=request.ignore_index,
        max_samples=request.max_samples,
        batch_size=request.batch_size if one_size else 1,
        seed=request.seed,
        fdr=request.fdr,
        cache_dir=request.cache_dir,
    )
    lists = {name: value for name in ("member_ids", "nonmember_ids") if (value := getattr(request, name)) is not None}
    meta = {"source": "outputs", "stage": "audit", "outputs": request.outputs, **lists, "kind": members.kind}
    meta["membership"] = {"assignment": "given"}
    bar = rich_progress if console.is_terminal else no_progress
    result = auditor.run(no_model, members, nonmembers, meta=meta, progress=bar)
    result.meta["notes"] += cautions + ([LABELS_NOTE] if members.kind == "labels" else [])
    return result, pictures_of(result, auditor, no_model, (members, nonmembers))


def _refuse_model_options(args: Sequence[str]) -> None:
    flags = [arg.split("=")[0] for arg in args if arg.startswith("-")]
    wrong = [flag for flag in flags if flag.lstrip("-").split(".")[0] in _NEED_THE_MODEL]
    if wrong:
        raise ValueError(
            f"{', '.join(dict.fromkeys(wrong))}: for audits with the model. --outputs DIR audits stored outputs alone; "
            "leave out one or the other."
        )


def _sides(request: Request) -> Sides:
    root = require_folder(Path(request.outputs), "the outputs")
    lists = (request.member_ids, request.nonmember_ids)
    if (None in lists) != (lists == (None, None)):
        raise ValueError("Expected both files, --member_ids FILE and --nonmember_ids FILE, or neither.")
    if None not in lists:
        dataset = _dataset(request, root)
        members, nonmembers = (read_ids(str(path), dataset.ids) for path in lists)
        if both := set(members) & set(nonmembers):
            raise ValueError(
                f"Both {lists[0]} and {lists[1]} name {counted(len(both), 'id')}: {name_some(both)}. A sample was "
                "trained on or not: remove them from one of the two."
            )
        return dataset.only(members), dataset.only(nonmembers)
    if missing := [side for side in ("members", "nonmembers") if not (root / side).is_dir()]:
        raise ValueError(
            f"{root} does not say who is a member: it has no folder {' and no folder '.join(missing)} (its folders are "
            f"{', '.join(folders_in(root)) or 'none'}). Either put {request.inputs_dir}, {request.targets_dir} and "
            f"{request.outputs_dir} of both sides into {root}/members and {root}/nonmembers, or name two files with an "
            "id a line, --member_ids FILE --nonmember_ids FILE."
        )
    return _dataset(request, root / "members"), _dataset(request, root / "nonmembers")


def _dataset(request: Request, root: Path) -> OutputDataset:
    kind: OutputKind | None = request.kind
    return OutputDataset(
        root,
        request.task or _task_of(request, root),
        num_classes=request.num_classes,
        ignore_index=request.ignore_index,
        foreground=request.foreground,
        inputs_dir=request.inputs_dir,
        targets_dir=request.targets_dir,
        outputs_dir=request.outputs_dir,
        kind=kind,
    )


def _task_of(request: Request, root: Path) -> Task:
    """Tell the task where options or the first output and target leave no doubt.

    Raises:
        ValueError: If they do.
    """
    if any(v is not None for v in (request.num_classes, request.foreground, request.kind)):
        return "segmentation"
    output, target = (_first(root / name) for name in (request.outputs_dir, request.targets_dir))
    if output is not None and output.suffix.lower() in ARRAY_SUFFIXES:
        array = read_array(output)
        floating = np.issubdtype(array.dtype, np.floating)
        if floating and array.ndim == 3 and not {array.shape[0], array.shape[2]} & {1, 3}:
            return "segmentation"  # more channels than an image has
        if not floating and array.ndim == 2 and array.dtype != np.uint8:
            return "segmentation"
    if target is not None and target.suffix.lower() in IMAGE_SUFFIXES:
        pixels = read_image(target)
        if pixels.ndim == 3 and len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > _MANY_COLOURS:
            return "translation"  # a photograph, not class ids
    raise ValueError(
        f"The first output in {root / request.outputs_dir} and the first target in {root / request.targets_dir} do not "
        "tell what the model does: say --task translation or --task segmentation."
    )


def _first(folder: Path) -> Path | None:
    suffixes = IMAGE_SUFFIXES | ARRAY_SUFFIXES
    return next((path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes), None)
