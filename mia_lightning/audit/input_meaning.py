"""What inputs are: pictures or label maps, and what white is in them, by settings or by the values of a few samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mia_lightning.audit.config import AuditConfig
from mia_lightning.functional.batches import Batch
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.integer_values import SOME_IDS, IntegerValues, integer_values, kind_of_integers
from mia_lightning.functional.volumes import is_volume, middle_slices
from mia_lightning.functional.widening import widened
from mia_lightning.registry import Task

InputKind = Literal["image", "labels", "planes"]
_SLACK = 0.05  # of ranges: resizing overshoots


@dataclass(frozen=True)
class InputMeaning:
    """What inputs are.

    Attributes:
        kind: Pictures, label maps, or integers that are zeros and ones in several channels; None: told by type, floats
            and bytes with channels being pictures, other integers label maps.
        decision: What was decided, and by what, in words.
        white: What white is in pictures; None: 1 in floats, 255 in bytes, each picture's largest value in wider
            integers.
        declared: Whether a setting says so, so that no value contradicts it.
        ignore_index: Label of ignored pixels.
        like_targets: Whether pictures in floating point that nothing else is said of have the range of a translation's
            targets.
    """

    kind: InputKind | None = None
    decision: str = ""
    white: float | None = None
    declared: bool = True
    ignore_index: int = 255
    like_targets: bool = True

    def kind_of(self, input: Tensor) -> InputKind:
        """What an input is."""
        if self.kind is not None:
            return self.kind
        picture = input.is_floating_point() or (input.dtype == torch.uint8 and _has_channels(input))
        return "image" if picture else "labels"

    def key(self, input: Tensor) -> tuple[object, ...]:
        """What further numbers of an input depend on, beyond its content and type."""
        by_type = InputMeaning().kind_of(input)
        key = () if self.kind_of(input) == by_type and self.white is None else (self.kind_of(input), self.white)
        return key if self.like_targets else (*key, "in [0, 1]")

    def labels(self, input: Tensor) -> Tensor:
        """Label maps as integers.

        Raises:
            ValueError: If they have several channels, fractions, or values that are no numbers of classes.
        """
        if self.kind is None:
            return input
        if _has_channels(input) and input.shape[1] != 1:
            raise ValueError(
                f"Expected label maps (B, H, W) or (B, 1, H, W) as inputs, (B, 1, D, H, W) of volumes, but got "
                f"{describe(input)}: pass input_kind='image'."
            )
        if input.is_floating_point():
            if not bool((input == input.round()).all()):
                raise ValueError(
                    f"Expected whole numbers of classes in the inputs, since input_kind='labels', but {describe(input)}"
                    " holds others: pass input_kind='image', or resize label maps to the nearest pixel."
                )
            return input.to(torch.int64)
        x = widened(input)
        largest = int(torch.where(x == self.ignore_index, 0, x).max()) if x.numel() else 0
        if not self.declared and largest >= SOME_IDS:
            raise ValueError(
                f"The inputs were read as label maps ({self.decision}), but a batch holds the value {largest}. Pass "
                "input_kind='labels' if these are classes, too, or input_kind='image'."
            )
        return input

    def picture(self, input: Tensor) -> Tensor:
        """Integers as pictures (B, C, H, W) in [0, 1]; ValueError if zeros and ones turn out to be others."""
        x = widened(input)
        x = x.unsqueeze(1) if x.ndim == 3 else x
        if self.kind == "planes":
            if x.numel() and not bool(((x == 0) | (x == 1)).all()):
                raise ValueError(
                    f"The inputs were read as channels of zeros and ones ({self.decision}), but a batch holds other "
                    "values. Pass input_kind='image', and with white= what white is."
                )
            return x.float()
        if self.white is None and input.dtype == torch.uint8:
            return x.float() / 255  # a picture as files hold it
        if self.white is not None:
            return (x.double() / self.white).float()
        low, high = self.range(x)
        return ((x.double() - low) / (high - low)).float()

    def range(self, input: Tensor) -> tuple[float | Tensor, float | Tensor]:
        """Black and white of pictures that are integers."""
        if self.kind == "planes" or input.dtype == torch.bool:
            return 0.0, 1.0
        if self.white is not None or input.dtype == torch.uint8:
            return 0.0, self.white or 255.0
        flat = widened(input).flatten(1).double()
        shape = (-1, *[1] * (input.ndim - 1))
        low, high = flat.amin(1).view(shape), flat.amax(1).view(shape)
        return low, torch.where(high > low, high, low + 1.0)  # a picture of one colour is black


def _has_channels(input: Tensor) -> bool:
    """Whether inputs have a dimension of channels: pictures (B, C, H, W) and volumes (B, C, D, H, W)."""
    return input.ndim in (4, 5)


def read_inputs(config: AuditConfig, task: Task, batches: Sequence[Batch], *, measured: bool = False) -> InputMeaning:
    """Decide what inputs are by the first samples of both sides, together, where the settings do not.

    Args:
        config: The settings, with the range of the targets settled.
        task: The task.
        batches: The samples.
        measured: Whether that range is what the targets span, and no setting.

    Raises:
        ValueError: If they could be pictures or label maps, or contradict a setting; names the settings that answer.
    """
    inputs = [batch.input for batch in batches]
    first = inputs[0]
    if first.ndim not in (3, 4, 5):
        return InputMeaning(decision=f"{describe(first)}, neither pictures nor label maps")
    if first.is_floating_point():
        return _floats(config, task, inputs, measured=measured)
    values = integer_values([middle_slices(x) if is_volume(x) else x for x in inputs], config.ignore_index)
    _require_white(config.white, 0 if values is None else values.largest)
    if config.input_kind == "labels":
        return InputMeaning("labels", "label maps (the setting)", ignore_index=config.ignore_index)
    if config.input_kind == "image" or config.white is not None:
        setting = "the setting" if config.input_kind == "image" else "white is that of pictures"
        return InputMeaning("image", f"pictures ({setting}), {_scale(first, config.white)}", config.white)
    several = _has_channels(first) and first.shape[1] > 1
    return _several_channels(first, values) if several else _one_channel(first, values, config)


def _one_channel(first: Tensor, values: IntegerValues | None, config: AuditConfig) -> InputMeaning:
    found = describe(first).split(" ", 1)[0]
    if first.dtype == torch.bool:
        return InputMeaning("labels", "label maps (bool)", ignore_index=config.ignore_index)
    kind = kind_of_integers(values)
    if kind is None and (values is None or values.distinct == 1):  # one colour, or black and white
        if first.dtype == torch.uint8 and _has_channels(first):
            kind = "image"
        elif values is not None and values.largest < SOME_IDS and not values.white:
            kind = "labels"
    if kind == "labels":
        decision = f"label maps ({found}, {_seen(values)})"
        return InputMeaning("labels", decision, declared=False, ignore_index=config.ignore_index)
    if kind == "image":
        return InputMeaning("image", f"pictures ({found}, {_seen(values)}), {_scale(first, None)}")
    raise ValueError(
        f"Cannot tell whether the inputs are pictures or label maps: {describe(first)} of {_seen(values)}. Pass "
        "input_kind='image', and with white= what white is, or input_kind='labels'."
    )


def _require_white(white: float | None, highest: float) -> None:
    if white is not None and highest > white * (1.0 + _SLACK):
        raise ValueError(
            f"The inputs hold values up to {highest:.6g}, but white={white:g}. Pass the value that white has in them."
        )


def _several_channels(first: Tensor, values: IntegerValues | None) -> InputMeaning:
    found = describe(first).split(" ", 1)[0]
    if first.dtype == torch.bool:
        return InputMeaning("planes", "channels of booleans", declared=False)
    if values is not None and values.smallest == 0 and values.largest == 1 and not values.white:
        return InputMeaning("planes", f"channels of zeros and ones ({found})", declared=False)
    if kind_of_integers(values) == "labels":
        raise ValueError(
            f"Cannot tell what the inputs are: {describe(first)} of {_seen(values)}, as label maps have, but in "
            "several channels. Pass input_kind='image', and with white= what white is."
        )
    return InputMeaning("image", f"pictures ({found}, {_seen(values)}), {_scale(first, None)}")


def _floats(config: AuditConfig, task: Task, inputs: Sequence[Tensor], *, measured: bool) -> InputMeaning:
    if config.input_kind == "labels":
        return InputMeaning("labels", "label maps (the setting)", ignore_index=config.ignore_index)
    finite = [x[torch.isfinite(x)].float() for x in inputs]
    spans = [torch.aminmax(x) for x in finite if x.numel()]
    lowest, highest = min((float(s.min) for s in spans), default=0.0), max((float(s.max) for s in spans), default=1.0)
    span = f"[{lowest:.3g}, {highest:.3g}]"
    if config.white is not None:
        _require_white(config.white, highest)
        return InputMeaning("image", f"pictures in floating point, white={config.white:g}", config.white)
    if config.mean is not None:
        return InputMeaning(decision=f"pictures in floating point, spanning {span}; mean and std are undone")
    low, high = config.target_range if task == "translation" and config.target_range != "auto" else (0.0, 1.0)
    in_unit = lowest >= -_SLACK and highest <= 1.0 + _SLACK
    # A range of metres or of kelvin is not that of the colours beside it.
    like = not (in_unit and (measured or low < -1.0 or high > 1.0))
    slack = _SLACK * (high - low)
    if measured and like:
        half = 0.5 * (high - low)
        like = low - half <= lowest and highest <= high + half
    if like and low - slack <= lowest and highest <= high + slack:
        return InputMeaning(decision=f"pictures in floating point, in [{low:g}, {high:g}]")
    if in_unit and not like:
        return InputMeaning(decision="pictures in floating point, in [0, 1]", like_targets=False)
    taken = f"scaled by the range of the targets, [{low:g}, {high:g}]" if measured and like else "taken as they are"
    return InputMeaning(
        decision=f"pictures in floating point, spanning {span} and {taken}: mean and std, or white, say how they become"
        " [0, 1]",
        like_targets=like,
    )


def _seen(values: IntegerValues | None) -> str:
    if values is None:
        return "nothing but ignored pixels"
    distinct = "1 value" if values.distinct == 1 else f"{values.distinct} values"
    return f"{distinct} from {values.smallest} to {values.largest}, {100 * values.flat:.0f} % of neighbours equal"


def _scale(input: Tensor, white: float | None) -> str:
    if white is not None or input.dtype in (torch.uint8, torch.bool):
        return f"white is {1 if input.dtype == torch.bool else white or 255:g}"
    return "each scaled by its own smallest and largest value, unless white= says what white is"
