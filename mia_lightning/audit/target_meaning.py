"""What targets mean: the task, by the setting or by the values of the first samples; and what errors compare with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.target_range import UNIT
from mia_lightning.functional.batches import Batch
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.integer_values import integer_values, kind_of_integers
from mia_lightning.functional.resolution import in_proportion
from mia_lightning.functional.target_values import EXACT, TargetValues, kind_of_target, target_values
from mia_lightning.functional.volumes import is_volume, middle_slices, spatial_axes, spatial_size
from mia_lightning.functional.widening import widened
from mia_lightning.registry import Task

_UNDECIDED = "Cannot tell the task from the target:"
_REMEDY = "Pass task='segmentation' or task='translation'"
_QUESTIONS = {
    "mask": f"a float mask of zeros and ones could be a label map or a picture. {_REMEDY} (with one channel, "
    "task='multilabel' measures what segmentation by one logit does).",
    "one-hot": "float channels of zeros and ones, of which one is set at each pixel, could be one-hot label maps, or "
    "pictures, or channels that do not exclude each other. Pass task='segmentation' (one-hot), task='translation' "
    "(pictures) or task='multilabel' (independent channels).",
    "channels": "channels of zeros and ones, of which several or none are set at some pixels, could be masks that do "
    "not exclude each other, or pictures. Pass task='multilabel' (independent channels) or task='translation' "
    "(pictures).",
    "soft masks": "{share:.0f} % of its values are exactly 0 or 1 and the others lie between, as in masks with soft "
    "edges or in drawings. Pass task='multilabel' (each channel a mask, soft edges count as such) or "
    "task='translation' (pictures); for task='segmentation', resize label maps to the nearest pixel.",
    "soft one-hot": "its channels hold fractions and sum to one at each pixel, as one-hot label maps do that were "
    "resized smoothly, or class probabilities. Pass task='multilabel' (each channel a mask, fractions count as such) "
    "or task='translation' (pictures); for task='segmentation', resize label maps to the nearest pixel.",
    "ids": "whole numbers from {low:g} to {high:g} in a float tensor could be numbers of classes, or pictures in that "
    "range. Pass task='segmentation', or task='translation' with target_range=(low, high), such as "
    "target_range=(0, 255), or without it: then it is what the targets of both sides span.",
}

_MOST_CLASSES = 2.0**31
_PICTURE_CHANNELS = 4
_MANY = 16  # more channels and rows than such a narrow picture has


def read_task(config: AuditConfig, batches: Sequence[Batch]) -> tuple[Task, str]:
    """Decide the task by the first samples of both sides, together, where the setting does not.

    Returns:
        The task, and in words by what it was decided.

    Raises:
        ValueError: If the targets could be read in several ways or in none; names the settings that answer.
    """
    for batch in batches:
        _require_usual_layout(batch)
    if config.task != "auto":
        return config.task, f"{config.task} (the setting)"
    targets, volumes = [batch.target for batch in batches], is_volume(batches[0].input)
    if any(target.is_floating_point() for target in targets):
        return _task_of_floats(config, batches)
    found = describe(targets[0])
    if not _one_plane(targets[0], volumes):
        for kind in map(kind_of_target, _values(targets, config, volumes)):
            if kind in ("one-hot", "channels"):
                raise ValueError(f"{_UNDECIDED} {_QUESTIONS[kind].removeprefix('float ')}")
        remedy = other_dimensions(targets[0], volumes) or f"{_REMEDY}."
        raise ValueError(f"{_UNDECIDED} it is {found}, neither label map nor image in [0, 1]. {remedy}")
    integers = integer_values([middle_slices(t) if volumes else t for t in targets], config.ignore_index)
    if integers is not None and kind_of_integers(integers) == "image":
        raise ValueError(
            f"{_UNDECIDED} {found} holds {integers.distinct} different values from {integers.smallest} to "
            f"{integers.largest}, more like a picture than a label map. Pass task='translation' with target_range=(low,"
            " high), such as target_range=(0, 255), or task='segmentation'."
        )
    return "segmentation", f"segmentation ({found.split(' ', 1)[0]} label maps)"


def _require_usual_layout(batch: Batch) -> None:
    """Refuse complex numbers, and inputs or targets whose channels come last, which would pass for rows of pixels."""
    roles = {"inputs": batch.input, "targets": batch.target}
    for role, tensor in roles.items():
        if tensor.is_complex():
            raise ValueError(
                f"The {role} are {describe(tensor)}: expected real numbers. Give magnitudes (tensor.abs()), or real "
                "and imaginary part as channels, in the data set or in the unpack of an adapter (adapter=Mine()), "
                "whose predict makes of inputs what the model takes."
            )
    sizes = _sizes_before_channels(batch.input, batch.target)
    for role, last in roles.items():
        if role in sizes:
            axes = spatial_axes(is_volume(batch.input))
            back = ", whose predict calls module(input.movedim(1, -1)) if the model takes them last"
            raise ValueError(
                f"The {role} are {describe(last)}: their channels seem to be last, (B, {axes}, C), but expected "
                f"(B, C, {axes}). Move them (tensor.movedim(-1, 1)) in the data set, or in the unpack of an adapter "
                f"(adapter=Mine()){back if role == 'inputs' else ''}."
            )


def _sizes_before_channels(input: Tensor, target: Tensor) -> dict[str, tuple[int, ...]]:
    """Which of the two have a height and width that fits the other only where their channels are last."""
    first, last = tuple(input.shape[2:]), tuple(input.shape[1:-1])
    if len(first) < 2:
        return {}
    own = {tuple(target.shape[1:])} if target.ndim == input.ndim - 1 else set()
    if target.ndim == input.ndim:
        own = {tuple(target.shape[2:]), tuple(target.shape[1:-1])}
        narrow = [tensor.shape[-1] for tensor in (input, target)]
        both = len(first) == 2 and 3 <= max(narrow) <= _PICTURE_CHANNELS
        if both and last == tuple(target.shape[1:-1]) and min(last) >= _MANY:
            return {"inputs": last}  # pictures that many channels and rows have, and three or four columns, are none
    if input.shape[-1] <= _PICTURE_CHANNELS and last in own and not any(in_proportion(first, size) for size in own):
        return {"inputs": last}
    moved = target.ndim == input.ndim and tuple(target.shape[1:-1]) == first
    return {"targets": first} if moved and not in_proportion(target.shape[2:], first) else {}


def _task_of_floats(config: AuditConfig, batches: Sequence[Batch]) -> tuple[Task, str]:
    first, volumes = batches[0], is_volume(batches[0].input)
    size, own = spatial_size(first.input, volumes), spatial_size(first.target, volumes)
    is_picture = first.target.ndim in ((5,) if volumes else (3, 4)) and in_proportion(own, size)
    if not isinstance(config.target_range, str) and config.target_range != UNIT and is_picture:
        low, high = config.target_range
        return "translation", f"translation (target_range=({low:g}, {high:g}) is that of pictures)"
    for values in _values([batch.target for batch in batches], config, volumes):
        if (kind := kind_of_target(values)) == "picture":
            continue
        exact = (values.zeros + values.ones) / max(1, values.zeros + values.ones + values.between)
        spans = [_span(batch.target, config.ignore_index) for batch in batches]
        low, high = min(low for low, _ in spans), max(high for _, high in spans)
        raise ValueError(f"{_UNDECIDED} {_QUESTIONS[kind].format(share=100 * exact, low=low, high=high)}")
    if is_picture:
        what = "volumes" if volumes else "pictures"
        full, found = (" x ".join(map(str, one)) for one in (size, own))
        change = "" if own == size else f", {found} beside inputs of {full}"
        return "translation", f"translation ({describe(first.target).split(' ', 1)[0]} {what}{change})"
    expected = "size along D, H and W" if volumes else "height and width"
    axes = "(B, C, D, H, W)" if volumes else "(B, C, H, W) or (B, H, W)"
    raise ValueError(
        f"{_UNDECIDED} the input is {describe(first.input)}, the target {describe(first.target)}; a translation's "
        f"target is {axes} and has the input's {expected}, or one in proportion. "
        + (other_dimensions(first.target, volumes) or f"{_REMEDY}.")
    )


def _values(targets: Sequence[Tensor], config: AuditConfig, volumes: bool) -> list[TargetValues]:
    """Counts over targets that have a height and a width, for each number of channels."""
    groups: dict[int, list[Tensor]] = {}
    for target in targets:
        if target.ndim in (3 + volumes, 4 + volumes):
            channels = target if target.ndim == 4 + volumes else target.unsqueeze(1)
            groups.setdefault(channels.shape[1], []).append(channels)
    return [target_values(group, config.ignore_index) for group in groups.values()]


def _one_plane(target: Tensor, volumes: bool) -> bool:
    return target.ndim == 3 + volumes or (target.ndim == 4 + volumes and target.shape[1] == 1)


def _span(target: Tensor, ignore_index: int | None = None) -> tuple[float, float]:
    """Smallest and largest value, those that are ignored or not finite aside."""
    x = widened(target)
    x = x[torch.isfinite(x) & (True if ignore_index is None else x != ignore_index)]
    return (float(x.min()), float(x.max())) if x.numel() else (0.0, 0.0)


def to_labels(target: Tensor, ignore_index: int = 255, *, volumes: bool = False) -> Tensor:
    """Bring label maps to (B, H, W) int64, one-hot ones included; those of volumes to (B, D, H, W).

    Args:
        target: (B, H, W) or (B, 1, H, W) of whole numbers in any type, or one-hot (B, K, H, W): zeros and ones, of
            which one is set at each pixel; pixels that are ``ignore_index`` or NaN in all channels are ignored.
        ignore_index: Label of ignored pixels.
        volumes: Whether the inputs are volumes (B, C, D, H, W), so that targets have D before H.

    Raises:
        ValueError: If it is none of these; says what task or preparation it is for.
    """
    axes = spatial_axes(volumes)
    shape = f"Expected a label map (B, {axes}) or (B, 1, {axes}), but got a target of {tuple(target.shape)}"
    if target.ndim == 4 + volumes and target.shape[1] > 1:
        return _labels_of_one_hot(target, ignore_index, shape)
    labels = target.squeeze(1) if target.ndim == 4 + volumes else target
    if labels.ndim != 3 + volumes:
        hint = other_dimensions(target, volumes) or "Targets that are pictures are for task='translation'."
        raise ValueError(f"{shape}. {hint}")
    if labels.is_floating_point() and not bool(((labels == labels.round()) & (labels.abs() < _MOST_CLASSES)).all()):
        huge = bool((labels.abs() >= _MOST_CLASSES).any())
        found = "numbers too large for that" if huge else "fractions or NaN"
        raise ValueError(
            f"Expected whole class numbers in a float label map, but it holds {found}. Resize label maps to "
            "the nearest pixel; masks whose soft edges are meant are for task='multilabel', pictures for "
            "task='translation'."
        )
    return labels.to(torch.int64)


def other_dimensions(target: Tensor, volumes: bool) -> str:
    """What to do about targets with a dimension more or less than the inputs; empty where that is not what they are."""
    if volumes and target.ndim < 4:
        return (
            "The inputs have five dimensions, those of volumes (B, C, D, H, W): targets of volumes have D, too; a "
            "picture for each volume is for an adapter whose unpack takes single slices (adapter=Mine())."
        )
    if not volumes and target.ndim > 4:
        return (
            "The inputs do not have five dimensions, those of volumes (B, C, D, H, W): give volumes their dimension of "
            "channels, input.unsqueeze(1), or leave D out of the targets, in the data set or in the unpack of an "
            "adapter (adapter=Mine())."
        )
    return ""


def _labels_of_one_hot(target: Tensor, ignore_index: int, shape: str) -> Tensor:
    x = widened(target)
    ignored = ((x == ignore_index) | torch.isnan(x)).all(1)
    zero, one = x.abs() <= EXACT, (x - 1.0).abs() <= EXACT
    if not bool((zero | one | ignored.unsqueeze(1)).all()):
        low, high = _span(x.movedim(1, -1)[~ignored])
        raise ValueError(
            f"{shape} that is not one-hot, either: its values span [{low:.4g}, {high:.4g}] and are not all 0 or 1. "
            "Resize one-hot label maps to the nearest pixel, and bring 255 to 1; channels with soft edges are for "
            "task='multilabel'. Targets that are pictures are for task='translation'; colours have to be turned into "
            "class ids."
        )
    number = one.sum(1)[~ignored]
    empty, several = int((number == 0).sum()), int((number > 1).sum())
    if several:
        raise ValueError(
            f"{shape} that is not one-hot, either: {several} pixels are set in several channels. Channels that do not "
            "exclude each other, as in BraTS, are for task='multilabel'."
        )
    if empty:
        raise ValueError(
            f"{shape} that is not one-hot, either: {empty} pixels are set in no channel. Add the channel of the "
            f"background, set ignored pixels to {ignore_index} (ignore_index) in all channels, or pass "
            "task='multilabel', for which channels are independent."
        )
    return torch.where(ignored, ignore_index, one.to(torch.uint8).argmax(1))


def to_channels(target: Tensor, ignore_index: int = 255, *, volumes: bool = False) -> Tensor:
    """Bring masks of independent channels to (B, K, H, W) floats in [0, 1], NaN where they are ignored.

    Those of volumes are brought to (B, K, D, H, W).

    Args:
        target: (B, K, H, W), or (B, H, W) for one channel, in any type, in [0, 1]; a value of ``ignore_index`` or NaN
            is ignored, in its channel alone.
        ignore_index: Value of ignored pixels.
        volumes: As for :func:`to_labels`.

    Raises:
        ValueError: If the shape or a value is another; says what to do.
    """
    channels = target.unsqueeze(1) if target.ndim == 3 + volumes else target
    if channels.ndim != 4 + volumes:
        axes = spatial_axes(volumes)
        raise ValueError(
            f"Expected masks (B, channels, {axes}) or (B, {axes}) for task='multilabel', but got a target of "
            f"{tuple(target.shape)}. {other_dimensions(target, volumes)}".rstrip()
        )
    if ignore_index in (0, 1):
        raise ValueError(
            f"For task='multilabel', masks are of zeros and ones, but ignore_index={ignore_index} leaves these out: "
            "set ignore_index to a value that marks nothing else, such as 255."
        )
    x = widened(channels).float()
    valid = (x != ignore_index) & ~torch.isnan(x)
    if bool((valid & ~((x >= -EXACT) & (x <= 1.0 + EXACT))).any()):
        low, high = _span(x, ignore_index)
        raise ValueError(
            f"Expected masks in [0, 1] for task='multilabel', one a channel, but the target's values span [{low:.4g}, "
            f"{high:.4g}]. Bring 255 to 1; set ignored pixels to {ignore_index} (ignore_index) or NaN; label maps with "
            "a number for each class are for task='segmentation', pictures for task='translation'."
        )
    return torch.where(valid, x.clamp(0.0, 1.0), torch.nan)
