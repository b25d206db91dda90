"""Reads pairs: from two files, from one side-by-side file or from memory; and masks, whose ids are checked."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mia_lightning.data.images import ImageMode, read_image, read_side_by_side
from mia_lightning.data.label_encoding import LabelArray, Palette, read_labels, require_ids
from mia_lightning.data.records import Record
from mia_lightning.data.transforms import Array

Read = Callable[[Record], tuple[Array, Array]]
"""Gives the input and target arrays of a record; picklable, as loader workers receive a copy."""


@dataclass(frozen=True)
class FolderReader:
    """Read a pair of two files, each with a function that gives the array of a file."""

    read_input: Callable[..., Array] = read_image
    read_target: Callable[..., Array] = read_image

    def __call__(self, record: Record) -> tuple[Array, Array]:
        """Return input and target of a record."""
        return self.read_input(record.input_path), self.read_target(record.target_path)


@dataclass(frozen=True)
class SideBySideReader:
    """Read a pair of one AB file, in the modes ``"RGB"`` or ``"L"``; with `swap` B, the right half, is the input."""

    input_mode: ImageMode = "RGB"
    target_mode: ImageMode = "RGB"
    swap: bool = False

    def __call__(self, record: Record) -> tuple[Array, Array]:
        """Return input and target of a record."""
        if not self.swap:
            return read_side_by_side(record.input_path, (self.input_mode, self.target_mode))
        target, input = read_side_by_side(record.input_path, (self.target_mode, self.input_mode))
        return input, target


@dataclass(frozen=True)
class ArrayReader:
    """Look a pair up among arrays in memory: input and target by record id."""

    pairs: dict[str, tuple[Array, Array]]

    def __call__(self, record: Record) -> tuple[Array, Array]:
        """Return input and target of a record."""
        return self.pairs[record.id]


@dataclass(frozen=True)
class MaskReader:
    """Read a mask file and insist that its ids are classes.

    Args:
        num_classes: Number of classes; 1 means a binary mask of zeros and ones.
        ignore_index: Id of the pixels that belong to no class; kept as it is.
        foreground: With one class, the value that marks the foreground and becomes 1. It goes before
            `ignore_index`, should both be 255.
        palette: RGB colours of the classes, for coloured masks.

    Raises:
        ValueError: If there is no class, or `foreground` is given for more than one.
    """

    num_classes: int
    ignore_index: int = 255
    foreground: int | None = None
    palette: Palette | None = None

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"expected num_classes to be at least 1 but got {self.num_classes}")
        if self.foreground is not None and self.num_classes != 1:
            raise ValueError(f"foreground is for binary masks (num_classes=1) but num_classes is {self.num_classes}")

    @property
    def class_ids(self) -> range:
        """Ids that a mask may hold beside `ignore_index`."""
        return range(max(self.num_classes, 2))

    def __call__(self, path: Any) -> LabelArray:
        """Return the mask (H, W), int32, of a file.

        Raises:
            OSError: If the file is missing, no image, or truncated.
            ValueError: If it holds an unknown id; names the file, the ids, the expected ones and what to do.
        """
        mask = read_labels(path, self.palette)
        if self.foreground is not None:
            mask = np.where(mask == self.foreground, np.int32(1), mask)
        advice = "raise num_classes, set ignore_index to the id of ignored pixels, or correct the mask"
        if str(path).lower().endswith((".jpg", ".jpeg")):
            advice = "JPEG compression alters ids, save masks as PNG"
        elif self.num_classes == 1:
            advice = "pass foreground=VALUE if another value than 1 marks the foreground, or correct the mask"
        try:
            require_ids(mask, [*self.class_ids, self.ignore_index], advice)
        except ValueError as error:
            raise ValueError(f"mask {path}: {error}") from error
        return mask


def image_reader(channels: int) -> Callable[..., Array]:
    """Return a picklable reader of images with 1 or 3 channels."""
    return partial(read_image, mode=image_mode(channels))


def image_mode(channels: int) -> ImageMode:
    """Translate a number of channels, 1 or 3, else a ValueError, into an image mode."""
    if channels not in (1, 3):
        raise ValueError(f"expected 1 (grey) or 3 (RGB) image channels but got {channels}")
    return "L" if channels == 1 else "RGB"
