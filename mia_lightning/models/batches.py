"""Reading a training batch: dictionaries with names, or tuples with an order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

INPUT_KEYS = ("input", "image")
TARGET_KEYS = ("target", "mask", "label")


def read_input(batch: Any) -> Tensor:
    """Take the input from a batch; the target may be missing, as it is when predicting.

    Args:
        batch: A tensor, a dictionary with ``input`` or ``image``, or a tuple that starts with the input.

    Returns:
        The input, (B, C, H, W).

    Raises:
        ValueError: If there is none.
    """
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, Mapping):
        return _by_name(batch, INPUT_KEYS)
    return _by_place(batch, 0)


def read_pair(batch: Any) -> tuple[Tensor, Tensor]:
    """Take input and target from a batch.

    Args:
        batch: A dictionary with ``input`` or ``image``, and ``target``, ``mask`` or ``label``; or a tuple
            ``(input, target)`` or ``(input, target, id)``.

    Returns:
        Input, (B, C, H, W), and target, (B, ...).

    Raises:
        ValueError: If either is missing.

    Example:
        >>> x, y = torch.zeros(2, 3, 8, 8), torch.ones(2, 8, 8)
        >>> read_pair({"image": x, "mask": y, "id": ["a", "b"]})[1].shape
        torch.Size([2, 8, 8])
    """
    if isinstance(batch, Mapping):
        return _by_name(batch, INPUT_KEYS), _by_name(batch, TARGET_KEYS)
    return _by_place(batch, 0), _by_place(batch, 1)


def check_images(images: Tensor, channels: int, role: str, setting: str) -> None:
    """Refuse images that a model cannot take.

    Args:
        images: What should be (B, channels, H, W), floating point.
        channels: Channels that the model was built for.
        role: What the images are called in the message.
        setting: The model's argument that sets the channels.

    Raises:
        ValueError: If the shape or type does not fit.
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
    """Refuse images outside [0, 1]; a hundredth is forgiven to resampling that overshoots.

    Args:
        images: Any shape.
        role: What the images are called in the message.

    Raises:
        ValueError: If a value lies outside, or is not finite.
    """
    low, high = (float(value) for value in torch.aminmax(images.detach()))
    if not (low >= -0.01 and high <= 1.01):
        raise ValueError(
            f"Expected {role} in [0, 1] but its values run from {low:.4g} to {high:.4g}; this model scales to [-1, 1] "
            "by itself, so take such a normalisation out of the data's transforms."
        )


def _by_name(batch: Mapping[Any, Any], names: Sequence[str]) -> Tensor:
    for name in names:
        if isinstance(batch.get(name), Tensor):
            found: Tensor = batch[name]
            return found
    raise ValueError(
        f"The batch has the keys {sorted(map(str, batch))}, but none of {', '.join(names)} holds a tensor; "
        "name one of its tensors so."
    )


def _by_place(batch: Any, place: int) -> Tensor:
    if isinstance(batch, Sequence) and len(batch) > place and isinstance(batch[place], Tensor):
        found: Tensor = batch[place]
        return found
    kinds = [type(item).__name__ for item in batch] if isinstance(batch, Sequence) else type(batch).__name__
    raise ValueError(
        f"Expected a batch (input, target), (input, target, id), or a dictionary, with tensors for input and target, "
        f"but got {kinds}."
    )
