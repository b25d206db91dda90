"""Segmentation into channels that do not exclude each other: errors of logits, and statistics of the masks."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

MultilabelError = Literal["binary_cross_entropy", "zero_one", "dice", "brier", "soft_error"]

MULTILABEL_ERRORS: tuple[MultilabelError, ...] = get_args(MultilabelError)
CHANNEL_BINS = 16
MASK_STATISTICS = (*(f"channel_{c:02d}" for c in range(CHANNEL_BINS)), "void", "boundary")


def multilabel_error(logits: Tensor, target: Tensor, kind: MultilabelError = "binary_cross_entropy") -> Tensor:
    """Error of masks of independent channels, averaged over channels and pixels that are not ignored: (B,).

    Args:
        logits: One logit a channel and pixel, (B, K, H, W), or voxel, (B, K, D, H, W): the sigmoid is the probability
            that the channel is set.
        target: Masks of the same shape in [0, 1], soft edges allowed; NaN where they are ignored.
        kind: ``"binary_cross_entropy"``; ``"zero_one"`` the share of values that are on the other side of one half;
            ``"dice"`` one minus the soft Dice coefficient, averaged over the channels
            that the target sets anywhere; ``"brier"`` mean squared distance of probability and target;
            ``"soft_error"`` the chance that a draw from the probability differs from a draw from the target (for zeros
            and ones: one minus the mean probability of what is right).

    Returns:
        In float32 or wider; NaN where all is ignored, for ``"dice"`` also where no channel is set.

    Raises:
        ValueError: If the shapes differ or ``kind`` is unknown.

    Example:
        >>> multilabel_error(torch.zeros(1, 2, 1, 1), torch.tensor([[[[1.0]], [[0.0]]]]))
        tensor([0.6931])
    """
    _require_one_shape(logits, target)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    valid = ~torch.isnan(target)
    truth = torch.where(valid, target, 0.0).to(logits.dtype)
    if kind == "binary_cross_entropy":
        return _mean(F.binary_cross_entropy_with_logits(logits, truth, reduction="none"), valid)
    if kind == "zero_one":
        return _mean(((logits > 0) != (truth > 0.5)).to(logits.dtype), valid)
    probability = logits.sigmoid()
    if kind == "brier":
        return _mean((probability - truth).square(), valid)
    if kind == "soft_error":
        return _mean(probability * (1.0 - truth) + (1.0 - probability) * truth, valid)
    if kind == "dice":
        probability = torch.where(valid, probability, 0.0)
        overlap, size = ((x).flatten(2).sum(2) for x in (probability * truth, probability + truth))
        present = (truth > 0).flatten(2).any(2)
        dice = torch.where(present, 2.0 * overlap / size.clamp_min(1e-12), 0.0).sum(1)
        number = present.sum(1)
        return 1.0 - dice / torch.where(number > 0, number, torch.nan)
    raise ValueError(f"Unknown error of independent channels {kind!r}; choose one of {', '.join(MULTILABEL_ERRORS)}.")


def channel_errors(logits: Tensor, target: Tensor, kind: MultilabelError = "binary_cross_entropy") -> Tensor:
    """Error of each channel where its mask is set: (B, K), NaN where it is set nowhere.

    A pixel with a soft edge weighs as much as its mask says. Arguments and errors are those of
    :func:`multilabel_error`; ``kind`` is ``"binary_cross_entropy"`` or ``"zero_one"``.

    Example:
        >>> channel_errors(torch.zeros(1, 2, 1, 1), torch.tensor([[[[1.0]], [[0.0]]]]))
        tensor([[0.6931,    nan]])
    """
    _require_one_shape(logits, target)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    truth = torch.where(torch.isnan(target), 0.0, target).to(logits.dtype)
    if kind == "binary_cross_entropy":
        values = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    elif kind == "zero_one":
        values = ((logits > 0) != (truth > 0.5)).to(logits.dtype)
    else:
        raise ValueError(f"Expected 'binary_cross_entropy' or 'zero_one' as an error of channels, but got {kind!r}.")
    total = torch.where(truth > 0, truth * values, 0.0).flatten(2).sum(2)  # an infinite error elsewhere is no NaN
    weight = truth.flatten(2).sum(2)
    return total / torch.where(weight > 0, weight, torch.nan)


def loss_of_masks(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of each pixel, the mean over its channels that are not ignored, (B, 1, H, W); 0 without any.

    Arguments and errors are those of :func:`multilabel_error`.
    """
    _require_one_shape(logits, target)
    valid = ~torch.isnan(target)
    truth = torch.where(valid, target, 0.0).to(logits.dtype)
    loss = torch.where(valid, F.binary_cross_entropy_with_logits(logits, truth, reduction="none"), 0.0)
    return loss.sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp_min(1)


def mask_statistics(target: Tensor) -> Tensor:
    """Shares of set pixels by channel, of ignored values, and the mean change from pixel to pixel.

    Channels are folded into 16 bins (channel c counts in bin c mod 16), so that the number of columns never depends on
    the data.

    Args:
        target: Masks (B, K, H, W) or (B, K, D, H, W) in [0, 1], NaN where they are ignored; another shape or type is
            a ValueError.

    Returns:
        (B, 18) in the order of :data:`MASK_STATISTICS`, float64, in [0, 1]. Shares and changes are those of values
        that are not ignored, 0 where all are.

    Example:
        >>> row = mask_statistics(torch.tensor([[[[1.0, 0.0, torch.nan]]]]))[0].tolist()
        >>> [round(row[MASK_STATISTICS.index(name)], 3) for name in ("channel_00", "void", "boundary")]
        [0.5, 0.333, 1.0]
    """
    if target.ndim not in (4, 5) or not target.is_floating_point():
        raise ValueError(f"Expected float masks (B, channels, H, W), but got {target.dtype} {tuple(target.shape)}.")
    x = target.detach().double()
    valid = ~torch.isnan(x)
    truth = torch.where(valid, x, 0.0)
    bins = torch.arange(x.shape[1], device=x.device) % CHANNEL_BINS
    shape = (len(x), CHANNEL_BINS)
    total = x.new_zeros(shape).index_add_(1, bins, truth.flatten(2).sum(2))
    count = x.new_zeros(shape).index_add_(1, bins, valid.flatten(2).sum(2).double())
    void = 1.0 - valid.double().flatten(1).mean(1, keepdim=True)
    change, pairs = x.new_zeros(len(x), 1), x.new_zeros(len(x), 1)
    for dim in range(2, x.ndim):
        step = x.diff(dim=dim).flatten(1)  # NaN where one of the two is ignored
        both = ~torch.isnan(step)
        change = change + torch.where(both, step.abs(), 0.0).sum(1, keepdim=True)
        pairs = pairs + both.sum(1, keepdim=True)
    return torch.cat([total / count.clamp_min(1.0), void, change / pairs.clamp_min(1.0)], 1)


def _require_one_shape(logits: Tensor, target: Tensor) -> None:
    if logits.ndim not in (4, 5) or logits.shape != target.shape:
        raise ValueError(
            f"The prediction has shape {tuple(logits.shape)} but the masks have {tuple(target.shape)}; a model of "
            "independent channels must return one logit for each channel and pixel, (B, K, H, W), or voxel."
        )


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    # torch.where, not a product: an infinite loss on an ignored pixel must not turn into NaN.
    count = valid.flatten(1).sum(1)
    total = torch.where(valid, values, torch.zeros_like(values)).flatten(1).sum(1)
    return total / torch.where(count > 0, count, torch.nan)
