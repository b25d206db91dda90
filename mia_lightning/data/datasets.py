"""Map-style datasets: the dictionaries that models, loaders and the audit receive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mia_lightning.data.images import ImageMode, read_image, read_side_by_side
from mia_lightning.data.label_encoding import LabelArray, Palette, encode_image, read_labels, require_ids
from mia_lightning.data.records import Record
from mia_lightning.data.transforms import Array, PairedTransform

Item = dict[str, Tensor | str]
Read = Callable[[Record], tuple[Array, Array]]
Encode = Callable[[Any], Tensor]


class TranslationDataset(Dataset[Item]):
    """Pairs for image translation: ``{"input": (C, H, W), "target": (C, H, W), "id": str}``, floats in [0, 1].

    Args:
        records: The pairs, in order.
        read: Gives the input and target arrays of a record. Like the other callables it must be picklable, as
            loader workers receive a copy.
        transform: Resizes, and augments where it is for training.
        encode_input: Turns the transformed input into channels.
        encode_target: Likewise for the target.

    Items raise ``OSError`` for a file that cannot be read, ``ValueError`` for content that does not fit; both name
    the file.
    """

    def __init__(
        self,
        records: Sequence[Record],
        read: Read,
        transform: PairedTransform,
        encode_input: Encode = encode_image,
        encode_target: Encode = encode_image,
    ) -> None:
        self.records = tuple(records)
        self.read = read
        self.transform = transform
        self.encode_input = encode_input
        self.encode_target = encode_target

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Item:
        record = self.records[index]
        input, target = self.read(record)
        try:
            input, target = self.transform(input, target)
            return {"input": self.encode_input(input), "target": self.encode_target(target), "id": record.id}
        except ValueError as error:
            raise ValueError(f"{_describe(record)}: {error}") from error


class SegmentationDataset(Dataset[Item]):
    """Pairs for segmentation: ``{"image": float (C, H, W) in [0, 1], "mask": long (H, W), "id": str}``.

    Args:
        records: The pairs, in order.
        read: Gives the image and mask arrays of a record; picklable.
        transform: Resizes, and augments where it is for training.

    Items raise as those of :class:`TranslationDataset`.
    """

    def __init__(self, records: Sequence[Record], read: Read, transform: PairedTransform) -> None:
        self.records = tuple(records)
        self.read = read
        self.transform = transform

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Item:
        record = self.records[index]
        image, mask = self.read(record)
        try:
            image, mask = self.transform(image, mask)
        except ValueError as error:
            raise ValueError(f"{_describe(record)}: {error}") from error
        labels = torch.from_numpy(np.ascontiguousarray(mask)).long()
        return {"image": encode_image(image), "mask": labels, "id": record.id}


@dataclass(frozen=True)
class FolderReader:
    """Read a pair of two files.

    Args:
        read_input: Gives the array of an input file.
        read_target: Gives the array of a target file.
    """

    read_input: Callable[..., Array] = read_image
    read_target: Callable[..., Array] = read_image

    def __call__(self, record: Record) -> tuple[Array, Array]:
        """Return input and target of a record."""
        return self.read_input(record.input_path), self.read_target(record.target_path)


@dataclass(frozen=True)
class SideBySideReader:
    """Read a pair of one AB file.

    Args:
        input_mode: ``"RGB"`` or ``"L"``.
        target_mode: Likewise.
        swap: Take B, the right half, as input.
    """

    input_mode: ImageMode = "RGB"
    target_mode: ImageMode = "RGB"
    swap: bool = False

    def __call__(self, record: Record) -> tuple[Array, Array]:
        """Return input and target of a record."""
        if self.swap:
            target, input = read_side_by_side(record.input_path, (self.target_mode, self.input_mode))
        else:
            input, target = read_side_by_side(record.input_path, (self.input_mode, self.target_mode))
        return input, target


@dataclass(frozen=True)
class ArrayReader:
    """Look a pair up among arrays in memory.

    Args:
        pairs: Input and target by record id.
    """

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
        try:
            require_ids(mask, [*self.class_ids, self.ignore_index], self._advice(path))
        except ValueError as error:
            raise ValueError(f"mask {path}: {error}") from error
        return mask

    def _advice(self, path: Any) -> str:
        if str(path).lower().endswith((".jpg", ".jpeg")):
            return "JPEG compression alters ids, save masks as PNG"
        if self.num_classes == 1:
            return "pass foreground=VALUE if another value than 1 marks the foreground, or correct the mask"
        return "raise num_classes, set ignore_index to the id of ignored pixels, or correct the mask"


def image_reader(channels: int) -> Callable[..., Array]:
    """Return a picklable reader of images with 1 or 3 channels."""
    return partial(read_image, mode=image_mode(channels))


def image_mode(channels: int) -> ImageMode:
    """Translate a number of channels into an image mode.

    Raises:
        ValueError: If it is neither 1 nor 3.
    """
    if channels not in (1, 3):
        raise ValueError(f"expected 1 (grey) or 3 (RGB) image channels but got {channels}")
    return "L" if channels == 1 else "RGB"


def _describe(record: Record) -> str:
    if record.input_path == record.target_path:
        return f"sample {record.id!r} ({record.input_path})"
    return f"sample {record.id!r} ({record.input_path} and {record.target_path})"
