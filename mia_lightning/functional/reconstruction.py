"""Reconstruction errors: how far a model's output lies from the target, one number a sample. Low means member."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mia_lightning.functional.labels import one_hot, valid_pixels

TranslationError = Literal["l1", "l2", "ssim"]
SegmentationError = Literal["cross_entropy", "dice", "brier", "soft_error", "zero_one"]

TRANSLATION_ERRORS: tuple[TranslationError, ...] = ("l1", "l2", "ssim")
SEGMENTATION_ERRORS: tuple[SegmentationError, ...] = ("cross_entropy", "dice", "brier", "soft_error", "zero_one")


def translation_error(prediction: Tensor, target: Tensor, kind: TranslationError = "l1") -> Tensor:
    """Error of a translated image or volume, averaged over pixels and channels: (B,), in float32 or wider.

    Args:
        prediction: Model output, (B, C, H, W) or (B, C, D, H, W), in [0, 1].
        target: Target image, of the same shape, in [0, 1]. NaN marks void pixels, which are left out, in their channel.
        kind: ``"l1"`` mean absolute error (the paper's), ``"l2"`` mean squared error, ``"ssim"`` one minus the
            structural similarity (Wang et al., 2004: Gaussian window of 11 pixels, sigma 1.5; of volumes 11 voxels
            along each axis, less where an axis is shorter) over the windows without void pixels.

    Returns:
        NaN where all pixels are void, or all windows hold some.

    Raises:
        ValueError: If the shapes differ or ``kind`` is unknown.

    Example:
        >>> translation_error(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.25))
        tensor([0.2500])
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"The prediction has shape {tuple(prediction.shape)} but the target has {tuple(target.shape)}; "
            "a translation model must return an image of the target's shape."
        )
    prediction, target = _at_least_float32(prediction), _at_least_float32(target)
    valid = ~torch.isnan(target)
    if kind == "l1":
        return mean_of_valid((prediction - target).abs(), valid)
    if kind == "l2":
        return mean_of_valid((prediction - target).square(), valid)
    if kind == "ssim":
        return 1.0 - _ssim(prediction, target, valid)
    raise ValueError(f"Unknown translation error {kind!r}; choose one of {', '.join(TRANSLATION_ERRORS)}.")


def segmentation_error(
    logits: Tensor, target: Tensor, kind: SegmentationError = "cross_entropy", ignore_index: int = 255
) -> Tensor:
    """Error of a segmentation, averaged over the pixels that carry a class: (B,), NaN where there is none.

    Args:
        logits: Unnormalised class scores, (B, K, H, W) or (B, K, D, H, W); with K = 1 the logit of class 1 against
            class 0.
        target: Integer label map, (B, H, W) or (B, D, H, W). Negative labels and ``ignore_index`` are ignored.
        kind: ``"cross_entropy"`` (the paper's), ``"dice"`` one minus the soft Dice coefficient, averaged over the
            classes that the target holds, ``"brier"`` mean squared distance between class probabilities and the
            one-hot target, summed over classes, ``"soft_error"`` one minus the mean probability of the true class:
            the share of pixels that a guess drawn from the probabilities gets wrong, ``"zero_one"`` the share of pixels
            whose class is not the most likely one; a tie is wrong.
        ignore_index: Label of ignored pixels.

    Raises:
        ValueError: If shapes do not fit, a label is no class, or ``kind`` is unknown.

    Example:
        >>> logits = torch.tensor([[[[0.0]], [[0.0]]]])
        >>> segmentation_error(logits, torch.tensor([[[1]]]))
        tensor([0.6931])
    """
    _require_label_maps(logits, target)
    logits = two_sided(_at_least_float32(logits))
    valid = valid_pixels(target, logits.shape[1], ignore_index)
    if kind == "dice":
        planes = one_hot(target, valid, logits.shape[1], logits.dtype)
        return 1.0 - _soft_dice(torch.where(valid.unsqueeze(1), logits.softmax(1), 0.0), planes)
    return _masked_mean(_error_of_pixels(logits, target, valid, kind), valid, valid.flatten(1).sum(1))


def class_errors(
    logits: Tensor, target: Tensor, kind: SegmentationError = "cross_entropy", ignore_index: int = 255
) -> Tensor:
    """Error of a segmentation restricted to the pixels of each class: (B, K), NaN where a target lacks the class.

    Arguments and errors are those of :func:`segmentation_error`; ``"dice"`` is no mean over pixels, and refused. With
    one logit there are two classes. Weighted by their shares of the pixels that carry a class, the errors of a sample
    add up to its :func:`segmentation_error`.

    Example:
        >>> logits = torch.tensor([[[[0.0, 0.0]], [[0.0, 9.0]]]])
        >>> class_errors(logits, torch.tensor([[[1, 255]]]))
        tensor([[   nan, 0.6931]])
    """
    _require_label_maps(logits, target)
    logits = two_sided(_at_least_float32(logits))
    valid = valid_pixels(target, logits.shape[1], ignore_index)
    values = _error_of_pixels(logits, target, valid, kind)
    errors = logits.new_full((len(logits), logits.shape[1]), torch.nan)
    for number in torch.unique(target[valid]).tolist():  # one after the other: sums in the same order on any device
        of_class = valid & (target == number)
        errors[:, int(number)] = _masked_mean(values, of_class, of_class.flatten(1).sum(1))
    return errors


def _require_label_maps(logits: Tensor, target: Tensor) -> None:
    if logits.ndim not in (4, 5) or (len(logits), *logits.shape[2:]) != target.shape:
        raise ValueError(
            f"The prediction has shape {tuple(logits.shape)} but the label map has {tuple(target.shape)}; "
            "a segmentation model must return logits of shape (B, classes, H, W) for a label map of shape (B, H, W), "
            "and (B, classes, D, H, W) for a volume (B, D, H, W)."
        )


def _error_of_pixels(logits: Tensor, target: Tensor, valid: Tensor, kind: SegmentationError) -> Tensor:
    """Error of each pixel, in the target's shape; what is not valid may hold anything."""
    safe = torch.where(valid, target, torch.zeros_like(target)).long()
    if kind == "cross_entropy":
        return F.cross_entropy(logits, safe, reduction="none")
    if kind == "soft_error":
        return 1.0 - logits.softmax(1).gather(1, safe.unsqueeze(1)).squeeze(1)
    if kind == "zero_one":
        rivals = (logits >= logits.gather(1, safe.unsqueeze(1))).sum(1) != 1
        finite = torch.isfinite(logits).all(1)
        return torch.where(finite, rivals.to(logits.dtype), torch.nan)
    if kind == "brier":
        return (logits.softmax(1) - one_hot(target, valid, logits.shape[1], logits.dtype)).square().sum(1)
    raise ValueError(f"Unknown error of pixels {kind!r}; choose one of {', '.join(SEGMENTATION_ERRORS)}.")


def two_sided(logits: Tensor) -> Tensor:
    """Logits (B, max(K, 2), ...) of (B, K, ...): where K = 1 those of class 0 are 0, and softmax is the sigmoid."""
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def mean_of_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of each sample over its valid values, (B,): NaN without any; a sample that is valid everywhere has its mean.

    Args:
        values: (B, ...); what is not valid may hold anything.
        valid: Booleans of the same shape.

    Example:
        >>> values = torch.tensor([[1.0, 3.0], [1.0, torch.nan]])
        >>> mean_of_valid(values, ~values.isnan())
        tensor([2., 1.])
    """
    flags, plain = valid.flatten(1), values.flatten(1).mean(1)
    complete = flags.all(1)
    if bool(complete.all()):
        return plain
    return torch.where(complete, plain, _masked_mean(values, valid, flags.sum(1)))


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _masked_mean(values: Tensor, valid: Tensor, count: Tensor) -> Tensor:
    # torch.where, not a product: an infinite loss on an ignored pixel must not turn into NaN.
    total = torch.where(valid, values, torch.zeros_like(values)).flatten(1).sum(1)
    return total / torch.where(count > 0, count, torch.nan)


def _soft_dice(probability: Tensor, planes: Tensor) -> Tensor:
    overlap = (probability * planes).flatten(2).sum(2)
    size = probability.flatten(2).sum(2) + planes.flatten(2).sum(2)
    present = planes.flatten(2).sum(2) > 0
    dice = torch.where(present, 2.0 * overlap / size.clamp_min(1e-12), torch.zeros_like(size))
    number = present.sum(1)
    return dice.sum(1) / torch.where(number > 0, number, torch.nan)


def _ssim(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    kernels = _windows(prediction)
    channels, axes = prediction.shape[1], len(kernels)
    convolve, largest = (F.conv2d, F.max_pool2d) if axes == 2 else (F.conv3d, F.max_pool3d)
    target = torch.where(valid, target, 0.0)
    # Windows without void pixels.
    unbroken = largest((~valid).to(target.dtype), [len(kernel) for kernel in kernels], 1) == 0

    def smooth(x: Tensor) -> Tensor:
        for axis, kernel in enumerate(kernels):
            along = [-1 if other == axis else 1 for other in range(axes)]
            x = convolve(x, kernel.view(1, 1, *along).expand(channels, 1, *[-1] * axes), groups=channels)
        return x

    mean_p, mean_t = smooth(prediction), smooth(target)
    var_p = smooth(prediction**2) - mean_p**2
    var_t = smooth(target**2) - mean_t**2
    covariance = smooth(prediction * target) - mean_p * mean_t
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_p * mean_t + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_p**2 + mean_t**2 + c1) * (var_p + var_t + c2))
    return mean_of_valid(similarity, unbroken)


def _windows(image: Tensor) -> Sequence[Tensor]:
    """Gaussian windows along the axes: of pictures all of one length, of volumes each as long as its axis allows."""
    lengths = [min(11, side - (side + 1) % 2) for side in image.shape[2:]]
    if len(lengths) == 2:
        lengths = [min(lengths)] * 2
    windows = []
    for length in lengths:
        offset = torch.arange(length, dtype=image.dtype, device=image.device) - length // 2
        kernel = torch.exp(-(offset**2) / (2 * 1.5**2))
        windows.append(kernel / kernel.sum())
    return windows
