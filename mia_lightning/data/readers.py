"""Reads pairs: from two files, from one side-by-side file or from memory; and masks, whose ids are checked."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.images import USUAL, ImageMode, Pages, ReadingRules, read_image, read_pages, read_side_by_side
from mia_lightning.data.label_encoding import require_ids
from mia_lightning.data.label_pixels import LabelArray, LabelPixels, Palette, labels_of, read_label_pixels
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
    rules: ReadingRules = USUAL

    def __call__(self, record: Record) -> tuple[Array, Array]:
        """Return input and target of a record."""
        if not self.swap:
            return read_side_by_side(record.input_path, (self.input_mode, self.target_mode), self.rules)
        target, input = read_side_by_side(record.input_path, (self.target_mode, self.input_mode), self.rules)
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
        foreground: The value that marks the foreground and becomes 1, for one class, two or more. It goes before
            `ignore_index`, should both be 255.
        palette: RGB colours of the classes, for coloured masks and for the colours of each file's own palette.
        exif: How EXIF turns are read.

    Raises:
        ValueError: If there is no class, or `foreground` is the id of another one.
    """

    num_classes: int
    ignore_index: int = 255
    foreground: int | None = None
    palette: Palette | None = None
    exif: Exif = "pair"

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"expected num_classes to be at least 1 but got {self.num_classes}")
        if self.foreground is not None and self.foreground != 1 and self.foreground in self.class_ids:
            raise ValueError(
                f"foreground={self.foreground} is the id of a class itself: expected the value that stands for class 1 "
                f"in the masks, such as 255, and none of {list(self.class_ids)} but 1"
            )

    @property
    def class_ids(self) -> range:
        """Ids that a mask may hold beside `ignore_index`."""
        return range(max(self.num_classes, 2))

    def __call__(self, path: Path) -> LabelArray:
        """Return the mask (H, W), int32, of a file.

        Raises:
            OSError: If the file is missing, no image, or truncated.
            ValueError: If it holds an unknown id; names the file, the ids, the expected ones and what to do.
        """
        return self.labels(read_label_pixels(path, self.exif), path)

    def labels(self, pixels: LabelPixels, path: Path) -> LabelArray:
        """Return the ids of pixels, or of the distinct ones among them; errors as of a call."""
        mask = labels_of(pixels, path, self.palette, self.foreground)
        ids = set(np.unique(mask).tolist())
        if self.foreground not in (None, 1) and self.foreground in ids:
            if 1 in ids:
                raise ValueError(
                    f"mask {path}: holds both 1 and foreground={self.foreground}, which becomes 1 itself: leave "
                    "foreground out if only 1 marks the foreground, or correct the mask"
                )
            mask = np.where(mask == self.foreground, np.int32(1), mask)
        try:
            require_ids(mask, [*self.class_ids, self.ignore_index], self._advice(path, ids))
        except ValueError as error:
            raise ValueError(f"mask {path}: {error}") from error
        return mask

    def _advice(self, path: Path, ids: set[int]) -> str:
        if str(path).lower().endswith((".jpg", ".jpeg")):
            return "JPEG compression alters ids, save masks as PNG"
        if self.num_classes == 1:
            return "pass foreground=VALUE if another value than 1 marks the foreground, or correct the mask"
        advice = "raise num_classes, set ignore_index to the id of ignored pixels, or correct the mask"
        others = ids - {0, self.ignore_index}
        return (
            f"pass foreground={max(others)} if that value marks the foreground, {advice}"
            if len(others) == 1
            else advice
        )


def image_reader(channels: int, rules: ReadingRules = USUAL, pages: int = 1) -> Callable[..., Array]:
    """Return a picklable reader of images with 1 or 3 channels, or with as many channels as a file has pages.

    Raises:
        ValueError: If a file has several pages and `channels` is another number, or one, and it is neither 1 nor 3.
    """
    if pages == 1:
        return partial(read_image, mode=image_mode(channels), rules=rules)
    if pages != channels:
        raise ValueError(
            f"files hold {pages} pages each, to be read as channels, but {channels} image channels are set: set "
            f"{pages} (image_channels, or input_channels and target_channels), and the same in the model"
        )
    return partial(read_pages, channels=channels, rules=rules)


def require_channels(channels: int, pages: Pages) -> None:
    """Refuse a number of image channels that no file has: it is 1 or 3, but where pages are channels."""
    if pages == "single":
        image_mode(channels)
    elif channels < 1:
        raise ValueError(f"expected at least 1 image channel but got {channels}")


def image_mode(channels: int) -> ImageMode:
    """Translate a number of channels, 1 or 3, else a ValueError, into an image mode."""
    if channels not in (1, 3):
        raise ValueError(f"expected 1 (grey) or 3 (RGB) image channels but got {channels}")
    return "L" if channels == 1 else "RGB"
