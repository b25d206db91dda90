"""What one pair of a data set looks like: sizes, modes, content and perceptual hash, pixels of each class."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.image_headers import read_header
from mia_lightning.data.images import load_image, load_pages, wide_pixels
from mia_lightning.data.label_pixels import LabelArray
from mia_lightning.data.records import Record
from mia_lightning.functional.look_alikes import SIDE

Labels = Callable[[Record], LabelArray | None]


@dataclass(frozen=True)
class Look:
    """What a pair looks like.

    Args:
        id: Of the pair.
        errors: Why files cannot be read, by file.
        sizes: Width and height of input and target.
        modes: Colour modes of input and target, with the depth where it is not 8 bits.
        digest: Of the pixels of the pictures; b"" where there are none.
        thumbnail: (32, 32, 3), uint8.
        blank: Whether all pixels of a picture have one colour.
        pixels: Number of pixels of each id in the label map.
    """

    id: str
    errors: dict[Path, str] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()
    modes: tuple[str, ...] = ()
    digest: bytes = b""
    thumbnail: npt.NDArray[np.uint8] | None = None
    blank: bool = False
    pixels: dict[int, int] = field(default_factory=dict)


def look_at(record: Record, pictures: tuple[Path, ...], labels: Labels, exif: Exif = "pair") -> Look:
    """Read a pair whole, and note what it looks like.

    Args:
        record: The pair.
        pictures: Those of its files that are pictures; copies are looked for among these.
        labels: Gives the ids of its label map, None where it has none; a ValueError is for others to tell.
        exif: How EXIF turns are read.
    """
    errors: dict[Path, str] = {}
    arrays: list[npt.NDArray[np.uint8]] = []
    digest = hashlib.blake2b(digest_size=16)
    for path in dict.fromkeys((record.input_path, *record.target_paths)):
        try:
            pixels = _pixels(path, exif)
        except (OSError, ValueError, SyntaxError) as error:
            errors[path] = str(error)
            continue
        if path in pictures:
            digest.update(repr(pixels.shape).encode() + pixels.tobytes())
            arrays.append(_eight_bits(pixels))
    if errors:
        return Look(record.id, errors)
    headers = [read_header(path) for path in (record.input_path, record.target_path)]
    heights = [header.size(exif) for header in headers]
    thumbnails = [np.asarray(_thumbnail(array)) for array in arrays]
    try:
        ids = labels(record)
    except ValueError:
        ids = None
    return Look(
        record.id,
        sizes=tuple((width, height) for height, width in heights),
        modes=tuple(h.mode if h.depth == "uint8" else f"{h.mode} ({h.depth})" for h in headers),
        digest=digest.digest() if arrays else b"",
        thumbnail=_joined(thumbnails),
        blank=any(bool((array == array[:1, :1]).all()) for array in arrays),
        pixels=_counted(ids),
    )


def thumbnail_of(path: Path, exif: Exif, size: int) -> Image.Image:
    """Read a picture as RGB with a longer side of `size` pixels, whatever its depth."""
    picture = Image.fromarray(_eight_bits(_pixels(path, exif)))
    picture.thumbnail((size, size), Image.Resampling.BOX)
    return picture


def _pixels(path: Path, exif: Exif) -> npt.NDArray[np.generic]:
    """All pixels of a file: of one page as stored, of several pages the first."""
    header = read_header(path)
    if header.pages > 1:
        return load_pages(path, exif)[0][0]
    if header.wide_colour:
        return wide_pixels(path, header, exif)
    image = load_image(path, exif)[0]
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB") if image.mode == "P" else image)


def _eight_bits(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Pixels (H, W, 3), uint8, scaled by their own range where they have more than 8 bits."""
    values = np.asarray(pixels)
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    if values.dtype != np.uint8:
        floats = np.nan_to_num(values.astype(np.float64))
        low, high = floats.min(), floats.max()
        values = np.rint((floats - low) * (255.0 / (high - low or 1.0))).astype(np.uint8)
    values = values[..., None] if values.ndim == 2 else values
    return np.ascontiguousarray(values[..., :3] if values.shape[-1] >= 3 else values[..., :1].repeat(3, axis=-1))


def _thumbnail(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)


def _joined(thumbnails: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8] | None:
    """One thumbnail of the pictures of a pair: of two, one above the other, so that both have to look alike."""
    if len(thumbnails) < 2:
        return thumbnails[0] if thumbnails else None
    return np.asarray(Image.fromarray(np.concatenate(thumbnails)).resize((SIDE, SIDE), Image.Resampling.BOX))


def _counted(ids: LabelArray | None) -> dict[int, int]:
    if ids is None:
        return {}
    values, counts = np.unique(ids, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
