"""Images for a logger: colours of label maps, and a grid of samples."""

import torch
from torch import Tensor
from torchvision.utils import make_grid

from mia_lightning.functional.labels import labels_of_planes, voc_palette

VOID_COLOUR = (224, 224, 192)
"""Colour of ignored pixels, 0 to 255: the cream of the PASCAL VOC annotations."""


def visualise(labels: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Colour label maps with the palette of PASCAL VOC, which is the same for every number of classes.

    Args:
        labels: Integer label maps, (B, H, W).
        num_classes: Number of classes, at least 1; any other label is drawn as ignored.
        ignore_index: Label of ignored pixels.

    Returns:
        Images, (B, 3, H, W), float in [0, 1].

    Example:
        >>> (visualise(torch.tensor([[[0, 1, 2, 255]]]), num_classes=3)[0, :, 0] * 255).long().T.tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [224, 224, 192]]
    """
    labels = labels.long()
    ignored = (labels < 0) | (labels >= num_classes) | (labels == ignore_index)
    colours = torch.cat([voc_palette(num_classes), torch.tensor([VOID_COLOUR])]).to(labels.device) / 255.0
    return colours[labels.masked_fill(ignored, num_classes)].permute(0, 3, 1, 2)


def to_rgb(images: Tensor) -> Tensor:
    """Make any stack of channels in [0, 1], (B, C, H, W), visible as RGB, (B, 3, H, W), float32, clamped to [0, 1].

    One-hot planes are coloured as the label map that they hold, void where none is set; of other stacks the first three
    channels are shown, or the first alone if there are two.
    """
    images = images.detach().float()
    channels = images.shape[1]
    if channels > 3 and (labels := labels_of_planes(images)) is not None:
        return visualise(labels, channels)
    images = images[:, :3] if channels >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    return images.clamp(0.0, 1.0)


def example_grid(*columns: Tensor) -> Tensor:
    """Lay columns of RGB images, (B, 3, H, W) in [0, 1] of one shape, out as one image, a row a sample, (3, H', W')."""
    rows = torch.stack([column.cpu() for column in columns], 1).flatten(0, 1)
    grid: Tensor = make_grid(rows, nrow=len(columns), padding=2, pad_value=1.0)
    return grid
