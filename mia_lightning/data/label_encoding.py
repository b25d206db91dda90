"""Label maps: reads class ids from image files and encodes them as channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mia_lightning.data.images import UInt8Array, open_image
from mia_lightning.functional.labels import voc_palette

LabelArray = npt.NDArray[np.int32]
Palette = Sequence[Sequence[int]]

VOID = 255
"""Id of ignored pixels in an input label map: black in a palette, all zeros in one-hot."""


def is_label_map(path: Path) -> bool:
    """Say whether a file holds palette indices, which distinguishes label maps from photographs."""
    return open_image(path).mode == "P"


def read_labels(path: Path, palette: Palette | None = None) -> LabelArray:
    """Read a label map without losing the class ids.

    Args:
        path: A palette image (its indices are the ids, its colours do not matter) or a single-channel one.
        palette: RGB colours, the k-th being that of class k: needed for, and only used with, coloured files.

    Returns:
        Array (H, W) of ids, int32.

    Raises:
        OSError: If the file is missing, no image, or truncated.
        ValueError: If a coloured file comes without a palette or has a colour outside it.
    """
    image = open_image(path)
    if image.mode == "P" or len(image.getbands()) == 1:
        values = np.asarray(image)
        if np.issubdtype(values.dtype, np.floating):
            raise ValueError(f"{path} holds floating-point values: expected class ids. Save it as an 8-bit PNG.")
        return values.astype(np.int32)
    if image.mode == "LA":  # grey with an alpha channel, which says nothing about classes
        return np.asarray(image)[..., 0].astype(np.int32)
    colours = np.asarray(image.convert("RGB"))
    if palette is not None:
        return _match_colours(colours, np.asarray(palette, dtype=np.int32), path)
    if (colours == colours[..., :1]).all():  # single-channel in all but name
        return colours[..., 0].astype(np.int32)
    raise ValueError(
        f"{path} is a coloured image (mode {image.mode}), which has no class ids: expected a palette PNG or "
        "a single-channel image whose values are the ids. Convert it, or pass a palette: one RGB colour per class."
    )


def read_palette(path: Path) -> UInt8Array:
    """Return the colours (256, 3) of a file's own palette, black beyond its end; those of Pascal VOC if it has none."""
    own = open_image(path).getpalette("RGB")
    if not own:
        return voc_palette(256).numpy()
    table = np.asarray(own, dtype=np.uint8).reshape(-1, 3)
    return np.concatenate([table, np.zeros((256 - len(table), 3), dtype=np.uint8)])


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


def _match_colours(colours: UInt8Array, palette: npt.NDArray[np.int32], path: Path) -> LabelArray:
    """Replace each colour by its index in the palette."""
    weights = np.array([65536, 256, 1], dtype=np.int32)
    codes = colours.astype(np.int32) @ weights
    entries = palette @ weights
    order = np.argsort(entries)
    slots = order[np.searchsorted(entries, codes, sorter=order).clip(max=len(entries) - 1)]
    if (strange := entries[slots] != codes).any():
        examples = np.unique(colours[strange], axis=0)[:5].tolist()
        raise ValueError(
            f"{path} has colours outside the palette, such as {examples}: expected only its "
            f"{len(entries)} colours. Add them (a last colour may be the ignore_index), and keep masks free of JPEG "
            "compression and anti-aliasing."
        )
    return np.asarray(slots, dtype=np.int32)
