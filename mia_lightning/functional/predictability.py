"""Predictability error: how badly frozen features of *this* input, combined linearly, predict *this* target.

Source: Shafran, Peleg and Hoshen, "Membership Inference Attacks are Easier on Difficult Problems", ICCV 2021. Theirs
is ordinary least squares on a random 70 % of the pixels, measured on the other 30 %. Ours gives the same numbers for
the same pixels, faster, and by default measures every pixel with a fit that did not see it.

Why it can be exact and fast: a feature map with C channels on h x w < C positions spans at most h * w directions, and
resizing it is linear in the positions. The triangular factor of a QR of its (C, h * w) matrix keeps all inner
products, so least squares (of minimum norm) and ridge predict the same from at most h * w columns as from C.
"""

from collections.abc import Sequence
from functools import partial, reduce
from operator import add, sub
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mia_lightning.functional.design import Design, standardise_channels
from mia_lightning.functional.holdout_design import HoldoutDesign
from mia_lightning.functional.labels import one_hot, valid_pixels
from mia_lightning.functional.least_squares import fit

Task = Literal["translation", "segmentation", "multilabel"]

# A linear map onto a one-hot target can leave [0, 1]; this floor keeps the cross-entropy finite.
PROBABILITY_FLOOR = 1e-3
# Numbers in one slice's design matrix: about 128 MB in float64.
_SLICE = 2**24


@torch.no_grad()
def predictability_error(  # noqa: PLR0913 - a pure function takes its settings one by one
    maps: Sequence[Tensor],
    target: Tensor,
    *,
    grid: int,
    fit_mask: Tensor | None = None,
    folds: int = 5,
    ridge: float = 1e-3,
    task: Task = "translation",
    num_classes: int | None = None,
    ignore_index: int = 255,
    seed: int = 0,
) -> Tensor:
    """Error of a linear map from feature maps to the target, on pixels that the map was not fitted on.

    Maps are resized bilinearly to ``grid`` x ``grid`` and concatenated; the target is resized to the same grid by area
    (nearest for labels). One map is fitted per image, with a free intercept. With ``ridge > 0`` every channel is
    standardised per image first and the penalty is ``ridge`` times the mean of the centred Gram matrix's diagonal over
    all original channels; with ``ridge = 0`` the channels are left as they are and the solution is the one of minimum
    norm, as ``sklearn.linear_model.LinearRegression`` gives it.

    Args:
        maps: Feature maps of the input, each (B, C_i, h_i, w_i), aligned with the target (same image content).
        target: Image (B, C, H, W) in [0, 1] with NaN at void pixels, label map (B, H, W) of integers, or masks of
            independent channels, (B, K, H, W) in [0, 1] with NaN where they are ignored.
        grid: Side of the common grid, in pixels; the fit sees ``grid ** 2`` pixels.
        fit_mask: (grid ** 2,) booleans. Given: fit on these pixels and measure on the others (the paper's hold-out).
            None: cross-fit, every pixel is predicted by a fold that did not see it.
        folds: Number of folds when cross-fitting.
        ridge: Strength of the ridge penalty; 0 is ordinary least squares.
        task: ``"translation"`` measures the mean absolute error over pixels and channels; a pixel of the grid is the
            mean of the target's valid pixels there, and where there are none it is neither fitted nor measured.
            ``"segmentation"`` regresses on one-hot labels, clamps the predicted values at 1e-3, renormalises them and
            measures the mean cross-entropy over the pixels that carry a class; ``"multilabel"`` regresses on each
            channel by itself, clamps the predicted values 1e-3 from 0 and 1 and measures the mean binary cross-entropy
            over channels and pixels that are not ignored.
        num_classes: Number of classes; required for segmentation. Binary label maps have two.
        ignore_index: Label of ignored pixels (negative labels are ignored, too); they are neither fitted nor measured.
        seed: Seed of the assignment of pixels to folds.

    Returns:
        One error an image, (B,), float64, without gradients; NaN for a target without a valid pixel, or an image that
        has too few for any fit.

    Raises:
        ValueError: If shapes, ``grid``, ``folds``, ``ridge`` or ``fit_mask`` do not fit together.

    Example:
        >>> image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> error = predictability_error([image], 0.5 * image, grid=8, ridge=0.0)  # a linear map predicts it exactly
        >>> bool(error < 1e-6)
        True
    """
    _check(maps, target, grid=grid, folds=folds, ridge=ridge, fit_mask=fit_mask)
    pixel_folds = _split_pixels(grid, folds, seed, fit_mask)
    if task == "multilabel":
        return _of_channels(maps, target, grid, pixel_folds, ridge)
    if task == "translation" and bool(torch.isnan(target).any()):
        return _of_targets_with_holes(maps, target, grid, pixel_folds, ridge)
    values, weight, labels = _targets(target, grid, task, num_classes, ignore_index)
    channels = sum(m.shape[1] for m in maps)
    errors = []
    for part in _slices(maps, grid):
        design = _design([m[part] for m in maps], grid, pixel_folds, standardise=ridge > 0)
        predicted, measured = _predict(design, values[part], weight[part], pixel_folds, ridge, channels)
        here = labels[part] if labels is not None else None
        errors.append(_measure(predicted, values[part], weight[part] * measured, here))
    return torch.cat(errors)


class _PixelFolds(NamedTuple):
    """A fold number a pixel; fold f is measured by the fit on all others. One lone fold: fold 1 fits, 0 is measured."""

    fold: Tensor
    holdout: bool


def _split_pixels(grid: int, folds: int, seed: int, fit_mask: Tensor | None) -> _PixelFolds:
    if fit_mask is not None:
        return _PixelFolds(fit_mask.cpu().long(), holdout=True)
    order = torch.randperm(grid * grid, generator=torch.Generator().manual_seed(seed))
    fold = torch.empty(grid * grid, dtype=torch.long)
    fold[order] = torch.arange(grid * grid) % folds
    return _PixelFolds(fold, holdout=False)


def _targets(
    target: Tensor, grid: int, task: Task, num_classes: int | None, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Bring the target to the grid: values (B, P, C), weights (B, P), and the labels (B, P) of a segmentation."""
    found = f"{target.dtype} {tuple(target.shape)}"
    if task == "translation":
        values = _image_on_grid(target, grid)
        return values, values.new_ones(values.shape[:2]), None
    if task != "segmentation":
        raise ValueError(f"Unknown task {task!r}; expected 'translation', 'segmentation' or 'multilabel'.")
    if target.ndim != 3 or target.is_floating_point():
        raise ValueError(f"Segmentation expects an integer label map (B, H, W), but got {found}.")
    if num_classes is None:
        raise ValueError("Segmentation needs num_classes: the labels of one batch do not tell how many there are.")
    count = max(2, num_classes)
    small = F.interpolate(target.unsqueeze(1).double(), size=(grid, grid), mode="nearest-exact").squeeze(1).long()
    valid = valid_pixels(small, count, ignore_index)
    values = one_hot(small, valid, count, torch.float64).flatten(2).mT
    labels = torch.where(valid, small, torch.zeros_like(small)).flatten(1)
    return values, valid.flatten(1).double(), labels


def _image_on_grid(target: Tensor, grid: int) -> Tensor:
    """Mean of a target's pixels at each pixel of the grid, (B, P, C)."""
    if target.ndim != 4 or not target.is_floating_point():
        found = f"{target.dtype} {tuple(target.shape)}"
        raise ValueError(f"Translation expects a float target (B, C, H, W), but got {found}.")
    return F.interpolate(target.double(), size=(grid, grid), mode="area").flatten(2).mT


def _design(maps: Sequence[Tensor], grid: int, pixel_folds: _PixelFolds, *, standardise: bool) -> Design:
    # A map of one position is constant over the image: the intercept has it already.
    wide = [m for m in maps if m.shape[2] * m.shape[3] > 1]
    if not wide:
        wide = [maps[0].new_zeros((len(maps[0]), 1, grid, grid))]
    kind = HoldoutDesign if pixel_folds.holdout else Design
    return kind([standardise_channels(m.double()) for m in wide] if standardise else wide, grid)


def _predict(
    design: Design, values: Tensor, weight: Tensor, pixel_folds: _PixelFolds, ridge: float, channels: int
) -> tuple[Tensor, Tensor]:
    """Predict every pixel by a fit that did not see it; the second value marks the pixels predicted."""
    masks = [(pixel_folds.fold == f).to(weight) for f in range(int(pixel_folds.fold.max()) + 1)]
    if isinstance(design, HoldoutDesign):
        pixels = pixel_folds.fold.nonzero().squeeze(1).to(weight.device)
        held_out, fitted = masks[:1], [partial(design.moments_at, values, weight * masks[1], pixels)]
    else:
        sums = design.moments(values, [weight * mask for mask in masks])
        total = reduce(add, sums)
        held_out, fitted = masks, [partial(sub, total, part) for part in sums]
    predicted = torch.zeros_like(values)
    for mask, moments_of_others in zip(held_out, fitted, strict=True):
        model = fit(moments_of_others, ridge=ridge, channels=channels)
        predicted = torch.where(mask.bool().unsqueeze(1), design.predict(model), predicted)
    return predicted, sum(held_out, torch.zeros_like(masks[0])).expand_as(weight)


def _measure(predicted: Tensor, values: Tensor, weight: Tensor, labels: Tensor | None) -> Tensor:
    """Mean error over the weighted pixels, (B,)."""
    if labels is None:
        error = (predicted - values).abs().mean(2)
    else:
        probability = predicted.clamp_min(PROBABILITY_FLOOR)
        probability = probability / probability.sum(2, keepdim=True)
        error = -probability.gather(2, labels.unsqueeze(2)).squeeze(2).log()
    count = weight.sum(1)
    return (error * weight).sum(1) / torch.where(count > 0, count, torch.nan)


def _of_channels(maps: Sequence[Tensor], target: Tensor, grid: int, pixel_folds: _PixelFolds, ridge: float) -> Tensor:
    """Error of masks of independent channels, each of which is fitted where it is not ignored, (B,)."""
    if target.ndim != 4 or not target.is_floating_point():
        found = f"{target.dtype} {tuple(target.shape)}"
        raise ValueError(f"Independent channels are expected as float masks (B, K, H, W), but got {found}.")
    small = F.interpolate(target.double(), size=(grid, grid), mode="nearest-exact").flatten(2).mT
    valid = ~torch.isnan(small)
    truth = torch.where(valid, small, 0.0)
    total, count = truth.new_zeros(len(truth)), truth.new_zeros(len(truth))
    channels = sum(m.shape[1] for m in maps)
    for part in _slices(maps, grid):
        design = _design([m[part] for m in maps], grid, pixel_folds, standardise=ridge > 0)
        # An image whose channels ignore the same pixels needs one fit; decided without a look at its batch.
        alike = (valid[part] == valid[part][..., :1]).flatten(1).all(1)
        fits = [(list(range(small.shape[2])), alike)] + [([k], ~alike) for k in range(small.shape[2])]
        for chosen, images in fits:
            if not bool(images.any()):
                continue
            weight = valid[part][..., chosen[0]].double()
            predicted, measured = _predict(design, truth[part][..., chosen], weight, pixel_folds, ridge, channels)
            probability = predicted.clamp(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)
            loss = F.binary_cross_entropy(probability, truth[part][..., chosen], reduction="none").sum(2)
            weight = weight * measured * images.unsqueeze(1)
            total[part] += torch.where(weight > 0, loss, 0.0).sum(1)
            count[part] += weight.sum(1) * len(chosen)
    return total / torch.where(count > 0, count, torch.nan)


def _of_targets_with_holes(
    maps: Sequence[Tensor], target: Tensor, grid: int, pixel_folds: _PixelFolds, ridge: float
) -> Tensor:
    """Error of images with void pixels, (B,): each channel is fitted and measured where it has a value."""
    valid = ~torch.isnan(target)
    share = _image_on_grid(valid.to(torch.float64), grid)
    values = _image_on_grid(torch.where(valid, target, 0.0), grid) / torch.where(share > 0, share, 1.0)
    seen = (share > 0).double()
    total, count = values.new_zeros(len(values)), values.new_zeros(len(values))
    whole, channels = torch.full_like(total, torch.nan), sum(m.shape[1] for m in maps)
    for part in _slices(maps, grid):
        design = _design([m[part] for m in maps], grid, pixel_folds, standardise=ridge > 0)
        # One fit for all channels where they have the same holes; decided for each image, not for its batch.
        alike = (seen[part] == seen[part][..., :1]).flatten(1).all(1)
        if bool(alike.any()):
            weight = seen[part][..., 0]
            predicted, measured = _predict(design, values[part], weight, pixel_folds, ridge, channels)
            error = _measure(predicted, values[part], weight * measured * _fitted(weight, pixel_folds), None)
            whole[part] = torch.where(alike, error, torch.nan)
        for k in range(values.shape[2]) if not bool(alike.all()) else ():
            weight, truth = seen[part][..., k], values[part][..., k : k + 1]
            predicted, measured = _predict(design, truth, weight, pixel_folds, ridge, channels)
            counted = weight * measured * _fitted(weight, pixel_folds) * ~alike.unsqueeze(1)
            total[part] += ((predicted - truth).abs().squeeze(2) * counted).sum(1)
            count[part] += counted.sum(1)
    return torch.where(count > 0, total / count.clamp_min(1.0), whole)


def _fitted(weight: Tensor, pixel_folds: _PixelFolds) -> Tensor:
    """Whether the fit that predicts a pixel has two pixels or more to go by, (B, P): one has no variance."""
    fold = pixel_folds.fold.to(weight.device)
    rows = torch.stack([(weight * (fold == f)).sum(1) for f in range(int(fold.max()) + 1)], 1)
    by = rows[:, 1:].expand_as(rows) if pixel_folds.holdout else rows.sum(1, keepdim=True) - rows
    return (by > 1)[:, fold]


def _slices(maps: Sequence[Tensor], grid: int) -> list[slice]:
    """Parts of a batch whose design matrices fit into memory together."""
    columns = sum(min(m.shape[1], m.shape[2] * m.shape[3]) for m in maps)
    step = max(1, _SLICE // (grid * grid * columns))
    return [slice(start, start + step) for start in range(0, len(maps[0]), step)]


def _check(
    maps: Sequence[Tensor], target: Tensor, *, grid: int, folds: int, ridge: float, fit_mask: Tensor | None
) -> None:
    if not maps:
        raise ValueError("Expected at least one feature map, but got none.")
    for number, feature in enumerate(maps):
        if feature.ndim != 4 or feature.shape[0] != target.shape[0]:
            raise ValueError(
                f"Expected feature maps of shape ({target.shape[0]}, C, h, w) to go with {target.shape[0]} targets, "
                f"but map {number} has shape {tuple(feature.shape)}."
            )
    if grid < 2:
        raise ValueError(f"Expected grid >= 2, but got {grid}.")
    if ridge < 0:
        raise ValueError(f"Expected ridge >= 0, but got {ridge}.")
    if fit_mask is None and not 2 <= folds <= grid * grid:
        raise ValueError(f"Expected 2 to {grid * grid} folds (pixels of the grid), but got {folds}.")
    if fit_mask is not None and fit_mask.dtype != torch.bool:
        raise ValueError(f"Expected fit_mask of booleans, but got {fit_mask.dtype}.")
    if fit_mask is not None and (fit_mask.shape != (grid * grid,) or not 0 < int(fit_mask.sum()) < grid * grid):
        raise ValueError(
            f"Expected fit_mask of shape ({grid * grid},) with pixels on both sides, but got shape "
            f"{tuple(fit_mask.shape)} with {int(fit_mask.sum())} pixels to fit."
        )
