"""What a model's outputs are: logits, probabilities, labels or images. Decided once, stated, and then held.

By the setting ``output``; else by the operation that made them, seen on the first batch
(:mod:`~mia_lightning.functional.last_operation`); else by the values of a few samples of both sides
(:mod:`~mia_lightning.functional.output_values`); else the setting is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import torch
from torch import Tensor

from mia_lightning.audit.adapters import write_one
from mia_lightning.audit.config import AuditConfig
from mia_lightning.functional.descriptions import describe
from mia_lightning.functional.last_operation import Operation, Role
from mia_lightning.functional.output_values import (
    OVERSHOOT,
    RANGE_TOLERANCE,
    Kind,
    Values,
    certain_logits,
    certain_masks,
    joined,
    kind_by_values,
    labels_of,
    logits_of,
    undecided,
    values_of,
)
from mia_lightning.functional.resolution import SMOOTH_MODES, is_reduced, upsample
from mia_lightning.registry import Task

LABELS_NOTE = (
    "The model's outputs are label maps, which do not show how sure it was, and carry less evidence than probabilities "
    "would. The reconstruction error is the share of pixels with the wrong class; the predictability error p, a "
    "cross-entropy, becomes a share as well, 1 - exp(-p)."
)
_SMALLEST_SPAN = 1e-6  # of values scaled to lie between 0 and 1


@dataclass(frozen=True)
class OutputMeaning:
    """What predictions are, and how they become what errors expect.

    Attributes:
        kind: What they are.
        why: By what that was decided, in words.
        task: The task.
        config: The settings.
        tolerance: How far outside of [0, 1] probabilities may lie.
        sums: Whether probabilities sum to one over the channels.
        notes: Sentences that a reader of the result must know.
        axes: Axes of a prediction beside batch and channels: two of pictures, three of volumes.
    """

    kind: Kind | Literal["images"]
    why: str
    task: Task
    config: AuditConfig
    tolerance: float = RANGE_TOLERANCE
    sums: bool = False
    notes: tuple[str, ...] = field(default=())
    axes: int = 2

    @property
    def decision(self) -> str:
        """The decision in words, for the result."""
        return f"{self.kind}: {self.why}"

    @property
    def labels_only(self) -> bool:
        """Whether there are class numbers and nothing else."""
        return self.kind == "labels"

    def beside(self, prediction: Tensor, target: Tensor) -> OutputMeaning:
        """Return a copy that states whether predictions have a lower resolution than their prepared targets."""
        size, full = (" x ".join(map(str, x.shape[-self.axes :])) for x in (prediction, target))
        if size == full:
            return self
        how = "by the nearest pixel" if self.kind == "labels" else f"{'tri' if self.axes == 3 else 'bi'}linearly"
        how += "" if self.kind == "labels" else " (align_corners=False)"
        return replace(self, why=f"{self.why}; upsampled {how} from {size} to the target's {full}")

    def read(self, prediction: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Bring a prediction, (B, K, ...), to logits; images and logits stay as they are.

        Args:
            prediction: As :func:`check_prediction` returns it.
            size: Height and width of the target, D before them. A prediction of a lower resolution is upsampled to it
                as it is, before anything is made of it: class numbers by the nearest pixel, all else bilinearly.

        Raises:
            ValueError: If its values contradict what was decided.
        """
        if self.kind == "images":
            return prediction
        if size is not None:
            prediction = upsample(prediction, size, labels=self.kind == "labels")
        if self.kind == "labels":
            return self._of_labels(prediction)
        if prediction.shape[1] == 1 and (classes := self.config.num_classes or 2) > 2:
            raise ValueError(f"The model returned 1 class, but num_classes={classes}.")
        if self.kind == "logits":
            return prediction
        self._hold(values_of(prediction))
        return logits_of(prediction, cast(Kind, self.kind), independent=_independent(self.task))

    def _hold(self, values: Values) -> None:
        if not values.pixels:
            return
        if self.kind == "log-probabilities" and values.highest > RANGE_TOLERANCE:
            raise ValueError(
                f"The model's outputs were taken for logarithms of probabilities ({self.why}), but a batch holds "
                f"{values}; expected none above 0. Pass output='logits' if they are logits."
            )
        if self.kind == "probabilities" and not (
            values.within(self.tolerance) and (values.sum_to_one or not self.sums)
        ):
            raise ValueError(
                f"The model's outputs were taken for probabilities ({self.why}), but a batch holds {values}. Pass "
                "output='logits' if they are logits, or output='probabilities' and see that they lie in [0, 1] and "
                "sum to one over the classes."
            )

    def _of_labels(self, prediction: Tensor) -> Tensor:
        if _independent(self.task):
            return certain_masks(prediction)
        several = prediction.ndim == self.axes + 2 and prediction.shape[1] > 1
        if several and self.config.output == "labels" and prediction.is_floating_point():
            # Declared: the largest counts, whatever they are.
            return certain_logits(prediction.argmax(1), prediction.shape[1], self.config.ignore_index)
        if several:
            labels = labels_of(prediction, self.axes)
            return certain_logits(labels, prediction.shape[1], self.config.ignore_index)
        classes = self.config.num_classes
        if classes is None and prediction.dtype == torch.bool:
            classes = 2
        if classes is None:
            raise ValueError(
                f"The model returned {describe(prediction)}: class numbers, which do not tell how many classes there "
                "are. Pass num_classes; if these are no class numbers, say with output= what they are."
            )
        return certain_logits(labels_of(prediction, self.axes), max(2, classes), self.config.ignore_index)

    def require_foreground(self, prediction: Tensor, target: Tensor) -> None:
        """Refuse masks of 0 and 255 as outputs beside targets of 0 and 1: their foreground would be no class.

        Raises:
            ValueError: Says how 255 becomes 1.
        """
        ignored, classes = self.config.ignore_index, self.config.num_classes or 2
        single = prediction.ndim == self.axes + 1 or prediction.shape[1] == 1
        maps = self.labels_only and single and not _independent(self.task)
        if not maps or classes > 2 or ignored < 2 or not bool((target == 1).any()):
            return
        labels = labels_of(prediction, self.axes)
        if not bool((labels == ignored).any()) or bool((labels == 1).any()):
            return
        raise ValueError(
            f"The model's outputs hold {ignored} and no 1, but {ignored} (ignore_index) is no class of {classes}: the "
            f"foreground would be taken for wrong everywhere. If {ignored} marks the foreground, make it 1 (stored "
            f"outputs: --foreground {ignored}), or set ignore_index to a number that marks nothing else. "
            + write_one("predict(self, module, input)", f"(module(input) == {ignored}).long()")
        )


def decide_output(
    config: AuditConfig,
    task: Task,
    prediction: Tensor,
    operation: Operation | None = None,
    further: Callable[[], Sequence[Tensor]] = tuple,
    axes: int = 2,
) -> OutputMeaning:
    """Decide what predictions are.

    Args:
        config: The settings.
        task: The task.
        prediction: The first prediction, of the shape that :func:`check_prediction` asks for.
        operation: What made it; None where that is not known.
        further: Makes predictions of a few samples of both sides; called only where nothing else decides.
        axes: As :attr:`OutputMeaning.axes`.

    Raises:
        ValueError: If nothing decides; names the setting that does.
    """
    return replace(_decided(config, task, prediction, operation, further), axes=axes)


def _decided(
    config: AuditConfig,
    task: Task,
    prediction: Tensor,
    operation: Operation | None,
    further: Callable[[], Sequence[Tensor]],
) -> OutputMeaning:
    if task == "translation":
        return OutputMeaning("images", "the task is translation", task, config, notes=_tanh_note(config, operation))
    if config.output == "labels" or (config.output == "auto" and not prediction.is_floating_point()):
        numbers = str(prediction.dtype).removeprefix("torch.")
        why = "output='labels'" if config.output == "labels" else f"the model returns {numbers}"
        return OutputMeaning("labels", why, task, config, notes=(LABELS_NOTE,))
    if not prediction.is_floating_point():
        raise ValueError(
            f"The model returned {describe(prediction)}, which are no {config.output}; expected floating point. Pass "
            "output='labels' if they are class numbers, or audit the model without what rounds its outputs."
        )
    if config.output in ("logits", "probabilities"):
        sums = config.output == "probabilities" and prediction.shape[1] > 1 and not _independent(task)
        return OutputMeaning(config.output, f"output={config.output!r}", task, config, OVERSHOOT, sums)
    found = None if operation is None else _by_operation(operation, values_of(prediction), task, config)
    if found is not None:
        return found
    # Not the first prediction, where there are others: each process of several has one of its own, and all must agree.
    return _by_values([values_of(p) for p in further() or (prediction,)], task, config)


def with_channel(prediction: Tensor, task: Task, axes: int = 2, output: str = "auto") -> Tensor:
    """Pictures and masks without a dimension of channels, (B, H, W), as (B, 1, H, W); all else as it is.

    Segmentations of that shape are class numbers, unless ``output`` says that they are logits or probabilities.
    """
    single = task != "segmentation" or output in ("logits", "probabilities")
    return prediction.unsqueeze(1) if single and prediction.ndim == axes + 1 else prediction


def check_prediction(prediction: Tensor, input: Tensor, target: Tensor, task: Task, config: AuditConfig) -> Tensor:
    """Check that a prediction fits its prepared target; segmentations may have a lower resolution in proportion.

    Returns:
        The prediction; that of a single picture or mask with its dimension of channels, (B, 1, ...).

    Raises:
        ValueError: If its shape, type or number of classes does not fit.
    """
    axes = target.ndim - (1 if task == "segmentation" else 2)
    returned, prediction = prediction, with_channel(prediction, task, axes, config.output)
    if task == "segmentation":
        size, maps = tuple(target.shape[1:]), not prediction.is_floating_point() or config.output == "labels"
        single = prediction.ndim == target.ndim
        fits = (maps or not single) and _covers(prediction, target, size, 1 if single else 2)
        expected = f"logits ({', '.join(map(str, (len(target), 'classes', *size)))}) for the label map"
        if prediction.shape == target.shape:
            expected += (
                ", or with output='labels' (and num_classes) class numbers, which may be floats, or with "
                "output='logits' or output='probabilities' a number a pixel, that of class 1"
            )
    elif task == "multilabel":
        size, expected = tuple(target.shape[2:]), f"the target's shape {tuple(target.shape)}"
        fits = prediction.shape[:2] == target.shape[:2] and _covers(prediction, target, size, 2)
    else:
        size, expected = tuple(target.shape[2:]), f"the target's shape {tuple(target.shape)}"
        fits = prediction.shape == target.shape
        if task == "translation" and target.shape[1] == 1 and not fits:
            expected += " (if the target is a label map, pass task='segmentation')"
    if not fits:
        raise ValueError(_unfit(returned, input, expected, size, task, config))
    if task == "translation":
        if not prediction.is_floating_point():
            raise ValueError(
                f"The model returned {describe(returned)}; expected images in floating point, in the range of the "
                "targets (target_range). Audit the model without what rounds its outputs. "
                + write_one("predict(self, module, input)", "module(input).float() / 255  # where 255 is white")
            )
        return prediction
    maps = task == "segmentation" and prediction.ndim == target.ndim
    channels, classes = 1 if maps else prediction.shape[1], config.num_classes
    # One channel may hold class numbers, and is looked at once that is decided.
    if classes is not None and channels not in (classes, 1):
        raise ValueError(f"The model returned {channels} classes, but num_classes={classes}.")
    return prediction


def _covers(prediction: Tensor, target: Tensor, full: tuple[int, ...], first: int) -> bool:
    """Whether a prediction, whose size begins at a dimension, has that of its target or a lower resolution of it."""
    size = tuple(prediction.shape[first:])
    return len(prediction) == len(target) and (size == full or (len(size) == len(full) and is_reduced(size, full)))


def _unfit(
    prediction: Tensor, input: Tensor, expected: str, size: tuple[int, ...], task: Task, config: AuditConfig
) -> str:
    found, lines = tuple(prediction.shape[-len(size) :]), "module(input)  # brought to that shape"
    batch = prediction.ndim in (len(size) + 1, len(size) + 2)
    larger, smaller = batch and is_reduced(size, found), batch and is_reduced(found, size)
    last = prediction.ndim == len(size) + 2 and tuple(prediction.shape[1:-1]) == size
    if last:
        lines = "module(input).movedim(-1, 1)  # its channels are last"
    if larger or (smaller and task == "translation"):
        lines = _resized(prediction, size, config)
    remedy = "If the model returns something else first, name the prediction with output_key."
    if larger:
        remedy = (
            "It is larger than the target: give targets of the model's own resolution, or let the adapter resize it as "
            "the project does before its loss."
        )
    elif task == "translation" and smaller:
        remedy = "It is smaller than the target, and pictures are compared pixel by pixel, without any resizing."
    elif task != "translation" and prediction.ndim > len(size):
        remedy += " A lower resolution is upsampled where it is that of the target in proportion."
    return (
        f"The model turned an input of shape {tuple(input.shape)} into a prediction of shape "
        f"{tuple(prediction.shape)}; expected {expected}. {remedy} " + write_one("predict(self, module, input)", lines)
    )


def _resized(prediction: Tensor, size: tuple[int, ...], config: AuditConfig) -> str:
    """What an adapter returns to bring such predictions to a size."""
    key, whole = config.output_key, not prediction.is_floating_point()
    call = f"{'super()' if key is None else f'AutoAdapter({key!r})'}.predict(module, input)"
    single = prediction.ndim == len(size) + 1  # without a dimension of channels, which interpolation wants
    call += f"{'.unsqueeze(1)' if single else ''}{'.float()' if whole else ''}"
    mode = "nearest-exact" if whole or config.output == "labels" else SMOOTH_MODES[len(size)]
    after = f"{'.squeeze(1)' if single else ''}{'.long()' if whole else ''}"
    return f"torch.nn.functional.interpolate({call}, size={size}, mode={mode!r}){after}"


def _independent(task: str) -> bool:
    return task == "multilabel"


def _tanh_note(config: AuditConfig, operation: Operation | None) -> tuple[str, ...]:
    if operation is None or operation.role != "tanh" or tuple(config.target_range) != (0.0, 1.0):
        return ()
    return (
        "The model ends in tanh, whose values lie in [-1, 1], but target_range is (0, 1): if the project scales images "
        "to [-1, 1], every error here is wrong. Pass target_range=(-1, 1) then.",
    )


def _by_operation(operation: Operation, values: Values, task: Task, config: AuditConfig) -> OutputMeaning | None:
    """Decide by what made the outputs, and see that their values agree; None where it does not tell."""
    role, why = operation.role, f"the model ends in {operation.name}"
    if not values.pixels or role == "other":
        return None
    alone = values.channels == 1 or _independent(task)
    # What is computed from probabilities may be something else, which only its values show.
    tolerance = RANGE_TOLERANCE if role == "mixture" and alone else OVERSHOOT
    if _is_odd(role, values, tolerance, alone=alone):
        raise ValueError(
            undecided(values, why if role in ("tanh", "shifted") else f"{why}, which does not go with its values")
        )
    exclusive = {"linear": True, "discrete": True, "log_softmax": True, "log_sigmoid": values.exponentials_sum_to_one}
    if not alone and not exclusive.get(role, values.sum_to_one):
        raise ValueError(_not_exclusive(why, values))
    if role in ("log_softmax", "log_sigmoid"):
        return OutputMeaning("log-probabilities" if alone else "logits", why, task, config)
    if role == "discrete":
        return OutputMeaning("labels", why, task, config, notes=(LABELS_NOTE,))
    if role == "linear":
        return OutputMeaning("logits", why, task, config)
    return OutputMeaning("probabilities", why, task, config, tolerance, sums=not alone)


def _is_odd(role: Role, values: Values, tolerance: float, *, alone: bool) -> bool:
    """Whether values are none that an operation of this role gives, or would give only by chance."""
    scaled = abs(values.lowest) < _SMALLEST_SPAN and abs(values.highest - 1.0) < _SMALLEST_SPAN
    odd = {
        "discrete": not values.whole,
        "linear": scaled or (values.inside and values.sum_to_one and not alone),
        "log_softmax": values.highest > RANGE_TOLERANCE,
        "log_sigmoid": values.highest > RANGE_TOLERANCE,
        "tanh": True,
        "shifted": True,
    }
    return odd.get(role, not values.within(tolerance))


def _not_exclusive(why: str, values: Values) -> str:
    return (
        f"{why[0].upper()}{why[1:]}, but its {values.channels} channels do not sum to one at every pixel: they are no "
        "probabilities of classes of which a pixel has one. If channels are independent of each other, pass "
        "task='multilabel' with targets that have a channel each; if the class with the largest value counts, pass "
        "output='labels' for an audit of labels, or audit what the model computes before, and pass output='logits'."
    )


def _by_values(samples: Sequence[Values], task: Task, config: AuditConfig) -> OutputMeaning:
    values, kind = joined(samples), kind_by_values(samples, independent=_independent(task))
    if kind is None:
        raise ValueError(undecided(values))
    if not values.pixels:
        return OutputMeaning("logits", "no finite value was seen", task, config)
    return OutputMeaning(kind, f"by their values, {values}", task, config, sums=kind == "probabilities")
