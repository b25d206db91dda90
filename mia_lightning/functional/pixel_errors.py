"""Errors of single pixels, which reconstruction errors, tiles and loss maps are made of."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mia_lightning.functional.labels import valid_pixels
from mia_lightning.functional.predictability import Task
from mia_lightning.functional.reconstruction import two_sided


def pixel_errors(prediction: Tensor, target: Tensor, task: Task, ignore_index: int = 255) -> Tensor:
    """The errors that a reconstruction error is the mean of, NaN where a pixel is left out of it.

    Args:
        prediction: Images (B, C, H, W) in [0, 1] for translation, logits (B, K, H, W) otherwise; of volumes with D.
        target: Images of that shape, NaN where they are void, integer label maps (B, H, W), or masks of that shape in
            [0, 1], NaN where they are ignored.
        task: Absolute differences for ``"translation"``, cross-entropies for ``"segmentation"``, binary
            cross-entropies for ``"multilabel"``.
        ignore_index: Label of ignored pixels; negative ones are ignored, too.

    Returns:
        (B, C, H, W), with C = 1 for label maps, or (B, C, D, H, W); in float32 or wider.

    Example:
        >>> pixel_errors(torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 255]]]), "segmentation")
        tensor([[[[0.6931,    nan]]]])
    """
    prediction = prediction if prediction.dtype == torch.float64 else prediction.float()
    if task == "translation":
        return (prediction - target).abs()
    if task == "multilabel":
        valid = ~torch.isnan(target)
        truth = torch.where(valid, target, 0.0).to(prediction.dtype)
        errors = F.binary_cross_entropy_with_logits(prediction, truth, reduction="none")
        return torch.where(valid, errors, torch.nan)
    logits = two_sided(prediction)
    valid = valid_pixels(target, logits.shape[1], ignore_index)
    errors = F.cross_entropy(logits, torch.where(valid, target, 0).long(), reduction="none")
    return torch.where(valid, errors, torch.nan).unsqueeze(1)
