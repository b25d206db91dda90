"""Files that hold stored outputs of a model: how they are stored, what they hold, and whether they fit their target."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.images import USUAL, ReadingRules, load_pages, read_image
from mia_lightning.data.label_encoding import encode_image, read_labels
from mia_lightning.data.label_pixels import LabelArray
from mia_lightning.data.transforms import Array, Kind, resize, same_aspect
from mia_lightning.data.volume_files import is_nifti, nifti_shape

ARRAY_SUFFIXES = frozenset({".npy", ".npz"})
"""Suffixes (lower case) of outputs that are stored as NumPy arrays."""

_LOSSY = (".jpeg", ".jpg", ".webp")
_GREY = ("1", "L", "LA", "I", "I;16", "F")
_SLACK = 0.01  # of ranges and sums: half precision and interpolation overshoot


def read_array(path: Path) -> npt.NDArray[Any]:
    """Read a ``.npy`` file, or a ``.npz`` file with one array, else raise ValueError; nothing is unpickled."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (EOFError, OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: encrypted, or packed otherwise than NumPy does
        raise ValueError(f"{path} cannot be read as an array of plain numbers: {error}") from error
    if len(arrays) != 1:
        raise ValueError(f"{path} holds {len(arrays)} arrays ({', '.join(arrays)}): expected one, the model's output")
    return np.asarray(next(iter(arrays.values())))


def shape_of(path: Path) -> tuple[int, ...]:
    """Size of an output; of images and ``.npy`` files only the headers are read.

    A file that cannot be read raises OSError if it should be an image, ValueError if an array.
    """
    suffix = path.suffix.lower()
    if is_nifti(path):
        return nifti_shape(path)
    if suffix not in ARRAY_SUFFIXES:
        return header_of(path)[0]
    if suffix == ".npz":
        return read_array(path).shape
    try:
        return tuple(np.load(path, mmap_mode="r", allow_pickle=False).shape)
    except (EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an array of plain numbers: {error}") from error


def header_of(path: Path) -> tuple[tuple[int, int], str]:
    """Width and height, and the colour mode as Pillow names it, of an image's header; an OSError if it is none."""
    try:
        with Image.open(path) as image:
            return image.size, image.mode
    except (OSError, ValueError) as error:
        raise OSError(f"{path} cannot be read as an image: {error}") from error


def size_of(path: Path, *, pictures: bool) -> tuple[int, int]:
    """Width and height of an output; errors as of :func:`shape_of`, and a ValueError for an array that has neither.

    Arrays that are pictures may have their channels last; those of classes have them first.
    """
    shape = shape_of(path)
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        return shape[0], shape[1]
    if len(shape) not in (2, 3):
        raise ValueError(f"{path} holds an array {shape}: expected height and width, and channels where there are some")
    last = pictures and len(shape) == 3 and shape[2] in (1, 3)
    height, width = shape[:2] if last else shape[-2:]
    return width, height


def is_grey(path: Path) -> bool:
    """Whether a picture has one channel; errors as of :func:`shape_of`."""
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        return header_of(path)[1] in _GREY
    shape = shape_of(path)
    return len(shape) == 2 or (len(shape) == 3 and 1 in (shape[0], shape[2]) and 3 not in (shape[0], shape[2]))


def storage_of(path: Path, *, pictures: bool) -> str:
    """Say how an output is stored: ``"array"``, ``"image"``, ``"lossy grey image"`` (of `pictures` only) and so on.

    Raises:
        OSError: If an image cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in ARRAY_SUFFIXES:
        return "array"
    grey = "grey " if pictures and is_grey(path) else ""
    return f"lossy {grey}image" if suffix in _LOSSY else f"{grey}image"


def picture_in(path: Path, rules: ReadingRules = USUAL) -> Tensor:
    """Read an output image, from whatever file, as float (3, H, W) in [0, 1]."""
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        return encode_image(read_image(path, rules=rules))
    values = read_array(path)
    array = values[..., None] if values.ndim == 2 else values
    if array.ndim == 3 and array.shape[2] not in (1, 3) and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if (
        array.ndim != 3
        or array.shape[2] not in (1, 3)
        or not (array.dtype == np.uint8 or np.issubdtype(array.dtype, np.floating))
    ):
        raise ValueError(
            f"{path} holds a {values.dtype} array {values.shape}: expected an image (H, W, 3), (H, W, 1) or (H, W), "
            "floats in [0, 1] or uint8"
        )
    scale = 255.0 if array.dtype == np.uint8 else 1.0
    image = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1), dtype=np.float32)) / scale
    finite = image[torch.isfinite(image)]  # what is not finite is left to the audit, which names and excludes it
    if len(finite) and not (finite.min() >= -_SLACK and finite.max() <= 1.0 + _SLACK):
        raise ValueError(
            f"{path} holds values from {range_of(finite)}: expected an image in [0, 1]. Bring [-1, 1] there by "
            "(x + 1) / 2, and 0 to 255 by x / 255; of numbers in other units, pass target_range=(low, high)."
        )
    return image.expand(3, -1, -1).contiguous()


def masks_in(path: Path, foreground: int | None = None, exif: Exif = "pair") -> Tensor:
    """Read masks of independent channels, (K, H, W), floats or integers as they are stored.

    Args:
        path: An array (K, H, W) or (H, W), or an image of one grey channel a page (a TIFF of several pages, usually).
        foreground: Value that becomes 1.
        exif: How an image is turned.

    Raises:
        OSError: If an image cannot be read.
        ValueError: If it holds something else; names the file.
    """
    array = read_array(path) if path.suffix.lower() in ARRAY_SUFFIXES else np.stack(load_pages(path, exif)[0])
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.dtype.kind not in "biuf" or array.shape[0] > 4 * array.shape[2]:
        raise ValueError(
            f"{path} holds a {array.dtype} array {array.shape}: expected masks (channels, H, W), the channels first"
        )
    # Half precision stays: what rounds to zero there need not be impossible.
    kept = np.int64 if array.dtype.kind != "f" else np.float16 if array.dtype == np.float16 else np.float32
    masks = torch.from_numpy(np.ascontiguousarray(array.astype(kept)))
    return masks if foreground is None else torch.where(masks == foreground, torch.ones_like(masks), masks)


def label_map_in(path: Path, foreground: int | None = None, exif: Exif = "pair") -> LabelArray:
    """Read a label map from an image or an integer array; the foreground is not replaced."""
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        return read_labels(path, foreground=foreground, exif=exif)
    labels = read_array(path)
    if labels.ndim == 3 and labels.shape[0] == 1:
        labels = labels[0]
    if labels.ndim != 2 or np.issubdtype(labels.dtype, np.floating):
        found = f"a {labels.dtype} array {labels.shape}"
        raise ValueError(f"{path} holds {found}, but the first output is a label map: store all of them alike")
    return labels.astype(np.int32)


def fit_to(values: Array, output: Tensor, path: Path, output_path: Path, kind: Kind) -> Array:
    """Bring an input or a target to the size of the output, if they can lie on one another."""
    (height, width), (output_height, output_width) = values.shape[:2], output.shape[-2:]
    if not same_aspect((height, width), (output_height, output_width)):
        raise ValueError(
            f"the output {output_path} is {output_width}x{output_height} pixels, but {path} is {width}x{height}: "
            "expected one aspect ratio, or pixels would be compared that do not belong together. Store inputs and "
            "targets as the model had them, cropped or squeezed."
        )
    return resize(values, (output_height, output_width), kind)


def range_of(values: Tensor) -> str:
    """Write the smallest and the largest finite value, for messages."""
    finite = values[torch.isfinite(values)]
    return f"{finite.min():.3g} to {finite.max():.3g}" if len(finite) else "NaN to NaN"
