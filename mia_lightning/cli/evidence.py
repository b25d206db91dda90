"""``mia-lightning evidence``: was a model trained on these images? With the model, or with its outputs alone."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import Dataset, Subset, default_collate

from mia_lightning import registry
from mia_lightning.audit.adapters import AutoAdapter
from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.cache import content_keys
from mia_lightning.audit.progress import no_progress, rich_progress
from mia_lightning.audit.stored_outputs import StoredOutputs, no_model
from mia_lightning.cli.parser import Helpful
from mia_lightning.cli.stored import LABELS_NOTE, require_no_neighbours, stored_unlike, unlike
from mia_lightning.cli.terminal import add_to_json
from mia_lightning.data.output_dataset import OutputDataset
from mia_lightning.data.records import name_some
from mia_lightning.evidence.decision import check_level
from mia_lightning.evidence.records import Evidence
from mia_lightning.evidence.weighing import weigh
from mia_lightning.result.atomic_files import write_atomically
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.remarks import counted
from mia_lightning.scores.building import selectable_scores

Sides = tuple[Dataset[Any], Dataset[Any]]

_MODEL_OPTIONS = ("c", "config", "ckpt_path", "model", "data", "trainer", "audit", "seed_everything", "weights_only")
_DESCRIPTION = """Was a model trained on these images (the suspects)? Compares them with a reference that cannot have
been trained on, and writes evidence.json and evidence.txt. Two ways:
(1) with the model: -c CONFIG --ckpt_path FILE and other options of 'mia-lightning audit', and two folders laid out as
the configuration's data module expects, or two files of ids out of its own folder;
(2) with outputs alone: --task, and two folders that hold the folders inputs, targets and outputs, names matching."""


@dataclass(frozen=True)
class Request:
    """What is to be weighed.

    Args:
        suspects: Folder of the images in question.
        reference: Folder of images like them that cannot have been trained on.
        suspect_ids: With a model: text file with one id a line, instead of a folder.
        reference_ids: With a model: likewise.
        task: With outputs alone: what the model does.
        num_classes: With outputs alone: number of classes of a segmentation.
        ignore_index: With outputs alone: label of pixels without a class.
        foreground: With outputs alone: mask value of the foreground where there is one class, such as 255.
        inputs_dir: With outputs alone: name of the folder of inputs.
        targets_dir: With outputs alone: name of the folder of targets.
        outputs_dir: With outputs alone: name of the folder of outputs.
        output_kind: With outputs alone: what a segmenter's outputs are, where the first file does not tell.
        primary: The score to judge by; by default combined with a model, and membership with outputs alone.
        level: P-value at or below which the claim counts as supported.
        fdr: False discovery rate at which single suspects are marked.
        seed: Seed of subsets, folds and permutations.
        output_dir: Folder for evidence.json and evidence.txt.
        batch_size: Pairs a batch; 1 where sizes differ.
        max_samples: At most so many suspects and so many references, drawn with the seed; all by default.
    """

    suspects: str | None = None
    reference: str | None = None
    suspect_ids: str | None = None
    reference_ids: str | None = None
    task: Literal["translation", "segmentation"] | None = None
    num_classes: int | None = None
    ignore_index: int = 255
    foreground: int | None = None
    inputs_dir: str = "inputs"
    targets_dir: str = "targets"
    outputs_dir: str = "outputs"
    output_kind: Literal["probabilities", "logits", "labels"] | None = None
    primary: str | None = None
    level: float = 0.01
    fdr: float = 0.1
    seed: int = 0
    output_dir: str = "evidence"
    batch_size: int = 16
    max_samples: int | None = None

    def scores(self, default: str) -> tuple[str, ...]:
        """The scores to compute, the one to judge by first.

        Raises:
            ValueError: If there is no such score.
        """
        primary = self.primary or default
        attacks = [name for name in selectable_scores() if registry.scores.get(name).attack]
        if primary not in attacks:
            raise ValueError(f"Unknown score --primary={primary!r}; choose one of {', '.join(attacks)}.")
        return (primary, *(s for s in ("reconstruction", "membership") if s != primary))


def evidence_command(args: Sequence[str]) -> None:
    """Weigh evidence, write it and print it.

    Args:
        args: Arguments after the command's name.

    Raises:
        OSError: If a folder or file is missing or cannot be read.
        ValueError: If options, data or checkpoint do not fit.
    """
    own, of_the_model = _split(args)
    parser = Helpful(prog="mia-lightning evidence", description=_DESCRIPTION)
    parser.add_class_arguments(Request, as_group=False)
    for_help = (("-c", "--config", "With a model: configuration of its training."), ("--ckpt_path", "Its weights."))
    for *flags, text in for_help:
        parser.add_argument(*flags, help=text)
    parsed = parser.parse_args(own).as_dict()
    request = Request(**{f.name: parsed[f.name] for f in fields(Request)})
    # Checked before anything takes time.
    request.scores("membership")
    check_level(request.level)
    if of_the_model:
        from mia_lightning.cli.evidence_model import weigh_model

        evidence = weigh_model(request, of_the_model)
    else:
        evidence = weigh_outputs(request)
    text, folder = evidence.to_text(), Path(request.output_dir)
    written = evidence.to_json(folder / "evidence.json"), write_atomically(folder / "evidence.txt", text)
    sys.stdout.write(f"{text}\nWritten: {written[0]}, {written[1]}\n")
    add_to_json(evidence=json.loads(written[0].read_text(encoding="utf-8")), files=[str(path) for path in written])


def weigh_outputs(request: Request) -> Evidence:
    """Weigh stored outputs.

    Args:
        request: What is to be weighed.

    Returns:
        The evidence.

    Raises:
        OSError: If a folder or file is missing or cannot be read.
        ValueError: If options or files do not fit.
    """
    if request.suspects is None or request.reference is None or request.suspect_ids or request.reference_ids:
        raise ValueError(
            "Name two folders, --suspects DIR and --reference DIR, each with the folders inputs, targets and outputs. "
            "To ask a model instead, add -c CONFIG --ckpt_path FILE; only then can --suspect_ids and --reference_ids "
            "choose from one folder."
        )
    if request.task is None:
        raise ValueError("Say what the model does: --task translation or --task segmentation.")
    scores = request.scores("membership")
    require_no_neighbours(scores)
    suspects, reference = (
        OutputDataset(
            folder,
            request.task,
            num_classes=request.num_classes,
            ignore_index=request.ignore_index,
            foreground=request.foreground,
            inputs_dir=request.inputs_dir,
            targets_dir=request.targets_dir,
            outputs_dir=request.outputs_dir,
            kind=request.output_kind,
        )
        for folder in (request.suspects, request.reference)
    )
    for difference in (
        *unlike(("suspects", suspects), ("reference", reference)),
        *stored_unlike(("suspects", suspects), ("reference", reference)),
    ):
        raise ValueError(difference)
    sides, copies, one_size = compare_sides(suspects, reference)
    auditor = Auditor(
        task=request.task,
        adapter=StoredOutputs(),
        scores=scores,
        primary=scores[0],
        ignore_index=request.ignore_index,
        max_samples=request.max_samples,
        batch_size=request.batch_size if one_size else 1,
        seed=request.seed,
        fdr=request.fdr,
    )
    meta = {"source": "outputs", "suspects": request.suspects, "reference": request.reference, "kind": suspects.kind}
    result = auditor.run(no_model, *sides, meta=meta, progress=bar())
    result.meta["notes"] += [*suspects.notes, *reference.notes]
    if suspects.kind == "labels":
        result.meta["notes"].append(LABELS_NOTE)
    return finish(result, copies, request)


def compare_sides(suspects: Dataset[Any], reference: Dataset[Any]) -> tuple[Sides, list[dict[str, str]], bool]:
    """Look through both sides for pairs that occur more than once.

    Args:
        suspects: Data set of single pairs, as :class:`~mia_lightning.audit.adapters.AutoAdapter` reads them.
        reference: Likewise.

    Returns:
        Both sides with each pair once; what was left out, as :attr:`AuditResult.excluded` has it; and whether all pairs
        have one size.

    Raises:
        ValueError: If a pair is on both sides.
    """
    seen: dict[str, dict[bytes, str]] = {"member": {}, "nonmember": {}}
    kept: dict[str, list[int]] = {"member": [], "nonmember": []}
    copies: list[dict[str, str]] = []
    shapes = set()
    for side, dataset in (("member", suspects), ("nonmember", reference)):
        for index in range(len(dataset)):  # type: ignore[arg-type]  # the data sets of this package have a length
            sample = AutoAdapter().unpack(default_collate([dataset[index]]))
            key, name = content_keys("", sample.input, sample.target)[0], (sample.id or [str(index)])[0]
            shapes.add((sample.input.shape, sample.target.shape))
            if key in seen[side]:
                # Twice the same image is one observation; counted twice it would feign certainty.
                copies.append({"id": name, "side": side, "reason": f"a copy of {seen[side][key]!r}, which counts"})
            else:
                seen[side][key] = name
                kept[side].append(index)
    if shared := seen["member"].keys() & seen["nonmember"].keys():
        pairs = [f"{seen['member'][key]} = {seen['nonmember'][key]}" for key in shared]
        raise ValueError(
            f"The reference holds {counted(len(shared), 'suspect')} as well, with the same content (suspect = "
            f"reference): {name_some(pairs)}. The reference must not have been trained on: remove them from one side."
        )
    sides = Subset(suspects, kept["member"]), Subset(reference, kept["nonmember"])
    return sides, copies, len(shapes) == 1


def finish(result: AuditResult, copies: list[dict[str, str]], request: Request) -> Evidence:
    """Weigh the result of an audit of suspects against a reference."""
    result.excluded += copies
    return weigh(result, level=request.level, fdr=request.fdr, seed=request.seed)


def bar() -> Any:
    """A progress bar where somebody looks."""
    return rich_progress if sys.stdout.isatty() else no_progress


def _split(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell our own options from those that go on to the command line of ``audit``.

    Example:
        >>> _split(["-c", "run.yaml", "--seed=1", "--data.root", "images", "--suspects", "a"])
        (['--seed=1', '--suspects', 'a'], ['-c', 'run.yaml', '--data.root', 'images'])
    """
    parts: tuple[list[str], list[str]] = ([], [])
    into = parts[0]
    for arg in args:
        if arg.startswith("-") and not re.fullmatch(r"-[\d.]+(e-?\d+)?", arg):  # a negative number is a value
            name = re.split(r"[.=]", arg.lstrip("-"), maxsplit=1)[0]
            into = parts[1] if name in _MODEL_OPTIONS else parts[0]
        into.append(arg)
    return parts


def only_with_outputs(request: Request) -> list[str]:
    """Options given that only make sense for folders of outputs."""
    names = ("task", "num_classes", "ignore_index", "foreground", "inputs_dir", "targets_dir", "outputs_dir")
    usual = {f.name: f.default for f in fields(Request)}
    return [f"--{n}" for n in (*names, "output_kind") if getattr(request, n) != usual[n]]
