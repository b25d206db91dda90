"""Checks of the images in a training batch: channels, type and range that a model was built for."""

import torch
from torch import Tensor


def check_images(images: Tensor, channels: int, role: str, setting: str) -> None:
    """Refuse images that a model cannot take.

    ``role`` is what messages call the images, ``setting`` the model's argument that sets the channels.

    Raises:
        ValueError: If they are not (B, channels, H, W) and floating point.
    """
    if images.ndim != 4 or images.shape[1] != channels:
        raise ValueError(
            f"Expected {role} of shape (B, {channels}, H, W) but got {tuple(images.shape)}; "
            f"set {setting} to the number of channels in the data."
        )
    if not images.is_floating_point():
        raise ValueError(
            f"Expected {role} as floating point in [0, 1] but got {images.dtype}; divide 8-bit images by 255."
        )


def check_range(images: Tensor, role: str) -> None:
    """Refuse images of any shape outside [0, 1]; a hundredth is forgiven to resampling that overshoots.

    Raises:
        ValueError: If a value lies outside, or is not finite; ``role`` is what the message calls the images.
    """
    low, high = (float(value) for value in torch.aminmax(images.detach()))
    if not (low >= -0.01 and high <= 1.01):
        raise ValueError(
            f"Expected {role} in [0, 1] but its values run from {low:.4g} to {high:.4g}; this model scales to [-1, 1] "
            "by itself, so take such a normalisation out of the data's transforms."
        )
