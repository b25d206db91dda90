"""Two sides of stored outputs: found on disk, and checked for differences that would bias their comparison."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.target_range import UNIT
from mia_lightning.data.id_lists import Ids, read_ids
from mia_lightning.data.images import ReadingRules, read_image
from mia_lightning.data.measured_outputs import MeasuredOutputs, holds_flat_arrays, holds_floats
from mia_lightning.data.output_dataset import OutputDataset, Task
from mia_lightning.data.output_files import ARRAY_SUFFIXES, read_array, shape_of
from mia_lightning.data.output_layout import OutputFiles, OutputKind
from mia_lightning.data.records import (
    IMAGE_SUFFIXES,
    files_in,
    folder_in,
    folders_in,
    name_some,
    require_folder,
)
from mia_lightning.data.stored_arrays import INDEX, StoredArrays
from mia_lightning.data.volume_files import is_nifti
from mia_lightning.data.volume_outputs import SUFFIXES as VOLUME_SUFFIXES
from mia_lightning.data.volume_outputs import VolumeOutputs, holds_volumes
from mia_lightning.result.remarks import counted

NamedSide = tuple[str, OutputDataset]

_MANY_COLOURS = 256  # more than an image of class ids has


def find_sides(
    folder: str | Path, member_ids: Ids | None, nonmember_ids: Ids | None, files: OutputFiles, config: AuditConfig
) -> tuple[OutputDataset, OutputDataset]:
    """Find members and nonmembers below a folder: in folders of these names, or in one data set by their ids.

    Raises:
        OSError: If a folder or file is missing or cannot be read.
        ValueError: If it is not said who is a member, or the files do not fit.
    """
    root = require_folder(Path(folder), "the outputs")
    if member_ids is not None and nonmember_ids is not None:
        dataset = open_outputs(root, files, config)
        members, nonmembers = read_ids(member_ids, dataset.ids), read_ids(nonmember_ids, dataset.ids)
        if both := set(members) & set(nonmembers):
            lists = [str(ids) if isinstance(ids, (str, Path)) else "list" for ids in (member_ids, nonmember_ids)]
            raise ValueError(
                f"Both {lists[0]} and {lists[1]} name {counted(len(both), 'id')}: {name_some(both)}. A sample was "
                "trained on or not: remove them from one of the two."
            )
        return dataset.only(members), dataset.only(nonmembers)
    if member_ids is not None or nonmember_ids is not None:
        raise ValueError("Expected both files, --member_ids FILE and --nonmember_ids FILE, or neither.")
    if missing := [side for side in ("members", "nonmembers") if not (root / side).is_dir()]:
        raise ValueError(
            f"{root} does not say who is a member: it has no folder {' and no folder '.join(missing)} (its folders are "
            f"{', '.join(folders_in(root)) or 'none'}). Either put {files.inputs_dir}, {files.targets_dir} and "
            f"{files.outputs_dir} of both sides into {root}/members and {root}/nonmembers, or name two files with an "
            "id a line, --member_ids FILE --nonmember_ids FILE."
        )
    return open_outputs(root / "members", files, config), open_outputs(root / "nonmembers", files, config)


def open_outputs(root: str | Path, files: OutputFiles, config: AuditConfig) -> OutputDataset:
    """Open a folder of inputs, targets and outputs; with ``task="auto"`` their index or the first files tell the task.

    Raises:
        OSError: If a folder is missing or empty, or the first output cannot be read.
        ValueError: If names do not match, a setting does not fit the files, or they do not tell the task.
    """
    if (Path(root) / INDEX).is_file():
        return StoredArrays(root)
    white = config.white if files.white is None else files.white
    files = replace(files, kind=kind_of_outputs(files, config), white=white)
    in_units = _in_units(config)
    task = config.task if config.task != "auto" else tell_task(Path(root), files, config.num_classes, in_units)
    if task == "translation" and holds_flat_arrays(root, files):
        return MeasuredOutputs(root, files, in_units=in_units)
    if holds_volumes(folder_in(Path(root), files.inputs_dir)):
        return VolumeOutputs(root, task, files, config.num_classes)
    if task == "translation" and (in_units or holds_floats(root, files)):
        return MeasuredOutputs(root, files, in_units=in_units)
    settings = asdict(files) | {"ignore_index": config.ignore_index, "cache_dir": config.cache_dir}
    return OutputDataset(root, task, num_classes=config.num_classes, **settings)


def _in_units(config: AuditConfig) -> bool:
    """Whether the settings say that targets and outputs are no pictures in [0, 1]."""
    return config.void is not None or config.target_range not in ("auto", UNIT)


def kind_of_outputs(files: OutputFiles, config: AuditConfig) -> OutputKind | None:
    """What outputs are said to be, by ``kind`` or by ``output``; a ValueError where the two say different things."""
    if config.output == "auto" or (config.task == "translation" and files.kind is None):
        return files.kind
    if files.kind not in (None, config.output):
        raise ValueError(
            f"kind={files.kind!r} says that outputs are {files.kind}, output={config.output!r} says "
            f"{config.output}: leave out one of the two."
        )
    return config.output


def tell_task(root: Path, files: OutputFiles, num_classes: int | None = None, in_units: bool = False) -> Task:
    """Tell the task where settings or the first output and target leave no doubt; ValueError where they do.

    A range of targets, or a mark of void pixels (``in_units``), is one of pictures.
    """
    if in_units:
        return "translation"
    if any(v is not None for v in (num_classes, files.foreground, files.kind)):
        return "segmentation"
    output, target = (_first(root / name) for name in (files.outputs_dir, files.targets_dir))
    volumes = holds_volumes(folder_in(root, files.inputs_dir))
    if volumes and output is not None and target is not None and _are_classes(output, target):
        return "segmentation"
    if not volumes and output is not None and output.suffix.lower() in ARRAY_SUFFIXES:
        array = read_array(output)
        floating = np.issubdtype(array.dtype, np.floating)
        if floating and array.ndim == 3 and not {array.shape[0], array.shape[2]} & {1, 3}:
            return "segmentation"  # more channels than an image has
        if not floating and array.ndim == 2 and array.dtype != np.uint8:
            return "segmentation"
    if target is not None and target.suffix.lower() in IMAGE_SUFFIXES:
        pixels = read_image(target, rules=ReadingRules(files.white, exif=files.exif))
        if pixels.ndim == 3 and len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > _MANY_COLOURS:
            return "translation"  # a photograph, not class ids
    raise ValueError(
        f"The first output in {root / files.outputs_dir} and the first target in {root / files.targets_dir} do not "
        "tell what the model does: say --task translation, --task segmentation or --task multilabel."
    )


def _are_classes(output: Path, target: Path) -> bool:
    """Whether an output has several channels beside a target of none."""
    shape = shape_of(output)
    return len(shape) == 4 and shape[3 if is_nifti(output) else 0] > 1 and len(shape_of(target)) == 3


def _first(folder: Path) -> Path | None:
    suffixes = IMAGE_SUFFIXES | VOLUME_SUFFIXES
    return next((path for _, path in files_in(folder, suffixes)), None) if folder.is_dir() else None


# ---- what would tell two sides apart, whatever the model was trained on


def require_same_kind(one: NamedSide, other: NamedSide) -> None:
    """Raise a ValueError if one side holds, for example, probabilities and the other label maps."""
    kinds = ("are", one[1].kind, other[1].kind)
    classes = ("have a number of classes of", one[1].num_classes, other[1].num_classes)
    measured = [side.numbers for _, side in (one, other) if isinstance(side, MeasuredOutputs)]
    numbers = ("hold numbers of the type", measured[0], measured[-1]) if len(measured) == 2 else ("hold", "", "")
    if differences := _differences(one, other, kinds, classes, numbers):
        raise ValueError(differences[0])


def storage_differences(one: NamedSide, other: NamedSide) -> list[str]:
    """Sentences on how the ways in which outputs were stored would tell two sides apart."""
    found = _differences(one, other, ("are stored", _ways(one[1].storage), _ways(other[1].storage)))
    sizes = {**one[1].sizes, **other[1].sizes}
    usual, often = Counter(sizes.values()).most_common(1)[0] if sizes else ((0, 0), 0)
    # A few odd ones among many alike; where sizes differ throughout, none stands out.
    if len(sizes) / 2 <= often < len(sizes):
        odd = [str(path) for path, size in sizes.items() if size != usual]
        found.append(
            f"{len(odd)} of {len(sizes)} outputs have another size than the {usual[0]}x{usual[1]} of the rest: "
            f"{name_some(odd)}. Resizing changes an error whatever the model was trained on: leave them out, or take "
            "all as the model gave them."
        )
    return found


def _ways(storage: Sequence[str]) -> str:
    """Name the ways in which files are stored.

    Example:
        >>> _ways(["array", "image", "lossy grey image"])
        'as arrays, as lossless images and as lossy grey images (JPEG or WebP)'
    """
    names = {kind: kind if kind == "array" or kind.startswith("lossy") else f"lossless {kind}" for kind in storage}
    ways = [f"as {name}s" + (" (JPEG or WebP)" if kind.startswith("lossy") else "") for kind, name in names.items()]
    return " and ".join(part for part in (", ".join(ways[:-1]), ways[-1]) if part)


def _differences(one: NamedSide, other: NamedSide, *properties: tuple[str, object, object]) -> list[str]:
    return [
        f"The outputs of the {one[0]} {what} {ours}, those of the {other[0]} {theirs}. That alone would tell the two "
        "apart, whatever the model was trained on: store both in the same way."
        for what, ours, theirs in properties
        if ours != theirs
    ]
