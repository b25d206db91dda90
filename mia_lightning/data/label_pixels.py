"""The pixels of a label map as its file holds them, and the class ids that they stand for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.images import load_image

LabelArray = npt.NDArray[np.int32]
Palette = Sequence[Sequence[int]]

_WEIGHTS = np.array([65536, 256, 1], dtype=np.int32)  # that make one number of a colour
_ALPHA = 3
_OPAQUE = 255


@dataclass(frozen=True)
class LabelPixels:
    """Pixels of a file, or the distinct ones among them: rules for label maps look at each value by itself.

    Args:
        mode: The colour mode as Pillow names it.
        values: Indices (H, W) of a palette, integers (H, W) of one channel, or colours (H, W, 3 or 4), the last being
            alpha.
        colours: Of a palette, (n, 3 or 4), uint8; None without one.
    """

    mode: str
    values: npt.NDArray[Any]
    colours: npt.NDArray[np.uint8] | None = None

    @property
    def used_colours(self) -> dict[int, tuple[int, ...]]:
        """The colour of each index of the palette that occurs; nothing without a palette."""
        if self.colours is None:
            return {}
        return {int(i): tuple(self.colours[i, :3].tolist()) for i in np.unique(self.values)}

    def distinct(self) -> "LabelPixels":
        """Return each distinct value once, as a row."""
        if self.values.ndim == 3:
            codes = np.zeros(self.values.shape[:2], dtype=np.int64)
            for channel in range(self.values.shape[2]):
                codes = codes * 256 + self.values[..., channel]
            _, first = np.unique(codes, return_index=True)
            return LabelPixels(self.mode, self.values.reshape(-1, self.values.shape[2])[first][None])
        if self.values.dtype == np.uint8:
            row = np.flatnonzero(np.bincount(self.values.reshape(-1), minlength=1)).astype(np.uint8)
        else:
            row = np.unique(self.values)
        return LabelPixels(self.mode, row[None], self.colours)


def read_label_pixels(path: Path, exif: Exif = "pair") -> LabelPixels:
    """Read the pixels of a label map.

    Raises:
        OSError: If the file is missing, no image, or truncated.
        ValueError: If it holds several pages, or samples that are no ids.
    """
    image, header = load_image(path, exif)
    if header.wide_colour or header.depth == "int8" or header.depth.startswith("float"):
        raise ValueError(
            f"{path} holds {_NAMES.get(header.depth, f'{header.depth} colours')}: expected class ids. "
            "Save it as an 8-bit PNG."
        )
    return label_pixels(image)


def label_pixels(image: Image.Image) -> LabelPixels:
    """Return the pixels of a decoded image."""
    if image.mode == "P":
        form = "RGBA" if "transparency" in image.info else "RGB"
        indices = np.asarray(image)
        if form == "RGBA":
            image = image.copy()
            image.apply_transparency()
        colours = np.asarray(image.getpalette(form) or [], dtype=np.uint8).reshape(-1, len(form))
        missing = max(int(indices.max(initial=0)) + 1 - len(colours), 0)
        padding = np.zeros((missing, len(form)), dtype=np.uint8)
        padding[:, 3:] = _OPAQUE
        return LabelPixels("P", indices, np.concatenate([colours, padding]))
    if len(image.getbands()) == 1:
        values = np.asarray(image)
        return LabelPixels(image.mode, values.astype(np.uint8) if values.dtype == bool else values)
    form = "RGBA" if image.has_transparency_data else "RGB"
    return LabelPixels(image.mode, np.asarray(image.convert(form)))


def labels_of(
    pixels: LabelPixels, path: Path, palette: Palette | None = None, foreground: int | None = None
) -> LabelArray:
    """Return the ids that pixels stand for.

    With a palette, colours decide: those of a coloured file, of a file's own palette, or the grey of one channel.
    Without one, the indices of a palette image are the ids, or the values of one channel. Where a palette image holds
    greys and one of them is the `foreground`, the greys are the values: painting programs write 0 and 255 as a palette
    in either order.

    Args:
        pixels: Of a file.
        path: The file, for messages.
        palette: RGB colours, the k-th being that of class k.
        foreground: The value that marks the foreground, if there is one.

    Returns:
        Ids (H, W), int32; the foreground is not replaced.

    Raises:
        ValueError: If a coloured file comes without a palette or has a colour outside it, or alpha carries the mask.
    """
    table = None if palette is None else np.asarray(palette, dtype=np.int32)
    if pixels.colours is not None:
        return _of_palette_image(pixels, path, table, foreground)
    if pixels.values.ndim == 2:
        return pixels.values.astype(np.int32) if table is None else _of_one_channel(pixels, path, table)
    _require_plain_alpha(pixels, path)
    colours = pixels.values[..., :3]
    if pixels.mode == "LA" and table is not None:
        return _of_one_channel(LabelPixels("L", colours[..., 0]), path, table)
    if table is not None:
        return _match_colours(colours, table, path)
    if (colours == colours[..., :1]).all():  # single-channel in all but name
        return colours[..., 0].astype(np.int32)
    raise ValueError(
        f"{path} is a coloured image (mode {pixels.mode}), which has no class ids: expected a palette PNG or "
        "a single-channel image whose values are the ids. Convert it, or pass a palette: one RGB colour per class."
    )


def _of_palette_image(
    pixels: LabelPixels, path: Path, table: npt.NDArray[np.int32] | None, foreground: int | None
) -> LabelArray:
    assert pixels.colours is not None
    indices = pixels.values.astype(np.int32)
    if table is not None:
        own = LabelPixels("RGBA", pixels.colours[indices])
        _require_plain_alpha(own, path)
        return _match_colours(own.values[..., :3], table, path)
    if follows_greys(pixels, foreground):
        return np.asarray(pixels.colours[indices, 0], dtype=np.int32)
    return indices


def intensity_of(pixels: LabelPixels) -> npt.NDArray[np.int64]:
    """Return how bright pixels are, (H, W): their values, the mean of their colours, or the greys of a palette.

    Indices of a palette that has other colours than greys are numbers of objects, and are returned as they are.
    """
    if pixels.colours is not None:
        if all(len(set(colour)) == 1 for colour in pixels.used_colours.values()):
            return np.asarray(pixels.colours[pixels.values, 0], dtype=np.int64)
        return np.asarray(pixels.values, dtype=np.int64)
    values = np.asarray(pixels.values, dtype=np.int64)
    if pixels.mode == "1":
        return values * _OPAQUE
    return values if values.ndim == 2 else np.asarray(np.rint(values[..., :3].mean(axis=-1)), dtype=np.int64)


def mapped_ids(ids: LabelArray, label_map: Mapping[int, int]) -> LabelArray:
    """Replace ids as files have them by those of classes.

    Raises:
        ValueError: If an id has no replacement; names it and those that have.

    Example:
        >>> mapped_ids(np.array([[7, 8]], dtype=np.int32), {7: 0, 8: 1}).tolist()
        [[0, 1]]
    """
    result = np.empty_like(ids)
    found = np.unique(ids).tolist()
    if unknown := [id for id in found if id not in label_map]:
        known = sorted(label_map)
        shown = f"{known[0]} to {known[-1]}" if len(known) == known[-1] - known[0] + 1 else f"{known}"
        raise ValueError(
            f"ids {unknown[:10]} are not in label_map, which has {shown} (ids found: {found[:10]}): add them to "
            "label_map, or correct the file"
        )
    for id in found:
        result[ids == id] = label_map[id]
    return result


def follows_greys(pixels: LabelPixels, foreground: int | None) -> bool:
    """Whether a palette's greys are the values, and not its indices: the foreground is one, and no two are alike."""
    if pixels.colours is None or foreground is None or not (pixels.colours[:, :3] == foreground).all(axis=1).any():
        return False
    used = list(pixels.used_colours.values())
    return all(len(set(colour)) == 1 for colour in used) and len(set(used)) == len(used)


def _of_one_channel(pixels: LabelPixels, path: Path, table: npt.NDArray[np.int32]) -> LabelArray:
    """Ids of one channel beside a palette: its values are ids, or the greys of colours, as optimisers of PNG write."""
    ids = pixels.values.astype(np.int32)
    greys = ids * _OPAQUE if pixels.mode == "1" else ids
    known = {int(colour[0]) for colour in table.tolist() if len(set(colour)) == 1}
    if not set(np.unique(greys).tolist()) <= known:
        return ids
    colours = _match_colours(np.repeat(greys[..., None], 3, axis=-1), table, path)
    if ids.max(initial=0) < len(table) and not np.array_equal(ids, colours):
        raise ValueError(
            f"{path} is grey, and its values {np.unique(ids).tolist()} may be ids or colours of the palette, which "
            "would be other classes: save it as RGB if they are colours, or drop palette where files hold ids"
        )
    return colours


def _require_plain_alpha(pixels: LabelPixels, path: Path) -> None:
    """Raise where transparency tells what the colours do not."""
    if pixels.values.shape[2] <= _ALPHA:
        return
    alpha = pixels.values[..., _ALPHA]
    if alpha.min(initial=_OPAQUE) == alpha.max(initial=0):
        return
    codes = pixels.values[..., :3].astype(np.int32) @ _WEIGHTS
    transparent, opaque = np.unique(codes[alpha < _OPAQUE]), np.unique(codes[alpha == _OPAQUE])
    if len(np.union1d(transparent, opaque)) == 1 or len(np.intersect1d(transparent, opaque)):
        raise ValueError(
            f"{path} keeps its mask in the alpha channel: pixels of one colour are transparent here and opaque there. "
            "Expected ids or colours that tell the classes: save the alpha channel as a mask of its own "
            "(image.getchannel('A') in Pillow, then foreground=255), or lay it over black."
        )


def _match_colours(colours: npt.NDArray[Any], palette: npt.NDArray[np.int32], path: Path) -> LabelArray:
    """Replace each colour by its index in the palette."""
    codes = colours.astype(np.int32) @ _WEIGHTS
    entries = palette @ _WEIGHTS
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


_NAMES = {"float32": "floating-point values", "float64": "floating-point values", "int8": "signed 8-bit values"}
