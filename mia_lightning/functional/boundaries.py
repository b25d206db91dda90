"""How far the boundaries of predicted classes lie from those of the true ones."""

from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from mia_lightning.functional.labels import valid_pixels

Mask = NDArray[np.bool_]


def boundary_distance(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Mean distance between the boundaries of predicted and true classes, as a share of the image's diagonal.

    For each class that a prediction or its target holds: a boundary pixel has one of its four neighbours (a voxel, one
    of six) in another class. The distances from each predicted boundary pixel to the nearest true one are averaged,
    those from true to predicted ones likewise, and the two means once more; the error is the mean over classes. A class
    that fills all pixels, or none, has no boundary: where both sides have none and hold the same pixels the distance is
    0, else, and where one side has none, it is 1, the whole diagonal. Ignored pixels neither are on a boundary nor make
    one.

    Args:
        prediction: Class numbers (B, H, W) or (B, D, H, W); what is no class there belongs to none.
        target: Label maps of the same shape, integers. Distances of volumes are counted in voxels.
        num_classes: Number of classes.
        ignore_index: Label of ignored pixels of the target; negative ones are ignored, too.

    Returns:
        (B,) float64 in [0, 1] on the target's device; NaN where no pixel of the target carries a class.

    Raises:
        ValueError: If a label of the target is neither a class nor ignored.

    Example:
        >>> columns = torch.arange(8).expand(1, 4, 8)
        >>> target, prediction = (columns >= 4).long(), (columns >= 5).long()  # a boundary one pixel to the right
        >>> (boundary_distance(prediction, target, 2) * (4**2 + 8**2) ** 0.5).tolist()
        [1.0]
    """
    valid = valid_pixels(target, num_classes, ignore_index).cpu().numpy()
    predicted, true = prediction.cpu().numpy(), target.cpu().numpy()
    distances = [_of_sample(*sample, num_classes) for sample in zip(predicted, true, valid, strict=True)]
    return torch.tensor(distances, dtype=torch.float64, device=target.device)


def _of_sample(predicted: NDArray[np.int64], true: NDArray[np.int64], valid: Mask, num_classes: int) -> float:
    held = np.union1d(predicted[valid], true[valid])
    classes = held[(held >= 0) & (held < num_classes)]
    diagonal = float(reduce(np.hypot, valid.shape))
    distances = [_of_class((predicted == c) & valid, (true == c) & valid, valid, diagonal) for c in classes]
    return float(np.mean(distances)) if distances else float("nan")


def _of_class(predicted: Mask, true: Mask, valid: Mask, diagonal: float) -> float:
    first, second = _boundary(predicted, valid), _boundary(true, valid)
    if not (first.any() and second.any()):
        return 0.0 if np.array_equal(predicted, true) else 1.0
    # Within the smallest box around both: no distance between their pixels leaves it, and most classes are small.
    places = np.nonzero(first | second)
    box = tuple(slice(along.min(), along.max() + 1) for along in places)
    first, second = first[box], second[box]
    there, back = distance_transform_edt(~second)[first].mean(), distance_transform_edt(~first)[second].mean()
    return float(there + back) / 2 / diagonal


def _boundary(mask: Mask, valid: Mask) -> Mask:
    """Pixels of a mask, (H, W) or (D, H, W), of which a valid neighbour along an axis is not in it."""
    outside = valid & ~mask
    near = np.zeros_like(mask)
    for axis in range(mask.ndim):
        # Views: what is written along the axis is written to the whole.
        moved, beyond = np.moveaxis(near, axis, 0), np.moveaxis(outside, axis, 0)
        moved[1:] |= beyond[:-1]
        moved[:-1] |= beyond[1:]
    result: Mask = mask & near
    return result
