"""Training losses: pure functions of logits and targets, computed in float32 or wider.

The segmentation losses read logits (B, K, H, W) and integer label maps (B, H, W) as the rest of the package does:
negative labels and ``ignore_index`` are ignored, any other label must be a class, and a single logit means class 1
against class 0. They are scalars, and 0 for a batch without a valid pixel.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mia_lightning.functional.labels import one_hot, valid_pixels
from mia_lightning.functional.reconstruction import two_sided

GanLoss = Literal["vanilla", "lsgan"]
SegmentationLoss = Literal["cross_entropy", "dice", "focal", "cross_entropy+dice"]


def gan_loss(logits: Tensor, is_real: bool, kind: GanLoss = "vanilla") -> Tensor:
    """How far a discriminator's verdicts are from the expected one, averaged over all verdicts.

    Args:
        logits: Verdicts, any shape; positive means real.
        is_real: The expected verdict.
        kind: ``"vanilla"`` binary cross-entropy (Goodfellow et al., 2014), ``"lsgan"`` squared distance to 1 or 0 (Mao
            et al., 2017).

    Raises:
        ValueError: If ``kind`` is unknown.

    Example:
        >>> gan_loss(torch.zeros(1, 1, 2, 2), is_real=True)
        tensor(0.6931)
        >>> gan_loss(torch.full((1, 1, 2, 2), 0.5), is_real=False, kind="lsgan")
        tensor(0.2500)
    """
    logits = _at_least_float32(logits)
    expected = torch.full_like(logits, float(is_real))
    if kind == "vanilla":
        return F.binary_cross_entropy_with_logits(logits, expected)
    if kind == "lsgan":
        return F.mse_loss(logits, expected)
    raise ValueError(f"Unknown gan_loss {kind!r}; choose vanilla or lsgan.")


def hinge_loss(logits: Tensor, is_real: bool) -> Tensor:
    """How far a discriminator's verdicts are from being sure, averaged over all verdicts (Lim and Ye, 2017).

    It teaches the discriminator; what it teaches the generator, is to raise the mean of the logits.

    Args:
        logits: Verdicts, any shape; positive means real, and beyond 1 and -1 there is nothing more to gain.
        is_real: The expected verdict.

    Example:
        >>> hinge_loss(torch.tensor([-1.0, 0.0, 2.0]), is_real=True)
        tensor(1.)
    """
    logits = _at_least_float32(logits)
    return F.relu(1.0 - logits if is_real else 1.0 + logits).mean()


def feature_matching_loss(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Distance of what discriminators make of fake and of real pairs on the way to their verdicts (Wang et al., 2018).

    Args:
        fake: For each discriminator its maps, of any shape, and last its verdicts, which do not count.
        real: Likewise for the real pairs; no gradient flows into them.

    Returns:
        Mean absolute difference of each map, summed over maps and discriminators.

    Example:
        >>> feature_matching_loss([[torch.zeros(2), torch.ones(3)]], [[torch.ones(2), torch.zeros(3)]])
        tensor(1.)
    """
    pairs = [pair for f, r in zip(fake, real, strict=True) for pair in zip(f[:-1], r[:-1], strict=True)]
    return torch.stack([F.l1_loss(_at_least_float32(f), _at_least_float32(r.detach())) for f, r in pairs]).sum()


def cross_entropy_loss(logits: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
    """Cross-entropy of logits (B, K, H, W) and labels (B, H, W), averaged over the batch's valid pixels; at least 0.

    Pixels with a negative label or ``ignore_index`` are ignored.

    Raises:
        ValueError: If a label is neither a class nor ignored.

    Example:
        >>> cross_entropy_loss(torch.zeros(1, 4, 2, 2), torch.tensor([[[0, 1], [2, 255]]]))
        tensor(1.3863)
    """
    loss, valid = _pixel_cross_entropy(logits, target, ignore_index)
    return _mean_over(loss, valid)


def focal_loss(logits: Tensor, target: Tensor, ignore_index: int = 255, gamma: float = 2.0) -> Tensor:
    """Cross-entropy with less weight on easy pixels: ``-(1 - p)**gamma * log p`` (Lin et al., 2017).

    torchvision's ``sigmoid_focal_loss`` is binary; this one takes any number of classes.

    Args:
        logits: (B, K, H, W); p is the probability that they give the true class.
        target: Integer label map, (B, H, W).
        ignore_index: Label of ignored pixels, beside all negative ones.
        gamma: How strongly easy pixels are discounted; 0 is cross-entropy.

    Returns:
        Scalar, averaged over the valid pixels of the batch, at least 0.

    Raises:
        ValueError: If a label is neither a class nor ignored.

    Example:
        >>> focal_loss(torch.zeros(1, 2, 1, 1), torch.tensor([[[1]]]))  # 0.25 * log 2
        tensor(0.1733)
    """
    loss, valid = _pixel_cross_entropy(logits, target, ignore_index)
    return _mean_over((1.0 - torch.exp(-loss)) ** gamma * loss, valid)


def dice_loss(logits: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
    """One minus the soft Dice coefficient, averaged over the classes that the batch holds (Sudre et al., 2017).

    Overlap and size are summed over the whole batch before they are divided, so that a class with a few pixels in one
    image does not swing the loss. With one logit only the foreground counts; a batch without foreground has loss 0.

    Args:
        logits: (B, K, H, W).
        target: Integer label map, (B, H, W).
        ignore_index: Label of ignored pixels, beside all negative ones.

    Returns:
        Scalar in [0, 1].

    Raises:
        ValueError: If a label is neither a class nor ignored.

    Example:
        >>> dice_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[1, 0]]]))  # 1 - 2 * 0.5 / (1 + 1)
        tensor(0.5000)
    """
    both = two_sided(_at_least_float32(logits))
    valid = valid_pixels(target, both.shape[1], ignore_index)
    expected = one_hot(target, valid, both.shape[1], both.dtype)
    probability = both.softmax(1) * valid.unsqueeze(1)
    if logits.shape[1] == 1:
        expected, probability = expected[:, 1:], probability[:, 1:]
    size = expected.sum((0, 2, 3))
    dice = 2.0 * (probability * expected).sum((0, 2, 3)) / (probability.sum((0, 2, 3)) + size).clamp_min(1e-12)
    return _mean_over(1.0 - dice, size > 0)


def _cross_entropy_and_dice(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    return cross_entropy_loss(logits, target, ignore_index) + dice_loss(logits, target, ignore_index)


SEGMENTATION_LOSSES: dict[SegmentationLoss, Callable[[Tensor, Tensor, int], Tensor]] = {
    "cross_entropy": cross_entropy_loss,
    "dice": dice_loss,
    "focal": focal_loss,
    "cross_entropy+dice": _cross_entropy_and_dice,
}
"""Segmentation losses by name, each ``(logits, target, ignore_index) -> scalar``."""


def _pixel_cross_entropy(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    logits = two_sided(_at_least_float32(logits))
    valid = valid_pixels(target, logits.shape[1], ignore_index)
    safe = torch.where(valid, target, torch.zeros_like(target)).long()
    return F.cross_entropy(logits, safe, reduction="none"), valid


def _mean_over(values: Tensor, keep: Tensor) -> Tensor:
    # torch.where, not a product: an infinite loss on an ignored pixel must not turn into NaN.
    return torch.where(keep, values, torch.zeros_like(values)).sum() / keep.sum().clamp_min(1)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
