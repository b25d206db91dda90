"""How files are stored: what alone can tell two sets of outputs apart."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

ARRAY_SUFFIXES = frozenset({".npy", ".npz"})
"""Suffixes (lower case) of outputs that are stored as NumPy arrays."""

_LOSSY = (".jpeg", ".jpg", ".webp")
_GREY = ("1", "L", "LA", "I", "I;16", "F")


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
    grey = "grey " if pictures and header_of(path)[1] in _GREY else ""
    return f"lossy {grey}image" if suffix in _LOSSY else f"{grey}image"
