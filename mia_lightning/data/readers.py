"""Reads pairs: from two files, from one side-by-side file or from memory; and masks, whose ids are checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.images import USUAL, ImageMode, Pages, ReadingRules, read_image, read_pages, read_side_by_side
from mia_lightning.data.label_encoding import require_ids
from mia_lightning.data.label_pixels import (
    LabelArray,
    LabelPixels,
    Palette,
    intensity_of,
    labels_of,
    mapped_ids,
    read_label_pixels,
)
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
class ObjectsReader:
    """Read a pair whose mask lies in several files, one an object: each pixel has the highest id of these."""

    read_input: Callable[..., Array]
    read_object: Callable[..., Array]

    def __call__(self, record: Record) -> tuple[Array, Array]:
        """Return image and merged mask of a record; errors as of :func:`merged_mask`."""
        return self.read_input(record.input_path), merged_mask(record, self.read_object)


def merged_mask(record: Record, read_object: Callable[..., Array]) -> Array:
    """Return the mask of a record, (H, W): the highest id of its files at each pixel; a ValueError if sizes differ."""
    merged: Array | None = None
    for path in record.target_paths:
        mask = read_object(path)
        if merged is not None and mask.shape != merged.shape:
            raise ValueError(
                f"{path} has {mask.shape[1]}x{mask.shape[0]} pixels, and {record.target_path} "
                f"{merged.shape[1]}x{merged.shape[0]}: masks of one image have one size"
            )
        merged = mask if merged is None else np.maximum(merged, mask)
    assert merged is not None
    return merged


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
        label_map: Id of the class, or of ignored pixels, for each id that files hold; None where they hold the former.
        threshold: Values from here on become 1, all others 0: for soft edges, JPEG, and numbers of objects. Of colours
            their mean counts.

    Raises:
        ValueError: If there is no class, `foreground` is the id of another one, or `threshold` meets more than two
            classes or another setting of that kind.
    """

    num_classes: int
    ignore_index: int = 255
    foreground: int | None = None
    palette: Palette | None = None
    exif: Exif = "pair"
    label_map: Mapping[int, int] | None = None
    threshold: int | None = None

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"expected num_classes to be at least 1 but got {self.num_classes}")
        others = ("foreground", "palette", "label_map")
        if self.threshold is not None and (both := [name for name in others if getattr(self, name) is not None]):
            raise ValueError(f"threshold says what the foreground is, and so does {both[0]}: leave one of them out")
        if self.threshold is not None and self.num_classes > 2:
            raise ValueError(f"threshold makes two classes of all values, but num_classes is {self.num_classes}")
        allowed = (*self.class_ids, self.ignore_index)
        if wrong := sorted({id for id in (self.label_map or {}).values() if id not in allowed}):
            raise ValueError(
                f"label_map leads to {wrong}, which are no classes of num_classes={self.num_classes} and not "
                f"ignore_index={self.ignore_index}: correct it, or raise num_classes"
            )
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
        if self.threshold is not None:
            return (intensity_of(pixels) >= self.threshold).astype(np.int32)
        mask = labels_of(pixels, path, self.palette, self.foreground)
        if self.label_map is not None:
            try:
                return mapped_ids(mask, self.label_map)
            except ValueError as error:
                raise ValueError(f"mask {path}: {error}") from error
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
