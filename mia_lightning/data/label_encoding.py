"""Label maps: reads class ids from image files and encodes them as channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.images import UInt8Array
from mia_lightning.data.label_pixels import LabelArray, Palette, labels_of, mapped_ids, read_label_pixels
from mia_lightning.functional.labels import voc_palette

VOID = 255
"""Id of ignored pixels in an input label map: black in a palette, all zeros in one-hot."""


def read_labels(
    path: Path, palette: Palette | None = None, *, foreground: int | None = None, exif: Exif = "pair"
) -> LabelArray:
    """Read a label map without losing the class ids.

    Args:
        path: A palette image (its indices are the ids), a single-channel one, or a coloured one.
        palette: RGB colours, the k-th being that of class k: needed for coloured files; colours of a file's own palette
            are followed, too.
        foreground: Value that marks the foreground, where there is one; see
            :func:`~mia_lightning.data.label_pixels.labels_of`.
        exif: How EXIF turns are read.

    Returns:
        Array (H, W) of ids, int32.

    Raises:
        OSError: If the file is missing, no image, or truncated.
        ValueError: If a coloured file comes without a palette or has a colour outside it, or holds several pages.
    """
    return labels_of(read_label_pixels(path, exif), path, palette, foreground)


def read_colours(path: Path, exif: Exif = "pair") -> UInt8Array:
    """Read a label map as the colours (H, W, 3) of its own palette.

    Raises:
        OSError: If the file is missing, no image, or truncated.
        ValueError: If it has no palette, or several pages.
    """
    pixels = read_label_pixels(path, exif)
    if pixels.colours is None:
        raise ValueError(f"{path} has no palette, as the other files have: store all of them alike")
    return pixels.colours[pixels.values, :3]


@dataclass(frozen=True)
class ClassReader:
    """Read a label map whose ids are replaced by those of classes."""

    label_map: Mapping[int, int]
    exif: Exif = "pair"

    def __call__(self, path: Path) -> LabelArray:
        """Return the ids (H, W), int32, of the classes; errors as of :func:`read_labels`, and for unknown ids."""
        try:
            return mapped_ids(read_labels(path, exif=self.exif), self.label_map)
        except ValueError as error:
            raise ValueError(f"label map {path}: {error}") from error


def class_palette(colours: Palette | None) -> UInt8Array:
    """Return colours for all ids, (256, 3): those of the classes and black, or Pascal VOC's where none are named."""
    if colours is None:
        return voc_palette(256).numpy()
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(colours)] = np.asarray(colours, dtype=np.uint8)
    return table


@dataclass(frozen=True)
class PaletteEncoder:
    """Label map to the colours of a palette, (256, 3), uint8."""

    palette: UInt8Array

    def __call__(self, labels: LabelArray) -> Tensor:
        """Turn ids (H, W) into float (3, H, W) in [0, 1]."""
        require_ids(labels, range(len(self.palette)), "a label map with at most 256 classes is coloured")
        return torch.from_numpy(self.palette[labels]).permute(2, 0, 1).contiguous().float() / 255.0


@dataclass(frozen=True)
class OneHotEncoder:
    """Label map to one channel per class; :data:`VOID` sets none of them."""

    num_classes: int

    def __call__(self, labels: LabelArray) -> Tensor:
        """Turn ids (H, W) into float (num_classes, H, W) of zeros and ones."""
        classes = range(self.num_classes)
        require_ids(labels, [*classes, VOID], "correct the label map or raise num_input_classes")
        return torch.from_numpy(np.stack([labels == k for k in classes])).float()


def encode_image(pixels: UInt8Array) -> Tensor:
    """Turn pixels (H, W, C), uint8, into float (C, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).contiguous().float() / 255.0


def require_ids(labels: LabelArray, allowed: Sequence[int], advice: str) -> None:
    """Raise a ValueError with the unknown ids, the expected ones and the `advice` unless every id is allowed."""
    label_ids = np.unique(labels)
    if unknown := label_ids[~np.isin(label_ids, allowed)].tolist():
        raise ValueError(
            f"unknown class ids {_shorten(unknown)} (ids found: {_shorten(label_ids.tolist())}; "
            f"expected {_ranges(allowed)}): {advice}"
        )


def _ranges(ids: Sequence[int]) -> str:
    """Write ``[0, 1, 2, 255]`` as ``0..2 or 255``."""
    firsts = [id for id in sorted(set(ids)) if id - 1 not in ids]
    lasts = [id for id in sorted(set(ids)) if id + 1 not in ids]
    return " or ".join(str(a) if a == b else f"{a}..{b}" for a, b in zip(firsts, lasts, strict=True))


def _shorten(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:10])) + (f", ... ({len(ids)} in all)" if len(ids) > 10 else "")
