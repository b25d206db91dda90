"""How outputs are stored: arrays, and what alone can tell two sets of files apart."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

ARRAY_SUFFIXES = frozenset({".npy", ".npz"})
"""Suffixes (lower case) of outputs that are stored as NumPy arrays."""

_LOSSY = (".jpeg", ".jpg", ".webp")
_GREY = ("1", "L", "LA", "I", "I;16", "F")


def read_array(path: Path) -> npt.NDArray[Any]:
    """Read a ``.npy`` file, or a ``.npz`` file with one array; nothing is unpickled.

    Raises:
        ValueError: If it cannot be read, or holds several arrays.
    """
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            held = {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (EOFError, OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: encrypted, or packed otherwise than NumPy does
        raise ValueError(f"{path} cannot be read as an array of plain numbers: {error}") from error
    if len(held) != 1:
        raise ValueError(f"{path} holds {len(held)} arrays ({', '.join(held)}): expected one, the model's output")
    return np.asarray(next(iter(held.values())))


def shape_of(path: Path) -> tuple[int, ...]:
    """Tell the size of an output; of images and ``.npy`` files only the headers are read.

    Raises:
        OSError: If an image cannot be read.
        ValueError: If an array cannot.
    """
    suffix = path.suffix.lower()
    if suffix not in ARRAY_SUFFIXES:
        return header_of(path)[0]
    if suffix == ".npz":
        return read_array(path).shape
    try:
        return tuple(np.load(path, mmap_mode="r", allow_pickle=False).shape)
    except (EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an array of plain numbers: {error}") from error


def header_of(path: Path) -> tuple[tuple[int, int], str]:
    """Read width and height, and the colour mode as Pillow names it, from an image's header.

    Raises:
        OSError: If the file is no image.
    """
    try:
        with Image.open(path) as image:
            return image.size, image.mode
    except (OSError, ValueError) as error:
        raise OSError(f"{path} cannot be read as an image: {error}") from error


def size_of(path: Path, *, pictures: bool) -> tuple[int, int]:
    """Width and height of an output, by what :func:`shape_of` reads.

    Args:
        path: The file.
        pictures: Whether arrays are pictures, which may have their channels last; those of classes have them first.

    Raises:
        OSError: If an image cannot be read.
        ValueError: If an array cannot, or has no height and width.
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
    """Whether a picture has one channel.

    Raises:
        OSError: If an image cannot be read.
        ValueError: If an array cannot.
    """
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        return header_of(path)[1] in _GREY
    shape = shape_of(path)
    return len(shape) == 2 or (len(shape) == 3 and 1 in (shape[0], shape[2]) and 3 not in (shape[0], shape[2]))


def storage_of(path: Path, *, pictures: bool) -> str:
    """Say how an output is stored: ``"array"``, ``"image"``, ``"lossy grey image"`` and so on.

    Args:
        path: The file.
        pictures: Whether it is a picture, so that grey or colour matters; a label map is neither.

    Raises:
        OSError: If an image cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in ARRAY_SUFFIXES:
        return "array"
    grey = "grey " if pictures and is_grey(path) else ""
    return f"lossy {grey}image" if suffix in _LOSSY else f"{grey}image"
