"""Whether a model does its task: its errors beside those of a constant, of the input and of a linear predictor."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mia_lightning.audit.interpretation import Interpretation
from mia_lightning.audit.target_range import with_holes
from mia_lightning.functional.blind import CLASS_BINS
from mia_lightning.functional.reconstruction import mean_of_valid
from mia_lightning.registry import Task

BASELINES: Mapping[Task, tuple[str, ...]] = {"translation": ("constant", "input")}
"""Names of the baselines whose errors :func:`baseline_errors` measures, by task."""

ENOUGH = 16
"""Samples, both sides together, below which nothing is said."""

_MOST = 0.5  # share of the samples
_CHECKS = (
    "Check that input and target are not swapped (of batches of (target, input): input_key=1, target_key=0), that "
    "predictions and targets have one range (target_range, output), that inputs are normalised as in training (a step "
    "may do it before forward: adapter), and the order of channels and classes."
)


def constant_of(interpretation: Interpretation, targets: Sequence[Tensor]) -> Tensor | None:
    """The best guess without a model: the mean colour of some targets (1, C, ...), scaled to [0, 1], as (C,).

    Returns:
        None for other tasks than translation, whose constant the class shares tell, and where no target is finite.
    """
    if interpretation.task != "translation":
        return None
    # Targets that do not fit are for the process to refuse that audits them.
    axes = 3 if interpretation.volumes else 2
    pictures = [t.unsqueeze(1) if t.ndim == axes + 1 else t for t in targets]
    channels = pictures[0].shape[1:2]
    same = [t for t in pictures if t.ndim == axes + 2 and t.shape[1:2] == channels]
    holed = [with_holes(t, interpretation.config.void) for t in same]
    images, over = [interpretation.unit(t).double() for t in holed], (0, *range(2, axes + 2))
    colours = [(x.nanmean if bool(torch.isnan(x).any()) else x.mean)(over) for x in images]
    finite = [colour for colour in colours if bool(torch.isfinite(colour).all())]
    return torch.stack(finite).mean(0).float() if finite else None


def baseline_errors(
    interpretation: Interpretation, constant: Tensor | None, input: Tensor, target: Tensor
) -> dict[str, Tensor]:
    """Errors of predictions that need no model, one number a sample, (B,), float64.

    Args:
        interpretation: How the audit reads its tensors.
        constant: What :func:`constant_of` makes of the first targets.
        input: Inputs as the model gets them, (B, ...).
        target: Prepared targets, (B, C, H, W) or (B, C, D, H, W) in [0, 1] with NaN at void pixels, or label maps.

    Returns:
        For a translation ``constant``, the error of one colour for all, and ``input``, that of the input itself; NaN
        where there is none of the target's shape. For other tasks nothing: the class shares of the blind statistics
        tell their constant.
    """
    if interpretation.task != "translation":
        return {}
    unknown = torch.full((len(target),), torch.nan, dtype=torch.float64, device=target.device)
    errors, valid = {"constant": unknown, "input": unknown}, ~torch.isnan(target)
    if constant is not None and len(constant) == target.shape[1]:
        colour = constant.to(target.device).view(-1, *[1] * (target.ndim - 2))
        errors["constant"] = mean_of_valid((target - colour).abs(), valid).double()
    image = interpretation.as_image(input)
    if image.is_floating_point() and image.ndim in (4, 5) and image.shape[1] == 1:
        image = image.expand(-1, target.shape[1], *[-1] * (image.ndim - 2))  # grey beside colour
    if image.shape == target.shape and image.is_floating_point():
        errors["input"] = mean_of_valid((image - target).abs(), valid).double()
    return errors


class PlausibilityCheck:
    """Compares the errors of an audit with those of its baselines; warns once."""

    def __init__(self) -> None:
        self._warned = False

    def __call__(
        self,
        task: str,
        errors: Mapping[str, NDArray[np.float64]],
        baselines: Mapping[str, NDArray[np.float64]],
        statistics: Mapping[str, NDArray[np.float64]],
        *,
        training: bool,
        labels_only: bool = False,
    ) -> dict[str, Any]:
        """Say on how many samples the model does no better than predictions that need no model.

        Args:
            task: The task.
            errors: Raw errors by name, (N,) each.
            baselines: The columns of :func:`baseline_errors`, (N,) each.
            statistics: The model-free statistics of the pairs, (N,) each.
            labels_only: The errors are shares of pixels with the wrong class.
            training: Whether the model is still being trained, and may not have learned anything yet: no warning.

        Returns:
            ``above_constant``, ``above_input`` and ``above_predictor``, shares of the samples in [0, 1] as far as they
            can be told, and ``caution``, a sentence where the audit may be fed wrongly.
        """
        reconstruction = errors["reconstruction"]
        if len(reconstruction) < ENOUGH:
            return {}
        compared = {"predictor": errors["predictability"], **baselines}
        if task == "segmentation" and (constant := class_constant(statistics, labels_only=labels_only)) is not None:
            compared["constant"] = constant
        found: dict[str, Any] = {
            f"above_{name}": float(np.mean(reconstruction[known] >= error[known]))
            for name, error in compared.items()
            if (known := np.isfinite(error)).any()
        }
        if caution := _caution(found):
            found["caution"] = caution
            if not training and not self._warned:
                self._warned = True
                warnings.warn(caution, stacklevel=2)
        return found


def class_constant(
    statistics: Mapping[str, NDArray[np.float64]], *, labels_only: bool = False
) -> NDArray[np.float64] | None:
    """Error of predicting, at every pixel, the class frequencies of all targets, (N,): a cross-entropy in nats.

    Args:
        statistics: Shares of classes by sample as ``target_class_00`` and so on, (N,) each; None without them. Classes
            beyond 16 share columns, which lets the constant appear better than it is.
        labels_only: The error of predicting the most frequent class instead: the share of pixels of others.

    Example:
        >>> class_constant({"target_class_00": np.array([1.0, 0.0]), "target_class_01": np.array([0.0, 1.0])}).round(4)
        array([0.6931, 0.6931])
    """
    names = [f"target_class_{c:02d}" for c in range(CLASS_BINS)]
    columns = [statistics[name] for name in names if name in statistics]
    if not columns:
        return None
    shares = np.stack(columns, 1)
    frequencies = shares.mean(0) / max(shares.mean(0).sum(), 1e-12)
    if labels_only:
        others: NDArray[np.float64] = shares.sum(1) - shares[:, int(frequencies.argmax())]
        return others
    logarithms = np.log(np.maximum(frequencies, 1e-12))
    constant: NDArray[np.float64] = -(shares * logarithms).sum(1)
    return constant


def _caution(shares: Mapping[str, float]) -> str:
    """A sentence where the model does no better than a constant or than its input on most samples, else nothing.

    Not by the linear predictor alone: fitted on other pixels of the same target, it is better than most good
    translators, on every sample of the demo's edges and photographs for one.
    """
    reasons = [
        f"than {what} on {100 * share:.0f} %"
        for key, what in (("above_constant", "a constant prediction"), ("above_input", "the input itself"))
        if (share := shares.get(key, 0.0)) > _MOST
    ]
    if not reasons:
        return ""
    predictor = shares.get("above_predictor", 0.0)
    linear = f" Its error is above that of a linear predictor on {100 * predictor:.0f} %." if predictor > _MOST else ""
    return (
        f"The model does no better {' and '.join(reasons)} of the samples: it is not trained, or the audit is fed "
        f"wrongly, and then its numbers say nothing.{linear} {_CHECKS}"
    )
