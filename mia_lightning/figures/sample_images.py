"""Draws single samples as small encoded pictures: input, target, output and error map."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mia_lightning.functional.labels import as_rgb, labels_of_planes, palette
from mia_lightning.functional.multilabel import loss_of_masks
from mia_lightning.functional.reconstruction import two_sided

LARGEST_SIDE = 128
_QUALITIES = (85, 75, 60, 45, 30)
_LARGEST_LOSS = 13.8  # nats, those of a probability of 1e-6
_IGNORED = torch.tensor([0.85, 0.85, 0.85])


class SampleImages(NamedTuple):
    """Tensors of one sample.

    Attributes:
        input: Image (C, H, W) in [0, 1] or label map (H, W).
        target: Image (C, H, W) in [0, 1], NaN at void pixels, label map (H, W), or masks (K, H, W) of independent
            channels.
        output: Image (C, H, W) in [0, 1], or logits (K, H, W) where the target is a label map or masks.
        masks: Whether the target is masks of independent channels.
    """

    input: Tensor
    target: Tensor
    output: Tensor
    masks: bool = False


def encoded_parts(
    samples: Sequence[SampleImages], *, ignore_index: int = 255, largest_side: int = LARGEST_SIDE
) -> list[dict[str, bytes]]:
    """Draw samples as small pictures, no side larger than ``largest_side``.

    Error maps are the absolute difference of images, the mean over channels, or the cross-entropy of labels or masks;
    masks of independent channels are drawn in a colour each, added where they overlap; void pixels of images, and
    ignored ones, whose label is ``ignore_index`` or no class of the output, have none. All share one scale, black for
    no error and white for the largest, so that they can be compared.

    Returns:
        For each sample PNG or JPEG, whichever is smaller, by ``input``, ``target``, ``output`` and ``error``. An input
        that is no image is left out.
    """
    errors = [_error(sample, ignore_index).numpy() for sample in samples]
    # A few pixels that are far off would leave all others black.
    largest = max((float(np.quantile(e, 0.995)) for e in errors if e.size), default=0.0) or 1.0
    encoded = []
    for sample, error in zip(samples, errors, strict=True):
        images = sample.target.is_floating_point()
        panels = {
            "input": _picture(sample.input) if sample.input.ndim in (2, 3) else None,
            "target": _target(sample, ignore_index),
            "output": _answer(sample),
            "error": colormaps["magma"](np.clip(error / largest, 0.0, 1.0))[..., :3],
        }
        smooth = {"error", *(("input",) if sample.input.is_floating_point() else ())}
        smooth |= {"target", "output"} if images else set()
        drawn = {name: pixels for name, pixels in panels.items() if pixels is not None}
        encoded.append({name: smaller(_shrunk(p, largest_side, smooth=name in smooth)) for name, p in drawn.items()})
    return encoded


def smaller(image: Image.Image) -> bytes:
    """Encode an image as PNG or JPEG, whichever is smaller: drawings and label maps stay exact, photographs small."""
    return min((_saved(image, format="PNG"), _saved(image, format="JPEG", quality=_QUALITIES[0])), key=len)


def bounded(image: Image.Image, limit: int) -> bytes:
    """Encode an image as JPEG of the best quality that fits so many bytes; noise takes more even at the lowest."""
    encoded = b""
    for quality in _QUALITIES:
        encoded = _saved(image, format="JPEG", quality=quality)
        if len(encoded) <= limit:
            break
    return encoded


def _saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)  # type: ignore[arg-type]  # each format has options of its own
    return buffer.getvalue()


def _target(sample: SampleImages, ignore_index: int) -> NDArray[np.float64]:
    if sample.masks:
        return _overlay(sample.target)
    return _picture(sample.target, ignore_index, sample.output.shape[0])


def _answer(sample: SampleImages) -> NDArray[np.float64]:
    if sample.masks:
        return _overlay(sample.output.sigmoid())
    if sample.target.is_floating_point():
        return _picture(sample.output)
    return _picture(two_sided(sample.output.unsqueeze(0)).argmax(1)[0])


def _overlay(masks: Tensor) -> NDArray[np.float64]:
    """Colours of independent masks (K, H, W), (H, W, 3) in [0, 1]."""
    colours = palette(len(masks)) if len(masks) > 1 else torch.ones(1, 3)
    mixed = torch.einsum("khw,kc->hwc", torch.nan_to_num(masks.float()), colours).clamp(0, 1)
    return torch.where(torch.isnan(masks).all(0).unsqueeze(2), _IGNORED, mixed).double().numpy()


def _error(sample: SampleImages, ignore_index: int) -> Tensor:
    if sample.masks:
        return loss_of_masks(sample.output.unsqueeze(0), sample.target.unsqueeze(0))[0, 0].clamp_max(_LARGEST_LOSS)
    if sample.target.is_floating_point():
        void = torch.isnan(sample.target)
        error = (sample.output - sample.target).abs()
        if not bool(void.any()):
            return error.mean(0)
        return torch.where(void, 0.0, error).sum(0) / (~void).sum(0).clamp_min(1)
    probability = two_sided(sample.output.unsqueeze(0)).softmax(1)
    ignored = _ignored(sample.target, ignore_index, probability.shape[1])
    labels = sample.target.masked_fill(ignored, 0).long()
    error = -probability.gather(1, labels.view(1, 1, *labels.shape)).clamp_min(1e-6).log()
    return error[0, 0].masked_fill(ignored, 0.0)


def _ignored(labels: Tensor, ignore_index: int, classes: int) -> Tensor:
    return (labels < 0) | (labels == ignore_index) | (labels >= max(2, classes))


def _picture(values: Tensor, ignore_index: int | None = None, classes: int = 0) -> NDArray[np.float64]:
    """Turn an image or label map into colours, (H, W, 3) in [0, 1]."""
    planes = values.unsqueeze(0) if values.is_floating_point() and values.ndim == 3 and len(values) > 3 else None
    if planes is not None and (maps := labels_of_planes(planes)) is not None:
        values, ignore_index, classes = maps[0], -1, len(values)
    labels = not values.is_floating_point()
    ignored = _ignored(values, ignore_index, classes) if labels and ignore_index is not None else None
    if not labels and ignore_index is not None:  # a target, whose void pixels are NaN
        ignored, values = torch.isnan(values).all(0), torch.nan_to_num(values)
    drawable = values if ignored is None else values.masked_fill(ignored, 0)
    pixels = as_rgb(drawable.unsqueeze(0)).squeeze(0).movedim(0, 2).clamp(0, 1)
    if ignored is not None:
        pixels = torch.where(ignored.unsqueeze(2), _IGNORED, pixels)
    return pixels.double().numpy()


def _shrunk(pixels: NDArray[np.float64], largest_side: int, *, smooth: bool) -> Image.Image:
    # Outputs of a diverged model hold NaN, which is drawn black.
    image = Image.fromarray((np.nan_to_num(pixels) * 255).round().astype(np.uint8))
    if max(image.size) > largest_side:
        # Interpolated label maps would hold other classes.
        image.thumbnail((largest_side, largest_side), Image.Resampling.BOX if smooth else Image.Resampling.NEAREST)
    return image
