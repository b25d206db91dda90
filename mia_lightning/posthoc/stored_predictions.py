"""What a model makes of members and nonmembers, stored so that its audit needs the model no longer."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.forward import AuditedModel, Module, Runtime
from mia_lightning.audit.isolation import isolated
from mia_lightning.audit.loading import Source
from mia_lightning.audit.progress import Progress, no_progress
from mia_lightning.audit.slicing import Slicing
from mia_lightning.data.stored_arrays import ArrayWriter
from mia_lightning.functional.sample_names import short_names
from mia_lightning.result.context import AuditContext

_MEANING = {"num_classes", "ignore_index", "mean", "std", "target_range", "void", "input_kind", "white"}
"""Settings that say what inputs and targets mean, for whoever reads them."""


def require_new_folder(path: str | Path) -> Path:
    """A folder to write into; FileExistsError where it holds something already, or is a file."""
    path = Path(path)
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        what = "is a file" if path.is_file() else "is not empty"
        raise FileExistsError(f"{path} {what}, and stored outputs do not mix with others: name another --output_dir.")
    return path


def store_predictions(
    auditor: Auditor,
    module: Module,
    members: Source,
    nonmembers: Source,
    output_dir: str | Path,
    *,
    context: AuditContext | None = None,
    runtime: Runtime | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Run a model on the samples that an audit would take, and store inputs, targets and outputs as they are.

    :func:`~mia_lightning.audit_outputs` and ``mia-lightning audit --outputs`` read the folder and find the numbers of
    the audit of the model. Of what else batches and data sets say of samples, beside ids and groups, only the columns
    are stored that the setting ``slices`` names, so that audits of the outputs can be sliced by them.

    Args:
        auditor: Says which samples (``max_samples``, ``seed``), how batches and predictions are read, and which columns
            are stored (``slices``).
        module: As for :meth:`mia_lightning.Auditor.run`, and so the sides and ``runtime``.
        members: Samples that it was trained on.
        nonmembers: Samples that it was not trained on.
        output_dir: Folder to make, for ``members`` and ``nonmembers``: ``inputs``, ``targets`` and ``outputs`` of each.
        context: What is known of the weights and of the membership; goes with the outputs.
        runtime: Device, preparation of batches and context of forward passes.
        progress: Likewise.

    Returns:
        The folder.

    Raises:
        FileExistsError: If the folder is not empty.
        TypeError: As :meth:`mia_lightning.Auditor.run`.
        ValueError: Likewise; also if batches and data sets lack a column that ``slices`` names.

    Example:
        >>> import tempfile
        >>> from mia_lightning import audit_outputs
        >>> pairs = [(torch.rand(3, 16, 16), torch.rand(3, 16, 16)) for _ in range(8)]
        >>> model, auditor = torch.nn.Identity(), Auditor(task="translation")
        >>> folder = store_predictions(auditor, model, pairs[:4], pairs[4:], tempfile.mkdtemp())
        >>> stored, live = audit_outputs(folder), auditor.run(model, pairs[:4], pairs[4:])
        >>> bool((stored.errors["membership"] == live.errors["membership"]).all())
        True
    """
    folder = require_new_folder(output_dir)
    plan = auditor.decide(module, members, nonmembers, runtime=runtime)
    about = _about(context or AuditContext())
    kind = "images" if plan.output is None else plan.output.kind
    config = plan.interpretation.config
    settings = {f.name: _plain(getattr(config, f.name)) for f in fields(AuditConfig) if f.name in _MEANING}
    settings["class_names"] = _plain(config.class_names or auditor.class_names)
    settings["target_range"] = _plain(auditor.target_range or auditor.config.target_range)
    settings |= {"task": plan.interpretation.task, "output": "auto" if kind == "images" else kind}
    written = {"task": plan.interpretation.task, "kind": kind, "settings": settings, "about": about}
    model = AuditedModel(module, auditor.adapter, runtime or Runtime())
    sources = {"member": members, "nonmember": nonmembers}
    with isolated(module, members, nonmembers, model.runtime.prepare), torch.no_grad():
        sides = [auditor.side(name, source, model) for name, source in sources.items()]
        slicing = Slicing({name: None for name, source in auditor.config.columns.items() if source is None})
        slicing.look_into(sides[0].dataset, sides[1].dataset)
        for side in sides:  # a column that nobody has is refused before anything is written
            first = side.first()
            slicing.stored(first, auditor.adapter.unpack(first), [], plan.interpretation.task)
        names: list[tuple[str, bool, int]] = []
        writers = []
        with progress("predicting", sum(len(side) for side in sides)) as done:
            for side in sides:
                writers.append(writer := ArrayWriter(folder / f"{side.name}s"))
                for positions, batch in side.batches():
                    sample = auditor.adapter.unpack(batch)
                    output, groups = model.output_of(sample), getattr(sample, "group", None)
                    places = [(side.name == "member", position // (side.crops or 1)) for position in positions]
                    rows = slicing.stored(batch, sample, places, plan.interpretation.task)
                    ids = side.names(sample.id, positions)
                    for row, (id, place) in enumerate(zip(ids, positions, strict=True)):
                        group = None if groups is None else groups[row]
                        writer.add(id, sample.input[row], sample.target[row], output[row], group, rows[row])
                        names.append((id, side.name == "member", place))
                    done(len(positions))
    short, _ = short_names(*map(list, zip(*names, strict=True)))
    count = sum(is_member for _, is_member, _ in names)
    for writer, own in zip(writers, (short[:count], short[count:]), strict=True):
        writer.close(own, written)
    return folder


def _about(context: AuditContext) -> dict[str, Any]:
    """What is known of weights and membership, in plain values; fields of an :class:`AuditContext`."""
    plain = {f.name: _plain(getattr(context, f.name)) for f in fields(context) if f.name not in ("stage", "utility")}
    return {name: value for name, value in plain.items() if value}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return dict(value) if hasattr(value, "items") else value
