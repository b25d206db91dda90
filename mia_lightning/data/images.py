"""Reads image files as 8-bit arrays, upright and with the requested number of channels."""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

UInt8Array = npt.NDArray[np.uint8]
ImageMode = Literal["RGB", "L"]


def open_image(path: Path) -> Image.Image:
    """Open and fully decode an image file.

    Raises:
        OSError: If the file is missing, no image, or truncated; names it.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise FileNotFoundError(f"no image file {path}: it was there when the folder was read; restore it") from None
    except UnidentifiedImageError as error:
        raise OSError(f"{path} is not an image that Pillow can read: replace or remove the file") from error
    # Broken PNG chunks surface as SyntaxError, other broken headers as ValueError.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"cannot read {path}: {error}. Replace or remove the file.") from error


def read_image(path: Path, mode: ImageMode = "RGB") -> UInt8Array:
    """Read a photograph or drawing.

    Grey becomes RGB by repetition and RGB becomes grey by its luma. Camera orientation (EXIF) is applied,
    transparency is laid over white, 16-bit values are divided by 257 (their full range maps to 0..255).

    Returns:
        Array (H, W, C), uint8, of three channels with mode ``"RGB"``, one with ``"L"``.

    Raises:
        OSError: If the file is missing, no image, or truncated.
        ValueError: If floating-point pixels lie outside [0, 1].
    """
    image = ImageOps.exif_transpose(open_image(path))
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_8_bit(np.asarray(image), path))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.array(image.convert(mode), dtype=np.uint8)
    return pixels.reshape(*pixels.shape[:2], -1)


def read_side_by_side(path: Path, modes: tuple[ImageMode, ImageMode] = ("RGB", "RGB")) -> tuple[UInt8Array, UInt8Array]:
    """Read pix2pix's AB file as A, the left half, and B, the right, (H, W, C) each, uint8, in the modes of A and B.

    Raises:
        OSError: As :func:`read_image`.
        ValueError: If the width is odd.
    """
    pixels = read_image(path)
    width = pixels.shape[1]
    if width % 2:
        raise ValueError(
            f"{path} is {width} pixels wide: expected an even width, as a side-by-side file holds two "
            "images of one size. If its images are not side by side, pass layout='folders'."
        )
    return _with_mode(pixels[:, : width // 2], modes[0]), _with_mode(pixels[:, width // 2 :], modes[1])


def _with_mode(pixels: UInt8Array, mode: ImageMode) -> UInt8Array:
    if mode == "RGB":
        return np.ascontiguousarray(pixels)
    return np.array(Image.fromarray(pixels).convert("L"), dtype=np.uint8)[..., None]


def _to_8_bit(values: npt.NDArray[np.generic], path: Path) -> UInt8Array:
    """Scale 16-bit integers, or floats in [0, 1], to 0..255."""
    floats = values.astype(np.float64)
    low, high = float(floats.min()), float(floats.max())
    top = 1.0 if np.issubdtype(values.dtype, np.floating) else 65535.0
    if not (low >= 0.0 and high <= top):  # written so that NaN is refused too
        raise ValueError(
            f"{path} holds {values.dtype} values from {low:g} to {high:g}: expected 0 to {top:g}. "
            "Convert it to 8 or 16 bit first."
        )
    return np.asarray(np.rint(floats * (255.0 / top)), dtype=np.uint8)
