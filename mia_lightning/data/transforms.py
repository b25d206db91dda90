"""Paired resizing and augmentation, by albumentations and OpenCV."""

import os
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

# Importing albumentations otherwise asks PyPI for a newer version: no network access by surprise.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2

Kind = Literal["image", "labels"]
Size = int | tuple[int, int]
Array = npt.NDArray[Any]

JITTER_SCALE = 286 / 256
"""pix2pix resizes 256² images to 286² before it crops 256² out of them."""

_CHANNELS_AT_ONCE = 4  # OpenCV resizes no more

# The order is that of application. Each builder takes the final height and width.
_AUGMENTATIONS: dict[str, Callable[[int, int], A.BasicTransform]] = {
    "jitter": lambda height, width: A.RandomCrop(height, width),
    "hflip": lambda height, width: A.HorizontalFlip(p=0.5),
    "vflip": lambda height, width: A.VerticalFlip(p=0.5),
    "transpose": lambda height, width: A.Transpose(p=0.5),
    "rotate90": lambda height, width: A.RandomRotate90(p=1.0),
    "brightness": lambda height, width: A.RandomBrightnessContrast(0.2, 0.2, p=0.5),
}
_SQUARE_ONLY = ("transpose", "rotate90")

AUGMENTATIONS = tuple(_AUGMENTATIONS)
"""Names of the augmentations that there are."""


class PairedTransform:
    """Resize an input and its target, then change both alike.

    Images shrink by area averaging (no aliasing) and grow bilinearly; label maps take the nearest pixel centre:
    ids stay ids and both sides stay aligned. The whole content is kept: another aspect ratio is squeezed, not
    cropped. The random part draws one seed from torch's global generator at every call, so it follows
    ``seed_everything`` and the seeding of loader workers, and nothing is carried from one call to the next.

    Args:
        image_size: Height and width of the result, as one number or ``(height, width)``.
        augment: ``"none"``, one name, or several of :data:`AUGMENTATIONS`. A flip, or transpose, happens to half
            the pairs; ``rotate90`` turns by 0, 90, 180 or 270 degrees; ``jitter`` is pix2pix's enlargement by
            286/256 and random crop; ``brightness`` changes brightness and contrast of half the pairs, in both
            images alike and in label maps not at all.
        input_kind: ``"image"`` or ``"labels"``.
        target_kind: Likewise.

    Attributes:
        names: The augmentations in use. An audit should not count on neighbours made by one of them.

    Raises:
        ValueError: If a name is unknown, a size is below 1, or a non-square size meets transpose or rotate90.
    """

    def __init__(
        self,
        image_size: Size,
        augment: str | Sequence[str] = "none",
        *,
        input_kind: Kind = "image",
        target_kind: Kind = "image",
    ) -> None:
        self.size = height, width = parse_size(image_size)
        self.names = parse_augment(augment, self.size)
        self.input_kind, self.target_kind = input_kind, target_kind
        self._first_size = (_enlarge(height), _enlarge(width)) if "jitter" in self.names else self.size
        self._compose = A.Compose(
            [_AUGMENTATIONS[name](height, width) for name in self.names],
            additional_targets={
                "input": "image" if input_kind == "image" else "mask",
                "target": "image" if target_kind == "image" else "mask",
            },
        )

    def __call__(self, input: Array, target: Array) -> tuple[Array, Array]:
        """Transform one pair of images (H, W, C), uint8, or label maps (H, W), int32, to the final height and width.

        Raises:
            ValueError: If the aspect ratios differ; sizes may.
        """
        require_one_aspect(input.shape[:2], target.shape[:2])
        input = resize(input, self._first_size, self.input_kind)
        target = resize(target, self._first_size, self.target_kind)
        if not self.names:
            return input, target
        seed = int(torch.randint(2**31 - 1, ()))
        # Not `set_random_seed`: it gives every step the same stream, and flips would always come together.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311 no secret
        # albumentations insists on an "image"; an empty canvas lets a pair of label maps through.
        canvas = np.zeros((*self._first_size, 1), dtype=np.uint8)
        result = self._compose(image=canvas, input=input, target=target)
        return result["input"], result["target"]


def resize(array: Array, size: tuple[int, int], kind: Kind) -> Array:
    """Resize an image (H, W, C) by area or bilinearly, or a label map (H, W) by the nearest pixel centre."""
    height, width = size
    if array.shape[:2] == size:
        return array
    if array.ndim == 3 and array.shape[2] > _CHANNELS_AT_ONCE:
        starts = range(0, array.shape[2], _CHANNELS_AT_ONCE)
        return np.concatenate([resize(array[..., s : s + _CHANNELS_AT_ONCE], size, kind) for s in starts], axis=2)
    if kind == "labels":
        return np.asarray(cv2.resize(array, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
    # Shrink first, with averaging, and enlarge afterwards: OpenCV averages only if both sides shrink.
    smaller = (min(width, array.shape[1]), min(height, array.shape[0]))
    array = np.ascontiguousarray(array)
    shrunk = cv2.resize(array, smaller, interpolation=cv2.INTER_AREA)
    resized = cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized).reshape(height, width, array.shape[2])  # OpenCV drops a lone channel


def parse_size(image_size: Size) -> tuple[int, int]:
    """Return height and width; a ValueError if they are not one or two positive numbers.

    Example:
        >>> parse_size(64), parse_size((48, 64))
        ((64, 64), (48, 64))
    """
    sizes = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(sizes) != 2 or min(sizes) < 1:
        raise ValueError(f"expected image_size to be a positive number or (height, width) but got {image_size!r}")
    return int(sizes[0]), int(sizes[1])


def parse_augment(augment: str | Sequence[str], size: tuple[int, int]) -> tuple[str, ...]:
    """Return the names of the augmentations in their order of application; a ValueError for an unknown name, or size.

    Example:
        >>> parse_augment(["hflip", "jitter"], (64, 64)), parse_augment("none", (64, 64))
        (('jitter', 'hflip'), ())
    """
    names = ({augment} if isinstance(augment, str) else set(augment)) - {"none"}
    if unknown := names - set(AUGMENTATIONS):
        raise ValueError(f"unknown augmentation(s) {sorted(unknown)}: valid names are 'none' or {list(AUGMENTATIONS)}")
    if size[0] != size[1] and (turning := names.intersection(_SQUARE_ONLY)):
        raise ValueError(f"{sorted(turning)} swap height and width: they need a square image_size but got {size}")
    return tuple(name for name in AUGMENTATIONS if name in names)


def _enlarge(length: int) -> int:
    # At least one pixel more, or the crop of a very small image would never move.
    return max(round(length * JITTER_SCALE), length + 1)


def require_one_aspect(input_size: tuple[int, ...], target_size: tuple[int, ...]) -> None:
    """Raise a ValueError unless the sizes (height, width) of an input and its target have one aspect ratio."""
    (height, width), (target_height, target_width) = input_size, target_size
    if not same_aspect((height, width), (target_height, target_width)):
        raise ValueError(
            f"input is {width}x{height} pixels and target {target_width}x{target_height}: expected the same "
            "aspect ratio, as both show the same scene. Check that the files belong together."
        )


def same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two sizes (height, width) have one aspect ratio, up to 2 % or a pixel of rounding a side.

    Example:
        >>> same_aspect((100, 200), (51, 100)), same_aspect((100, 200), (100, 100))
        (True, False)
    """
    ratio = (first[1] * second[0]) / (first[0] * second[1])
    return abs(ratio - 1.0) <= max(0.02, 1.5 / min(*first, *second))
