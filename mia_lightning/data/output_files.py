"""Reading one output of a model: what a file holds, and whether it can be laid on its target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mia_lightning.data.images import read_image
from mia_lightning.data.label_encoding import LabelArray, encode_image, read_labels
from mia_lightning.data.storage import ARRAY_SUFFIXES, read_array
from mia_lightning.data.transforms import Array, Kind, resize

_SLACK = 0.01  # of ranges and sums: half precision and interpolation overshoot


def picture_in(path: Path) -> Tensor:
    """Read an output image, from whatever file, as float (3, H, W) in [0, 1]."""
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        return encode_image(read_image(path))
    values = read_array(path)
    array = values[..., None] if values.ndim == 2 else values
    if array.ndim == 3 and array.shape[2] not in (1, 3) and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if (
        array.ndim != 3
        or array.shape[2] not in (1, 3)
        or not (array.dtype == np.uint8 or np.issubdtype(array.dtype, np.floating))
    ):
        raise ValueError(
            f"{path} holds a {values.dtype} array {values.shape}: expected an image (H, W, 3), (H, W, 1) or (H, W), "
            "floats in [0, 1] or uint8"
        )
    scale = 255.0 if array.dtype == np.uint8 else 1.0
    image = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1), dtype=np.float32)) / scale
    finite = image[torch.isfinite(image)]  # what is not finite is left to the audit, which names and excludes it
    if len(finite) and not (finite.min() >= -_SLACK and finite.max() <= 1.0 + _SLACK):
        raise ValueError(
            f"{path} holds values from {range_of(finite)}: expected an image in [0, 1]. Bring [-1, 1] there by "
            "(x + 1) / 2, and 0 to 255 by x / 255."
        )
    return image.expand(3, -1, -1).contiguous()


def label_map_in(path: Path) -> LabelArray:
    """Read a label map from an image or an integer array."""
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        return read_labels(path)
    labels = read_array(path)
    if labels.ndim == 3 and labels.shape[0] == 1:
        labels = labels[0]
    if labels.ndim != 2 or np.issubdtype(labels.dtype, np.floating):
        found = f"a {labels.dtype} array {labels.shape}"
        raise ValueError(f"{path} holds {found}, but the first output is a label map: store all of them alike")
    return labels.astype(np.int32)


def fit_to(values: Array, output: Tensor, path: Path, output_path: Path, kind: Kind) -> Array:
    """Bring an input or a target to the size of the output, if they can lie on one another."""
    (height, width), (wanted_height, wanted_width) = values.shape[:2], output.shape[-2:]
    ratio = (width * wanted_height) / (height * wanted_width)
    # Rounding may cost a pixel a side.
    if abs(ratio - 1.0) > max(0.02, 1.5 / min(height, width, wanted_height, wanted_width)):
        raise ValueError(
            f"the output {output_path} is {wanted_width}x{wanted_height} pixels, but {path} is {width}x{height}: "
            "expected one aspect ratio, or pixels would be compared that do not belong together. Store inputs and "
            "targets as the model had them, cropped or squeezed."
        )
    return resize(values, (wanted_height, wanted_width), kind)


def is_probability(scores: Tensor) -> bool:
    """Whether values (K, H, W) are probabilities; those that are not finite are not looked at."""
    finite = scores[:, torch.isfinite(scores).all(0)]
    if finite.numel() == 0:
        return True
    inside = bool(finite.min() >= -_SLACK and finite.max() <= 1.0 + _SLACK)
    return inside and (len(finite) == 1 or bool((finite.sum(0) - 1.0).abs().max() <= _SLACK))


def range_of(values: Tensor) -> str:
    """Write the smallest and the largest finite value, for messages."""
    finite = values[torch.isfinite(values)]
    return f"{finite.min():.3g} to {finite.max():.3g}" if len(finite) else "NaN to NaN"
