"""How the tensors of a batch are read: task, range of the values, normalisation, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.output_meaning import check_prediction
from mia_lightning.audit.target_meaning import read_task, to_channels, to_labels
from mia_lightning.functional.batches import Batch
from mia_lightning.functional.descriptions import describe
from mia_lightning.registry import Task


@dataclass(frozen=True)
class Interpretation:
    """What inputs, targets and predictions mean, by the settings and the task, resolved.

    Attributes:
        config: The settings.
        task: The task.
        decisions: What was decided, and by what, in words, by subject (``"task"``, ``"input"``, ``"output"``): results
            keep it as ``meta["interpretation"]``.
    """

    config: AuditConfig
    task: Task
    decisions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: AuditConfig, batches: Sequence[Batch]) -> Interpretation:
        """Read the first samples of both sides; ``task="auto"`` takes the task from them.

        Raises:
            ValueError: If it could be several, or none.
        """
        task, decision = read_task(config, batches)
        return cls(config, task, {"task": decision})

    def with_decision(self, subject: str, decision: str) -> Interpretation:
        """Return a copy that states one more decision."""
        return replace(self, decisions={**self.decisions, subject: decision})

    def as_image(self, input: Tensor) -> Tensor:
        """Undo the normalisation of inputs, so that the feature extractor sees images in [0, 1]."""
        if input.dtype == torch.uint8 and input.ndim == 4:
            return input.float() / 255  # a picture as files hold it; label maps come as (B, H, W) or wider integers
        if not input.is_floating_point():
            return input
        if normalisation := self._normalisation(input):
            mean, std = normalisation
            return input.float() * std + mean
        # pix2pix's habit: where targets are kept in [-1, 1], inputs are too.
        return self.unit(input) if self.task == "translation" else input.float()

    def is_picture(self, input: Tensor) -> bool:
        """Whether inputs are pictures, and not label maps."""
        return input.is_floating_point() or (input.dtype == torch.uint8 and input.ndim == 4)

    def input_range(self, input: Tensor) -> tuple[float | Tensor, float | Tensor]:
        """What black and white are in the inputs that the model is given."""
        if normalisation := self._normalisation(input):
            mean, std = normalisation
            return (0.0 - mean) / std, (1.0 - mean) / std
        if input.dtype == torch.uint8 and input.ndim == 4:
            return 0.0, 255.0  # a picture as files hold it
        low, high = self.config.target_range
        return (low, high) if self.task == "translation" else (0.0, 1.0)

    def unit(self, image: Tensor) -> Tensor:
        """Map ``target_range`` to [0, 1]."""
        low, high = self.config.target_range
        return image.float() if (low, high) == (0.0, 1.0) else (image.float() - low) / (high - low)

    def prepare_target(self, batch: Batch) -> Tensor:
        """Bring a target to what errors expect: an image in [0, 1] or integers; ValueError if it is neither."""
        if self.task == "segmentation":
            return to_labels(batch.target, self.config.ignore_index)
        if self.task == "multilabel":
            return to_channels(batch.target, self.config.ignore_index)
        if batch.target.ndim != 4:
            raise ValueError(f"Expected target images (B, C, H, W), but got {describe(batch.target)}.")
        low, high = self.config.target_range
        finite = batch.target[torch.isfinite(batch.target)]
        lowest, highest = (float(v) for v in torch.aminmax(finite)) if finite.numel() else (low, high)
        slack = 1e-3 * (high - low)
        if lowest < low - slack or highest > high + slack:
            raise ValueError(
                f"The targets span [{lowest:.4g}, {highest:.4g}], outside target_range=({low:g}, {high:g}). Pass the "
                "range that your images have, for example target_range=(-1, 1)."
            )
        return self.unit(batch.target)

    def check_prediction(self, prediction: Tensor, input: Tensor, target: Tensor) -> None:
        """Raise a ValueError if a prediction's shape or number of classes does not fit its prepared target."""
        check_prediction(prediction, input, target, self.task, self.config)

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
