"""The settings of an audit, checked once, and what the first batch decides about the task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mia_lightning.audit.adapters import Sample, to_labels, write_one
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.neighbours import choose_neighbours
from mia_lightning.scores.analysis import Plan
from mia_lightning.scores.building import needs_neighbours

TaskName = Literal["auto", "translation", "segmentation"]


@dataclass(frozen=True)
class Settings:
    """What an audit does, apart from the objects it works with; see :class:`~mia_lightning.Auditor` for meanings.

    Raises:
        ValueError: If a setting is out of range.
    """

    task: TaskName = "auto"
    scores: tuple[str, ...] = ("reconstruction", "membership")
    primary: str = "membership"
    alpha: float = 1.0
    neighbours: str | tuple[str, ...] = "auto"
    num_classes: int | None = None
    ignore_index: int = 255
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    target_range: tuple[float, float] = (0.0, 1.0)
    max_samples: int | None = 512
    batch_size: int = 16
    num_workers: int = 0
    seed: int = 0
    fdr: float = 0.1
    prefix: str = "audit"

    def __post_init__(self) -> None:
        if self.task not in ("auto", "translation", "segmentation"):
            raise ValueError(f"Expected task 'auto', 'translation' or 'segmentation', but got {self.task!r}.")
        self.plan()
        if self.neighbours != "auto":
            choose_neighbours(self.neighbours, square=True)  # unknown names
        if (self.mean is None) != (self.std is None):
            raise ValueError("Expected mean and std together: both undo the normalisation of the inputs.")
        if self.mean is not None and self.std is not None and (len(self.mean) != len(self.std) or min(self.std) <= 0):
            raise ValueError(f"Expected one mean and one positive std a channel, but got {self.mean} and {self.std}.")
        if not math.isfinite(self.alpha):
            raise ValueError(f"Expected a finite alpha, but got {self.alpha}.")
        low, high = self.target_range
        if not low < high:
            raise ValueError(f"Expected target_range=(low, high) with low < high, but got {self.target_range}.")
        if not 0.0 < self.fdr < 1.0:
            raise ValueError(f"Expected a false discovery rate fdr in (0, 1), but got {self.fdr}.")
        for name in ("batch_size", "max_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"Expected {name} >= 1, but got {value}.")
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(f"Expected num_classes >= 1 (1: one logit), but got {self.num_classes}.")
        parts = self.prefix.split("/")
        if any(part in ("", ".", "..") for part in parts) or any(c in self.prefix for c in "\\\0"):
            raise ValueError(
                "Expected a prefix of one or more names with slashes between them, such as 'audit' or 'audit/photos' "
                f"(it begins metrics, files and the checkpoint's entry), but got {self.prefix!r}."
            )

    def plan(self, looks: int = 1) -> Plan:
        """What to compute from the errors, where ``looks`` audits of the same training are looked at."""
        return Plan(self.scores, self.primary, self.alpha, self.prefix, self.seed, looks=looks)

    @property
    def needs_neighbours(self) -> bool:
        """Whether a score asks for the model's errors on transformed copies."""
        return needs_neighbours(self.scores)

    def resolve_task(self, sample: Sample) -> Literal["translation", "segmentation"]:
        """Decide the task from a batch where ``task="auto"``.

        Raises:
            ValueError: If the target could be either, or neither.
        """
        if self.task != "auto":
            return self.task
        target = sample.target
        label_map = target.ndim == 3 or (target.ndim == 4 and target.shape[1] == 1)
        if not target.is_floating_point():
            if label_map:
                return "segmentation"
            raise ValueError(f"{_CANNOT_TELL} it is {describe(target)}, neither label map nor image in [0, 1]. {_SAY}")
        if label_map and bool(((target == 0) | (target == 1)).all()):
            raise ValueError(f"{_CANNOT_TELL} a float mask of zeros and ones could be a label map or a picture. {_SAY}")
        if target.ndim == 4 and target.shape[-2:] == sample.input.shape[-2:]:
            return "translation"
        raise ValueError(
            f"{_CANNOT_TELL} the input is {describe(sample.input)}, the target {describe(target)}; "
            f"a translation's target has the input's height and width. {_SAY}"
        )

    def as_image(self, input: Tensor, task: str) -> Tensor:
        """Undo the normalisation of inputs, so that the feature extractor sees images in [0, 1]."""
        if input.dtype == torch.uint8 and input.ndim == 4:
            return input.float() / 255  # a picture as files hold it; label maps come as (B, H, W) or wider integers
        if not input.is_floating_point():
            return input
        if self.mean is not None and self.std is not None:
            if input.ndim < 2 or len(self.mean) not in (1, input.shape[1]):
                raise ValueError(
                    f"mean and std have {len(self.mean)} channels, but the input is {describe(input)}; give one number "
                    "a channel, or one for all."
                )
            shape = (1, -1, *[1] * (input.ndim - 2))
            mean, std = (
                torch.tensor(v, dtype=torch.float32, device=input.device).view(shape) for v in (self.mean, self.std)
            )
            return input.float() * std + mean
        # pix2pix's habit: where targets are kept in [-1, 1], inputs are too.
        return self.unit(input) if task == "translation" else input.float()

    def input_range(self, task: str, input: Tensor) -> tuple[float | Tensor, float | Tensor]:
        """What black and white are in the inputs that the model is given."""
        if self.mean is not None and self.std is not None:
            shape = (1, -1, *[1] * (input.ndim - 2))
            mean, std = (
                torch.tensor(v, dtype=torch.float32, device=input.device).view(shape) for v in (self.mean, self.std)
            )
            return (0.0 - mean) / std, (1.0 - mean) / std
        if input.dtype == torch.uint8 and input.ndim == 4:
            return 0.0, 255.0  # a picture as files hold it
        return self.target_range if task == "translation" else (0.0, 1.0)

    def unit(self, image: Tensor) -> Tensor:
        """Map ``target_range`` to [0, 1]."""
        low, high = self.target_range
        return image.float() if (low, high) == (0.0, 1.0) else (image.float() - low) / (high - low)

    def prepare_target(self, sample: Sample, task: str) -> Tensor:
        """Bring a target to what the errors expect: an image in [0, 1] or an integer label map.

        Raises:
            ValueError: If a target lies outside ``target_range`` or is no label map.
        """
        if task == "segmentation":
            return to_labels(sample.target)
        if sample.target.ndim != 4:
            raise ValueError(f"Expected target images (B, C, H, W), but got {describe(sample.target)}.")
        low, high = self.target_range
        known = sample.target[torch.isfinite(sample.target)]
        lowest, highest = (float(v) for v in torch.aminmax(known)) if known.numel() else (low, high)
        slack = 1e-3 * (high - low)
        if lowest < low - slack or highest > high + slack:
            raise ValueError(
                f"The targets span [{lowest:.4g}, {highest:.4g}], outside target_range=({low:g}, {high:g}). Pass the "
                "range that your images have, for example target_range=(-1, 1)."
            )
        return self.unit(sample.target)


_CANNOT_TELL = "Cannot tell the task from the target:"
_SAY = "Pass task='segmentation' or task='translation'."


def check_prediction(prediction: Tensor, input: Tensor, target: Tensor, task: str, num_classes: int | None) -> None:
    """Hold a prediction against its target before any number is made of it.

    Raises:
        ValueError: If shapes or the number of classes do not fit.
    """
    if task == "translation":
        fits = prediction.shape == target.shape
        wanted = f"the target's shape {tuple(target.shape)}"
    else:
        fits = (
            prediction.ndim == 4 and prediction.shape[0] == target.shape[0] and prediction.shape[2:] == target.shape[1:]
        )
        wanted = f"logits ({target.shape[0]}, classes, {target.shape[1]}, {target.shape[2]}) for the label map"
    if not fits:
        raise ValueError(
            f"The model turned an input of shape {tuple(input.shape)} into a prediction of shape "
            f"{tuple(prediction.shape)}; expected {wanted}. If the model returns something else first, name the "
            "prediction with output_key. "
            + write_one("predict(self, module, input)", "module(input)  # brought to that shape")
        )
    if task == "segmentation" and not prediction.is_floating_point():
        raise ValueError(
            f"The model returned {describe(prediction)}: class numbers, which do not tell how sure it is; expected "
            f"logits ({target.shape[0]}, classes, {target.shape[1]}, {target.shape[2]}). Audit the model without its "
            "argmax."
        )
    channels = prediction.shape[1]
    if (
        task == "segmentation"
        and num_classes is not None
        and channels != num_classes
        and (channels, num_classes) != (1, 2)
    ):
        raise ValueError(f"The model returned {channels} classes, but num_classes={num_classes}.")


def as_tuple(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    """Freeze a list setting; one number stands for itself."""
    if values is None:
        return None
    return tuple(values) if isinstance(values, Sequence) else (values,)
