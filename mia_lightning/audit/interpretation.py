"""How the tensors of a batch are read: task, range of the values, normalisation, classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor

from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.input_meaning import InputMeaning, read_inputs
from mia_lightning.audit.output_meaning import check_prediction
from mia_lightning.audit.target_meaning import other_dimensions, read_task, to_channels, to_labels
from mia_lightning.audit.target_range import SLACK, UNIT, Range, TargetSpans, outside, settle, with_holes
from mia_lightning.functional.batches import Batch
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.volumes import is_volume
from mia_lightning.functional.widening import widened
from mia_lightning.registry import Task


@dataclass(frozen=True)
class Interpretation:
    """What inputs, targets and predictions mean, by the settings and the task, resolved.

    Attributes:
        config: The settings.
        task: The task.
        decisions: What was decided, and by what, in words, by subject (``"task"``, ``"input"``, ``"output"``, and
            ``"target"`` where the targets themselves told their range): results keep it as ``meta["interpretation"]``.
        input: What inputs are.
        volumes: Whether they are volumes, (B, C, D, H, W), and targets have D before H as well.
        measured: Whether the range of targets in ``config`` is what the targets span, and no setting.
    """

    config: AuditConfig
    task: Task
    decisions: Mapping[str, str] = field(default_factory=dict)
    input: InputMeaning = InputMeaning()  # noqa: RUF009 - frozen
    volumes: bool = False
    measured: bool = False

    @classmethod
    def of(
        cls,
        config: AuditConfig,
        batches: Sequence[Batch],
        target_range: Range | None = None,
        reading: tuple[Task, str] | None = None,
    ) -> Interpretation:
        """Read the first samples of both sides: the task, where the setting does not say it, and what inputs are.

        Args:
            config: The settings.
            batches: The samples.
            target_range: What ``target_range="auto"`` is, settled by more targets than these; None settles it by these.
            reading: The task, as :func:`read_task` has read it of the samples; None reads it.

        Raises:
            ValueError: If it could be several, or none.
        """
        volumes = is_volume(batches[0].input)
        for batch in batches:
            _require_dimensions(batch.input, volumes)
        task, decision = reading or read_task(config, batches)
        if config.void is not None and task != "translation":
            raise ValueError(
                f"void={config.void:g} is for target images, but the targets are read as {decision}: pass "
                "task='translation' if they are images; pixels of label maps are left out by ignore_index."
            )
        decisions, measured = {"task": decision}, False
        if config.target_range == "auto":
            if target_range is None:
                targets = [batch.target for batch in batches] if task == "translation" else []
                target_range = settle(TargetSpans.of(targets, config.void))
            measured = target_range != UNIT
            config = replace(config, target_range=target_range)
        input = read_inputs(config, task, batches, measured=measured)
        decisions["input"] = input.decision
        if measured:
            low, high = cast(Range, target_range)
            decisions["target"] = (
                f"values from {low:.6g} to {high:.6g}, which the targets of both sides span; errors are shares of that "
                "range (target_range)"
                + ("" if config.void is not None else "; a value that marks missing pixels is left out by void")
            )
        if config.void is not None:
            decisions["void"] = f"pixels of {config.void:g} in targets are left out (the setting)"
        if volumes:
            decisions["volumes"] = _of_volumes(config)
        return cls(config, task, decisions, input, volumes, measured)

    def with_decisions(self, decisions: Mapping[str, str]) -> Interpretation:
        """Return a copy that states further decisions, by subject."""
        return replace(self, decisions={**self.decisions, **decisions}) if decisions else self

    def as_image(self, input: Tensor) -> Tensor:
        """Bring inputs to what is seen of them: pictures or volumes, floats in [0, 1], or label maps of integers.

        Raises:
            ValueError: If values contradict what was decided.
        """
        kind = self.input.kind_of(input)
        if kind == "labels":
            return self.input.labels(input)
        if not input.is_floating_point():
            return self.input.picture(input)
        if input.ndim == 3:
            input = input.unsqueeze(1)
        if self.input.white is not None:
            return input.float() / self.input.white
        if normalisation := self._normalisation(input):
            mean, std = normalisation
            return input.float() * std + mean
        # pix2pix's habit: where targets are kept in [-1, 1], inputs are too.
        return self.unit(input) if self.task == "translation" and self.input.like_targets else input.float()

    def is_picture(self, input: Tensor) -> bool:
        """Whether inputs are pictures, and not label maps."""
        return self.input.kind_of(input) == "image"

    def input_range(self, input: Tensor) -> tuple[float | Tensor, float | Tensor]:
        """What black and white are in the inputs that the model is given."""
        if not input.is_floating_point() and self.input.kind_of(input) != "labels":
            return self.input.range(input)
        if self.input.white is not None:
            return 0.0, self.input.white
        if normalisation := self._normalisation(input):
            mean, std = normalisation
            return (0.0 - mean) / std, (1.0 - mean) / std
        return self.target_range if self.task == "translation" and self.input.like_targets else UNIT

    @property
    def target_range(self) -> Range:
        """Range of the targets and of predictions; (0, 1) where nothing has settled it."""
        return UNIT if self.config.target_range == "auto" else cast(Range, tuple(self.config.target_range))

    def unit(self, image: Tensor) -> Tensor:
        """Map ``target_range`` to [0, 1]; what lies outside stays outside, and NaN what it is."""
        low, high = self.target_range
        return image.float() if (low, high) == (0.0, 1.0) else (image.float() - low) / (high - low)

    def prepare_target(self, batch: Batch) -> Tensor:
        """Bring a target to what errors expect: an image in [0, 1], NaN at void pixels, or integers.

        Raises:
            ValueError: If it is neither.
        """
        _require_dimensions(batch.input, self.volumes)
        if self.task == "segmentation":
            return to_labels(batch.target, self.config.ignore_index, volumes=self.volumes)
        if self.task == "multilabel":
            return to_channels(batch.target, self.config.ignore_index, volumes=self.volumes)
        target = batch.target
        if target.ndim == 3 and not self.volumes and (target.is_floating_point() or target.dtype == torch.uint8):
            target = target.unsqueeze(1)
        if target.ndim != 4 + self.volumes:
            axes = "(B, C, D, H, W)" if self.volumes else "(B, C, H, W) or (B, H, W)"
            raise ValueError(
                f"Expected target images {axes}, but got {describe(batch.target)}. Label maps and masks are for "
                "task='segmentation' or task='multilabel'; volumes without a dimension of channels need one. "
                f"{other_dimensions(batch.target, self.volumes)}".rstrip()
            )
        target = with_holes(widened(target), self.config.void)
        low, high = self.target_range
        lowest, highest = (float(v) for v in torch.aminmax(target)) if target.numel() else (low, high)
        if not (math.isfinite(lowest) and math.isfinite(highest)):  # rare, and costly to look for at every value
            finite = target[torch.isfinite(target)]
            lowest, highest = (float(v) for v in torch.aminmax(finite)) if finite.numel() else (low, high)
        slack = SLACK * (high - low)
        if not self.measured and (lowest < low - slack or highest > high + slack):
            raise ValueError(outside(lowest, highest, (low, high)))
        return self.unit(target)

    def beyond_range(self, target: Tensor) -> Tensor:
        """Which prepared targets go beyond a range that the targets of both sides had when it was settled, (B,)."""
        if not self.measured:
            return torch.zeros(len(target), dtype=torch.bool, device=target.device)
        return (torch.isfinite(target) & ((target < -SLACK) | (target > 1.0 + SLACK))).flatten(1).any(1)

    def check_prediction(self, prediction: Tensor, input: Tensor, target: Tensor) -> Tensor:
        """Return a prediction with its dimension of channels.

        Raises:
            ValueError: If its shape or number of classes does not fit its prepared target.
        """
        return check_prediction(prediction, input, target, self.task, self.config)

    def _normalisation(self, input: Tensor) -> tuple[Tensor, Tensor] | None:
        """Mean and deviation, shaped to be broadcast over an input (B, C, ...)."""
        mean, std = self.config.mean, self.config.std
        if mean is None or std is None:
            return None
        if input.ndim < 2 or len(mean) not in (1, input.shape[1]):
            raise ValueError(
                f"mean and std have {len(mean)} channels, but the input is {describe(input)}; give one number a "
                "channel, or one for all."
            )
        shape = (1, -1, *[1] * (input.ndim - 2))
        return (
            torch.tensor(mean, dtype=torch.float32, device=input.device).view(shape),
            torch.tensor(std, dtype=torch.float32, device=input.device).view(shape),
        )


def _require_dimensions(input: Tensor, volumes: bool) -> None:
    """Raise a ValueError where an input is a volume and others are none, or the other way round."""
    if is_volume(input) != volumes:
        first, other = ("volumes (B, C, D, H, W)", "no volume") if volumes else ("no volumes", "a volume")
        raise ValueError(
            f"The first inputs are {first}, but {describe(input)} is {other}: what pictures and volumes show cannot be "
            "compared. Give both sides samples of one kind."
        )


def _of_volumes(config: AuditConfig) -> str:
    some = "all of them" if config.slices is None else f"slices={config.slices} of them, drawn by the scorer's seed"
    return (
        "(B, C, D, H, W), told by the five dimensions of the inputs: errors are those of voxels; predictability is the "
        f"mean over slices along the axis with the fewest voxels (D where axes are equal), {some}"
    )
